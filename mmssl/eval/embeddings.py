"""Tables of embeddings in files: one row a sample, what it is and then its features."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mmssl.eval.features import Features

if TYPE_CHECKING:
    import pandas as pd


def write_embeddings(path: str | os.PathLike[str], features: Features, columns: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write a Parquet file with ``columns`` and then the features as ``e000``…; complete or not at all.

    Args:
        path: of the file.
        features: ``(n, D)``.
        columns: name to ``(n,)``. Objects of several types, such as names 1 and "b", are written as text.

    Raises:
        ValueError: a column of another length.
    """
    import pyarrow as pa
    from pyarrow import parquet

    for name, values in columns.items():
        if values.shape != (len(features),):
            raise ValueError(f"column {name!r} has shape {values.shape} for {len(features)} rows of features")
    arrays = {name: pa.array(_one_type(values), from_pandas=True) for name, values in columns.items()}
    arrays |= {f"e{i:03d}": pa.array(np.ascontiguousarray(features[:, i])) for i in range(features.shape[1])}
    path = Path(path)
    with _finished(path) as unfinished:
        parquet.write_table(pa.table(arrays), unfinished)


def read_embeddings(path: str | os.PathLike[str], *, split: str) -> tuple[Features, pd.DataFrame]:
    """The features ``(n, D)`` of a part of what a run wrote, such as ``"train"``, and what is known of each row.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it has no row of this part.
    """
    import pandas as pd

    frame = pd.read_parquet(path)
    part = frame[frame["split"] == split] if "split" in frame else frame[:0]
    if part.empty:
        raise ValueError(f"{path} has no rows of split {split!r}; it is written at the end of a run")
    features = part.filter(regex=r"^e\d+$")
    return features.to_numpy(dtype=np.float32), part.drop(columns=features.columns)


def write_frame(frame: pd.DataFrame | Sequence[pd.DataFrame], path: str | os.PathLike[str]) -> None:
    """Write a table with its index as Parquet, Feather or CSV, by the suffix of ``path``; complete or not at all.

    Args:
        frame: what an embedder gives; several tables are written one below the other.
        path: of the file.

    Raises:
        ValueError: the suffix is another one.
    """
    import pandas as pd

    path = Path(path)
    writers: dict[str, Callable[[pd.DataFrame, Path], object]] = {
        ".parquet": lambda table, file: table.to_parquet(file, index=False),
        ".feather": lambda table, file: table.to_feather(file),
        ".csv": lambda table, file: table.to_csv(file, index=False),
    }
    if path.suffix.lower() not in writers:
        raise ValueError(f"cannot write a table to {path}: its name must end in {', '.join(writers)}")
    flat = _flat(frame if isinstance(frame, pd.DataFrame) else pd.concat(frame))
    with _finished(path) as unfinished:
        writers[path.suffix.lower()](flat, unfinished)


def write_parts(parts: Iterable[pd.DataFrame], path: str | os.PathLike[str]) -> int:
    """Write tables of one form, one below the other, each as it comes; complete or not at all.

    Args:
        parts: what an embedder gives piece by piece; one at least.
        path: of the file. Parquet and CSV need no more memory than a part, Feather as much as the whole.

    Returns:
        How many rows there are.

    Raises:
        ValueError: the suffix is another one.
    """
    import pyarrow as pa
    from pyarrow import parquet

    path = Path(path)
    if path.suffix.lower() not in (".parquet", ".csv"):
        tables = list(parts)
        write_frame(tables, path)
        return sum(map(len, tables))
    rows, writer = 0, None
    with _finished(path) as unfinished:
        try:
            for part in parts:
                flat = _flat(part)
                if path.suffix.lower() == ".csv":
                    flat.to_csv(unfinished, index=False, mode="a", header=rows == 0)
                else:
                    table = pa.Table.from_pandas(flat, schema=writer.schema if writer else None, preserve_index=False)
                    writer = writer or parquet.ParquetWriter(unfinished, _texts(table.schema))
                    writer.write_table(table.cast(writer.schema))
                rows += len(flat)
        finally:
            if writer is not None:
                writer.close()
    return rows


@contextmanager
def _finished(path: Path) -> Iterator[Path]:
    """A name to write to, which becomes ``path`` at the end and vanishes after an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _texts(schema: Any) -> Any:
    """Columns of which the first part holds no value are taken as text."""
    import pyarrow as pa

    fields = [pa.field(field.name, pa.string()) if pa.types.is_null(field.type) else field for field in schema]
    return pa.schema(fields)


def _flat(frame: pd.DataFrame) -> pd.DataFrame:
    """With its index as columns, and one type in each, as files hold: names such as 1 and "b" become text."""
    flat = frame.reset_index()
    for name in flat.columns:
        if flat[name].dtype == object and flat[name].map(type).nunique() > 1:
            flat[name] = flat[name].astype(str)
    return flat


def _one_type(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if values.dtype != object:
        return values
    known = [value for value in values if value is not None]
    if len({type(value) for value in known}) < 2:
        return values
    return np.array([None if value is None else str(value) for value in values], dtype=object)
