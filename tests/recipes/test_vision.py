"""The vision recipes from end to end, on a folder of sixty small pictures, and on odd images of one's own."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn

import mmssl
from mmssl.__main__ import main as cli
from mmssl.eval.records import read_results
from mmssl.eval.report import Report
from mmssl.recipes.command import unknown_key
from mmssl.recipes.session import command
from mmssl.recipes.vision import ModelConfig, VisionEvaluateConfig
from mmssl.train.pretrain import pretrain
from mmssl.train.run import read_metrics
from mmssl.vision.dataset import DataConfig
from mmssl.vision.embedder import ImageEmbedder
from tests.vision.samples import encoded, picture, write

RECIPES = ("simclr", "moco", "byol", "simsiam", "barlow_twins", "vicreg", "swav", "dino", "mae")
TOKENLESS = ("mae", "resnet")
FILES = (
    "config.yaml",
    "encoder.safetensors",
    "encoder.json",
    "metrics.csv",
    "results.json",
    "report.html",
    "embeddings.parquet",
)
UNSET = {  # a null that stands for "none" or "as it comes", not for a value
    *(f"data.{key}" for key in ("name", "root", "test_path", "label", "id", "group", "image", "layout")),
    *("model.weights", "views.kernel", "train.epochs", "train.clip_norm", "resume"),
}
OF_RESNETS, OF_TRANSFORMERS = ("layers", "channels"), ("patch", "width", "depth", "heads", "positions", "pool")


def recipe(name: str) -> Any:
    return importlib.import_module(f"mmssl.recipes.vision_{name}")


def quick(name: str, path: Path, out: Path, *, model: str | None = None, **train: Any) -> Any:
    """A configuration of four steps of the smallest encoder."""
    cfg = recipe(name).Config(data=DataConfig(path=str(path)), root=str(out))
    kind = model or cfg.model.name
    cfg.model = ModelConfig(name="resnet", channels=[4, 4, 8, 8])
    if kind == "vit":
        cfg.model = ModelConfig(name="vit", patch=4, width=16, depth=2, heads=2)
    usual: dict[str, Any] = {"steps": 4, "batch_size": 16, "log_every": 2, "checkpoint_every": 2, "device": "cpu"}
    for key, value in (usual | train).items():
        setattr(cfg.train, key, value)
    cfg.evaluate = VisionEvaluateConfig(protocols=["knn"], draws=0)
    return cfg


def run(cfg: Any) -> Path:
    return sys.modules[type(cfg).__module__].main(cfg)


def change(cfg: Any, values: dict[str, Any]) -> Any:
    """``{"train.lr": 0.1}`` in place."""
    for key, value in values.items():
        section, _, field = key.partition(".")
        setattr(*((getattr(cfg, section), field) if field else (cfg, section)), value)
    return cfg


def tinted(seed: int, kind: int) -> npt.NDArray[np.uint8]:
    """A picture ``(12, 12, 3)`` of one of two kinds: reddish or bluish."""
    values = picture(seed).astype(np.float32)
    values[..., 2 * kind] = 128 + values[..., 2 * kind] / 2
    return values.astype(np.uint8)


@pytest.fixture
def drawn() -> None:
    """Asks for a real report."""


@pytest.fixture(autouse=True)
def _only_asked_for_reports(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The charts of a report take longer than all else in so small a run."""

    def write_title(path: Path, report: Report) -> None:
        path.write_text(f"<h1>{report.title}</h1>")

    if "drawn" not in request.fixturenames:
        monkeypatch.setattr("mmssl.recipes.results.write_report", write_title)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty pictures in two folders."""
    root = tmp_path_factory.mktemp("photos")
    for i in range(60):
        write(root / ("red", "blue")[i % 2] / f"{i:02d}.png", encoded(tinted(i, i % 2)))
    return root


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same pictures without labels."""
    root = tmp_path_factory.mktemp("flat")
    for i in range(60):
        write(root / f"{i:02d}.png", encoded(tinted(i, i % 2)))
    return root


