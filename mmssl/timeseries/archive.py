"""The UCR and UEA archives: the sets that aeon bundles, and folders of `.ts` and `.tsv` files. Never downloads."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmssl.timeseries.series import SeriesSet, as_objects


def load_archive(name: str, *, root: str | os.PathLike[str] | None = None) -> tuple[SeriesSet, SeriesSet]:
    """The train and the test part of a data set; labels are the strings of the file.

    Args:
        name: of the set, as the archive writes it: ``GunPoint``.
        root: folder with one folder per set, or the folder of this set; None for what aeon bundles.

    Raises:
        FileNotFoundError: no such set there; the message lists what is.
        ModuleNotFoundError: ``root`` is None and aeon is not installed.
        ValueError: a file is damaged or is not a classification set.
    """
    folder = _bundled(name) if root is None else _below(Path(root), name)
    train, test = (_read(_part_file(folder, name, part), part.lower()) for part in ("TRAIN", "TEST"))
    if train.channels != test.channels:
        raise ValueError(
            f"{name} in {folder} has {len(train.channels)} channels in train and {len(test.channels)} in test"
        )
    return train, test


def _bundled(name: str) -> Path:
    # the folder is found without importing aeon, whose loaders would try to download what they do not find
    spec = importlib.util.find_spec("aeon")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            f"data.name={name} without data.root comes with aeon, which is not installed: pip install "
            '"mmssl[timeseries]", or set data.root to a folder with the archive'
        )
    folder = Path(spec.origin).parent / "datasets" / "data"
    names = _sets(folder)
    if name not in names:
        raise FileNotFoundError(
            f"data.name={name} is not among the sets that aeon bundles ({', '.join(names)}); set data.root to the "
            "folder with your copy of the UCR or UEA archive (datasets/prepare_ucr_uea.py fetches one)"
        )
    return folder / name


def _below(root: Path, name: str) -> Path:
    for folder in (root / name, root):
        if _has_parts(folder, name):
            return folder
    if not root.is_dir():
        raise FileNotFoundError(f"data.root={root} is no folder; it must hold {name}/{name}_TRAIN.ts or .tsv")
    names = _sets(root)
    close = get_close_matches(name, names, n=5, cutoff=0.4)
    known = f"did you mean {', '.join(close)}?" if close else f"there is {', '.join(names[:20]) or 'no set at all'}"
    raise FileNotFoundError(
        f"data.name={name}: no {name}/{name}_TRAIN.ts or .tsv with its _TEST below data.root={root}; {known}"
    )


def _sets(root: Path) -> list[str]:
    return sorted(folder.name for folder in root.iterdir() if _has_parts(folder, folder.name))


def _has_parts(folder: Path, name: str) -> bool:
    return all(any((folder / f"{name}_{part}{end}").is_file() for end in (".ts", ".tsv")) for part in ("TRAIN", "TEST"))


def _part_file(folder: Path, name: str, part: str) -> Path:
    return next(file for end in (".ts", ".tsv") if (file := folder / f"{name}_{part}{end}").is_file())


def _read(path: Path, part: str) -> SeriesSet:
    """One file; its entities are called ``train-0``, ``train-1`` …"""
    series: list[npt.NDArray[np.float32]] = []
    labels: list[str] = []
    with path.open(encoding="utf-8", errors="replace") as file:  # some descriptions in the archive are Latin-1
        lines = enumerate(file, start=1)
        if path.suffix == ".ts":
            _skip_header(path, lines)
        for number, line in lines:
            if not line.strip():
                continue
            try:
                cells, label = _ts_cells(line) if path.suffix == ".ts" else _tsv_cells(line)
                if series and cells.shape[1] != series[0].shape[1]:
                    raise ValueError(f"{cells.shape[1]} channels after lines of {series[0].shape[1]}")
            except ValueError as error:
                raise ValueError(f"line {number} of {path} cannot be read: {error}; get the file again") from None
            series.append(cells)
            labels.append(label)
    if not series:
        raise ValueError(f"{path} holds no series; get the file again")
    return SeriesSet(
        values=np.concatenate(series),
        offsets=np.cumsum([0, *map(len, series)]).astype(np.int64),
        ids=as_objects([f"{part}-{i}" for i in range(len(series))]),
        channels=tuple(f"dim_{c}" for c in range(series[0].shape[1])),
        labels=as_objects(labels),
    )


def _skip_header(path: Path, lines: Iterator[tuple[int, str]]) -> None:
    """Up to the first series, if these are what can be read here: values without timestamps, followed by a class."""
    for _, line in lines:
        tag = line.lower().split()
        if tag[:2] in (["@timestamps", "true"], ["@targetlabel", "true"], ["@classlabel", "false"]):
            raise ValueError(
                f"{path} says {line.strip()!r}; only classification sets without timestamps can be read: bring others "
                "in as a table with data.path"
            )
        if tag[:1] == ["@data"]:
            return
    raise ValueError(f"{path} has no line @data; it looks cut off: get the file again")


def _ts_cells(line: str) -> tuple[npt.NDArray[np.float32], str]:
    """``1,2,3:4,5,6:label`` becomes ``(T, C)`` and the label; ``?`` is missing."""
    *channels, label = line.split(":")
    columns = [np.array(text.replace("?", "nan").split(","), dtype=np.float32) for text in channels]
    if not columns or len({len(column) for column in columns}) > 1:
        raise ValueError(f"its channels have {[len(column) for column in columns]} values")
    return np.stack(columns, axis=1), label.strip()


def _tsv_cells(line: str) -> tuple[npt.NDArray[np.float32], str]:
    """Label, then values; NaN at the end is padding and cut off."""
    label, *cells = line.rstrip("\r\n").split("\t")
    values = np.array([cell or "nan" for cell in cells], dtype=np.float32)
    known = np.flatnonzero(~np.isnan(values))
    if not len(known):
        raise ValueError(f"none of its {len(values)} cells has a value")
    return values[: known[-1] + 1, None], label.strip()
