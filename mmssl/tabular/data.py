"""A user's own file, folder, DataFrame or array becomes a `TableSet`; embeddings become tables.

Tables are read in batches of a bounded number of cells into one float32 matrix: numbers as they are, categories as
codes. Columns of text are never in memory as a whole, so a table needs little more than four bytes a cell.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from mmssl.tabular.tables import (
    COMMA_NUMBER,
    MISSING,
    THOUSANDS,
    Table,
    find_files,
    frame_table,
    later,
    open_table,
    suggest,
)
from mmssl.tabular.tableset import Column, Kind, Part, TableSet

Role = Literal["numeric", "categorical", "date"]
Task = Literal["auto", "classification", "regression"]
ROLES: tuple[Role, ...] = ("numeric", "categorical", "date")
MOSTLY = 0.8  # share of distinct values from which on a text names its row instead of describing it
FEW = 50  # texts that are too few to tell that
CLASSES = 20  # whole numbers with more distinct values are a quantity to predict
PARTS: tuple[Part, ...] = ("days", "month", "weekday", "hour")
MONTHS = tuple(str(month) for month in range(1, 13))
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_DATES = ("%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%Y/%m/%d", "%d-%m-%Y", "%d %b %Y", "%d %B %Y", "%d-%b-%Y", "%b %d, %Y")
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
_GROUPED = re.compile(rf"\s*{THOUSANDS}(?![.\d])")
_WHOLE = re.compile(r"[+-]?\d+\.0+")
_NAMELESS = re.compile(r"|Unnamed: \d+|__index_level_\d+__")  # row numbers that pandas wrote beside the data

Source = str | os.PathLike[str] | pd.DataFrame | npt.NDArray[Any]


@dataclass(frozen=True)
class Roles:
    """What the columns of a table are; None or nothing where that is to be found out.

    Args:
        label: what is to be predicted, never learnt from; empty where unlabelled.
        task: ``"auto"`` is a regression for numbers that are not whole or have more than 20 distinct values.
        id: names a row in what comes out.
        group: rows that belong together, such as those of one customer; a split keeps them on one side.
        time: a date or number that puts the rows in order; a split by time holds out the last ones.
        numeric, categorical, date: columns that are that whatever they look like.
        ignore: columns to leave out.
    """

    label: str | None = None
    task: Task = "auto"
    id: str | None = None
    group: str | None = None
    time: str | None = None
    numeric: Sequence[str] = ()
    categorical: Sequence[str] = ()
    date: Sequence[str] = ()
    ignore: Sequence[str] = ()

    def forced(self) -> dict[str, Role]:
        return {name: role for role in ROLES for name in getattr(self, role)}


def read_table(
    source: Source,
    roles: Roles | None = None,
    *,
    names: Sequence[str] | None = None,
    missing: Sequence[str] = MISSING,
    columns: Sequence[Column] | None = None,
) -> TableSet:
    """Rows from a file, a folder of files with the same columns, a DataFrame or an array.

    Args:
        source: CSV (any delimiter), Parquet, Feather/Arrow, a folder of them, a DataFrame, or an array ``(N, M)`` whose
            columns are called x0, x1, …
        roles: of its columns, where they are not as they look.
        names: of the columns of text files without a header, or of an array.
        missing: texts that stand for an empty cell, beside the empty one.
        columns: those of the training data, for new data, which is then read in the same way.

    Raises:
        FileNotFoundError: ``source`` does not exist.
        ValueError: the data cannot be used as given; the message says where, why and what to do.
    """
    if isinstance(source, np.ndarray):
        if source.ndim != 2:
            raise ValueError(f"an array must have shape (rows, columns), got {source.shape}")
        source = pd.DataFrame(source, columns=list(names or [f"x{i}" for i in range(source.shape[1])])).infer_objects()
    if isinstance(source, pd.DataFrame):
        tables = [frame_table(source)]
    else:
        tables = [open_table(file, names=names, missing=missing) for file in find_files(Path(source))]
    return read_tables(tables, roles, missing=missing, columns=columns)


def read_tables(
    tables: Sequence[Table],
    roles: Roles | None = None,
    *,
    missing: Sequence[str] = MISSING,
    columns: Sequence[Column] | None = None,
) -> TableSet:
    """Rows of tables with the same columns, one below the other; see `read_table`."""
    roles = roles or Roles()
    for table in tables:
        if table.sample.empty:
            raise ValueError(f"{table.name} has no rows; fill it or remove it")
    first = tables[0]
    if columns is None:
        _check_roles(first, roles)
        columns, left_out = _choose(first, roles, missing)
    else:
        left_out = {}
        _check_roles(first, Roles(label=roles.label, group=roles.group, time=roles.time))
        _refuse_lost_columns(first, columns)
        if roles.id not in first.columns:  # new rows need no names
            roles = replace(roles, id=None)
    beside = [name for name in (roles.label, roles.id, roles.group, roles.time) if name is not None]
    used = list(dict.fromkeys([*(column.source for column in columns), *beside]))
    for table in tables:
        if lost := [name for name in used if name not in table.columns]:
            raise ValueError(
                f"{table.name} lacks {', '.join(map(repr, lost))}, which {first.name} has; the files of a folder need "
                "the same columns: move it elsewhere, or list the columns in data.ignore"
            )
    reading = _Reading(columns, roles, used, missing, regression=_regression(tables, roles, missing))
    reading.reserve(sum(table.rows or 0 for table in tables))
    for table in tables:
        reading.add(table)
    return reading.finish(left_out)


def describe(table: TableSet) -> str:
    """What was read, in a few lines that show at once when something was misread."""
    numeric = [c.name for c in table.columns if c.kind == "numeric" and not c.part]
    categorical = [
        f"{c.name} {len(names)}"
        for c, names in zip(table.columns, table.categories, strict=True)
        if c.kind == "categorical" and not c.part
    ]
    dates = list(
        dict.fromkeys(f"{c.source} ({c.form})" if c.form not in ("", "ISO8601") else c.source
                      for c in table.columns if c.part)
    )  # fmt: skip
    lines = [f"rows: {len(table):,}"]
    for kind, found in (("numeric", numeric), ("categorical", categorical), ("dates", dates)):
        if found:
            lines.append(f"{kind}: {len(found)} ({_some(found)})")
    if table.left_out:
        lines.append(f"left out: {', '.join(f'{name} ({why})' for name, why in table.left_out.items())}")
    lost = np.isnan(table.values).mean(axis=0, dtype=np.float64)
    missing = [f"{c.name} {share:.1%}" for c, share in zip(table.columns, lost, strict=True) if share > 0]
    if missing:
        lines.append(f"missing: {_some(missing)}")
    if table.labels is not None:
        known = table.labels[table.labelled]
        if table.classes is None:
            text = f"{known.min():.4g} to {known.max():.4g}, median {np.median(known):.4g}" if len(known) else "none"
        else:
            counts = np.bincount(known.astype(np.int64), minlength=len(table.classes))
            text = _some([f"{name} {count:,}" for name, count in zip(table.classes, counts, strict=True)])
        unlabelled = len(table) - len(known)
        lines.append(f"label {table.label}: {text}" + (f"; {unlabelled:,} unlabelled" if unlabelled else ""))
    return "\n".join(lines)


def embedding_frame(values: npt.NDArray[np.floating], index: npt.NDArray[Any] | None, **columns: Any) -> pd.DataFrame:
    """Embeddings ``(n, D)`` as a table with columns ``e000``…, indexed by the names of the rows or their number.

    Further ``columns``, such as labels, come before the features.
    """
    rows = pd.RangeIndex(len(values), name="row") if index is None else pd.Index(index, name="row")
    features = pd.DataFrame(values, index=rows, columns=[f"e{i:03d}" for i in range(values.shape[1])])
    return pd.concat([pd.DataFrame(columns, index=rows), features], axis=1) if columns else features


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (", …" if len(names) > 12 else "")


# ---------------------------------------------------------------------------------------------------- which columns


def _check_roles(table: Table, roles: Roles) -> None:
    named = [(f"data.{role}", name) for role in ("label", "id", "group", "time") if (name := getattr(roles, role))]
    named += [(f"data.{role}", name) for role in (*ROLES, "ignore") for name in getattr(roles, role)]
    for i, (option, name) in enumerate(named):
        if name not in table.columns:
            raise ValueError(f"{option}: {table.name} has no column {name!r}; {suggest(name, table.columns)}")
        if option != "data.ignore" and _is_nested(table.sample[name]):
            raise ValueError(
                f"{option}: column {name!r} of {table.name} holds lists or records, and a cell is one value: give each "
                "of their values a column of its own"
            )
        for other, same in named[:i]:
            if name == same and "data.time" not in (option, other):  # what orders the rows may be learnt from
                raise ValueError(f"column {name!r} is named both as {other} and as {option}; take it out of one")


def _choose(table: Table, roles: Roles, missing: Sequence[str]) -> tuple[list[Column], dict[str, str]]:
    """The columns to learn from, and why the others are left out."""
    columns: list[Column] = []
    left_out: dict[str, str] = {}
    forced = roles.forced()
    for name in table.columns:
        if name in (roles.label, roles.id, roles.group):
            continue
        if name in roles.ignore:
            left_out[name] = "data.ignore"
            continue
        column = _known(table.sample[name], missing)
        role = forced.get(name)
        if role is None and isinstance(column.dtype, pd.CategoricalDtype) and (table.declared or not _is_text(column)):
            role = "categorical"
        if role is None:
            role, why_not = _infer(column, name, table.decimal)
            if role == "numeric" and name in table.doubtful:
                raise ValueError(
                    f"column {name!r} of {table.name}: the point in {table.doubtful[name]} may stand before decimals "
                    "or between thousands. In the first case name the column in data.numeric; in the second write the "
                    "file without these points, or as Parquet"
                )
            if role is None:
                left_out[name] = why_not
                continue
        columns += _columns(name, column, role, table)
    if not columns:
        reasons = f": {_some([f'{name} ({why})' for name, why in left_out.items()])}" if left_out else ""
        raise ValueError(
            f"{table.name} has no column to learn from{reasons}; name some in data.numeric or data.categorical"
        )
    names = [column.name for column in columns]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the parts of a date take the name {twice!r}, which {table.name} has already; rename it")
    return columns, left_out


def _infer(column: pd.Series, name: str, decimal: str) -> tuple[Role | None, str]:
    """What a column is, by its first rows; or None, and why it is left out.

    Args:
        column: without its missing cells.
        name: of it.
        decimal: what stands before the decimals in its table, if that is known.
    """
    if column.empty:
        return "numeric", ""  # a later row may tell more; one without any value is left out when scales are fitted
    if pd.api.types.is_bool_dtype(column):
        return "categorical", ""
    if pd.api.types.is_numeric_dtype(column):
        if _NAMELESS.fullmatch(name) or counts_rows(column):
            return None, "counts the rows"
        return "numeric", ""
    if _is_nested(column):
        return None, "lists and records are no cells"
    inside = pd.api.types.infer_dtype(column)
    if pd.api.types.is_datetime64_any_dtype(column) or inside in ("date", "datetime", "datetime64"):
        return "date", ""
    if inside in ("timedelta", "timedelta64", "decimal", "floating", "integer", "mixed-integer-float"):
        return "numeric", ""
    texts = column.astype(str)
    if not isinstance(column.dtype, pd.CategoricalDtype) or texts.nunique() > CLASSES:
        if _numbers_of(texts, _decimal(texts, decimal)).notna().mean() > 0.5:
            return "numeric", ""  # a price with a remark here and there: reading it names the cell
        if _date_format(texts) is not None:
            return "date", ""
    distinct = texts.nunique()
    if len(texts) >= FEW and distinct > MOSTLY * len(texts):
        return None, f"{distinct:,} different texts in {len(texts):,} rows, such as {texts.iloc[0][:40]!r}"
    return "categorical", ""


def counts_rows(column: pd.Series) -> bool:
    """Is each cell one more than that before it, in neighbouring rows that are enough to tell?"""
    whole = pd.api.types.is_integer_dtype(column) and len(column) >= FEW
    return whole and bool((np.diff(column.to_numpy()) == 1).all())


def _columns(name: str, known: pd.Series, role: Role, table: Table) -> list[Column]:
    """How a column is read: one of numbers or categories, or several for a date."""
    if role == "categorical":
        return [Column(name, "categorical", name)]
    if role == "numeric":
        form = _form(known, "" if name in table.doubtful else table.decimal)
        numbers = _numbers_of(known, form) if len(known) else pd.Series(dtype=float)
        return [Column(name, "numeric", name, origin=_origin(numbers.dropna().to_numpy(np.float64)), form=form)]
    date_format = _date_format(known.astype(str)) if _is_text(known) else ""
    if date_format is None:
        raise ValueError(
            f"data.date: column {name!r} of {table.name} holds {known.astype(str).iloc[0]!r}, which is no date of a "
            "known format; write dates as 2024-12-31, or 2024-12-31 23:59:59"
        )
    days = _days(known, date_format)
    kinds: dict[Part, Kind] = {"days": "numeric", "month": "categorical", "weekday": "categorical", "hour": "numeric"}
    return [
        Column(
            name if part == "days" else f"{name}.{part}",
            kinds[part],
            name,
            part,
            origin=float(np.floor(np.nanmedian(days))) if part == "days" and len(days) else 0.0,
            form=date_format,
        )
        for part in PARTS
    ]


def _regression(tables: Sequence[Table], roles: Roles, missing: Sequence[str]) -> Column | None:
    """The label as numbers; None if it is classes, or there is none."""
    if roles.label is None or roles.task == "classification":
        return None
    table = tables[0]
    known = _known(table.sample[roles.label], missing)
    if len(known) < FEW:
        known = _first_known(tables, roles.label, missing)
    decimal = "" if roles.label in table.doubtful else table.decimal
    label = Column(roles.label, "numeric", roles.label, form=_form(known, decimal))
    if roles.task == "regression":
        return label
    if known.empty or isinstance(known.dtype, pd.CategoricalDtype) or pd.api.types.is_bool_dtype(known):
        return None
    numbers = _numbers_of(known, label.form)
    if numbers.isna().any() or (bool((numbers == numbers.round()).all()) and numbers.nunique() <= CLASSES):
        return None
    if roles.label in table.doubtful:
        raise ValueError(
            f"data.label={roles.label} of {table.name}: the point in {table.doubtful[roles.label]} may stand before "
            "decimals or between thousands. In the first case set data.task=regression; in the second write the file "
            "without these points, or as Parquet"
        )
    return label


def _first_known(tables: Sequence[Table], name: str, missing: Sequence[str]) -> pd.Series:
    """Cells that are not missing, of a column that is mostly empty."""
    found: list[pd.Series] = []
    for table in tables:
        for frame in table.batches([name], [name]):
            cells = frame[name]
            if isinstance(cells.dtype, pd.CategoricalDtype) and not table.declared:
                cells = cells.astype(object)  # texts of a Parquet file
            found.append(_known(cells, missing))
            if sum(map(len, found)) >= FEW:
                return pd.concat(found, ignore_index=True)
    return pd.concat(found, ignore_index=True)


def _form(known: pd.Series, decimal: str) -> str:
    """How numbers are read; see `Column` and `_infer`."""
    if _is_text(known):
        return _decimal(known.astype(str), decimal)
    numbers = pd.api.types.is_numeric_dtype(known) and not pd.api.types.is_bool_dtype(known)
    return "," if numbers and decimal == "," else ""


def _refuse_lost_columns(table: Table, columns: Sequence[Column]) -> None:
    """Every column of the training data has to be there."""
    wanted = list(dict.fromkeys(column.source for column in columns))
    lost = [name for name in wanted if name not in table.columns]
    if lost:
        new = [name for name in table.columns if name not in wanted]
        hints = [f"{name!r}" + (f" ({suggest(name, new)})" if new else "") for name in lost]
        raise ValueError(
            f"{table.name} lacks {'; '.join(hints)}: the encoder was trained on {_some(wanted)}. "
            "Add the column; its cells may be empty"
        )


def filled(column: pd.Series, missing: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which cells are not missing."""
    there = column.notna().to_numpy(copy=True)
    known = column[there]
    if _is_text(known):
        there[there] = ~known.astype(str).str.strip().isin(["", *missing]).to_numpy()
    return there


