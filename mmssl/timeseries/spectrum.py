"""Augmentations of the frequencies of series, all channels together; the mean of each channel stays as it is.

Missing values and padding count as the mean of what the channel measured there, and are missing again afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmssl.timeseries.steps import Step, anything_missing, check_strength


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
        spectrum = torch.fft.rfft(measured(x), dim=1)  # (B, F, C)
        gone = spectrum * drawn[..., None]
        return x - torch.fft.irfft(gone, n=x.shape[1], dim=1)


@dataclass(frozen=True)
class FrequencyMix(Step):
    """Random frequencies replaced by those of another series of the batch (FrAug: Chen et al. 2023, arXiv 2302.09292).

    Rows are not independent here. Destroys what tells one series from another, if much is replaced: the mixture has
    tones of both, and may belong to neither class.

    Args:
        share: probability that a frequency is replaced.
    """

    share: float = 0.1

    def __post_init__(self) -> None:
        check_strength("share", self.share, 1)

    def draw(self, x: Tensor) -> Tensor:
        """``(B, F)`` int64, the series that each frequency is taken from."""
        own = torch.arange(len(x), device=x.device)
        circle = torch.rand(len(x), device=x.device).argsort()
        next_one = circle.roll(-1)[circle.argsort()]  # never a series itself, unless it is alone
        return torch.where(chosen_frequencies(x, self.share), next_one[:, None], own[:, None])

    def apply(self, x: Tensor, drawn: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(measured(x), dim=1)  # (B, F, C)
        rows = drawn * drawn.shape[1] + torch.arange(drawn.shape[1], device=x.device)
        mixed = spectrum.flatten(0, 1).index_select(0, rows.view(-1)).view_as(spectrum)
        return x + torch.fft.irfft(mixed - spectrum, n=x.shape[1], dim=1)


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
