"""Parts of Parquet files: some row groups, as a table or as bare numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet

from mmssl.timeseries.tables import LEAN, Table, reading_file, row_group_batches

READ_ROWS = 1 << 16  # of bare numbers at a time


@dataclass(frozen=True)
class Part:
    """Row groups of a Parquet file that follow each other.

    Args:
        file: all of it.
        groups: numbers of the row groups.
        first: row of the file with which they begin.
        rows: how many they hold.
    """

    file: Table
    groups: list[int]
    first: int
    rows: int

    @property
    def table(self) -> Table:
        """As a table whose messages count the rows of the file."""
        batches = row_group_batches(Path(self.file.name), self._schema, self.groups)
        place = self.file.place
        return replace(self.file, rows=self.rows, batches=batches, place=lambda row: place(self.first + row))

    def simple(self, channels: Sequence[str]) -> bool:
        """Are they all plain numbers, which need no conversion but to float32?"""
        types = [self._schema.field(name).type for name in channels]
        return all(pa.types.is_floating(kind) or pa.types.is_integer(kind) for kind in types)

    def numbers(self, channels: Sequence[str]) -> npt.NDArray[np.float32]:
        """``(rows, C)``, NaN for missing."""
        values = np.empty((self.rows, len(channels)), dtype=np.float32)
        path, row = Path(self.file.name), 0
        with reading_file(path, "Parquet"), pa.parquet.ParquetFile(path, **LEAN) as file:
            batches = file.iter_batches(READ_ROWS, columns=list(channels), row_groups=self.groups, use_threads=False)
            for batch in batches:
                for c, name in enumerate(channels):
                    column = batch.column(name).cast(pa.float32(), safe=False)
                    values[row : row + len(column), c] = column.to_numpy(zero_copy_only=False)
                row += batch.num_rows
        return values

    @cached_property
    def _schema(self) -> Any:
        return pa.parquet.read_schema(self.file.name)


def row_groups(table: Table) -> list[int]:
    """Rows of each row group of a Parquet file, from its metadata."""
    with reading_file(Path(table.name), "Parquet"), pa.parquet.ParquetFile(table.name, **LEAN) as file:
        return [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
