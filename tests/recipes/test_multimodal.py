"""The image–text recipes from end to end, on eighteen coloured shapes, and on what cannot work."""

from __future__ import annotations

import importlib
import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning_fabric import Fabric
from omegaconf import OmegaConf
from safetensors.torch import load_file

import mmssl
from mmssl.eval.records import read_results
from mmssl.multimodal.dataset import DataConfig, load_data
from mmssl.multimodal.embedder import PairEmbedder
from mmssl.recipes.multimodal import ModelConfig, PairExperiment, TextConfig, make_tokenizer, settle
from mmssl.recipes.multimodal_scores import PairScores
from mmssl.recipes.session import flat
from mmssl.text.tokenizer import Tokenizer
from mmssl.train.run import read_metrics
from tests.multimodal.samples import write_table
from tests.recipes.test_configs import composed
from tests.recipes.test_vision import change

RECIPES = ("clip", "siglip")
FILES = ("config.yaml", "encoder.safetensors", "encoder.json", "metrics.csv", "results.json", "report.html")
UNSET = {  # a null that stands for "none" or "as it comes", not for a value
    *(f"data.{key}" for key in ("name", "test_path", "root", "image", "caption")),
    *("model.image_run", "model.weights", "text.run", "text.tokenizer", "train.epochs", "train.clip_norm", "resume"),
    *(f"model.{key}" for key in ("patch", "width", "depth", "heads", "positions", "pool", "drop_path")),
}


def recipe(name: str) -> Any:
    return importlib.import_module(f"mmssl.recipes.multimodal_{name}")


def quick(name: str, table: Path, out: Path, **changes: Any) -> Any:
    """A configuration of four steps of the smallest towers; ``__`` in a key stands for a dot."""
    cfg = recipe(name).Config(data=DataConfig(path=str(table), label="kind"), root=str(out))
    cfg.model = ModelConfig(name="resnet", channels=[4, 4, 8, 8], dim=8)
    cfg.text = TextConfig(width=16, depth=1, heads=2)
    usual = {"steps": 4, "batch_size": 8, "log_every": 2, "checkpoint_every": 2, "device": "cpu"}
    change(cfg, {f"train.{key}": value for key, value in usual.items()})
    change(cfg, {key.replace("__", "."): value for key, value in changes.items()})
    return cfg


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("pairs"), 36)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_leaves_a_complete_run_and_an_embedder_of_both_sides(name: str, table: Path, tmp_path: Path) -> None:
    run = recipe(name).main(quick(name, table, tmp_path))
    assert all((run / file).stat().st_size for file in FILES)
    saved = OmegaConf.merge(OmegaConf.structured(recipe(name).Config), OmegaConf.load(run / "config.yaml"))
    settings = flat(OmegaConf.to_object(saved))
    assert {key for key, value in settings.items() if value is None} <= UNSET
    records = read_results(run / "results.json")
    assert {r.subject for r in records} == {name, "random-encoder", "nearest-pairs", "pixels", "colours", "tfidf"}
    protocols = {"text-to-image/1", "image-to-text/1", "zero-shot/1", "logistic-holdout/1"}
    assert {r.protocol for r in records if r.subject == name} == protocols
    assert all("scale" in row and "collapse_loss" in row for row in read_metrics(run / "metrics.csv") if row["step"])
    embedder = mmssl.load(run)
    assert isinstance(embedder, PairEmbedder)
    frame = pd.read_parquet(run / "embeddings.parquet")
    assert {"image", "split", "label", "caption"} < set(frame.reset_index().columns)
    page = (run / "report.html").read_text()
    titles = ("Similarity of images and captions", "Best searches", "Worst searches", "Zero-shot confusion")
    assert all(title in page for title in titles)
    assert "text → image R@10" in page


def test_data_without_labels_has_retrieval_and_a_verdict_alone(table: Path, tmp_path: Path) -> None:
    run = recipe("clip").main(quick("clip", table, tmp_path, data__label=None))
    assert {r.metric.split("@")[0] for r in read_results(run / "results.json")} == {"recall"}
    assert "Zero-shot" not in (run / "report.html").read_text()


