"""The recipe from end to end, on real data and on odd files of one's own."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mmssl
from mmssl.__main__ import main as cli
from mmssl.eval.records import read_results
from mmssl.recipes.command import unknown_key
from mmssl.recipes.series_report import SeriesEvaluateConfig
from mmssl.recipes.timeseries_ts2vec import Config, ModelConfig, main
from mmssl.recipes.training import HealthConfig, TrainConfig
from mmssl.timeseries.dataset import DataConfig
from mmssl.timeseries.embedder import SeriesEmbedder

SMALL = ModelConfig(dim=16, hidden=8, depth=3)
QUICK = SeriesEvaluateConfig(protocols=["knn"], draws=0, controls=["statistics"])


def quick(path: Path, data: DataConfig, **changes: object) -> Config:
    train = TrainConfig(steps=6, seeds=1, batch_size=4, log_every=3, checkpoint_every=2, device="cpu")
    return Config(data=data, model=SMALL, train=train, evaluate=QUICK, root=str(path), **changes)  # type: ignore[arg-type]


def plant(rows: int = 400, machines: int = 10, *, seed: int = 0) -> pd.DataFrame:
    """Machines of two kinds with two sensors, some values missing."""
    rng = np.random.default_rng(seed)
    frames = []
    for machine in range(machines):
        kind = machine % 2
        t = np.arange(rows)
        pressure = np.sin(t / (5 + 10 * kind)) + 0.1 * rng.standard_normal(rows)
        frame = pd.DataFrame(
            {
                "machine": f"m{machine}",
                "timestamp": pd.Timestamp("2026-01-01") + pd.to_timedelta(t * 10, unit="s"),
                "pressure": pressure,
                "temperature": 20 + np.cumsum(rng.standard_normal(rows)) / 10,
                "state": ["slow", "fast"][kind],
            }
        )
        frame.loc[frame.sample(frac=0.05, random_state=machine).index, "temperature"] = np.nan
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


OWN: dict[str, Any] = {"id": "machine", "time": "timestamp", "window": 50}


@pytest.fixture(scope="module")
def italy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TS2Vec with the paper's settings on ItalyPowerDemand, one seed."""
    return main(
        Config(
            data=DataConfig(name="ItalyPowerDemand"),
            train=TrainConfig(seeds=1, device="cpu"),
            evaluate=SeriesEvaluateConfig(draws=2, controls=["statistics"]),
            root=str(tmp_path_factory.mktemp("italy")),
        )
    )


@pytest.mark.slow
def test_pretraining_beats_the_untrained_encoder_on_italy_power_demand(italy: Path) -> None:
    scores = {
        (r.subject, r.protocol): r.value
        for r in read_results(italy / "results.json")
        if r.metric == "accuracy" and r.n_labels == "all"
    }
    assert scores["ts2vec", "svm-rbf/1"] > 0.94
    assert scores["ts2vec", "svm-rbf/1"] > scores["random-encoder", "svm-rbf/1"] + 0.01
    assert scores["ts2vec", "svm-rbf/1"] > scores["statistics", "svm-rbf/1"]


@pytest.mark.slow
def test_the_run_folder_holds_what_the_readme_promises(italy: Path) -> None:
    for name in ("report.html", "embeddings.parquet", "encoder.safetensors", "encoder.json", "config.yaml"):
        assert (italy / name).stat().st_size > 100, name
    metrics = pd.read_csv(italy / "metrics.csv")
    assert metrics["step"].iloc[-1] == 200
    assert {"loss", "collapse_loss", "effective_rank", "spread", "skipped", "lr"} <= set(metrics)
    assert list((italy / "tensorboard" / "seed-0").iterdir())
    frame = pd.read_parquet(italy / "embeddings.parquet")
    assert len(frame) == 67 + 1029
    assert frame["split"].value_counts().to_dict() == {"test": 1029, "train": 67}
    assert not list(italy.rglob("*.pkl")) + list(italy.rglob("*.pt")) + list(italy.rglob("*.ckpt"))


@pytest.mark.slow
def test_the_report_needs_no_network_and_agrees_with_the_results(italy: Path) -> None:
    page = (italy / "report.html").read_text()
    assert not re.search(r"(src|href)=[\"'](https?:)?//|@import|<script", page)
    value = next(
        r.value
        for r in read_results(italy / "results.json")
        if (r.subject, r.protocol, r.metric) == ("ts2vec", "svm-rbf/1", "accuracy")
    )
    assert f"{100 * value:.1f}" in page
    assert page.index("<h1>") < page.index("<table")


@pytest.mark.slow
def test_a_loaded_run_embeds_as_the_run_did(italy: Path, tmp_path: Path) -> None:
    from mmssl.timeseries.archive import load_archive

    train, _ = load_archive("ItalyPowerDemand")
    embedder = mmssl.load(italy)
    values = np.stack([train.values[a:b] for a, b in zip(train.offsets[:-1], train.offsets[1:], strict=True)])
    frame = embedder.embed(values)
    written = pd.read_parquet(italy / "embeddings.parquet").query("split == 'train'").filter(regex=r"^e\d+$")
    np.testing.assert_allclose(frame.to_numpy(), written.to_numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "feather"])
