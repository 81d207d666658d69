"""Files, folders and DataFrames as tables that are read in batches. Opens; judges no content."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
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
TELLING_ROWS = 1_000  # first rows, which tell how numbers are written
ROW_NAMES = "Unnamed: 0"  # what pandas calls a first column without a name
THOUSANDS = r"[-+]?[1-9]\d{0,2}(?:\.\d{3})+"  # or a number with three decimals
POINT_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
COMMA_NUMBER = rf"(?:[-+]?\d*|{THOUSANDS}),\d+(?:[eE][-+]?\d+)?"


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
        declared: does the type category say what the user wants? Files give it to texts to be smaller.
        decimal: what stands before the decimals of its texts; empty if they leave it open.
        doubtful: columns whose points may stand before decimals or between thousands, and such a cell of each.
    """

    name: str
    sample: pd.DataFrame
    rows: int | None
    batches: Batches
    place: Callable[[int], str]
    declared: bool = False
    decimal: str = ""
    doubtful: Mapping[str, str] = field(default_factory=dict)

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
        missing: cells of a text file that count as empty, beside those that are.

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

    return Table(
        "the DataFrame", frame.head(SAMPLE_ROWS), len(frame), batches, _counted("the DataFrame"), declared=True
    )


def suggest(name: str, names: Sequence[str]) -> str:
    """What else there is, the closest first."""
    close = get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(repr(other) for other in close)}?"
    shown = ", ".join(repr(other) for other in sorted(names)[:20])
    return f"there is {shown}{', …' if len(names) > 20 else ''}" if names else "there is nothing beside it"