def test_an_interrupted_run_goes_on_to_the_same_weights(table: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"evaluate__controls": [], "data__label": None}
    whole = recipe("clip").main(quick("clip", table, tmp_path / "whole", **changes))
    cfg = quick("clip", table, tmp_path / "parts", **changes)
    part = recipe("clip").main(cfg)
    for file in ("results.json", "encoder.safetensors", "encoder.json"):
        (part / file).unlink()
    (last,) = (part / "checkpoint" / "seed-0").glob("*4*.safetensors")
    last.unlink()  # back to step 2
    recipe("clip").main(recipe("clip").Config(resume=str(part)))
    weights = [load_file(run / "encoder.safetensors") for run in (whole, part)]
    assert all(bool((weights[0][key] == weights[1][key]).all()) for key in weights[0])


def test_the_encoder_of_a_vision_run_can_be_the_image_tower_and_stay_as_it_is(table: Path, tmp_path: Path) -> None:
    vision = importlib.import_module("mmssl.recipes.vision_simclr")
    images = vision.Config(root=str(tmp_path))
    change(images, {"data.path": str(table.parent / "photos"), "data.label": "none", "data.size": 16})
    change(images, {"model.channels": [4, 4, 8, 8], "train.steps": 2, "train.batch_size": 8, "train.device": "cpu"})
    first = vision.main(images)
    run = recipe("clip").main(quick("clip", table, tmp_path, model__image_run=str(first), model__frozen=["image"]))
    before, after = (load_file(folder / "encoder.safetensors") for folder in (first, run))
    assert all(bool((after[f"encoders.image.{key}"] == value).all()) for key, value in before.items())
    state = [json.loads((folder / "encoder.json").read_text())["preprocessor"] for folder in (first, run)]
    assert state[0]["mean"] == state[1]["mean"]


def test_a_run_that_is_no_vision_run_is_no_image_tower(table: Path, tmp_path: Path) -> None:
    run = recipe("clip").main(quick("clip", table, tmp_path, evaluate__controls=[], data__label=None))
    with pytest.raises(ValueError, match=r"model\.image_run=.* holds a PairEmbedder, not the encoder of images"):
        recipe("clip").main(quick("clip", table, tmp_path, model__image_run=str(run)))


def test_the_text_tower_of_a_run_can_be_taken_and_stay_as_it_is(table: Path, tmp_path: Path) -> None:
    usual: dict[str, Any] = {"evaluate__controls": [], "data__label": None}
    first = recipe("clip").main(quick("clip", table, tmp_path, text__depth=2, **usual))
    cfg = quick("siglip", table, tmp_path, text__run=str(first), model__frozen=["text"], **usual)
    run = recipe("siglip").main(cfg)
    before, after = (load_file(folder / "encoder.safetensors") for folder in (first, run))
    tower = {key: value for key, value in before.items() if key.startswith("encoders.text.")}
    assert len(tower) > 20
    assert all(torch.equal(after[key], value) for key, value in tower.items())
    assert "depth: 2" in (run / "config.yaml").read_text()
    tokenizers = [json.loads((folder / "encoder.json").read_text())["tokenizer"] for folder in (first, run)]
    assert tokenizers[0] == tokenizers[1]
    with pytest.raises(ValueError, match=r"text\.run=.* brings its tokenizer along: leave out text\.context"):
        recipe("clip").main(quick("clip", table, tmp_path, text__run=str(first), text__context=9, **usual))


