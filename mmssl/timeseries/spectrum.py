"""Augmentations of the frequencies of series, all channels together; the mean of each channel stays as it is.

Missing values and padding count as the mean of what the channel measured there, and are missing again afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mmssl.timeseries.steps import Step, anything_missing, check_strength, pieces


@dataclass(frozen=True)
class FrequencyMask(Step):
    """Random frequencies taken out (FrAug: Chen et al. 2023, arXiv 2302.09292).

    Destroys tones: the frequency that tells a worn bearing can be the one that is gone.

    Args:
        share: probability that a frequency is taken out.
    """

    share: float = 0.1

    def __post_init__(self) -> None:
        check_strength("share", self.share, 1)

    def draw(self, x: Tensor) -> Tensor:
        """``(B, F)`` bool, True at frequencies that go."""
        return chosen_frequencies(x, self.share)

    def apply(self, x: Tensor, drawn: Tensor) -> Tensor:
        return x - only(measured(x), drawn)


@dataclass(frozen=True)
class FrequencyMix(Step):
    """Random frequencies replaced by those of another series of the batch (FrAug: Chen et al. 2023, arXiv 2302.09292).

    Rows are not independent here. Destroys what tells one series from another, if much is replaced: the mixture has
    tones of both, and may belong to neither class.

    A channel stays as it is where the other series measured it at less than half as many timestamps: the mean that
    stands for a missing value has no frequencies to give. Where it measured more, its gaps weaken what it gives.

    Args:
        share: probability that a frequency is replaced.
    """

    mixes: ClassVar[bool] = True
    share: float = 0.1

    def __post_init__(self) -> None:
        check_strength("share", self.share, 1)

    def draw(self, x: Tensor) -> Tensor:
        """``(B, 1 + F)`` int64: the other series, and 1 at the frequencies that are taken from it."""
        circle = torch.rand(len(x), device=x.device).argsort()
        next_one = circle.roll(-1)[circle.argsort()]  # never a series itself, unless it is alone
        return torch.cat([next_one[:, None], chosen_frequencies(x, self.share)], dim=1)

    def apply(self, x: Tensor, drawn: Tensor) -> Tensor:
        known = measured(x)
        other, chosen = drawn[:, 0], drawn[:, 1:]
        poor = None  # (B, C), True where the other series has too little to give
        if anything_missing(x):
            count = x.isnan().logical_not_().sum(dim=1)
            poor = 2 * count[other] < count

        out = torch.empty_like(known)
        for part in pieces(x):
            difference = known.index_select(0, other[part]).sub_(known[part])
            if poor is not None:
                difference.masked_fill_(poor[part, None], 0.0)
            torch.add(x[part], only(difference, chosen[part]), out=out[part])
        return out


def only(x: Tensor, chosen: Tensor) -> Tensor:
    """What the frequencies ``(B, F)`` that are chosen add to the series ``(B, T, C)``."""
    spectrum = torch.fft.rfft(x, dim=1)  # (B, F, C)
    return torch.fft.irfft(spectrum.mul_(chosen[..., None]), n=x.shape[1], dim=1)


def chosen_frequencies(x: Tensor, share: float) -> Tensor:
    """``(B, F)`` bool with F = T // 2 + 1, each with probability ``share``; never the mean, which is the first."""
    chosen = torch.rand(len(x), x.shape[1] // 2 + 1, device=x.device) < share
    chosen[:, 0] = False
    return chosen


def measured(x: Tensor) -> Tensor:
    """``(B, T, C)`` with the mean of each channel where it is missing; 0 if all of it is."""
    if not anything_missing(x):
        return x
    return torch.where(x.isnan(), x.nanmean(dim=1, keepdim=True).nan_to_num(0.0), x)
