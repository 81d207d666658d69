"""The regression of the forecasting protocol, all penalties, against scikit-learn's Ridge for one after the other."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import Ridge

from mmssl.eval.forecasting import PENALTIES, fit_ridge, origins

TRAIN, VALID, DIM, HORIZON, PAST = 8640, 2880, 320, 168, 200  # ETTh1, univariate
ROUNDS = 5


def measure() -> list[dict[str, Any]]:
    """One row: medians of fits that take turns, and the largest difference of their validation forecasts."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(TRAIN + VALID, 1)).cumsum(axis=0).astype(np.float32)
    values /= values.std()
    z = (values @ rng.normal(size=(1, DIM)) + rng.normal(size=(len(values), DIM))).astype(np.float32)
    train, valid = origins([(0, TRAIN)], HORIZON, skip=PAST), origins([(TRAIN, TRAIN + VALID)], HORIZON)

    def ours() -> npt.NDArray[np.floating[Any]]:
        return fit_ridge(lambda rows: z[rows], values, train, valid, horizon=HORIZON)(valid)[..., 0]

    def theirs() -> npt.NDArray[np.floating[Any]]:
        leads = np.arange(1, HORIZON + 1)
        y, held = values[train[:, None] + leads, 0], values[valid[:, None] + leads, 0]
        losses = []
        for penalty in PENALTIES:
            error = Ridge(alpha=penalty).fit(z[train], y).predict(z[valid]) - held
            losses.append(np.sqrt((error**2).mean()) + np.abs(error).mean())
        best = PENALTIES[int(np.argmin(losses))]
        forecast: npt.NDArray[np.floating[Any]] = Ridge(alpha=best).fit(z[train], y).predict(z[valid])
        return forecast

    difference = float(np.abs(ours() - theirs()).max())
    times: dict[str, list[float]] = {"theirs": [], "ours": []}
    for _ in range(ROUNDS):
        times["theirs"].append(_seconds(theirs))
        times["ours"].append(_seconds(ours))
    peer, mine = (1e3 * statistics.median(times[name]) for name in ("theirs", "ours"))
    return [
        {
            "what": f"ridge forecasts {HORIZON} rows ahead, {len(PENALTIES)} penalties, {len(train):,} × {DIM}",
            "peer": "scikit-learn, a fit a penalty (the authors' protocol)",
            "peer_ms": peer,
            "mmssl_ms": mine,
            "ratio": peer / mine,
            "largest_difference": difference,
        }
    ]


def _seconds(fit: Callable[[], object]) -> float:
    start = time.perf_counter()
    fit()
    return time.perf_counter() - start