@pytest.fixture(scope="module")
def simclr(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(quick("simclr", photos, tmp_path_factory.mktemp("simclr")))


def nulls(tree: Any, prefix: str = "") -> set[str]:
    """Dotted keys of what is None."""
    if not isinstance(tree, dict):
        return {prefix} if tree is None else set()
    return {key for name, node in tree.items() for key in nulls(node, f"{prefix}.{name}" if prefix else name)}


def saved_config(folder: Path) -> dict[str, Any]:
    from omegaconf import OmegaConf

    tree = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    assert isinstance(tree, dict)
    return {str(key): value for key, value in tree.items()}


# ----------------------------------------------------------------------------------------------- every recipe


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_leaves_a_complete_run_on_a_folder_of_images(name: str, photos: Path, tmp_path: Path) -> None:
    folder = run(quick(name, photos, tmp_path))
    assert [file for file in FILES if (folder / file).stat().st_size < 100] == []
    assert list((folder / "checkpoint" / "seed-0").glob("step-*.safetensors"))
    assert not [file for file in folder.rglob("*") if file.suffix in (".pkl", ".pt", ".ckpt", ".part")]
    rows = read_metrics(folder / "metrics.csv")
    assert [row["step"] for row in rows] == [0, 2, 4]
    assert all(np.isfinite(row["loss"]) for row in rows[1:])
    assert {record.subject for record in read_results(folder / "results.json")} == {
        name.replace("_", "-"),
        "random-encoder",
        "pixels",
    }
    page = (folder / "report.html").read_text()
    assert not re.search(r"(src|href)=[\"'](https?:)?//|@import|<script", page)
    headings = re.findall("<h2>(.*?)</h2>", page)
    assert "Views" in headings
    assert ("Reconstructions" in headings) == (name == "mae")


@pytest.mark.parametrize(
    ("name", "model"), [(name, model) for name in RECIPES for model in ("resnet", "vit") if (name, model) != TOKENLESS]
)
def test_the_saved_configuration_hides_no_value(
    name: str, model: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(Exception):
        pass

    def stop(*_: Any, **__: Any) -> None:
        raise Stopped

    monkeypatch.setattr("mmssl.recipes.experiment.pretrain_and_score", stop)
    cfg = recipe(name).Config(data=DataConfig(path=str(photos)), root=str(tmp_path))
    cfg.model.name, cfg.train.device = model, "cpu"
    with pytest.raises(Stopped):
        run(cfg)
    (folder,) = (tmp_path / f"vision_{name}").iterdir()
    others = (*OF_TRANSFORMERS, "drop_path") if model == "resnet" else OF_RESNETS
    allowed = UNSET | {f"model.{key}" for key in others}
    assert nulls(saved_config(folder)) <= allowed


def test_the_saved_configuration_of_a_library_s_model_leaves_its_sizes_to_the_library(
    photos: Path, tmp_path: Path
) -> None:
    cfg = quick("simclr", photos, tmp_path, steps=1)
    cfg.model = ModelConfig(name="torchvision:shufflenet_v2_x0_5")
    cfg.data.size = 32
    saved = saved_config(run(cfg))
    assert saved["model"]["stem"] == "standard"
    assert {key for key, value in saved["model"].items() if value is None} >= {*OF_RESNETS, *OF_TRANSFORMERS}


@pytest.mark.usefixtures("drawn")
def test_dino_shows_where_a_transformer_looks(photos: Path, tmp_path: Path) -> None:
    cfg = quick("dino", photos, tmp_path, model="vit")
    cfg.data.test_fraction = 0.1  # fewer test images than the report would like to show
    page = (run(cfg) / "report.html").read_text()
    assert "<th>head 2</th>" in page


# ----------------------------------------------------------------------------------------------- going on


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("swav", {"method.queue": 32, "method.queue_from": 0.0}),
        ("dino", {"views.local": 2}),
        ("moco", {}),
    ],
)
def test_an_interrupted_run_goes_on_to_the_same_bits(
    name: str, changes: dict[str, Any], flat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def configured(out: Path) -> Any:
        return change(quick(name, flat, out, steps=6), changes)

    whole = run(configured(tmp_path / "whole"))

    def interrupted(method: nn.Module, *arguments: Any, **options: Any) -> Any:
        """As Ctrl-C in the fifth step: the last checkpoint is that of the fourth."""
        after_step, steps = method.after_step, iter(range(1, 7))

        def counted(*inputs: Any) -> None:
            if next(steps) == 5:
                raise KeyboardInterrupt
            after_step(*inputs)  # type: ignore[operator]

        method.after_step = counted  # type: ignore[assignment]
        return pretrain(method, *arguments, **options)

    monkeypatch.setattr("mmssl.recipes.training.pretrain", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(configured(tmp_path / "parts"))
    monkeypatch.setattr("mmssl.recipes.training.pretrain", pretrain)
    (stopped,) = (tmp_path / "parts" / f"vision_{name}").iterdir()
    assert [file.name for file in (stopped / "checkpoint" / "seed-0").iterdir()][-1].endswith("4.safetensors")
    assert run(recipe(name).Config(resume=str(stopped))) == stopped
    assert tensors(whole, "encoder.safetensors") == tensors(stopped, "encoder.safetensors")
    last = "checkpoint/seed-0/step-0000000006.safetensors"
    assert tensors(whole, last) == tensors(stopped, last)
    assert (whole / "metrics.csv").read_text() == (stopped / "metrics.csv").read_text()


def tensors(folder: Path, file: str) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in load_file(folder / file).items()}


@pytest.mark.parametrize("other", ["moco", "vicreg", "mae"])
def test_the_run_of_another_method_is_not_gone_on_with(other: str, simclr: Path) -> None:
    with pytest.raises(ValueError, match=r"run of another recipe \(vision_simclr, by its folder\).* method\."):
        run(recipe(other).Config(resume=str(simclr)))


def test_a_finished_run_is_evaluated_again_with_its_own_weights(simclr: Path) -> None:
    weights, config = (simclr / "encoder.safetensors").read_bytes(), (simclr / "config.yaml").read_text()
    assert run(recipe("simclr").Config(resume=str(simclr))) == simclr
    assert (simclr / "encoder.safetensors").read_bytes() == weights
    assert (simclr / "config.yaml").read_text() == config


# ----------------------------------------------------------------------------------------------- what comes out


def test_a_loaded_run_embeds_its_images_as_the_run_did(simclr: Path, photos: Path) -> None:
    frame = mmssl.load(simclr).embed(photos)
    written = pd.read_parquet(simclr / "embeddings.parquet").set_index("image")
    assert written["split"].value_counts().to_dict() == {"train": 42, "test": 18}
    features = written.filter(regex=r"^e\d+$").loc[frame.index]
    np.testing.assert_allclose(frame.to_numpy(), features.to_numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("suffix", ["parquet", "csv", "feather"])
def test_the_command_line_embeds_a_folder(
    suffix: str, simclr: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / f"out.{suffix}"
    assert cli(["embed", str(simclr), str(photos), str(out)]) == 0
    assert "60 embeddings of 8 numbers" in capsys.readouterr().out
    read: Any = getattr(pd, f"read_{suffix}")
    table = read(out).set_index("image")
    assert sorted(table.index)[0] == "blue/01.png"
    directly = mmssl.load(simclr).embed(photos)
    np.testing.assert_allclose(table.loc[directly.index].to_numpy(), directly.to_numpy(), rtol=1e-5)


def test_images_of_other_channels_are_refused_when_embedding(
    simclr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "five.npy", np.zeros((3, 5, 12, 12), np.uint8))
    assert cli(["embed", str(simclr), str(tmp_path / "five.npy"), str(tmp_path / "out.csv")]) == 1
    assert "5 channels" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "model", "plain"),
    [
        ("simclr", "torchvision:shufflenet_v2_x0_5", lambda: torchvision.models.shufflenet_v2_x0_5(weights=None)),
        ("mae", "vit", lambda: timm.models.VisionTransformer(32, 8, num_classes=0, embed_dim=16, depth=2, num_heads=2)),
    ],
)
def test_the_encoder_goes_back_into_its_library(
    name: str, model: str, plain: Any, photos: Path, tmp_path: Path
) -> None:
    cfg = quick(name, photos, tmp_path, steps=1, model="vit" if name == "mae" else None)
    cfg.data.size = 32
    cfg.model.name = model
    cfg.model.channels = None
    if name == "mae":
        cfg.model.patch = 8
    embedder = mmssl.load(run(cfg))
    assert isinstance(embedder, ImageEmbedder)
    library = plain()
    if hasattr(library, "fc"):
        library.fc = nn.Identity()
    library.load_state_dict(embedder.encoder.library_state_dict(), strict=True)  # type: ignore[operator]
    x = torch.randn(2, 3, 32, 32)
    embedder.encoder.pool = "cls"  # type: ignore[assignment]  # as timm's model does
    with torch.no_grad():
        torch.testing.assert_close(embedder.encoder(x), library.eval()(x))


# ----------------------------------------------------------------------------------------------- odd images


@pytest.mark.usefixtures("drawn")
def test_without_labels_there_is_a_report_and_no_score(
    flat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(quick("simclr", flat, tmp_path))
    assert json.loads((folder / "results.json").read_text()) == []
    page = (folder / "report.html").read_text()
    assert "No labels, so no score" in page
    assert "Nearest neighbours" in page
    assert "No labels, so no score" in capsys.readouterr().out


def test_grey_images_are_jittered_and_multi_cropped(tmp_path: Path) -> None:
    for i in range(20):
        write(tmp_path / "grey" / f"{i}.png", encoded(picture(i, channels=1)))
    cfg = quick("swav", tmp_path / "grey", tmp_path)
    cfg.views.local = 1
    saved = saved_config(run(cfg))
    assert (saved["data"]["channels"], saved["views"]["local_size"], saved["train"]["workers"]) == (1, 6, 0)


def test_arrays_of_five_channels_are_learnt_from_and_embedded(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(300, 40, (24, 5, 12, 12)).astype(np.float32)
    np.save(tmp_path / "five.npy", x)
    folder = run(quick("byol", tmp_path / "five.npy", tmp_path))
    assert saved_config(folder)["data"]["channels"] == 5
    assert mmssl.load(folder).embed(x[:3]).shape == (3, 8)
    assert run(recipe("byol").Config(resume=str(folder))) == folder  # five channels are fine when asked for, too


def test_arrays_with_a_few_images_of_nan_are_learnt_from_without_these(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(30, 12, 12)).astype(np.float32)
    x[7, 3, 3] = np.nan
    np.save(tmp_path / "x.npy", x)
    cfg = quick("barlow_twins", tmp_path / "x.npy", tmp_path)
    with pytest.raises(ValueError, match=r"1 of 30 images.*max_bad=0.01.*7 \(it holds 1 values that are NaN"):
        run(cfg)
    cfg.data.max_bad = 0.1
    with pytest.warns(UserWarning, match="1 of 30 images cannot be decoded and are left out"):
        folder = run(cfg)
    assert len(pd.read_parquet(folder / "embeddings.parquet")) == 29


def test_images_smaller_than_the_crop_are_enlarged(photos: Path, tmp_path: Path) -> None:
    cfg = quick("moco", photos, tmp_path, steps=1)
    cfg.data.size = 32
    folder = run(cfg)
    assert json.loads((folder / "encoder.json").read_text())["preprocessor"]["size"] == 32


def test_a_damaged_photograph_and_different_sizes_are_named_and_lived_with(tmp_path: Path) -> None:
    for i in range(12):
        shape = {"height": 14 + i, "width": 30 - i}
        write(tmp_path / "photos" / f"{i}.jpg", encoded(picture(i, **shape), "JPEG"))
    broken = tmp_path / "photos" / "3.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    cfg = quick("vicreg", tmp_path / "photos", tmp_path, steps=1, batch_size=4)
    cfg.data.max_bad = 0.1
    with pytest.warns(UserWarning, match=r"3\.jpg"):
        folder = run(cfg)
    assert len(pd.read_parquet(folder / "embeddings.parquet")) == 11


def test_encoded_images_in_a_table_are_named_by_their_id(tmp_path: Path) -> None:
    rows = [{"photo": encoded(tinted(i, i % 2)), "key": f"p{i}", "label": "ab"[i % 2]} for i in range(20)]
    pd.DataFrame(rows).to_parquet(tmp_path / "photos.parquet")
    cfg = quick("simsiam", tmp_path / "photos.parquet", tmp_path, steps=1, batch_size=8)
    cfg.data.id = "key"
    folder = run(cfg)
    written = pd.read_parquet(folder / "embeddings.parquet")
    assert sorted(written["image"]) == sorted(f"p{i}" for i in range(20))
    assert mmssl.load(folder).embed(tmp_path / "photos.parquet").index.tolist()[:2] == ["p0", "p1"]


def test_images_that_are_decoded_as_they_are_needed_come_from_workers(flat: Path, tmp_path: Path) -> None:
    cfg = quick("simclr", flat, tmp_path, steps=2, workers=1)
    cfg.data.cache = 0.0
    folder = run(cfg)
    assert saved_config(folder)["train"]["workers"] == 1
    cached = run(quick("simclr", flat, tmp_path, steps=2))
    assert tensors(folder, "encoder.safetensors") == tensors(cached, "encoder.safetensors")


# ----------------------------------------------------------------------------------------------- odd settings


def test_a_batch_larger_than_the_data_is_all_of_it(flat: Path, tmp_path: Path) -> None:
    saved = saved_config(run(quick("simclr", flat, tmp_path, steps=2, batch_size=256)))
    assert saved["train"]["batch_size"] == 60
    assert saved["train"]["lr"] == pytest.approx(1e-3 * 60 / 256)


def test_accumulated_batches_make_up_one_step(flat: Path, tmp_path: Path) -> None:
    cfg = quick("swav", flat, tmp_path, batch_size=59, accumulate=2)
    with pytest.raises(ValueError, match=r"train\.batch_size=59 is not a multiple of train.accumulate=2"):
        run(cfg)
    cfg.train.batch_size = 61
    folder = run(cfg)
    assert saved_config(folder)["train"]["batch_size"] == 60
    assert read_metrics(folder / "metrics.csv")[-1]["skipped"] == 0


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("simclr", {"train.batch_size": 1}, "train.batch_size=1 is one image at a time.*at least 2"),
    ("byol", {"train.batch_size": 4, "train.accumulate": 4}, "train.batch_size=4 in train.accumulate=4 parts"),
    ("simclr", {"method.temperature": 0.0}, r"temperature must be positive, got 0\.0"),
    ("moco", {"method.temperature": -1.0}, r"temperature must be positive, got -1\.0"),
    ("moco", {"method.momentum": 1.5}, r"momentum must lie in \[0, 1\], got 1\.5"),
    ("byol", {"method.momentum": -0.1}, r"momentum must lie in \[0, 1\], got -0\.1"),
    ("dino", {"method.momentum": 2.0}, r"momentum must lie in \[0, 1\], got 2\.0"),
    ("dino", {"method.centring": "centering"}, "centring must be 'centre' or 'sinkhorn'"),
    ("swav", {"views.blur": [0.5]}, "views.blur must be three probabilities"),
    ("simclr", {"views.flip": 2.0}, "flip is a probability"),
    ("simclr", {"train.schedule": "linear"}, "train.schedule must be constant or cosine"),
    ("simclr", {"evaluate.strategy": "half"}, "strategy must be one of .*'partial'"),
    ("simclr", {"evaluate.controls": ["pixel"]}, r"unknown evaluate.controls \['pixel'\]"),
    ("simclr", {"model.name": "resnet81"}, "did you mean resnet18"),
    ("simclr", {"model.patch": 4}, r"model.name=resnet does not take all of model.layers, model.channels, model.patch"),
    ("simclr", {"model": ModelConfig(name="timm:densenet121")}, "SimCLR with model.name=timm:densenet121 does not run"),
    ("mae", {"model": ModelConfig(name="resnet")}, "model.name=resnet is no vision transformer, .* model.name=vit"),
    ("mae", {"model.patch": 5}, "size must be a multiple of patch"),
    ("mae", {"method.mask_ratio": 1.0}, "mask"),
]


@pytest.mark.parametrize(("name", "changes", "message"), BAD)
def test_a_bad_setting_is_refused_before_a_run_folder_exists(
    name: str, changes: dict[str, Any], message: str, photos: Path, tmp_path: Path
) -> None:
    cfg = quick(name, photos, tmp_path / "runs")
    change(cfg, changes)
    with pytest.raises(ValueError, match=message):
        run(cfg)
    assert not (tmp_path / "runs").exists()


def test_small_views_must_fit_the_patches_of_a_transformer_and_do_so_by_default(photos: Path, tmp_path: Path) -> None:
    cfg = quick("dino", photos, tmp_path, model="vit", steps=1)
    cfg.views.local = 1
    assert saved_config(run(cfg))["views"]["local_size"] == 4  # half of 12 is no multiple of 4
    cfg.views.local_size = 6
    with pytest.raises(ValueError, match=r"views\.local_size=6 is not a multiple of the encoder's patch of 4 pixels"):
        run(cfg)


@pytest.mark.parametrize("temperature", [0.01, 1.5])
def test_an_unusual_temperature_draws_a_warning_that_says_why(temperature: float, flat: Path, tmp_path: Path) -> None:
    cfg = quick("simclr", flat, tmp_path, steps=1)
    cfg.method.temperature = temperature
    with pytest.warns(UserWarning, match=rf"temperature={temperature}: (below|above).* the softmax is so"):
        run(cfg)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("method.temprature=0.1", "unknown key"),
        ("views.crops=[0.1,1]", "did you mean views.crop?"),
        ("model.name=vit", ""),
    ],
)
def test_a_misspelt_key_is_named(name: str, argument: str, message: str) -> None:
    problem = unknown_key(argument, recipe(name).Config)
    assert (message in problem) if message else problem == ""


