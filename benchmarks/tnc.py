"""The samples of TNC, against one Dickey–Fuller test after the other around each of them.

The peer is what the authors' loader does for every sample of their simulation: statsmodels' `adfuller` for three
half-widths and three channels, then slices for 40 neighbours and 40 windows from far away (written again here, without
the plot that the loader saves each time). Ours finds the neighbourhoods once, and draws and cuts the same windows in
batches. Both are per sample, with as many samples to a recording as the authors' 101 epochs have. The second figure of
a row, "one test", holds ours against a single call of `adfuller` a sample.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mmssl.timeseries.encoders.gru import BiGRU
from mmssl.timeseries.recordings import Recordings
from mmssl.timeseries.simulated import simulate
from mmssl.timeseries.stationarity import adf
from mmssl.timeseries.tnc import TNC

RECORDINGS, WINDOW, PAIRS = 20, 50, 40
EPOCHS, REPEATS, BATCH = 101, 5, 100  # the authors take each recording five times an epoch
PASSES = 3
FEW = 6  # samples that the peer is timed on
TESTED, STEPS = 512, 300  # series of the comparison of the test alone
Floats = npt.NDArray[np.float64]


def measure() -> list[dict[str, Any]]:
    """One row for the test alone, and one for the samples."""
    try:
        from statsmodels.tsa.stattools import adfuller
    except ModuleNotFoundError:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # statsmodels announces another return type
        return [_test(adfuller), _samples(adfuller)]


def _test(adfuller: Callable[[Floats], Any]) -> dict[str, Any]:
    x = torch.randn(TESTED, STEPS, dtype=torch.float64)
    few = list(x[:FEW].numpy())
    ours, peer = _best([lambda: adf(x), lambda: [adfuller(row) for row in few]])
    return _row(f"Dickey–Fuller test, {STEPS} steps, lag by AIC", "statsmodels", peer / FEW, ours / TESTED)


def _samples(adfuller: Callable[[Floats], Any]) -> dict[str, Any]:
    series, _ = simulate(recordings=RECORDINGS * 5 // 4)
    recording = series.values.reshape(RECORDINGS, -1, 3)[0].T.astype(np.float64)  # (C, T)
    steps, rng = recording.shape[1], np.random.default_rng(0)
    samples = RECORDINGS * EPOCHS * REPEATS

    def once() -> None:
        recordings = Recordings(series, window=WINDOW)
        method = TNC(BiGRU(3, hidden=4, dim=4), recordings, pairs=PAIRS)
        for _ in range(samples // BATCH):
            places = recordings.fetch(rng.integers(len(recordings), size=BATCH))
            method.cut(method.draw(places).flatten())

    def each() -> None:
        for t in rng.integers(2 * WINDOW, steps - 2 * WINDOW, FEW):
            p = [np.mean([adfuller(c[max(0, t - w) : t + w])[1] for c in recording]) for w in (50, 100, 150)]
            size = next((i + 1 for i, value in enumerate(p) if value >= 0.01), 3)
            half = WINDOW // 2
            near = np.clip((t + rng.standard_normal(PAIRS) * size * WINDOW).astype(int), half, steps - half)
            far = rng.integers(half, max(t - 5 * size * WINDOW + 1, half + 1), PAIRS)
            np.stack([recording[:, i - half : i + half] for i in (*near, *far)])

    def one_test() -> None:
        for t in rng.integers(2 * WINDOW, steps - 2 * WINDOW, FEW):
            adfuller(recording[0, t - 2 * WINDOW : t + 2 * WINDOW])

    ours, peer, single = _best([once, each, one_test])
    row = _row("samples of TNC's simulation, each", "statsmodels for each sample", peer / FEW, ours / samples)
    return {**row, "times_one_test": single / FEW / (ours / samples)}


def _best(runs: list[Callable[[], object]]) -> list[float]:
    """Seconds of each, best of some passes in turn."""
    best = [float("inf")] * len(runs)
    for _ in range(PASSES):
        for i, run in enumerate(runs):
            start = time.perf_counter()
            run()
            best[i] = min(best[i], time.perf_counter() - start)
    return best


def _row(what: str, peer: str, theirs: float, ours: float) -> dict[str, Any]:
    return {"what": what, "peer": peer, "peer_ms": 1e3 * theirs, "mmssl_ms": 1e3 * ours, "ratio": theirs / ours}


if __name__ == "__main__":
    for row in measure():
        print(row)
