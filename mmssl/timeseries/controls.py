"""What a pretrained encoder has to beat: statistics of each channel, the values themselves, and MiniRocket."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from mmssl.timeseries.series import WindowSet

Floats = npt.NDArray[np.float32]
CHUNK = 2**22  # values that are held in float64 at a time
KERNELS = 10_000  # of MiniRocket, its authors' number
ROCKET_BYTES = 2**30  # bounds its features; beyond, it gets fewer kernels
ROCKET_STEPS = 9  # length of its kernels


def statistics(windows: WindowSet) -> Floats:
    """Twelve numbers a channel: ``(n, 12 C)``.

    Mean, standard deviation, minimum, quartiles, maximum, skewness, mean absolute change, lag-1 autocorrelation,
    crossings of the mean, and the share of missing values. Missing values are left out; a channel without any value in
    a window gives zeros.
    """
    length, channels = windows.length, len(windows.series.channels)
    at_once = max(1, CHUNK // (length * channels))
    out = np.empty((len(windows), 12 * channels), dtype=np.float32)
    for start in range(0, len(windows), at_once):
        index = np.arange(start, min(start + at_once, len(windows)))
        x = windows.fetch(index, length).astype(np.float64)  # (n, T, C)
        inside = np.arange(length) < windows.lengths[index, None]  # (n, T); padding is not missing
        out[index] = _statistics(x, inside).reshape(len(index), -1)
    return out


def _statistics(x: npt.NDArray[np.float64], inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """``(n, T, C)`` to ``(n, 12, C)``."""
    seen = ~np.isnan(x)
    count = seen.sum(axis=1)
    some = np.maximum(count, 1)

    def mean(values: npt.NDArray[np.float64], where: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        return np.where(where, values, 0.0).sum(axis=1) / np.maximum(where.sum(axis=1), 1)

    centre = mean(x, seen)
    d = np.where(seen, x - centre[:, None], 0.0)
    variance = (d**2).sum(axis=1) / some
    std = np.sqrt(variance)
    safe = np.where(std > 0, std, 1.0)
    both = seen[:, 1:] & seen[:, :-1]
    change = np.where(both, x[:, 1:] - x[:, :-1], 0.0)
    ordered = np.sort(np.where(seen, x, np.inf), axis=1)
    quantiles = []
    for q in (0.0, 0.25, 0.5, 0.75, 1.0):
        at = np.round(q * (some - 1)).astype(np.int64)
        value = np.take_along_axis(ordered, at[:, None], axis=1)[:, 0]
        quantiles.append(np.where(count > 0, value, 0.0))
    return np.stack(
        [
            centre,
            std,
            *quantiles,
            (d**3).sum(axis=1) / some / safe**3,
            mean(np.abs(change), both),
            (d[:, 1:] * d[:, :-1]).sum(axis=1) / some / safe**2,
            mean((d[:, 1:] > 0) != (d[:, :-1] > 0), both),
            1 - count / inside.sum(axis=1)[:, None],
        ],
        axis=1,
    )


def raw(windows: WindowSet) -> Floats:
    """The values themselves: ``(n, T · C)``, 0 where one is missing and after the end of a shorter window."""
    values = windows.fetch(np.arange(len(windows)), windows.length)
    return np.nan_to_num(values, nan=0.0).reshape(len(windows), -1)


def minirocket(train: WindowSet, test: WindowSet, *, seed: int = 0) -> tuple[Floats, Floats]:
    """Features of MiniRocket (Dempster, Schmidt and Webb, KDD 2021) as aeon computes them, ``(n, ~10,000)`` each.

    It takes series of one length without gaps: gaps are interpolated, and shorter windows stretched to the longest.

    Raises:
        ModuleNotFoundError: aeon is not installed.
        ValueError: windows are shorter than its kernels.
    """
    try:
        from aeon.transformations.collection.convolution_based import MiniRocket
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'the minirocket control needs aeon ({error}): pip install "mmssl[timeseries]", or leave it out with '
            "evaluate.controls=[statistics]"
        ) from error
    length = max(train.length, test.length)
    if length < ROCKET_STEPS:
        raise ValueError(f"MiniRocket needs windows of at least {ROCKET_STEPS} rows, got {length}")
    kernels = min(KERNELS, max(84, ROCKET_BYTES // (4 * (len(train) + len(test)))))
    rocket = MiniRocket(n_kernels=int(kernels), n_jobs=1, random_state=seed)
    threads = torch.get_num_threads()
    try:
        rocket.fit(_filled(train, length))
        return _transform(rocket.transform, train, length), _transform(rocket.transform, test, length)
    finally:  # numba sets the threads of everything that shares its OpenMP, torch included
        torch.set_num_threads(threads)


def _transform(transform: object, windows: WindowSet, length: int) -> Floats:
    assert callable(transform)
    return np.asarray(transform(_filled(windows, length)), dtype=np.float32)


def _filled(windows: WindowSet, length: int) -> Floats:
    """``(n, C, T)`` without NaN: linear between values, constant beyond them, 0 where a channel has none."""
    n, channels = len(windows), len(windows.series.channels)
    out = np.zeros((n, channels, length), dtype=np.float32)
    for i in range(n):
        x = windows.fetch(np.array([i]))[0]  # (t, C)
        at = np.linspace(0, len(x) - 1, length)
        for c in range(channels):
            known = np.flatnonzero(~np.isnan(x[:, c]))
            if len(known) == len(x) == length:
                out[i, c] = x[:, c]
            elif len(known):
                out[i, c] = np.interp(at, known, x[known, c])
    return out
