"""The rows of tables, batch by batch, in flat arrays: values as float32, times as numbers, names as codes."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute

from mmssl.timeseries.columns import Columns, parse_datetimes
from mmssl.timeseries.series import as_objects
from mmssl.timeseries.tables import MISSING, Table
from mmssl.timeseries.times import Times

_ZONE = r"(?:Z|[+-]\d{2}:?\d{2})$"  # how a time says where it was read


class _UnreadableTime(ValueError):
    """A text that the datetime format at hand does not fit; another format may."""


def read_rows(tables: list[Table], columns: Columns) -> Rows:
    """All rows, with the first datetime format that fits them all: 05/03 may be followed by 13/03 much later.

    Raises:
        ValueError: a cell that cannot be used; the message says where it is.
    """
    for time_format in columns.formats:
        try:
            rows = Rows(tables, columns)
            for table in tables:
                rows.add_table(table, time_format)
        except _UnreadableTime as error:
            if time_format == columns.formats[-1]:
                raise ValueError(str(error)) from None
        else:
            break
    rows.finish()
    rows.time_format = None if time_format == "ISO8601" else time_format
    doubtful = len(columns.formats) > 1 and time_format == columns.formats[0] and not str(time_format).startswith("%d.")
    if doubtful and rows.times is not None:
        days = rows.times.astype("datetime64[ns]").astype("datetime64[D]")
        if (days - days.astype("datetime64[M]")).astype(np.int64).max() < 12:
            warnings.warn(
                f"the dates in data.time={columns.time} fit {' and '.join(map(str, columns.formats))}, read as "
                f"{time_format}; if that is wrong, write them as 2024-12-31",
                UserWarning,
                stacklevel=3,
            )
    return rows


class Rows:
    """The rows of all tables in the order in which they are read, in flat arrays.

    Args:
        tables: that will be added; what is known of their sizes saves copies.
        columns: to read.
    """

    def __init__(self, tables: list[Table], columns: Columns) -> None:
        known = sum(table.rows or 0 for table in tables)
        self.columns = columns
        self.typed = all(table.typed for table in tables)
        self.n = 0
        self.zoned: tuple[bool, str] | None = None  # do the times say their zone, and who said so first
        self.ids: dict[object, int] = {}
        self.label_names: dict[object, int] = {}
        self.static = {name: _Constant(name) for name in columns.static}
        self.values = np.empty((known, len(columns.channels)), dtype=np.float32)
        self.codes = np.empty(known, dtype=np.int32)
        self.times: Times | None = None
        self.time_format: str | None = None  # see `SeriesSet`; known when all is read
        if columns.time is not None:
            self.times = np.empty(known, dtype=np.int64) if columns.datetimes else np.empty(known, dtype=np.float64)
        self.labels = None if columns.label is None else np.empty(known, dtype=np.int32)

    def add_table(self, table: Table, time_format: str | None) -> None:
        """Read all rows of a table, its times in the given format."""
        columns, begin = self.columns, self.n
        text: dict[str, Sequence[str]] = {} if columns.id is None else {columns.id: ("",)}
        named = (columns.label, *columns.static, columns.time if columns.datetimes else None)
        text |= {name: MISSING for name in named if name}
        for frame in table.batches(columns.used, text):
            rows = slice(self.n, self.n + len(frame))
            place = partial(_place, table, self.n - begin)
            if rows.stop > len(self.codes):
                self._resize(rows.stop * 5 // 4)
            for c, name in enumerate(columns.channels):
                self.values[rows, c] = _numbers(frame[name], name, place)
            self.codes[rows] = self._entities(frame, table, place)
            if self.times is not None and columns.time is not None:
                self.times[rows] = _times(frame[columns.time], columns, time_format, place)
                self._one_zone(frame[columns.time], place)
            if self.labels is not None and columns.label is not None:
                self.labels[rows] = self._encode(frame[columns.label], self.label_names)
            for name, constant in self.static.items():
                constant.add(self.codes[rows], self._encode(frame[name], constant.names), list(self.ids), place)
            self.n = rows.stop

    def finish(self) -> None:
        """Cut the arrays to the rows that came, and make numbers of names that a text file could only give as text."""
        self._resize(self.n)
        if not self.typed:
            self.ids, self.label_names = _whole_numbers(self.ids), _whole_numbers(self.label_names)
            for constant in self.static.values():
                constant.names = _whole_numbers(constant.names)
        elif all(isinstance(name, float) and name.is_integer() for name in self.label_names):
            self.label_names = {int(name): code for name, code in self.label_names.items()}  # type: ignore[call-overload]

    def _entities(self, frame: pd.DataFrame, table: Table, place: Callable[[int], str]) -> npt.NDArray[np.int32]:
        name = self.columns.id
        if name is None:
            return np.full(len(frame), self.ids.setdefault(table.entity, len(self.ids)), dtype=np.int32)
        codes = self._encode(frame[name], self.ids)
        if codes.min() < 0:
            raise ValueError(
                f"data.id={name} is empty in {place(int(codes.argmin()))}; every row needs the name of "
                "its entity: fill it in or remove the row"
            )
        return codes

    def _one_zone(self, column: pd.Series, place: Callable[[int], str]) -> None:
        """Refuse times of which only some say their zone: the others would silently be taken as UTC."""
        if not self.columns.datetimes or not len(column):
            return
        if pd.api.types.is_datetime64_any_dtype(column):
            says = np.full(1, isinstance(column.dtype, pd.DatetimeTZDtype))
        else:
            says = _says_zone(column)
        if self.zoned is None:
            self.zoned = (bool(says[0]), place(0))
        other = np.flatnonzero(says != self.zoned[0])
        if len(other):
            row = int(other[0])
            first, second = ("a time zone", "none") if self.zoned[0] else ("no time zone", "one")
            raise ValueError(
                f"data.time={self.columns.time} mixes times with and without a time zone: {first} in {self.zoned[1]}, "
                f"{second} in {place(row)} ({column.iloc[row]}); write all of them with their zone, or all in UTC"
            )

    def _encode(self, column: pd.Series, known: dict[object, int]) -> npt.NDArray[np.int32]:
        """Position of every name in ``known``, which grows; -1 where there is none."""
        codes, names = pd.factorize(column)
        plain = names.tolist() if self.typed else [str(name) for name in names]
        table = [-1 if name == "" else known.setdefault(name, len(known)) for name in plain]
        return np.array([*table, -1], dtype=np.int32)[codes]

    def _resize(self, rows: int) -> None:
        """Give the arrays this many rows; large ones grow in place, without a copy."""
        self.values.resize((rows, self.values.shape[1]), refcheck=False)
        for array in (self.codes, self.times, self.labels):
            if array is not None:
                array.resize(rows, refcheck=False)


def in_time_zone(rows: Rows, zone: str) -> Times:
    """UTC from the times of clocks that show local time, the repeated hour in autumn told apart by the order of rows.

    Raises:
        ValueError: there are no such times, they have a zone already, or they cannot have been shown by such a clock.
    """
    option = f"data.time_zone={zone}"
    if rows.times is None or not rows.columns.datetimes:
        raise ValueError(f"{option} needs datetimes: set data.time to the column that holds them, or leave it out")
    if rows.zoned is not None and rows.zoned[0]:
        raise ValueError(f"{option}, but data.time={rows.columns.time} says its zone itself; leave data.time_zone out")
    try:
        local = pd.DatetimeIndex(rows.times).tz_localize(None)
        twice = local.tz_localize(zone, ambiguous="NaT", nonexistent=pd.Timedelta(hours=1)).isna()
        summer = ~_second_pass(rows.times, rows.codes, np.flatnonzero(twice))
        utc = local.tz_localize(zone, ambiguous=summer, nonexistent="NaT").tz_convert("UTC")
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{option} is no time zone such as Europe/Berlin: {error}") from None
    if (skipped := utc.isna()).any():
        raise ValueError(
            f"{option}: {local[int(skipped.argmax())]} does not exist there, since clocks go forward in spring: the "
            "clock of the data does not. Leave data.time_zone out"
        )
    return utc.as_unit("ns").asi8


def _second_pass(times: Times, codes: npt.NDArray[np.int32], twice: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """``(rows,)`` True for rows of the repeated hour that come after their entity's clock went back."""
    second = np.zeros(len(times), dtype=bool)
    day = times[twice] // (24 * 3600 * 10**9)
    order = np.lexsort((twice, day, codes[twice]))
    rows, starts = twice[order], np.diff(codes[twice][order]) != 0
    starts |= np.diff(day[order]) != 0
    for hour in np.split(rows, np.flatnonzero(starts) + 1):  # of one entity and one autumn
        if len(hour):
            latest = np.maximum.accumulate(times[hour])
            second[hour[1:]] = times[hour[1:]] <= latest[:-1]
    return second


