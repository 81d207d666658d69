"""The recipes for audio from end to end, on small recordings; and what they say of data that does not fit."""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

import mmssl
from mmssl.__main__ import main as command
from mmssl.audio.clips import ClipSet
from mmssl.audio.dataset import AudioData, DataConfig
from mmssl.audio.encoder import MelConv, MelTransformer
from mmssl.audio.preprocess import MelPreprocessor
from mmssl.eval.records import read_results
from mmssl.recipes import audio_byol, audio_mae, audio_simclr
from mmssl.recipes.audio import ModelConfig, ViewsConfig, make_views, view_pictures
from mmssl.recipes.audio_scores import AudioEvaluateConfig
from mmssl.recipes.training import TrainConfig
from tests.audio.recordings import tone, write

SHARED = Path(os.environ.get("MMSSL_DATA", Path(__file__).parents[3] / "shared" / "data"))
FSDD = SHARED / "audio" / "fsdd"
CONV = ModelConfig(widths=[4, 8], dim=12, mels=24)
RECIPES: dict[str, tuple[Any, ModelConfig]] = {
    "byol": (audio_byol, CONV),
    "simclr": (audio_simclr, CONV),
    "mae": (audio_mae, ModelConfig("MelTransformer", mels=24, patch=[4, 8], dim=16, depth=1, heads=2)),
}


def quick(name: str, root: Path, data: DataConfig, **changes: Any) -> Any:
    """A few steps of a small encoder."""
    module, model = RECIPES[name]
    train = TrainConfig(steps=4, seeds=1, batch_size=8, workers=0, log_every=2, device="cpu")
    known = {"model": model, "train": train, "evaluate": AudioEvaluateConfig(draws=1)}
    return module.Config(data=data, root=str(root / "runs"), **(known | changes))


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """24 clips of three speakers: rising and falling tones."""
    rng = np.random.default_rng(0)
    for i in range(24):
        word = ("rise", "fall")[i % 2]
        sweep = np.concatenate([tone(0.1, pitch=float(f)) for f in (500, 1500)][:: 1 - 2 * (i % 2)])
        noisy = sweep + 0.01 * rng.standard_normal(len(sweep))
        write(tmp_path / "clips" / f"{word}_{'abc'[i // 8]}_{i}.wav", noisy[: 1600 - 20 * i])
    return tmp_path / "clips"


def words(recordings: Path, **changes: Any) -> DataConfig:
    pattern = "(?P<label>rise|fall)_(?P<group>[a-z])_"
    usual: dict[str, Any] = {"pattern": pattern, "crop": 0.15}
    return DataConfig(path=str(recordings), **(usual | changes))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_runs_from_recordings_to_a_report(name: str, recordings: Path, tmp_path: Path) -> None:
    module, _ = RECIPES[name]
    run = module.main(quick(name, tmp_path, words(recordings)))
    subjects = {record.subject for record in read_results(run / "results.json")}
    assert subjects == {name, "random-encoder", "mel", "mfcc"}
    report = (run / "report.html").read_text()
    assert ("Reconstructions" if name == "mae" else "Views") in report
    assert "data:image/png" in report
    frame = pd.read_parquet(run / "embeddings.parquet")
    assert set(frame["group"]) == set("abc")
    assert len(frame) == 24
    embedder: Any = mmssl.load(run)
    new = embedder.embed(recordings)
    values = frame.set_index("clip").filter(regex=r"^e\d+$").loc[new.index]
    np.testing.assert_allclose(new, values, rtol=1e-4, atol=1e-4)


