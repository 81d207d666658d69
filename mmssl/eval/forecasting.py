"""Forecasting from frozen features: ridge regression from a row's features to all of its next rows at once.

The protocol of TS2Vec (Yue et al., AAAI 2022) and of the papers before it: the features of row t predict rows t + 1 to
t + h; one penalty for all of them, chosen on the validation rows by RMSE + MAE; errors of standardised values. Beside
it stand the forecasts that any features have to beat: the last value, the last season, and the same regression on the
past values themselves.

Values are ``(rows, C)``, the series of all entities one after the other, and a *span* is a range of rows of one entity.
A missing value is never a target. All of it is exact: where targets are missing, each is fitted on the rows that have
it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

PENALTIES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
MAX_ORIGINS = 100_000  # of a part that a regression or a score looks at, evenly spaced; the authors' number
CELLS = 2**24  # target values that are held at a time
FLATTEST = 0.1  # peak of an autocorrelation, above its valleys, that is a season

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Span = tuple[int, int]
Features = Callable[[Rows], npt.NDArray[np.floating]]  # rows (n,) to features (n, D)
Forecaster = Callable[[Rows], npt.NDArray[np.floating]]  # rows (n,) to the next values (n, h, C)


@dataclass(frozen=True, eq=False)
class RidgeForecaster:
    """What `fit_ridge` finds; called with rows ``(n,)`` it gives ``(n, horizon, C)``."""

    features: Features
    weights: Floats  # (D, horizon * C)
    intercept: Floats  # (horizon * C,)
    horizon: int
    penalty: float
    valid_mse: float  # on the rows that chose the penalty; what settings of one's own can be chosen by

    def __call__(self, rows: Rows) -> Floats:
        predicted: Floats = self.features(rows).astype(np.float32) @ self.weights + self.intercept
        return predicted.reshape(len(rows), self.horizon, -1)


@dataclass(frozen=True, eq=False)
class ForecastScore:
    """Errors of a forecaster on the test rows, of standardised values.

    Args:
        horizon: rows ahead.
        mse, mae: mean over rows, leads and channels.
        channel_mse, channel_mae: ``(C,)``; times the channel's variance or standard deviation, in its own unit.
        squared: ``(n,)`` mean squared error of each forecast, NaN where none of its targets is known.
        rows: ``(n,)`` from which the forecasts were made.
    """

    horizon: int
    mse: float
    mae: float
    channel_mse: npt.NDArray[np.float64]
    channel_mae: npt.NDArray[np.float64]
    squared: npt.NDArray[np.float64]
    rows: Rows


def origins(spans: Sequence[Span], horizon: int, *, skip: int = 0) -> Rows:
    """Rows of the spans whose next ``horizon`` rows lie in the same span; at most `MAX_ORIGINS`, evenly spaced.

    Args:
        spans: first row and the row after the last of each.
        horizon: rows ahead.
        skip: rows at the start of each span that are left out: they have no past to speak of.

    Raises:
        ValueError: no span is long enough.
    """
    found = [np.arange(start + skip, stop - horizon) for start, stop in spans]
    rows = np.concatenate([*found, np.zeros(0, np.int64)])
    if len(rows) == 0:
        longest = max(stop - start for start, stop in spans)
        past = f" after the {skip} that are only looked back at" if skip else ""
        raise ValueError(
            f"a horizon of {horizon} rows needs at least {horizon + skip + 1} rows{past}, "
            f"the longest part has {longest}"
        )
    return rows[np.linspace(0, len(rows) - 1, MAX_ORIGINS).astype(np.int64)] if len(rows) > MAX_ORIGINS else rows


def fit_ridge(
    features: Features,
    values: Floats,
    train: Rows,
    valid: Rows,
    *,
    horizon: int,
    penalties: Sequence[float] = PENALTIES,
) -> RidgeForecaster:
    """Ridge regression to all leads and channels; one eigendecomposition serves all penalties.

    Args:
        features: of any rows.
        values: ``(rows, C)``, NaN where missing.
        train: rows to fit on, from `origins`.
        valid: rows on which the penalty is chosen.
        horizon: rows ahead.
        penalties: to choose from.

    Raises:
        ValueError: features that are not finite, or a target that is missing in all training or validation rows.
    """
    x, held = np.array(features(train), dtype=np.float64), np.asarray(features(valid), dtype=np.float32)
    if not (np.isfinite(x).all() and np.isfinite(held).all()):
        raise ValueError("features hold NaN or infinite values; did training diverge?")
    channels = values.shape[1]
    pieces = math.ceil(max(len(train), len(valid)) * horizon * channels / CELLS)
    blocks = np.array_split(np.arange(1, horizon + 1), min(horizon, pieces))
    regression = _Regression(x)
    squares, sizes, count = np.zeros(len(penalties)), np.zeros(len(penalties)), 0
    for leads in blocks:
        truth = targets(values, valid, leads)
        known = ~np.isnan(truth)
        count += int(known.sum())
        for columns, path in regression.paths(targets(values, train, leads)):
            for i, penalty in enumerate(penalties):
                weights, intercept = path(penalty)
                error = (held @ weights + intercept - truth[:, columns])[known[:, columns]]
                squares[i] += np.square(error, dtype=np.float64).sum()
                sizes[i] += np.abs(error).sum(dtype=np.float64)
    if count == 0:
        raise ValueError(f"no validation row has a value in its next {horizon} rows")
    chosen = int(np.argmin(np.sqrt(squares / count) + sizes / count))
    best = float(penalties[chosen])
    weights = np.empty((x.shape[1], horizon * channels), dtype=np.float32)
    intercept = np.empty(horizon * channels, dtype=np.float32)
    for leads in blocks:
        first = (leads[0] - 1) * channels
        for columns, path in regression.paths(targets(values, train, leads)):
            weights[:, first + columns], intercept[first + columns] = path(best)
    return RidgeForecaster(features, weights, intercept, horizon, best, float(squares[chosen] / count))


def targets(values: Floats, rows: Rows, leads: npt.NDArray[np.integer]) -> Floats:
    """What is to be forecast: ``(n, leads * C)``, lead by lead."""
    return values[rows[:, None] + leads].reshape(len(rows), -1)


class _Regression:
    """Ridge regressions from the same features, for any penalty: one decomposition of XᵀX serves them all.

    Args:
        x: ``(n, D)``; centred in place.
    """

    def __init__(self, x: npt.NDArray[np.float64]) -> None:
        self.mean = x.mean(axis=0)
        x -= self.mean
        self.x = x
        self.eigenvalues, self.axes = _eigh(x.T @ x)

    def paths(self, y: Floats) -> Iterator[tuple[npt.NDArray[np.intp], _Path]]:
        """Targets ``(n, m)`` that are known in the same rows, by their columns, and their regression.

        Raises:
            ValueError: a target without a value.
        """
        known = ~np.isnan(y)
        if (empty := ~known.any(axis=0)).any():
            raise ValueError(f"{empty.sum()} of {y.shape[1]} targets have no value in any training row")
        if known.all():
            yield np.arange(y.shape[1]), self._path(y, known[:, 0])
            return
        patterns, member = np.unique(np.packbits(known, axis=0), axis=1, return_inverse=True)
        for pattern in range(patterns.shape[1]):
            columns = np.flatnonzero(member.ravel() == pattern)
            yield columns, self._path(y[:, columns], known[:, columns[0]])

    def _path(self, y: Floats, known: npt.NDArray[np.bool_]) -> _Path:
        """Of targets that are known in some rows. Few that are missing are taken out of the decomposition of all."""
        if known.all():
            level = y.mean(axis=0, dtype=np.float64)
            turned = self.axes.T @ (self.x.T @ (y - level))
            return _Path(self.eigenvalues, self.axes, None, turned, self.mean, level)
        level = y[known].mean(axis=0, dtype=np.float64)
        product = self.x.T @ np.where(known[:, None], y - level, 0.0)
        without = self.x[~known]
        shift = -without.sum(axis=0) / known.sum()  # of the mean of the features
        if len(without) < self.x.shape[1] // 2:
            taken = self.axes.T @ np.column_stack([without.T, math.sqrt(known.sum()) * shift])
            return _Path(self.eigenvalues, self.axes, taken, self.axes.T @ product, self.mean + shift, level)
        rows = self.x[known] - shift
        eigenvalues, axes = _eigh(rows.T @ rows)
        return _Path(eigenvalues, axes, None, axes.T @ product, self.mean + shift, level)


@dataclass(frozen=True, eq=False)
class _Path:
    """Ridge regressions of targets that are known in the same rows, for any penalty.

    With XᵀX = V (Λ - CCᵀ) Vᵀ the weights are V (Λ + penalty - CCᵀ)⁻¹ VᵀXᵀy, where the inverse is that of a diagonal
    matrix and a correction as wide as C (Woodbury).

    Args:
        eigenvalues, axes: Λ ``(D,)`` and V ``(D, D)``.
        taken: C ``(D, k)``; None for none.
        turned: ``VᵀXᵀy`` ``(D, m)``, of centred features and targets.
        mean: ``(D,)`` of the features.
        level: ``(m,)`` mean of the targets.
    """

    eigenvalues: npt.NDArray[np.float64]
    axes: npt.NDArray[np.float64]
    taken: npt.NDArray[np.float64] | None
    turned: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]
    level: npt.NDArray[np.float64]

    def __call__(self, penalty: float) -> tuple[Floats, Floats]:
        """Weights ``(D, m)`` and intercept ``(m,)``."""
        scale = (self.eigenvalues + penalty)[:, None]
        solved = self.turned / scale
        if self.taken is not None:
            small = np.eye(self.taken.shape[1]) - self.taken.T @ (self.taken / scale)
            solved += (self.taken / scale) @ np.linalg.solve(small, self.taken.T @ solved)
        weights = self.axes @ solved
        return weights.astype(np.float32), (self.level - self.mean @ weights).astype(np.float32)


def _eigh(gram: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Eigenvalues, none below 0, and eigenvectors of XᵀX."""
    eigenvalues, axes = np.linalg.eigh(gram)
    return np.maximum(eigenvalues, 0), axes


