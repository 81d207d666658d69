"""From loose rows to a `SeriesSet`: order, labels, what makes rows unusable, and the regular grid. NumPy only."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mmssl.timeseries.series import Labels, SeriesSet, as_objects

Times = npt.NDArray[np.int64] | npt.NDArray[np.float64]

REGULAR = 0.01  # distances within this share of their median make a series regular
MAX_GRID_ROWS = 50  # a grid may have this many rows for every row of the data


def series_from_rows(
    values: npt.NDArray[np.float32],
    codes: npt.NDArray[np.int32],
    *,
    ids: Sequence[object],
    channels: Sequence[str],
    times: Times | None = None,
    labels: npt.NDArray[np.int32] | None = None,
    label_names: Sequence[object] = (),
    grid: int | float | None = None,
) -> SeriesSet:
    """Rows in any order become one series an entity, sorted by time.

    Args:
        values: ``(rows, C)``; sorted in place, one channel at a time, so that no second copy is needed.
        codes: ``(rows,)``, position of each row's entity in ``ids``, which are in order of first appearance.
        ids: name of every entity.
        channels: name of every channel.
        times: ``(rows,)`` int64 nanoseconds or float64; rows stay in their order within an entity if None.
        labels: ``(rows,)``, position in ``label_names`` or -1 for an unlabelled row.
        label_names: what the label codes stand for.
        grid: put the rows on this regular grid (nanoseconds, or the unit of ``times``) by the mean of each bin.

    Raises:
        ValueError: repeated times, infinite values, a channel without a value, or a grid far finer than the data.
    """
    order = _order(codes, times)
    if order is not None:
        for column in values.T:
            column[:] = column[order]
        codes = codes[order]
        times = None if times is None else times[order]
        labels = None if labels is None else labels[order]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=len(ids)))]).astype(np.int64)
    series = SeriesSet(
        values=values,
        offsets=offsets,
        ids=as_objects(ids),
        channels=tuple(channels),
        times=times,
        time_kind=_kind(times),
    )
    check_channels(series)
    if grid is not None:
        series, labels = _on_grid(series, grid, labels)
    elif times is not None:
        _refuse_repeated_times(series)
        series = replace(series, step=_step(series))
    return series if labels is None else replace(series, labels=_labels(labels, label_names, series.offsets))


def check_channels(series: SeriesSet) -> None:
    """Refuse channels without a value or with infinite ones; warn of constant ones, which carry no information."""
    low = np.fmin.reduce(series.values, axis=0)  # NaN where a channel has no value at all
    high = np.fmax.reduce(series.values, axis=0)
    empty = [name for name, value in zip(series.channels, low, strict=True) if np.isnan(value)]
    if empty:
        raise ValueError(
            f"{_count(empty, 'channel')} {_names(empty)} {'has' if len(empty) == 1 else 'have'} no value in any row; "
            "list the other channels in data.channels to leave it out"
        )
    for c in np.flatnonzero(np.isinf(low) | np.isinf(high)):
        rows = np.flatnonzero(np.isinf(series.values[:, c]))
        raise ValueError(
            f"channel {series.channels[c]!r} has {_count(len(rows), 'infinite value')} (or beyond float32), the first "
            f"in {where(series, int(rows[0]))}; replace them by empty cells to treat them as missing"
        )
    constant = [series.channels[c] for c in np.flatnonzero(low == high)]
    if constant and len(series.values) > 1:
        warnings.warn(
            f"{_count(constant, 'channel')} {_names(constant)} never changed: no information in it; "
            "data.channels can leave it out",
            UserWarning,
            stacklevel=2,
        )


def distances(series: SeriesSet) -> Times:
    """From each row to the next of the same entity, in the unit of ``series.times``."""
    if series.times is None:
        raise ValueError("series without times have no distances between their rows")
    inside = np.ones(max(len(series.times) - 1, 0), dtype=bool)
    ends = series.offsets[1:-1]
    inside[ends[(ends > 0) & (ends < len(series.times))] - 1] = False
    return np.diff(series.times)[inside]


def where(series: SeriesSet, row: int) -> str:
    """A row in words: its entity and its time, or its number where there are no times."""
    entity = int(np.searchsorted(series.offsets, row, side="right")) - 1
    place = (
        f"row {row - series.offsets[entity]} (counted from 0)"
        if series.times is None
        else time_text(series.times[row], series.time_kind)
    )
    return f"entity {series.ids[entity]!r} at {place}"


def time_text(time: np.int64 | np.float64 | int | float, kind: str) -> str:
    """One time as people write it."""
    if kind != "datetime":
        return f"{time:.15g}"
    return str(np.datetime_as_string(np.datetime64(int(time), "ns"), unit="auto"))


def span_text(span: float, kind: str) -> str:
    """A distance of two times, given in nanoseconds for datetimes, with its unit."""
    if kind != "datetime":
        return f"{span:g}"
    seconds = span / 1e9
    unit, size = next((u for u in (("d", 86400), ("h", 3600), ("min", 60)) if seconds >= 2 * u[1]), ("s", 1))
    return f"{seconds / size:.4g} {unit}"


def _order(codes: npt.NDArray[np.int32], times: Times | None) -> npt.NDArray[np.int64] | None:
    """What sorts the rows by entity, then time, keeping equal ones in order; None where they are sorted already."""
    if times is None:
        return None if (codes[1:] >= codes[:-1]).all() else np.argsort(codes, kind="stable")
    ordered = (codes[1:] > codes[:-1]) | ((codes[1:] == codes[:-1]) & (times[1:] >= times[:-1]))
    return None if ordered.all() else np.lexsort((times, codes))


def _refuse_repeated_times(series: SeriesSet) -> None:
    gaps = distances(series)
    repeats = int(np.count_nonzero(gaps == 0))
    if not repeats:
        return
    times = series.times
    assert times is not None
    entity = np.repeat(np.arange(len(series)), series.lengths)
    first = int(np.flatnonzero((times[1:] == times[:-1]) & (entity[1:] == entity[:-1]))[0])
    raise ValueError(
        f"{_count(repeats, 'row')} {'repeats' if repeats == 1 else 'repeat'} the time of another row of the same "
        f"entity, the first in {where(series, first)}; set data.id to the column that tells the entities apart, or "
        "data.resample to a step, which averages them"
    )


def _step(series: SeriesSet) -> float | None:
    gaps = distances(series)
    if not len(gaps):
        return None
    step = float(np.median(gaps))
    if gaps.min() < step * (1 - REGULAR) or gaps.max() > step * (1 + REGULAR):
        return None
    return step / 1e9 if series.time_kind == "datetime" else step


def _on_grid(
    series: SeriesSet, grid: int | float, labels: npt.NDArray[np.int32] | None
) -> tuple[SeriesSet, npt.NDArray[np.int32] | None]:
    """Mean of every bin of the grid; a bin without a row is missing."""
    if series.times is None:
        raise ValueError("data.resample needs times, but none are known; set data.time to the column that holds them")
    if not grid > 0:
        raise ValueError(f"data.resample must be positive, got {grid}")
    cell = _cells(series.times, grid)
    first = cell[series.offsets[:-1]]
    lengths = cell[series.offsets[1:] - 1] - first + 1
    rows, total = len(series.times), int(lengths.sum())
    if total > MAX_GRID_ROWS * rows:
        median = span_text(float(np.median(distances(series))), series.time_kind)
        raise ValueError(
            f"data.resample={span_text(grid, series.time_kind)} would turn {rows:,} rows into {total:,}, nearly all of "
            f"them missing; the median distance of two rows is {median}: set data.resample to that or more, or check "
            "that data.time is in the unit you think"
        )
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    cell += np.repeat(offsets[:-1] - first, series.lengths)  # from here on a row of the result
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
        offsets=offsets,
        times=nth * int(grid) if datetimes else (nth * grid).astype(np.float64),
        step=grid / 1e9 if datetimes else float(grid),
    )
    return resampled, None if labels is None else _labels_on_grid(labels, starts, filled, total)


def _cells(times: Times, grid: int | float) -> npt.NDArray[np.int64]:
    """Number of the grid cell of every time, counted from time 0."""
    if times.dtype == np.int64:
        return (times // int(grid)).astype(np.int64)
    return np.floor(times / grid + 1e-6).astype(np.int64)  # 0.3 / 0.1 is 2.9999…, and belongs to cell 3


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
    after = before + (position < 0)  # the first and the last bin of an entity have rows: both are in the same entity
    return np.where(of_bin[before] == of_bin[after], of_bin[before], -1).astype(np.int32)


def _labels(codes: npt.NDArray[np.int32], names: Sequence[object], offsets: npt.NDArray[np.int64]) -> Labels:
    """One label an entity where none changes within one, else one a row."""
    low, high = np.minimum.reduceat(codes, offsets[:-1]), np.maximum.reduceat(codes, offsets[:-1])
    return as_objects([*names, None])[low if (low == high).all() else codes]


def _kind(times: Times | None) -> str:
    if times is None:
        return "rows"
    return "datetime" if times.dtype == np.int64 else "number"


def _count(things: Sequence[object] | int, noun: str) -> str:
    """``channel`` for one of several named things, ``3 rows`` for a number of them, with the plural where it is due."""
    if isinstance(things, int):
        return f"{things:,} {noun}{'' if things == 1 else 's'}"
    return noun if len(things) == 1 else f"{noun}s"


def _names(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
