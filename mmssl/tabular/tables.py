"""Files, folders and DataFrames as tables that are read in batches. Opens; judges no content."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import pandas as pd
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

TEXTS = (".csv", ".tsv", ".txt", ".data", ".test")  # the last two are of the UCI repository
SUPPORTED = (*TEXTS, ".parquet", ".pq", ".feather", ".arrow")

BATCH_CELLS = 1 << 20  # cells of a table that are in memory at a time
SAMPLE_ROWS = 10_000  # first rows, which tell what a column holds
LEAN: dict[str, Any] = {"buffer_size": 1 << 20, "pre_buffer": False}  # of Parquet: pages are read when needed
MISSING = ("", "?", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "#N/A", "<NA>")  # empty cells


# (columns, those of them that are kept as text in a file without types) to their cells, some rows at a time
Batches = Callable[[Sequence[str], Collection[str]], Iterator[pd.DataFrame]]


@dataclass(frozen=True)
class Table:
    """A table that can be read in batches, as often as needed.

    Args:
        name: what messages call it.
        sample: its first rows.
        rows: how many it has, None if only reading tells.
        batches: of its columns.
        place: a row, counted from 0, in the words that help to find it.
        typed: False for text files.
    """

    name: str
    sample: pd.DataFrame
    rows: int | None
    batches: Batches
    place: Callable[[int], str]
    typed: bool = True

    @property
    def columns(self) -> list[str]:
        return list(self.sample.columns)


def find_files(path: Path) -> list[Path]:
    """The file, or the tables of the folder in the order of their names.

    Raises:
        FileNotFoundError: there is nothing at ``path``.
        ValueError: nothing that can be read.
    """
    if not path.exists():
        beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise FileNotFoundError(f"data.path={path} does not exist: {suggest(path.name, beside)}")
    text = f"supported are {', '.join(SUPPORTED)} (text also as .gz)"
    if not path.is_dir():
        if suffix(path) not in SUPPORTED:
            raise ValueError(f"data.path={path} has a suffix that cannot be read; {text}")
        return [path]
    entries = sorted(entry for entry in path.iterdir() if entry.is_file() and not entry.name.startswith((".", "_")))
    files = [entry for entry in entries if suffix(entry) in SUPPORTED]
    if not files:
        raise ValueError(f"folder data.path={path} holds no file that can be read; {text}")
    return files


def suffix(path: Path) -> str:
    """The suffix that tells the format, in lower case: ``.csv`` for ``a.CSV.gz``."""
    inner = Path(path.name.lower().removesuffix(".gz")).suffix
    return inner if inner in TEXTS else path.suffix.lower()


def open_table(path: Path, *, names: Sequence[str] | None = None, missing: Sequence[str] = MISSING) -> Table:
    """Look into a CSV, Parquet or Feather/Arrow file.

    Args:
        path: the file.
        names: of the columns of a text file whose first line is data already.
        missing: cells of a text file that count as empty.

    Raises:
        ValueError: the file is empty or damaged, or two columns have the same name.
    """
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes); write it again or remove it")
    if suffix(path) in TEXTS:
        return _text_table(path, names, missing)
    return _parquet_table(path) if suffix(path) in (".parquet", ".pq") else _arrow_table(path)


def frame_table(frame: pd.DataFrame) -> Table:
    """A DataFrame; its index counts rows and is no column."""
    frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    _refuse_twice("the DataFrame", frame.columns)

    def batches(columns: Sequence[str], text: Collection[str]) -> Iterator[pd.DataFrame]:
        step = _batch_rows(len(columns))
        for begin in range(0, len(frame), step):
            yield frame.iloc[begin : begin + step][list(columns)]

    return Table("the DataFrame", frame.head(SAMPLE_ROWS), len(frame), batches, _counted("the DataFrame"))


def suggest(name: str, names: Sequence[str]) -> str:
    """What else there is, the closest first."""
    close = get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(repr(other) for other in close)}?"
    shown = ", ".join(repr(other) for other in sorted(names)[:20])
    return f"there is {shown}{', …' if len(names) > 20 else ''}" if names else "there is nothing beside it"


@contextmanager
def reading_file(path: Path, kind: str) -> Iterator[None]:
    """Say of a damaged file which one it is."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({_short(error)}); save it as UTF-8") from error
    except (pa.ArrowException, pd.errors.ParserError, csv.Error, EOFError, OSError, zlib.error) as error:
        raise ValueError(
            f"{path} cannot be read as {kind}: {_short(error)}; if it is damaged, copy it again"
        ) from error


