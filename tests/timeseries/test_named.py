"""Data sets by name: long recordings beside the archive."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmssl.timeseries.dataset import DataConfig, load_data
from mmssl.timeseries.named import load_named
from mmssl.timeseries.series import cut_windows


def test_the_watch_has_other_people_in_its_test_part_and_seven_exercises_in_each_recording() -> None:
    pytest.importorskip("seglearn")
    named = load_named("watch")
    assert (len(named.train), len(named.test)) == (12, 8)
    people = [{str(name).split("-")[1] for name in part.ids} for part in (named.train, named.test)]
    assert not people[0] & people[1]
    assert named.train.channels == ("ax", "ay", "az", "wx", "wy", "wz")
    for part in (named.train, named.test):
        assert part.labels is not None
        assert part.lengths.min() > 7000
        for start, stop in zip(part.offsets[:-1], part.offsets[1:], strict=True):
            own = part.labels[start:stop]
            assert len(set(own)) == 7
            assert (own[1:] != own[:-1]).sum() == 6  # one after the other


def test_the_watch_has_the_values_of_its_package() -> None:
    datasets = pytest.importorskip("seglearn.datasets")
    data, named = datasets.load_watch(), load_named("watch")
    first = next(
        x for x, who, arm in zip(data["X"], data["subject"], data["side"], strict=True) if (who, arm) == (1, 0)
    )
    np.testing.assert_array_equal(named.train.values[: len(first)], first.astype(np.float32))
    assert sum(map(len, data["X"])) == len(named.train.values) + len(named.test.values)


def test_windows_of_the_simulation_have_one_state_where_they_are_cut_with_it() -> None:
    named = load_named("tnc-simulated")
    labels = cut_windows(named.test, length=50, stride=50).labels()
    assert len(labels) == 100 * 40
    assert None not in labels
    again = load_named("tnc-simulated-repeated")
    assert not np.array_equal(again.test.values, named.test.values)


def test_a_name_goes_from_the_configuration_to_windows_with_its_sentence() -> None:
    data = load_data(DataConfig(name="tnc-simulated", window=50, stride=50))
    assert data.test is not None
    assert (len(data.train), len(data.test)) == (16_000, 4_000)
    assert "split: four fifths of the recordings train, the others test" in data.description


def test_the_archive_is_found_as_before_and_an_unknown_name_lists_everything(tmp_path: Path) -> None:
    assert load_named("GunPoint").sentence == "as published"
    with pytest.raises(FileNotFoundError, match=r"GunPoint.*Long recordings by name: watch, tnc-simulated, "):
        load_named("watches")
    with pytest.raises(FileNotFoundError, match="no set at all"):
        load_named("watch", root=tmp_path)  # a folder of one's own comes first
