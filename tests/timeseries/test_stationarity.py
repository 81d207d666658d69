"""The Dickey–Fuller test against statsmodels, and the neighbourhoods against one test after the other."""

from __future__ import annotations

import math
import warnings
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from mmssl.timeseries import stationarity
from mmssl.timeseries.stationarity import adf, longest_lag, neighbourhood_sizes, p_value

Floats = npt.NDArray[np.float64]


def noise(n: int, steps: int) -> Floats:
    return np.random.default_rng(0).standard_normal((n, steps))


def walks(n: int, steps: int) -> Floats:
    return np.random.default_rng(1).standard_normal((n, steps)).cumsum(axis=1)


def waves(n: int, steps: int) -> Floats:
    return 1e3 + np.sin(np.arange(steps) / 7) + 0.01 * np.random.default_rng(2).standard_normal((n, steps))


def autoregressive(n: int, steps: int) -> Floats:
    """With a long memory, so that many lags are chosen."""
    x = np.random.default_rng(3).standard_normal((n, steps))
    for t in range(4, steps):
        x[:, t] += 0.6 * x[:, t - 1] + 0.3 * x[:, t - 4]
    return x


def reference(x: Floats, **options: Any) -> tuple[Floats, Floats]:
    """Statistics and p-values by statsmodels, one series after the other."""
    stattools = pytest.importorskip("statsmodels.tsa.stattools")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a return type that will change
        both = np.array([stattools.adfuller(row, **options)[:2] for row in x])
    return both[:, 0], both[:, 1]


@pytest.mark.filterwarnings("ignore")  # statsmodels' own, while it is imported
@pytest.mark.parametrize("steps", [12, 25, 60, 300])
@pytest.mark.parametrize("make", [noise, walks, waves, autoregressive])
def test_the_statistic_and_its_p_value_are_those_of_statsmodels(make: Any, steps: int) -> None:
    x = make(6, steps)
    statistic, p = reference(x)
    ours = adf(torch.from_numpy(x))
    np.testing.assert_allclose(ours.numpy(), statistic, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(p_value(ours).numpy(), p, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("lags", [0, 1, 5])
def test_a_given_lag_is_that_of_statsmodels(lags: int) -> None:
    x = autoregressive(5, 80)
    statistic, _ = reference(x, maxlag=lags, autolag=None)
    np.testing.assert_allclose(adf(torch.from_numpy(x), lags=lags).numpy(), statistic, rtol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_the_p_value_is_mackinnons_everywhere() -> None:
    mackinnonp = pytest.importorskip("statsmodels.tsa.adfvalues").mackinnonp
    grid = np.array([-40.0, -18.84, -18.82, -8, -3.43, -1.62, -1.61, -1.6, 0, 2.73, 2.75, 9])
    np.testing.assert_allclose(p_value(torch.from_numpy(grid)).numpy(), [mackinnonp(g) for g in grid], atol=1e-12)
    assert p_value(torch.tensor([math.nan])).isnan().all()


def test_series_in_chunks_are_the_series_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.from_numpy(walks(7, 40))
    whole = adf(x)
    monkeypatch.setattr(stationarity, "CHUNK", 3 * 40 * (longest_lag(40) + 2))
    torch.testing.assert_close(adf(x), whole, rtol=1e-9, atol=0)


def test_a_constant_or_incomplete_series_has_no_statistic() -> None:
    x = torch.from_numpy(noise(4, 50))
    x[1] = 3.0
    x[2, 20] = math.nan
    assert adf(x).isnan().tolist() == [False, True, True, False]
    assert adf(x, lags=2).isnan().tolist() == [False, True, True, False]
    torch.testing.assert_close(adf(x)[3], adf(x[3:])[0])
    assert adf(x[:0]).shape == (0,)


def test_what_is_too_short_is_refused_with_its_length() -> None:
    with pytest.raises(ValueError, match="needs more than 3 timestamps"):
        adf(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="with 9 lags needs more than 20 timestamps"):
        adf(torch.zeros(2, 20), lags=9)
    with pytest.raises(ValueError, match=r"expected series \(N, T\), got \(2, 9, 1\)"):
        adf(torch.zeros(2, 9, 1))


# -------------------------------------------------------------------------------------------------- neighbourhoods


def by_the_authors_rule(x: Floats, t: int, window: int) -> int:
    """One test after the other, as their loader does for each sample."""
    stattools = pytest.importorskip("statsmodels.tsa.stattools")
    for width in (1, 2, 3):
        part = x[max(0, t - width * window) : t + width * window]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if np.mean([stattools.adfuller(channel)[1] for channel in part.T]) >= 0.01:
                return width
    return 3


@pytest.mark.filterwarnings("ignore")
def test_sizes_are_those_of_the_authors_rule_also_at_the_ends_of_recordings() -> None:
    window = 20
    calm, wild = noise(2, 400).T, walks(2, 300).T
    mixed = np.concatenate([calm[:150], 5 + 0.2 * wild[:150], calm[150:300]])
    values = np.concatenate([calm, wild, mixed]).astype(np.float32)
    offsets = np.array([0, 400, 700, 1000])
    entity = np.repeat([0, 1, 2], 12)
    within = np.tile(np.linspace(10, 285, 12).astype(int), 3)
    sizes = neighbourhood_sizes(values, offsets[entity] + within, offsets[entity], offsets[entity + 1], window=window)
    parts = [values[a:b].astype(np.float64) for a, b in pairwise(offsets)]
    assert sizes.tolist() == [by_the_authors_rule(parts[e], t, window) for e, t in zip(entity, within, strict=True)]
    assert set(sizes) == {1, 2, 3}


def test_a_constant_channel_is_stationary_and_one_with_gaps_does_not_count() -> None:
    x = np.concatenate([noise(1, 400), walks(1, 400), np.ones((1, 400))]).T.astype(np.float32)

    def size(*channels: int, missing: tuple[int, ...] = ()) -> int:
        part = x[:, list(channels)]
        part[195, list(missing)] = np.nan
        return int(neighbourhood_sizes(part, np.array([200]), np.array([0]), np.array([400]), window=30)[0])

    assert size(0) == size(2) == size(0, 2) == 3
    assert size(1) == 1
    assert size(0, 1, missing=(1,)) == 3
    assert size(0, missing=(0,)) == 1  # nothing is known


def test_stretches_too_short_for_a_test_have_the_smallest_neighbourhood() -> None:
    one = np.array([1])
    assert neighbourhood_sizes(np.zeros((3, 1), np.float32), one, one - 1, one + 2, window=2).tolist() == [1]
