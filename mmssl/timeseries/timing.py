"""Augmentations that move values in time, all channels together; padding stays padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmssl.timeseries.magnitude import check_knots
from mmssl.timeseries.spline import smooth_curves
from mmssl.timeseries.steps import Step, check_strength, extent, inside, resample, take

SLOWEST = 0.1  # of the usual speed: time never stands still or runs backwards


@dataclass(frozen=True)
class TimeWarp(Step):
    """Time runs at a smoothly varying speed; both ends stay in place (Um et al., ICMI 2017, arXiv 1706.00527).

    Destroys periodicity and durations: a constant speed of rotation, the length of a heartbeat.

    Args:
        sigma: standard deviation of the speed at the knots of its curve; the mean is 1.
        knots: between both ends of the curve, 2 at least.
    """

    sigma: float = 0.2
    knots: int = 4

    def __post_init__(self) -> None:
        check_strength("sigma", self.sigma)
        check_knots(self.knots)

    def draw(self, x: Tensor) -> Tensor:
        """``(B, T)``, where each timestamp comes from."""
        steps = x.shape[1]
        start, length = extent(x)
        speed = smooth_curves((len(x),), steps, self.knots, x.device).mul_(self.sigma).add_(1).clamp_(min=SLOWEST)
        clock = speed.cumsum(dim=1)  # (B, T)
        last = (start + length - 1).clamp(0, steps - 1)
        run = clock.sub_(clock.gather(1, start))
        total = run.gather(1, last).clamp(min=SLOWEST)  # a series of one timestamp has no time to run
        position = run.mul_((last - start) / total).add_(start).minimum(last)
        return unmoved(position, inside(x, start, length))

    def apply(self, x: Tensor, drawn: Tensor) -> Tensor:
        return resample(x, drawn)


@dataclass(frozen=True)
class CropResize(Step):
    """A random stretch of each series, resampled to the series' length ("window slicing").

    Le Guennec et al., AALTD 2016. Destroys frequencies and durations, by the factor of the stretching, and whatever
    lies outside of the stretch: the start-up of a machine, for example.

    Args:
        scale: smallest and largest share of a series that is kept.
    """

    scale: Sequence[float] = (0.5, 1.0)

    def __post_init__(self) -> None:
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale must be (smallest, largest) share, above 0 and up to 1, got {tuple(self.scale)}")

    def draw(self, x: Tensor) -> Tensor:
        """``(B, T)``, where each timestamp comes from."""
        start, length = extent(x)
        low, high = self.scale
        share, place = torch.rand(2, len(x), 1, device=x.device)
        share = low + share * (high - low)
        spare = (length - 1).clamp(min=0) * (1 - share)  # what is cut off on both sides, in timestamps
        t = torch.arange(x.shape[1], device=x.device, dtype=share.dtype)
        position = torch.addcmul(start * (1 - share) + place * spare, t, share)
        return unmoved(position, inside(x, start, length))

    def apply(self, x: Tensor, drawn: Tensor) -> Tensor:
        return resample(x, drawn)


@dataclass(frozen=True)
class Permutation(Step):
    """Each series cut at random places into at most so many segments, put together in a random order.

    Um et al., ICMI 2017, arXiv 1706.00527; the strong view of TS-TCC. The number of segments is drawn for each series,
    evenly from 1 on. Destroys order and everything that is longer than a segment: trends, cause and effect, the course
    of a gesture; and it puts jumps where there were none.

    Args:
        max_segments: 1 for none of it.
    """

    max_segments: int = 5

    def __post_init__(self) -> None:
        if self.max_segments < 1:
            raise ValueError(f"max_segments must be at least 1, got {self.max_segments}")

    def draw(self, x: Tensor) -> Tensor:
        """``(B, T)`` int64, where each timestamp comes from."""
        batch, steps, _ = x.shape
        start, length = extent(x)
        most = self.max_segments
        u = torch.rand(batch, most, device=x.device)
        cuts = (1 + u[:, 1:] * (length - 1).clamp(min=0)).floor().long().minimum(length)
        unused = torch.arange(1, most, device=x.device) > (u[:, :1] * most).floor()
        cuts = torch.where(unused, length, cuts).sort(dim=1).values
        edges = start + torch.cat([torch.zeros_like(start), cuts, length], dim=1)  # (B, most + 1)
        return rearranged(edges, torch.rand(batch, most, device=x.device).argsort(dim=1), steps)

    def apply(self, x: Tensor, drawn: Tensor) -> Tensor:
        return take(x, drawn)


def unmoved(position: Tensor, real: Tensor | None) -> Tensor:
    """``(B, T)`` with every timestamp of the padding at its own place; ``real`` as from `inside`."""
    if real is None:
        return position
    return torch.where(real, position, torch.arange(position.shape[1], device=position.device))


def rearranged(edges: Tensor, order: Tensor, steps: int) -> Tensor:
    """Where each timestamp comes from when segments change places: ``(B, steps)`` int64.

    Args:
        edges: ``(B, S + 1)`` int64, where S segments begin, and where the last one ends; they may be empty.
        order: ``(B, S)``, the segments in their new order.
        steps: T; timestamps outside of all segments stay.
    """
    old = edges[:, :-1].gather(1, order)
    length = edges.diff(dim=1).gather(1, order)
    new = edges[:, :1] + length.cumsum(dim=1) - length
    jump = (old - new).diff(dim=1, prepend=torch.zeros_like(edges[:, :1]))  # of the source against the timestamp
    back = -(old - new)[:, -1:]
    where = torch.cat([new, edges[:, -1:]], dim=1)
    jumps = torch.zeros(len(edges), steps + 1, dtype=torch.int64, device=edges.device)
    jumps.scatter_add_(1, where, torch.cat([jump, back], dim=1))
    return torch.arange(steps, device=edges.device) + jumps[:, :steps].cumsum(dim=1)