class _Constant:
    """A column that has one value an entity; filled batch by batch."""

    def __init__(self, column: str) -> None:
        self.column = column
        self.names: dict[object, int] = {}
        self.codes = np.zeros(0, dtype=np.int32)  # of each entity; -1 where none is known yet

    def add(
        self,
        entity: npt.NDArray[np.int32],
        code: npt.NDArray[np.int32],
        ids: Sequence[object],
        place: Callable[[int], str],
    ) -> None:
        new = np.full(len(ids) - len(self.codes), -1, dtype=np.int32)
        self.codes = np.concatenate([self.codes, new])
        fresh = np.flatnonzero((code >= 0) & (self.codes[entity] < 0))[::-1]
        self.codes[entity[fresh]] = code[fresh]  # of several rows the first one stands, which comes last here
        bad = np.flatnonzero((code >= 0) & (self.codes[entity] != code))
        if len(bad):
            names, row = list(self.names), int(bad[0])
            raise ValueError(
                f"static column {self.column!r} of entity {ids[entity[row]]!r} changes from "
                f"{names[self.codes[entity[row]]]!r} to {names[code[row]]!r} in {place(row)}; static columns have one "
                "value an entity: take it out of data.static, or use it as data.label"
            )

    def values(self, entities: int) -> npt.NDArray[np.object_]:
        """``(entities,)``, None where it is empty in all rows."""
        return as_objects([*self.names, None])[self.codes[:entities]]


