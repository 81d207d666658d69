"""A method of a few dozen weights with everything that a loop can get wrong: noise, batch norm, an averaged model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from mmssl.core.ema import AveragedModel


class Small(nn.Module):
    """Regresses a fixed function of `(B, 3)`; ``noise`` draws from the global generator in every forward pass."""

    def __init__(self, *, norm: bool = True, noise: float = 0.1, seed: int = 0, conv: bool = False) -> None:
        super().__init__()
        torch.manual_seed(seed)
        layers: list[nn.Module] = [nn.Linear(3, 8)]
        if norm:
            layers.append(nn.BatchNorm1d(8))
        if conv:
            conv2d = nn.Conv2d(8, 8, (1, 3), padding=(0, 1))
            layers += [nn.Unflatten(1, (8, 1, 1)), conv2d.to(memory_format=torch.channels_last), nn.Flatten()]
        self.encoder = nn.Sequential(*layers, nn.Tanh(), nn.Linear(8, 2))
        self.averaged = AveragedModel(self.encoder)
        self.noise = noise

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        x = batch + self.noise * torch.randn_like(batch) if self.noise else batch
        loss = (self.encoder(x) - torch.stack([batch.sum(1), batch.prod(1)], dim=1)).square().mean()
        return {"loss": loss, "largest": batch.abs().amax()}

    def after_step(self, progress: float, skipped: Tensor) -> None:
        self.averaged.update(self.encoder, skipped)

    def export(self) -> nn.Module:
        return self.averaged.module


def numbered(size: int = 8, *, broken: tuple[int, ...] = ()) -> Callable[[int], Iterator[Tensor]]:
    """Batches `(size, 3)` that are a function of their number, counted from 0; ``broken`` ones hold a NaN."""

    def batches(first: int = 0) -> Iterator[Tensor]:
        number = first
        while True:
            x = torch.randn(size, 3, generator=torch.Generator().manual_seed(number))
            if number in broken:
                x[1, 1] = float("nan")
            yield x
            number += 1

    return batches


def adamw(method: nn.Module, *, fused: bool = True, lr: float = 0.01) -> torch.optim.AdamW:
    return torch.optim.AdamW(method.encoder.parameters(), lr=lr, weight_decay=0.1, fused=fused)  # type: ignore[union-attr]


def everything(method: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Copies of all that a step can change."""
    state = {f"method.{name}": value.clone() for name, value in method.state_dict().items()}
    for i, entries in optimizer.state_dict()["state"].items():
        state |= {f"optimizer.{i}.{name}": torch.as_tensor(value).clone() for name, value in entries.items()}
    return state


def same(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Names of what is not equal bit for bit."""
    assert a.keys() == b.keys()
    return [name for name in a if not torch.equal(a[name], b[name])]
