"""Projectors and predictors: what stands between the encoder and the objective, and is thrown away afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def mlp(
    widths: Sequence[int],
    *,
    norm: bool = True,
    activation: type[nn.Module] = nn.ReLU,
    last_norm: bool = False,
    last_bias: bool = True,
) -> nn.Sequential:
    """Linear layers with an activation between them: ``(B, widths[0])`` to ``(B, widths[-1])``.

    Args:
        widths: of the input, the hidden layers and the output.
        norm: batch normalisation after every hidden layer, which then has no bias.
        activation: between the layers.
        last_norm: batch normalisation, without an affine part, after the last layer (SimSiam).
        last_bias: of the last layer.
    """
    if len(widths) < 2 or min(widths) < 1:
        raise ValueError(f"widths must be at least an input and an output, all positive, got {list(widths)}")
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths[:-1]):
        layers.append(nn.Linear(width_in, width_out, bias=not norm))
        if norm:
            layers.append(nn.BatchNorm1d(width_out))
        layers.append(activation())
    layers.append(nn.Linear(widths[-2], widths[-1], bias=last_bias and not last_norm))
    if last_norm:
        layers.append(nn.BatchNorm1d(widths[-1], affine=False))
    return nn.Sequential(*layers)


class PrototypeHead(nn.Module):
    """DINO's head: an MLP to a bottleneck, and the cosines of that with K prototypes: ``(B, D)`` to ``(B, K)``.

    The last layer is weight-normed with all lengths fixed at 1 (Caron et al., ICCV 2021, ``norm_last_layer``), which is
    why a plain matrix of directions is all it has.

    Args:
        dim: D.
        prototypes: K, 65,536 in the paper.
        hidden: width of the two hidden layers.
        bottleneck: size of the normalised vector.
        norm: batch normalisation in the MLP; the paper has none with vision transformers.
    """

    def __init__(
        self, dim: int, prototypes: int, *, hidden: int = 2048, bottleneck: int = 256, norm: bool = False
    ) -> None:
        super().__init__()
        self.mlp = mlp([dim, hidden, hidden, bottleneck], norm=norm, activation=nn.GELU)
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        self.prototypes = nn.Parameter(torch.empty(prototypes, bottleneck))
        nn.init.kaiming_uniform_(self.prototypes, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.normalize(self.mlp(x), dim=-1), F.normalize(self.prototypes, dim=-1))
