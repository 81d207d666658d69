"""Tables that list audio files, and tables of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mmssl.audio.clips import Objects, as_objects
from mmssl.audio.columns import Columns

SUFFIXES = (".csv", ".tsv", ".parquet")
FILE_COLUMNS = ("path", "file", "filename", "audio")


def read_table(
    table: Path, *, file: str | None = None, label: str | None = None, group: str | None = None
) -> tuple[list[str], Objects, Columns]:
    """Paths of the files, their names, and what the table says of each.

    A column ``split`` that says ``train`` or ``test`` in every row parts them.

    Args:
        table: CSV, TSV or Parquet.
        file: column with the paths, absolute or from the folder of the table; None takes one of `FILE_COLUMNS`.
        label: column with the labels, empty where unlabelled; None takes ``label`` if there is one, ``"none"`` none.
        group: column with what no split may part, such as speakers.

    Raises:
        FileNotFoundError: there is no such table, or it names files that do not exist.
        ValueError: a column is missing.
    """
    if not table.exists():
        raise FileNotFoundError(f"data.path={table} does not exist")
    if table.suffix == ".parquet":
        frame = pd.read_parquet(table)
    else:
        frame = pd.read_csv(table, sep="\t" if table.suffix == ".tsv" else ",")
    if file is None:
        file = next((name for name in FILE_COLUMNS if name in frame), None)
    for option, column in (("data.file", file), ("data.label", label), ("data.group", group)):
        if column not in (None, "none") and column not in frame:
            raise ValueError(
                f"{option}={column}: {table} has no such column, only {', '.join(map(str, frame.columns))}"
            )
    if file is None:
        raise ValueError(
            f"{table} has none of the columns {', '.join(FILE_COLUMNS)}: name the one that holds the paths of the "
            f"files by data.file; there are {', '.join(map(str, frame.columns))}"
        )
    if not len(frame):
        raise ValueError(f"{table} has no rows")
    names = as_objects(frame[file].astype(str).tolist())
    files = [str(table.parent / name) for name in names]
    if missing := [name for name, path in zip(names, files, strict=True) if not Path(path).exists()]:
        raise FileNotFoundError(
            f"{len(missing):,} of {len(names):,} files that {table} lists do not exist, such as {missing[0]}: looked "
            f"for them from {table.parent.resolve()} on; correct column {file!r}, or remove these rows"
        )
    if label is None and "label" in frame:
        label = "label"
    labels = None if label in (None, "none") else _column(frame, str(label))
    groups = None if group in (None, "none") else _column(frame, str(group))
    if groups is not None:
        groups = as_objects([name if group is None else group for name, group in zip(names, groups, strict=True)])
    parts, notes = None, list[str]()
    if "split" in frame:
        parts = _column(frame, "split")
        if set(parts) != {"train", "test"}:
            said = ", ".join(sorted(map(str, set(parts))))
            notes.append(f"column split is not used: it must say train or test in every row, and says {said}")
            parts = None
    return files, names, Columns(labels, groups, parts, notes)


def embedding_frame(values: npt.NDArray[np.floating], names: Sequence[object] | Objects) -> pd.DataFrame:
    """Embeddings ``(n, D)`` as a table with columns ``e000``…, indexed by the names of the clips."""
    return pd.DataFrame(
        values, index=pd.Index(names, name="clip"), columns=[f"e{i:03d}" for i in range(values.shape[1])]
    )


def _column(frame: pd.DataFrame, name: str) -> Objects:
    """Missing values become None; integers stay such beside them."""
    values: list[Any] = frame[name].convert_dtypes().astype(object).where(frame[name].notna(), None).tolist()
    return as_objects(values)
