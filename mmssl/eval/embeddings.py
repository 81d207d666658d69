"""embeddings.parquet: one row a sample, what it is and then its features."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmssl.eval.features import Features


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
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        parquet.write_table(pa.table(arrays), unfinished)
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
