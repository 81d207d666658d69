"""Arrays ``(N, T, C)`` in memory or in NPY and NPZ files become a `SeriesSet`. Never unpickles."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmssl.timeseries.series import SeriesSet, as_objects
from mmssl.timeseries.tables import short


@dataclass(frozen=True, eq=False)
class Array:
    """Series ``(N, T, C)`` or ``(N, T)`` with one label each, if any, under the name that messages use."""

    name: str
    entity: object
    values: npt.NDArray[Any]
    labels: npt.NDArray[Any] | None = None


def read_array(path: Path) -> Array:
    """The series in an NPY file, or under ``X``, ``x``, ``values`` or the only 3-D entry of an NPZ file.

    Raises:
        ValueError: the file is damaged, holds Python objects, or does not say which entry holds the series.
    """
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return Array(str(path), path.stem, loaded)
            entries = {key: loaded[key] for key in loaded.files}
    except (ValueError, EOFError, OSError, zlib.error, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} cannot be read as an array: {short(error)}; if it holds Python objects, save plain numbers and "
            "labels of dtype str, else it looks damaged: write or copy it again"
        ) from error
    key = next((key for key in ("X", "x", "values") if key in entries), None)
    cubes = [name for name, entry in entries.items() if entry.ndim == 3]
    if key is None and len(cubes) != 1:
        shapes = ", ".join(f"{name} {entry.shape}" for name, entry in entries.items()) or "nothing"
        raise ValueError(f"{path} must hold the series (N, T, C) under the key X, but holds {shapes}")
    labels = next((entries[name] for name in ("y", "labels") if name in entries), None)
    return Array(str(path), path.stem, entries[key or cubes[0]], labels)


def series_from_arrays(arrays: list[Array], channels: list[str] | None, options: Mapping[str, object]) -> SeriesSet:
    """The series of all arrays as one set.

    Args:
        arrays: with the same channels.
        channels: names for all channels, or which of ``channel_0``… to take; None for all under these names.
        options: what the user set that only tables have a use for; anything but None is refused.

    Raises:
        ValueError: no series, or other channels than the first array.
    """
    for option, value in options.items():
        if value is not None:
            raise ValueError(
                f"{option}={value} needs a table, but {arrays[0].name} holds series (N, T, C), which have no columns "
                "and no times; leave it out (labels of an .npz file lie under its key y)"
            )
    parts: list[SeriesSet] = []
    for array in arrays:
        part = _series(array, numbered=len(arrays) > 1)
        if parts and part.channels != parts[0].channels:
            raise ValueError(
                f"{array.name} has {len(part.channels)} channels and {arrays[0].name} {len(parts[0].channels)}; the "
                "arrays of a folder need the same channels"
            )
        parts.append(part)
    labels = [np.full(len(p), None, dtype=object) if p.labels is None else p.labels for p in parts]
    series = SeriesSet(
        values=np.concatenate([part.values for part in parts]) if len(parts) > 1 else parts[0].values,
        offsets=np.concatenate([[0], np.cumsum(np.concatenate([part.lengths for part in parts]))]).astype(np.int64),
        ids=np.concatenate([part.ids for part in parts]),
        channels=parts[0].channels,
        labels=np.concatenate(labels) if any(part.labels is not None for part in parts) else None,
    )
    return series if channels is None else _name_or_pick(series, channels, arrays[0].name)


def _series(array: Array, *, numbered: bool) -> SeriesSet:
    values, labels = array.values, array.labels
    if values.ndim not in (2, 3) or 0 in values.shape or values.dtype.kind not in "fiub":
        raise ValueError(
            f"{array.name} must hold numbers of shape (N, T, C) or (N, T) without an empty axis, got {values.dtype} of "
            f"shape {values.shape}"
        )
    if labels is not None and labels.shape != values.shape[:1]:
        raise ValueError(
            f"{array.name} must hold a label for each of its {len(values)} series, got shape {labels.shape}"
        )
    ids: Sequence[object] = range(len(values))
    if numbered:
        ids = [array.entity] if len(values) == 1 else [f"{array.entity}-{i}" for i in ids]
    with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which is refused by name later
        series = SeriesSet.from_array(values, ids=ids)
    if not len(series.values):
        raise ValueError(f"{array.name} holds no value but NaN; write it again or remove it")
    return series if labels is None else replace(series, labels=_array_labels(labels))


def _array_labels(labels: npt.NDArray[Any]) -> npt.NDArray[np.object_]:
    names = [None if name is None or name != name or name == "" else name for name in labels.tolist()]
    whole = all(name is None or (isinstance(name, float) and name.is_integer()) for name in names)
    return as_objects([int(name) if whole and name is not None else name for name in names])


def _name_or_pick(series: SeriesSet, channels: list[str], name: str) -> SeriesSet:
    """The channels of an array have no names but their numbers: pick some by these, or name them all."""
    if set(channels) <= set(series.channels):
        picked = [series.channels.index(channel) for channel in channels]
        return replace(series, values=np.ascontiguousarray(series.values[:, picked]), channels=tuple(channels))
    if len(channels) != len(series.channels):
        raise ValueError(
            f"data.channels has {len(channels)} names for the {len(series.channels)} channels of {name}; name all of "
            f"them, or pick from {series.channels[0]} … {series.channels[-1]}"
        )
    return replace(series, channels=tuple(channels))
