"""Labelled recordings: what aeon bundles, the layout of NAB, and a user's own words for normal."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mmssl.timeseries.anomaly_data import ANOMALOUS, NORMAL, bundled_set, name_labels, read_nab
from mmssl.timeseries.series import SeriesSet, as_objects

NAB = Path(__file__).parents[3] / "shared" / "data" / "timeseries" / "NAB"


def test_the_bundled_pressure_has_one_episode_after_its_training_rows() -> None:
    bundled = bundled_set("KDD-TSAD_135")
    labels = bundled.series.labels
    assert labels is not None
    assert bundled.train_rows == 1200
    assert bundled.series.values.shape == (7501, 1)
    assert np.flatnonzero(labels == ANOMALOUS).tolist() == list(range(4187, 4199))


@pytest.mark.filterwarnings("ignore:not numeric")
def test_the_bundled_accelerometers_have_no_anomaly() -> None:
    bundled = bundled_set("Daphnet_S06R02E0")
    assert bundled.train_rows is None
    assert bundled.series.values.shape == (7040, 9)
    assert bundled.series.labels is not None
    assert set(bundled.series.labels) == {NORMAL}
    assert len(bundled.series.labels) == 7040


def test_an_unknown_set_is_answered_with_those_there_are() -> None:
    with pytest.raises(FileNotFoundError, match=r"\(Daphnet_S06R02E0, KDD-TSAD_135"):
        bundled_set("KDD-TSAD_136")


def benchmark(folder: Path) -> Path:
    (folder / "data" / "real").mkdir(parents=True)
    (folder / "labels").mkdir()
    for name in ("a", "b"):
        rows = [f"2014-04-01 0{h}:{m:02d}:00,{h + m / 100}" for h in range(3) for m in range(0, 60, 5)]
        (folder / "data" / "real" / f"{name}.csv").write_text("\n".join(["timestamp,value", *rows, ""]))
    windows = {
        "real/a.csv": [["2014-04-01 01:00:00.000000", "2014-04-01 01:10:00.000000"]],
        "real/b.csv": [],
    }
    (folder / "labels" / "combined_windows.json").write_text(json.dumps(windows))
    return folder


def test_a_copy_of_nab_becomes_an_entity_a_file(tmp_path: Path) -> None:
    series = read_nab(benchmark(tmp_path))
    assert series.ids.tolist() == ["real/a", "real/b"]
    assert series.lengths.tolist() == [36, 36]
    assert series.labels is not None
    assert np.flatnonzero(series.labels == ANOMALOUS).tolist() == [12, 13, 14]
    assert series.values[13, 0] == pytest.approx(1.05)


def test_what_is_no_copy_of_nab_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no labels/combined_windows\.json"):
        read_nab(tmp_path)
    root = benchmark(tmp_path)
    (root / "data" / "real" / "b.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"labels real/b\.csv, and there is no"):
        read_nab(root)


@pytest.mark.data
def test_all_of_nab_is_read() -> None:
    if not NAB.exists():
        pytest.skip("no copy of NAB")
    series = read_nab(NAB)
    assert len(series) == 58
    assert len(series.values) == 365_558


def test_labels_get_their_names_from_the_user() -> None:
    series = SeriesSet.from_array(np.zeros((1, 4, 1)), labels=["x"])
    by_row = SeriesSet(
        series.values, series.offsets, series.ids, series.channels, labels=as_objects(["OK", "bad", None, 0.0])
    )
    named = name_labels(by_row, normal=["ok", "0"], label="state")
    assert named.labels is not None
    assert named.labels.tolist() == [NORMAL, ANOMALOUS, None, NORMAL]
    with pytest.raises(ValueError, match=r"data\.label=state has no normal row: none of 0\.0, OK, bad is in"):
        name_labels(by_row, normal=["fine"], label="state")
