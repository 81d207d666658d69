"""Augmentations of series, batched, against the same ones written in NumPy and SciPy for one series after the other.

The NumPy ones are what a data set's `__getitem__` would do: vectorised over time and channels where NumPy can, with
scipy's cubic splines for the warps and `numpy.interp` for each channel of what is resampled. 256 series of 512
timestamps and 6 channels.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.interpolate import CubicSpline

from mmssl.timeseries.augment import (
    ChannelDropout,
    CropResize,
    FrequencyMask,
    FrequencyMix,
    Jitter,
    MagnitudeWarp,
    Permutation,
    Pipeline,
    Rotation,
    Scaling,
    Step,
    StrongView,
    TimeMask,
    TimeWarp,
    WeakView,
)

BATCH, STEPS, CHANNELS = 256, 512, 6
PASSES = 7
FEW = 32  # series that the one-by-one implementation is timed on
Floats = npt.NDArray[np.float32]
RNG = np.random.default_rng(0)
T = np.arange(STEPS)


def jitter(x: Floats) -> Floats:
    return x + 0.05 * RNG.standard_normal(x.shape, dtype=np.float32)


def scaling(x: Floats) -> Floats:
    return x * (1 + 0.1 * RNG.standard_normal(x.shape[1], dtype=np.float32))


def curves(n: int) -> npt.NDArray[np.float64]:
    knots = np.linspace(0, STEPS - 1, 6)
    return 1 + 0.2 * CubicSpline(knots, RNG.standard_normal((6, n)))(T)


def magnitude_warp(x: Floats) -> Floats:
    return (x * curves(x.shape[1])).astype(np.float32)


def at(x: Floats, position: npt.NDArray[np.floating]) -> Floats:
    return np.stack([np.interp(position, T, channel) for channel in x.T], axis=1).astype(np.float32)


def time_warp(x: Floats) -> Floats:
    clock = np.cumsum(np.maximum(curves(1)[:, 0], 0.1))
    return at(x, (clock - clock[0]) / (clock[-1] - clock[0]) * (STEPS - 1))


def crop_resize(x: Floats) -> Floats:
    share = RNG.uniform(0.5, 1)
    return at(x, RNG.uniform(0, (1 - share) * (STEPS - 1)) + share * T)


def permutation(x: Floats, most: int = 5) -> Floats:
    cuts = np.sort(RNG.choice(STEPS - 1, RNG.integers(most), replace=False) + 1)
    parts = np.split(x, cuts)
    return np.concatenate([parts[i] for i in RNG.permutation(len(parts))])


def time_mask(x: Floats) -> Floats:
    out = x.copy()
    width = round(0.2 * STEPS)
    first = RNG.integers(STEPS - width + 1)
    out[first : first + width] = 0
    return out


def channel_dropout(x: Floats) -> Floats:
    return x * np.greater_equal(RNG.random(x.shape[1]), 0.2)


def frequency_mask(x: Floats) -> Floats:
    spectrum = np.fft.rfft(x, axis=0)
    spectrum[1:][RNG.random(len(spectrum) - 1) < 0.1] = 0
    return np.fft.irfft(spectrum, STEPS, axis=0).astype(np.float32)


def frequency_mix(x: Floats) -> Floats:
    spectrum, other = np.fft.rfft(x, axis=0), np.fft.rfft(x[::-1], axis=0)
    chosen = RNG.random(len(spectrum)) < 0.1
    spectrum[chosen] = other[chosen]
    return np.fft.irfft(spectrum, STEPS, axis=0).astype(np.float32)


def rotation(x: Floats) -> Floats:
    axis = RNG.standard_normal(3)
    a, b, c = axis / np.linalg.norm(axis)
    angle = RNG.uniform(-np.pi, np.pi)
    cross = np.array([[0, c, -b], [-c, 0, a], [b, -a, 0]])
    matrix = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return (x.reshape(-1, 3) @ matrix.astype(np.float32)).reshape(x.shape)


ALL: tuple[tuple[Step, Callable[[Floats], Floats]], ...] = (
    (Jitter(0.05), jitter),
    (Scaling(0.1), scaling),
    (MagnitudeWarp(0.2), magnitude_warp),
    (TimeWarp(0.2), time_warp),
    (CropResize((0.5, 1.0)), crop_resize),
    (Permutation(5), permutation),
    (TimeMask(0.2), time_mask),
    (ChannelDropout(0.2), channel_dropout),
    (FrequencyMask(0.1), frequency_mask),
    (FrequencyMix(0.1), frequency_mix),
    (Rotation(), rotation),
)


def measure() -> list[dict[str, Any]]:
    """One row an augmentation, the views of TS-TCC, and all augmentations one after the other."""
    torch.manual_seed(0)
    rows = [_row(type(ours).__name__, ours, theirs) for ours, theirs in ALL]
    rows.append(_row("weak view of TS-TCC", WeakView(), lambda x: jitter(scaling(x))))
    rows.append(_row("strong view of TS-TCC", StrongView(), lambda x: jitter(permutation(x, 8))))
    rows.append(_row("all of them in turn", Pipeline(tuple(ours for ours, _ in ALL)), _all))
    return rows


def _all(x: Floats) -> Floats:
    for _, theirs in ALL:
        x = theirs(x)
    return x


def _row(what: str, ours: Step, theirs: Callable[[Floats], Floats]) -> dict[str, Any]:
    x = torch.randn(BATCH, STEPS, CHANNELS)
    few = list(x[:FEW].numpy())

    def batched() -> None:
        ours(x)

    def one_by_one() -> None:
        np.stack([theirs(series) for series in few])

    best = {batched: float("inf"), one_by_one: float("inf")}
    for _ in range(PASSES):
        for run in best:
            start = time.perf_counter()
            run()
            best[run] = min(best[run], time.perf_counter() - start)
    seconds, peer = best[batched] / BATCH, best[one_by_one] / FEW
    return {
        "what": f"{what}, {BATCH} × {STEPS} × {CHANNELS}, per series",
        "peer": "NumPy, one by one",
        "peer_ms": 1e3 * peer,
        "mmssl_ms": 1e3 * seconds,
        "ratio": peer / seconds,
        "mmssl_series_per_second": 1 / seconds,
    }


if __name__ == "__main__":
    for row in measure():
        print(f"{row['what']}: {row['peer_ms']:.4f} ms, {row['mmssl_ms']:.4f} ms, {row['ratio']:.1f}×")
