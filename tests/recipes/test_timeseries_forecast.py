"""Forecasts from end to end: a user's series, the encoder of another run, and what cannot be forecast."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mmssl
from mmssl.eval.records import read_results
from mmssl.recipes.forecasting import ForecastDataConfig, Forecasts, load_task
from mmssl.recipes.timeline import EncoderConfig, causal_features, shown_to
from mmssl.recipes.timeseries_forecast import Config, main
from mmssl.recipes.training import TrainConfig
from mmssl.timeseries.embedder import SeriesEmbedder
from mmssl.timeseries.encoder import DilatedConvEncoder

ROWS = 900


def load(rows: int = ROWS) -> pd.DataFrame:
    """Hourly load of two plants with a daily season, and the temperature."""
    rng = np.random.default_rng(0)
    frames = []
    for plant in ("north", "south"):
        t = np.arange(rows)
        frames.append(
            pd.DataFrame(
                {
                    "plant": plant,
                    "time": pd.Timestamp("2026-01-01") + pd.to_timedelta(t, unit="h"),
                    "load": 50 + 10 * np.sin(2 * np.pi * t / 24) + rng.standard_normal(rows),
                    "temperature": 5 + rng.standard_normal(rows).cumsum() / 10,
                }
            )
        )
    frame = pd.concat(frames, ignore_index=True)
    frame.loc[frame.sample(frac=0.02, random_state=0).index, "load"] = np.nan
    return frame


def config(folder: Path, frame: pd.DataFrame | None = None, **changes: Any) -> Config:
    file = folder / "load.csv"
    (load() if frame is None else frame).to_csv(file, index=False)
    data: dict[str, Any] = {"path": str(file), "id": "plant", "time": "time"}
    data |= {key: changes.pop(key) for key in list(changes) if key in ForecastDataConfig.__dataclass_fields__}
    return Config(
        **{"horizons": [3, 24], "context": 33, **changes},
        data=ForecastDataConfig(**data),
        model=EncoderConfig(dim=16, hidden=8, depth=3),
        train=TrainConfig(steps=4, batch_size=4, seeds=1, device="cpu"),
        root=str(folder / "runs"),
    )


def test_a_table_of_ones_own_is_forecast_against_the_controls(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = main(config(tmp_path))
    records = read_results(run / "results.json")
    mse = {(r.subject, r.protocol): r.value for r in records if r.metric == "mse"}
    subjects = {"ts2vec", "random-encoder", "linear", "seasonal-naive", "last-value"}
    assert set(mse) == {(s, p) for s in subjects for p in ("forecast-3/1", "forecast-24/1")}
    assert mse["linear", "forecast-24/1"] < mse["last-value", "forecast-24/1"]
    assert {r.split for r in records} == {"time 0.6/0.2/0.2"}
    units = {r.metric: r.value for r in records if (r.subject, r.protocol) == ("linear", "forecast-3/1")}
    assert units["mae in units of load"] > 0.5
    said = capsys.readouterr().out
    assert "season: 24 rows, found in the training part" in said
    assert "known in advance: hour, day of week, day of month, day of year" in said
    page = (run / "report.html").read_text()
    assert page.index("<h1>") < page.index("MSE / MAE") < page.index("<h2>Forecasts") < page.index("Health of")
    assert page.count('aria-label="load, ') == 4
    embedded = mmssl.load(run).embed(load())
    assert set(embedded.index.get_level_values("entity")) == {"north", "south"}


def test_the_encoder_of_another_run_is_taken_as_it_is(tmp_path: Path) -> None:
    first = main(config(tmp_path))
    again = main(config(tmp_path, run=str(first)))
    mse = [
        {(r.subject, r.protocol): r.value for r in read_results(run / "results.json") if r.metric == "mse"}
        for run in (first, again)
    ]
    assert mse[0] == pytest.approx(mse[1], rel=1e-4)
    assert "only you know" in (again / "report.html").read_text()


def test_nothing_later_than_the_training_part_is_learnt_from(tmp_path: Path) -> None:
    frame = load()
    late = frame.groupby("plant").cumcount() >= 0.6 * ROWS
    other = frame.copy()
    other.loc[late, ["load", "temperature"]] = 1e3
    for table, folder in ((frame, tmp_path / "a"), (other, tmp_path / "b")):
        folder.mkdir()
        table.to_csv(folder / "load.csv", index=False)
    tasks = [
        load_task(
            ForecastDataConfig(path=str(tmp_path / name / "load.csv"), id="plant", time="time"),
            horizons=[3], context=33, season=None,
        )
        for name in ("a", "b")
    ]  # fmt: skip
    np.testing.assert_array_equal(tasks[0].early.series.values, tasks[1].early.series.values)
    assert tasks[0].early.preprocessor == tasks[1].early.preprocessor
    assert tasks[0].season == tasks[1].season == 24


def test_nothing_looks_across_a_gap(tmp_path: Path) -> None:
    frame = load().query("plant == 'north'").drop(columns="plant")
    gaps = frame.drop(range(300, 340)).drop(range(780, 800))  # in the training part, and in the test part
    cfg = config(tmp_path, gaps, id=None, resample="1h", max_gap="6h", rows=[500, 140, 200])
    task = load_task(cfg.data, horizons=[3], context=33, season=None)
    assert task.train == [(0, 300), (300, 500)]
    assert task.valid == [(500, 640)]
    assert task.test == [(640, 740), (740, 840)]
    assert task.season == 24
    encoder = DilatedConvEncoder(len(task.early.preprocessor.channels), dim=16, hidden=8, depth=3)
    embedder = SeriesEmbedder(encoder, {}, task.early.preprocessor, **task.early.options)
    before = causal_features(embedder, shown_to(embedder, task.series), context=33)
    task.series.values[:300] = task.series.values[640:740] = 99.0
    after = causal_features(embedder, shown_to(embedder, task.series), context=33)
    np.testing.assert_array_equal(after[300:640], before[300:640])
    np.testing.assert_array_equal(after[740:], before[740:])
    forecasts = Forecasts(task, horizons=[3], context=33)
    forecasts.controls()
    linear = forecasts.results[-1].score
    assert linear.rows.tolist() == [*range(640, 737), *range(740, 837)]


def test_a_run_knows_how_its_sensors_were_read(tmp_path: Path) -> None:
    frame = load()
    frame["site"] = frame["plant"].map({"north": 1.0, "south": 2.0})
    asked: dict[str, Any] = {"time_zone": "Europe/Berlin", "hold": "2h", "static": ["site"], "units": {"load": "MW"}}
    run = main(config(tmp_path, frame, **asked))
    assert "'+data.units={load: MW}'" in (run / "report.html").read_text().replace("&#x27;", "'")
    assert main(Config(resume=str(run))) == run
    embedder = mmssl.load(run)
    assert isinstance(embedder, SeriesEmbedder)
    assert (embedder.time_zone, embedder.hold, embedder.max_gap) == ("Europe/Berlin", "2h", None)
    assert embedder.preprocessor.units is not None
    assert embedder.preprocessor.units[:2] == ("MW", None)
    assert "site" not in embedder.preprocessor.channels
    found = embedder.embed(frame)
    assert found["site"].nunique() == 2
    assert found.index.get_level_values("window").min() == pd.Timestamp("2025-12-31T23:00")


def test_one_channel_can_be_forecast_from_all(tmp_path: Path) -> None:
    task = load_task(config(tmp_path, target=["load"]).data, horizons=[3], context=33, season=None)
    assert task.channels == ("load",)
    assert task.values.shape == (2 * ROWS, 1)
    assert task.early.preprocessor.channels[:2] == ("load", "temperature")


def test_parts_can_be_given_in_rows(tmp_path: Path) -> None:
    task = load_task(config(tmp_path, rows=[400, 100, 200]).data, horizons=[3], context=33, season=None)
    assert task.train == [(0, 400), (700, 1100)]
    assert task.test == [(500, 700), (1200, 1400)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"horizons": [200]}, "a horizon of 200 rows does not fit into the validation part, which has 180 rows"),
        ({"horizons": [24, 5000]}, "a horizon of 5,000 rows does not fit into the training part, which has 540 rows"),
        ({"horizons": []}, r"horizons must be rows ahead, at least 1 each, got \[\]"),
        ({"context": 538}, "needs 541 beside the 537 that the first forecast looks back at: .* smaller context"),
        ({"context": 0}, "context must be at least 1 row, got 0"),
        ({"target": ["lode"]}, r"data\.target=\['lode'\] is not among the channels load, temperature"),
        ({"fractions": [0.5, 0.5, 0.5]}, r"three positive shares that add up to 1, got \[0\.5, 0\.5, 0\.5\]"),
        ({"rows": [800, 100, 100]}, r"data\.rows asks for 1,000 rows, and 'north' has 900"),
        ({"season": 700}, "season=700 must be at least 1 row and fit into the training part"),
    ],
)
def test_what_cannot_be_forecast_is_said_before_anything_is_trained(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        main(config(tmp_path, **changes))
    assert not (tmp_path / "runs").exists()


def test_a_constant_channel_is_no_target(tmp_path: Path) -> None:
    frame = load()
    frame.loc[frame.groupby("plant").cumcount() < 0.6 * ROWS, "temperature"] = 7.0
    with pytest.raises(ValueError, match="channel 'temperature' is 7 throughout the training part"):
        main(config(tmp_path, frame))


@pytest.mark.parametrize(("share", "part"), [(0.6, "validation"), (0.8, "test")])
def test_a_channel_that_was_not_measured_later_is_no_target(tmp_path: Path, share: float, part: str) -> None:
    frame = load()
    frame.loc[frame.groupby("plant").cumcount() >= share * ROWS, "temperature"] = np.nan
    with pytest.raises(ValueError, match=f"channel 'temperature' has no value in the {part} part"):
        main(config(tmp_path, frame))


def test_a_run_without_vectors_for_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="it is no finished run"):
        main(config(tmp_path, run=str(tmp_path)))