def _known(column: pd.Series, missing: Sequence[str]) -> pd.Series:
    return column[filled(column, missing)]


def _is_nested(column: pd.Series) -> bool:
    """Does some cell hold several values?"""
    return not all(isinstance(cell, Hashable) for cell in column)


def _is_text(column: pd.Series) -> bool:
    if isinstance(column.dtype, pd.CategoricalDtype):
        return _is_text(pd.Series(column.cat.categories))
    return pd.api.types.infer_dtype(column, skipna=True) in ("string", "mixed", "mixed-integer")


def _decimal(texts: pd.Series, decimal: str) -> str:
    """A comma if it stands before decimals, in some cell or in the table, and no cell has a point there."""
    some = texts.str.fullmatch(rf"\s*{COMMA_NUMBER}\s*")
    grouped = texts.str.fullmatch(r"\s*[-+]?\d{1,3}(?:,\d{3})+\s*")
    points = texts.str.fullmatch(r"\s*[-+]?[\d,]*\.\d*(?:[eE][-+]?\d+)?\s*")
    thousands = texts.str.fullmatch(rf"\s*{THOUSANDS}\s*")
    commas = decimal == "," or bool((some & ~grouped).any())
    return "," if commas and not bool((points & ~thousands).any()) else ""


def _numbers_of(column: pd.Series, form: str, *, grouped: bool = True) -> pd.Series:
    """float64, NaN where a cell is no number; durations are in seconds.

    Args:
        column: cells.
        form: a comma if that stands before their decimals.
        grouped: does a point stand between thousands then?
    """
    if pd.api.types.is_timedelta64_dtype(column):
        return column.dt.total_seconds()
    if form == "," and not pd.api.types.is_numeric_dtype(column):
        column = column.map(partial(_with_point, grouped=grouped))
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object)  # whole numbers with a gap have no type of their own
    if pd.api.types.is_numeric_dtype(column):
        return column.astype("Float64").astype(float) if pd.api.types.is_extension_array_dtype(column) else column
    return pd.to_numeric(column.astype(object), errors="coerce").astype(float)


