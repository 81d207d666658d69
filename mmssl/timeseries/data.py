"""A user's own files, tables and arrays become a `SeriesSet`; embeddings become tables and files.

Tables are read in batches of a bounded number of cells into flat arrays: the values as float32, entities and labels as
codes. The columns themselves are never in memory as a whole, so a recording needs little more than its float32 values.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mmssl.timeseries.arrays import Array, read_array, series_from_arrays
from mmssl.timeseries.columns import Columns, choose_columns, refuse_other_columns, some
from mmssl.timeseries.options import Reading, regularity
from mmssl.timeseries.reading import Rows, in_time_zone, read_rows
from mmssl.timeseries.rows import check_channels, refuse_infinite, series_from_rows, warn_of_empty
from mmssl.timeseries.series import SeriesSet
from mmssl.timeseries.tables import ARRAYS, Table, find_files, frame_table, open_table, suffix, suggest
from mmssl.timeseries.times import distances, span_text, time_text

Source = str | os.PathLike[str] | pd.DataFrame | npt.NDArray[Any]


def read_series(source: Source, *, learn: bool = True, **options: Any) -> SeriesSet:
    """Series from a file, a folder of files, a long table or an array.

    Args:
        source: CSV (any delimiter), Parquet, Feather/Arrow, NPY/NPZ ``(N, T, C)``, a folder of such files, a DataFrame
            or an array ``(N, T, C)`` or ``(N, T)``. In a folder every file is one entity, named after it, unless ``id``
            says that entities are told apart by a column.
        learn: the data is to be learnt from, which a channel without a value cannot be.
        options: see `Reading`.

    Raises:
        FileNotFoundError: ``source`` does not exist.
        ValueError: the data cannot be used as given; the message says where, why and what to do.
    """
    how = Reading(**options)
    arrays, tables = open_source(source)
    if arrays:
        series = series_from_arrays(arrays, how.wanted, how.for_tables())
        series = replace(series, units=common_units([], series.channels, how.units))
        (check_channels if learn else refuse_infinite)(series)
    else:
        series = series_of(read_rows(tables, columns_of(tables, how)), tables, how, check=learn)
    if not learn:
        warn_of_empty(series)
    return series


def open_source(source: Source) -> tuple[list[Array], list[Table]]:
    """The arrays or the tables that there are, looked into but not read; one of both lists is empty."""
    if isinstance(source, np.ndarray):
        return [Array("the array", None, source)], []
    if isinstance(source, pd.DataFrame):
        return [], _named_apart([frame_table(source)])
    files = find_files(Path(source))
    arrays = [read_array(file) for file in files if suffix(file) in ARRAYS]
    return arrays, [] if arrays else _named_apart([open_table(file) for file in files])


def columns_among(source: Source, names: Sequence[str]) -> list[str]:
    """Those of the names that are columns of all tables."""
    _, tables = open_source(source)
    return [name for name in names if all(name in table.columns for table in tables)]


def columns_of(tables: list[Table], how: Reading) -> Columns:
    """The columns to read; every table must have them."""
    wanted = how.wanted
    columns = choose_columns(tables[0], how.id, how.time, wanted, how.label, how.static, how.time_format)
    for table in tables[1:]:
        refuse_other_columns(table, tables[0], columns, exact=wanted is None)
    return columns


def series_of(rows: Rows, tables: Sequence[Table], how: Reading, *, check: bool = True) -> SeriesSet:
    """The rows of the tables as series; for ``check`` see `mmssl.timeseries.rows.series_from_rows`."""
    columns = rows.columns
    if how.time_zone is not None:
        rows.times = in_time_zone(rows, how.time_zone)
    series = series_from_rows(
        rows.values,
        rows.codes,
        ids=list(rows.ids),
        channels=columns.channels,
        times=rows.times,
        labels=rows.labels,
        label_names=list(rows.label_names),
        static={name: constant.values(len(rows.ids)) for name, constant in rows.static.items()},
        regularity=regularity(how, columns),
        check=check,
    )
    units = common_units(tables, series.channels, how.units)
    return replace(series, units=units, label_policy=how.label_policy, time_format=rows.time_format)


def common_units(
    tables: Sequence[Table], channels: Sequence[str], given: Mapping[str, str] | None
) -> tuple[str | None, ...] | None:
    """The unit of every channel, from the user and from the files; None if no unit is known.

    Raises:
        ValueError: two of them contradict each other, or a unit is given for what is no channel.
    """
    known: dict[str, tuple[str, str]] = {}
    if unknown := [name for name in given or {} if name not in channels]:
        raise ValueError(f"data.units names {unknown[0]!r}, which is no channel; {suggest(unknown[0], channels)}")
    said = [("data.units", given or {}), *((table.name, table.units) for table in tables)]
    for who, units in said:
        for name, unit in units.items():
            first, other = known.setdefault(name, (unit, who))
            if name in channels and first != unit:
                raise ValueError(
                    f"channel {name!r} is in {first!r} according to {other}, and in {unit!r} according to {who}; "
                    "convert one of them, or correct the unit that is wrong"
                )
    found = tuple(known[name][0] if name in known else None for name in channels)
    return found if any(found) else None


def describe(series: SeriesSet) -> str:
    """What was read, in a few lines that show at once when something was misread."""
    lengths, columns = series.lengths, zip(series.channels, series.values.T, strict=True)
    short, long = int(lengths.min()), int(lengths.max())
    span = f"{short:,} each" if short == long else f"{short:,} to {long:,} each, median {np.median(lengths):,.0f}"
    lines = [
        f"entities: {len(series):,} with {len(series.values):,} rows ({span})",
        f"channels: {len(series.channels)} ({some(series.channels)})",
    ]
    if series.times is not None:
        lines.append(f"time: {_span_and_rate(series)}")
    missing = [f"{name} {share:.1%}" for name, column in columns if (share := np.isnan(column).mean()) > 0]
    if missing:
        lines.append(f"missing: {some(missing)}")
    if series.breaks is not None and len(series.breaks):
        lines.append(f"breaks: {len(series.breaks):,} (gaps, or clocks that were reset); no window straddles one")
    if series.static:
        lines.append(f"known of each entity: {some(list(series.static))}")
    if series.labels is not None:
        counts = pd.Series(series.labels, dtype=object).value_counts(dropna=False)
        known = sorted(f"{name} {count:,}" for name, count in counts.items() if name is not None)
        unlabelled = int(counts.get(None, 0))
        unit = "rows" if series.labels_by_row else "entities"
        lines.append(f"labels of {unit}: {some(known)}" + (f"; {unlabelled:,} unlabelled" if unlabelled else ""))
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


def _named_apart(tables: list[Table]) -> list[Table]:
    for table in tables:
        if table.sample.empty:
            raise ValueError(f"{table.name} has no rows; fill it or remove it")
    if len({table.entity for table in tables}) < len(tables):  # a.csv and a.parquet
        return [replace(table, entity=Path(table.name).name) for table in tables]
    return tables
