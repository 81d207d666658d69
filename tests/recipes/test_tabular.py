"""The recipes for tables from end to end, on odd tables of one's own; and the comparison over many of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from sklearn.metrics import roc_auc_score

import mmssl
from mmssl.__main__ import main as cli
from mmssl.eval.evaluate import BOOSTED
from mmssl.eval.records import Record, read_results
from mmssl.recipes import (
    session,
    tabular,
    tabular_barlow_twins,
    tabular_byol,
    tabular_compare,
    tabular_mae,
    tabular_scarf,
    tabular_simclr,
    tabular_vicreg,
    tabular_vime,
)
from mmssl.recipes.table_scores import FineTuneConfig, RowScores, TabularEvaluateConfig, task_and_rows
from mmssl.recipes.tabular import ModelConfig, StoppingConfig, hold_out, train_config
from mmssl.recipes.training import TrainConfig
from mmssl.tabular import blocks
from mmssl.tabular import embedder as embedder_module
from mmssl.tabular.controls import boosting
from mmssl.tabular.dataset import DataConfig, TableSource, load_data
from mmssl.tabular.embedder import TableEmbedder
from mmssl.train.fit import setup_fabric
from mmssl.train.run import Run

RECIPES: dict[str, Any] = {"scarf": tabular_scarf, "vime": tabular_vime}
CORE: dict[str, Any] = {
    "simclr": tabular_simclr,
    "byol": tabular_byol,
    "vicreg": tabular_vicreg,
    "barlow-twins": tabular_barlow_twins,
    "mae": tabular_mae,
}
TUNED = "finetune-full(epochs=2,batch_size=32,lr_encoder=0.001,least_steps=300)/1"


def customers(rows: int = 300, *, seed: int = 0) -> pd.DataFrame:
    """Customers of two kinds, with gaps; whether they churn, which a few of them do not tell, and what they pay."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 2, rows)
    frame = pd.DataFrame(
        {
            "customer": [f"c{i}" for i in range(rows)],
            "age": 30 + 20 * kind + 8 * rng.standard_normal(rows),
            "visits": rng.poisson(3 + 5 * kind),
            "town": np.where(rng.random(rows) < 0.2, "Lier", np.where(kind == 1, "Gent", "Aalst")),
            "since": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 1500, rows), unit="D"),
            "churned": np.where(kind == 1, "yes", "no"),
            "pays": 10 + 30 * kind + rng.standard_normal(rows),
        }
    )
    frame.loc[frame.sample(frac=0.1, random_state=1).index, "age"] = np.nan
    frame["churned"] = frame["churned"].where(rng.random(rows) > 0.1)
    flipped = rng.random(rows) < 0.15
    frame.loc[flipped, "churned"] = frame.loc[flipped, "churned"].map({"yes": "no", "no": "yes"})
    return frame


@pytest.fixture
def path(tmp_path: Path) -> str:
    customers().to_csv(tmp_path / "shop.csv", index=False)
    return str(tmp_path / "shop.csv")


def quick(kind: str, root: Path, data: DataConfig, **changes: Any) -> Any:
    """A few steps of a small encoder."""
    config = (RECIPES | CORE)[kind].Config
    evaluate = TabularEvaluateConfig(draws=1, finetune=FineTuneConfig(epochs=2, batch_size=32))
    known: dict[str, Any] = {
        "model": ModelConfig(hidden=8, depth=2),
        "train": TrainConfig(steps=6, seeds=1, batch_size=32, optimizer="adam", lr=1e-3, log_every=3, device="cpu"),
        "evaluate": evaluate,
    }
    if kind == "vime":
        known["semi"] = tabular_vime.SemiConfig(steps=20)
    return config(data=data, root=str(root), **(known | changes))


def own(path: str, **changes: Any) -> DataConfig:
    return DataConfig(**({"path": path, "label": "churned", "id": "customer", "ignore": ["pays"]} | changes))


def scores(run: Path, metric: str) -> dict[tuple[str, str], Record]:
    found = read_results(run / "results.json")
    return {(r.subject, r.protocol): r for r in found if r.metric == metric and r.n_labels == "all"}


