"""Files, folders and DataFrames as tables that are read in batches. Opens; judges no content."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import IO, Any

import pandas as pd
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

TEXTS = (".csv", ".tsv", ".txt")
TABLES = (*TEXTS, ".parquet", ".pq", ".feather", ".arrow")
ARRAYS = (".npz", ".npy")
SUPPORTED = f"{', '.join(TABLES + ARRAYS)} (text also as .gz)"

BATCH_CELLS = 1 << 20  # cells of a table that are in memory at a time
LEAN: dict[str, Any] = {  # pages are read as they are needed: by default a whole file of row groups ends up in memory
    "buffer_size": 1 << 20,
    "pre_buffer": False,
}
SAMPLE_ROWS = 1000  # rows that tell what a column holds
MISSING = ("", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "#N/A", "<NA>")  # empty cells of a text file


@dataclass(frozen=True)
class Table:
    """A table that can be read in batches, as often as needed.

    Args:
        name: what messages call it.
        entity: name of its series if no column names one.
        sample: its first rows.
        rows: how many it has, None if only reading tells.
        batches: of the given columns. In a file without types, the columns of the second argument are kept as text,
            with what counts as an empty cell of each.
        place: a row, counted from 0, in the words that help to find it.
        typed: False for text files.
        units: of its columns, where the file says so.
    """

    name: str
    entity: object
    sample: pd.DataFrame
    rows: int | None
    batches: Callable[[Sequence[str], Mapping[str, Sequence[str]]], Iterator[pd.DataFrame]]
    place: Callable[[int], str]
    typed: bool = True
    units: Mapping[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        return list(self.sample.columns)


def find_files(path: Path) -> list[Path]:
    """The file, or the readable files of the folder in the order of their names.

    Raises:
        FileNotFoundError: there is nothing at ``path``.
        ValueError: nothing that can be read, or tables and arrays in one folder.
    """
    if not path.exists():
        beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise FileNotFoundError(f"data.path={path} does not exist: {suggest(path.name, beside)}")
    if not path.is_dir():
        if suffix(path) not in TABLES + ARRAYS:
            raise ValueError(f"data.path={path} has a suffix that cannot be read; supported are {SUPPORTED}")
        return [path]
    entries = sorted(entry for entry in path.iterdir() if entry.is_file() and not entry.name.startswith((".", "_")))
    files = [entry for entry in entries if suffix(entry) in TABLES + ARRAYS]
    if not files:
        raise ValueError(f"folder data.path={path} holds no file that can be read; supported are {SUPPORTED}")
    if len({suffix(file) in ARRAYS for file in files}) > 1:
        raise ValueError(f"folder data.path={path} mixes arrays (.npz, .npy) with tables; keep them in two folders")
    return files


def suffix(path: Path) -> str:
    """The suffix that tells the format, in lower case: ``.csv`` for ``a.CSV.gz``."""
    inner = Path(path.name.lower().removesuffix(".gz")).suffix
    return inner if inner in TEXTS else path.suffix.lower()


def open_table(path: Path) -> Table:
    """Look into a CSV, Parquet or Feather/Arrow file.

    Raises:
        ValueError: the file is empty or damaged.
    """
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes); write it again or remove it")
    if suffix(path) in TEXTS:
        return _text_table(path)
    return _parquet_table(path) if suffix(path) in (".parquet", ".pq") else _arrow_table(path)


def frame_table(frame: pd.DataFrame) -> Table:
    """A DataFrame; an index that is more than a row number becomes columns.

    Raises:
        ValueError: two columns have the same name.
    """
    if frame.index.nlevels > 1 or frame.index.name is not None or not pd.api.types.is_integer_dtype(frame.index.dtype):
        frame = frame.reset_index()
    frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    if frame.columns.has_duplicates:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise ValueError(f"the DataFrame has several columns named {twice!r}; rename them")

    def batches(columns: Sequence[str], text: Mapping[str, Sequence[str]]) -> Iterator[pd.DataFrame]:
        step = _batch_rows(len(columns))
        for begin in range(0, len(frame), step):
            yield frame.iloc[begin : begin + step][list(columns)]

    head, units = frame.head(SAMPLE_ROWS), frame.attrs.get("units", {})
    return Table("the DataFrame", 0, head, len(frame), batches, _counted("the DataFrame"), units=units)


def suggest(name: str, names: Sequence[str]) -> str:
    """What else there is, the closest first."""
    close = get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(repr(other) for other in close)}?"
    shown = ", ".join(repr(other) for other in sorted(names)[:20])
    return f"there is {shown}{', …' if len(names) > 20 else ''}" if names else "there is nothing beside it"


def short(error: Exception) -> str:
    """The first line of what a library says, which may be several."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


