"""TNC as a recipe: what it says of the neighbourhoods, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lightning_fabric import Fabric

from mmssl.recipes.series_report import SeriesEvaluateConfig
from mmssl.recipes.timeseries_tnc import RECIPE, Config, MethodConfig, TNCExperiment, main, prepare
from mmssl.recipes.training import TrainConfig
from mmssl.timeseries.dataset import DataConfig


def recordings(path: Path) -> Path:
    """Two machines, each calm at first, and then wandering."""
    rng = np.random.default_rng(0)
    frames = []
    for machine in range(2):
        calm, wild = rng.standard_normal((2, 300, 2))
        values = np.concatenate([calm, wild.cumsum(axis=0)])
        frame = pd.DataFrame({"machine": f"m{machine}", "a": values[:, 0], "b": values[:, 1]})
        frame["state"] = ["calm"] * 300 + ["wild"] * 300
        frames.append(frame)
    pd.concat(frames).to_csv(path, index=False)
    return path


def config(folder: Path, **changes: Any) -> Config:
    data = DataConfig(path=str(recordings(folder / "r.csv")), id="machine", label="state", window=30, split="entity")
    train = TrainConfig(steps=3, lr=1e-3, seeds=1, batch_size=8, log_every=1, device="cpu")
    evaluate = SeriesEvaluateConfig(protocols=["knn"], draws=0, controls=["statistics", "raw"])
    given: dict[str, Any] = {"data": data, "train": train, "evaluate": evaluate, "root": str(folder / "runs")}
    return Config(**given | changes)


def prepared(cfg: Config) -> TNCExperiment:
    return prepare(cfg, RECIPE, Fabric(accelerator="cpu"))


def test_neighbourhoods_are_tested_once_and_described(tmp_path: Path) -> None:
    experiment = prepared(config(tmp_path))
    assert "neighbourhoods at 39 places: one window to either side at " in experiment.description
    sizes = experiment.recordings.sizes
    assert (sizes[:18] == 3).mean() > 0.8  # calm
    assert (sizes[22:] == 1).mean() > 0.8  # wandering
    first, second = (experiment.training(experiment.new_encoder(seed), seed) for seed in (0, 1))
    assert first.source is second.source is experiment.recordings


def test_a_given_neighbourhood_is_taken_as_it_is(tmp_path: Path) -> None:
    assert set(prepared(config(tmp_path, method=MethodConfig(neighbourhood=2))).recordings.sizes) == {2}


@pytest.mark.slow
def test_raw_windows_are_scored_beside_it(tmp_path: Path) -> None:
    run = main(config(tmp_path))
    assert "raw windows" in (run / "report.html").read_text()


def test_what_cannot_work_is_said_before_any_training(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    with pytest.raises(ValueError, match="needs their length: set data"):
        prepared(replace(cfg, data=replace(cfg.data, window=None)))
    with pytest.raises(ValueError, match=r"none has two windows of 301 rows: the longest has 600"):
        prepared(replace(cfg, data=replace(cfg.data, label=None, channels=["a", "b"], window=301, stride=100)))
    streamed = tmp_path / "parts"
    streamed.mkdir()
    pd.read_csv(tmp_path / "r.csv").to_parquet(streamed / "one.parquet")
    with pytest.raises(ValueError, match=r"recordings in memory: set data\.in_memory=true"):
        prepared(replace(cfg, data=replace(cfg.data, path=str(streamed), in_memory=False)))
    with pytest.raises(ValueError, match="pairs must be at least 1, got 0"):
        prepared(replace(cfg, method=MethodConfig(pairs=0)))
