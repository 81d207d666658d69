"""What a waveform looks like over time: log-mel spectrograms, and cepstral coefficients with their derivatives.

Windows are centred, and there is silence before the start and after the end of a clip, so that a clip of n samples has
``1 + n // hop`` frames, any clip at least one, and padding (NaN) changes none of them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor
from torchaudio.functional import create_dct, melscale_fbanks

from mmssl.audio.clips import lengths

WINDOW, HOP = 0.064, 0.010  # seconds; 1,024 and 160 samples at 16 kHz in BYOL-A
F_MIN, F_MAX = 60.0, 0.4875  # Hz, and share of the sampling rate: 7,800 Hz at 16 kHz
FLOOR = 1e-6  # of the power before the logarithm: 30 dB below one step of 16 bits
SPEECH_WINDOW = 0.025  # seconds, for cepstra
DELTAS = 2  # frames to either side that a derivative looks at
PIECE = 2**17  # samples that a core works on at a time


def log_mel(
    x: Tensor,
    rate: int,
    *,
    mels: int = 64,
    window: float = WINDOW,
    hop: float = HOP,
    f_min: float = F_MIN,
    f_max: float | None = None,
) -> Tensor:
    """Natural logarithm of the power in each mel band; the defaults are BYOL-A's at 16 kHz (arXiv 2103.06695).

    Args:
        x: ``(B, samples)``, NaN after the end of a clip.
        rate: samples a second.
        mels: bands, on the HTK scale.
        window: seconds of a Hann window.
        hop: seconds from one frame to the next.
        f_min: Hz, lower end of the first band.
        f_max: Hz, upper end of the last band; None for 7,800 Hz at 16 kHz and as much below half of any other rate.

    Returns:
        ``(B, frames, mels)`` float32, NaN after the last frame of a clip.

    Raises:
        ValueError: bands that the rate does not have, or that are narrower than what the window resolves.
    """
    f_max = F_MAX * rate if f_max is None else f_max
    if not 0 <= f_min < f_max <= rate / 2:
        raise ValueError(f"mel bands from {f_min:g} to {f_max:g} Hz do not exist at {rate:,} Hz: at most {rate / 2:g}")
    size, step = round(window * rate), max(1, round(hop * rate))
    filters, taper = _filters(rate, size, mels, f_min, f_max, x.device), _hann(size, x.device)

    def frames(x: Tensor) -> Tensor:
        spectrum = torch.stft(
            x.float().nan_to_num(nan=0.0),
            _n_fft(size),
            step,
            size,
            taper,
            pad_mode="constant",
            return_complex=True,
        )  # (B, bins, F)
        power = spectrum.real.square() + spectrum.imag.square()
        return (power.transpose(1, 2) @ filters + FLOOR).log()  # (B, F, M)

    with torch.autocast(x.device.type, enabled=False):
        mel = in_pieces(x, frames)
        after = torch.arange(mel.shape[1], device=x.device) >= (1 + lengths(x) // step)[:, None]
        return mel.masked_fill(after[..., None], torch.nan)


def in_pieces(x: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """``change`` of so many clips ``(B, samples)`` at a time as stay in the cache; on a GPU of all."""
    rows = max(1, torch.get_num_threads() * PIECE // x.shape[1]) if x.device.type == "cpu" else len(x)
    return change(x) if len(x) <= rows else torch.cat([change(part) for part in x.split(rows)])


def mfcc(x: Tensor, rate: int, *, coefficients: int = 13, hop: float = HOP, mels: int = 40) -> Tensor:
    """Cepstral coefficients with first and second derivatives: 39 numbers a frame, 100 frames a second, as for HuBERT.

    Args:
        x: ``(B, samples)``, NaN after the end of a clip.
        rate: samples a second.
        coefficients: of the orthonormal cosine transform of a log-mel spectrum, from the mean on.
        hop: seconds from one frame to the next.
        mels: bands of the log-mel spectrum, from 20 Hz to half of the rate, in windows of 25 ms.

    Returns:
        ``(B, frames, 3 · coefficients)`` float32, NaN after the last frame of a clip.
    """
    mel = log_mel(x, rate, mels=mels, window=SPEECH_WINDOW, hop=hop, f_min=20.0, f_max=rate / 2)
    with torch.autocast(x.device.type, enabled=False):
        cepstra = mel @ create_dct(coefficients, mels, norm="ortho").to(mel.device)
    first = deltas(cepstra)
    return torch.cat([cepstra, first, deltas(first)], dim=-1)


def deltas(x: Tensor, *, reach: int = DELTAS) -> Tensor:
    """Slope of a line through the frames up to ``reach`` to either side; the first and last frame are repeated.

    Args:
        x: ``(B, F, D)``, NaN after the last frame of a clip; stays NaN there.
        reach: frames to either side.
    """
    frames = lengths(x)[:, None]  # (B, 1)
    at = torch.arange(x.shape[1], device=x.device)
    slope = torch.zeros_like(x)
    for k in range(1, reach + 1):
        later, earlier = (at + k).minimum(frames - 1).clamp(min=0), (at - k).clamp(min=0).expand(len(x), -1)
        slope = slope + k * (_pick(x, later) - _pick(x, earlier))
    slope = slope / (2 * sum(k**2 for k in range(1, reach + 1)))
    return slope.masked_fill((at >= frames)[..., None], torch.nan)


def _pick(x: Tensor, at: Tensor) -> Tensor:
    """``(B, F, D)`` at frames ``(B, F)``."""
    return x.gather(1, at[..., None].expand(-1, -1, x.shape[2]))


def _n_fft(size: int) -> int:
    """A power of two: what lies between two bins of a short window is interpolated, so that no mel band is empty."""
    return 1 << math.ceil(math.log2(max(size, 2)))


@lru_cache
def _hann(size: int, device: torch.device) -> Tensor:
    return torch.hann_window(size, device=device)


@lru_cache
def _filters(rate: int, size: int, mels: int, f_min: float, f_max: float, device: torch.device) -> Tensor:
    """``(bins, mels)``; kept, because a copy to a GPU waits for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of empty bands, as an error is better
        filters = melscale_fbanks(_n_fft(size) // 2 + 1, f_min, f_max, mels, rate)
    if (empty := int((filters.amax(dim=0) == 0).sum())) > 0:
        raise ValueError(
            f"{empty} of {mels} mel bands from {f_min:g} to {f_max:g} Hz are narrower than what a window of {size} "
            f"samples at {rate:,} Hz resolves: take fewer mels or a longer window"
        )
    return filters.to(device)
