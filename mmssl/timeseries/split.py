"""Train and test parts that share no window: by entity, or by time within each entity."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from mmssl.timeseries.series import SeriesSet, encode_labels

SplitBy = Literal["auto", "entity", "time"]
FEW_ENTITIES = 8  # with fewer, a test set of whole entities says little; then the later part of each is held out


@dataclass(frozen=True, eq=False)
class Split:
    """Two sets of rows, and a sentence that says how they were parted."""

    train: SeriesSet
    test: SeriesSet
    kind: str
    sentence: str


def split_series(series: SeriesSet, *, by: SplitBy = "auto", test_fraction: float = 0.3, seed: int = 0) -> Split:
    """Hold out entities, or the end of every entity.

    Args:
        series: all of it.
        by: ``"auto"`` takes entities if there are at least 8 of them and every class has two or more, else time.
        test_fraction: share of the entities, or of the rows of each.
        seed: of the choice of entities; by class where an entity has one label.

    Raises:
        ValueError: the wanted split is impossible for this data.
    """
    if not 0 < test_fraction < 1:
        raise ValueError(f"data.test_fraction must lie between 0 and 1, got {test_fraction}")
    classes = _entity_classes(series)
    if by == "auto":
        smallest = min(np.unique(classes, return_counts=True)[1].min(), len(series))
        by = "entity" if len(series) >= FEW_ENTITIES and smallest >= 2 else "time"
    if by == "entity":
        return _by_entity(series, classes, test_fraction, seed)
    if by == "time":
        return _by_time(series, test_fraction)
    raise ValueError(f"data.split must be auto, entity or time, got {by!r}")


def _by_entity(series: SeriesSet, classes: npt.NDArray[np.int64], fraction: float, seed: int) -> Split:
    if len(series) < 2:
        raise ValueError("data.split=entity needs at least two entities, got one; use data.split=time")
    rng = np.random.default_rng(seed)
    test: list[np.int64] = []
    for code in np.unique(classes):
        members = rng.permutation(np.flatnonzero(classes == code))
        test += list(members[: min(round(fraction * len(members)), len(members) - 1)])  # no class without training
    if not test:  # small classes that all round to nothing
        test = [rng.permutation(len(series))[0]]
    held = np.zeros(len(series), dtype=bool)
    held[test] = True
    sentence = f"by entity: {(~held).sum():,} entities train, {held.sum():,} other entities test"
    return Split(series.select(np.flatnonzero(~held)), series.select(np.flatnonzero(held)), "entity", sentence)


def _by_time(series: SeriesSet, fraction: float) -> Split:
    cut = series.offsets[:-1] + np.round((1 - fraction) * series.lengths).astype(np.int64)  # first test row, by entity
    if (cut <= series.offsets[:-1]).any() or (cut >= series.offsets[1:]).any():
        short = int(np.argmin(series.lengths))
        raise ValueError(
            f"data.split=time leaves nothing of entity {series.ids[short]!r} with {series.lengths[short]} rows; "
            "use data.split=entity"
        )
    rows = np.arange(len(series.values))
    early = rows < np.repeat(cut, series.lengths)
    sentence = f"by time: the first {1 - fraction:.0%} of each entity train, the rest tests"
    return Split(_rows(series, early), _rows(series, ~early), "time", sentence)


def _rows(series: SeriesSet, keep: npt.NDArray[np.bool_]) -> SeriesSet:
    lengths = np.add.reduceat(keep, series.offsets[:-1], dtype=np.int64)
    labels = series.labels
    if labels is not None and series.labels_by_row:
        labels = labels[keep]
    return replace(
        series,
        values=series.values[keep],
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        times=None if series.times is None else series.times[keep],
        labels=labels,
    )


def _entity_classes(series: SeriesSet) -> npt.NDArray[np.int64]:
    """A code for every entity: its label, or 0 where labels change along the series or are absent."""
    if series.labels is None or series.labels_by_row:
        return np.zeros(len(series), dtype=np.int64)
    return encode_labels(series.labels)[0]
