"""Ragged series and the windows over them, against loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmssl.timeseries.series import SeriesSet, Windows, as_objects, cut_windows, encode_labels


def ragged(lengths: list[int], *, labels: list[object] | None = None, times: bool = False) -> SeriesSet:
    """Row r of everything holds r in channel 0."""
    rows = sum(lengths)
    return SeriesSet(
        np.stack([np.arange(rows), -np.arange(rows)], axis=1).astype(np.float32),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        as_objects([f"e{i}" for i in range(len(lengths))]),
        ("a", "b"),
        labels=None if labels is None else as_objects(labels),
        times=10 * np.arange(rows, dtype=np.float64) if times else None,
        time_kind="number" if times else "rows",
    )


def slow_windows(lengths: list[int], length: int, stride: int) -> list[tuple[int, int, int]]:
    """(entity, first row in the entity, rows): every stride, and one more that ends with the entity."""
    out = []
    for entity, n in enumerate(lengths):
        if 0 < n <= length:
            out.append((entity, 0, n))
        elif n > length:
            starts = list(range(0, n - length + 1, stride))
            if starts[-1] + length < n:
                starts.append(n - length)
            out += [(entity, start, length) for start in starts]
    return out


@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=6),
    length=st.integers(1, 20),
    stride=st.integers(1, 25) | st.none(),
)
def test_windows_are_cut_as_a_loop_would(lengths: list[int], length: int, stride: int | None) -> None:
    series = ragged(lengths)
    windows = cut_windows(series, length=length, stride=stride)
    step = max(1, length // 2) if stride is None else stride
    own = windows.starts - series.offsets[windows.entity]
    got = list(zip(windows.entity.tolist(), own.tolist(), windows.lengths.tolist(), strict=True))
    assert got == slow_windows(lengths, length, step)
    covered: set[int] = set()
    for start, n, entity in zip(windows.starts, windows.lengths, windows.entity, strict=True):
        assert series.offsets[entity] <= start
        assert start + n <= series.offsets[entity + 1]
        covered |= set(range(start, start + n))
    if step <= length:
        assert covered == set(range(sum(lengths)))


@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=5))
def test_without_a_length_every_entity_is_one_window(lengths: list[int]) -> None:
    windows = cut_windows(ragged(lengths))
    assert windows.lengths.tolist() == [n for n in lengths if n]
    assert windows.entity.tolist() == [i for i, n in enumerate(lengths) if n]


@pytest.mark.parametrize(("length", "stride"), [(0, 1), (4, 0), (-1, 2)])
def test_windows_without_extent_are_refused(length: int, stride: int) -> None:
    with pytest.raises(ValueError, match=f"at least 1 row, got {length} and {stride}"):
        cut_windows(ragged([5]), length=length, stride=stride)


def test_fetched_windows_hold_their_rows_and_nan_beyond() -> None:
    windows = cut_windows(ragged([3, 7, 1]))
    x = windows.fetch(np.array([1, 0]))
    assert x.shape == (2, 7, 2)
    assert x[0, :, 0].tolist() == [3, 4, 5, 6, 7, 8, 9]
    assert x[1, :3, 0].tolist() == [0, 1, 2]
    assert np.isnan(x[1, 3:]).all()
    assert windows.fetch(np.array([2]), 9).shape == (1, 9, 2)
    assert np.isnan(windows.fetch(np.array([2]), 9)[0, 1:]).all()  # beyond the end of the array, too


def test_fetching_copies_so_that_the_data_is_safe() -> None:
    series = ragged([6])
    windows = cut_windows(series)
    windows.fetch(np.array([0]))[:] = 99
    assert series.values[2, 0] == 2


def test_windows_take_the_label_of_their_entity() -> None:
    windows = cut_windows(ragged([8, 8, 8], labels=["x", None, "y"]), length=4, stride=4)
    assert windows.labels().tolist() == ["x", "x", None, None, "y", "y"]


@given(
    data=st.data(),
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    length=st.integers(1, 6),
    stride=st.integers(1, 4),
)
def test_a_window_has_a_row_label_only_if_all_its_rows_agree(
    data: st.DataObject, lengths: list[int], length: int, stride: int
) -> None:
    rows = sum(lengths)
    labels = data.draw(st.lists(st.sampled_from(["x", "y", None]), min_size=rows, max_size=rows))
    series = ragged(lengths, labels=list(labels))
    if not series.labels_by_row:  # as many rows as entities: they mean the entities
        return
    windows = cut_windows(series, length=length, stride=stride)
    for got, start, n in zip(windows.labels(), windows.starts, windows.lengths, strict=True):
        inside = set(labels[start : start + n])
        assert got == (inside.pop() if len(inside) == 1 else None)


def test_windows_without_labels_have_none() -> None:
    assert cut_windows(ragged([4, 4])).labels().tolist() == [None, None]


def test_windows_are_named_by_entity_and_where_they_start() -> None:
    ids, starts = cut_windows(ragged([4, 6]), length=4, stride=2).names()
    assert (ids.tolist(), starts.tolist()) == (["e0", "e1", "e1"], [0, 0, 2])
    _, times = cut_windows(ragged([4, 6], times=True), length=4, stride=2).names()
    assert times.tolist() == [0, 40, 60]
    series = ragged([4])
    dated = SeriesSet(
        series.values,
        series.offsets,
        series.ids,
        series.channels,
        times=np.arange(4, dtype=np.int64) * 10**9,
        time_kind="datetime",
    )
    assert cut_windows(dated, length=2, stride=2).names()[1].tolist() == [0, 2 * 10**9]
    assert cut_windows(dated, length=2).names()[1].dtype == np.dtype("datetime64[ns]")


def test_a_subset_keeps_what_belongs_together() -> None:
    windows = cut_windows(ragged([4, 6, 9]))
    part = windows.subset(windows.lengths > 4)
    assert isinstance(part, Windows)
    assert (part.starts.tolist(), part.lengths.tolist(), part.entity.tolist()) == ([4, 10], [6, 9], [1, 2])


def test_arrays_lose_their_padding_and_nothing_else() -> None:
    x = np.arange(24, dtype=np.float64).reshape(2, 6, 2)
    x[0, 4:] = np.nan  # padding
    x[1, 0] = x[1, 3] = np.nan  # missing
    x[0, 3, 1] = np.nan
    series = SeriesSet.from_array(x, labels=["u", "v"])
    assert series.lengths.tolist() == [4, 6]
    np.testing.assert_array_equal(series.values, np.concatenate([x[0, :4], x[1]]).astype(np.float32))
    assert series.channels == ("channel_0", "channel_1")
    assert not series.labels_by_row


def test_an_array_of_two_axes_has_one_channel() -> None:
    series = SeriesSet.from_array(np.zeros((3, 5)))
    assert (len(series), series.values.shape) == (3, (15, 1))


@pytest.mark.parametrize("shape", [(4,), (0, 3, 1), (2, 0, 1), (1, 2, 3, 4)])
def test_arrays_of_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="series must have shape"):
        SeriesSet.from_array(np.zeros(shape))


def test_selected_entities_come_in_the_order_asked_for() -> None:
    series = ragged([2, 3, 4], labels=list("aabbbcccc"), times=True)
    part = series.select(np.array([2, 0]))
    assert part.ids.tolist() == ["e2", "e0"]
    assert part.values[:, 0].tolist() == [5, 6, 7, 8, 0, 1]
    assert part.labels is not None
    assert part.labels.tolist() == list("ccccaa")
    assert part.times is not None
    assert part.times.tolist() == [50, 60, 70, 80, 0, 10]
    assert len(series.select(np.array([], dtype=np.int64))) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": ("a",)}, "1 channel names for values of shape"),
        ({"offsets": np.array([0, 3])}, "do not cover 4 rows"),
        ({"labels": as_objects(["x", "y", "z"])}, "3 labels for 1 entities with 4 rows"),
    ],
)
def test_parts_that_do_not_fit_are_named(change: dict[str, object], message: str) -> None:
    parts: dict[str, object] = {
        "values": np.zeros((4, 2), np.float32),
        "offsets": np.array([0, 4]),
        "ids": as_objects(["e"]),
        "channels": ("a", "b"),
    }
    with pytest.raises(ValueError, match=message):
        SeriesSet(**parts | change)  # type: ignore[arg-type]


def test_labels_are_numbered_by_value_or_name_with_the_unlabelled_last() -> None:
    codes, names = encode_labels(as_objects([10, 9, None, 10]))
    assert names.tolist() == [9, 10, None]
    assert codes.tolist() == [1, 0, 2, 1]
    assert names[codes].tolist() == [10, 9, None, 10]
