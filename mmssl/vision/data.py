"""A user's own image files, tables and arrays become an `ImageSet`; embeddings become tables and files."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from torch import Tensor

from mmssl.vision.arrays import read_stack, stack_set
from mmssl.vision.decode import EncodedImages
from mmssl.vision.files import Files, Found, find_images, spool
from mmssl.vision.formats import STACKS, TABLES, suffix
from mmssl.vision.images import ImageSet, Labels, as_objects
from mmssl.vision.load import Options, image_set
from mmssl.vision.paths import Columns, columns_from_paths

BATCH_ROWS = 256  # of a Parquet file that are in memory at a time
IMAGE_NAMES = ("image", "img", "images", "picture", "photo", "jpg", "jpeg", "png", "bytes", "image_bytes")
SHARDS = {"train": "train", "test": "test", "validation": "validation"}  # how the names of several files begin
LABEL = "label"  # a column of this name holds the labels, unless data.label says otherwise


def read_images(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | npt.NDArray[Any] | Tensor,
    *,
    size: int | None = None,
    channels: int | None = None,
    fit: str = "crop",
    label: str | None = None,
    id: str | None = None,
    group: str | None = None,
    image: str | None = None,
    layout: str | None = None,
    cache: float = 2.0,
    max_bad: float = 0.01,
) -> ImageSet:
    """Images from a folder, an archive, a table, an array or a list of files.

    Args:
        source: a folder of images with any sub-folders; a .zip or .tar (also .gz, .bz2, .xz) of one; a Parquet file or
            a folder of them with a column of encoded images; NPY or NPZ; one image; a list of image files; an array or
            a tensor ``(N, H, W)``, ``(N, H, W, C)`` or ``(N, C, H, W)``.
        size: pixels of a side; None keeps a common size of at most 256 and takes one of at most 224 otherwise.
        channels: of photographs, 1, 3 or 4 (RGBA); None keeps a common number and takes 3 if they differ. Arrays (TIFF,
            NPY, NPZ) are taken as they are.
        fit: ``"crop"`` resizes the shorter side and takes the middle, ``"stretch"`` both sides, ``"pad"`` the longer
            side and fills up with zeros.
        label: of files, ``"folder"`` (the first), ``"parent"`` (the last), ``"path"`` (all) or ``"none"``; of a table,
            a column or ``"none"``. None takes one level of folders, a column ``label``, or the labels of an NPZ file.
        id: column of a table that names the images.
        group: column of a table, or ``"folder"``, ``"parent"`` or ``"path"``, whose images no split may part.
        image: column of a table with the images, where several could be meant.
        layout: NHW, NHWC or NCHW, where the shape of an array leaves it open.
        cache: GiB that decoded images may take in memory; larger sets are decoded whenever they are needed.
        max_bad: share of images that may be damaged; they are left out with a warning.

    Raises:
        FileNotFoundError: ``source`` does not exist.
        ValueError: the data cannot be used as given; the message says where, why and what to do.
    """
    options = Options(size=size, channels=channels, fit=fit, layout=layout, cache=cache, max_bad=max_bad)
    if isinstance(source, np.ndarray | Tensor):
        _refuse(source, {"data.label": label, "data.id": id, "data.group": group, "data.image": image})
        values = source.detach().cpu().numpy() if isinstance(source, Tensor) else source
        return stack_set(values, Columns(), options)
    if not isinstance(source, str | os.PathLike):
        paths = [Path(path).as_posix() for path in source]
        return _from_files(Found(paths, Files(paths)), options, label=label or "none", group=group)
    path = Path(source)
    if tables := _tables(path):
        return _from_tables(tables, options, label=label, id=id, group=group, image=image)
    if path.is_file() and suffix(path.name) in STACKS:
        _refuse(path, {"data.id": id, "data.group": group, "data.image": image})
        return read_stack(path, options, labels=label != "none")
    _refuse(path, {"data.id": id, "data.image": image})
    return _from_files(find_images(path), options, label=label, group=group)


def describe(images: ImageSet) -> str:
    """What was read, in a few lines that show at once when something was misread."""
    n, side, channels = len(images), images.size, images.channels
    kind = {"uint8": "8 bits", "uint16": "16 bits", "float32": "floats"}[images.dtype]
    where = "in memory" if images.in_memory else "decoded as they are needed"
    lines = [f"images: {n:,} of {side} x {side}, {channels} channel{'' if channels == 1 else 's'}, {kind}, {where}"]
    if images.labels is not None:
        counts = Counter(images.labels)
        unlabelled = counts.pop(None, 0)
        known = sorted(f"{name} {count:,}" for name, count in counts.items())
        text = ", ".join(known[:12]) + (f", … ({len(known)} classes)" if len(known) > 12 else "")
        lines.append(f"labels: {text}" + (f"; {unlabelled:,} unlabelled" if unlabelled else ""))
    if images.groups is not None:
        lines.append(f"groups: {len(set(images.groups)):,}")
    return "\n".join([*lines, *images.notes])


def embedding_frame(values: npt.NDArray[np.floating], names: npt.NDArray[np.object_], **columns: Any) -> pd.DataFrame:
    """Embeddings ``(n, D)`` as a table with columns ``e000``…, indexed by the names of the images.

    Further ``columns``, such as labels, come before the features.
    """
    index = pd.Index(names, name="image")
    features = pd.DataFrame(values, index=index, columns=[f"e{i:03d}" for i in range(values.shape[1])])
    return pd.concat([pd.DataFrame(columns, index=index), features], axis=1) if columns else features


def _from_files(found: Found, options: Options, *, label: str | None, group: str | None) -> ImageSet:
    columns = columns_from_paths(found.paths, label=label, group=group)
    columns.notes.extend(found.notes)
    if found.others:
        columns.notes.append(f"{found.others:,} files that are no images by their suffix were passed over")
    items = EncodedImages(found.blobs, options.layout)
    return image_set(items, as_objects(found.paths), columns, options)


def _refuse(source: Any, given: dict[str, str | None]) -> None:
    for option, value in given.items():
        if value is not None:
            what = source if isinstance(source, Path) else "an array"
            raise ValueError(f"{option}={value} needs a table, which {what} is not; leave it out")


# --------------------------------------------------------------------------------------------------------- Parquet


@dataclass(frozen=True)
class _Chosen:
    """The columns to read."""

    image: str
    nested: bool  # a struct with the bytes and a path, as Hugging Face writes it
    label: str | None
    id: str | None
    group: str | None


def _tables(path: Path) -> list[Path]:
    """The Parquet file, or those of a folder without images of its own."""
    if path.is_dir():
        return sorted(p for p in path.rglob("*") if suffix(p.name) in TABLES and not p.name.startswith((".", "_")))
    return [path] if path.is_file() and suffix(path.name) in TABLES else []


def _from_tables(
    files: list[Path],
    options: Options,
    *,
    label: str | None,
    id: str | None,
    group: str | None,
    image: str | None,
) -> ImageSet:
    schemas = [_schema(file) for file in files]
    chosen = _choose(schemas[0], str(files[0]), label, id, group, image)
    for file, schema in zip(files[1:], schemas[1:], strict=True):
        if missing := {chosen.image, chosen.label, chosen.id, chosen.group} - {None, *schema.names}:
            raise ValueError(f"{file} lacks the column {missing.pop()!r}, which {files[0]} has")
    rows: dict[str, list[object]] = {"label": [], "id": [], "group": [], "part": []}
    blobs, note = spool(_encoded(files, chosen, rows))
    if not len(blobs):
        raise ValueError(f"{files[0]} has no rows; fill it or remove it")
    columns = Columns(
        labels=_label_names(rows["label"], schemas[0], chosen.label),
        groups=as_objects(rows["group"]) if chosen.group else None,
        parts=as_objects(rows["part"]) if {"train", "test"} <= set(rows["part"]) else None,
        notes=[note],
    )
    names = as_objects(rows["id"] if chosen.id else range(len(blobs)))
    return image_set(EncodedImages(blobs, options.layout), names, columns, options)


def _schema(file: Path) -> pa.Schema:
    with _parquet(file) as parquet:
        return parquet.schema_arrow


@contextmanager
def _parquet(file: Path) -> Iterator[pa.parquet.ParquetFile]:
    """Say of a damaged file which one it is."""
    try:
        # pages are read as they are needed: by default a whole file of row groups ends up in memory
        with pa.parquet.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False) as parquet:
            yield parquet
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{file} cannot be read as Parquet ({error}); if it is damaged, copy it again") from error


def _choose(
    schema: pa.Schema, name: str, label: str | None, id: str | None, group: str | None, image: str | None
) -> _Chosen:
    for option, column in (("label", label), ("id", id), ("group", group), ("image", image)):
        if column is not None and column not in schema.names and (option, column) != ("label", "none"):
            raise ValueError(f"data.{option}: {name} has no column {column!r}, only {_columns(schema)}")
    images = [field.name for field in schema if _is_encoded(field.type)]
    if image is not None:
        images = [image] if image in images else []
    elif len(images) > 1:
        images = [column for column in images if column.lower() in IMAGE_NAMES] or images
    if len(images) != 1:
        problem = (
            f"several columns of bytes: set data.image to one of {', '.join(images)}"
            if images
            else ("no column of encoded images (binary, or a struct with bytes)")
        )
        raise ValueError(f"{name} has {problem}; it has {_columns(schema)}")
    if label is None and LABEL in schema.names:
        label = LABEL
    nested = pa.types.is_struct(schema.field(images[0]).type)
    return _Chosen(images[0], nested, None if label == "none" else label, id, group)


def _is_encoded(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _is_encoded(field.type) for field in kind)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} ({str(field.type)[:40]})" for field in schema) or "no column at all"


def _encoded(files: list[Path], chosen: _Chosen, rows: dict[str, list[object]]) -> Iterator[bytes]:
    """The bytes of every image, none where it is missing; what else is wanted of its row is added to ``rows``."""
    wanted = {name: column for name in ("label", "id", "group") if (column := getattr(chosen, name)) is not None}
    for file in files:
        part = next((part for start, part in SHARDS.items() if file.stem.lower().startswith(start)), None)
        with _parquet(file) as parquet:
            for batch in parquet.iter_batches(BATCH_ROWS, columns=[chosen.image, *wanted.values()], use_threads=False):
                column = batch.column(chosen.image)
                images = column.field("bytes") if chosen.nested else column
                yield from (image.as_py() or b"" for image in images)
                rows["part"] += [part] * batch.num_rows
                for name, source in wanted.items():
                    rows[name] += batch.column(source).to_pylist()


def _label_names(codes: list[object], schema: pa.Schema, column: str | None) -> Labels | None:
    """Labels as they are; numbers that Hugging Face wrote with their names become these. Missing is None."""
    if column is None:
        return None
    about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    names = about.get("info", {}).get("features", {}).get(column, {}).get("names")
    known = [None if code is None or code != code or code == "" else code for code in codes]
    if isinstance(names, list):
        known = [names[code] if isinstance(code, int) and 0 <= code < len(names) else None for code in known]
    return as_objects(known) if any(label is not None for label in known) else None
