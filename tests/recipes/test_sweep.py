"""Several data sets in one command: what is done stays done, and the table shows what decides on each."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from mmssl.eval.records import Record, to_json
from mmssl.recipes.sweep import sweep
from mmssl.recipes.timeseries_simclr import Config, main
from mmssl.timeseries.dataset import DataConfig


def record(dataset: str, subject: str, protocol: str, metric: str, value: float, seed: int = 0) -> Record:
    return Record(dataset, subject, protocol, metric, "all", seed, "test", value, 10, 10)


def test_a_table_shows_the_first_protocol_and_measure_of_each_data_set(tmp_path: Path) -> None:
    results = {
        "small": [
            record("small", "ours", "logistic/1", "accuracy", 0.5),
            record("small", "ours", "logistic/1", "accuracy", 0.7, seed=1),
            record("small", "ours", "knn-1/1", "accuracy", 0.1),
        ],
        "large": [
            record("large", "ours", "logistic-holdout/1", "auc", 0.8),
            record("large", "ours", "logistic-holdout/1", "accuracy", 0.9),
        ],
    }

    def one(name: str, folder: Path) -> None:
        folder.mkdir()
        (folder / "results.json").write_text(to_json(results[name]))

    assert len(sweep(tmp_path, ["small", "large"], one)) == 5
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["measure"] for row in rows] == ["accuracy", "auc", ""]
    assert rows[0]["ours"].startswith("60.0 ± ")
    assert rows[1]["ours"] == "80.0"
    assert rows[2]["ours"] == "70.00"


def test_a_sweep_goes_on_after_the_data_sets_that_are_done(tmp_path: Path) -> None:
    seen = []

    def one(name: str, folder: Path) -> None:
        seen.append(name)
        if name == "b" and len(seen) == 2:
            raise KeyboardInterrupt
        folder.mkdir()
        (folder / "results.json").write_text(to_json([record(name, "ours", "knn-1/1", "accuracy", 1.0)]))

    with pytest.raises(KeyboardInterrupt):
        sweep(tmp_path, ["a", "b"], one)
    sweep(tmp_path, ["a", "b"], one)
    assert seen == ["a", "b", "b"]


@pytest.mark.slow
def test_any_method_on_series_goes_through_a_list_of_data_sets(tmp_path: Path) -> None:
    cfg = Config(names=["ItalyPowerDemand", "GunPoint"], data=DataConfig(), root=str(tmp_path))
    cfg.train.steps, cfg.train.seeds, cfg.train.device = 2, 1, "cpu"
    cfg.evaluate.draws, cfg.evaluate.controls, cfg.evaluate.protocols = 0, [], ["knn"]
    run = main(cfg)
    with (run / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["dataset"] for row in rows] == ["ItalyPowerDemand", "GunPoint", "mean"]
    assert set(rows[0]) == {"dataset", "measure", "random-encoder", "simclr"}
    assert (run / "GunPoint" / "report.html").exists()
