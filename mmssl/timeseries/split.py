"""Train and test parts that share no window: by entity, or by time within each entity."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mmssl.timeseries.series import SeriesSet, encode_labels
from mmssl.timeseries.times import span_text

FEW_ENTITIES = 8  # with fewer, a test set of whole entities says little; then the later part of each is held out


@dataclass(frozen=True, eq=False)
class Split:
    """Two sets of rows, and a sentence that says how they were parted."""

    train: SeriesSet
    test: SeriesSet
    kind: str
    sentence: str


def split_series(
    series: SeriesSet,
    *,
    by: str = "auto",
    test_fraction: float = 0.3,
    seed: int = 0,
    group: str | None = None,
    gap: int | float = 0,
) -> Split:
    """Hold out entities, or the end of every entity.

    Args:
        series: all of it.
        by: ``"auto"`` takes entities if there are at least 8 of them and every class has two or more, else time.
        test_fraction: share of the entities, or of the rows of each.
        seed: of the choice of entities; by class where an entity has one label.
        group: of ``series.static``; entities of one group stay together, and whole groups are held out.
        gap: what is left out of every entity between both parts of a split by time, in the unit of the times (rows
            where there are none), since neighbouring rows know of each other.

    Raises:
        ValueError: the wanted split is impossible for this data.
    """
    classes = _entity_classes(series)
    kind = kind_of_split(classes, by=by, test_fraction=test_fraction, group=group, gap=gap)
    if kind == "time":
        return _by_time(series, test_fraction, gap)
    if group is not None:
        held, sentence = held_out_groups(series, group, test_fraction, seed)
    else:
        held, sentence = held_out_entities(classes, test_fraction, seed)
    return Split(series.select(np.flatnonzero(~held)), series.select(np.flatnonzero(held)), kind, sentence)


def kind_of_split(
    classes: npt.NDArray[np.int64], *, by: str, test_fraction: float, group: str | None, gap: int | float
) -> str:
    """``"entity"``, ``"group"`` or ``"time"``, for what `split_series` is given and the class of each entity.

    Raises:
        ValueError: the settings are impossible, or contradict each other.
    """
    if not 0 < test_fraction < 1:
        raise ValueError(f"data.test_fraction must lie between 0 and 1, got {test_fraction}")
    if by not in ("auto", "entity", "time"):
        raise ValueError(f"data.split must be auto, entity or time, got {by!r}")
    if not gap >= 0:
        raise ValueError(f"data.split_gap must not be negative, got {gap}")
    if group is not None and by == "time":
        raise ValueError(f"data.group={group} holds out whole groups, data.split=time a part of each; leave out one")
    if gap > 0 and (group is not None or by == "entity"):
        raise ValueError("data.split_gap lies between an earlier and a later part: it needs data.split=time")
    if group is not None:
        return "group"
    if by == "entity" and len(classes) < 2:
        raise ValueError("data.split=entity needs at least two entities, got one; use data.split=time")
    if by != "auto":
        return by
    smallest = np.unique(classes, return_counts=True)[1].min()
    return "entity" if len(classes) >= FEW_ENTITIES and smallest >= 2 and not gap > 0 else "time"


def held_out(classes: npt.NDArray[np.int64], fraction: float, seed: int) -> npt.NDArray[np.bool_]:
    """Which of the things with these classes are the test part: ``(n,)``; no class is without training."""
    rng = np.random.default_rng(seed)
    test: list[np.int64] = []
    for code in np.unique(classes):
        members = rng.permutation(np.flatnonzero(classes == code))
        test += list(members[: min(round(fraction * len(members)), len(members) - 1)])
    if not test:  # small classes that all round to nothing
        test = [rng.permutation(len(classes))[0]]
    held = np.zeros(len(classes), dtype=bool)
    held[test] = True
    return held


def held_out_entities(classes: npt.NDArray[np.int64], fraction: float, seed: int) -> tuple[npt.NDArray[np.bool_], str]:
    """Which of the entities with these classes are the test part ``(entities,)``; and a sentence."""
    held = held_out(classes, fraction, seed)
    return held, f"by entity: {(~held).sum():,} entities train, {held.sum():,} other entities test"


def held_out_groups(series: SeriesSet, group: str, fraction: float, seed: int) -> tuple[npt.NDArray[np.bool_], str]:
    """Which entities are the test part ``(entities,)``, groups being held out as a whole; and a sentence.

    Raises:
        ValueError: the group of an entity is not known, or there is only one.
    """
    names = series.static[group]
    empty = [name for name, own in zip(series.ids.tolist(), names.tolist(), strict=True) if own is None]
    if empty:
        raise ValueError(f"data.group={group} is empty for entity {empty[0]!r}; fill it in, or remove the entity")
    codes = encode_labels(names)[0]
    groups = int(codes.max()) + 1
    if groups < 2:
        raise ValueError(f"data.group={group} is {names[0]!r} for every entity; a split needs at least two groups")
    held = held_out(np.zeros(groups, dtype=np.int64), fraction, seed)
    test = held[codes]
    sentence = (
        f"by {group}: {groups - held.sum():,} with {(~test).sum():,} entities train, {held.sum():,} others with "
        f"{test.sum():,} entities test"
    )
    return test, sentence


def _by_time(series: SeriesSet, fraction: float, gap: int | float) -> Split:
    cut = series.offsets[:-1] + np.round((1 - fraction) * series.lengths).astype(np.int64)  # first test row, by entity
    if (cut <= series.offsets[:-1]).any() or (cut >= series.offsets[1:]).any():
        short = int(np.argmin(series.lengths))
        raise ValueError(
            f"data.split=time leaves nothing of entity {series.ids[short]!r} with {series.lengths[short]} rows; "
            "use data.split=entity"
        )
    place = np.arange(len(series.values)) if series.times is None else series.times
    rows = np.arange(len(series.values))
    early = rows < np.repeat(cut, series.lengths)
    late = ~early
    if gap > 0:
        late &= place - np.repeat(place[cut - 1], series.lengths) > gap
        _something_late(series, late, gap)
    apart = f", {span_text(gap, series.time_kind)}{' rows' if series.times is None else ''} apart," if gap > 0 else ","
    sentence = f"by time: the first {1 - fraction:.0%} of each entity train{apart} the rest tests"
    return Split(_rows(series, early), _rows(series, late), "time", sentence)


def _something_late(series: SeriesSet, late: npt.NDArray[np.bool_], gap: int | float) -> None:
    left = np.add.reduceat(late, series.offsets[:-1], dtype=np.int64)
    if (left == 0).any():
        raise ValueError(
            f"data.split_gap={span_text(gap, series.time_kind)} leaves no test rows of entity "
            f"{series.ids[int(left.argmin())]!r}; make it shorter, or data.test_fraction larger"
        )


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
        breaks=series.breaks_of(keep),
    )


def _entity_classes(series: SeriesSet) -> npt.NDArray[np.int64]:
    """A code for every entity: its label, or 0 where labels change along the series or are absent."""
    if series.labels is None or series.labels_by_row:
        return np.zeros(len(series), dtype=np.int64)
    return encode_labels(series.labels)[0]
