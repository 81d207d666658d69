"""Train and test share no entity, or no row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmssl.timeseries.series import SeriesSet, as_objects, cut_windows
from mmssl.timeseries.split import split_series


def ragged(lengths: list[int], labels: Sequence[object] | None = None) -> SeriesSet:
    rows = sum(lengths)
    return SeriesSet(
        np.arange(rows, dtype=np.float32)[:, None],
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        as_objects([f"e{i}" for i in range(len(lengths))]),
        ("a",),
        labels=None if labels is None else as_objects(labels),
    )


def rows(series: SeriesSet) -> set[int]:
    return {int(v) for v in series.values[:, 0]}


@given(
    lengths=st.lists(st.integers(1, 9), min_size=2, max_size=20),
    fraction=st.sampled_from([0.05, 0.3, 0.5, 0.75, 0.95]),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_a_split_by_entity_shares_no_entity_and_loses_none(
    lengths: list[int], fraction: float, seed: int, data: st.DataObject
) -> None:
    classes = st.lists(st.sampled_from(["x", "y", None]), min_size=len(lengths), max_size=len(lengths))
    labels = data.draw(st.none() | classes)
    series = ragged(lengths, None if labels is None else list(labels))
    split = split_series(series, by="entity", test_fraction=fraction, seed=seed)
    assert split.kind == "entity"
    train, test = set(split.train.ids), set(split.test.ids)
    assert train & test == set()
    assert train | test == set(series.ids)
    assert rows(split.train) | rows(split.test) == rows(series)
    assert train, "nothing is left to train on"
    assert test, "nothing is held out"


def test_every_class_of_two_or_more_stays_in_the_training_part() -> None:
    series = ragged([2] * 12, ["x"] * 6 + ["y"] * 3 + ["z"] * 2 + ["u"])
    for fraction in (0.1, 0.5, 0.9, 0.99):
        split = split_series(series, by="entity", test_fraction=fraction)
        assert split.train.labels is not None
        assert {"x", "y", "z"} <= set(split.train.labels)


@given(lengths=st.lists(st.integers(8, 40), min_size=1, max_size=5), fraction=st.floats(0.2, 0.8))
def test_a_split_by_time_shares_no_row_and_tests_the_later_ones(lengths: list[int], fraction: float) -> None:
    series = ragged(lengths, list(range(sum(lengths))))
    split = split_series(series, by="time", test_fraction=fraction)
    assert rows(split.train) & rows(split.test) == set()
    assert rows(split.train) | rows(split.test) == rows(series)
    for i, n in enumerate(lengths):
        early = split.train.values[split.train.offsets[i] : split.train.offsets[i + 1], 0]
        late = split.test.values[split.test.offsets[i] : split.test.offsets[i + 1], 0]
        assert early.max() < late.min()
        assert len(late) == pytest.approx(fraction * n, abs=1)
    assert split.train.labels is not None
    assert split.train.labels.tolist() == [int(v) for v in split.train.values[:, 0]]
    for part in (split.train, split.test):  # windows are cut after the split, within a part
        windows = cut_windows(part, length=5, stride=2)
        for window in windows.fetch(np.arange(len(windows))):
            inside = window[~np.isnan(window)]
            assert (np.diff(inside) == 1).all()


def test_classes_keep_their_shares_in_a_split_by_entity() -> None:
    series = ragged([2] * 60, ["x"] * 30 + ["y"] * 20 + [None] * 10)
    split = split_series(series, by="entity", test_fraction=0.3, seed=1)
    assert split.test.labels is not None
    assert [split.test.labels.tolist().count(name) for name in ("x", "y", None)] == [9, 6, 3]


def test_the_seed_chooses_the_entities() -> None:
    series = ragged([2] * 30)
    test = [tuple(split_series(series, by="entity", seed=seed).test.ids) for seed in (0, 0, 1)]
    assert test[0] == test[1] != test[2]


@pytest.mark.parametrize(
    ("entities", "labels", "kind"),
    [
        (7, None, "time"),
        (8, None, "entity"),
        (8, ["x"] * 4 + ["y"] * 4, "entity"),
        (8, ["x"] * 7 + ["y"], "time"),
        (8, ["x", "y"] * 40, "entity"),
    ],
)
def test_auto_takes_entities_where_there_are_enough_of_each_class(
    entities: int, labels: list[object] | None, kind: str
) -> None:
    assert split_series(ragged([10] * entities, labels)).kind == kind


def test_one_entity_cannot_be_split_by_entity() -> None:
    with pytest.raises(ValueError, match=r"needs at least two entities, got one; use data\.split=time"):
        split_series(ragged([50]), by="entity")


@pytest.mark.parametrize("short", [1, 0])
def test_an_entity_that_is_too_short_for_a_split_by_time_is_named(short: int) -> None:
    with pytest.raises(ValueError, match=f"leaves nothing of entity 'e1' with {short} rows"):
        split_series(ragged([20, short, 30]), by="time")


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1])
def test_an_impossible_fraction_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match=f"test_fraction must lie between 0 and 1, got {fraction}"):
        split_series(ragged([20]), test_fraction=fraction)


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="must be auto, entity or time, got 'random'"):
        split_series(ragged([20]), by="random")