def by_channel(forecasters: Sequence[Forecaster]) -> Forecaster:
    """One forecaster of several channels from one for each."""
    return lambda rows: np.concatenate([forecast(rows) for forecast in forecasters], axis=2)


def last_value(filled: Floats, *, horizon: int) -> Forecaster:
    """Tomorrow is as today: ``filled`` are values without gaps, from `forward_filled`."""
    return lambda rows: np.repeat(filled[rows][:, None], horizon, axis=1)


def seasonal_naive(filled: Floats, offsets: npt.NDArray[np.int64], *, horizon: int, season: int) -> Forecaster:
    """Each row is as the one a whole number of seasons before it, the latest that is known.

    Where that lies before the entity, or before a break in time, the last value stands for it.

    Args:
        filled: ``(rows, C)`` without gaps.
        offsets: see `past_values`.
        horizon: rows ahead.
        season: rows of a season.
    """
    leads = np.arange(1, horizon + 1)
    back = leads - season * -(-leads // season)  # in (-season, 0]

    def forecast(rows: Rows) -> Floats:
        at = rows[:, None] + back
        start = offsets[np.searchsorted(offsets, rows, side="right") - 1]
        return filled[np.where(at >= start[:, None], at, rows[:, None])]

    return forecast


def past_values(
    filled: Floats, offsets: npt.NDArray[np.int64], *, window: int, extra: Floats | None = None
) -> Features:
    """The last ``window`` values of a channel as features, 0 before an entity begins.

    Args:
        filled: ``(rows,)`` of the channel, without gaps.
        offsets: ``(entities + 1,)``; entity i, or stretch of one between breaks in time, is rows ``offsets[i]`` to
            ``offsets[i + 1]``.
        window: D.
        extra: ``(rows, K)`` further features of a row, such as the hour; appended.
    """

    def features(rows: Rows) -> Floats:
        at = rows[:, None] - np.arange(window)  # (n, window)
        start = offsets[np.searchsorted(offsets, rows, side="right") - 1]
        x = np.where(at >= start[:, None], filled[np.maximum(at, 0)], np.float32(0))
        return x if extra is None else np.concatenate([x, extra[rows]], axis=1)

    return features


def forward_filled(values: Floats, offsets: npt.NDArray[np.int64]) -> Floats:
    """Missing values replaced by the last known one of the entity, by 0 where there is none: ``(rows, C)``."""
    filled = np.empty_like(values)
    for start, stop in pairwise(offsets.tolist()):
        part = values[start:stop]
        known = ~np.isnan(part)
        last = np.maximum.accumulate(np.where(known, np.arange(len(part))[:, None], -1), axis=0)
        taken = np.take_along_axis(part, np.maximum(last, 0), axis=0)
        filled[start:stop] = np.where(last >= 0, taken, 0)
    return filled


def find_season(values: Floats, spans: Sequence[Span]) -> int | None:
    """Rows of the strongest season: the lag at which the training rows are like themselves again; None without one.

    The autocorrelation, averaged over spans and channels after a linear trend is taken out, has a peak there and at
    twice the lag; how far both stand above the valleys half a season to either side decides, since slow changes lift
    short lags. Of peaks that are about as good, the first: two days are a season wherever a day is one. Missing values
    are left out.

    Args:
        values: ``(rows, C)``.
        spans: the training rows; five seasons must fit into the shortest.
    """
    shortest = min(stop - start for start, stop in spans)
    longest = shortest // 5
    if longest < 2:
        return None
    total = np.zeros(longest * 5 // 2 + 1)
    for start, stop in spans:
        for column in values[start:stop].T:
            total += _autocorrelation(column.astype(np.float64), len(total) - 1)
    total /= len(spans) * values.shape[1]

    def height(lag: int, half: int) -> float:
        return float(total[lag] - max(total[lag - half : lag].min(), total[lag : lag + half + 1].min()))

    inner = np.arange(2, longest + 1)
    peaks = inner[(total[inner] >= total[inner - 1]) & (total[inner] > total[inner + 1])]
    heights = np.array([min(height(p, p // 2), height(2 * p, p // 2)) for p in peaks.tolist()])
    if len(peaks) == 0 or heights.max() < max(FLATTEST, 8 / math.sqrt(shortest)):  # noise has peaks, too
        return None
    return int(peaks[np.argmax(heights >= 0.9 * heights.max())])


def _autocorrelation(x: npt.NDArray[np.float64], lags: int) -> npt.NDArray[np.float64]:
    """At lags 0 to ``lags`` of the known values; zeros for a constant."""
    known = ~np.isnan(x)
    if known.sum() < 3:
        return np.zeros(lags + 1)
    t = np.arange(len(x))
    slope, level = np.polyfit(t[known], x[known], 1)
    rest = np.where(known, x - slope * t - level, 0.0)
    if np.square(rest).sum() <= 1e-12 * np.square(x[known]).sum():
        return np.zeros(lags + 1)

    def products(y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        spectrum = np.fft.rfft(y, 2 * len(y))
        correlated: npt.NDArray[np.float64] = np.fft.irfft(np.abs(spectrum) ** 2, 2 * len(y))[: lags + 1]
        return correlated

    mean = products(rest) / np.maximum(np.round(products(known.astype(np.float64))), 1)
    result: npt.NDArray[np.float64] = mean / mean[0]
    return result


def score_forecasts(forecast: Forecaster, values: Floats, rows: Rows, *, horizon: int) -> ForecastScore:
    """Errors of the forecasts made at ``rows``, from `origins`; targets that are missing do not count.

    Raises:
        ValueError: none of the targets has a value.
    """
    channels = values.shape[1]
    squares, sizes, counts = np.zeros(channels), np.zeros(channels), np.zeros(channels)
    each = np.empty(len(rows))
    at_once = max(1, CELLS // (horizon * channels))
    leads = np.arange(1, horizon + 1)
    for start in range(0, len(rows), at_once):
        part = slice(start, start + at_once)
        truth = values[rows[part, None] + leads]  # (n, h, C)
        error = np.asarray(forecast(rows[part]), dtype=np.float64) - truth
        known = ~np.isnan(error)
        error[~known] = 0.0
        square = error**2
        squares += square.sum(axis=(0, 1))
        sizes += np.abs(error).sum(axis=(0, 1))
        counts += known.sum(axis=(0, 1))
        n = known.sum(axis=(1, 2))
        each[part] = np.where(n > 0, square.sum(axis=(1, 2)) / np.maximum(n, 1), np.nan)
    if (counts == 0).any():
        raise ValueError(f"no test row has a value of channel {int(np.argmin(counts))} in its next {horizon} rows")
    total = counts.sum()
    return ForecastScore(
        horizon, float(squares.sum() / total), float(sizes.sum() / total), squares / counts, sizes / counts, each, rows
    )
