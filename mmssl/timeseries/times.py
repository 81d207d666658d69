"""Times of rows: how far they are apart, and how they are written in messages. NumPy only."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from mmssl.timeseries.series import SeriesSet

Times = npt.NDArray[np.int64] | npt.NDArray[np.float64]


def distances(series: SeriesSet) -> Times:
    """From each row to the next of the same stretch, in the unit of ``series.times``."""
    if series.times is None:
        raise ValueError("series without times have no distances between their rows")
    inside = np.ones(max(len(series.times) - 1, 0), dtype=bool)
    starts = series.stretches()[0]
    inside[starts[(starts > 0) & (starts < len(series.times))] - 1] = False
    return np.diff(series.times)[inside]


def usual_step(series: SeriesSet) -> float | None:
    """The median distance of two rows, in the unit of `SeriesSet.step`; None if nothing is known of it."""
    if series.times is None or not len(gaps := distances(series)):
        return None
    return float(np.median(gaps)) / (1e9 if series.time_kind == "datetime" else 1)


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


def utc_from_clock(shown: int, zone: str | None) -> int:
    """The instant at which a clock of the zone shows this, the first one in the hour that autumn repeats.

    Both in nanoseconds since 1970; without a zone, clocks show UTC.
    """
    clock = datetime.fromtimestamp(shown // 10**9, UTC).replace(tzinfo=None if zone is None else ZoneInfo(zone))
    return shown - _offset(clock)


def clock_from_utc(time: int, zone: str | None) -> int:
    """What a clock of the zone shows at an instant; the reverse of `utc_from_clock`."""
    return time + _offset(datetime.fromtimestamp(time // 10**9, UTC if zone is None else ZoneInfo(zone)))


def _offset(clock: datetime) -> int:
    """Nanoseconds that a clock is ahead of UTC."""
    ahead = clock.utcoffset()
    return 0 if ahead is None else round(ahead.total_seconds() * 1e9)


def span_text(span: float, kind: str) -> str:
    """A distance of two times, given in nanoseconds for datetimes, with its unit."""
    if kind != "datetime":
        return f"{span:g}"
    seconds = span / 1e9
    unit, size = next((u for u in (("d", 86400), ("h", 3600), ("min", 60)) if seconds >= 2 * u[1]), ("s", 1))
    return f"{seconds / size:.4g} {unit}"