def _with_point(cell: object, *, grouped: bool) -> object:
    if not isinstance(cell, str):
        return cell
    if grouped and _GROUPED.match(cell):
        cell = cell.replace(".", "")
    return cell.replace(",", ".")


def _date_format(texts: pd.Series) -> str | None:
    """The first format that fits all of these texts; with slashes the month comes first where both orders fit."""
    for date_format in ("ISO8601", *(date + clock for date in _DATES for clock in _CLOCKS)):
        if pd.to_datetime(texts.iloc[:1], format=date_format, utc=True, errors="coerce").isna().any():
            continue
        if pd.to_datetime(texts, format=date_format, utc=True, errors="coerce").notna().all():
            return date_format
    return None


def _days(column: pd.Series, date_format: str) -> npt.NDArray[np.float64]:
    """Days since 1970, with their fraction; NaN where a cell is no date. Naive dates are taken as UTC."""
    if _is_text(column):
        time_format = date_format or "ISO8601"  # training had dates, a text file can only give their text
        times = pd.to_datetime(column.astype(object), format=time_format, utc=True, errors="coerce")
    else:
        times = pd.to_datetime(column, utc=True, errors="coerce")
    microseconds = times.dt.as_unit("us").astype(np.int64).to_numpy()
    return np.where(times.isna(), np.nan, microseconds / 86.4e9)


