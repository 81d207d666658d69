"""Augmentations of log-mel frames ``(B, frames, mels)``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mmssl.audio.clips import lengths
from mmssl.audio.steps import Step, check_range, check_share, inside, uniform


class MelStep(Step):
    """A step that takes mel frames."""

    ndim = 3


@dataclass(frozen=True)
class LogMixupExp(MelStep):
    """Adds the energy of another clip of the batch: log((1 − λ) exp x + λ exp y) (BYOL-A, arXiv 2103.06695).

    Takes natural logarithms of energies, before they are standardised: then λ is a share of energy. The paper takes the
    other clip from a ring buffer of the last 2,048. That would be a state that changes in `forward`, and a step may be
    skipped or made of several forwards; from the batch itself it is a fair draw, too, and needs no memory.

    Destroys how quiet a clip's pauses are, and what is as quiet as the other clip's share.

    Args:
        alpha: largest λ, drawn evenly from 0; .4 in the paper.
    """

    alpha: float = 0.4

    def __post_init__(self) -> None:
        check_share("alpha", self.alpha)

    def apply(self, x: Tensor) -> Tensor:
        if len(x) < 2 or self.alpha == 0:
            return x.clone()
        shift = torch.randint(1, len(x), (len(x),), device=x.device)  # not one for all: both views would hear the same
        other = x[(torch.arange(len(x), device=x.device) + shift) % len(x)]  # never the clip itself
        share = uniform(x, 0.0, self.alpha)[:, None, None]
        mixed = torch.logaddexp(x + (1 - share).log(), other.nan_to_num(nan=-torch.inf) + share.log())
        return torch.where(x.isnan(), x, mixed)


@dataclass(frozen=True)
class RandomResizeCrop(MelStep):
    """A stretch of time and a range of frequencies, resized to the size of the whole (BYOL-A, arXiv 2103.06695).

    The stretch may be longer than the clip: beyond its ends, in an area around it, lies the mean level, 0 of
    standardised frames. Bilinear where the authors resize bicubically.

    Destroys absolute pitch, formants and duration, so with them who speaks and how fast; strong crops cut off phonemes.

    Args:
        time: length of the stretch, as a share of the clip.
        frequency: width of the range, as a share of all bands.
        area: size of the area in time and in frequency; a crop is never larger. 1.5 and 1 in the paper.
    """

    time: Sequence[float] = (0.6, 1.5)
    frequency: Sequence[float] = (0.6, 1.5)
    area: Sequence[float] = (1.5, 1.0)

    def __post_init__(self) -> None:
        check_range("time", self.time, 0)
        check_range("frequency", self.frequency, 0)
        if len(self.area) != 2 or min(self.area) < 1:
            raise ValueError(f"area must be two sizes of at least 1, in time and in frequency, got {tuple(self.area)}")

    def apply(self, x: Tensor) -> Tensor:
        size = lengths(x).float()[:, None]  # (B, 1)
        frames, mels = x.shape[1:]
        t = _places(x, size, self.time, self.area[0], frames)  # (B, F)
        f = _places(x, torch.full_like(size, mels), self.frequency, self.area[1], mels)  # (B, M)
        grid = torch.stack(  # grid_sample counts from -1 to 1 over the whole tensor
            torch.broadcast_tensors((2 * f[:, None] + 1) / mels - 1, (2 * t[:, :, None] + 1) / frames - 1), dim=-1
        )
        cropped = F.grid_sample(x.nan_to_num(nan=0.0)[:, None], grid, align_corners=False)[:, 0]
        return torch.where(x.isnan(), x, cropped)


def _places(x: Tensor, size: Tensor, scale: Sequence[float], area: float, n: int) -> Tensor:
    """Where each of ``n`` output positions lies in the input: ``(B, n)``, for inputs of ``size`` ``(B, 1)``."""
    width = uniform(x, *scale)[:, None].clamp(max=area)
    start = uniform(x, 0.0, 1.0)[:, None] * (area - width) - (area - 1) / 2
    return start * size + (torch.arange(n, device=x.device) + 0.5) * width - 0.5


@dataclass(frozen=True)
class TimeMask(MelStep):
    """A stretch of time at the mean level, 0 of standardised frames (SpecAugment, arXiv 1904.08779).

    Destroys what happens once and briefly, such as a plosive or a click.

    Args:
        share: longest stretch, as a share of the clip; drawn evenly from 0.
    """

    share: float = 0.2

    def __post_init__(self) -> None:
        check_share("share", self.share)

    def apply(self, x: Tensor) -> Tensor:
        hidden = _stretch(x, lengths(x).float(), self.share, x.shape[1]) & inside(x)
        return x.masked_fill(hidden[..., None], 0.0)


@dataclass(frozen=True)
class FrequencyMask(MelStep):
    """A range of bands at the mean level, 0 of standardised frames (SpecAugment, arXiv 1904.08779).

    Destroys what shows in a single band, such as a tone of a machine.

    Args:
        share: widest range, as a share of all bands; drawn evenly from 0.
    """

    share: float = 0.2

    def __post_init__(self) -> None:
        check_share("share", self.share)

    def apply(self, x: Tensor) -> Tensor:
        bands = torch.full((len(x),), float(x.shape[2]), device=x.device)
        hidden = _stretch(x, bands, self.share, x.shape[2])[:, None]
        return torch.where(hidden & ~x.isnan(), 0.0, x)


def _stretch(x: Tensor, size: Tensor, share: float, n: int) -> Tensor:
    """``(B, n)`` bool, True in a random stretch of the first ``size`` ``(B,)`` positions."""
    width = (uniform(x, 0.0, share) * size).floor()
    start = (uniform(x, 0.0, 1.0) * (size - width + 1)).floor()
    at = torch.arange(n, device=x.device)
    return (at >= start[:, None]) & (at < (start + width)[:, None])
