"""Tables of embeddings in files: one row a sample, what it is and then its features."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    flat = (frame if isinstance(frame, pd.DataFrame) else pd.concat(frame)).reset_index()
    for name in flat.columns:  # names such as 1 and "b" in one column: files hold one type
        if flat[name].dtype == object and flat[name].map(type).nunique() > 1:
            flat[name] = flat[name].astype(str)
    with _finished(path) as unfinished:
        writers[path.suffix.lower()](flat, unfinished)


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


def _one_type(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if values.dtype != object:
        return values
    known = [value for value in values if value is not None]
    if len({type(value) for value in known}) < 2:
        return values
    return np.array([None if value is None else str(value) for value in values], dtype=object)
