"""From the `data` section of a recipe to standardised train and test windows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmssl.timeseries.archive import load_archive
from mmssl.timeseries.data import describe, read_series
from mmssl.timeseries.preprocess import SeriesPreprocessor
from mmssl.timeseries.series import SeriesSet, Windows, cut_windows
from mmssl.timeseries.split import SplitBy, split_series


@dataclass
class DataConfig:
    """Where the series come from: a set of the UCR or UEA archive by ``name``, or your own by ``path``."""

    name: str | None = None  # what aeon bundles, or with `root` any set of an archive on disk
    root: str | None = None  # folder of the archive, one folder a set, .ts or .tsv
    path: str | None = None  # CSV, Parquet, Feather, NPY, NPZ, or a folder of them
    test_path: str | None = None  # the same, never trained on; instead of a split
    id: str | None = None  # column that names the entity; None: one entity, or one a file of a folder
    time: str | None = None  # column with datetimes or numbers; None: rows as they come
    channels: list[str] | None = None  # columns to learn from; None: every numeric one that is nothing else
    label: str | None = None  # column with a class, empty where unlabelled; None: no scores
    resample: str | None = None  # regular grid, "1s" or a number; bins without a row are missing
    window: int | None = None  # rows of a window; None: every entity whole
    stride: int | None = None  # rows from one window to the next; None: half a window
    split: str = "auto"  # auto, entity or time
    test_fraction: float = 0.3


@dataclass(frozen=True, eq=False)
class SeriesData:
    """Everything that a recipe needs to know of its data.

    Args:
        name: of the data, for the records.
        train: standardised windows to learn from.
        test: windows of other entities or of a later time; None without labels, when all data is learnt from.
        preprocessor: fitted on the training rows.
        description: what was read and how it was split, for a person.
        split: name of the test split, for the records.
        partly_missing: some training rows miss some of their channels, but not all.
    """

    name: str
    train: Windows
    test: Windows | None
    preprocessor: SeriesPreprocessor
    description: str
    split: str
    partly_missing: bool


def load_data(cfg: DataConfig, *, min_length: int = 2, seed: int = 0) -> SeriesData:
    """Read, split, standardise and cut.

    Args:
        cfg: where the data is and how to read it.
        min_length: rows that a method needs at least.
        seed: of the split by entity.

    Raises:
        FileNotFoundError: there is no such data.
        ValueError: it cannot be used as asked; the message says why and what to do.
    """
    if (cfg.name is None) == (cfg.path is None):
        given = f"data.name={cfg.name} and data.path={cfg.path}" if cfg.name else "neither"
        raise ValueError(f"give data.name (a set of an archive) or data.path (your own data), got {given}")
    if cfg.name is not None:
        train, test = load_archive(cfg.name, root=cfg.root)
        name, split, how = cfg.name, "test", "as published"
        whole = train
    else:
        assert cfg.path is not None
        name = Path(cfg.path).stem
        whole = _read(cfg, cfg.path)
        if cfg.test_path is not None:
            train, test = whole, _read(cfg, cfg.test_path)
            split, how = "test-path", f"train on {cfg.path}, test on {cfg.test_path}"
        elif whole.labels is None:
            train, test, split, how = whole, None, "none", "no labels: all of it is learnt from, none is held out"
        else:
            parted = split_series(whole, by=_split_by(cfg.split), test_fraction=cfg.test_fraction, seed=seed)
            train, test, split, how = parted.train, parted.test, f"{parted.kind}/{cfg.test_fraction:g}", parted.sentence
    lines = [describe(whole), f"split: {how}"]
    preprocessor = SeriesPreprocessor().fit(train)
    train_windows = _cut(cfg, preprocessor(train), min_length, "train")
    test_windows = None if test is None else _cut(cfg, preprocessor(test), 1, "test")
    n_test = 0 if test_windows is None else len(test_windows)
    size = f"{cfg.window} rows" if cfg.window else "whole series"
    lines.append(f"windows: {len(train_windows):,} train, {n_test:,} test ({size})")
    if short := int((train.lengths < min_length).sum()):
        lines.append(f"left out: {short:,} training series with less than {min_length} rows")
    if test_windows is not None:
        _check_labels(train_windows, cfg.label or "the labels")
    lost = np.isnan(train.values)
    partly = bool((lost.any(axis=1) & ~lost.all(axis=1)).any())
    return SeriesData(name, train_windows, test_windows, preprocessor, "\n".join(lines), split, partly)


class SeriesSource:
    """Windows as batches of tensors ``(B, T, C)``, padded to the longest with NaN; shorter ones lie in the middle."""

    def __init__(self, windows: Windows) -> None:
        self.windows = windows
        self.length = windows.length
        self.ragged = bool((windows.lengths < self.length).any())

    def __len__(self) -> int:
        return len(self.windows)

    def fetch(self, index: npt.NDArray[np.int64]) -> Tensor:
        x = torch.from_numpy(self.windows.fetch(index, self.length))
        return centred(x, self.windows.lengths[index]) if self.ragged else x


def centred(x: Tensor, lengths: npt.NDArray[np.int64]) -> Tensor:
    """Moves series ``(B, T, C)`` that are padded at the end into the middle of T, so that crops meet all of them."""
    shift = torch.from_numpy((x.shape[1] - lengths) // 2)
    steps = (torch.arange(x.shape[1]) - shift[:, None]) % x.shape[1]  # (B, T)
    return x.gather(1, steps[..., None].expand_as(x))


def _read(cfg: DataConfig, path: str) -> SeriesSet:
    return read_series(
        path, id=cfg.id, time=cfg.time, channels=cfg.channels, label=cfg.label, resample=_grid(cfg.resample)
    )


def _grid(resample: str | None) -> str | float | None:
    if resample is None:
        return None
    try:
        return float(resample)
    except ValueError:
        return resample


def _split_by(text: str) -> SplitBy:
    if text not in ("auto", "entity", "time"):
        raise ValueError(f"data.split must be auto, entity or time, got {text!r}")
    return text  # type: ignore[return-value]


def _cut(cfg: DataConfig, series: SeriesSet, min_length: int, part: str) -> Windows:
    windows = cut_windows(series, length=cfg.window, stride=cfg.stride)
    windows = windows.subset(windows.lengths >= min_length)
    if len(windows) == 0:
        raise ValueError(
            f"no {part} series has the {min_length} rows that are needed at least; the longest has "
            f"{series.lengths.max()}. Choose another split, or a finer data.resample"
        )
    if part == "train" and len(windows) < 2:
        raise ValueError(
            f"the training part is a single window of {windows.length} rows: set data.window (and data.stride) to cut "
            "it into several"
        )
    return windows


def _check_labels(train: Windows, name: str) -> None:
    labels = train.labels()
    known = {label for label in labels if label is not None}
    if not known:
        raise ValueError(
            f"no training window has a label in {name}: a window counts only if all its rows have the same one. "
            "Set a smaller data.window, or leave data.label out"
        )
    if len(known) == 1:
        raise ValueError(
            f"all training windows have the same label {known.pop()!r} in {name}: there is nothing to tell apart. "
            "Leave data.label out, or choose another split"
        )


def labelled(windows: Windows, *, limit: int, seed: int) -> tuple[Windows, npt.NDArray[np.object_]]:
    """The windows with a label, at most ``limit`` of them, and their labels."""
    labels = windows.labels()
    index = np.flatnonzero([label is not None for label in labels])
    if len(index) > limit:
        index = np.sort(np.random.default_rng(seed).choice(index, limit, replace=False))
    return windows.subset(index), labels[index]
