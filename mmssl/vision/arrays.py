"""Stacks of images, in memory or in NPY and NPZ files, become an `ImageSet`. Never unpickles."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmssl.vision.decode import array_header, array_values, undecodable
from mmssl.vision.frame import Frame, Header, kept, plan
from mmssl.vision.images import ImageSet, InMemory, Labels, Values, as_objects
from mmssl.vision.layout import stack_channels_first
from mmssl.vision.load import GIB, Options, image_set, refuse_many_bad
from mmssl.vision.paths import Columns

IMAGES = ("x", "images", "image", "data", "arr_0")  # keys of an NPZ file, in lower case
LABELS = ("y", "labels", "label", "targets")
PARTS = {"train": "train", "test": "test", "val": "validation"}


def read_stack(path: Path, options: Options, *, labels: bool = True) -> ImageSet:
    """The images of an NPY or NPZ file; of an NPY file that is too large for ``options.cache``, as they are needed.

    An NPZ file holds them under ``x`` or ``images``, with labels under ``y`` or ``labels``; or in parts, under
    ``x_train``, ``y_train``, ``x_test`` … or ``train_images``, ``train_labels``, ``test_images`` ….

    Raises:
        ValueError: the file is damaged, or does not say which entry holds the images.
    """
    try:
        if path.suffix.lower() == ".npy":
            mapped = np.lib.format.open_memmap(path, mode="r")
        else:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as loaded:
                entries = {key.lower(): loaded[key] for key in loaded.files}
    except (ValueError, EOFError, OSError, zlib.error, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} cannot be read as an array: {error}; if it holds Python objects, save plain numbers and labels of "
            "dtype str, else it looks damaged: write or copy it again"
        ) from error
    if path.suffix.lower() == ".npy":
        return stack_set(mapped, Columns(), options, path)
    return _from_entries(entries, path, options, labels=labels)


def stack_set(values: Values, columns: Columns, options: Options, path: Path | None = None) -> ImageSet:
    """Images ``(N, H, W)``, ``(N, H, W, C)`` or ``(N, C, H, W)``; names are row numbers.

    Args:
        values: the images.
        columns: labels and parts.
        options: as for files.
        path: of an NPY file that ``values`` is mapped from.

    Raises:
        ValueError: it is not clear which axis is which, or the values are no numbers.
    """
    x = stack_channels_first(values, options.layout)
    names = as_objects(range(len(x)))
    if not len(x):
        raise ValueError(f"no image in {'the array' if path is None else path} of shape {values.shape}")
    header = array_header(x[0])
    frame, notes = plan([header], names[:1], size=options.size, channels=options.channels, fit=options.fit)
    if header.side != frame.size or header.width != header.height or frame.bytes * len(x) > options.cache * GIB:
        items = Stack(values, options.layout) if path is None else MappedStack(path, options.layout)
        return image_set(items, names, columns, options, all_headers=False, workers=0)
    pixels = InMemory(np.ascontiguousarray(kept(x)))
    bad = _not_finite(pixels.values)
    notes += refuse_many_bad(bad, names, options.max_bad, warn=True)
    notes = [*columns.notes, *notes]
    images = ImageSet(pixels, names, columns.labels, columns.groups, columns.parts, notes=tuple(notes))
    return images.subset(np.setdiff1d(np.arange(len(x)), list(bad))) if bad else images


@dataclass(frozen=True, eq=False)
class Stack:
    """The images of an array, one by one."""

    values: Values
    layout: str | None = None

    @cached_property
    def images(self) -> Values:
        """``(N, C, H, W)``."""
        return stack_channels_first(self.values, self.layout)

    def __len__(self) -> int:
        return len(self.images)

    def header(self, i: int) -> Header:
        with undecodable():
            return array_header(self.images[i])

    def decode(self, i: int, frame: Frame) -> tuple[Header, Values]:
        with undecodable():
            return array_header(self.images[i]), array_values(self.images[i], frame)


class MappedStack(Stack):
    """The images of an NPY file that stays on the disk; another process maps it anew."""

    def __init__(self, path: Path, layout: str | None = None) -> None:
        super().__init__(np.lib.format.open_memmap(path, mode="r"), layout)
        object.__setattr__(self, "path", path)

    def __reduce__(self) -> tuple[type[MappedStack], tuple[Path, str | None]]:
        return MappedStack, (self.path, self.layout)  # type: ignore[attr-defined]


def stack_labels(values: npt.NDArray[Any], n: int, name: str) -> Labels:
    """``(n,)`` or ``(n, 1)`` of an array; None where NaN or empty.

    Raises:
        ValueError: they are not one an image.
    """
    if values.shape not in ((n,), (n, 1)):
        raise ValueError(f"{name} must hold a label for each of the {n:,} images, got shape {values.shape}")
    names = [None if name != name or name in (None, "") else name for name in values.ravel().tolist()]
    whole = all(name is None or (isinstance(name, float) and name.is_integer()) for name in names)
    return as_objects([int(name) if whole and name is not None else name for name in names])


def _from_entries(entries: dict[str, Values], path: Path, options: Options, *, labels: bool) -> ImageSet:
    stacks = [(part, key) for part, key in _keys(entries, IMAGES) if entries[key].ndim in (3, 4)]
    if not stacks:
        shapes = ", ".join(f"{name} {entry.shape}" for name, entry in entries.items()) or "nothing"
        raise ValueError(f"{path} must hold images under x (or x_train and x_test), but holds {shapes}")
    label_keys = dict(_keys(entries, LABELS))
    values = [entries[key] for _, key in stacks]
    if len({v.shape[1:] for v in values}) > 1:
        raise ValueError(f"{path}: {', '.join(f'{key} {entries[key].shape}' for _, key in stacks)} differ in shape")
    marks = [part for (part, _), v in zip(stacks, values, strict=True) for _ in range(len(v))]
    columns = Columns(parts=as_objects(marks) if len(stacks) > 1 else None)
    if labels and label_keys:
        known = [
            stack_labels(entries[label_keys[part]], len(v), f"{label_keys[part]} of {path}")
            if part in label_keys
            else np.full(len(v), None, dtype=object)
            for (part, _), v in zip(stacks, values, strict=True)
        ]
        columns = Columns(np.concatenate(known), parts=columns.parts)
    return stack_set(np.concatenate(values) if len(values) > 1 else values[0], columns, options)


def _keys(entries: dict[str, Values], wanted: tuple[str, ...]) -> list[tuple[str | None, str]]:
    """The entry of each part that goes by one of the wanted names; one without a part, if there is one."""
    for key in wanted:
        if key in entries:
            return [(None, key)]
    found: list[tuple[str | None, str]] = []
    for mark, part in PARTS.items():
        keys = [key for name in wanted for key in (f"{name}_{mark}", f"{mark}_{name}") if key in entries]
        found += [(part, key) for key in keys[:1]]
    return found


def _not_finite(values: Values) -> dict[int, str]:
    """Images ``(N, C, S, S)`` that cannot be learnt from."""
    if values.dtype.kind != "f":
        return {}
    counts = np.array([np.count_nonzero(~np.isfinite(image)) for image in values])
    return {int(i): f"it holds {counts[i]:,} values that are NaN or infinite" for i in np.flatnonzero(counts)}
