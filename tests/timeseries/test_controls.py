"""Statistics against pandas, one window and channel at a time; raw values; MiniRocket on what it cannot take itself."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mmssl.timeseries import controls
from mmssl.timeseries.controls import minirocket, raw, statistics
from mmssl.timeseries.series import SeriesSet, Windows, as_objects, cut_windows


def ragged(lengths: list[int], *, channels: int = 2, missing: float = 0.0, seed: int = 0) -> Windows:
    rng = np.random.default_rng(seed)
    values = rng.normal(3, 2, size=(sum(lengths), channels)).astype(np.float32)
    values[rng.random(values.shape) < missing] = np.nan
    return cut_windows(
        SeriesSet(
            values,
            np.concatenate([[0], np.cumsum(lengths)]),
            as_objects([str(i) for i in range(len(lengths))]),
            tuple(f"c{i}" for i in range(channels)),
        )
    )


def slow_statistics(x: pd.Series) -> list[float]:
    """The twelve numbers of one channel of one window, in words of pandas."""
    seen = x.dropna()
    if seen.empty:
        return [0.0] * 11 + [1.0]
    d = x - x.mean()
    std = x.std(ddof=0)
    pairs = [(d.iloc[t - 1], d.iloc[t]) for t in range(1, len(x)) if x.notna().iloc[t - 1] and x.notna().iloc[t]]
    changes = x.diff().abs().dropna()
    return [
        x.mean(),
        std,
        *(float(np.sort(seen)[round(q * (len(seen) - 1))]) for q in (0, 0.25, 0.5, 0.75, 1)),
        (d**3).sum() / len(seen) / (std**3 or 1),
        changes.mean() if len(changes) else 0.0,
        sum(a * b for a, b in pairs) / len(seen) / (std**2 or 1),
        np.mean([(a > 0) != (b > 0) for a, b in pairs]) if pairs else 0.0,
        1 - len(seen) / len(x),
    ]


@pytest.mark.parametrize("missing", [0.0, 0.2, 0.7])
def test_statistics_are_those_of_pandas_window_by_window(monkeypatch: pytest.MonkeyPatch, missing: float) -> None:
    monkeypatch.setattr(controls, "CHUNK", 100)  # several chunks
    windows = ragged([30, 7, 1, 2, 18], missing=missing)
    got = statistics(windows)
    assert got.shape == (5, 24)
    for i in range(5):
        window = pd.DataFrame(windows.fetch(np.array([i]))[0].astype(np.float64))
        want = np.array([slow_statistics(window[c]) for c in window]).T.ravel()
        np.testing.assert_allclose(got[i], want, rtol=1e-4, atol=1e-5)


def test_statistics_of_nothing_and_of_constants_are_finite() -> None:
    windows = ragged([10, 10])
    windows.series.values[:10, 0] = np.nan
    windows.series.values[10:, 1] = 4.0
    got = statistics(windows)
    assert np.isfinite(got).all()
    assert got[0, ::2].tolist() == [0.0] * 11 + [1.0]
    assert got[1, 1::2].tolist() == [4, 0, 4, 4, 4, 4, 4, 0, 0, 0, 0, 0]


@pytest.mark.slow  # its kernels are compiled on the first call
def test_minirocket_takes_ragged_windows_with_gaps() -> None:
    train, test = ragged([30, 12, 25, 9], missing=0.2), ragged([14, 30, 5], missing=0.2, seed=1)
    train.series.values[:30, 1] = np.nan  # a channel without a value
    a, b = minirocket(train, test)
    assert a.shape[0] == 4
    assert b.shape == (3, a.shape[1])
    assert np.isfinite(a).all()
    assert np.isfinite(b).all()
    assert (a.std(axis=0) > 0).any()


def test_gaps_are_bridged_in_a_line_and_short_windows_stretched() -> None:
    windows = ragged([5, 9], channels=1)
    windows.series.values[:5, 0] = [0, np.nan, 2, 3, np.nan]
    out = controls._filled(windows, 9)
    np.testing.assert_allclose(out[0, 0], [0, 0.5, 1, 1.5, 2, 2.5, 3, 3, 3], rtol=1e-6)
    np.testing.assert_array_equal(out[1, 0], windows.series.values[5:, 0])


def test_minirocket_repeats_by_seed() -> None:
    train, test = ragged([20] * 6), ragged([20] * 3, seed=1)
    np.testing.assert_array_equal(minirocket(train, test)[1], minirocket(train, test)[1])


def test_many_windows_get_fewer_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controls, "ROCKET_BYTES", 4 * 9 * 200)
    a, b = minirocket(ragged([20] * 6), ragged([20] * 3, seed=1))
    assert a.nbytes + b.nbytes <= 4 * 9 * 200


def test_raw_windows_are_their_values_with_zeros_where_there_is_none() -> None:
    windows = ragged([5, 3])
    windows.series.values[1, 0] = np.nan
    x = raw(windows)
    assert x.shape == (2, 10)
    expected = np.concatenate([windows.series.values.ravel(), np.zeros(4, np.float32)])
    np.testing.assert_array_equal(x.ravel(), np.where(np.isnan(expected), 0, expected))


def test_windows_that_are_too_short_for_its_kernels_are_refused() -> None:
    with pytest.raises(ValueError, match="MiniRocket needs windows of at least 9 rows, got 8"):
        minirocket(ragged([8, 5]), ragged([3]))


def test_without_aeon_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def absent(name: str, *arguments: Any, **more: Any) -> Any:
        if name.startswith("aeon"):
            raise ModuleNotFoundError("No module named 'aeon'")
        return original(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "mmssl\[timeseries\]", or leave it out'):
        minirocket(ragged([20]), ragged([20]))


def test_minirocket_leaves_the_number_of_torch_threads_alone() -> None:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)  # a user's limit, which numba would lift
    try:
        series = SeriesSet.from_array(np.random.default_rng(0).standard_normal((4, 12, 1)))
        minirocket(cut_windows(series), cut_windows(series))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