def test_captions_longer_than_the_context_are_cut_with_a_count(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe("clip").main(quick("clip", table, tmp_path, text__context=4, evaluate__controls=[], data__label=None))
    printed = capsys.readouterr().out
    assert "4 a caption; " in printed
    assert "training captions are longer and are cut: text.context takes more" in printed


def test_a_tokenizer_of_ones_own_is_taken(table: Path, tmp_path: Path) -> None:
    own = Tokenizer.train(["a red square", "a blue bar", "a green frame"], vocabulary=300)
    own.library.save(str(tmp_path / "tokenizer.json"))
    cfg = quick("clip", table, tmp_path, text__tokenizer=str(tmp_path / "tokenizer.json"), evaluate__controls=[])
    run = recipe("clip").main(cfg)
    loaded = mmssl.load(run)
    assert isinstance(loaded, PairEmbedder)
    assert loaded.tokenizer.vocabulary == own.vocabulary


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train__batch_size": 1}, r"train\.batch_size=1 is one pair at a time, and there is no other to tell it from"),
        ({"train__batch_size": 4, "train__accumulate": 4}, r"in train\.accumulate=4 parts is one pair at a time"),
        ({"method__duplicates": "both"}, r"method\.duplicates must be positive or negative, got 'both'"),
        ({"model__frozen": ["audio"]}, "frozen names towers: image, text, got audio"),
        ({"evaluate__prompts": ["a photo"]}, r"evaluate\.prompts: 'a photo' must hold {} once"),
        ({"evaluate__controls": ["bm25"]}, r"unknown evaluate\.controls \['bm25'\]"),
        ({"views__words": 1.0}, r"views\.words is the largest share"),
        ({"text__tokenizer": "t.json", "text__vocabulary": 300}, r"text\.vocabulary=300 is for a tokenizer that is"),
        ({"text__tokenizer": "nowhere.json"}, r"there is no tokenizer nowhere\.json"),
        ({"model__image_run": "nowhere"}, r"nowhere has no encoder\.json: it is no finished run"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_trained(
    changes: dict[str, Any], message: str, table: Path, tmp_path: Path
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        recipe("clip").main(quick("clip", table, tmp_path, **changes))
    assert not list(tmp_path.iterdir())


def test_duplicates_of_a_caption_are_positives_unless_asked_otherwise(table: Path, tmp_path: Path) -> None:
    losses = []
    for duplicates in ("positive", "negative"):
        # 36 images with 9 captions: nearly every batch of 16 holds some twice
        changes: dict[str, Any] = {"method__duplicates": duplicates, "train__batch_size": 16, "train__lr": 0.0}
        cfg = quick("clip", table, tmp_path, evaluate__controls=[], data__label=None, **changes)
        losses.append([row["loss"] for row in read_metrics(recipe("clip").main(cfg) / "metrics.csv") if row["step"]])
    assert np.all(np.abs(np.subtract(losses[0], losses[1])) > 1e-4)


@pytest.mark.parametrize("experiment", ["emoji", "gpu", "many_gpus"])
@pytest.mark.parametrize("name", RECIPES)
def test_the_parts_of_an_experiment_fit_together(name: str, experiment: str, table: Path) -> None:
    cfg = composed(f"multimodal_{name}", experiment)
    data = load_data(replace(cfg.data, name=None, path=str(table)))
    tokenizer = make_tokenizer(cfg.text, data)
    kind = recipe(name).RECIPE
    with torch.device("meta"):  # shapes without values
        cfg = settle(cfg, kind, data, tokenizer)
        scores = PairScores(data, tokenizer, cfg.evaluate, method=name, title=name)
        towers = PairExperiment(cfg, kind, data, scores, Fabric(accelerator="cpu"), tokenizer, None).make_encoder()
        size = cfg.data.size
        assert towers(torch.zeros(2, 3, size, size)).shape == (2, cfg.model.dim)
        tokens = torch.ones(2, tokenizer.context, dtype=torch.long)
        assert towers.embed("text", tokens).shape == (2, cfg.model.dim)


def test_the_bias_of_a_sigmoid_loss_follows_the_pairs_that_it_sees_at_a_time(table: Path, tmp_path: Path) -> None:
    cfg = quick("siglip", table, tmp_path, train__batch_size=16, train__accumulate=2)
    data = load_data(cfg.data)
    settled = settle(cfg, recipe("siglip").RECIPE, data, make_tokenizer(cfg.text, data))
    assert settled.method.bias == pytest.approx(-np.log(7))  # one pair in eight


@pytest.mark.slow
def test_shapes_and_colours_are_learnt(table: Path, tmp_path: Path) -> None:
    cfg = quick("clip", table, tmp_path, train__steps=150, train__batch_size=28, train__lr=3e-3, views__words=0.3)
    change(cfg, {"model.channels": [16, 16, 32, 32], "views.jitter_p": 0.0, "views.crop": [0.9, 1.0]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = recipe("clip").main(cfg)
    value = {(r.subject, r.protocol, r.metric): r.value for r in read_results(run / "results.json")}
    assert value["clip", "zero-shot/1", "accuracy"] > 0.6
    assert value["clip", "text-to-image/1", "recall@1"] > 0.3