@pytest.mark.usefixtures("drawn")
def test_partial_fine_tuning_is_scored_beside_the_frozen_features(photos: Path, tmp_path: Path) -> None:
    cfg = quick("simclr", photos, tmp_path, steps=1)
    cfg.evaluate.strategy = "partial"
    cfg.evaluate.controls = []
    folder = run(cfg)
    records = read_results(folder / "results.json")
    tuned = {record.subject for record in records if record.protocol.startswith("finetune-partial")}
    assert tuned == {"simclr", "random-encoder"}
    assert "Fine-tuning" in (folder / "report.html").read_text() or "fine-tun" in (folder / "report.html").read_text()


def test_half_precision_trains(flat: Path, tmp_path: Path) -> None:
    rows = read_metrics(run(quick("dino", flat, tmp_path, model="vit", precision="bf16-mixed")) / "metrics.csv")
    assert all(np.isfinite(row["loss"]) for row in rows[1:])
    assert rows[-1]["skipped"] == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch looks, we do not
@pytest.mark.parametrize(("name", "model"), [("simclr", "resnet"), ("dino", "vit"), ("mae", "vit")])
def test_a_compiled_encoder_trains_to_the_same_loss(
    name: str, model: str, flat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = read_metrics(run(quick(name, flat, tmp_path, model=model, steps=2)) / "metrics.csv")
    traced, compile = [], nn.Module.compile

    def backend(graph: Any, inputs: list[Tensor]) -> Any:
        traced.append(graph)
        return graph.forward

    monkeypatch.setattr(nn.Module, "compile", lambda module: compile(module, backend=backend))  # in no time
    compiled = read_metrics(run(quick(name, flat, tmp_path, model=model, steps=2, compile=True)) / "metrics.csv")
    assert traced
    assert compiled[-1]["loss"] == pytest.approx(plain[-1]["loss"], rel=1e-4)


@pytest.mark.dist
@pytest.mark.slow
def test_two_processes_have_the_loss_curve_of_one(photos: Path, tmp_path: Path) -> None:
    """With views that draw nothing, since processes draw apart, and a method without batch normalisation."""
    cfg = quick("moco", photos, tmp_path, model="vit", log_every=1, lr=1e-2)
    still = {"views.crop": [1.0, 1.0], "views.flip": 0.0, "views.jitter_p": 0.0, "views.grayscale": 0.0}
    alone = read_metrics(run(change(cfg, still | {"views.blur": [0.0] * 3})) / "metrics.csv")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launcher, "-m", "mmssl.recipes.vision_moco", *settings(cfg), f"root={tmp_path / 'two'}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
    )
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "two" / "vision_moco").iterdir()
    assert [file for file in FILES if not (folder / file).exists()] == []
    two = read_metrics(folder / "metrics.csv")
    assert [row["step"] for row in two] == [0, 1, 2, 3, 4]
    losses = [row["loss"] for row in alone[1:]]
    assert np.ptp(losses) > 0.01  # there is a curve to compare
    assert [row["loss"] for row in two[1:]] == pytest.approx(losses, rel=1e-4)


def settings(cfg: Any) -> list[str]:
    """The configuration as a user would type it."""
    return shlex.split(command(cfg, "vision_moco"))[3:]
