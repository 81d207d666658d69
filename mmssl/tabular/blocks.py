"""Files that are larger than memory as blocks of rows, each a table of its own that can be read whenever it is wanted.

A block is some row groups of a Parquet file, some record batches of a Feather file, or some megabytes of lines of text.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from mmssl.tabular.data import filled
from mmssl.tabular.tables import (
    LEAN,
    MISSING,
    TEXTS,
    Batches,
    Dialect,
    Table,
    arrow_batches,
    find_dialect,
    find_files,
    later,
    open_table,
    parquet_batches,
    reading_file,
    refuse_longer,
    split_cells,
    suffix,
)

BLOCK_BYTES = 4 << 20  # of text
BLOCK_CELLS = 1 << 21  # of a typed file, or one row group if that is larger
LARGEST = 1 << 28  # cells of a block: 1 GiB in float32
Rows = npt.NDArray[np.int64]  # their positions in a block


def count_cells(path: Path, *, names: Sequence[str] | None = None) -> float:
    """How many cells a file or folder has; of text files, about how many, and none of those that are compressed.

    Raises:
        FileNotFoundError: there is nothing at ``path``.
        ValueError: a file cannot be read.
    """
    return sum(_cells(file, names) for file in find_files(path))


def open_blocks(path: Path, *, names: Sequence[str] | None = None, missing: Sequence[str] = MISSING) -> list[Table]:
    """The blocks of a file or folder in order, each with the number of its rows.

    Text is gone through once, to count its lines.

    Args:
        path, names, missing: see `mmssl.tabular.data.read_table`.

    Raises:
        FileNotFoundError: there is nothing at ``path``.
        ValueError: a file is damaged, or cannot be read in blocks.
    """
    blocks: list[Table] = []
    for file in find_files(path):
        if suffix(file) in TEXTS:
            blocks += _text_blocks(file, names, missing)
        else:
            blocks += _typed_blocks(file)
    filled = [block for block in blocks if block.rows]
    if not filled:
        raise ValueError(f"{path} has no rows; fill it or remove it")
    return filled


def _cells(file: Path, names: Sequence[str] | None) -> float:
    if file.suffix.lower() == ".gz":  # how much it holds is not known before all of it is unpacked
        return 0.0
    table = open_table(file, names=names)
    if table.rows is not None:
        return table.rows * len(table.columns)
    with reading_file(file, "text"), file.open("rb") as opened:
        head = opened.read(1 << 18)
    return file.stat().st_size / len(head) * max(head.count(b"\n"), 1) * len(table.columns)


# ------------------------------------------------------------------------------------------------------------- typed


def _typed_blocks(file: Path) -> list[Table]:
    """Neighbouring row groups, or record batches, together as far as they are small."""
    table = open_table(file)
    if suffix(file) in (".parquet", ".pq"):
        with reading_file(file, "Parquet"), pa.parquet.ParquetFile(file, **LEAN) as opened:
            counts = [opened.metadata.row_group(i).num_rows for i in range(opened.num_row_groups)]
            batches = partial(parquet_batches, file, opened.schema_arrow)
    else:
        with reading_file(file, "Feather/Arrow"), pa.OSFile(str(file)) as raw, pa.ipc.open_file(raw) as opened:
            counts = [opened.get_batch(i).num_rows for i in range(opened.num_record_batches)]
            batches = partial(arrow_batches, file, opened.schema)
    if max(counts, default=0) * len(table.columns) > LARGEST:
        raise ValueError(
            f"{file} has {max(counts):,} rows of {len(table.columns)} columns in one row group, too many to be read "
            "at a time: write it with smaller ones, such as pyarrow.parquet.write_table(…, row_group_size=100_000)"
        )
    first = np.concatenate([[0], np.cumsum(counts)])
    blocks = []
    for groups in _gathered(counts, most=max(1, BLOCK_CELLS // len(table.columns))):
        begin, rows = int(first[groups[0]]), sum(counts[i] for i in groups)
        place = partial(later, table.place, begin)
        blocks.append(replace(table, rows=rows, batches=batches(groups), place=place))
    return blocks


def _gathered(counts: Sequence[int], *, most: int) -> Iterator[list[int]]:
    """Positions of neighbours with ``most`` rows together, or single ones with more."""
    together: list[int] = []
    rows = 0
    for i, count in enumerate(counts):
        if together and rows + count > most:
            yield together
            together, rows = [], 0
        together.append(i)
        rows += count
    if together:
        yield together


# -------------------------------------------------------------------------------------------------------------- text


def _text_blocks(file: Path, names: Sequence[str] | None, missing: Sequence[str]) -> list[Table]:
    if file.suffix.lower() == ".gz":
        raise ValueError(
            f"{file} is compressed as a whole, so it cannot be read in blocks: unpack it, or convert it to Parquet"
        )
    table, dialect = open_table(file, names=names, missing=missing), find_dialect(file, names, missing)
    with reading_file(file, "text"):
        borders, lines = _lines(file)
    lines[0] -= not dialect.bare
    blocks = []
    for (begin, end), rows in zip(pairwise(borders), lines, strict=True):
        batches = _text_batches(file, dialect, begin, end, rows)
        place = partial(_in_bytes, file, begin, 2 if begin == 0 and not dialect.bare else 1)
        blocks.append(replace(table, rows=rows, batches=batches, place=place))
    return blocks


def _lines(file: Path) -> tuple[list[int], list[int]]:
    """Positions between which whole lines stand, and how many of them, not counting blank ones at the end."""
    borders, lines = [0], []
    with file.open("rb") as opened:
        while chunk := opened.read(BLOCK_BYTES):
            chunk += opened.readline()
            if chunk.count(b'"') % 2:
                raise ValueError(
                    f"{file} has a cell with a line break (or a single quotation mark) after byte {borders[-1]:,}, so "
                    "that lines are no rows and it cannot be read in blocks: convert it to Parquet, for example by "
                    "pandas.read_csv(…, chunksize=…) and pyarrow.parquet.ParquetWriter"
                )
            borders.append(opened.tell())
            filled = chunk.rstrip(b"\r\n")
            lines.append(filled.count(b"\n") + bool(filled))
    return borders, lines


def _text_batches(file: Path, dialect: Dialect, begin: int, end: int, rows: int) -> Batches:
    def batches(columns: Sequence[str], text: Collection[str]) -> Iterator[pd.DataFrame]:
        with reading_file(file, "text"):
            with file.open("rb") as opened:
                opened.seek(begin)
                content = opened.read(end - begin)
            first = content[: content.find(b"\n") + 1].decode("utf-8-sig")
            with suppress(csv.Error):  # a cell that is longer than the csv module takes
                refuse_longer(split_cells([first], dialect.delimiter)[0], dialect, file)
            header = 0 if begin == 0 and not dialect.bare else None
            frame = pd.read_csv(
                io.BytesIO(content), dtype=dict.fromkeys(text, str), header=header, **dialect.options
            )  # fmt: skip
        if len(frame) != rows:
            raise ValueError(
                f"{file} has blank lines, or cells with line breaks, after byte {begin:,}: {rows:,} lines hold "
                f"{len(frame):,} rows. Remove them, or convert the file to Parquet"
            )
        yield frame[list(columns)]

    return batches


def _in_bytes(file: Path, begin: int, first: int, row: int) -> str:
    return f"line {row + first} after byte {begin:,} of {file}"


def spread(blocks: Sequence[Table], rows: int, *, most: int, rng: np.random.Generator) -> dict[int, Rows]:
    """About ``rows`` random rows of ``most`` random blocks, of each as many in proportion.

    Args:
        blocks: to draw from.
        rows: to draw; fewer if there are fewer.
        most: blocks that are read; fewer if there are fewer.
        rng: draws.

    Returns:
        The positions of the rows in each of these blocks, by the number of the block; both in order.
    """
    chosen = np.sort(rng.permutation(len(blocks))[:most])
    share = min(1.0, rows / sum(blocks[i].rows or 0 for i in chosen))
    found = {}
    for i in chosen.tolist():
        count = blocks[i].rows
        assert count is not None
        found[i] = np.sort(rng.permutation(count)[: max(1, round(share * count))])
    return found


def only(blocks: Sequence[Table], rows: Mapping[int, Rows]) -> list[Table]:
    """Some rows of some blocks, as `spread` names them."""
    return [
        replace(blocks[i], rows=len(drawn), batches=_only(blocks[i].batches, drawn))
        for i, drawn in rows.items()
        if len(drawn)
    ]


def filled_rows(blocks: Sequence[Table], column: str, missing: Sequence[str]) -> list[Rows]:
    """Positions of the rows of each block with a value in this column, which is all that is kept of the files."""
    return [
        np.flatnonzero(np.concatenate([filled(frame[column], missing) for frame in block.batches([column], [column])]))
        for block in blocks
    ]


def with_sample(tables: Sequence[Table]) -> list[Table]:
    """Tables whose first rows, which tell what a column holds, are of all of them and not of the first."""
    columns = tables[0].columns
    sample = pd.concat([frame for table in tables for frame in table.batches(columns, ())], ignore_index=True)
    return [replace(table, sample=sample) for table in tables]


def _only(batches: Batches, drawn: Rows) -> Batches:
    """The rows with these positions."""

    def some(columns: Sequence[str], text: Collection[str]) -> Iterator[pd.DataFrame]:
        begin = 0
        for frame in batches(columns, text):
            low, high = np.searchsorted(drawn, [begin, begin + len(frame)])
            yield frame.iloc[drawn[low:high] - begin]
            begin += len(frame)

    return some