def _origin(numbers: npt.NDArray[np.float64]) -> float:
    """Where to count from so that float32 keeps four digits of what differs; 0 if that is so anyway."""
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return 0.0
    middle = float(np.median(numbers))
    spread = float(np.subtract(*np.quantile(numbers, (0.75, 0.25)))) or float(np.ptp(numbers))
    return middle if abs(middle) > 1000 * spread else 0.0


# ---------------------------------------------------------------------------------------------------- reading the rows


class _Reading:
    """The rows of all tables in the order in which they are read."""

    def __init__(
        self,
        columns: Sequence[Column],
        roles: Roles,
        used: list[str],
        missing: Sequence[str],
        *,
        regression: Column | None,
    ) -> None:
        self.columns, self.roles, self.used = tuple(columns), roles, used
        self.missing = frozenset(["", *missing])
        self.regression = regression
        self.grouped = True
        fixed = {"month": MONTHS, "weekday": WEEKDAYS}
        self.categories = [{name: i for i, name in enumerate(fixed.get(c.part, ()))} for c in columns]
        self.n = 0
        self.values = np.empty((0, len(columns)), dtype=np.float32)
        self.classes: dict[str, int] = {}
        self.groups: dict[str, int] = {}
        self.beside: dict[str, list[npt.NDArray[Any]]] = {"label": [], "id": [], "group": [], "time": []}
        self.time_format: str | None = None

    def reserve(self, rows: int) -> None:
        """Make room; large arrays grow in place, without a copy."""
        self.values.resize((rows, len(self.columns)), refcheck=False)

    def add(self, table: Table) -> None:
        roles, begin = self.roles, self.n
        self.grouped = table.decimal != "."
        open_form = not table.decimal  # pandas reads the numbers of other files, which is quicker
        text = {c.source for c in self.columns if c.kind == "categorical" or c.part or (c.form and open_form)}
        text |= {name for name in (roles.id, roles.group) if name}
        if roles.label is not None and (self.regression is None or (self.regression.form and open_form)):
            text.add(roles.label)
        for frame in table.batches(self.used, text):
            try:
                self._rows(frame, partial(later, table.place, self.n - begin))
            except TypeError as error:  # what cannot be hashed is no category
                if nested := [name for name in self.used if _is_nested(frame[name])]:
                    raise ValueError(
                        f"column {nested[0]!r} of {table.name} holds lists or records, and a cell is one value: give "
                        "each of their values a column of its own, or only one of them"
                    ) from error
                raise

    def _rows(self, frame: pd.DataFrame, place: Callable[[int], str]) -> None:
        rows = slice(self.n, self.n + len(frame))
        if rows.stop > len(self.values):
            self.reserve(rows.stop * 5 // 4)
        cells = {name: self._without_missing(frame[name]) for name in self.used}
        days: dict[str, npt.NDArray[np.float64]] = {}
        for j, column in enumerate(self.columns):
            cell = cells[column.source]
            if column.part and column.source not in days:
                days[column.source] = self._dates(cell, column, place)
            if column.part:
                self.values[rows, j] = _part(days[column.source], column)
            elif column.kind == "numeric":
                self.values[rows, j] = self._numbers(cell, column, place)
            else:
                self.values[rows, j] = _encode(cell, self.categories[j])
        self._beside(cells, place)
        self.n = rows.stop

    def finish(self, left_out: Mapping[str, str]) -> TableSet:
        self.reserve(self.n)
        stacked = {name: np.concatenate(parts) if parts else None for name, parts in self.beside.items()}
        labels, classes = stacked["label"], None
        if labels is not None and self.regression is None:
            classes = tuple(sorted(self.classes, key=_natural))
            order = np.array([classes.index(name) for name in self.classes] + [np.nan])
            labels = order[np.where(np.isnan(labels), len(classes), labels).astype(np.int64)]
        return TableSet(
            self.values,
            self.columns,
            tuple(tuple(names) for names in self.categories),
            labels=labels,
            classes=classes,
            label=self.roles.label,
            ids=stacked["id"],
            groups=stacked["group"],
            times=stacked["time"],
            left_out=left_out,
        )

    def _without_missing(self, column: pd.Series) -> pd.Series:
        """Texts that stand for an empty cell become empty; the others lose the blanks around them."""
        if isinstance(column.dtype, pd.CategoricalDtype):
            if not _is_text(column):
                return column
            names = [str(name).strip() for name in column.cat.categories]
            texts = np.array([*(None if name in self.missing else name for name in names), None], dtype=object)
            return pd.Series(texts[column.cat.codes.to_numpy()], index=column.index, dtype=object)
        if pd.api.types.is_numeric_dtype(column) or not _is_text(column):
            return column
        stripped = column.map(lambda cell: cell.strip() if isinstance(cell, str) else cell).astype(object)
        return stripped.where(~stripped.isin(list(self.missing)), None)

    def _numbers(self, cell: pd.Series, column: Column, place: Callable[[int], str]) -> npt.NDArray[np.float64]:
        """Less the column's origin; finite, or NaN."""
        numbers = _numbers_of(cell, column.form, grouped=self.grouped)
        bad = np.flatnonzero((numbers.isna() & cell.notna()).to_numpy())
        if len(bad):
            raise ValueError(
                f"column {column.source!r} holds numbers, but {_shown(cell, bad)} in {place(int(bad[0]))}; write a "
                f"number with a decimal {'comma' if column.form else 'point'}, add the text to data.missing if it "
                f"means that there is none, or list {column.source} in data.categorical (or data.ignore)"
            )
        exact = numbers.to_numpy(dtype=np.float64) - column.origin
        infinite = np.flatnonzero(np.abs(exact) > np.finfo(np.float32).max)
        if len(infinite):
            raise ValueError(
                f"column {column.source!r} has {len(infinite)} infinite value(s), the first ({_shown(cell, infinite)}) "
                f"in {place(int(infinite[0]))}; replace them by a number, or empty the cells"
            )
        return exact

    def _dates(self, cell: pd.Series, column: Column, place: Callable[[int], str]) -> npt.NDArray[np.float64]:
        days = _days(cell, column.form)
        bad = np.flatnonzero(np.isnan(days) & cell.notna().to_numpy())
        if len(bad):
            raise ValueError(
                f"column {column.source!r} holds dates, but {_shown(cell, bad)} in {place(int(bad[0]))}, which is not "
                f"of the format {column.form or 'of the others'}; correct it, empty the cell, or list "
                f"{column.source} in data.categorical (or data.ignore)"
            )
        return days

    def _beside(self, cells: Mapping[str, pd.Series], place: Callable[[int], str]) -> None:
        roles = self.roles
        if roles.label is not None:
            if self.regression is not None:
                self.beside["label"].append(self._numbers(cells[roles.label], self.regression, place))
            else:
                self.beside["label"].append(_encode(cells[roles.label], self.classes).astype(np.float64))
        if roles.id is not None:
            self.beside["id"].append(cells[roles.id].to_numpy(dtype=object))
        if roles.group is not None:
            codes = _encode(cells[roles.group], self.groups)
            if np.isnan(codes).any():
                row = int(np.isnan(codes).argmax())
                raise ValueError(f"data.group={roles.group} is empty in {place(row)}; fill it in or remove the row")
            self.beside["group"].append(codes.astype(np.int64))
        if roles.time is not None:
            self.beside["time"].append(self._times(cells[roles.time], roles.time, place))

    def _times(self, cell: pd.Series, name: str, place: Callable[[int], str]) -> npt.NDArray[np.float64]:
        form = next((c.form for c in self.columns if c.source == name and not c.part), "")
        if _is_text(cell) and self.time_format is None:
            known = cell.dropna().astype(str)
            self.time_format = _date_format(known) or "" if _numbers_of(known, form).isna().any() else ""
        dates = bool(self.time_format) or pd.api.types.is_datetime64_any_dtype(cell)
        times = _days(cell, self.time_format or "") if dates else _numbers_of(cell, form).to_numpy(dtype=np.float64)
        bad = np.flatnonzero(np.isnan(times))
        if len(bad):
            raise ValueError(
                f"data.time={name}: {_shown(cell, bad)} in {place(int(bad[0]))} is neither a number nor a date like "
                "the others; correct it or remove the row"
            )
        return times


def _encode(column: pd.Series, known: dict[str, int]) -> npt.NDArray[np.float32]:
    """Position of every category in ``known``, which grows; NaN where there is none."""
    codes, names = pd.factorize(column)
    table = [known.setdefault(_category(name), len(known)) for name in names.tolist()]
    return np.array([*table, np.nan], dtype=np.float32)[codes]


def _category(name: object) -> str:
    """One spelling for what a file, a DataFrame and an array may write as 1, 1.0 or "1.0", as True or "TRUE"."""
    text = str(int(name)) if isinstance(name, float) and name.is_integer() else str(name)
    if _WHOLE.fullmatch(text):
        return text.partition(".")[0]
    return text.capitalize() if text.lower() in ("true", "false") else text


def _part(days: npt.NDArray[np.float64], column: Column) -> npt.NDArray[np.floating[Any]]:
    """One of the `PARTS` of dates that are given in days since 1970."""
    if column.part == "days":
        return days - column.origin
    if column.part == "hour":
        return 24 * (days % 1)
    if column.part == "weekday":
        return (np.floor(days) + 3) % 7  # 1 January 1970 was a Thursday
    known = ~np.isnan(days)
    month = np.full(len(days), np.nan)
    dates = np.floor(days[known]).astype("datetime64[D]")
    month[known] = dates.astype("datetime64[M]").astype(np.int64) % 12
    return month


def _natural(name: str) -> tuple[bool, float, str]:
    """Numbers by their size, then texts by the alphabet."""
    try:
        return False, float(name), name
    except ValueError:
        return True, 0.0, name


def _shown(column: pd.Series, rows: npt.NDArray[np.int64]) -> str:
    """The first of these cells as the user wrote it: ``inf``, and not ``np.float64(inf)``."""
    cell = column.iloc[rows[0]]
    return repr(cell.item() if isinstance(cell, np.generic) else cell)
