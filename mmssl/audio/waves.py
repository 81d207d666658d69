"""Augmentations of waveforms ``(B, samples)``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mmssl.audio.clips import lengths
from mmssl.audio.steps import Step, check_range, check_share, chosen, inside, uniform

N_FFT, HOP = 512, 128  # of the phase vocoder, in samples


class WaveStep(Step):
    """A step that takes waveforms."""

    ndim = 2


@dataclass(frozen=True)
class Gain(WaveStep):
    """Louder or softer.

    Destroys how loud a clip is: distance, effort, or the state of a machine.

    Args:
        decibels: largest change to either side.
    """

    decibels: float = 6.0

    def __post_init__(self) -> None:
        if self.decibels < 0:
            raise ValueError(f"decibels must be at least 0, got {self.decibels}")

    def apply(self, x: Tensor) -> Tensor:
        return x * 10 ** (uniform(x, -self.decibels, self.decibels)[:, None] / 20)


@dataclass(frozen=True)
class Noise(WaveStep):
    """White noise at a signal-to-noise ratio of the whole clip.

    Destroys what is softer than the noise: breath, room, fricatives at low ratios.

    Args:
        snr: smallest and largest ratio, in dB.
        p: share of the clips that get noise.
    """

    snr: Sequence[float] = (10.0, 40.0)
    p: float = 1.0

    def __post_init__(self) -> None:
        check_range("snr", self.snr)
        check_share("p", self.p)

    def apply(self, x: Tensor) -> Tensor:
        power = x.square().nanmean(dim=1, keepdim=True).nan_to_num(nan=0.0)
        level = (power * 10 ** (-uniform(x, *self.snr)[:, None] / 10)).sqrt()
        return torch.where(chosen(x, self.p)[:, None], x + level * torch.randn_like(x), x)


@dataclass(frozen=True)
class Polarity(WaveStep):
    """The sign turned round, which nobody hears.

    Destroys nothing but the asymmetry of a wave, by which a recording chain can be told.

    Args:
        p: share of the clips.
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        check_share("p", self.p)

    def apply(self, x: Tensor) -> Tensor:
        return torch.where(chosen(x, self.p)[:, None], -x, x)


@dataclass(frozen=True)
class TimeShift(WaveStep):
    """Everything earlier or later; what leaves the clip is lost, and silence comes in.

    Destroys when something happens, and the start or the end of what fills a clip.

    Args:
        share: largest shift to either side, as a share of the clip.
    """

    share: float = 0.1

    def __post_init__(self) -> None:
        check_share("share", self.share)

    def apply(self, x: Tensor) -> Tensor:
        size = lengths(x)[:, None]
        shift = (uniform(x, -self.share, self.share)[:, None] * size).round().long()
        source = torch.arange(x.shape[1], device=x.device) - shift  # (B, T)
        moved = x.gather(1, source.clamp(0, x.shape[1] - 1))
        silent = (source < 0) | (source >= size)
        return torch.where(inside(x), moved.masked_fill(silent, 0.0), torch.nan)


@dataclass(frozen=True)
class Speed(WaveStep):
    """Played faster or slower, which changes duration and pitch together; clips become shorter or longer.

    Destroys absolute pitch, formants and tempo: who speaks, and how fast. Linear interpolation, so that what is near
    the highest frequency becomes softer.

    Args:
        change: largest change of the speed to either side, as a share.
    """

    change: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.change < 1:
            raise ValueError(f"change must lie in [0, 1), got {self.change}")

    def apply(self, x: Tensor) -> Tensor:
        return x.clone() if self.change == 0 else _played(x, 1 + uniform(x, -self.change, self.change), 1 - self.change)


@dataclass(frozen=True)
class Pitch(WaveStep):
    """Another pitch at the same speed: stretched by a phase vocoder, then played faster.

    Destroys absolute pitch and formants, so with them who speaks, and tones whose height means something.

    Args:
        semitones: largest change to either side.
    """

    semitones: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.semitones <= 12:
            raise ValueError(f"semitones must lie in [0, 12], got {self.semitones}")

    def apply(self, x: Tensor) -> Tensor:
        if self.semitones == 0:
            return x.clone()
        factor = 2 ** (uniform(x, -self.semitones, self.semitones) / 12)
        limit = 2 ** (self.semitones / 12)
        played = _played(stretched(x, factor, limit), factor, 1 / limit)[:, : x.shape[1]]
        out = torch.zeros_like(x)
        out[:, : played.shape[1]] = played.nan_to_num(nan=0.0)
        return torch.where(inside(x), out, torch.nan)


