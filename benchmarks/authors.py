"""The authors' TS2Vec, from a checkout of their repository that the user names; nothing of it is copied here."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmssl.timeseries.encoder import DilatedConvEncoder
from mmssl.timeseries.ts2vec import Crops

REPOSITORY = "https://github.com/zhihanyue/ts2vec"


class Authors:
    """Their encoder and loss.

    Args:
        path: checkout of `REPOSITORY`.

    Raises:
        FileNotFoundError: it is not there.
    """

    def __init__(self, path: Path) -> None:
        if not (path / "ts2vec.py").exists():
            raise FileNotFoundError(f"{path} is no checkout of {REPOSITORY}")
        sys.path.insert(0, str(path))
        from models import TSEncoder  # type: ignore[import-not-found]
        from models.losses import hierarchical_contrastive_loss  # type: ignore[import-not-found]
        from utils import take_per_row  # type: ignore[import-not-found]

        self.build: Callable[..., Any] = TSEncoder
        self.loss: Callable[..., Tensor] = hierarchical_contrastive_loss
        self.take: Callable[..., Tensor] = take_per_row

    def shared(self, net: Any, x: Tensor, crops: Crops, mask: str | None = None) -> tuple[Tensor, Tensor]:
        """Representations of the shared timestamps in both segments, as in their ``fit``."""
        offset = crops.offset.numpy()
        first = net(self.take(x, offset + crops.first, crops.right - crops.first), mask)[:, -crops.length :]
        second = net(self.take(x, offset + crops.left, crops.last - crops.left), mask)[:, : crops.length]
        return first, second


def copy_weights(net: Any, encoder: DilatedConvEncoder) -> None:
    """Their weights into our encoder."""
    ours = dict(encoder.named_parameters())
    for name, value in net.named_parameters():
        name = name.replace("input_fc", "input").replace("feature_extractor.net", "blocks").replace(".conv.", ".")
        target = ours.pop(name)
        with torch.no_grad():
            target.copy_(value.reshape(target.shape))
    if ours:
        raise AssertionError(f"not copied: {sorted(ours)}")


def crops(lengths: int, batch: int, count: int, seed: int) -> list[Crops]:
    """What TS2Vec draws, the same for both sides."""
    from mmssl.timeseries.ts2vec import TS2Vec

    method = TS2Vec(DilatedConvEncoder(1, dim=4, hidden=4, depth=1), seed=seed)
    return [method.draw_crops(batch, lengths) for _ in range(count)]


def paired(functions: dict[str, Callable[[], object]], *, repeats: int) -> dict[str, float]:
    """Fastest of ``repeats`` runs of each, in seconds, taking turns so that both meet the same machine."""
    import time

    best = dict.fromkeys(functions, np.inf)
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            best[name] = min(best[name], time.perf_counter() - start)
    return best
