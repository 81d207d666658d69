"""The simulated recordings of TNC: four hidden states, three channels, 2,000 steps (Tonekaboni et al., ICLR 2021).

A Markov chain chooses a state every 50 steps. Each state has a process of its own: a Gaussian process with a periodic
kernel, two kinds of NARMA, and a Gaussian process with a squared exponential kernel, all with white noise. The second
channel follows the first, the third one has the process of another state.

Written from the paper (arXiv 2106.00750, appendix) and held against the authors' generator and the TimeSynth package
that it uses, from which come the numbers that the paper does not give. What they do differently:
- every stretch of NARMA gets inputs of its own here; TimeSynth as published seeds them with 42 each time, so that with
  the authors' script all stretches of such a state are one curve under other noise, which is easier to recognise;
- their script subtracts mean / std instead of standardising, by a missing pair of brackets; here nothing is scaled.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mmssl.timeseries.series import SeriesSet, as_objects

Floats = npt.NDArray[np.float64]

STATES = ("periodic", "narma-5", "smooth", "narma-3")  # in the order of the paper
STRETCH = 50  # steps between two draws of the state
STAYS = 0.85  # probability that a state follows itself; any other one has 0.05
NOISE = 0.3  # standard deviation of the white noise
VARIANCE = 0.1  # of the Gaussian processes
PERIOD = 5.0
TEST_SHARE = 0.2


def simulate(
    *, recordings: int = 500, steps: int = 2000, seed: int = 0, repeat_inputs: bool = False
) -> tuple[SeriesSet, SeriesSet]:
    """The train and the test part, four to one; every row is labelled with its state.

    Args:
        recordings: of both parts together.
        steps: of a recording, a multiple of 50.
        seed: of everything.
        repeat_inputs: use the same inputs for all stretches of NARMA, as the authors' data has it.
    """
    if recordings < 2 or steps < STRETCH or steps % STRETCH:
        raise ValueError(
            f"there must be at least two recordings of a multiple of {STRETCH} steps, got {recordings} of {steps} steps"
        )
    rng = np.random.default_rng(seed)
    states = _markov_chain(rng, recordings, steps // STRETCH)  # (N, S)
    flat = states.ravel()
    first = _stretches(rng, flat, repeat_inputs)  # (N · S, 50)
    second = 0.9 * first + 0.03 + 0.4 * rng.standard_normal(first.shape)
    third = _stretches(rng, (flat + 2) % len(STATES), repeat_inputs)
    values = np.stack([first, second, third], axis=-1).reshape(recordings, steps, 3)
    names = as_objects(STATES)[states.repeat(STRETCH, axis=1)]  # (N, T)
    held_out = max(1, round(TEST_SHARE * recordings))
    parts = (slice(0, recordings - held_out), slice(recordings - held_out, recordings))
    train, test = (
        _series(values[part], names[part], kind) for part, kind in zip(parts, ("train", "test"), strict=True)
    )
    return train, test


def _series(values: Floats, names: npt.NDArray[np.object_], part: str) -> SeriesSet:
    n, steps, channels = values.shape
    return SeriesSet(
        values=values.reshape(-1, channels).astype(np.float32),
        offsets=np.arange(0, n * steps + 1, steps, dtype=np.int64),
        ids=as_objects([f"{part}-{i}" for i in range(n)]),
        channels=("signal", "follower", "other"),
        labels=names.ravel(),
    )


def _markov_chain(rng: np.random.Generator, n: int, length: int) -> npt.NDArray[np.int64]:
    """``(n, length)`` states; leaving one, all others are as likely."""
    leaves = rng.random((n, length)) >= STAYS
    jumps = np.where(leaves, rng.integers(1, len(STATES), (n, length)), 0)
    jumps[:, 0] = rng.integers(len(STATES), size=n)
    return jumps.cumsum(axis=1) % len(STATES)


def _stretches(rng: np.random.Generator, states: npt.NDArray[np.int64], repeat_inputs: bool) -> Floats:
    """One stretch for each state, with white noise: ``(n,)`` to ``(n, 50)``."""
    time = np.linspace(0, STRETCH, STRETCH)  # as TimeSynth samples it: 50 points, both ends included
    apart = time[:, None] - time
    out = np.empty((len(states), STRETCH))
    for state, name in enumerate(STATES):
        here = states == state
        n = int(here.sum())
        if name == "periodic":
            out[here] = _gaussian_process(rng, n, VARIANCE * np.exp(-2 * np.sin(np.pi * apart / PERIOD) ** 2))
        elif name == "smooth":
            out[here] = _gaussian_process(rng, n, VARIANCE * np.exp(-(apart**2) / 2))
        elif name == "narma-5":
            out[here] = _narma(rng, n, (0.3, 0.05, 1.5, 0.1), (0.671, 0.682, 0.675, 0.687, 0.69), repeat_inputs)
        else:
            out[here] = _narma(rng, n, (0.1, 0.25, 2.5, -0.005), (1.0, 0.97, 0.96), repeat_inputs)
    return out + NOISE * rng.standard_normal(out.shape)


def _gaussian_process(rng: np.random.Generator, n: int, covariance: Floats) -> Floats:
    value, vector = np.linalg.eigh(covariance)  # not Cholesky: a periodic kernel has few eigenvalues above 0
    return rng.standard_normal((n, len(value))) @ (vector * np.sqrt(value.clip(min=0))).T


def _narma(
    rng: np.random.Generator,
    n: int,
    a: tuple[float, float, float, float],
    initial: tuple[float, ...],
    repeat_inputs: bool,
) -> Floats:
    """y(t) = a0 · y(t-1) + a1 · y(t-1) · Σ y + a2 · u(t-order) · u(t) + a3, with inputs u from 0 to 1/2.

    The sum is over those of the last ``order`` values that are initial ones, as TimeSynth has it. Over all of them, as
    NARMA is defined, the second process starts beside an unstable point, and a third of its stretches grow beyond all
    bounds.
    """
    order = len(initial)
    u = rng.uniform(0, 0.5, (n, order + STRETCH))
    if repeat_inputs:
        u[:] = np.random.default_rng(42).uniform(0, 0.5, order + STRETCH)
    y = np.empty((n, order + STRETCH))
    y[:, :order] = initial
    for t in range(order, order + STRETCH):
        before = y[:, t - 1]
        y[:, t] = a[0] * before + a[1] * before * sum(initial[t - order :]) + a[2] * u[:, t - order] * u[:, t] + a[3]
    return y[:, order:]
