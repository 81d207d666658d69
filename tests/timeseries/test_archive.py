from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from mmssl.timeseries.archive import load_archive

SHARED = Path(os.environ.get("MMSSL_DATA", Path(__file__).parents[3] / "shared" / "data"))
needs_data = pytest.mark.skipif(not (SHARED / "timeseries").is_dir(), reason="the real data sets are not here")


def write_set(root: Path, name: str, train: str, test: str | None = None, suffix: str = ".ts") -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    for part, text in (("TRAIN", train), ("TEST", train if test is None else test)):
        (folder / f"{name}_{part}{suffix}").write_text(text)
    return folder


def test_a_bundled_set_comes_without_importing_aeon() -> None:
    already = "aeon" in sys.modules
    train, test = load_archive("BasicMotions")
    assert (len(train), len(test)) == (40, 40)
    assert train.values.shape == (4000, 6)
    assert train.labels is not None
    assert set(train.labels) == {"Standing", "Running", "Walking", "Badminton"}
    assert (train.ids[0], test.ids[39]) == ("train-0", "test-39")
    assert ("aeon" in sys.modules) == already


def test_unequal_lengths_stay_unequal() -> None:
    train, _ = load_archive("JapaneseVowels")
    assert (train.lengths.min(), train.lengths.max()) == (7, 26)
    assert not np.isnan(train.values).any()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # aeon's own
@pytest.mark.parametrize("name", ["GunPoint", "ItalyPowerDemand", "ArrowHead", "OSULeaf", "JapaneseVowels"])
def test_the_values_are_those_of_aeons_reader(name: str) -> None:
    loaders = pytest.importorskip("aeon.datasets")
    folder = Path(loaders.__file__).parent / "data" / name
    for series, part in zip(load_archive(name), ("TRAIN", "TEST"), strict=True):
        cases, labels = loaders.load_from_ts_file(str(folder / f"{name}_{part}.ts"))
        expected = np.concatenate([np.asarray(case).T for case in cases]).astype(np.float32)
        np.testing.assert_array_equal(series.values, expected)
        assert series.labels is not None
        assert series.labels.tolist() == labels.tolist()


def test_an_unknown_bundled_name_lists_the_bundled_ones_and_data_root() -> None:
    with pytest.raises(FileNotFoundError, match=r"data\.name=Basic .*BasicMotions.*GunPoint.*data\.root"):
        load_archive("Basic")


def test_an_unknown_name_below_root_lists_the_closest(tmp_path: Path) -> None:
    for name in ("GunPoint", "Wafer"):
        write_set(tmp_path, name, "1\t0.5\t2\n", suffix=".tsv")
    with pytest.raises(FileNotFoundError, match=r"data\.name=GunPiont: .*did you mean GunPoint\?"):
        load_archive("GunPiont", root=tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        load_archive("GunPoint", root=tmp_path / "nowhere")


def test_a_tsv_has_its_label_first_and_its_padding_cut(tmp_path: Path) -> None:
    write_set(tmp_path, "Set", "-1\t0.5\tNaN\t2\r\n1.0\t3\tNaN\tNaN\r\n", suffix=".tsv")
    train, _ = load_archive("Set", root=tmp_path)
    np.testing.assert_array_equal(train.values[:, 0], np.array([0.5, np.nan, 2, 3], np.float32))
    assert train.offsets.tolist() == [0, 3, 4]
    assert train.labels is not None
    assert train.labels.tolist() == ["-1", "1.0"]


def test_ts_is_preferred_and_root_may_be_the_set_itself(tmp_path: Path) -> None:
    folder = write_set(tmp_path, "Set", "#about\n@classLabel true A\n@data\n1,?:3,4:New A\n5:6:A\n")
    for part in ("TRAIN", "TEST"):
        (folder / f"Set_{part}.tsv").write_text("1\t9\n")
    for root in (tmp_path, folder):
        train, _ = load_archive("Set", root=root)
        np.testing.assert_array_equal(train.values, np.array([[1, 3], [np.nan, 4], [5, 6]], np.float32))
        assert train.labels is not None
        assert train.labels.tolist() == ["New A", "A"]
        assert train.channels == ("dim_0", "dim_1")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("@data\n1,2:A\n1,2:3,4:A\n", "line 3 of .*2 channels after lines of 1"),
        ("@data\n1,2:3:A\n", r"line 2 of .*\[2, 1\] values"),
        ("@data\n1,2,x:A\n", "line 2 of .*cannot be read"),
        ("@problemName Set\n", "no line @data"),
        ("@data\n", "holds no series"),
        ("@targetlabel true\n@data\n1,2:0.5\n", "only classification sets"),
        ("@timeStamps true\n@data\n(0,1):A\n", "without timestamps"),
    ],
)
def test_a_damaged_ts_file_is_named_with_its_line(tmp_path: Path, text: str, problem: str) -> None:
    write_set(tmp_path, "Set", text)
    with pytest.raises(ValueError, match=problem):
        load_archive("Set", root=tmp_path)


def test_train_and_test_must_have_the_same_channels(tmp_path: Path) -> None:
    write_set(tmp_path, "Set", "@data\n1,2:A\n", "@data\n1,2:3,4:A\n")
    with pytest.raises(ValueError, match="1 channels in train and 2 in test"):
        load_archive("Set", root=tmp_path)


@pytest.mark.data
@needs_data
def test_the_archives_on_disk_are_read() -> None:
    train, test = load_archive("NATOPS", root=SHARED / "timeseries" / "UEA")
    assert (len(train), len(test), train.values.shape) == (180, 180, (180 * 51, 24))
    for folder in sorted((SHARED / "timeseries" / "UCR").iterdir()):
        if folder.is_dir():
            train, test = load_archive(folder.name, root=SHARED / "timeseries" / "UCR")
            assert len(train) > 0
            assert train.labels is not None
            assert test.labels is not None
            assert set(test.labels) <= set(train.labels), folder.name


@pytest.mark.data
@needs_data
def test_both_layouts_of_a_set_hold_the_same_series() -> None:
    for bundled, on_disk in zip(
        load_archive("GunPoint"), load_archive("GunPoint", root=SHARED / "timeseries" / "UCR"), strict=True
    ):
        np.testing.assert_allclose(bundled.values, on_disk.values, atol=1e-5)
        assert bundled.labels is not None
        assert on_disk.labels is not None
        assert bundled.labels.tolist() == on_disk.labels.tolist()
