"""Clips from wherever a user has them: a folder, a table, a list of files, or arrays."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmssl.audio.clips import ClipSet, as_objects
from mmssl.audio.columns import Columns, columns_from_paths
from mmssl.audio.files import Options, centred, find_audio, is_audio, read_files, some
from mmssl.audio.tables import SUFFIXES as TABLES
from mmssl.audio.tables import read_table

Source = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Sequence[npt.NDArray[Any]] | npt.NDArray[Any]


def read_clips(
    source: Source,
    options: Options,
    *,
    file: str | None = None,
    label: str | None = None,
    group: str | None = None,
    pattern: str | None = None,
) -> ClipSet:
    """Clips of one rate and one channel.

    Args:
        source: a folder; a CSV, TSV or Parquet table of paths; one audio file; a list of audio files; or arrays
            of samples at ``options.rate``, full scale 1.
        options: the rate and the channel that are wanted, and the limits.
        file: of a table, see `read_table`.
        label, group: of a folder see `columns_from_paths`, of a table `read_table`.
        pattern: of a folder, see `columns_from_paths`.

    Raises:
        FileNotFoundError: there is no such data.
        ValueError: it cannot be used as given; the message says where, why and what to do.
    """
    if not isinstance(source, str | os.PathLike):
        items = list(source)
        if not items:
            raise ValueError("there is nothing to read: the list of recordings is empty")
        if not isinstance(items[0], str | os.PathLike):
            return _from_arrays(items, options)
        paths = [os.fspath(item) for item in items]
        if missing := [path for path in paths if not os.path.exists(path)]:
            raise FileNotFoundError(f"{len(missing):,} of {len(paths):,} files do not exist: {some(missing)}")
        return _from_files("", paths, options, label=label or "none", group=group, pattern=pattern)
    path = Path(source)
    if path.suffix.lower() in TABLES:
        if pattern is not None:
            raise ValueError(
                f"data.pattern={pattern} is for folders, and data.path={path} is a table: name its columns"
            )
        files, names, columns = read_table(path, file=file, label=label, group=group)
        return read_files(files, names, columns, options)
    if file is not None:
        raise ValueError(f"data.file={file} is a column of a table, and data.path={path} is none")
    if path.is_file():
        if not is_audio(path.name):
            raise ValueError(f"data.path={path} is neither a folder, nor a table ({', '.join(TABLES)}), nor audio")
        return _from_files(str(path.parent), [path.name], options, label=label, group=group, pattern=pattern)
    return _from_files(str(path), find_audio(path), options, label=label, group=group, pattern=pattern)


def describe(clips: ClipSet) -> str:
    """What was read, in a few lines that show at once when something was misread."""
    seconds = clips.sizes / clips.rate
    lines = [
        f"clips: {len(clips):,} at {clips.rate:,} Hz, {clips.seconds / 60:,.1f} minutes, each {seconds.min():.2g} to "
        f"{seconds.max():.3g} s (median {np.median(seconds):.2g})"
    ]
    if clips.labels is not None:
        counts = Counter(clips.labels)
        unlabelled = counts.pop(None, 0)
        known = sorted(f"{name} {count:,}" for name, count in counts.items())
        text = ", ".join(known[:12]) + (f", … ({len(known)} classes)" if len(known) > 12 else "")
        lines.append(f"labels: {text}" + (f"; {unlabelled:,} unlabelled" if unlabelled else ""))
    if clips.groups is not None:
        lines.append(f"groups: {len(set(clips.groups)):,}")
    return "\n".join([*lines, *clips.notes])


def _from_files(root: str, paths: list[str], options: Options, **how: str | None) -> ClipSet:
    columns: Columns = columns_from_paths(paths, **how)
    return read_files([os.path.join(root, path) for path in paths], as_objects(paths), columns, options)


def _from_arrays(arrays: Sequence[Any], options: Options) -> ClipSet:
    if options.rate is None:
        raise ValueError("arrays of samples have no sampling rate: set data.rate")
    clips = []
    for i, array in enumerate(arrays):
        samples = np.asarray(array)
        if samples.ndim != 1 or not len(samples) or not np.issubdtype(samples.dtype, np.floating):
            raise ValueError(
                f"array {i} of the list must be floats (samples,) of one channel, full scale 1; got {samples.dtype} of "
                f"shape {samples.shape}"
            )
        if not np.isfinite(samples).all():
            raise ValueError(f"array {i} has NaN or infinite samples")
        clips.append(centred(samples.astype(np.float32)))
    return ClipSet.of(clips, options.rate)
