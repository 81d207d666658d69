"""What the training loop costs beside a bare PyTorch loop, on a model so small that nothing else counts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn

from mmssl.train.fit import fit, setup_fabric

STEPS = 3_000


class Tiny(nn.Module):
    """A method of one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(16, 16)

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        return {"loss": self.encoder(batch).square().mean()}

    def after_step(self, progress: float, skipped: Tensor) -> None:
        pass

    def export(self) -> nn.Module:
        return self.encoder


def measure() -> list[dict[str, Any]]:
    """One row; logging happens on the last step only."""
    x = torch.randn(8, 16)
    best = {"bare": 1e9, "fit": 1e9}
    for _ in range(3):
        best["bare"] = min(best["bare"], _bare(x))
        best["fit"] = min(best["fit"], _fit(x))
    bare, ours = 1e3 * best["bare"] / STEPS, 1e3 * best["fit"] / STEPS
    return [
        {
            "what": f"one step of a 16 × 16 linear layer, fused AdamW, mean over {STEPS:,} steps",
            "peer": "bare PyTorch loop",
            "peer_ms": bare,
            "mmssl_ms": ours,
            "ratio": bare / ours,
            "overhead_ms": ours - bare,
        }
    ]


def _bare(x: Tensor) -> float:
    method = Tiny()
    optimizer = torch.optim.AdamW(method.parameters(), fused=True)
    start = time.perf_counter()
    for _ in range(STEPS):
        optimizer.zero_grad()
        method(x)["loss"].backward()
        optimizer.step()
    return time.perf_counter() - start


def _fit(x: Tensor) -> float:
    method = Tiny()
    optimizer = torch.optim.AdamW(method.parameters(), fused=True)
    fabric = setup_fabric(device="cpu")

    def batches(first: int) -> Iterator[Tensor]:
        return repeat(x)

    start = time.perf_counter()
    for _ in fit(method, batches, optimizer=optimizer, steps=STEPS, fabric=fabric, log_every=STEPS):
        pass
    return time.perf_counter() - start