@contextmanager
def reading_file(path: Path, kind: str) -> Iterator[None]:
    """Say of a damaged file which one it is."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({short(error)}); save it as UTF-8") from error
    except (pa.ArrowException, pd.errors.ParserError, csv.Error, EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as {kind}: {short(error)}; if it is damaged, copy it again") from error


def _parquet_table(path: Path) -> Table:
    with reading_file(path, "Parquet"), pa.parquet.ParquetFile(path, **LEAN) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows
        sample = next(file.iter_batches(SAMPLE_ROWS), None)
    return _typed_table(path, schema, sample, rows, row_group_batches(path, schema, None))


def row_group_batches(path: Path, schema: Any, groups: list[int] | None) -> Any:
    """What a `Table` has as ``batches``, for some row groups of a Parquet file; all of them if None."""
    texts = [field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)]

    def batches(columns: Sequence[str], text: Mapping[str, Sequence[str]]) -> Iterator[pd.DataFrame]:
        encoded = [name for name in texts if name in text]
        with reading_file(path, "Parquet"), pa.parquet.ParquetFile(path, read_dictionary=encoded, **LEAN) as file:
            step = _batch_rows(len(columns))
            for batch in file.iter_batches(step, columns=list(columns), row_groups=groups, use_threads=False):
                yield _to_pandas(batch)

    return batches


def _arrow_table(path: Path) -> Table:
    with reading_file(path, "Feather/Arrow"), pa.OSFile(str(path)) as raw, pa.ipc.open_file(raw) as file:
        schema, rows = file.schema, file.count_rows()
        sample = file.get_batch(0).slice(0, SAMPLE_ROWS) if file.num_record_batches else None

    def batches(columns: Sequence[str], text: Mapping[str, Sequence[str]]) -> Iterator[pd.DataFrame]:
        options = pa.ipc.IpcReadOptions(included_fields=[schema.get_field_index(name) for name in columns])
        with (
            reading_file(path, "Feather/Arrow"),
            pa.OSFile(str(path)) as raw,
            pa.ipc.open_file(raw, options=options) as file,
        ):
            step = _batch_rows(len(columns))
            for batch in (file.get_batch(i) for i in range(file.num_record_batches)):
                for begin in range(0, batch.num_rows, step):
                    yield _to_pandas(batch.slice(begin, step))

    return _typed_table(path, schema, sample, rows, batches)


def _typed_table(path: Path, schema: Any, sample: Any, rows: int, batches: Any) -> Table:
    twice = [name for name in schema.names if schema.names.count(name) > 1]
    if twice:
        raise ValueError(f"{path} has several columns named {twice[0]!r}; rename them")
    frame = _to_pandas(schema.empty_table() if sample is None else sample)
    return Table(str(path), path.stem, frame, rows, batches, _counted(str(path)), units=_units(schema))


def _units(schema: Any) -> dict[str, str]:
    """Of the columns that name theirs in the metadata of their field, under ``unit`` or ``units``."""
    named = {field.name: field.metadata or {} for field in schema}
    said = {name: metadata.get(b"unit", metadata.get(b"units")) for name, metadata in named.items()}
    return {name: unit.decode() for name, unit in said.items() if unit}


def _to_pandas(batch: Any) -> pd.DataFrame:
    frame: pd.DataFrame = batch.to_pandas(date_as_object=False, ignore_metadata=True)
    return frame


def _text_table(path: Path) -> Table:
    with reading_file(path, "text"), _text(path) as file:
        head = [line for _, line in zip(range(20), file, strict=False) if line.strip()]
    if not head:
        raise ValueError(f"{path} holds blank lines only; write it again or remove it")
    delimiter = max(",;\t|", key=lambda sep: len(next(csv.reader(head[:1], delimiter=sep))))
    cells = next(csv.reader(head[:1], delimiter=delimiter))
    blanks = len(cells) == 1 and len({len(line.split()) for line in head} - {1}) == 1
    if blanks:
        delimiter, cells = " ", head[0].split()
    # a first line of numbers is data, unless they only count the columns, as pandas names them
    bare = all(_is_number(cell) for cell in cells) and cells != [str(i) for i in range(len(cells))]
    comma = delimiter == ";" and any(re.search(r"(?:^|;)\s*-?\d+,\d+\s*(?:;|$)", line) for line in head)
    options: dict[str, Any] = {
        "sep": r"\s+" if blanks else delimiter,
        "decimal": "," if comma else ".",
        "header": None if bare else 0,
        "names": [f"channel_{i}" for i in range(len(cells))] if bare else None,
        "index_col": False,
        "encoding": "utf-8-sig",
        "keep_default_na": False,
        "low_memory": False,
    }
    with reading_file(path, "text"):
        sample = pd.read_csv(path, nrows=SAMPLE_ROWS, na_values=list(MISSING), **options)

    def batches(columns: Sequence[str], text: Mapping[str, Sequence[str]]) -> Iterator[pd.DataFrame]:
        # every column is parsed, so that a line with too many cells is found whatever is read
        empty = {name: list(text.get(name, MISSING)) for name in sample.columns}
        step = _batch_rows(sample.shape[1])
        with (
            reading_file(path, "text"),
            pd.read_csv(path, dtype=dict.fromkeys(text, str), na_values=empty, chunksize=step, **options) as reader,
        ):
            for frame in reader:
                yield frame[list(columns)]

    def place(row: int) -> str:
        with _text(path) as file:
            lines = csv.reader(file, delimiter=delimiter)
            records = (lines.line_num for record in lines if record)
            line = next(number for nth, number in enumerate(records) if nth == row + (not bare))
        return f"line {line} of {path}"

    return Table(str(path), Path(path.name.removesuffix(".gz")).stem, sample, None, batches, place, typed=False)


def _text(path: Path) -> IO[str]:
    if path.suffix.lower() == ".gz":
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _batch_rows(columns: int) -> int:
    return max(BATCH_CELLS // max(columns, 1), 1)


def _counted(name: str) -> Callable[[int], str]:
    return lambda row: f"row {row} (counted from 0) of {name}"
