"""What all augmentations of series have in common: what goes in, what comes out, and what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mmssl.timeseries.encoder import present


class Step:
    """An augmentation of a batch of series; every series draws its own random numbers, on the device of the batch.

    Called with floats ``(B, T, C)``, it returns float32 of the same shape and leaves its input alone.
    `torch.manual_seed` repeats it. What is drawn is one tensor, and what is done with it gives the same on every
    device. Missing values (NaN) are never made up and never used; padding at either end stays where it is. Subclasses
    are frozen dataclasses that define `draw` and `apply`.
    """

    def __call__(self, x: Tensor) -> Tensor:
        check_series(x)
        with exact(x):
            return self.run(x.float())

    def run(self, x: Tensor) -> Tensor:
        """The augmentation of float32, without gradients and autocast."""
        return self.apply(x, self.draw(x))

    def draw(self, x: Tensor) -> Tensor:
        """All that is random about the augmentation of ``x``."""
        raise NotImplementedError

    def apply(self, x: Tensor, drawn: Tensor) -> Tensor:
        """The augmentation with what `draw` gave; not in place."""
        raise NotImplementedError


@dataclass(frozen=True)
class Pipeline(Step):
    """Several steps, one after the other.

    Args:
        steps: in the order in which they are applied.
    """

    steps: tuple[Step, ...]

    def run(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step.run(x)
        return x


@contextmanager
def exact(x: Tensor) -> Iterator[None]:
    """Without gradients, and without autocast: bf16 has too few digits for positions in time."""
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        yield


def check_series(x: Tensor) -> None:
    """Raise a ValueError unless ``x`` is a batch of series as `Step` takes them."""
    if x.ndim != 3 or 0 in x.shape:
        raise ValueError(f"expected a batch of series (B, T, C) with at least one value, got {tuple(x.shape)}")
    if not x.is_floating_point():
        raise ValueError(f"series must be floats, with NaN for what is missing, got {x.dtype}")


def check_strength(name: str, value: float, high: float = float("inf")) -> None:
    """Raise a ValueError unless ``value`` lies in [0, ``high``]."""
    if not 0 <= value <= high:
        limits = "be at least 0" if high == float("inf") else f"lie in [0, {high:g}]"
        raise ValueError(f"{name} must {limits}, got {value}")


def anything_missing(x: Tensor) -> bool:
    """Is there a NaN? On a GPU always True: to find out would mean to wait for it. In `torch.compile`, too."""
    return x.device.type != "cpu" or torch.compiler.is_compiling() or bool(x.sum().isnan())


def extent(x: Tensor) -> tuple[Tensor, Tensor]:
    """Where each series ``(B, T, C)`` begins and how many timestamps it has without padding: int64 ``(B, 1)`` each."""
    valid = present(x) if anything_missing(x) else None
    if valid is None:
        start = torch.zeros(len(x), 1, dtype=torch.int64, device=x.device)
        return start, torch.full_like(start, x.shape[1])
    return valid.to(torch.uint8).argmax(dim=1, keepdim=True), valid.sum(dim=1, keepdim=True)


def inside(start: Tensor, length: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Timestamps ``(T,)`` int64, and which of them are no padding, ``(B, T)`` bool; arguments as from `extent`."""
    t = torch.arange(steps, device=start.device)
    return t, (t >= start) & (t < start + length)


def take(x: Tensor, index: Tensor) -> Tensor:
    """Other timestamps of the same series: ``(B, T, C)`` at ``(B, T')`` int64 to ``(B, T', C)``."""
    return x.reshape(-1, x.shape[2]).index_select(0, flat(index, x).view(-1)).view(*index.shape, -1)


def flat(index: Tensor, x: Tensor) -> Tensor:
    """``(B, …)`` timestamps of ``(B, T, C)`` as rows of ``(B · T, C)``."""
    first = x.shape[1] * torch.arange(len(x), device=x.device)
    return index + first.view(-1, *[1] * (index.ndim - 1))


def resample(x: Tensor, position: Tensor) -> Tensor:
    """Series between their timestamps, by linear interpolation: ``(B, T, C)`` at ``(B, T')`` float to ``(B, T', C)``.

    A value is missing where the nearest one is. If only the further of both neighbours is missing, the nearest stands
    alone: gaps neither grow nor shrink.

    Args:
        x: series.
        position: in timestamps, from 0 to T - 1.
    """
    nearest = position.round()
    away = position - nearest  # from -1/2 to 1/2
    both = torch.stack([nearest, (nearest + away.sign()).clamp_(0, x.shape[1] - 1)], dim=-1).long()  # (B, T', 2)
    away = away.abs_()
    out = F.embedding_bag(  # gathers and adds up in one go
        flat(both, x).view(-1, 2),
        x.reshape(-1, x.shape[2]),
        mode="sum",
        per_sample_weights=torch.stack([1 - away, away], dim=-1).view(-1, 2),
    ).view(*position.shape, -1)
    if anything_missing(x):
        out = torch.where(out.isnan(), take(x, both[..., 0]), out)
    return out
