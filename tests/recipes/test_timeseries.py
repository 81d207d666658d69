"""Every recipe that brings a method of the core to series, from end to end, on series of one's own."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mmssl
from mmssl.__main__ import main as cli
from mmssl.eval.records import read_results
from mmssl.recipes.series_report import SeriesEvaluateConfig
from mmssl.recipes.timeseries import ModelConfig, ViewsConfig, make_views
from mmssl.recipes.timeseries_tstcc import MethodConfig as TSTCCConfig
from mmssl.recipes.training import TrainConfig
from mmssl.timeseries.augment import CropResize, Jitter, Pipeline, SeriesViews, StrongView, TimeWarp, WeakView
from mmssl.timeseries.dataset import DataConfig
from mmssl.timeseries.embedder import SeriesEmbedder

RECIPES = ("simclr", "byol", "moco", "barlow_twins", "vicreg", "dino", "mae", "tstcc", "tnc")
OWN = DataConfig(id="machine", label="kind", window=40, stride=40)


def plant(path: Path) -> Path:
    """Ten machines of two kinds with two sensors, some values missing."""
    rng = np.random.default_rng(0)
    frames = []
    for machine in range(10):
        t = np.arange(160)
        a = np.sin(t / (3 + 5 * (machine % 2))) + 0.1 * rng.standard_normal(160)
        frame = pd.DataFrame({"machine": f"m{machine}", "a": a, "b": np.cumsum(rng.standard_normal(160))})
        frame["kind"] = ["slow", "fast"][machine % 2]
        frame.loc[20:25, "a"] = np.nan
        frames.append(frame)
    pd.concat(frames).to_csv(path, index=False)
    return path


def quick(name: str, folder: Path, **changes: Any) -> Path:
    module = importlib.import_module(f"mmssl.recipes.timeseries_{name}")
    data = DataConfig(**{**vars(OWN), "path": str(plant(folder / "plant.csv"))})
    train = TrainConfig(steps=4, lr=1e-3, seeds=1, batch_size=8, log_every=2, checkpoint_every=2, device="cpu")
    evaluate = SeriesEvaluateConfig(protocols=["knn"], draws=0, controls=["statistics"])
    cfg = module.Config(data=data, train=train, evaluate=evaluate, root=str(folder / "runs"), **changes)
    return module.main(cfg)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_runs_from_a_file_to_a_report_and_embeds_new_data(name: str, tmp_path: Path) -> None:
    run = quick(name, tmp_path)
    subjects = {record.subject for record in read_results(run / "results.json")}
    assert subjects == {name.replace("_", "-"), "random-encoder", "statistics"}
    page = (run / "report.html").read_text()
    assert ("<h2>Views</h2>" in page) == (name not in ("mae", "tnc"))
    wanted = ("reference", "neighbourhood")  # where null is an answer of its own
    settled = [line for line in method_section(run / "config.yaml") if not line.strip().startswith(wanted)]
    assert not [line for line in settled if line.endswith(" null")]
    embedder = mmssl.load(run)
    assert isinstance(embedder, SeriesEmbedder)
    new = embedder.embed(tmp_path / "plant.csv").reset_index()
    stored = pd.read_parquet(run / "embeddings.parquet")
    both = new.merge(stored, on=["entity", "window"], suffixes=("", "_stored"))
    assert len(both) == 40
    for i in range(embedder.dim):
        assert np.allclose(both[f"e{i:03d}"], both[f"e{i:03d}_stored"], atol=1e-4)
    with pytest.raises(ValueError, match=r"one vector for a window.*model.name=dilated"):
        embedder.timestamps(np.zeros((50, 2), dtype=np.float32))


def test_a_run_does_not_go_on_with_other_data(tmp_path: Path) -> None:
    run = quick("simclr", tmp_path)
    table = pd.read_csv(tmp_path / "plant.csv")
    table[table["machine"] != "m9"].assign(a=table["a"] * 3).to_csv(tmp_path / "plant.csv", index=False)
    simclr = importlib.import_module("mmssl.recipes.timeseries_simclr")
    with pytest.raises(ValueError, match=r"is not that which .* began with.* test windows \(16, now 12\), channel a"):
        simclr.main(simclr.Config(resume=str(run)))


def test_a_run_says_which_windows_are_unusual(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = quick("simclr", tmp_path)
    out = tmp_path / "scores.csv"
    assert cli(["anomaly", str(run), str(tmp_path / "plant.csv"), str(out), "--rate", "0.5"]) == 0
    found = pd.read_csv(out)
    assert list(found.columns) == ["entity", "window", "score", "unusual"]
    assert f"{found['unusual'].sum()} of {len(found)} are unusual" in capsys.readouterr().out
    embedder = mmssl.load(run)
    assert isinstance(embedder, SeriesEmbedder)
    assert embedder.overlap == 1  # windows of 40 rows every 40; the last one may overlap


def method_section(path: Path) -> list[str]:
    lines = path.read_text().splitlines()
    start = lines.index("method:")
    return [line for line in lines[start + 1 :] if line.startswith("  ")]


def test_strength_0_leaves_a_step_out() -> None:
    nothing: dict[str, Any] = dict.fromkeys(("scaling", "time_mask", "jitter"), 0.0)
    cfg = type("Cfg", (), {"views": ViewsConfig(crop=[1.0, 1.0], **nothing)})
    assert make_views(cfg).first == Pipeline(())
    cfg = type("Cfg", (), {"views": ViewsConfig(crop=[0.3, 0.7], time_warp=0.1, **nothing | {"jitter": 0.2})})
    assert make_views(cfg).first == Pipeline((CropResize((0.3, 0.7)), TimeWarp(0.1), Jitter(0.2)))


def test_any_method_takes_the_views_of_tstcc() -> None:
    def views(**settings: Any) -> SeriesViews:
        return make_views(type("Cfg", (), {"views": ViewsConfig(**settings)}))

    assert views(pair="tstcc") == SeriesViews(WeakView(0.2, 0.05), StrongView(8, 0.2))
    with pytest.raises(ValueError, match=r"strengths of its own; leave out views.crop, views.jitter"):
        views(pair="tstcc", jitter=0.3, crop=[0.9, 1.0])
    with pytest.raises(ValueError, match=r"views\.pair must be alike or tstcc, got 'other'"):
        views(pair="other")


def test_a_method_that_does_not_go_with_the_encoder_says_so_before_anything_is_scored(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model.name=resnet1d has none: take model.name=patch"):
        quick("mae", tmp_path, model=ModelConfig(name="resnet1d"))
    with pytest.raises(ValueError, match=r"model.name=patch has none: take tstcc"):
        quick("tstcc", tmp_path, model=ModelConfig(name="patch"))
    with pytest.raises(ValueError, match="'tstcc' does not take these settings"):
        quick("simclr", tmp_path, model=ModelConfig(patch=4))
    with pytest.raises(ValueError, match=r"7 features over time, and future=9 .*take a smaller future"):
        quick("tstcc", tmp_path, method=TSTCCConfig(future=9))
    assert not (tmp_path / "runs").exists()


def test_a_window_of_a_single_patch_is_named_with_the_settings_that_change_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"windows of 40 rows are a single patch of model\.patch=40.* data\.window"):
        quick("mae", tmp_path, model=ModelConfig(name="patch", patch=40))
