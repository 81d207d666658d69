"""Intervals: how far a mean over seeds, or a difference between two encoders, can be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Hits = npt.NDArray[Any]  # right or wrong; or what each example contributes to another measure
MAX_CLUSTERS = 4_000  # resampled; more groups are dealt into so many, which costs the interval some 2 % of precision


class Interval(NamedTuple):
    """Mean and half the width of its 95 % interval, which is NaN for a single value."""

    mean: float
    half_width: float
    n: int


class Difference(NamedTuple):
    """A difference of two accuracies, or values of another measure, with its 95 % interval.

    Args:
        value: ours minus theirs.
        low: lower end of the interval.
        high: upper end.
        differing: groups of test examples on which the two are not equally good.
        groups: groups of test examples.
    """

    value: float
    low: float
    high: float
    differing: int
    groups: int

    @property
    def sign(self) -> int:
        """1 or -1 where the difference can be told from none, else 0.

        The interval must exclude 0, and at least six groups must differ: even if all of them speak for the same side,
        a sign test on five gives p = 0.0625, and a bootstrap of so few is too sure of itself.
        """
        if self.differing < 6 or self.low <= 0 <= self.high:
            return 0
        return 1 if self.low > 0 else -1


def mean_interval(values: Sequence[float]) -> Interval:
    """Average with a 95 % t-interval.

    Raises:
        ValueError: no values.
    """
    if len(values) == 0:
        raise ValueError("no values to average")
    mean, n = float(np.mean(values)), len(values)
    if n == 1:
        return Interval(mean, math.nan, 1)
    from scipy.stats import t

    return Interval(mean, float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n)), n)


def paired_difference(
    ours: Hits,
    theirs: Hits,
    groups: npt.NDArray[np.generic] | None = None,
    *,
    resamples: int = 2_000,
    seed: int = 0,
) -> Difference:
    """Compare two encoders on the same test examples by a cluster bootstrap over test groups and seeds.

    Groups (and seeds) are resampled one fewer than there are, which makes the variance of the resampled mean unbiased
    however few they are (Rao and Wu, 1988); the interval is the percentile one.

    Args:
        ours: ``(seeds, n_test)`` or ``(seeds, draws, n_test)``, right or wrong, or the parts of another measure (see
            `mmssl.eval.measures`). Draws within several seeds are averaged, since they share an encoder; draws of one
            seed are resampled.
        theirs: likewise; one seed serves for all of ours.
        groups: ``(n_test,)``, test examples of one group are resampled together; None takes each by itself.
        resamples: number of bootstrap resamples.
        seed: seed of the resampling.

    Raises:
        ValueError: shapes that do not match.
    """
    if ours.shape[1:] != theirs.shape[1:] or len(theirs) not in (1, len(ours)):
        raise ValueError(f"cannot pair hits of shape {ours.shape} with hits of shape {theirs.shape}")
    gain = ours.astype(np.float64) - theirs
    if gain.ndim == 3:
        gain = gain.mean(axis=1) if len(gain) > 1 else gain[0]
    n_test = gain.shape[1]
    codes = np.arange(n_test) if groups is None else np.unique(groups, return_inverse=True)[1]
    if codes.shape != (n_test,):
        raise ValueError(f"groups of shape {codes.shape} for {n_test} test examples")
    sizes, sums = _per_group(gain, codes)
    differing = int(np.count_nonzero(np.abs(sums.mean(axis=0)) > 1e-9))
    n_groups = len(sizes)
    rng = np.random.default_rng(seed)
    if n_groups > MAX_CLUSTERS:
        codes = (rng.permutation(n_groups) % MAX_CLUSTERS)[codes]
        sizes, sums = _per_group(gain, codes)
    units = _counts(len(sums), resamples, rng)  # (B, U)
    groups_drawn = _counts(len(sizes), resamples, rng)  # (B, G)
    totals = np.einsum("bg,bg->b", units @ sums, groups_drawn)
    values = totals / (units.sum(axis=1) * (groups_drawn @ sizes))
    # Rounded, lest a resample without a difference counts as one of 1e-17.
    low, high = np.quantile(np.round(values, 12), (0.025, 0.975))
    return Difference(float(gain.mean()), float(low), float(high), differing, n_groups)


def _per_group(
    gain: npt.NDArray[np.float64], codes: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Count the examples of each group, ``(G,)``, and sum the gains of each unit over it, ``(U, G)``."""
    sums = np.stack([np.bincount(codes, weights=row).astype(np.float64) for row in gain])
    return np.bincount(codes), sums


def _counts(n: int, count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    return rng.multinomial(max(n - 1, 1), np.full(n, 1 / n), size=count)