def _numbers(column: pd.Series, name: str, place: Callable[[int], str]) -> npt.NDArray[np.float32]:
    if not pd.api.types.is_numeric_dtype(column):
        numbers = pd.to_numeric(column.astype(object), errors="coerce")
        bad = np.flatnonzero((numbers.isna() & column.notna()).to_numpy())
        if len(bad):
            raise ValueError(
                f"channel {name!r} is not numeric: {column.iloc[bad[0]]!r} in {place(int(bad[0]))}; empty the cell if "
                "the value is missing, or list the numeric columns in data.channels"
            )
        column = numbers
    with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which is refused by name later
        return column.to_numpy(dtype=np.float32, na_value=np.nan)


def _times(column: pd.Series, columns: Columns, time_format: str | None, place: Callable[[int], str]) -> Times:
    """int64 nanoseconds for datetimes, else float64 in the user's unit (seconds for durations)."""
    option, missing = f"data.time={columns.time}", column.isna().to_numpy()
    if missing.any():
        raise ValueError(
            f"{option} is empty in {place(int(missing.argmax()))}; fill it in, remove the row, or leave data.time out "
            "if the rows are in order"
        )
    if columns.datetimes:
        times = parse_datetimes(column.astype(str) if time_format else column, time_format)
        bad, expected = times.isna().to_numpy(), "a date" if time_format in (None, "ISO8601") else time_format
    elif pd.api.types.is_timedelta64_dtype(column):
        return column.dt.total_seconds().to_numpy(dtype=np.float64)
    else:
        numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        bad, expected = ~np.isfinite(numbers), "a finite number"
    if bad.any():
        raise _UnreadableTime(
            f"{option}: {column.iloc[bad.argmax()]!r} in {place(int(bad.argmax()))} is not {expected} like the others; "
            "correct it or remove the row"
        )
    if not columns.datetimes:
        return numbers
    try:
        return times.dt.as_unit("ns").astype(np.int64).to_numpy()
    except pd.errors.OutOfBoundsDatetime as error:
        raise ValueError(f"{option} must lie between the years 1678 and 2262: {error}") from None


def _says_zone(column: pd.Series) -> npt.NDArray[np.bool_]:
    """Which of the times, as text, end with a zone; those that are no text count as they print."""
    texts = pa.array(column.astype(str).tolist(), type=pa.string())
    found: npt.NDArray[np.bool_] = pa.compute.match_substring_regex(texts, rf"\d{{2}}:\d{{2}}.*{_ZONE}").to_numpy(
        zero_copy_only=False
    )
    return found


def _place(table: Table, first: int, row: int) -> str:
    return table.place(first + row)


def _whole_numbers(names: dict[object, int]) -> dict[object, int]:
    """Names as numbers where each is written as a plain whole number (007 is not)."""
    plain = all(isinstance(name, str) and re.fullmatch(r"0|-?[1-9]\d{0,17}", name) for name in names)
    return {int(str(name)): code for name, code in names.items()} if plain else names
