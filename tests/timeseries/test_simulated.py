"""The simulated recordings: the numbers of the paper, worked out again from what came out."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from mmssl.timeseries.series import SeriesSet
from mmssl.timeseries.simulated import STATES, simulate


@cache
def recordings(seed: int = 1, repeat_inputs: bool = False) -> SeriesSet:
    """The training part."""
    return simulate(seed=seed, repeat_inputs=repeat_inputs)[0]


def states(train: SeriesSet) -> np.ndarray:
    """``(N, S)``, one for each stretch."""
    assert train.labels is not None
    return train.labels.reshape(400, 40, 50)[..., 0]


def test_the_parts_have_the_size_of_the_paper_and_a_state_for_every_row() -> None:
    train, test = simulate()
    assert (len(train), len(test)) == (400, 100)
    assert set(train.lengths) == set(test.lengths) == {2000}
    assert len(train.channels) == 3
    assert train.labels_by_row
    assert train.labels is not None
    assert set(train.labels.tolist()) == set(STATES)
    assert not set(train.ids) & set(test.ids)


def test_it_repeats_by_seed_and_only_by_seed() -> None:
    first, again, other = (simulate(recordings=4, steps=100, seed=seed)[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.values, again.values)
    assert not np.array_equal(first.values, other.values)


def test_states_stay_with_probability_85_percent_and_leave_evenly() -> None:
    train = recordings()
    assert train.labels is not None
    chain = states(train)
    assert (train.labels.reshape(400, 40, 50) == chain[..., None]).all()  # one state for 50 steps
    before, after = chain[:, :-1].ravel(), chain[:, 1:].ravel()
    for a in STATES:
        for b in STATES:
            share = (after[before == a] == b).mean()
            assert share == pytest.approx(0.85 if a == b else 0.05, abs=0.02)


def stretches(name: str, *, channel: int = 0, repeat_inputs: bool = False) -> np.ndarray:
    """``(n, 50)``, all of a state."""
    train = recordings(repeat_inputs=repeat_inputs)
    return train.values[:, channel].reshape(-1, 50)[states(train).ravel() == name].astype(np.float64)


def covariance(x: np.ndarray, lag: int) -> float:
    x = x - x.mean()
    return float((x[:, : 50 - lag] * x[:, lag:]).mean())


def test_the_gaussian_processes_have_the_covariance_of_their_kernels() -> None:
    step = 50 / 49
    for name, kernel in (
        ("periodic", lambda d: 0.1 * np.exp(-2 * np.sin(np.pi * d / 5) ** 2)),
        ("smooth", lambda d: 0.1 * np.exp(-(d**2) / 2)),
    ):
        x = stretches(name)
        assert x.mean() == pytest.approx(0, abs=0.02)
        assert covariance(x, 0) == pytest.approx(0.1 + 0.3**2, rel=0.05)  # with white noise
        for lag in (1, 2, 5):
            assert covariance(x, lag) == pytest.approx(kernel(lag * step), abs=0.006)


def narma(a: tuple[float, ...], initial: list[float], u: np.ndarray) -> np.ndarray:
    """As TimeSynth has it, one value after the other."""
    n = len(initial)
    y = [*initial, *[0.0] * 50]
    for i in range(n, n + 50):
        y[i] = a[0] * y[i - 1] + a[1] * y[i - 1] * sum(y[i - n : n]) + a[2] * u[i - n] * u[i] + a[3]
    return np.array(y[n:])


PROCESSES = {
    "narma-5": ((0.3, 0.05, 1.5, 0.1), [0.671, 0.682, 0.675, 0.687, 0.69]),
    "narma-3": ((0.1, 0.25, 2.5, -0.005), [1.0, 0.97, 0.96]),
}


@pytest.mark.parametrize("name", PROCESSES)
def test_narma_has_the_mean_curve_of_its_recursion(name: str) -> None:
    a, initial = PROCESSES[name]
    rng = np.random.default_rng(0)
    curves = np.stack([narma(a, initial, rng.uniform(0, 0.5, 50 + len(initial))) for _ in range(3000)])
    x = stretches(name)
    np.testing.assert_allclose(x.mean(axis=0), curves.mean(axis=0), atol=0.03)
    assert x[:, 20:].var() == pytest.approx(curves[:, 20:].var() + 0.09, rel=0.05)


@pytest.mark.parametrize("name", PROCESSES)
def test_repeated_inputs_make_all_stretches_of_a_state_the_same_curve(name: str) -> None:
    a, initial = PROCESSES[name]
    u = np.random.default_rng(42).uniform(0, 0.5, 50 + len(initial))
    x = stretches(name, repeat_inputs=True)
    np.testing.assert_allclose(x.mean(axis=0), narma(a, initial, u), atol=0.03)
    assert (x - narma(a, initial, u)).std() == pytest.approx(0.3, rel=0.02)


def test_the_second_channel_follows_the_first_and_the_third_has_the_state_after_next() -> None:
    first, second, _ = recordings().values.T.astype(np.float64)
    rest = second - 0.9 * first - 0.03
    assert rest.mean() == pytest.approx(0, abs=0.005)
    assert rest.std() == pytest.approx(0.4, rel=0.01)
    for i, name in enumerate(STATES):
        third, own = stretches(name, channel=2), stretches(STATES[(i + 2) % 4])
        np.testing.assert_allclose(third.mean(axis=0), own.mean(axis=0), atol=0.05)


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="of a multiple of 50 steps, got 500 of 1999 steps"):
        simulate(steps=1999)
    with pytest.raises(ValueError, match="at least two recordings"):
        simulate(recordings=1)