def later(place: Callable[[int], str], begin: int, row: int) -> str:
    """Where a row is that is counted from the row ``begin``."""
    return place(begin + row)


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
        decimal, doubtful: see `Table`.
    """

    columns: list[str]
    bare: bool
    delimiter: str
    options: dict[str, Any]
    decimal: str = "."
    doubtful: Mapping[str, str] = field(default_factory=dict)


def find_dialect(path: Path, names: Sequence[str] | None, missing: Sequence[str]) -> Dialect:
    """By the first lines; see `open_table`."""
    with reading_file(path, "text"), _text(path) as file:
        head = [line for _, line in zip(range(20), file, strict=False) if line.strip()]
        if not head:
            raise ValueError(f"{path} holds blank lines only; write it again or remove it")
        delimiter, lines = _split(head)
    cells = [cell.strip() for cell in lines[0]]
    bare = names is not None or _is_data(cells)
    if names is not None and len(names) != len(cells):
        raise ValueError(f"data.names has {len(names)} names, but {path} has {len(cells)} columns")
    cells = list(names or [f"column_{i}" for i in range(len(cells))]) if bare else cells
    if not bare and _has_row_names(lines):
        cells = [ROW_NAMES, *cells]
    _refuse_twice(str(path), cells)
    options: dict[str, Any] = {
        "sep": r"\s+" if delimiter == " " else delimiter,
        "names": cells,
        "index_col": False,  # a delimiter at the end of every line makes no cell the name of its row
        "encoding": "utf-8-sig",
        "skipinitialspace": True,
        "keep_default_na": False,
        "na_values": ["", *missing],
        "low_memory": False,
    }
    dialect = Dialect(cells, bare, delimiter, options)
    for line in lines:
        refuse_longer(line, dialect, path)
    if delimiter == ";":
        return _with_decimal(dialect, path)
    quoted = any(re.fullmatch(COMMA_NUMBER, cell.strip()) for line in lines for cell in line)
    return replace(dialect, decimal="") if quoted else dialect


def _with_decimal(dialect: Dialect, path: Path) -> Dialect:
    """Where semicolons stand between the cells, commas may stand before decimals, and points between thousands.

    Commas win where both stand before decimals: points may be those of times, such as 12.30.
    """
    options = dialect.options | {"header": None if dialect.bare else 0, "dtype": str}
    with reading_file(path, "text"):
        texts = pd.read_csv(path, nrows=TELLING_ROWS, **options)
    commas, points, doubtful = False, False, {}
    for name, column in texts.items():
        cells = column.dropna().str.strip()
        commas |= bool(cells.str.fullmatch(COMMA_NUMBER).any())
        pointed = cells[cells.str.contains(".", regex=False) & cells.str.fullmatch(POINT_NUMBER)]
        thousands = pointed.str.fullmatch(THOUSANDS)
        points |= not thousands.all()
        if thousands.any():
            doubtful[str(name)] = str(pointed[thousands].iloc[0])
    return replace(
        dialect,
        options=dialect.options | {"decimal": "," if commas else "."},
        decimal="," if commas else "." if points else "",
        doubtful=doubtful if commas == points else {},
    )


def refuse_longer(line: Sequence[str], dialect: Dialect, path: Path) -> None:
    """Pandas would drop the last cells of a file whose first line of data has more of them than there are columns.

    Raises:
        ValueError: this is such a line, and these cells are not empty.
    """
    if any(cell.strip() for cell in line[len(dialect.columns) :]):
        raise ValueError(
            f"the line {dialect.delimiter.join(line).strip()[:80]!r} of {path} has more cells than the "
            f"{len(dialect.columns)} of the first line: name every column there, and quote cells that hold "
            f"{dialect.delimiter!r}"
        )


def _split(head: Sequence[str]) -> tuple[str, list[list[str]]]:
    """What stands between the cells, and the cells of each line.

    A delimiter has to make as many cells of most lines as of the first. Where several do, it is the one that leaves
    numbers, or else the one that is rarer in texts.
    """
    found = {delimiter: split_cells(head, delimiter) for delimiter in "\t;|,"}
    delimiter = max(found, key=lambda delimiter: _fit(found[delimiter]))
    if len(found[delimiter][0]) > 1:
        return delimiter, found[delimiter]
    words = split_cells([" ".join(line.split()) for line in head], " ")
    columns, others = len(words[0]), {len(line) for line in words[1:]}
    if columns > 1 and others != {1} and (others <= {1, columns} or others == {columns + 1}):
        return " ", words
    with_commas = [line.strip() for line in head[1:] if "," in line]
    delimiter = ";" if with_commas and all(re.fullmatch(COMMA_NUMBER, line) for line in with_commas) else ","
    return delimiter, found[delimiter]


def split_cells(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    """The cells of each line, up to one that is longer than the csv module takes."""
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    found = [next(reader)]
    with suppress(csv.Error):
        found.extend(reader)
    return found


def _fit(lines: Sequence[Sequence[str]]) -> tuple[int, float]:
    """How many lines have as many cells as the first, if it has several; and what share of the others' are numbers."""
    columns = len(lines[0])
    if columns == 1:
        return 0, 0.0
    cells = [cell.strip() for line in lines[1:] for cell in line]
    return sum(len(line) == columns for line in lines), sum(map(_is_number, cells)) / max(len(cells), 1)


def _has_row_names(lines: Sequence[Sequence[str]]) -> bool:
    """Is every line one cell longer than the first, as R writes tables? A last cell that is empty is none."""
    columns, others = len(lines[0]), lines[1:]
    longer = columns > 1 and {len(line) for line in others} == {columns + 1}
    return longer and any(line[-1].strip() for line in others)


def _is_number(cell: str) -> bool:
    return bool(re.fullmatch(POINT_NUMBER, cell) or re.fullmatch(COMMA_NUMBER, cell))


def _text_table(path: Path, names: Sequence[str] | None, missing: Sequence[str]) -> Table:
    dialect = find_dialect(path, names, missing)
    options = dialect.options | {"header": None if dialect.bare else 0}

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

    with reading_file(path, "text"):
        sample = pd.read_csv(path, nrows=SAMPLE_ROWS, **options)
    return Table(str(path), sample, None, batches, place, decimal=dialect.decimal, doubtful=dialect.doubtful)


def _is_data(cells: Sequence[str]) -> bool:
    """Is a first line data already? It is if it holds numbers, unless they count as names do: 0, 1, 2 or 2019, 2020."""
    numbers = [float(cell) for cell in cells if re.fullmatch(POINT_NUMBER, cell)]
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
