"""Augmentations that change values and leave time alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmssl.timeseries.spline import smooth_curves
from mmssl.timeseries.steps import Step, anything_missing, check_strength, extent


@dataclass(frozen=True)
class Jitter(Step):
    """Independent normal noise on every value (Um et al., ICMI 2017, arXiv 1706.00527).

    Destroys what is smaller than the noise: steps of a quantised sensor, small ripples, exact repetition.

    Args:
        sigma: standard deviation of the noise, in units of the series (standard deviations, if standardised).
    """

    sigma: float = 0.05

    def __post_init__(self) -> None:
        check_strength("sigma", self.sigma)

    def draw(self, x: Tensor) -> Tensor:
        """``(B, T, C)``, what is added."""
        return torch.empty(x.shape, device=x.device).normal_(std=self.sigma)

    def apply(self, x: Tensor, drawn: Tensor) -> Tensor:
        return x + drawn


@dataclass(frozen=True)
class Scaling(Step):
    """Every channel of a series times a number of its own (Um et al., ICMI 2017, arXiv 1706.00527).

    Destroys thresholds, absolute levels and the ratio of channels: a pressure limit, or more current on one phase.

    Args:
        sigma: standard deviation of the factor, whose mean is 1.
    """

    sigma: float = 0.1

    def __post_init__(self) -> None:
        check_strength("sigma", self.sigma)

    def draw(self, x: Tensor) -> Tensor:
        """``(B, 1, C)``, the factors."""
        return torch.randn(len(x), 1, x.shape[2], device=x.device).mul_(self.sigma).add_(1)

    def apply(self, x: Tensor, drawn: Tensor) -> Tensor:
        return x * drawn


@dataclass(frozen=True)
class MagnitudeWarp(Step):
    """Every channel of a series times a smooth curve around 1 (Um et al., ICMI 2017, arXiv 1706.00527).

    Destroys trends, drift, and the comparison of an early with a late amplitude, such as a decay.

    Args:
        sigma: standard deviation of the curve at its knots.
        knots: between both ends of the curve, 2 at least; more make it rougher.
    """

    sigma: float = 0.2
    knots: int = 4

    def __post_init__(self) -> None:
        check_strength("sigma", self.sigma)
        check_knots(self.knots)

    def draw(self, x: Tensor) -> Tensor:
        """``(B, T, C)``, the curves."""
        curve = smooth_curves((len(x), x.shape[2]), x.shape[1], self.knots, x.device)
        return curve.mul_(self.sigma).add_(1).transpose(1, 2)

    def apply(self, x: Tensor, drawn: Tensor) -> Tensor:
        return x * drawn


@dataclass(frozen=True)
class TimeMask(Step):
    """Stretches of time set to 0, the mean of a standardised channel, in all channels together.

    Destroys short events: a spike or a single beat can be gone altogether.

    Args:
        share: of each series that is hidden, at most; stretches may overlap.
        stretches: number of them.
    """

    share: float = 0.2
    stretches: int = 1

    def __post_init__(self) -> None:
        check_strength("share", self.share, 1)
        if self.stretches < 1:
            raise ValueError(f"stretches must be at least 1, got {self.stretches}")

    def draw(self, x: Tensor) -> Tensor:
        """``(B, T, 1)``, 0 where a timestamp is hidden, else 1."""
        start, length = extent(x)
        t = torch.arange(x.shape[1], device=x.device, dtype=x.dtype)
        width = (length * (self.share / self.stretches)).round()  # (B, 1)
        u = torch.rand(len(x), self.stretches, device=x.device)
        first = (start + u * (length - width + 1)).floor()[..., None]  # (B, stretches, 1)
        hidden = ((t >= first) & (t < first + width[..., None])).any(dim=1)
        return 1 - hidden.to(x.dtype)[..., None]

    def apply(self, x: Tensor, drawn: Tensor) -> Tensor:
        return x * drawn


@dataclass(frozen=True)
class ChannelDropout(Step):
    """Whole channels of a series set to 0, the mean of a standardised channel; one at least stays.

    Destroys what a single channel alone shows.

    Args:
        p: probability that a channel is set to 0.
    """

    p: float = 0.2

    def __post_init__(self) -> None:
        check_strength("p", self.p, 1)

    def draw(self, x: Tensor) -> Tensor:
        """``(B, 1, C)``, 0 where a channel is hidden, else 1."""
        u = torch.rand(len(x), 1, x.shape[2], device=x.device)
        return ((u >= self.p) | (u == u.amax(dim=2, keepdim=True))).to(x.dtype)

    def apply(self, x: Tensor, drawn: Tensor) -> Tensor:
        return x * drawn


@dataclass(frozen=True)
class Rotation(Step):
    """Three-axis sensors turned by a random angle about a random axis, the same for all sensors of a series.

    A turned axis is missing where it depends on a missing one. Destroys the direction of gravity, left and right, and
    every axis that means something, such as the one along a shaft. Standardise the three axes alike beforehand, or the
    turned ones are no accelerations any more.

    Args:
        angle: largest angle in degrees, at most 180.
        sensors: the three channels of each sensor; None: channels 0–2, 3–5, … up to the last.
    """

    angle: float = 180.0
    sensors: Sequence[tuple[int, int, int]] | None = None

    def __post_init__(self) -> None:
        check_strength("angle", self.angle, 180)
        channels = [channel for sensor in self.sensors or () for channel in sensor]
        if any(len(sensor) != 3 for sensor in self.sensors or ()) or len(set(channels)) < len(channels):
            raise ValueError(f"sensors must be triples of different channels, got {self.sensors}")

    def draw(self, x: Tensor) -> Tensor:
        """``(B, 3, 3)``, the transposed rotation matrices, by Rodrigues' formula."""
        axis = torch.nn.functional.normalize(torch.randn(len(x), 3, device=x.device), dim=1)
        angle = (2 * torch.rand(len(x), 1, 1, device=x.device) - 1) * math.radians(self.angle)
        a, b, c = axis.unbind(dim=1)
        zero = torch.zeros_like(a)
        cross = torch.stack([zero, c, -b, -c, zero, a, b, -a, zero], dim=1).view(-1, 3, 3)
        eye = torch.eye(3, device=x.device)
        return eye + angle.sin() * cross + 2 * (angle / 2).sin().square() * (cross @ cross)

    def apply(self, x: Tensor, drawn: Tensor) -> Tensor:
        channels = x.shape[2]
        if self.sensors is None:
            if channels % 3:
                raise ValueError(
                    f"{channels} channels are no sensors of three axes: say which channels are by Rotation(sensors=…); "
                    "in a recipe, list triples of axes in data.channels, or leave views.rotation out"
                )
            return turned(x, drawn)
        index = [channel for sensor in self.sensors for channel in sensor]
        if not all(0 <= channel < channels for channel in index):
            raise ValueError(f"sensors={self.sensors} names channels that series with {channels} channels do not have")
        out = x.clone()
        out[..., index] = turned(x[..., index], drawn)
        return out


def turned(x: Tensor, matrices: Tensor) -> Tensor:
    """``(B, T, 3 S)``, each three channels times ``(B, 3, 3)``; missing where a term of the sum is that counts."""
    vectors = x.transpose(1, 2).unflatten(1, (-1, 3))  # (B, S, 3, T): several times as fast with the long axis last
    matrices = matrices.transpose(1, 2)[:, None]
    if not anything_missing(x):
        out = matrices @ vectors
    else:
        lost = vectors.isnan()
        reached = (matrices != 0).to(x.dtype) @ lost.to(x.dtype)
        out = (matrices @ vectors.masked_fill(lost, 0.0)).masked_fill_(reached > 0, float("nan"))
    return out.flatten(1, 2).transpose(1, 2).contiguous()


def check_knots(knots: int) -> None:
    """Raise a ValueError unless a cubic spline goes through them and both ends."""
    if knots < 2:
        raise ValueError(f"knots must be at least 2, got {knots}")
