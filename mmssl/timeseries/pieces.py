"""A folder of Parquet files that is larger than memory, as pieces that are read one at a time.

A piece is some row groups that follow each other, sorted and made regular like a small data set of its own. Nothing
reaches from one piece into the next: no window, no value that is held.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmssl.timeseries.clock import order_rows
from mmssl.timeseries.columns import Columns
from mmssl.timeseries.data import columns_of, common_units, open_source, series_of
from mmssl.timeseries.options import Reading, regularity
from mmssl.timeseries.parquet import Part, row_groups
from mmssl.timeseries.preprocess import SeriesPreprocessor
from mmssl.timeseries.reading import read_rows
from mmssl.timeseries.rows import AS_IT_COMES
from mmssl.timeseries.series import SeriesSet
from mmssl.timeseries.tables import find_files, suffix

PARQUET = (".parquet", ".pq")
PIECE_BYTES = 16 << 20  # of the values of a piece, or one row group if that is larger


@dataclass(frozen=True, eq=False)
class Pieces:
    """The pieces of a Parquet file or folder, and how to read them.

    Args:
        name: of the file or folder.
        how: to read tables.
        columns: that are read.
        parts: of each piece, one of each file that it touches.
        rows: of each piece.
        training: of new data: adds the rows that are missing, see `SeriesPreprocessor.completed`.
    """

    name: str
    how: Reading
    columns: Columns
    parts: list[list[Part]]
    rows: list[int]
    training: SeriesPreprocessor | None = None

    def __len__(self) -> int:
        return len(self.parts)

    @property
    def bytes(self) -> int:
        """Of the float32 values of the largest piece."""
        return 4 * max(self.rows) * len(self.columns.channels)

    def read(self, piece: int) -> tuple[SeriesSet, bool]:
        """The series of a piece, and whether its rows are in the order of the file, each of them as it is there."""
        tables = [part.table for part in self.parts[piece]]
        rows = read_rows(tables, self.columns)
        as_it_is = regularity(self.how, self.columns) == AS_IT_COMES and order_rows(rows.codes, rows.times)[0] is None
        simple = all(part.simple(self.columns.channels) for part in self.parts[piece])
        series = series_of(rows, tables, self.how, check=False)
        completed = series if self.training is None else self.training.completed(series)
        return completed, as_it_is and simple and completed is series

    def numbers(self, piece: int) -> npt.NDArray[np.float32]:
        """``(rows, C)`` as they are in the files, without entities and times: much quicker than `read`."""
        return np.concatenate([part.numbers(self.columns.channels) for part in self.parts[piece]])


def open_pieces(path: str, how: Reading, *, size: int = PIECE_BYTES) -> Pieces:
    """Look into the files; reads their metadata only.

    Args:
        path: a Parquet file, or a folder of them.
        how: to read them.
        size: bytes of the values of a piece, at least one row group.

    Raises:
        FileNotFoundError: there is nothing at ``path``.
        ValueError: it is not Parquet, or something that needs all rows at once is asked for.
    """
    _refuse_what_needs_all_rows(path, how)
    _, tables = open_source(path)
    columns = columns_of(tables, how)
    if any(text not in (None, "ISO8601") for text in columns.formats):
        raise ValueError(
            f"data.time={how.time} holds text of the form {columns.formats[0]}, which only all rows together can tell "
            "for sure; write timestamps for data that is streamed"
        )
    limit = max(1, size // (4 * len(columns.channels)))  # rows
    parts: list[list[Part]] = []
    rows: list[int] = []
    for table in tables:
        for groups, first, count in _ranges(row_groups(table), limit):
            if not parts or rows[-1] + count > limit:
                parts.append([])
                rows.append(0)
            parts[-1].append(Part(table, groups, first, count))
            rows[-1] += count
    units = common_units(tables, columns.channels, how.units) or ()
    known = {name: unit for name, unit in zip(columns.channels, units, strict=False) if unit is not None}
    return Pieces(path, replace(how, channels=columns.channels, units=known), columns, parts, rows)


def values_bytes(path: str, how: Reading) -> int | None:
    """What the float32 values of a Parquet file or folder would take in memory; None for other formats."""
    if not _only_parquet(path):
        return None
    _, tables = open_source(path)
    return 4 * sum(table.rows or 0 for table in tables) * len(columns_of(tables, how).channels)


def _only_parquet(path: str) -> bool:
    return all(suffix(file) in PARQUET for file in find_files(Path(path)))


def _refuse_what_needs_all_rows(path: str, how: Reading) -> None:
    if not _only_parquet(path):
        raise ValueError(
            f"data.path={path} cannot be streamed: data.in_memory=false needs Parquet. Convert it, for example by "
            "pandas.read_csv(file, chunksize=…) and pyarrow.parquet.ParquetWriter, or leave data.in_memory out"
        )
    if how.time_zone is not None:
        raise ValueError(
            f"data.time_zone={how.time_zone} tells the repeated hour by the rows around it, which may be in another "
            "piece of streamed data: write the times in UTC, or set data.in_memory=true"
        )


def _ranges(counts: list[int], limit: int) -> list[tuple[list[int], int, int]]:
    """Row groups of one file put together up to ``limit`` rows: their numbers, the first row, and the rows."""
    ranges: list[tuple[list[int], int, int]] = []
    first = 0
    for group, count in enumerate(counts):
        if ranges and ranges[-1][2] + count <= limit:
            groups, begin, rows = ranges[-1]
            ranges[-1] = ([*groups, group], begin, rows + count)
        elif count:
            ranges.append(([group], first, count))
        first += count
    return ranges
