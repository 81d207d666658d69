"""Anomalies from end to end: a user's recordings with and without labels, and what cannot be looked at."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from lightning_fabric import Fabric

import mmssl
from mmssl.eval.records import read_results
from mmssl.recipes import timeseries_forecast
from mmssl.recipes.detectors import DETECTORS, METHOD, AnomalyDataConfig, Detectors, load_recordings
from mmssl.recipes.forecasting import ForecastDataConfig
from mmssl.recipes.timeline import EncoderConfig
from mmssl.recipes.timeseries_anomaly import AnomalyEvaluateConfig, Config, main
from mmssl.recipes.training import TrainConfig
from mmssl.timeseries.embedder import SeriesEmbedder
from mmssl.timeseries.encoder import DilatedConvEncoder

ROWS, EPISODES = 1600, (900, 1000, 1100, 1200, 1300, 1400, 1500)


def pump(*, anomalies: bool = True, rows: int = ROWS) -> pd.DataFrame:
    """Two sensors; in episodes of ten rows the pressure jumps."""
    rng = np.random.default_rng(0)
    t = np.arange(rows)
    frame = pd.DataFrame(
        {
            "time": pd.Timestamp("2026-01-01") + pd.to_timedelta(t, unit="min"),
            "pressure": np.sin(t / 8) + 0.05 * rng.standard_normal(rows),
            "flow": np.cos(t / 5) + 0.05 * rng.standard_normal(rows),
            "fault": 0,
        }
    )
    for start in EPISODES if anomalies else ():
        frame.loc[start : start + 9, "pressure"] += 4
        frame.loc[start : start + 9, "fault"] = 1
    return frame


def config(
    folder: Path,
    frame: pd.DataFrame,
    *,
    label: str | None = "fault",
    detectors: Sequence[str] = ("masked-last",),
    **data: Any,
) -> Config:
    file = folder / "pump.csv"
    frame.to_csv(file, index=False)
    return Config(
        context=33,
        data=AnomalyDataConfig(path=str(file), time="time", channels=["pressure", "flow"], label=label, **data),
        evaluate=AnomalyEvaluateConfig(detectors=list(detectors), rate=0.005, shown=3, width=10),
        model=EncoderConfig(dim=16, hidden=8, depth=3),
        train=TrainConfig(steps=4, batch_size=4, seeds=1, device="cpu"),
        root=str(folder / "runs"),
    )


def test_a_labelled_recording_is_scored_against_the_controls(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = main(config(tmp_path, pump(), detectors=list(DETECTORS)))
    records = read_results(run / "results.json")
    auroc = {(r.subject, r.protocol): r.value for r in records if r.metric == "auroc"}
    detectors = {f"{name}/1" for name in DETECTORS}
    assert {p for s, p in auroc if s == "ts2vec"} == detectors == {p for s, p in auroc if s == "random-encoder"}
    assert {s for s, _ in auroc} == {"ts2vec", "random-encoder", "moving-z-score", "raw-windows"}
    assert auroc["moving-z-score", "moving-z-score/1"] > 0.9
    assert auroc["ts2vec", "masked-last/1"] > 0.9
    assert {r.metric for r in records} == {
        "auroc", "average_precision", "f1", "f1_point_adjusted", "f1_delay_adjusted",
    }  # fmt: skip
    said = capsys.readouterr().out
    assert "7 labelled episodes" in said
    page = (run / "report.html").read_text()
    assert (
        page.index("<h1>") < page.index("Adjusted") < page.index("What stands out most") < page.index("Changes of reg")
    )
    assert "<script" not in page
    embedded = mmssl.load(run).embed(pump()[["time", "pressure", "flow"]])
    assert embedded.shape[1] == 16


def test_the_channel_that_jumped_is_named(tmp_path: Path) -> None:
    page = (main(config(tmp_path, pump())) / "report.html").read_text()
    table = page[page.index("Episodes, the highest") :]
    first = table[: table.index("</tr>", table.index("<tbody"))]
    assert first.index("pressure") < (first.index("flow") if "flow" in first else len(first))


def test_without_labels_the_report_lists_what_stands_out_and_claims_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = main(config(tmp_path, pump(), label=None))
    assert json.loads((run / "results.json").read_text()) == []
    assert "No labels, so no score" in capsys.readouterr().out
    assert "What stands out most" in (run / "report.html").read_text()


def test_a_set_without_anomalies_is_said_to_be_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = main(config(tmp_path, pump(anomalies=False)))
    said = capsys.readouterr().out
    assert "has no labelled anomaly" in said
    assert "alarms per 1,000" in said
    assert json.loads((run / "results.json").read_text()) == []


def test_a_test_part_without_a_normal_row_is_no_quiet_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = pump(anomalies=False)
    frame.loc[ROWS // 2 :, "fault"] = 1  # run to failure
    run = main(config(tmp_path, frame))
    said = capsys.readouterr().out
    assert "The test part has no normal row, so nothing can be told apart: choose another data.train_fraction" in said
    assert "nan" not in said
    assert "per 1,000" not in said
    assert "What stands out most" in (run / "report.html").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": "foo"}, "threshold must be evt, quantile or sigma, got 'foo'"),
        ({"threshold": "quantile", "rate": 0.0}, "rate of false alarms must lie between 0 and 0.1 a row, got 0.0"),
    ],
)
def test_a_threshold_that_there_is_not_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    cfg = config(tmp_path, pump())
    with pytest.raises(ValueError, match=message):
        main(replace(cfg, evaluate=replace(cfg.evaluate, **changes)))


def scored(folder: Path, frame: pd.DataFrame, **data: Any) -> Detectors:
    """Every detector but the slow one, on an untrained encoder."""
    task = load_recordings(config(folder, frame, **data).data, context=33, how="evt", rate=0.005)
    detectors = Detectors(
        task,
        names=["knn", "mahalanobis", "masked-last"],
        context=33,
        how="evt",
        rate=0.005,
        fabric=Fabric(accelerator="cpu"),
    )
    torch.manual_seed(0)
    encoder = DilatedConvEncoder(2, dim=16, hidden=8, depth=3)
    detectors.controls()
    detectors.embedder(METHOD, 0, SeriesEmbedder(encoder, {}, task.early.preprocessor))
    return detectors


def test_rows_that_nobody_measured_are_neither_scored_nor_learnt_from(tmp_path: Path) -> None:
    lost = np.r_[200:203, 500:505, 900:960, 1300:1301]  # in both halves of the training part, and in the test part
    whole = scored(tmp_path, pump(anomalies=False))
    holed = scored(tmp_path, pump(anomalies=False).drop(lost), resample="1min")
    assert holed.task.scored.sum() == whole.task.scored.sum() - 61
    assert "69 rows have no value in any channel" in holed.task.notes[0]
    for full, found in zip(whole.found, holed.found, strict=True):
        assert np.flatnonzero(np.isnan(found.scores)).tolist() == lost.tolist()
        if found.subject == METHOD:
            assert found.limits[0] == pytest.approx(full.limits[0], rel=0.2), found.detector
            assert (found.scores[960:1000] > found.limits[0]).mean() <= 0.1, found.detector  # the gap is in their past


def test_the_hour_that_autumn_repeats_is_told_apart(tmp_path: Path) -> None:
    frame = pump()
    utc = pd.Timestamp("2026-10-24T22:00", tz="UTC") + pd.to_timedelta(np.arange(ROWS), unit="min")
    frame["time"] = utc.tz_convert("Europe/Berlin").tz_localize(None)
    with (
        pytest.warns(UserWarning, match="time goes back once"),
        pytest.raises(ValueError, match=r"60 rows repeat the time .* changed from summer time need data\.time_zone"),
    ):
        scored(tmp_path, frame)
    task = scored(tmp_path, frame, time_zone="Europe/Berlin").task
    assert (task.series.step, task.series.breaks) == (60.0, None)
    assert task.early.options["time_zone"] == "Europe/Berlin"


def test_detectors_start_anew_after_a_gap(tmp_path: Path) -> None:
    frame = pump(anomalies=False)
    frame["serial"] = 12
    gap = frame.drop(range(1000, 1200))
    cfg = config(tmp_path, gap, max_gap="1h", static=["serial"])
    tasks = []
    for early in (0.0, 50.0):  # what was measured before the gap
        gap.loc[850:999, "pressure"] += early
        gap.to_csv(cfg.data.path, index=False)
        tasks.append(scored(tmp_path, gap, max_gap="1h", static=["serial"]))
    assert tasks[0].task.series.breaks is not None
    assert tasks[0].task.series.breaks.tolist() == [1000]
    for calm, wild in zip(tasks[0].found, tasks[1].found, strict=True):
        assert not np.array_equal(calm.scores[850:1000], wild.scores[850:1000])
        np.testing.assert_array_equal(calm.scores[1000:], wild.scores[1000:])


def test_the_threshold_counts_measured_rows(tmp_path: Path) -> None:
    frame = pump().drop(range(400, 780))
    with pytest.raises(ValueError, match=r"has 420 rows with a value; the last 194 set the threshold"):
        scored(tmp_path, frame, resample="1min")


def test_the_encoder_of_another_run_sees_values_on_its_own_scale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = main(config(tmp_path, pump()))
    other = pump()
    other["pressure"] = 10 * other["pressure"] + 300
    returned = []
    apply = Detectors.embedder

    def noted(self: Detectors, *arguments: Any) -> npt.NDArray[np.float32]:
        returned.append(apply(self, *arguments))
        return returned[-1]

    monkeypatch.setattr(Detectors, "embedder", noted)
    again = main(replace(config(tmp_path, other), run=str(first)))
    trained = mmssl.load(again)
    assert isinstance(trained, SeriesEmbedder)
    expected = trained.causal(trained.read(other.drop(columns="fault")), window=33)
    np.testing.assert_array_equal(returned[-1], expected)


def test_the_encoder_of_a_forecast_sees_the_calendar(tmp_path: Path) -> None:
    cfg = config(tmp_path, pump())
    forecast = timeseries_forecast.Config(
        horizons=[3],
        context=33,
        data=ForecastDataConfig(path=cfg.data.path, time="time", channels=["pressure", "flow"]),
        model=cfg.model,
        train=cfg.train,
        root=cfg.root,
    )
    run = main(replace(cfg, run=str(timeseries_forecast.main(forecast))))
    assert {r.subject for r in read_results(run / "results.json")} >= {"ts2vec", "random-encoder"}
    assert "calendar" not in (run / "report.html").read_text()


def test_a_run_on_other_channels_is_refused_before_there_is_a_folder(tmp_path: Path) -> None:
    run = main(config(tmp_path, pump()))
    cfg = config(tmp_path, pump().rename(columns={"flow": "flow2"}))
    cfg = replace(cfg, run=str(run), data=replace(cfg.data, channels=["pressure", "flow2"]))
    with pytest.raises(ValueError, match=r"channel 'flow' is missing \(was it renamed to 'flow2'\?\)"):
        main(cfg)
    assert [folder.name for folder in run.parent.iterdir()] == [run.name]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_fraction": 0.1}, r"'pump' has 160 rows; the last 64 set the threshold, and evt needs 200"),
        ({"train_fraction": 1.5}, r"data\.train_fraction must lie between 0 and 1, got 1\.5"),
        ({"normal": ["fine"]}, r"none of 0, 1 is in data\.normal=\[fine\]"),
        ({"standardise": "row"}, r"data\.standardise must be together or each, got 'row'"),
        ({"name": "KDD-TSAD_135"}, r"one of data\.name, data\.root and data\.path, got data\.name=KDD-TSAD_135 and"),
    ],
)
def test_what_cannot_be_looked_at_is_said_before_anything_is_trained(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        main(config(tmp_path, pump(), **changes))
    assert not (tmp_path / "runs").exists()


def test_a_channel_that_is_empty_while_learning_is_named(tmp_path: Path) -> None:
    frame = pump()
    frame.loc[: ROWS // 2, "flow"] = np.nan
    with pytest.raises(ValueError, match="no value of channel flow in the training part"):
        main(config(tmp_path, frame))


def test_an_unknown_detector_is_named(tmp_path: Path) -> None:
    cfg = config(tmp_path, pump())
    cfg.evaluate.detectors = ["isolation"]
    with pytest.raises(ValueError, match=r"knn, mahalanobis, deep-svdd, masked-last, got \['isolation'\]"):
        main(cfg)


def nab(folder: Path) -> Path:
    """Two series on very different scales in the layout of NAB; the first has a jump in its second half."""
    (folder / "data" / "real").mkdir(parents=True)
    (folder / "labels").mkdir()
    rng = np.random.default_rng(0)
    times = pd.Timestamp("2014-04-01") + pd.to_timedelta(5 * np.arange(1000), unit="min")
    for name, scale in (("a", 1.0), ("b", 1e5)):
        value = scale * (np.sin(np.arange(1000) / 8) + 0.05 * rng.standard_normal(1000))
        if name == "a":
            value[800:810] += 5
        frame = pd.DataFrame({"timestamp": times.strftime("%Y-%m-%d %H:%M:%S"), "value": value})
        frame.to_csv(folder / "data" / "real" / f"{name}.csv", index=False)
    windows = {"real/a.csv": [[str(times[800]), str(times[809])]], "real/b.csv": []}
    (folder / "labels" / "combined_windows.json").write_text(json.dumps(windows))
    return folder


def test_a_copy_of_nab_is_looked_at_series_by_series(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cfg = config(tmp_path, pump())
    cfg.data = AnomalyDataConfig(root=str(nab(tmp_path / "nab")))
    run = main(cfg)
    records = read_results(run / "results.json")
    assert {r.dataset for r in records} == {"NAB/real/a"}  # the other has nothing to be found
    auroc = {r.subject: r.value for r in records if r.metric == "auroc"}
    assert auroc["ts2vec"] > 0.8
    assert "Too few for a claim (1 labelled episode, 1 seed)" in capsys.readouterr().out
    assert "standardised by its own training part" in (run / "report.html").read_text()


def test_no_later_row_changes_what_is_learnt(tmp_path: Path) -> None:
    calm = pump()
    wild = calm.copy()
    wild.loc[ROWS // 2 :, ["pressure", "flow"]] = 1e3
    tasks = []
    for name, frame in (("calm", calm), ("wild", wild)):
        (tmp_path / name).mkdir()
        data = config(tmp_path / name, frame).data
        tasks.append(load_recordings(data, context=33, how="evt", rate=0.005))
    assert tasks[0].early.preprocessor == tasks[1].early.preprocessor
    np.testing.assert_array_equal(tasks[0].early.series.values, tasks[1].early.series.values)
