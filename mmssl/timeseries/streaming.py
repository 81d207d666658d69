"""From a Parquet folder that is larger than memory to standardised train and test windows."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import numpy.typing as npt

from mmssl.timeseries.ahead import POOL_BYTES
from mmssl.timeseries.columns import some, span
from mmssl.timeseries.data_config import DataConfig
from mmssl.timeseries.options import Reading
from mmssl.timeseries.pieces import Pieces, open_pieces
from mmssl.timeseries.preprocess import Moments, SeriesPreprocessor
from mmssl.timeseries.series import encode_labels
from mmssl.timeseries.split import held_out_entities, held_out_groups, kind_of_split
from mmssl.timeseries.streamed import StreamedWindows
from mmssl.timeseries.survey import Survey, survey
from mmssl.timeseries.times import span_text, time_text

Chosen = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Streamed:
    """See `SeriesData`, whose parts these are."""

    train: StreamedWindows
    test: StreamedWindows | None
    preprocessor: SeriesPreprocessor
    description: str
    split: str
    partly_missing: bool


def load_streamed(cfg: DataConfig, how: Reading, *, min_length: int, seed: int) -> Streamed:
    """Survey the files, split, and fit the standardisation.

    Args:
        cfg: where the data is, and its windows and split.
        how: to read the files.
        min_length: rows that a training window needs.
        seed: of the split by entity.

    Raises:
        FileNotFoundError: there is no such data.
        ValueError: it cannot be streamed, or not be used as asked.
    """
    if cfg.window is None:
        raise ValueError(
            "data.window is not set, but data that is streamed is learnt from in windows: set it to some rows, or "
            "data.in_memory=true"
        )
    assert cfg.path is not None
    pieces = open_pieces(cfg.path, how)
    found = survey(pieces, length=cfg.window, stride=cfg.stride)
    _check_channels(found)
    lines = [_describe(pieces, found)]
    if cfg.test_path is not None:
        series = found.windows.series
        training = SeriesPreprocessor(step=series.step, time_kind=series.time_kind)
        new = replace(open_pieces(cfg.test_path, pieces.how), training=training)
        train, test, split = found.windows, survey(new, length=cfg.window, stride=cfg.stride).windows, "test-path"
        sentence = f"train on {cfg.path}, test on {cfg.test_path}"
    elif cfg.label is None:
        train, test, split = found.windows, None, "none"
        sentence = "no labels: all of it is learnt from, none is held out"
    else:
        train, test, split, sentence = _parted(cfg, found, seed)
    lines.append(f"split: {sentence}")
    train = train.subset(train.lengths >= min_length)
    if len(train) < 2 or (test is not None and not len(test)):
        raise ValueError(
            f"{len(train)} training and {0 if test is None else len(test)} test windows of {cfg.window} rows are too "
            "few: choose a smaller data.window, or another split"
        )
    preprocessor = SeriesPreprocessor().fit_moments(_moments(found, train, split), found.windows.series)
    lines.append(f"windows: {len(train):,} train, {0 if test is None else len(test):,} test ({cfg.window} rows)")
    if found.left_out:
        lines.append(f"left out: {found.left_out:,} windows that are short because a piece of the files ends there")
    if test is not None:
        preprocessor.check(test.series)
        test = replace(test, preprocessor=preprocessor)
    train = replace(train, preprocessor=preprocessor)
    return Streamed(train, test, preprocessor, "\n".join(lines), split, found.partly_missing)


def _parted(cfg: DataConfig, found: Survey, seed: int) -> tuple[StreamedWindows, StreamedWindows, str, str]:
    """Train and test windows, the name of the split and a sentence about it; see `split_series`."""
    windows = found.windows
    gap = span("data.split_gap", cfg.split_gap, windows.series.time_kind, cfg.time) or 0
    classes = _entity_classes(windows)
    kind = kind_of_split(classes, by=cfg.split, test_fraction=cfg.test_fraction, group=cfg.group, gap=gap)
    if kind == "time":
        early, late = _early_and_late(found, cfg.test_fraction, gap)
        apart = f", {span_text(gap, windows.series.time_kind)} apart" if gap else ""
        sentence = f"by time: the first {1 - cfg.test_fraction:.0%} of each entity train{apart}, the rest tests"
        return windows.subset(early), windows.subset(late), f"time/{cfg.test_fraction:g}", sentence
    if cfg.group is not None:
        held, sentence = held_out_groups(windows.series, cfg.group, cfg.test_fraction, seed)
    else:
        held, sentence = held_out_entities(classes, cfg.test_fraction, seed)
    late = held[windows.entity]
    return windows.subset(~late), windows.subset(late), f"{kind}/{cfg.test_fraction:g}", sentence


def _early_and_late(found: Survey, fraction: float, gap: int | float) -> tuple[Chosen, Chosen]:
    """Windows before and after the cut of each entity; those on it, or within ``gap`` of it, are in neither."""
    windows = found.windows
    cut = np.round((1 - fraction) * found.rows).astype(np.int64)[windows.entity]
    early = windows.rows + windows.lengths <= cut
    late = windows.rows >= cut
    if gap > 0:
        place = windows.rows if windows.series.time_kind == "rows" else windows.places
        begin = np.full(len(found.rows), np.inf)  # of what comes after the cut; never earlier than the cut itself
        np.minimum.at(begin, windows.entity[late], place[late])
        late &= place - begin[windows.entity] >= gap
    return early, late


def _entity_classes(windows: StreamedWindows) -> npt.NDArray[np.int64]:
    """A code for every entity: the label of its windows, or 0 for all where labels change along an entity."""
    low = np.full(len(windows.series.ids), np.iinfo(np.int32).max, dtype=np.int64)
    high = np.full(len(low), -1, dtype=np.int64)
    np.minimum.at(low, windows.entity, windows.codes)
    np.maximum.at(high, windows.entity, windows.codes)
    return high if (low >= high).all() else np.zeros(len(low), dtype=np.int64)


def _moments(found: Survey, train: StreamedWindows, split: str) -> Moments:
    """Of the training rows: known already for whole entities, else read once more."""
    if not split.startswith("time"):
        entities = np.unique(train.entity).tolist()
        return reduce(Moments.joined, [found.moments[entity] for entity in entities])
    parts = []
    for piece in np.unique(train.piece).tolist():
        values, mine = train.load(piece), train.piece == piece
        for entity in np.unique(train.entity[mine]):
            own = mine & (train.entity == entity)
            begin, end = train.starts[own].min(), (train.starts + train.lengths)[own].max()
            parts.append(Moments.of([values[begin:end]]))
    return reduce(Moments.joined, parts)


def _check_channels(found: Survey) -> None:
    """As `mmssl.timeseries.rows.check_channels`, of what the survey found."""
    total, names = reduce(Moments.joined, found.moments), found.windows.series.channels
    empty = [name for name, count in zip(names, total.count, strict=True) if not count]
    if empty:
        raise ValueError(
            f"no value in any row of {some(empty)}; list the other channels in data.channels to leave it out"
        )
    constant = [name for name, square in zip(names, total.square, strict=True) if square == 0]
    if constant:
        warnings.warn(
            f"{some(constant)} never changed: no information in it; data.channels can leave it out",
            UserWarning,
            stacklevel=3,
        )


def _describe(pieces: Pieces, found: Survey) -> str:
    series, total = found.windows.series, reduce(Moments.joined, found.moments)
    rows = int(found.rows.sum())
    pool = min(len(pieces), max(1, POOL_BYTES // pieces.bytes))
    number = "one piece" if len(pieces) == 1 else f"{len(pieces):,} pieces"
    lines = [
        f"entities: {len(series.ids):,} with {rows:,} rows",
        f"channels: {len(series.channels)} ({some(series.channels)})",
        f"streamed: {number} of at most {max(pieces.rows):,} rows, "
        f"{pool:,} shuffled at a time and as many read ahead ({2 * pool * pieces.bytes / 2**20:,.0f} MiB)",
    ]
    if found.span is not None:
        first, last = (time_text(time, series.time_kind) for time in found.span)
        unit = " s" if series.time_kind == "datetime" else ""
        rate = "irregular" if series.step is None else f"one row every {series.step:g}{unit}"
        lines.append(f"time: {first} to {last}, {rate}")
    missing = 1 - total.count / rows
    if (missing > 0).any():
        shares = zip(series.channels, missing, strict=True)
        lines.append(f"missing: {some([f'{name} {share:.1%}' for name, share in shares if share > 0])}")
    if found.windows.label_names:
        names, counts = np.unique(encode_labels(found.windows.labels())[0], return_counts=True)
        kinds = encode_labels(found.windows.labels())[1][names]
        known = [f"{'unlabelled' if k is None else k} {n:,}" for k, n in zip(kinds, counts, strict=True)]
        lines.append(f"labels of windows: {some(known)}")
    return "\n".join(lines)
