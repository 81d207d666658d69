"""What the calendar says of a time: hour, day of the week and so on, as channels that are known in advance.

The covariates of TS2Vec's forecasting experiments. Every part is a number that grows over its cycle, as in the authors'
code; parts that never change in the data (the minute of hourly rows) are left out.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mmssl.timeseries.series import SeriesSet

PREFIX = "calendar: "


def calendar(times: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.float32]]:
    """Parts of times in nanoseconds since 1970, UTC: name to ``(rows,)``; the week is that of ISO 8601."""
    moment = times.astype("datetime64[ns]")
    day = moment.astype("datetime64[D]")
    month, year = day.astype("datetime64[M]"), day.astype("datetime64[Y]")
    weekday = (day.astype(np.int64) + 3) % 7  # Monday is 0; 1970 began on a Thursday
    thursday = day + (3 - weekday)  # decides which year a week belongs to
    week = (thursday - thursday.astype("datetime64[Y]")).astype(np.int64) // 7 + 1
    parts = {
        "minute": times // (60 * 10**9) % 60,
        "hour": times // (3600 * 10**9) % 24,
        "day of week": weekday,
        "day of month": (day - month).astype(np.int64) + 1,
        "day of year": (day - year).astype(np.int64) + 1,
        "month": month.astype(np.int64) % 12 + 1,
        "week": week,
    }
    return {name: part.astype(np.float32) for name, part in parts.items()}


def calendar_parts(series: SeriesSet) -> tuple[str, ...]:
    """Names of the parts that change in ``series``; none without datetimes."""
    if series.time_kind != "datetime" or series.times is None:
        return ()
    assert series.times.dtype == np.int64
    parts = calendar(series.times.astype(np.int64))
    return tuple(name for name, part in parts.items() if len(part) and part.min() < part.max())


def with_calendar(series: SeriesSet, parts: tuple[str, ...]) -> SeriesSet:
    """``series`` with the named parts as further channels, at the end.

    Raises:
        ValueError: its times are no datetimes.
    """
    if not parts:
        return series
    if series.time_kind != "datetime" or series.times is None:
        raise ValueError(
            f"the encoder was trained with the calendar ({', '.join(parts)}), which needs times that are dates; these "
            f"are of kind {series.time_kind!r}"
        )
    known = calendar(series.times.astype(np.int64))
    columns = np.stack([known[name] for name in parts], axis=1)
    return replace(
        series,
        values=np.concatenate([series.values, columns], axis=1),
        channels=(*series.channels, *(PREFIX + name for name in parts)),
        units=None if series.units is None else (*series.units, *(None for _ in parts)),
    )