@pytest.mark.parametrize("method", list(RECIPES))
def test_a_table_of_ones_own_gives_scores_beside_trees_and_embeddings(
    method: str, path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RECIPES[method].main(quick(method, tmp_path, own(path)))
    found = scores(run, "auc")
    protocols = {"logistic/1", TUNED, BOOSTED} | ({"vime-semi/1"} if method == "vime" else set())
    wanted = {(subject, protocol) for subject in (method, "random-encoder") for protocol in protocols}
    assert set(found) == wanted | {("columns", "logistic/1"), ("boosting", BOOSTED)}
    assert found.keys() == scores(run, "accuracy").keys()
    assert all(0 < record.value <= 1 for record in found.values())
    out = capsys.readouterr().out
    page = (run / "report.html").read_text()
    for text in (out, page):
        assert "Adding the embedding to the columns" in text
        assert "drift: " in text
    frame = pd.read_parquet(run / "embeddings.parquet")
    assert list(frame.columns[:5]) == ["id", "row", "split", "label", "e000"]
    assert sorted(frame["row"]) == list(range(300))
    assert (frame["id"] == "c" + frame["row"].astype(str)).all()
    labels = customers()["churned"].iloc[frame["row"]].to_numpy()
    assert [a if isinstance(a, str) else None for a in frame["label"]] == [
        b if isinstance(b, str) else None for b in labels
    ]
    embedder = mmssl.load(run)
    assert isinstance(embedder, TableEmbedder)
    again = embedder.embed(customers()).loc[frame["id"]]
    np.testing.assert_allclose(again.to_numpy(), frame.filter(regex=r"^e\d").to_numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", list(CORE))
def test_the_core_methods_train_on_rows_and_hide_no_setting(method: str, path: str, tmp_path: Path) -> None:
    name = "FTTransformer" if method == "mae" else "MLP"
    cfg = quick(method, tmp_path, own(path), model=ModelConfig(name, hidden=8, depth=1, heads=2))
    cheap = replace(cfg.evaluate, controls=[], draws=0, finetune=FineTuneConfig("none"))
    run = CORE[method].main(replace(cfg, evaluate=cheap))
    assert set(scores(run, "auc")) == {(method, "logistic/1"), ("random-encoder", "logistic/1")}
    settled: Any = OmegaConf.load(run / "config.yaml")
    assert None not in settled.method.values()
    rows = pd.read_csv(run / "metrics.csv")
    assert np.isfinite(rows["loss"].dropna()).all()
    assert np.isfinite(rows["validation_loss"]).all()


def test_mae_needs_an_encoder_whose_cells_are_tokens(path: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model\.name=MLP needs all of them: take model\.name=FTTransformer"):
        tabular_mae.main(quick("mae", tmp_path, own(path, label=None)))


def test_a_table_that_is_larger_than_memory_is_learnt_from_as_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 4_000)
    customers(900).to_csv(tmp_path / "shop.csv", index=False)
    cfg = quick("scarf", tmp_path, own(str(tmp_path / "shop.csv"), in_memory=False))
    cheap = replace(cfg.evaluate, controls=[], draws=0, finetune=FineTuneConfig("none"))
    run = tabular_scarf.main(replace(cfg, evaluate=cheap))
    assert "streamed: 900 rows in" in capsys.readouterr().out
    assert set(scores(run, "auc")) == {("scarf", "logistic/1"), ("random-encoder", "logistic/1")}
    assert pd.read_csv(run / "metrics.csv")["step"].tolist() == [0, 3, 6]
    embedder: Any = mmssl.load(run)
    monkeypatch.setattr(embedder_module, "LARGEST", 1)
    parts = list(embedder.embed_parts(tmp_path / "shop.csv"))
    assert len(parts) > 5
    whole = pd.concat(parts)
    np.testing.assert_allclose(whole, embedder.embed(tmp_path / "shop.csv"), rtol=1e-5, atol=1e-6)
    assert list(whole.index[:2]) == ["c0", "c1"]


def test_a_run_says_of_new_rows_how_unusual_they_are(path: str, tmp_path: Path) -> None:
    cfg = quick("scarf", tmp_path, own(path, label=None))
    run = tabular_scarf.main(cfg)
    new = customers(40, seed=1)
    new.loc[:4, ["age", "visits"]] = [900.0, 400]
    new.to_csv(tmp_path / "new.csv", index=False)
    out = tmp_path / "scores.csv"
    assert cli(["anomaly", str(run), str(tmp_path / "new.csv"), str(out), "--rate", "0.1"]) == 0
    found = pd.read_csv(out)
    assert list(found.columns) == ["row", "score", "unusual"]
    assert list(found["row"]) == [f"c{i}" for i in range(40)]
    assert found["unusual"].dtype == bool
    assert found["score"][:5].mean() > found["score"][5:].mean()
    assert cli(["anomaly", str(run), str(tmp_path / "new.csv"), str(out), "--rate", "0.001"]) == 1


def test_the_trees_of_the_report_are_those_of_the_control(path: str, tmp_path: Path) -> None:
    cfg = quick("scarf", tmp_path, own(path))
    run = tabular_scarf.main(cfg)
    data = load_data(cfg.data)
    task, rows = task_and_rows(data)
    cardinalities = data.preprocessor.cardinalities
    alone = boosting(rows.x, task.train_y, rows.test, cardinalities)[:, 1]
    embedder = mmssl.load(run)
    assert isinstance(embedder, TableEmbedder)
    train_z, test_z = (embedder.encode(x) for x in (rows.x, rows.test))
    beside = boosting(rows.x, task.train_y, rows.test, cardinalities, train_z=train_z, test_z=test_z)[:, 1]
    found = scores(run, "auc")
    for subject, probability in (("boosting", alone), ("scarf", beside)):
        expected = roc_auc_score(task.test_y == "yes", probability)
        assert found[subject, BOOSTED].value == pytest.approx(expected, abs=1e-6), subject


def test_a_number_to_predict_is_a_regression_throughout(path: str, tmp_path: Path) -> None:
    cfg = quick("vime", tmp_path, own(path, label="pays", ignore=["churned"]))
    run = tabular_vime.main(cfg)
    found = scores(run, "r2")
    assert {protocol for _, protocol in found} == {"ridge/1", TUNED, BOOSTED, "vime-semi/1"}
    assert found["boosting", BOOSTED].value > 0.5
    assert scores(run, "rmse").keys() == found.keys()
    assert scores(run, "accuracy") == {}
    frame = pd.read_parquet(run / "embeddings.parquet")
    np.testing.assert_allclose(frame["target"], customers()["pays"].iloc[frame["row"]])
    assert "Pretraining" in (run / "report.html").read_text() or "No difference" in (run / "report.html").read_text()


def test_more_than_two_classes_are_judged_by_their_accuracy(path: str, tmp_path: Path) -> None:
    run = tabular_scarf.main(quick("scarf", tmp_path, own(path, label="town", ignore=["pays", "churned"])))
    assert scores(run, "auc") == {}
    assert ("scarf", BOOSTED) in scores(run, "accuracy")


def test_without_labels_there_is_a_report_and_no_score(path: str, tmp_path: Path) -> None:
    run = tabular_scarf.main(quick("scarf", tmp_path, own(path, label=None)))
    assert json.loads((run / "results.json").read_text()) == []
    assert "No labels, so no score" in (run / "report.html").read_text()
    assert len(pd.read_parquet(run / "embeddings.parquet")) == 300


@pytest.mark.parametrize("name", ["ResNet", "FTTransformer"])
def test_other_encoders_take_both_methods(name: str, path: str, tmp_path: Path) -> None:
    for method in RECIPES:
        model = ModelConfig(name, hidden=8, depth=1, heads=2, numeric="periodic")
        cfg = quick(method, tmp_path, own(path), model=model)
        cheap = replace(cfg.evaluate, controls=[], draws=0, finetune=FineTuneConfig("none"))
        run = RECIPES[method].main(replace(cfg, evaluate=cheap))
        embedder = mmssl.load(run)
        assert isinstance(embedder, TableEmbedder)
        assert type(embedder.encoder).__name__ == name


def test_the_validation_loss_of_fixed_corruptions_ends_the_training(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([5.0, 4.0, 4.5, 4.0, 4.2, 1.0])
    monkeypatch.setattr(tabular, "fixed_loss", lambda *_, **__: next(losses))
    cfg = quick("scarf", tmp_path, own(path, label=None), stopping=StoppingConfig(patience=3))
    cfg.train.steps, cfg.train.log_every = 20, 2
    run = tabular_scarf.main(cfg)
    rows = pd.read_csv(run / "metrics.csv")
    assert rows["validation_loss"].tolist() == [5.0, 4.0, 4.5, 4.0, 4.2]  # an equal loss is no new minimum
    assert rows["step"].tolist() == [0, 2, 4, 6, 8]


def test_rows_that_are_held_out_are_not_learnt_from(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, torch.Tensor] = {}

    def build(encoder: Any, cfg: Any, rows: torch.Tensor, cardinalities: Sequence[int]) -> torch.nn.Module:
        seen["learnt"] = rows
        return tabular_scarf.build(encoder, cfg, rows, cardinalities)

    def measured(method: torch.nn.Module, x: torch.Tensor, *, batch_size: int) -> float:
        seen["held"] = x
        return 0.0

    monkeypatch.setattr(tabular, "fixed_loss", measured)
    cfg = quick("scarf", tmp_path, own(path, label=None))
    tabular.run_tabular(cfg, replace(tabular_scarf.RECIPE, build=build))
    assert (len(seen["learnt"]), len(seen["held"])) == (270, 30)
    both = torch.cat([seen["learnt"], seen["held"]]).nan_to_num(nan=-9.0)
    x = torch.from_numpy(load_data(cfg.data).train.x).nan_to_num(nan=-9.0)
    assert torch.equal(both.unique(dim=0), x.unique(dim=0))


@pytest.mark.parametrize(("n", "fraction", "held"), [(100, 0.1, 10), (15, 0.1, 0), (100, 0.0, 0)])
def test_held_out_rows_are_a_share_or_none(n: int, fraction: float, held: int) -> None:
    out, rest = hold_out(n, fraction, seed=0)
    assert len(out) == held
    assert sorted([*out.tolist(), *rest.tolist()]) == list(range(n))
    assert not torch.equal(rest, hold_out(n, fraction, seed=1)[1])


def test_resuming_a_run_that_stopped_early_trains_no_further(path: str, tmp_path: Path) -> None:
    cfg = quick("scarf", tmp_path, own(path), stopping=StoppingConfig(patience=1))
    cfg.evaluate = replace(cfg.evaluate, controls=[], draws=0, finetune=FineTuneConfig("none"))
    cfg.train.lr = 0.3  # soon worse
    cfg.train.steps = 100
    run = tabular_scarf.main(cfg)
    steps = pd.read_csv(run / "metrics.csv")["step"]
    assert steps.iloc[-1] < 100
    weights, results = ((run / name).read_bytes() for name in ("encoder.safetensors", "results.json"))
    assert tabular_scarf.main(tabular_scarf.Config(resume=str(run))) == run
    assert (run / "encoder.safetensors").read_bytes() == weights
    assert (run / "results.json").read_bytes() == results
    assert pd.read_csv(run / "metrics.csv")["step"].tolist() == steps.tolist()


def test_test_rows_without_a_label_are_no_test(path: str, tmp_path: Path) -> None:
    customers(50, seed=1).assign(churned=None).to_csv(tmp_path / "new.csv", index=False)
    data = load_data(own(path, test_path=str(tmp_path / "new.csv")))
    with pytest.raises(ValueError, match="none of the 50 test rows has a label"):
        RowScores(data, TabularEvaluateConfig(), method="scarf", title="SCARF")


def test_a_run_is_not_resumed_with_other_data(path: str, tmp_path: Path) -> None:
    cfg = quick("scarf", tmp_path, own(path))
    cfg.evaluate = replace(cfg.evaluate, controls=[], draws=0, finetune=FineTuneConfig("none"))
    run = tabular_scarf.main(cfg)
    frame = pd.read_csv(path)
    changes = {
        r"other column 'age', column 'visits', column 'town', .*label 'churned'\. Put": frame.sample(frac=1.0),
        r"training rows \(220, now \d+\), test rows \(80, now \d+\), column 'age'": frame.iloc[50:],
        r"other column 'visits'\. Put": frame.assign(visits=frame["visits"] * 2),
        r"other column 'town'\. Put": frame.assign(town=frame["town"].replace("Gent", "Ghent")),
    }
    for differs, changed in changes.items():
        changed.to_csv(path, index=False)
        with pytest.raises(ValueError, match=differs):
            tabular_scarf.main(tabular_scarf.Config(resume=str(run)))
    frame.to_csv(path, index=False)
    assert tabular_scarf.main(tabular_scarf.Config(resume=str(run))) == run


def test_a_run_that_kept_nothing_of_its_data_goes_on_with_any(tmp_path: Path) -> None:
    run, fabric = Run.at(tmp_path), setup_fabric(device="cpu")
    session.check_data(run, {}, resumed=False, fabric=fabric)
    session.check_data(run, {"rows": 1}, resumed=True, fabric=fabric)
    session.check_data(run, {"rows": 1, "column 'a'": "af"}, resumed=False, fabric=fabric)
    session.check_data(run, {"rows": 1, "column 'a'": "af"}, resumed=True, fabric=fabric)
    with pytest.raises(ValueError, match=r"other rows \(1, now 2,000\), column 'a', column 'b'\. Put"):
        session.check_data(run, {"rows": 2000, "column 'b'": "af"}, resumed=True, fabric=fabric)


def test_fewer_labels_leave_the_others_unlabelled(path: str) -> None:
    data = load_data(own(path))
    task, rows = task_and_rows(data, labels=40)
    assert len(task.train_y) == len(rows.x) == len(rows.y) == 40
    assert len(rows.unlabelled) == len(data.train)
    assert len(task.test_y) == len(task_and_rows(data)[0].test_y)
    assert not np.array_equal(rows.x, task_and_rows(data, labels=40, seed=1)[1].x)


@pytest.mark.parametrize("labels", [10, 13, 40])
def test_every_class_has_a_label_however_few_there_are(labels: int) -> None:
    data = load_data(DataConfig(name="digits"))
    assert data.train.labels is not None
    known = {row.tobytes(): str(int(label)) for row, label in zip(data.train.x, data.train.labels, strict=True)}
    drawn = [task_and_rows(data, labels=labels, seed=seed) for seed in range(5)]
    for task, rows in drawn:
        assert len(task.train_y) == labels
        assert len(np.unique(rows.x, axis=0)) == labels
        assert len(set(task.train_y)) == rows.n_classes == 10
        assert all(known[row.tobytes()] == label for row, label in zip(rows.x, task.train_y, strict=True))
    assert len({rows.x.tobytes() for _, rows in drawn}) == 5


def test_a_draw_that_has_every_class_is_a_plain_one() -> None:
    data = load_data(DataConfig(name="digits"))
    drawn = np.sort(np.random.default_rng(3).choice(data.train.labelled, 100, replace=False))
    np.testing.assert_array_equal(task_and_rows(data, labels=100, seed=3)[1].x, data.train.x[drawn])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": ModelConfig("Transformer")}, "model.name must be one of MLP, ResNet, FTTransformer"),
        ({"stopping": StoppingConfig(patience=0)}, "stopping.patience must be at least 1"),
        ({"stopping": StoppingConfig(fraction=1.0)}, r"stopping.fraction must lie in \[0, 1\)"),
        ({"evaluate": TabularEvaluateConfig(labels=0)}, "evaluate.labels=0 is too few: 2 labelled rows are needed"),
        ({"evaluate": TabularEvaluateConfig(measure="r2")}, "evaluate.measure=r2 does not fit the label, which is a c"),
        ({"evaluate": TabularEvaluateConfig(measure="f1")}, "evaluate.measure must be auto, accuracy, auc, r2"),
        ({"evaluate": TabularEvaluateConfig(protocols=["knn"])}, "AUC decides, and protocol 'knn'"),
        ({"method": tabular_scarf.MethodConfig(corruption=0.05)}, "changes no cell"),
        ({"evaluate": TabularEvaluateConfig(controls=["catboost"])}, "unknown evaluate.controls"),
    ],
)
def test_impossible_settings_say_what_to_do(changes: dict[str, Any], message: str, path: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        tabular_scarf.main(quick("scarf", tmp_path / "runs", own(path), **changes))


def test_the_paper_s_encoders_are_the_default(path: str) -> None:
    data = load_data(own(path))
    for method, sizes in (("scarf", (256, 4)), ("vime", (data_width(data.preprocessor.cardinalities), 1))):
        cfg = tabular.settle(RECIPES[method].Config(), RECIPES[method].RECIPE, data, labelled=True)
        assert (cfg.model.hidden, cfg.model.depth) == sizes
        assert (cfg.train.optimizer, cfg.train.lr, cfg.train.batch_size) == ("adam", 1e-3, 128)
        assert (cfg.train.steps, cfg.train.seeds, cfg.train.log_every) == (1_000, 3, 25)


def test_the_authors_of_vime_corrupt_the_table_once_for_the_whole_training(path: str, tmp_path: Path) -> None:
    x = torch.from_numpy(load_data(own(path)).train.x)
    cfg = quick("vime", tmp_path, own(path), method=tabular_vime.MethodConfig(reference="authors"))
    pairs = tabular_vime.source(cfg, TableSource(x), 0)
    first, again = pairs.fetch(np.arange(50)), pairs.fetch(np.arange(100))
    torch.testing.assert_close(first[0], x[:50], equal_nan=True)
    torch.testing.assert_close(first[1], again[1][:50], equal_nan=True)
    other = tabular_vime.source(cfg, TableSource(x), 1).fetch(np.arange(50))
    assert not torch.equal(first[1].nan_to_num(), other[1].nan_to_num())
    differs = (again[1] != again[0])[~again[0].isnan()]
    assert 0.1 < float(differs.float().mean()) < 0.35  # three in ten, some of them by what they were
    cheap = replace(cfg.evaluate, controls=[], draws=0, finetune=FineTuneConfig("none"))
    run = tabular_vime.main(replace(cfg, evaluate=cheap))
    assert "reference: authors" in (run / "config.yaml").read_text()
    with pytest.raises(ValueError, match=r"this one is streamed: set data\.in_memory=true"):
        tabular_vime.source(cfg, cast(Any, object()), 0)
    with pytest.raises(ValueError, match=r"method\.reference must be paper or authors, got 'code'"):
        tabular_vime.settle(tabular_vime.MethodConfig(reference="code"), cast(Any, None))


def test_the_encoder_of_vime_does_not_grow_with_categories_without_bound() -> None:
    assert tabular_vime.RECIPE.sizes((0, 1000)) == (1003, 1)
    assert tabular_vime.RECIPE.sizes((1000,) * 6) == (1024, 1)


def data_width(cardinalities: Sequence[int]) -> int:
    """A number and its indicator, or a place for each category and one for MISSING."""
    return sum(2 if k == 0 else k + 1 for k in cardinalities)


# ------------------------------------------------------------------------------------------------ many tables


def comparison(folder: Path, **changes: Any) -> tabular_compare.Config:
    train = replace(train_config(), steps=4, batch_size=32, log_every=2)
    known: dict[str, Any] = {
        "names": ["wine"],
        "seeds": 2,
        "shares": [0.3, 1.0],
        "model": ModelConfig(hidden=8, depth=1),
        "train": train,
        "finetune": FineTuneConfig(epochs=2, batch_size=32),
        "out": str(folder / "out.csv"),
        "work": str(folder / "work"),
    }
    return tabular_compare.Config(**(known | changes))


def test_a_comparison_goes_on_where_it_stopped_and_ends_as_if_it_had_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = tabular_compare.read_rows(tabular_compare.main(comparison(tmp_path / "whole")))
    assert len(whole) == 2 * 2 * 4
    assert {(r.table, r.metric, r.n_test) for r in whole} == {("wine", "accuracy", 53)}
    assert {(r.share, r.n_train) for r in whole} == {(0.3, 38), (1.0, 125)}
    tune: Callable[..., Any] = tabular_compare.fine_tuned
    calls = []

    def three_times(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return tune(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(tabular_compare, "fine_tuned", three_times)
        with pytest.raises(KeyboardInterrupt):
            tabular_compare.main(comparison(tmp_path / "parts"))
    assert len(tabular_compare.read_rows(tmp_path / "parts" / "out.csv")) == 3
    assert tabular_compare.read_rows(tabular_compare.main(comparison(tmp_path / "parts"))) == whole
    capsys.readouterr()
    tabular_compare.main(comparison(tmp_path / "parts"))  # nothing is left to do
    assert "seed" not in capsys.readouterr().out


def test_a_comparison_from_the_smallest_share_has_a_label_of_each_class(tmp_path: Path) -> None:
    cfg = comparison(tmp_path, methods=["boosting", "scratch"], names=["wine", "breast_cancer"], shares=[0.01], seeds=2)
    found = tabular_compare.read_rows(tabular_compare.main(cfg))
    assert {(r.table, r.metric, r.n_train) for r in found} == {("wine", "accuracy", 3), ("breast_cancer", "auc", 4)}
    assert len(found) == 8


def test_encoders_of_a_comparison_with_other_settings_are_not_taken(tmp_path: Path) -> None:
    cfg = comparison(tmp_path, methods=["vime"], seeds=1)
    tabular_compare.main(cfg)
    (tmp_path / "out.csv").unlink()
    others = (
        replace(cfg, rows=50),
        replace(cfg, train=replace(cfg.train, lr=1e-2)),
        replace(cfg, vime=tabular_vime.MethodConfig(rate=0.5)),
    )
    for other in others:
        with pytest.raises(ValueError, match=r"vime holds encoders that were pretrained with other settings"):
            tabular_compare.main(other)
    tabular_compare.main(cfg)  # its own are taken


def test_rows_of_a_comparison_are_bounded_and_the_predictors_of_vime_take_part(tmp_path: Path) -> None:
    cfg = comparison(tmp_path, methods=["vime-semi", "mlp"], seeds=1, rows=60, semi=tabular_vime.SemiConfig(steps=30))
    found = tabular_compare.read_rows(tabular_compare.main(cfg))
    assert {(r.method, r.protocol) for r in found} == {("vime-semi", "vime-semi/1"), ("mlp", "mlp/1")}
    assert {(r.share, r.n_train, r.n_test) for r in found} == {(0.3, 18, 53), (1.0, 60, 53)}
    assert all(0.3 < r.value <= 1 for r in found)


def test_the_win_matrix_counts_tables_by_the_mean_over_seeds() -> None:
    def row(table: str, method: str, value: float, seed: int = 0) -> tabular_compare.Row:
        return tabular_compare.Row(table, 0.1, seed, method, "p/1", "auc", value, 10, 10)

    rows = [row("a", "scarf", 0.9), row("a", "scarf", 0.5, 1), row("a", "scratch", 0.6), row("a", "scratch", 0.7, 1)]
    rows += [row("b", "scarf", 0.8), row("b", "scratch", 0.7), row("c", "scarf", 0.9)]
    text = tabular_compare.win_matrix(rows)
    assert text.splitlines()[0].startswith("10% of the labels")
    cells: Mapping[str, list[str]] = {line.split()[0]: line.split()[1:] for line in text.splitlines()[2:]}
    assert cells == {"scarf": ["–", "2", "of", "2"], "scratch": ["0", "of", "2", "–"]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ["simclr"]}, r"unknown methods \['simclr'\]"),
        ({"shares": [0.0]}, "shares must lie between 0 and 1"),
    ],
)
def test_an_impossible_comparison_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        tabular_compare.main(comparison(tmp_path, **changes))