def test_a_table_of_ones_own_gives_scores_and_embeddings(suffix: str, tmp_path: Path) -> None:
    table = tmp_path / f"plant.{suffix}"
    frame = plant()
    getattr(frame, f"to_{suffix}")(table, **({"index": False} if suffix == "csv" else {}))
    run = main(quick(tmp_path, DataConfig(path=str(table), label="state", **OWN)))
    records = read_results(run / "results.json")
    assert {r.subject for r in records} == {"ts2vec", "random-encoder", "statistics"}
    assert {r.split for r in records} == {"entity/0.3"}
    out = tmp_path / "out.parquet"
    assert cli(["embed", str(run), str(table), str(out)]) == 0
    embedded = pd.read_parquet(out).set_index(["entity", "window"])
    directly = mmssl.load(run).embed(frame)
    pd.testing.assert_frame_equal(embedded, directly, check_index_type=False, check_dtype=False, check_freq=False)
    assert len(directly) == 10 * 15  # windows of 50 rows every 25, in 400 rows


def test_without_labels_there_is_a_report_and_no_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "plant.csv"
    plant().drop(columns="state").to_csv(table, index=False)
    run = main(quick(tmp_path, DataConfig(path=str(table), **OWN)))
    assert json.loads((run / "results.json").read_text()) == []
    page = (run / "report.html").read_text()
    assert "No labels, so no score" in page
    assert "Nearest" in page or "neighbours" in page
    assert "No labels, so no score" in capsys.readouterr().out


def test_unlabelled_rows_are_pretrained_on_and_not_scored(tmp_path: Path) -> None:
    frame = plant()
    frame.loc[frame["machine"].isin(["m0", "m1", "m2", "m3"]), "state"] = None
    frame.to_parquet(tmp_path / "plant.parquet")
    run = main(quick(tmp_path, DataConfig(path=str(tmp_path / "plant.parquet"), label="state", **OWN)))
    record = read_results(run / "results.json")[0]
    embedded = pd.read_parquet(run / "embeddings.parquet")
    unlabelled = embedded["entity"].isin(["m0", "m1", "m2", "m3"])
    assert embedded[unlabelled]["label"].isna().all()
    assert record.n_train == int((embedded["split"].eq("train") & ~unlabelled).sum())
    assert int(embedded["split"].eq("train").sum()) > record.n_train


def test_single_missing_channels_switch_to_indicators(tmp_path: Path) -> None:
    plant().to_parquet(tmp_path / "plant.parquet")
    run = main(quick(tmp_path, DataConfig(path=str(tmp_path / "plant.parquet"), label="state", **OWN)))
    assert "missing: indicator" in (run / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pressure": "druck"}, "'pressure' .*not|no column|pressure"),
        ({"machine": "id"}, "machine"),
    ],
)
def test_a_renamed_column_is_named(change: dict[str, str], message: str, tmp_path: Path) -> None:
    frame = plant(120, 4)
    frame.to_parquet(tmp_path / "plant.parquet")
    run = main(quick(tmp_path, DataConfig(path=str(tmp_path / "plant.parquet"), **OWN, channels=["pressure"])))
    with pytest.raises(ValueError, match=message):
        mmssl.load(run).embed(frame.rename(columns=change))


def test_another_rate_is_refused_with_both_rates(tmp_path: Path) -> None:
    frame = plant(120, 4)[["machine", "timestamp", "pressure"]]
    frame.to_parquet(tmp_path / "plant.parquet")
    embedder = mmssl.load(main(quick(tmp_path, DataConfig(path=str(tmp_path / "plant.parquet"), **OWN))))
    with pytest.raises(ValueError, match=r"every 20 s.*every 10 s"):
        embedder.embed(frame.iloc[::2])


def test_arrays_of_another_width_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((8, 30, 2)))
    embedder = mmssl.load(main(quick(tmp_path, DataConfig(path=str(tmp_path / "x.npy")))))
    assert isinstance(embedder, SeriesEmbedder)
    assert embedder.embed(np.zeros((3, 12, 2))).shape == (3, 16)
    with pytest.raises(ValueError, match="channel"):
        embedder.embed(np.zeros((3, 12, 5)))
    series = np.random.default_rng(1).standard_normal((40, 2)).astype(np.float32)
    assert embedder.timestamps(series).shape == embedder.causal(series, window=20).shape == (40, 16)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (DataConfig(name="GunPoint", path="x.csv"), "data.name=GunPoint and data.path=x.csv"),
        (DataConfig(path="nowhere.csv"), "nowhere.csv"),
        (DataConfig(name="GunPoimt"), "GunPoint"),
        (DataConfig(path="{folder}/one.csv", label="state", **OWN), "same label 'slow'"),
        (DataConfig(path="{folder}/plant.csv", label="state", **(OWN | {"window": 1})), "data.window=1"),
        (DataConfig(path="{folder}/plant.csv", label="state", split="group", **OWN), "data.split"),
    ],
)
def test_bad_data_is_refused_before_a_run_folder_exists(data: DataConfig, message: str, tmp_path: Path) -> None:
    frame = plant(120, 4)
    frame.to_csv(tmp_path / "plant.csv", index=False)
    frame[frame["state"] == "slow"].to_csv(tmp_path / "one.csv", index=False)
    if data.path:
        data = DataConfig(**{**data.__dict__, "path": data.path.format(folder=tmp_path)})
    with pytest.raises((ValueError, OSError), match=message):
        main(quick(tmp_path / "runs", data))
    assert not (tmp_path / "runs").exists()