def _short(error: Exception) -> str:
    """The first line of what a library says, which may be several."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _parquet_table(path: Path) -> Table:
    with reading_file(path, "Parquet"), pa.parquet.ParquetFile(path, **LEAN) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows
        _refuse_twice(str(path), schema.names)
        sample = next(file.iter_batches(SAMPLE_ROWS), None)
    return _typed_table(path, schema, sample, rows, parquet_batches(path, schema))


def parquet_batches(path: Path, schema: Any, groups: Sequence[int] | None = None) -> Batches:
    """Reads the given row groups, or all; texts come as categories, which are quicker to make."""
    texts = [field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)]

    def batches(columns: Sequence[str], text: Collection[str]) -> Iterator[pd.DataFrame]:
        encoded = [name for name in texts if name in columns]
        with reading_file(path, "Parquet"), pa.parquet.ParquetFile(path, read_dictionary=encoded, **LEAN) as file:
            for batch in file.iter_batches(
                _batch_rows(len(columns)), row_groups=groups, columns=list(columns), use_threads=False
            ):
                yield _to_pandas(batch)[list(columns)]

    return batches


def _arrow_table(path: Path) -> Table:
    with reading_file(path, "Feather/Arrow"), pa.OSFile(str(path)) as raw, pa.ipc.open_file(raw) as file:
        schema, rows = file.schema, file.count_rows()
        _refuse_twice(str(path), schema.names)
        sample = file.get_batch(0).slice(0, SAMPLE_ROWS) if file.num_record_batches else None
    return _typed_table(path, schema, sample, rows, arrow_batches(path, schema))


def arrow_batches(path: Path, schema: Any, numbers: Sequence[int] | None = None) -> Batches:
    """Reads the record batches of these numbers, or all."""

    def batches(columns: Sequence[str], text: Collection[str]) -> Iterator[pd.DataFrame]:
        options = pa.ipc.IpcReadOptions(included_fields=[schema.get_field_index(name) for name in columns])
        with (
            reading_file(path, "Feather/Arrow"),
            pa.OSFile(str(path)) as raw,
            pa.ipc.open_file(raw, options=options) as file,
        ):
            step = _batch_rows(len(columns))
            for i in range(file.num_record_batches) if numbers is None else numbers:
                batch = file.get_batch(i)
                for begin in range(0, batch.num_rows, step):
                    yield _to_pandas(batch.slice(begin, step))[list(columns)]

    return batches


def _typed_table(path: Path, schema: Any, sample: Any, rows: int, batches: Any) -> Table:
    frame = _to_pandas(schema.empty_table() if sample is None else sample)
    return Table(str(path), frame, rows, batches, _counted(str(path)))


def _to_pandas(batch: Any) -> pd.DataFrame:
    frame: pd.DataFrame = batch.to_pandas(date_as_object=False, ignore_metadata=True)
    return frame


def _refuse_twice(table: str, names: Sequence[str] | pd.Index) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{table} has several columns named {name!r}; rename them")
        seen.add(name)


@dataclass(frozen=True)
class Dialect:
    """How a text file is written.

    Args:
        columns: their names.
        bare: does the first line hold data already?
        delimiter: between the cells of a line.
        options: for ``pandas.read_csv``; without ``header``.
    """

    columns: list[str]
    bare: bool
    delimiter: str
    options: dict[str, Any]


def find_dialect(path: Path, names: Sequence[str] | None, missing: Sequence[str]) -> Dialect:
    """By the first lines; see `open_table`."""
    with reading_file(path, "text"), _text(path) as file:
        head = [line for _, line in zip(range(20), file, strict=False) if line.strip()]
    if not head:
        raise ValueError(f"{path} holds blank lines only; write it again or remove it")
    delimiter = max(",;\t|", key=lambda sep: len(next(csv.reader(head[:1], delimiter=sep))))
    cells = [cell.strip() for cell in next(csv.reader(head[:1], delimiter=delimiter, skipinitialspace=True))]
    blanks = len(cells) == 1 and len({len(line.split()) for line in head} - {1}) == 1
    if blanks:
        delimiter, cells = " ", head[0].split()
    bare = names is not None or _is_data(cells)
    if names is not None and len(names) != len(cells):
        raise ValueError(f"data.names has {len(names)} names, but {path} has {len(cells)} columns")
    cells = list(names or [f"column_{i}" for i in range(len(cells))]) if bare else cells
    _refuse_twice(str(path), cells)
    comma = delimiter == ";" and any(re.search(r"(?:^|;)\s*-?\d+,\d+\s*(?:;|$)", line) for line in head)
    options: dict[str, Any] = {
        "sep": r"\s+" if blanks else delimiter,
        "decimal": "," if comma else ".",
        "names": cells,
        "index_col": False,
        "encoding": "utf-8-sig",
        "skipinitialspace": True,
        "keep_default_na": False,
        "na_values": list(missing),
        "low_memory": False,
    }
    return Dialect(cells, bare, delimiter, options)


def _text_table(path: Path, names: Sequence[str] | None, missing: Sequence[str]) -> Table:
    dialect = find_dialect(path, names, missing)
    options = dialect.options | {"header": None if dialect.bare else 0}
    with reading_file(path, "text"):
        sample = pd.read_csv(path, nrows=SAMPLE_ROWS, **options)

    def batches(columns: Sequence[str], text: Collection[str]) -> Iterator[pd.DataFrame]:
        # every column is parsed, so that a line with too many cells is found whatever is read
        rows = _batch_rows(len(dialect.columns))
        with (
            reading_file(path, "text"),
            pd.read_csv(path, dtype=dict.fromkeys(text, str), chunksize=rows, **options) as reader,
        ):
            for frame in reader:
                yield frame[list(columns)]

    def place(row: int) -> str:
        with _text(path) as file:
            lines = csv.reader(file, delimiter=dialect.delimiter)
            records = (lines.line_num for record in lines if record)
            line = next(number for nth, number in enumerate(records) if nth == row + (not dialect.bare))
        return f"line {line} of {path}"

    return Table(str(path), sample, None, batches, place, typed=False)


def _is_data(cells: Sequence[str]) -> bool:
    """Is a first line data already? It is if it holds numbers, unless they count as names do: 0, 1, 2 or 2019, 2020."""
    numbers = [float(cell) for cell in cells if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", cell)]
    steps = {b - a for a, b in pairwise(numbers)}
    named = len(numbers) < len(cells) or numbers[:1] == [0.0] or numbers[0] >= 1900
    return bool(numbers) and not (named and steps <= {1.0} and all(number.is_integer() for number in numbers))


def _text(path: Path) -> IO[str]:
    if path.suffix.lower() == ".gz":
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _batch_rows(columns: int) -> int:
    return max(BATCH_CELLS // max(columns, 1), 1)


def _counted(name: str) -> Callable[[int], str]:
    return lambda row: f"row {row} (counted from 0) of {name}"
