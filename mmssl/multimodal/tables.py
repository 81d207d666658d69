"""Tables with a column of image paths and one of captions: CSV, TSV, Parquet and JSON lines."""

from __future__ import annotations

import os
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from mmssl.multimodal.pairs import Listing
from mmssl.vision.files import Files
from mmssl.vision.formats import suffix

TABLES = (".csv", ".tsv", ".parquet", ".pq", ".jsonl", ".ndjson")
IMAGES = ("image", "image_path", "path", "file", "file_name", "filename", "filepath", "img")
CAPTIONS = ("caption", "captions", "text", "texts", "title", "description", "sentences", "report")


def read_table(
    path: Path,
    *,
    root: str | None = None,
    image: str | None = None,
    caption: str | None = None,
    label: str | None = None,
) -> Listing:
    """The images and captions of a table, a row a pair or a list of captions a row; rows of one image are joined.

    Args:
        path: CSV, TSV, Parquet or JSON lines.
        root: folder that the paths of images begin in; None: that of the table.
        image: column of the paths; None: one of `IMAGES`.
        caption: column of the captions, text or lists of it; None: one of `CAPTIONS`.
        label: column of the names of classes; None: there are none.

    Raises:
        ValueError: the table cannot be read, a column is not there, or rows of one image have different labels.
    """
    frame = _read(path)
    image = _column(frame, path, "image", image, IMAGES)
    caption = _column(frame, path, "caption", caption, CAPTIONS)
    if label is not None:
        label = _column(frame, path, "label", label, ())
    if not len(frame):
        raise ValueError(f"{path} has no rows; fill it or name another table with data.path")
    captions: dict[str, list[object]] = {}
    places: dict[str, str] = {}
    labels: dict[str, object] = {}
    classes = [None] * len(frame) if label is None else frame[label].tolist()
    rows = zip(frame[image].tolist(), frame[caption].tolist(), classes, strict=True)
    for row, (name, said, known) in enumerate(rows, start=1):
        place = f"row {row}"
        if not isinstance(name, str) or not name:
            raise ValueError(f"{path}, {place}: column {image!r} holds {name!r}, not the path of an image")
        known = None if known is None or known != known or known == "" else known
        if labels.setdefault(name, known) != known:
            raise ValueError(
                f"{path}: {name} has the label {labels[name]!r} in {places[name]} and {known!r} in {place}: "
                "an image has one label"
            )
        captions.setdefault(name, []).extend(_listed(said))
        places.setdefault(name, place)
    folder = str(path.parent) if root is None else root
    names = list(captions)
    if root is not None and not os.path.isdir(root):
        raise FileNotFoundError(f"data.root={root} is no folder; it is where the paths of images begin")
    return Listing(
        Files(names, folder),
        names,
        list(captions.values()),
        list(places.values()),
        labels=list(labels.values()) if label is not None else None,
    )


def _read(path: Path) -> pd.DataFrame:
    kind = suffix(path.name)
    try:
        if kind in (".parquet", ".pq"):
            return pd.read_parquet(path)
        if kind in (".jsonl", ".ndjson"):
            return pd.read_json(path, lines=True, dtype=False, convert_dates=False)
        return pd.read_csv(path, sep="\t" if kind == ".tsv" else ",", dtype=str, keep_default_na=False)
    except (ValueError, pa.ArrowException, OSError) as error:  # pandas' parser errors are ValueErrors
        raise ValueError(f"{path} cannot be read as a table ({error}); if it is damaged, copy it again") from error


def _column(frame: pd.DataFrame, path: Path, option: str, wanted: str | None, usual: Sequence[str]) -> str:
    known = [str(name) for name in frame.columns]
    if wanted is None:
        found = [name for name in usual for column in known if column.lower() == name]
        if found:
            return next(column for column in known if column.lower() == found[0])
    elif wanted in known:
        return wanted
    close = get_close_matches(wanted or "", known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else f": set data.{option} to the one that is meant"
    problem = f"no column {wanted!r}" if wanted is not None else f"no column with a usual name of {option}s"
    raise ValueError(f"data.{option}: {path} has {problem}, only {', '.join(known)}{hint}")


def _listed(said: Any) -> list[object]:
    """A cell with several captions is a list, or an array as Parquet gives it."""
    if isinstance(said, list | tuple):
        return list(said)
    return list(said.tolist()) if hasattr(said, "tolist") and getattr(said, "ndim", 0) == 1 else [said]