@dataclass(frozen=True)
class Reverb(WaveStep):
    """The sound of a room: convolved with noise that dies away, as long as the clip lasts.

    Destroys where and how close the source is, and sharp onsets.

    Args:
        rate: samples a second.
        seconds: shortest and longest time in which the echo falls by 60 dB.
        wet: largest energy of the echo as a share of that of the direct sound; drawn evenly from 0.
        p: share of the clips.
    """

    rate: int
    seconds: Sequence[float] = (0.1, 0.4)
    wet: float = 0.3
    p: float = 1.0

    def __post_init__(self) -> None:
        check_range("seconds", self.seconds, 0)
        check_share("p", self.p)
        if self.wet < 0 or self.rate < 1:
            raise ValueError(f"wet must be at least 0 and rate positive, got {self.wet} and {self.rate}")

    def apply(self, x: Tensor) -> Tensor:
        n = x.shape[1]
        size = min(n, round(self.seconds[1] * self.rate))
        decay = math.log(10**3) / (uniform(x, *self.seconds)[:, None] * self.rate)  # a sample
        at = torch.arange(size, device=x.device)
        echo = torch.randn(len(x), size, device=x.device) * (-decay * at).exp()
        echo[:, 0] = 0
        wet = uniform(x, 0.0, self.wet)[:, None] * chosen(x, self.p)[:, None]
        echo = echo * (wet / echo.square().sum(dim=1, keepdim=True).clamp(min=1e-12)).sqrt()
        n_fft = n + size
        spectrum = torch.fft.rfft(x.nan_to_num(nan=0.0), n_fft) * torch.fft.rfft(echo, n_fft)
        return x + torch.fft.irfft(spectrum, n_fft)[:, :n]


def stretched(x: Tensor, factor: Tensor, limit: float) -> Tensor:
    """Longer by ``factor`` at the same pitch: the phase vocoder (Flanagan and Golden, 1966), batched.

    Args:
        x: ``(B, T)``, NaN after the end of a clip.
        factor: ``(B,)``.
        limit: no factor is larger; a number, so that nobody asks a GPU for the size of the result.
    """
    window = torch.hann_window(N_FFT, device=x.device)
    after = F.pad(x.nan_to_num(nan=0.0), (0, 2 * N_FFT))  # so that a clip ends the same way in every batch
    spectrum = torch.stft(after, N_FFT, HOP, window=window, pad_mode="constant", return_complex=True)  # (B, K, F)
    frames = math.ceil(spectrum.shape[2] * limit)
    at = torch.arange(frames, device=x.device) / factor[:, None]  # (B, F')
    first = at.floor().long().clamp(max=spectrum.shape[2] - 2)
    share = (at - first).clamp(0, 1)[:, None]
    here, there = _frame(spectrum, first), _frame(spectrum, first + 1)
    magnitude = here.abs().lerp(there.abs(), share)
    usual = torch.linspace(0, math.pi * HOP, spectrum.shape[1], device=x.device)[:, None]  # advance of a bin
    advance = there.angle() - here.angle() - usual
    advance = usual + advance - 2 * math.pi * (advance / (2 * math.pi)).round()
    phase = torch.cat([here[..., :1].angle(), advance[..., :-1]], dim=2).cumsum(dim=2)
    longest = math.ceil(x.shape[1] * limit)
    out = torch.istft(torch.polar(magnitude, phase), N_FFT, HOP, window=window, length=longest)
    size = (lengths(x) * factor).round()[:, None]
    return out.masked_fill(torch.arange(longest, device=x.device) >= size, torch.nan)


def _frame(spectrum: Tensor, at: Tensor) -> Tensor:
    return spectrum.gather(2, at[:, None].expand(-1, spectrum.shape[1], -1))


def _played(x: Tensor, speed: Tensor, slowest: float) -> Tensor:
    """``(B, T)`` at ``speed`` ``(B,)``, none below ``slowest``: ``(B, T')``."""
    size = lengths(x)
    new = (size / speed).round().clamp(min=1)[:, None]
    longest = math.ceil(x.shape[1] / slowest)
    at = torch.arange(longest, device=x.device)
    place = at * speed[:, None]
    first = place.floor().long()
    last = (size - 1).clamp(min=0)[:, None]
    here, there = (x.gather(1, torch.minimum(i, last)) for i in (first, first + 1))
    out = here.lerp(there, place - first)
    return out.masked_fill(at >= new, torch.nan)
