"""Rows on a regular grid, and last values that are held: what becomes of sensors that each report when they like."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mmssl.timeseries.series import SeriesSet
from mmssl.timeseries.times import Times, distances, span_text

MAX_GRID_ROWS = 50  # a grid may have this many rows for every row of the data


def on_grid(
    series: SeriesSet, grid: int | float, labels: npt.NDArray[np.int32] | None
) -> tuple[SeriesSet, npt.NDArray[np.int32] | None]:
    """Mean of every bin of the grid, stretch by stretch; a bin without a row is missing.

    Args:
        series: with times.
        grid: nanoseconds, or the unit of the times.
        labels: ``(rows,)`` codes, -1 for none.

    Raises:
        ValueError: there are no times, or the grid is far finer than they are.
    """
    if series.times is None:
        raise ValueError("data.resample needs times, but none are known; set data.time to the column that holds them")
    if not grid > 0:
        raise ValueError(f"data.resample must be positive, got {grid}")
    cell = _cells(series.times, grid)
    begins, sizes, owner = series.stretches()
    first = cell[begins]
    lengths = cell[begins + sizes - 1] - first + 1
    rows, total = len(series.times), int(lengths.sum())
    if total > MAX_GRID_ROWS * rows:
        median = span_text(float(np.median(distances(series))), series.time_kind)
        raise ValueError(
            f"data.resample={span_text(grid, series.time_kind)} would turn {rows:,} rows into {total:,}, nearly all of "
            f"them missing; the median distance of two rows is {median}: set data.resample to that or more, or check "
            "that data.time is in the unit you think"
        )
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    cell += np.repeat(offsets[:-1] - first, sizes)  # from here on a row of the result
    starts = np.flatnonzero(np.concatenate([[True], cell[1:] != cell[:-1]]))
    filled = cell[starts]
    values = np.full((total, len(series.channels)), np.nan, dtype=np.float32)
    for c in range(values.shape[1]):
        column = series.values[:, c]
        seen = ~np.isnan(column)
        sums = np.add.reduceat(np.where(seen, column, 0).astype(np.float64), starts)
        counts = np.add.reduceat(seen, starts, dtype=np.int64)
        values[filled, c] = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    nth = np.arange(total) - np.repeat(offsets[:-1], lengths) + np.repeat(first, lengths)
    datetimes = series.time_kind == "datetime"
    resampled = replace(
        series,
        values=values,
        offsets=np.append(offsets[:-1][np.diff(owner, prepend=-1) > 0], total),
        breaks=None if series.breaks is None else offsets[:-1][np.diff(owner, prepend=-1) == 0],
        times=nth * int(grid) if datetimes else (nth * grid).astype(np.float64),
        step=grid / 1e9 if datetimes else float(grid),
    )
    return resampled, None if labels is None else _labels_on_grid(labels, starts, filled, total)


def with_missing_rows(series: SeriesSet, step: float) -> SeriesSet:
    """A missing row wherever the next one is later than a step, so that its rows are regular; the times of others stay.

    Args:
        series: with times.
        step: see `SeriesSet.step`.

    Returns:
        The series as it is where that makes no sense: rows lie closer than half a step, or nearly all would be missing.
    """
    assert series.times is not None
    unit = round(step * 1e9) if series.time_kind == "datetime" else step
    rows, starts = len(series.times), series.stretches()[0]
    later = np.rint(np.diff(series.times, prepend=0) / unit).astype(np.int64)  # of each row, in steps
    later[starts[starts < rows]] = 1
    place = np.append(np.cumsum(later) - 1, later.sum())  # in the result; one more for where it ends
    total = int(place[-1])
    if later.min() < 1 or total > MAX_GRID_ROWS * rows:
        return series
    values = np.full((total, len(series.channels)), np.nan, dtype=np.float32)
    values[place[:-1]] = series.values
    before = np.repeat(np.arange(rows), np.diff(place))
    nth = np.arange(total) - place[before]  # missing row after the one before
    labels = series.labels
    if labels is not None and series.labels_by_row:
        agreed = labels[before] == labels[before + (nth > 0)]
        labels = labels[before]
        labels[~agreed] = None
    return replace(
        series,
        values=values,
        offsets=place[series.offsets],
        times=series.times[before] + nth * unit,
        labels=labels,
        step=step,
        breaks=None if series.breaks is None else place[series.breaks],
    )


def _cells(times: Times, grid: int | float) -> npt.NDArray[np.int64]:
    """Number of the grid cell of every time, counted from time 0."""
    if times.dtype == np.int64:
        return (times // int(grid)).astype(np.int64)
    cell = times / grid  # 0.3 / 0.1 is 2.9999…, and belongs to cell 3
    nearest = np.rint(cell)
    rounding = 1e-6 + 2 * np.finfo(np.float64).eps * np.abs(cell)  # of the times, the grid and their quotient
    return np.where(np.abs(cell - nearest) <= rounding, nearest, np.floor(cell)).astype(np.int64)


def _labels_on_grid(
    labels: npt.NDArray[np.int32], starts: npt.NDArray[np.int64], filled: npt.NDArray[np.int64], total: int
) -> npt.NDArray[np.int32]:
    """The last known label of a bin; an empty bin has one where its neighbours before and after agree."""
    known = np.maximum.accumulate(np.where(labels >= 0, np.arange(len(labels)), -1))
    last = known[np.concatenate([starts[1:], [len(labels)]]) - 1]
    of_bin = np.where(last >= starts, labels[last], -1)  # (bins with rows,)
    position = np.full(total, -1, dtype=np.int64)
    position[filled] = np.arange(len(filled))
    before = np.maximum.accumulate(position)
    after = before + (position < 0)  # the first and the last bin of a stretch have rows: both are in the same one
    return np.where(of_bin[before] == of_bin[after], of_bin[before], -1).astype(np.int32)


def hold_last(series: SeriesSet, age: int | float) -> None:
    """Fill missing values, in place, by the last one of the same channel and stretch that is no older than ``age``.

    For sensors that are logged when they change. What is older stays missing.

    Args:
        series: sorted by time.
        age: in the unit of the times; rows where there are none.
    """
    if not age > 0:
        raise ValueError(f"data.hold must be positive, got {age}")
    row = np.arange(len(series.values))
    time = row if series.times is None else series.times
    first = np.repeat(*series.stretches()[:2])
    for column in series.values.T:
        last = np.maximum.accumulate(np.where(np.isnan(column), first - 1, row))
        held = np.flatnonzero(np.isnan(column) & (last >= first))
        held = held[time[held] - time[last[held]] <= age]
        column[held] = column[last[held]]