def test_a_run_folder_that_cannot_be_made_says_where(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((8, 30, 2)))
    with pytest.raises(OSError, match="root=<folder>"):
        main(quick(tmp_path / "file", DataConfig(path=str(tmp_path / "x.npy"))))


def test_resume_takes_no_other_settings(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((8, 30, 2)))
    run = main(quick(tmp_path, DataConfig(path=str(tmp_path / "x.npy"))))
    with pytest.raises(ValueError, match=r"drop train.lr=0.1"):
        main(Config(train=TrainConfig(lr=0.1), resume=str(run)))
    with pytest.raises(FileNotFoundError, match="no run folder"):
        main(Config(resume=str(tmp_path)))
    weights = (run / "encoder.safetensors").read_bytes()
    assert main(Config(resume=str(run))) == run  # nothing left to train: evaluates again
    assert (run / "encoder.safetensors").read_bytes() == weights


def test_several_data_sets_give_one_table_and_go_on_where_they_stopped(tmp_path: Path) -> None:
    cfg = quick(tmp_path, DataConfig(), names=["ItalyPowerDemand", "GunPoint"])
    cfg.evaluate.controls = []
    folder = main(cfg)
    table = (folder / "table.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in table] == ["dataset", "ItalyPowerDemand", "GunPoint", "mean"]
    (folder / "GunPoint" / "results.json").unlink()
    before = (folder / "ItalyPowerDemand" / "results.json").stat().st_mtime_ns
    main(Config(resume=str(folder)))
    assert (folder / "GunPoint" / "results.json").exists()
    assert (folder / "ItalyPowerDemand" / "results.json").stat().st_mtime_ns == before


def test_a_collapse_stops_the_run_if_asked_to(tmp_path: Path) -> None:
    from mmssl.train.pretrain import Collapsed

    np.save(tmp_path / "x.npy", np.tile(np.sin(np.arange(60.0)), (16, 1))[..., None])  # sixteen copies
    cfg = quick(tmp_path, DataConfig(path=str(tmp_path / "x.npy")), health=HealthConfig(stop=True))
    with pytest.raises(Collapsed, match="Likely cause: the data"):
        main(cfg)
    cfg.health.stop = False
    with pytest.warns(UserWarning, match="Collapse"):
        main(cfg)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("train.lrr=1", "did you mean train.lr?"),
        ("trian.lr=1", "did you mean train?"),
        ("data.chanels=[a]", "did you mean data.channels?"),
        ("train.lr.x=1", "unknown key 'train.lr.x'"),
        ("train.lr=1", ""),
        ("--config-name=ucr", ""),
        ("+new=1", ""),
        ("hydra.verbose=true", ""),
    ],
)
def test_a_misspelt_key_is_named_with_the_closest(argument: str, message: str) -> None:
    problem = unknown_key(argument, Config)
    assert (message in problem) if message else problem == ""


@pytest.mark.slow
def test_the_command_line_names_a_wrong_type_and_ends_without_a_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mmssl.recipes.timeseries_ts2vec", "train.lr=fast"], capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "train.lr" in done.stderr
    assert "fast" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_ctrl_c_writes_a_checkpoint_and_prints_how_to_go_on(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((32, 60, 2)))
    command = [sys.executable, "-m", "mmssl.recipes.timeseries_ts2vec", f"data.path={tmp_path / 'x.npy'}"]
    command += ["train.steps=100000", "train.device=cpu", "train.log_every=1", f"root={tmp_path}", "model.depth=2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(tmp_path.rglob("metrics.csv")):
        time.sleep(0.1)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    found = re.search(r"resume=(\S+)", err)
    assert found
    assert list((Path(found[1]) / "checkpoint" / "seed-0").glob("step-*.safetensors"))
    assert "Traceback" not in err


def test_recipes_are_listed_with_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(["recipes"]) == 0
    assert "python -m mmssl.recipes.timeseries_ts2vec" in capsys.readouterr().out


def test_embedding_with_a_folder_that_is_no_run_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(["embed", str(tmp_path), "x.csv", "out.parquet"]) == 1
    assert "no finished run" in capsys.readouterr().err
