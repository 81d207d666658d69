"""What clocks do to rows: times that go back, times that repeat, and gaps between them. NumPy only."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from mmssl.timeseries.series import SeriesSet
from mmssl.timeseries.times import Times, distances, time_text, where

ClockReset = Literal["sort", "split", "error"]
FEW = 20  # times that go back less often than in one row of so many are a clock that was set, not a lack of order
Codes = npt.NDArray[np.int32]
Rows = npt.NDArray[np.int64]


def order_rows(
    codes: Codes, times: Times | None, *, reset: ClockReset = "sort", ids: Sequence[object] = ()
) -> tuple[Rows | None, npt.NDArray[np.bool_] | None]:
    """What sorts the rows by entity, then time, keeping equal ones in order.

    Args:
        codes: ``(rows,)``, the entity of each.
        times: ``(rows,)``; None keeps the rows in their order.
        reset: what to do where the time of an entity goes back: ``"sort"`` the rows, with a warning where that mixes
            what looks like two runs of one clock, ``"split"`` there, or raise an ``"error"``.
        ids: names of the entities, for messages.

    Returns:
        The order, None where the rows are sorted already; and for ``"split"`` the rows in that order at which time
        goes back, None if it never does.
    """
    if reset not in ("sort", "split", "error"):
        raise ValueError(f"data.clock_reset must be sort, split or error, got {reset!r}")
    if times is None:
        return (None if (codes[1:] >= codes[:-1]).all() else np.argsort(codes, kind="stable")), None
    ordered = (codes[1:] > codes[:-1]) | ((codes[1:] == codes[:-1]) & (times[1:] >= times[:-1]))
    if ordered.all():
        return None, None
    if reset == "sort":
        order = np.lexsort((times, codes))
        _warn_of_resets(codes, times, order, ids)
        return order, None
    order = np.argsort(codes, kind="stable")
    back = _goes_back(codes[order], times[order])
    if reset == "error" and back.any():
        raise ValueError(
            f"{_story(codes, times, order, back, ids)}; data.clock_reset=split starts anew there, sort sorts by time"
        )
    return order, back if back.any() else None


def refuse_repeated_times(series: SeriesSet) -> None:
    """Raise a ValueError if an entity has two rows of the same time."""
    gaps = distances(series)
    repeats = int(np.count_nonzero(gaps == 0))
    if not repeats:
        return
    times = series.times
    assert times is not None
    same = np.ones(len(times) - 1, dtype=bool)
    starts = series.stretches()[0][1:]
    same[starts[(starts > 0) & (starts < len(times))] - 1] = False
    first = int(np.flatnonzero((times[1:] == times[:-1]) & same)[0])
    raise ValueError(
        f"{repeats:,} {'row repeats' if repeats == 1 else 'rows repeat'} the time of another row of the same "
        f"entity, the first in {where(series, first)}; set data.id to the column that tells the entities apart, or "
        "data.resample to a step, which averages them"
        + ("; clocks that changed from summer time need data.time_zone" if series.time_kind == "datetime" else "")
    )


def break_at_gaps(series: SeriesSet, labels: Codes | None, max_gap: int | float) -> tuple[SeriesSet, Codes | None]:
    """A break wherever nothing was measured for longer than ``max_gap``; empty rows in such a gap are left out.

    Args:
        series: sorted by time.
        labels: ``(rows,)`` codes.
        max_gap: from one row with a value to the next, in the unit of the times; in rows where there are none.
    """
    if not max_gap > 0:
        raise ValueError(f"data.max_gap must be positive, got {max_gap}")
    rows = len(series.values)
    any_value = np.zeros(rows, dtype=bool)
    for column in series.values.T:
        any_value |= ~np.isnan(column)
    seen = np.flatnonzero(any_value) if series.values.shape[1] else np.arange(rows)
    time = seen if series.times is None else series.times[seen]
    stretch = np.repeat(np.arange(len(series.stretches()[0])), series.stretches()[1])[seen]
    long = np.flatnonzero((np.diff(time) > max_gap) & (np.diff(stretch) == 0))
    if not len(long):
        return series, labels
    begins = np.zeros(rows, dtype=bool)
    begins[seen[long + 1]] = True
    if series.breaks is not None:
        begins[series.breaks] = True
    dropped = np.zeros(rows, dtype=np.int64)
    dropped[seen[long] + 1] += 1
    dropped[seen[long + 1]] -= 1
    keep = np.cumsum(dropped) == 0
    if keep.all():
        return replace(series, breaks=np.flatnonzero(begins)), labels
    kept = np.concatenate([[0], np.cumsum(keep)])
    shorter = replace(
        series,
        values=series.values[keep],
        offsets=kept[series.offsets],
        times=None if series.times is None else series.times[keep],
        breaks=np.flatnonzero(begins[keep]),
    )
    return shorter, None if labels is None else labels[keep]


def _goes_back(codes: Codes, times: Times) -> npt.NDArray[np.bool_]:
    """``(rows,)`` True where a row is earlier than the one before it of the same entity; rows sorted by entity."""
    return np.concatenate([[False], (times[1:] < times[:-1]) & (codes[1:] == codes[:-1])])


def _warn_of_resets(codes: Codes, times: Times, order: Rows, ids: Sequence[object]) -> None:
    """Warn where sorting by time mixes few stretches, each of which is in order by itself."""
    by_entity = np.argsort(codes, kind="stable")
    back = _goes_back(codes[by_entity], times[by_entity])
    if not 0 < back.sum() * FEW <= len(codes):
        return
    begins = back | (np.diff(codes[by_entity], prepend=-1) != 0)
    stretch = np.empty(len(codes), dtype=np.int64)
    stretch[by_entity] = np.cumsum(begins)
    if np.count_nonzero(np.diff(stretch[order])) >= begins.sum():  # more often than from each stretch to the next
        warnings.warn(
            f"{_story(codes, times, by_entity, back, ids)}, and what follows overlaps with what came before: the rows "
            "were sorted by time, which mixes both. If the clock was set back or restarted, data.clock_reset=split "
            "begins a new stretch there; if it changed from summer time, data.time_zone says how to read it",
            UserWarning,
            stacklevel=5,
        )


def _story(codes: Codes, times: Times, order: Rows, back: npt.NDArray[np.bool_], ids: Sequence[object]) -> str:
    """How often time goes back, and where first; ``back`` in the order of ``order``."""
    first = int(np.flatnonzero(back)[0])
    kind = "datetime" if times.dtype == np.int64 else "number"
    before, after = (time_text(times[order[row]], kind) for row in (first - 1, first))
    count = int(back.sum())
    often = "once" if count == 1 else f"{count:,} times"
    return f"time goes back {often}, first in entity {ids[codes[order[first]]]!r} from {before} to {after}"