def test_embed_writes_a_table_of_a_folder(recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = audio_byol.main(quick("byol", tmp_path, words(recordings)))
    capsys.readouterr()
    assert command(["embed", str(run), str(recordings), str(tmp_path / "out.csv")]) == 0
    assert "24 embeddings of 12 numbers" in capsys.readouterr().out
    assert pd.read_csv(tmp_path / "out.csv").shape == (24, 13)


def test_without_labels_nothing_is_scored(recordings: Path, tmp_path: Path) -> None:
    run = audio_simclr.main(quick("simclr", tmp_path, words(recordings, pattern=None)))
    assert read_results(run / "results.json") == []


def test_fine_tuning_is_scored_beside_the_probe(recordings: Path, tmp_path: Path) -> None:
    evaluate = AudioEvaluateConfig(draws=0, controls=[], strategy="linear")
    run = audio_byol.main(quick("byol", tmp_path, words(recordings), evaluate=evaluate))
    assert "finetune-linear/1" in {record.protocol for record in read_results(run / "results.json")}


def test_a_run_without_memory_for_its_clips_gives_the_same_numbers(recordings: Path, tmp_path: Path) -> None:
    files = sorted(recordings.glob("*.wav"))
    for file in files:  # without a mean of their own, as whole clips are not at hand when a crop is read
        samples, rate = soundfile.read(file)
        soundfile.write(file, np.concatenate([samples, -samples]), rate, subtype="FLOAT")

    def loss(cache: float, workers: int, root: str) -> list[float]:
        train = TrainConfig(steps=4, seeds=1, batch_size=8, workers=workers, log_every=1, device="cpu")
        cfg = quick("simclr", tmp_path / root, words(recordings, cache=cache, crop=1.0), train=train)
        run = audio_simclr.main(cfg)
        return pd.read_csv(run / "metrics.csv")["loss"].tolist()

    np.testing.assert_allclose(loss(2.0, 0, "here"), loss(1e-9, 2, "there"), rtol=1e-3)


@pytest.mark.parametrize(
    ("recipe", "changes", "message"),
    [
        ("byol", {"model": ModelConfig("VGG")}, "model.name must be one of MelConv, MelTransformer, .* got 'VGG'"),
        ("byol", {"model": ModelConfig("MelConv", depth=3)}, "model.name=MelConv does not take all of depth"),
        ("mae", {"model": CONV}, "model.name=MelConv has no patches to mask: set model.name=MelTransformer"),
        ("byol", {"views": ViewsConfig(mixup=3.0)}, r"alpha must lie in \[0, 1\], got 3.0"),
        ("byol", {"evaluate": AudioEvaluateConfig(controls=["pixels"])}, r"unknown evaluate.controls \['pixels'\]"),
    ],
)
def test_impossible_settings_are_refused_before_training(
    recipe: str, changes: dict[str, Any], message: str, recordings: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        RECIPES[recipe][0].main(quick(recipe, tmp_path, words(recordings), **changes))
    assert not (tmp_path / "runs").exists()


def test_views_that_are_switched_off_are_left_out() -> None:
    off = ViewsConfig(gain=0, noise_p=0, speed=0, mixup=0, crop_time=[1, 1], crop_frequency=[1, 1])
    views = make_views(off, MelPreprocessor(8000))
    assert views.wave.steps == views.mel.steps == ()
    every = ViewsConfig(polarity=0.5, shift=0.1, pitch=1, reverb=0.3, time_mask=0.1, frequency_mask=0.1)
    views = make_views(every, MelPreprocessor(8000))
    assert (len(views.wave.steps), len(views.mel.steps)) == (7, 3)


def test_long_recordings_are_shown_by_their_first_seconds() -> None:
    clips = ClipSet.of([tone(10.0, pitch=300.0), tone(1.0, pitch=500.0)], 8000)
    method = SimpleNamespace(augment=make_views(ViewsConfig(speed=0), MelPreprocessor(8000)))
    (section,) = view_pictures(method, MelConv(), MelPreprocessor(8000), AudioData("", clips, None, "", "none"))
    widths = [int(width) for width in re.findall(r"width:(\d+)px;height", section.html)]
    assert sorted(set(widths)) == [2 * 101, 2 * 201]  # pixels of one second and of two


def test_the_default_encoders_are_small() -> None:
    assert sum(p.numel() for p in MelConv().parameters()) < 600_000
    assert sum(p.numel() for p in MelTransformer().parameters()) < 900_000


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.skipif(not FSDD.is_dir(), reason="the real data sets are not here")
def test_a_few_steps_on_spoken_digits_beat_the_untrained_encoder_with_five_labels(tmp_path: Path) -> None:
    data = DataConfig(name="fsdd", root=str(FSDD))
    train = TrainConfig(steps=40, seeds=1, batch_size=64, schedule="cosine", device="cpu")
    evaluate = AudioEvaluateConfig(protocols=["knn"], controls=[])
    run = audio_simclr.main(audio_simclr.Config(data=data, train=train, evaluate=evaluate, root=str(tmp_path)))
    records = [r for r in read_results(run / "results.json") if r.n_labels == 5]
    ours, theirs = (np.mean([r.value for r in records if r.subject == s]) for s in ("simclr", "random-encoder"))
    assert ours > theirs + 0.05
