"""From the `data` section of a recipe to standardised train and test windows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmssl.timeseries.batches import SeriesSource
from mmssl.timeseries.columns import span
from mmssl.timeseries.data import describe, read_series
from mmssl.timeseries.data_config import DataConfig, SeriesData, number_of_bytes, reading
from mmssl.timeseries.named import load_named
from mmssl.timeseries.options import READING, Reading
from mmssl.timeseries.pieces import values_bytes
from mmssl.timeseries.preprocess import SeriesPreprocessor
from mmssl.timeseries.series import SeriesSet, Windows, WindowSet, cut_windows
from mmssl.timeseries.split import split_series
from mmssl.timeseries.streaming import Streamed, load_streamed

__all__ = ["DataConfig", "SeriesData", "SeriesSource", "labelled", "load_data", "reading"]


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
    if cfg.window is not None and cfg.window < min_length:
        raise ValueError(
            f"data.window={cfg.window} is too short: the method needs windows of at least {min_length} rows"
        )
    how = reading_of(cfg)
    if cfg.path is not None and _streamed(cfg, how):
        return _from_streamed(cfg, load_streamed(cfg, how, min_length=min_length, seed=seed))
    train, test, whole, split, sentence = _parts(cfg, how, seed)
    lines = [describe(whole), f"split: {sentence}"]
    preprocessor = SeriesPreprocessor().fit(train)
    train_windows = _cut(cfg, preprocessor(train), min_length, "train")
    test_windows = None if test is None else _cut(cfg, preprocessor(preprocessor.completed(test)), 1, "test")
    n_test = 0 if test_windows is None else len(test_windows)
    size = f"{cfg.window} rows" if cfg.window else "whole series"
    lines.append(f"windows: {len(train_windows):,} train, {n_test:,} test ({size})")
    if short := int((train.lengths < min_length).sum()):
        lines.append(f"left out: {short:,} training series with less than {min_length} rows")
    if test_windows is not None:
        _check_labels(train_windows, cfg.label or "the labels")
    lost = np.isnan(train.values)
    partly = bool((lost.any(axis=1) & ~lost.all(axis=1)).any())
    name = cfg.name or Path(str(cfg.path)).stem
    return SeriesData(name, train_windows, test_windows, preprocessor, "\n".join(lines), split, partly)


def reading_of(cfg: DataConfig) -> Reading:
    """How the tables of ``cfg.path`` are read; the column of groups is one that is known of each entity."""
    static = tuple(dict.fromkeys([*cfg.static, *([cfg.group] if cfg.group else [])]))
    options = {name: getattr(cfg, name) for name in READING}
    return Reading(
        **{**options, "static": static},
        channels=cfg.channels,
        label=cfg.label,
        units=cfg.units,
        label_policy=cfg.label_policy,  # type: ignore[arg-type]  # checked there
    )


def _parts(cfg: DataConfig, how: Reading, seed: int) -> tuple[SeriesSet, SeriesSet | None, SeriesSet, str, str]:
    """Train and test part, all that describes the data, the name of the split and a sentence about it."""
    if cfg.name is not None:
        train, test, sentence = load_named(cfg.name, root=cfg.root)
        return train, test, train, "test", sentence
    assert cfg.path is not None
    whole = _read(how, cfg.path)
    if cfg.test_path is not None:
        test = _read(replace(how, time_format=whole.time_format), cfg.test_path, learn=False)
        return whole, test, whole, "test-path", f"train on {cfg.path}, test on {cfg.test_path}"
    if whole.labels is None:
        return whole, None, whole, "none", "no labels: all of it is learnt from, none is held out"
    gap = span("data.split_gap", cfg.split_gap, whole.time_kind, cfg.time) or 0
    parted = split_series(whole, by=cfg.split, test_fraction=cfg.test_fraction, seed=seed, group=cfg.group, gap=gap)
    return parted.train, parted.test, whole, f"{parted.kind}/{cfg.test_fraction:g}", parted.sentence


def _streamed(cfg: DataConfig, how: Reading) -> bool:
    if cfg.in_memory is not None:
        return not cfg.in_memory
    size = values_bytes(str(cfg.path), how)
    return size is not None and size > number_of_bytes(cfg.memory)


def _from_streamed(cfg: DataConfig, streamed: Streamed) -> SeriesData:
    if streamed.test is not None:
        _check_labels(streamed.train, cfg.label or "the labels")
    return SeriesData(
        Path(str(cfg.path)).stem,
        streamed.train,
        streamed.test,
        streamed.preprocessor,
        streamed.description,
        streamed.split,
        streamed.partly_missing,
    )


def _read(how: Reading, path: str, *, learn: bool = True) -> SeriesSet:
    return read_series(path, learn=learn, **vars(how))


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


def _check_labels(train: WindowSet, name: str) -> None:
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


def labelled(windows: WindowSet, *, limit: int, seed: int) -> tuple[WindowSet, npt.NDArray[np.object_]]:
    """The windows with a label, at most ``limit`` of them, and their labels."""
    labels = windows.labels()
    index = np.flatnonzero([label is not None for label in labels])
    if len(index) > limit:
        index = np.sort(np.random.default_rng(seed).choice(index, limit, replace=False))
    return windows.subset(index), labels[index]
