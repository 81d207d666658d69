"""A user's own files, tables and arrays become a `SeriesSet`; embeddings become tables and files.

Tables are read in batches of a bounded number of cells into flat arrays: the values as float32, entities and labels as
codes. The columns themselves are never in memory as a whole, so a recording needs little more than its float32 values.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mmssl.timeseries.arrays import Array, read_array, series_from_arrays
from mmssl.timeseries.rows import Times, distances, series_from_rows, span_text, time_text
from mmssl.timeseries.series import SeriesSet
from mmssl.timeseries.tables import (
    ARRAYS,
    MISSING,
    Table,
    find_files,
    frame_table,
    open_table,
    suffix,
    suggest,
)

_NAMELESS = re.compile(r"Unnamed: \d+|__index_level_\d+__")  # row numbers that pandas wrote beside the data
_DATES = (  # how a date begins, and what it may mean: with dots the day comes first, with slashes mostly the month
    (r"\d{1,2}\.\d{1,2}\.\d{4}(?!\d)", ("%d.%m.%Y", "%m.%d.%Y")),
    (r"\d{1,2}\.\d{1,2}\.\d{2}(?!\d)", ("%d.%m.%y", "%m.%d.%y")),
    (r"\d{1,2}/\d{1,2}/\d{4}(?!\d)", ("%m/%d/%Y", "%d/%m/%Y")),
    (r"\d{1,2}/\d{1,2}/\d{2}(?!\d)", ("%m/%d/%y", "%d/%m/%y")),
    (r"\d{1,2}-\d{1,2}-\d{4}(?!\d)", ("%m-%d-%Y", "%d-%m-%Y")),
    (r"\d{4}/\d{1,2}/\d{1,2}(?!\d)", ("%Y/%m/%d",)),
    (r"\d{4}\.\d{1,2}\.\d{1,2}(?!\d)", ("%Y.%m.%d",)),
    (r"\d{1,2} [A-Za-z]{3,9} \d{4}", ("%d %b %Y", "%d %B %Y")),
    (r"\d{1,2}-[A-Za-z]{3}-\d{4}", ("%d-%b-%Y",)),
    (r"[A-Za-z]{3,9} \d{1,2}, \d{4}", ("%b %d, %Y", "%B %d, %Y")),
    (r"[A-Za-z]{3,9} \d{1,2} \d{4}", ("%b %d %Y", "%B %d %Y")),
)
_CLOCK = re.compile(
    r"(?P<join>T|,? )\d{1,2}:\d{2}(?P<second>:\d{2})?(?P<fraction>\.\d+)?"
    r"((?P<space> ?)(?P<half>[AaPp][Mm]))?((?P<gap> ?)(?P<zone>Z|[+-]\d{2}:?\d{2}))?"
)


def read_series(
    source: str | os.PathLike[str] | pd.DataFrame | npt.NDArray[Any],
    *,
    id: str | None = None,
    time: str | None = None,
    channels: Sequence[str] | str | None = None,
    label: str | None = None,
    resample: str | float | None = None,
) -> SeriesSet:
    """Series from a file, a folder of files, a long table or an array.

    Args:
        source: CSV (any delimiter), Parquet, Feather/Arrow, NPY/NPZ ``(N, T, C)``, a folder of such files, a DataFrame
            or an array ``(N, T, C)`` or ``(N, T)``. In a folder every file is one entity, named after it, unless ``id``
            says that entities are told apart by a column.
        id: column that names the entity of a row; None for a single entity.
        time: column with datetimes (naive ones are taken as UTC) or numbers in any unit; None for rows as they come.
        channels: columns to learn from; None for every numeric or boolean column that is nothing else. For arrays,
            the names of the C channels.
        label: column with the class of a row or an entity; empty where unlabelled.
        resample: regular grid, as a pandas offset (``"15min"``) for datetimes or a number for numeric times; each bin
            is the mean of its rows, and missing without one.

    Raises:
        FileNotFoundError: ``source`` does not exist.
        ValueError: the data cannot be used as given; the message says where, why and what to do.
    """
    wanted = [channels] if isinstance(channels, str) else None if channels is None else [str(c) for c in channels]
    if wanted is not None and (not wanted or len(set(wanted)) < len(wanted)):
        raise ValueError(f"data.channels must name at least one column, each once, got {wanted}")
    if isinstance(source, np.ndarray):
        arrays = [Array("the array", None, source)]
    elif isinstance(source, pd.DataFrame):
        arrays, tables = [], [frame_table(source)]
    else:
        files = find_files(Path(source))
        arrays = [read_array(file) for file in files if suffix(file) in ARRAYS]
        tables = [] if arrays else [open_table(file) for file in files]
    if arrays:
        options = {"data.id": id, "data.time": time, "data.label": label, "data.resample": resample}
        return series_from_arrays(arrays, wanted, options)
    for table in tables:
        if table.sample.empty:
            raise ValueError(f"{table.name} has no rows; fill it or remove it")
    if len({table.entity for table in tables}) < len(tables):  # a.csv and a.parquet
        tables = [replace(table, entity=Path(table.name).name) for table in tables]
    columns = _choose(tables[0], id, time, wanted, label)
    for table in tables[1:]:
        _refuse_other_columns(table, tables[0], columns, exact=wanted is None)
    rows = _read(tables, columns)
    return series_from_rows(
        rows.values,
        rows.codes,
        ids=list(rows.ids),
        channels=columns.channels,
        times=rows.times,
        labels=rows.labels,
        label_names=list(rows.label_names),
        grid=None if resample is None else _grid(resample, columns),
    )


def describe(series: SeriesSet) -> str:
    """What was read, in a few lines that show at once when something was misread."""
    lengths, columns = series.lengths, zip(series.channels, series.values.T, strict=True)
    short, long = int(lengths.min()), int(lengths.max())
    span = f"{short:,} each" if short == long else f"{short:,} to {long:,} each, median {np.median(lengths):,.0f}"
    lines = [
        f"entities: {len(series):,} with {len(series.values):,} rows ({span})",
        f"channels: {len(series.channels)} ({_some(series.channels)})",
    ]
    if series.times is not None:
        lines.append(f"time: {_span_and_rate(series)}")
    missing = [f"{name} {share:.1%}" for name, column in columns if (share := np.isnan(column).mean()) > 0]
    if missing:
        lines.append(f"missing: {_some(missing)}")
    if series.labels is not None:
        counts = pd.Series(series.labels, dtype=object).value_counts(dropna=False)
        known = sorted(f"{name} {count:,}" for name, count in counts.items() if name is not None)
        unlabelled = int(counts.get(None, 0))
        unit = "rows" if series.labels_by_row else "entities"
        lines.append(f"labels of {unit}: {_some(known)}" + (f"; {unlabelled:,} unlabelled" if unlabelled else ""))
    return "\n".join(lines)


def embedding_frame(
    values: npt.NDArray[np.floating],
    entity: npt.NDArray[np.object_],
    window: npt.NDArray[Any],
    **columns: Any,
) -> pd.DataFrame:
    """Embeddings ``(n, D)`` as a table with columns ``e000``…, indexed by entity and by the start of the window.

    Further ``columns``, such as labels, come before the features.
    """
    index = pd.MultiIndex.from_arrays([entity, window], names=["entity", "window"])
    features = pd.DataFrame(values, index=index, columns=[f"e{i:03d}" for i in range(values.shape[1])])
    return pd.concat([pd.DataFrame(columns, index=index), features], axis=1) if columns else features


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (", …" if len(names) > 12 else "")


def _span_and_rate(series: SeriesSet) -> str:
    assert series.times is not None
    kind, gaps = series.time_kind, distances(series)
    text = f"{time_text(series.times.min(), kind)} to {time_text(series.times.max(), kind)}"
    if series.step is not None:
        return f"{text}, one row every {series.step:g}{' s' if kind == 'datetime' else ''}"
    if not len(gaps):
        return f"{text}, one row an entity"
    low, mid, high = (span_text(float(gap), kind) for gap in (gaps.min(), np.median(gaps), gaps.max()))
    return f"{text}, irregular: {low} to {high} between rows, median {mid} (data.resample puts them on a grid)"


# ---------------------------------------------------------------------------------------------------- which columns


@dataclass(frozen=True)
class _Columns:
    channels: list[str]
    id: str | None
    time: str | None
    label: str | None
    datetimes: bool
    formats: tuple[str | None, ...]  # datetime formats that fit the sample, in the order to try; None: no text

    @property
    def used(self) -> list[str]:
        return [*self.channels, *(name for name in (self.id, self.time, self.label) if name is not None)]


def _choose(table: Table, id: str | None, time: str | None, channels: list[str] | None, label: str | None) -> _Columns:
    """The columns to read, given those that the user named; never guesses what an unnamed column means."""
    roles = {option: name for option, name in (("data.id", id), ("data.time", time), ("data.label", label)) if name}
    named = [*roles.items(), *(("data.channels", name) for name in channels or ())]
    for i, (option, name) in enumerate(named):
        if name not in table.columns:
            raise ValueError(f"{option}: {table.name} has no column {name!r}; {suggest(name, table.columns)}")
        for other, same in named[:i]:
            if name == same:
                raise ValueError(f"column {name!r} is named both as {other} and as {option}; take it out of one")
    if channels is None:
        channels = _free_channels(table, roles)
    formats: tuple[str | None, ...] = (None,)
    datetimes = time is not None and not _numeric_times(table.sample[time])
    if time is not None and datetimes and _is_text(table.sample[time]):
        formats = _time_formats(table.sample[time].dropna()) or ("ISO8601",)
    return _Columns(channels, id, time, label, datetimes, formats)


def _free_channels(table: Table, roles: Mapping[str, str]) -> list[str]:
    """Every numeric column that has no role; what else there is must be named by the user if it could be a role."""
    kinds = {name: _kind(table.sample[name]) for name in table.columns if name not in roles.values()}
    dates = [name for name, kind in kinds.items() if kind == "datetime"]
    texts = [name for name, kind in kinds.items() if kind == "text"]
    if dates and "data.time" not in roles:
        raise ValueError(
            f"column {dates[0]!r} of {table.name} holds dates: set data.time={dates[0]} to use them, or list "
            "data.channels to leave it out and take the rows in their order"
        )
    if texts and "data.id" not in roles:
        example = table.sample[texts[0]].dropna().iloc[0]
        raise ValueError(
            f"column {texts[0]!r} of {table.name} holds text such as {example!r}: set data.id={texts[0]} if it names "
            f"the entity of a row, data.label={texts[0]} if it is a class, or list data.channels to leave it out"
        )
    if dates or texts:
        warnings.warn(
            f"not numeric, so not learnt from: {', '.join([*dates, *texts])}; list data.channels to choose yourself",
            UserWarning,
            stacklevel=4,
        )
    channels = [name for name, kind in kinds.items() if kind == "number" and not _NAMELESS.fullmatch(name)]
    if not channels:
        raise ValueError(f"{table.name} has no numeric column to learn from, only {_some(table.columns)}")
    return channels


def _refuse_other_columns(table: Table, first: Table, columns: _Columns, *, exact: bool) -> None:
    missing = [name for name in columns.used if name not in table.columns]
    extra = [name for name in table.columns if name not in first.columns] if exact else []
    if missing or extra:
        problem = " and ".join(f"{verb} {names}" for verb, names in (("lacks", missing), ("adds", extra)) if names)
        raise ValueError(
            f"{table.name} {problem}, compared with {first.name}; the files of a folder need the same columns: "
            "list those they share in data.channels, or move the file elsewhere"
        )


def _kind(column: pd.Series) -> str:
    """``number``, ``datetime`` or ``text``: what a column holds, judged by its first rows."""
    known = column.dropna()
    if known.empty or pd.api.types.is_numeric_dtype(column):
        return "number"
    if pd.api.types.is_datetime64_any_dtype(column):
        return "datetime"
    if not _is_text(column):
        return "number" if pd.api.types.infer_dtype(known) in ("boolean", "decimal", "floating", "integer") else "text"
    numbers = _share_of_numbers(known)
    if 0.5 <= numbers < 1:  # a sensor with an error code here and there: reading it names the cell
        return "number"
    return "datetime" if numbers < 1 and _time_formats(known, every=True) else "text"


def _numeric_times(column: pd.Series) -> bool:
    if _is_text(column):
        return _share_of_numbers(column.dropna()) > 0.5
    return pd.api.types.is_numeric_dtype(column) or pd.api.types.is_timedelta64_dtype(column)


def _is_text(column: pd.Series) -> bool:
    categories = isinstance(column.dtype, pd.CategoricalDtype)
    return categories or pd.api.types.infer_dtype(column, skipna=True) in ("string", "mixed", "mixed-integer")


def _share_of_numbers(known: pd.Series) -> float:
    return float(pd.to_numeric(known.astype(str), errors="coerce").notna().mean()) if len(known) else 1.0


def _time_formats(known: pd.Series, *, every: bool = False) -> tuple[str, ...]:
    """The formats that fit most of these texts, in the order to try; with ``every`` only those that fit them all."""
    texts = known.astype(str)
    tried = dict.fromkeys(["ISO8601", *_matching(texts.iloc[0]), *_matching(texts.iloc[-1])])
    fits = {time_format: int(_datetimes(texts, time_format).notna().sum()) for time_format in tried}
    best = max(fits.values())
    if best < (len(texts) if every else 1):
        return ()
    return ("ISO8601",) if fits["ISO8601"] == best else tuple(f for f, count in fits.items() if count == best)


def _matching(text: str) -> list[str]:
    """Formats other than ISO 8601 that the shape of one text allows."""
    for pattern, dates in _DATES:
        if (date := re.match(pattern, text)) is None:
            continue
        if date.end() == len(text):
            return list(dates)
        if (clock := _CLOCK.fullmatch(text, date.end())) is None:
            return []
        hour = "%I:%M" if clock["half"] else "%H:%M"
        rest = (":%S" if clock["second"] else "") + (".%f" if clock["fraction"] else "")
        half = f"{clock['space']}%p" if clock["half"] else ""
        zone = f"{clock['gap']}%z" if clock["zone"] else ""
        return [f"{date_format}{clock['join']}{hour}{rest}{half}{zone}" for date_format in dates]
    return []


def _datetimes(column: pd.Series, time_format: str | None) -> pd.Series:
    return pd.to_datetime(column, format=time_format, utc=True, errors="coerce")


def _grid(resample: str | float, columns: _Columns) -> int | float:
    """The grid in nanoseconds for datetimes, else in the unit of the times."""
    if columns.time is None:
        raise ValueError(f"data.resample={resample} needs times: set data.time to the column that holds them")
    if not columns.datetimes:
        try:
            return float(resample)
        except ValueError:
            raise ValueError(
                f"data.resample={resample} is no number, but data.time={columns.time} holds numbers: give the grid in "
                "their unit"
            ) from None
    text = str(resample)
    try:
        if text.isdigit():
            raise ValueError("it has no unit")
        grid = int(pd.Timedelta(text if text[:1].isdigit() else f"1{text}").value)
    except ValueError as error:
        raise ValueError(
            f"data.resample={text} is no fixed step of time ({error}); write a number and a unit, such as 10ms, 1s, "
            "15min, 1h or 1D"
        ) from None
    return grid


# ---------------------------------------------------------------------------------------------------- reading the rows


class _UnreadableTime(ValueError):
    """A text that the datetime format at hand does not fit; another format may."""


def _read(tables: list[Table], columns: _Columns) -> _Rows:
    """All rows, with the first datetime format that fits them all: 05/03 may be followed by 13/03 much later."""
    for time_format in columns.formats:
        try:
            rows = _Rows(tables, columns)
            for table in tables:
                rows.add_table(table, time_format)
        except _UnreadableTime as error:
            if time_format == columns.formats[-1]:
                raise ValueError(str(error)) from None
        else:
            break
    rows.finish()
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


class _Rows:
    """The rows of all tables in the order in which they are read, in flat arrays."""

    def __init__(self, tables: list[Table], columns: _Columns) -> None:
        known = sum(table.rows or 0 for table in tables)
        self.columns = columns
        self.typed = all(table.typed for table in tables)
        self.n = 0
        self.ids: dict[object, int] = {}
        self.label_names: dict[object, int] = {}
        self.values = np.empty((known, len(columns.channels)), dtype=np.float32)
        self.codes = np.empty(known, dtype=np.int32)
        self.times: Times | None = None
        if columns.time is not None:
            self.times = np.empty(known, dtype=np.int64) if columns.datetimes else np.empty(known, dtype=np.float64)
        self.labels = None if columns.label is None else np.empty(known, dtype=np.int32)

    def add_table(self, table: Table, time_format: str | None) -> None:
        columns, begin = self.columns, self.n
        text: dict[str, Sequence[str]] = {} if columns.id is None else {columns.id: ("",)}
        text |= {name: MISSING for name in (columns.label, columns.time if columns.datetimes else None) if name}
        for frame in table.batches(columns.used, text):
            rows = slice(self.n, self.n + len(frame))
            place = partial(_place, table, self.n - begin)
            if rows.stop > len(self.codes):
                self._resize(rows.stop * 5 // 4)
            for c, name in enumerate(columns.channels):
                self.values[rows, c] = _numbers(frame[name], name, place)
            if columns.id is None:
                self.codes[rows] = self.ids.setdefault(table.entity, len(self.ids))
            else:
                codes = self.codes[rows] = self._encode(frame[columns.id], self.ids)
                if codes.min() < 0:
                    raise ValueError(
                        f"data.id={columns.id} is empty in {place(int(codes.argmin()))}; every row needs the name of "
                        "its entity: fill it in or remove the row"
                    )
            if self.times is not None and columns.time is not None:
                self.times[rows] = _times(frame[columns.time], columns, time_format, place)
            if self.labels is not None and columns.label is not None:
                self.labels[rows] = self._encode(frame[columns.label], self.label_names)
            self.n = rows.stop

    def finish(self) -> None:
        """Cut the arrays to the rows that came, and make numbers of names that a text file could only give as text."""
        self._resize(self.n)
        if not self.typed:
            self.ids, self.label_names = _whole_numbers(self.ids), _whole_numbers(self.label_names)
        elif all(isinstance(name, float) and name.is_integer() for name in self.label_names):
            self.label_names = {int(name): code for name, code in self.label_names.items()}  # type: ignore[call-overload]

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


def _times(column: pd.Series, columns: _Columns, time_format: str | None, place: Callable[[int], str]) -> Times:
    """int64 nanoseconds for datetimes, else float64 in the user's unit (seconds for durations)."""
    option, missing = f"data.time={columns.time}", column.isna().to_numpy()
    if missing.any():
        raise ValueError(
            f"{option} is empty in {place(int(missing.argmax()))}; fill it in, remove the row, or leave data.time out "
            "if the rows are in order"
        )
    if columns.datetimes:
        times = _datetimes(column.astype(str) if time_format else column, time_format)
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


def _place(table: Table, first: int, row: int) -> str:
    return table.place(first + row)


def _whole_numbers(names: dict[object, int]) -> dict[object, int]:
    """Names as numbers where each is written as a plain whole number (007 is not)."""
    plain = all(isinstance(name, str) and re.fullmatch(r"0|-?[1-9]\d{0,17}", name) for name in names)
    return {int(str(name)): code for name, code in names.items()} if plain else names
