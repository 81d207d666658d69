"""A small preset of every method, for the tests that hold for all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mmssl.core.methods.barlow_twins import barlow_twins
from mmssl.core.methods.byol import byol
from mmssl.core.methods.dino import dino
from mmssl.core.methods.joint_embedding import JointEmbedding
from mmssl.core.methods.moco import moco, moco_v3
from mmssl.core.methods.simclr import simclr
from mmssl.core.methods.simsiam import simsiam
from mmssl.core.methods.swav import swav
from mmssl.core.methods.vicreg import vicreg

Build = Callable[[Any, Callable[[Any], list[Any]]], JointEmbedding]

JOINT_EMBEDDINGS: dict[str, Build] = {
    "simclr": lambda encoder, views: simclr(encoder, views, out=8),
    "moco": lambda encoder, views: moco(encoder, views, out=8, queue=16, momentum=0.9),
    "moco_v3": lambda encoder, views: moco_v3(encoder, views, hidden=12, out=8),
    "byol": lambda encoder, views: byol(encoder, views, hidden=12, out=8, momentum=0.9),
    "simsiam": lambda encoder, views: simsiam(encoder, views, hidden=12, out=8, bottleneck=4),
    "barlow_twins": lambda encoder, views: barlow_twins(encoder, views, width=12),
    "vicreg": lambda encoder, views: vicreg(encoder, views, width=12),
    "swav": lambda encoder, views: swav(
        encoder, views, hidden=12, out=8, prototypes=10, queue=16, queue_from=0.5, freeze=0.3
    ),
    "dino": lambda encoder, views: dino(
        encoder, views, hidden=12, bottleneck=6, prototypes=10, momentum=0.9, freeze=0.3
    ),
}


class Dense(nn.Module):
    """An encoder ``(B, C)`` to ``(B, dim)`` with batch normalisation, the part that a loop can get wrong."""

    def __init__(self, channels: int = 6, dim: int = 7) -> None:
        super().__init__()
        self.dim = dim
        self.layers = nn.Sequential(nn.Linear(channels, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def noisy_pair(x: Tensor) -> list[Tensor]:
    """Two views of any batch: with noise."""
    return [x + 0.1 * torch.randn_like(x) for _ in range(2)]
