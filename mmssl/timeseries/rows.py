"""From loose rows to a `SeriesSet`: order, labels, and what makes rows unusable. NumPy only."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mmssl.timeseries.clock import ClockReset, break_at_gaps, order_rows, refuse_repeated_times
from mmssl.timeseries.grid import hold_last, on_grid
from mmssl.timeseries.series import Labels, SeriesSet, as_objects
from mmssl.timeseries.times import Times, distances, where

REGULAR = 0.01  # distances within this share of their median make a series regular


@dataclass(frozen=True)
class Regularity:
    """What is done about irregular times. Spans are nanoseconds for datetimes, else in the unit of the times.

    Args:
        grid: put the rows on this regular grid by the mean of each bin.
        hold: fill missing values by the last one of the channel, up to this age.
        max_gap: no window holds rows from both sides of a longer gap.
        reset: see `mmssl.timeseries.clock.order_rows`.
    """

    grid: int | float | None = None
    hold: int | float | None = None
    max_gap: int | float | None = None
    reset: ClockReset = "sort"


AS_IT_COMES = Regularity()


def series_from_rows(
    values: npt.NDArray[np.float32],
    codes: npt.NDArray[np.int32],
    *,
    ids: Sequence[object],
    channels: Sequence[str],
    times: Times | None = None,
    labels: npt.NDArray[np.int32] | None = None,
    label_names: Sequence[object] = (),
    static: Mapping[str, Labels] | None = None,
    regularity: Regularity = AS_IT_COMES,
    check: bool = True,
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
        static: see `SeriesSet`.
        regularity: what to do about irregular times.
        check: look for channels that nothing can be learnt from; False where the rows are a part of the data only, or
            only embedded.

    Raises:
        ValueError: repeated times, infinite values, a channel without a value, or a grid far finer than the data.
    """
    order, back = order_rows(codes, times, reset=regularity.reset, ids=ids)
    if order is not None:
        for column in values.T:
            column[:] = column[order]
        codes = codes[order]
        times = None if times is None else times[order]
        labels = None if labels is None else labels[order]
    series = SeriesSet(
        values=values,
        offsets=np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=len(ids)))]).astype(np.int64),
        ids=as_objects(ids),
        channels=tuple(channels),
        times=times,
        time_kind=_kind(times),
        breaks=None if back is None else np.flatnonzero(back),
        static=static or {},
    )
    if check:
        check_channels(series)
    else:
        refuse_infinite(series)
    series, labels = _regular(series, labels, regularity)
    return series if labels is None else replace(series, labels=_labels(labels, label_names, series.offsets))


def _regular(
    series: SeriesSet, labels: npt.NDArray[np.int32] | None, how: Regularity
) -> tuple[SeriesSet, npt.NDArray[np.int32] | None]:
    if how.max_gap is not None:
        series, labels = break_at_gaps(series, labels, how.max_gap)
    if how.grid is not None:
        series, labels = on_grid(series, how.grid, labels)
    elif series.times is not None:
        refuse_repeated_times(series)
        series = replace(series, step=_step(series))
    if how.hold is not None:
        hold_last(series, how.hold)
    return series, labels


def check_channels(series: SeriesSet) -> None:
    """Refuse channels without a value or with infinite ones; warn of constant ones, which carry no information."""
    low, high = _range(series)
    if empty := _empty(series, low):
        raise ValueError(f"{empty}; list the other channels in data.channels to leave it out")
    refuse_infinite(series)
    constant = [series.channels[c] for c in np.flatnonzero(low == high)]
    if constant and len(series.values) > 1:
        warnings.warn(
            f"{_count(constant, 'channel')} {_names(constant)} never changed: no information in it; "
            "data.channels can leave it out",
            UserWarning,
            stacklevel=2,
        )


def refuse_infinite(series: SeriesSet) -> None:
    """Raise a ValueError that names the first infinite value."""
    low, high = _range(series)
    for c in np.flatnonzero(np.isinf(low) | np.isinf(high)):
        rows = np.flatnonzero(np.isinf(series.values[:, c]))
        raise ValueError(
            f"channel {series.channels[c]!r} has {_count(len(rows), 'infinite value')} (or beyond float32), the first "
            f"in {where(series, int(rows[0]))}; replace them by empty cells to treat them as missing"
        )


def warn_of_empty(series: SeriesSet) -> None:
    """Warn of channels without a value, in data that is only embedded."""
    if empty := _empty(series, _range(series)[0]):
        warnings.warn(f"{empty}: embedded as missing", UserWarning, stacklevel=3)


def _range(series: SeriesSet) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Lowest and highest value of each channel ``(C,)``, NaN where it has none at all."""
    return np.fmin.reduce(series.values, axis=0), np.fmax.reduce(series.values, axis=0)


def _empty(series: SeriesSet, low: npt.NDArray[np.float32]) -> str:
    """The channels without a value, as the beginning of a message; empty if there are none."""
    empty = [series.channels[c] for c in np.flatnonzero(np.isnan(low))]
    verb = "has" if len(empty) == 1 else "have"
    return f"{_count(empty, 'channel')} {_names(empty)} {verb} no value in any row" if empty else ""


def _step(series: SeriesSet) -> float | None:
    gaps = distances(series)
    if not len(gaps):
        return None
    step = float(np.median(gaps))
    if gaps.min() < step * (1 - REGULAR) or gaps.max() > step * (1 + REGULAR):
        return None
    return step / 1e9 if series.time_kind == "datetime" else step


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
