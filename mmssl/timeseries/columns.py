"""Which columns of a table mean what: those that the user named, and those that can only be channels.

Never guesses what a column that the user did not name could mean: the message asks.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from mmssl.timeseries.tables import Table, suggest

_NAMELESS = re.compile(r"Unnamed: \d+|__index_level_\d+__")  # row numbers that pandas wrote beside the data
_CLOCK_ROWS = 10  # so many numbers in order are no accident
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


@dataclass(frozen=True)
class Columns:
    """The columns to read.

    Args:
        channels, id, time, label, static: their names.
        datetimes: the times are dates, not numbers.
        formats: datetime formats that fit the sample, in the order to try; None where the times are no text.
    """

    channels: list[str]
    id: str | None
    time: str | None
    label: str | None
    datetimes: bool
    formats: tuple[str | None, ...]
    static: tuple[str, ...] = ()

    @property
    def used(self) -> list[str]:
        """All of them, each once."""
        named = (*self.channels, self.id, self.time, self.label, *self.static)
        return list(dict.fromkeys(name for name in named if name is not None))


def choose_columns(
    table: Table,
    id: str | None,
    time: str | None,
    channels: list[str] | None,
    label: str | None,
    static: Sequence[str] = (),
    time_format: str | None = None,
) -> Columns:
    """The columns to read, given those that the user named, and the datetime format to prefer of several that fit.

    Raises:
        ValueError: there is no such column, it is named twice, or what it means has to be said.
    """
    roles = {option: name for option, name in (("data.id", id), ("data.time", time), ("data.label", label)) if name}
    constant = [(f"data.static[{i}]", name) for i, name in enumerate(static)]
    named = [*roles.items(), *constant, *(("data.channels", name) for name in channels or ())]
    for i, (option, name) in enumerate(named):
        if name not in table.columns:
            raise ValueError(f"{option}: {table.name} has no column {name!r}; {suggest(name, table.columns)}")
        for other, same in named[:i]:
            if name == same:
                raise ValueError(f"column {name!r} is named both as {other} and as {option}; take it out of one")
    if channels is None:
        channels = _free_channels(table, {**roles, **dict(constant)})
    formats: tuple[str | None, ...] = (None,)
    datetimes = time is not None and not _numeric_times(table.sample[time])
    if time is not None and datetimes and is_text(table.sample[time]):
        formats = _time_formats(table.sample[time].dropna()) or ("ISO8601",)
        formats = (time_format,) if time_format in formats else formats
    return Columns(channels, id, time, label, datetimes, formats, tuple(static))


def some(names: Sequence[str]) -> str:
    """The first dozen of the names."""
    return ", ".join(names[:12]) + (", …" if len(names) > 12 else "")


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
        raise ValueError(f"{table.name} has no numeric column to learn from, only {some(table.columns)}")
    if "data.time" not in roles:
        entity = table.sample[roles["data.id"]] if "data.id" in roles else None
        if rising := [name for name in channels if _rises(table.sample[name], entity)]:
            warnings.warn(
                f"column {rising[0]!r} rises from row to row, as a clock does: set data.time={rising[0]} if it is the "
                "time of the rows, or list data.channels to choose yourself",
                UserWarning,
                stacklevel=4,
            )
    return channels


def _rises(values: pd.Series, entity: pd.Series | None) -> bool:
    """Is every number above the one before of its entity, in all of at least `_CLOCK_ROWS` rows?"""
    if len(values) < _CLOCK_ROWS or values.dtype.kind not in "iuf" or values.isna().any():
        return False
    steps = (values if entity is None else values.groupby(entity)).diff().dropna()
    return len(steps) > 0 and bool((steps > 0).all())


def refuse_other_columns(table: Table, first: Table, columns: Columns, *, exact: bool) -> None:
    """Raise a ValueError unless ``table`` has the columns of ``first``: those in use, or with ``exact`` all of them."""
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
    if not is_text(column):
        return "number" if pd.api.types.infer_dtype(known) in ("boolean", "decimal", "floating", "integer") else "text"
    numbers = _share_of_numbers(known)
    if 0.5 <= numbers < 1:  # a sensor with an error code here and there: reading it names the cell
        return "number"
    return "datetime" if numbers < 1 and _time_formats(known, every=True) else "text"


def _numeric_times(column: pd.Series) -> bool:
    if is_text(column):
        return _share_of_numbers(column.dropna()) > 0.5
    return pd.api.types.is_numeric_dtype(column) or pd.api.types.is_timedelta64_dtype(column)


def is_text(column: pd.Series) -> bool:
    """Text, or a mixture with text in it."""
    categories = isinstance(column.dtype, pd.CategoricalDtype)
    return categories or pd.api.types.infer_dtype(column, skipna=True) in ("string", "mixed", "mixed-integer")


def _share_of_numbers(known: pd.Series) -> float:
    return float(pd.to_numeric(known.astype(str), errors="coerce").notna().mean()) if len(known) else 1.0


def _time_formats(known: pd.Series, *, every: bool = False) -> tuple[str, ...]:
    """The formats that fit most of these texts, in the order to try; with ``every`` only those that fit them all."""
    texts = known.astype(str)
    tried = dict.fromkeys(["ISO8601", *_matching(texts.iloc[0]), *_matching(texts.iloc[-1])])
    fits = {time_format: int(parse_datetimes(texts, time_format).notna().sum()) for time_format in tried}
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


def parse_datetimes(column: pd.Series, time_format: str | None) -> pd.Series:
    """Instants in UTC, NaT where the format does not fit; None: the column holds datetimes already."""
    cache = time_format is not None  # looking for repetition costs more than it saves where nothing is parsed
    return pd.to_datetime(column, format=time_format, utc=True, errors="coerce", cache=cache)


def span(option: str, value: str | float | None, kind: str, time: str | None) -> int | float | None:
    """A span of time as a number: nanoseconds for datetimes, the unit of numeric times, rows where there are none.

    Args:
        option: that holds it, for messages.
        value: what the user wrote.
        kind: of the times, see `SeriesSet.time_kind`.
        time: column that holds them.

    Raises:
        ValueError: it is none of that kind, or negative.
    """
    if value is None:
        return None
    number = _span(option, str(value), kind, time)
    if number < 0:
        raise ValueError(f"{option} must not be negative, got {value}")
    return number


def _span(option: str, text: str, kind: str, time: str | None) -> int | float:
    if kind != "datetime":
        try:
            return float(text)
        except ValueError:
            unit = (
                f"data.time={time} holds numbers: give it in their unit" if time else "there is no data.time: give rows"
            )
            raise ValueError(f"{option}={text} is no number, but {unit}") from None
    try:
        if text.lstrip("+-").isdigit():
            raise ValueError("it has no unit")
        first = "1" if text[:1].isalpha() else "0" if text[:1] == "." else ""  # min is 1min, .5s is 0.5s
        return int(pd.Timedelta(first + text).value)
    except ValueError as error:
        raise ValueError(
            f"{option}={text} is no fixed step of time ({error}); write a number and a unit, such as 10ms, 1s, "
            "15min, 1h or 1D"
        ) from None
