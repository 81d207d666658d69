"""What all augmentations of series have in common: what goes in, what comes out, and what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from mmssl.timeseries.encoder import present

PIECE = 2**17  # values that a core works on at a time: half a MiB, so that one step after the other stays in its cache


class Step:
    """An augmentation of a batch of series; every series draws its own random numbers, on the device of the batch.

    Called with floats ``(B, T, C)``, it returns float32 of the same shape and leaves its input alone.
    `torch.manual_seed` repeats it. What is drawn is one tensor, and what is done with it gives the same on every
    device. Missing values (NaN) are never made up and never used; padding at either end stays where it is. Subclasses
    are frozen dataclasses that define `draw` and `apply`.
    """

    mixes: ClassVar[bool] = False  # what becomes of a series depends on the others of the batch

    def __call__(self, x: Tensor) -> Tensor:
        check_series(x)
        with exact(x):
            return self.run(x.float())

    def run(self, x: Tensor) -> Tensor:
        """The augmentation of float32, without gradients and autocast."""
        return self.of(x) if self.mixes else in_pieces(x, self.of)

    def of(self, x: Tensor) -> Tensor:
        """The augmentation of all of ``x`` at once."""
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
        for mixing, steps in groupby(self.flat, key=lambda step: step.mixes):
            for step in [_InTurn(tuple(steps))] if not mixing else steps:
                x = step.run(x)
        return x

    @property
    def flat(self) -> Iterator[Step]:
        """The steps, and those of pipelines among them."""
        for step in self.steps:
            yield from step.flat if isinstance(step, Pipeline) else (step,)


@dataclass(frozen=True)
class _InTurn(Step):
    """Steps of which each piece of the batch takes all before the next one does."""

    steps: tuple[Step, ...]

    def of(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step.run(x)
        return x


def in_pieces(x: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """``change`` of so many series at a time as stay in the cache."""
    parts = pieces(x)
    if len(parts) == 1:
        return change(x)
    out = torch.empty(x.shape)
    for part in parts:
        out[part] = change(x[part])
    return out


def at_once(x: Tensor) -> bool:
    """Can a value be looked at without waiting for it? Not on a GPU, nor in `torch.compile`."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def pieces(x: Tensor) -> list[slice]:
    """So many series at a time as stay in the cache; on a GPU all at once, in `torch.compile`, too."""
    rows = max(1, torch.get_num_threads() * PIECE // x[0].numel()) if at_once(x) else len(x)
    return [slice(start, start + rows) for start in range(0, len(x), rows)]


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
    """Is there a NaN? Always True where that cannot be told at once."""
    return not at_once(x) or bool(x.sum().isnan())


def extent(x: Tensor) -> tuple[Tensor, Tensor]:
    """Where each series ``(B, T, C)`` begins and how many timestamps it has without padding: int64 ``(B, 1)`` each."""
    valid = present(x) if anything_missing(x) else None
    if valid is None:
        start = torch.zeros(len(x), 1, dtype=torch.int64, device=x.device)
        return start, torch.full_like(start, x.shape[1])
    return valid.to(torch.uint8).argmax(dim=1, keepdim=True), valid.sum(dim=1, keepdim=True)


def inside(x: Tensor, start: Tensor, length: Tensor) -> Tensor | None:
    """Which timestamps are no padding, ``(B, T)`` bool; None: all of them. Further arguments as from `extent`."""
    if at_once(x) and bool((length == x.shape[1]).all()):
        return None
    t = torch.arange(x.shape[1], device=x.device)
    return (t >= start) & (t < start + length)


def take(x: Tensor, index: Tensor) -> Tensor:
    """Other timestamps of the same series: ``(B, T, C)`` at ``(B, T')`` int64 to ``(B, T', C)``."""
    return x.reshape(-1, x.shape[2]).index_select(0, flat(index, x).view(-1)).view(*index.shape, -1)


def flat(index: Tensor, x: Tensor) -> Tensor:
    """``(B, …)`` timestamps of ``(B, T, C)`` as rows of ``(B · T, C)``."""
    first = x.shape[1] * torch.arange(len(x), device=x.device, dtype=index.dtype)
    return index + first.view(-1, *[1] * (index.ndim - 1))


def resample(x: Tensor, position: Tensor) -> Tensor:
    """Series between their timestamps, by linear interpolation: ``(B, T, C)`` at ``(B, T')`` float to ``(B, T', C)``.

    A value is missing where the nearest one is. If only the further of both neighbours is missing, the nearest stands
    alone: gaps neither grow nor shrink.

    Args:
        x: series.
        position: in timestamps, from 0 to T - 1.
    """
    if not anything_missing(x):
        return between(x, position)
    nearest = position.round()
    away = position - nearest  # from -1/2 to 1/2
    both = torch.stack([nearest, (nearest + away.sign()).clamp_(0, x.shape[1] - 1)], dim=-1).long()  # (B, T', 2)
    away = away.abs_()
    out = weighted(x, flat(both, x), torch.stack([1 - away, away], dim=-1))
    return torch.where(out.isnan(), take(x, both[..., 0]), out)


def between(x: Tensor, position: Tensor) -> Tensor:
    """The same as `resample` where nothing is missing."""
    last = x.shape[1] - 1
    position = position.clamp(0, last)
    left = position.floor().clamp_(max=max(last - 1, 0))
    share = position.sub_(left)
    first = flat(left.int() if x.numel() < 2**31 else left.long(), x)  # half the memory, half the time
    rows, weights = first.new_empty(*first.shape, 2), share.new_empty(*share.shape, 2)
    rows[..., 0], weights[..., 1] = first, share  # three times as fast as torch.stack
    torch.add(first, min(last, 1), out=rows[..., 1])
    torch.sub(1, share, out=weights[..., 0])
    return weighted(x, rows, weights)


def weighted(x: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Sums of two rows of ``(B · T, C)`` each, gathered and added up in one go: ``(B, T', 2)`` to ``(B, T', C)``."""
    out = F.embedding_bag(
        rows.view(-1, 2), x.reshape(-1, x.shape[2]), mode="sum", per_sample_weights=weights.view(-1, 2)
    )
    return out.view(*rows.shape[:2], -1)
