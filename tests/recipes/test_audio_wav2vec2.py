"""wav2vec 2.0 and HuBERT from recordings to a report, resumed and from published weights; and what does not fit."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

import mmssl
from mmssl.audio.dataset import DataConfig
from mmssl.audio.wav2vec2_encoder import Wav2Vec2Encoder, conv_stack
from mmssl.eval.records import read_results
from mmssl.recipes import audio_hubert, audio_wav2vec2
from mmssl.recipes.audio_speech import (
    SpeechEvaluateConfig,
    WaveModelConfig,
    make_encoder,
    masked_clips,
    settle_model,
    usual_span,
)
from mmssl.recipes.experiment import Sizes
from mmssl.recipes.training import TrainConfig
from tests.audio.waveforms import RATE, chords

SMALL = WaveModelConfig(dim=16, depth=2, heads=2, position_kernel=4, position_groups=2)
METHODS: dict[str, tuple[Any, Any]] = {
    "wav2vec2": (audio_wav2vec2, audio_wav2vec2.MethodConfig(code_dim=8, dim=8)),
    "hubert": (audio_hubert, audio_hubert.MethodConfig(clusters=[4, 6], dim=8)),
}


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """24 clips, two tones in either order, in folders of their label."""
    clips = chords()
    assert clips.labels is not None
    for i in range(len(clips)):
        file = tmp_path / "clips" / str(clips.labels[i]) / f"{i}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, 0.5 * clips.clip(i), RATE)
    return tmp_path / "clips"


def quick(name: str, recordings: Path, root: Path, **changes: Any) -> Any:
    """A few steps of a small encoder."""
    module, method = METHODS[name]
    settings: dict[str, Any] = {
        "data": DataConfig(path=str(recordings), crop=0.25),
        "model": SMALL,
        "method": method,
        "train": TrainConfig(steps=3, seeds=1, batch_size=8, lr=1e-3, log_every=1, checkpoint_every=1, device="cpu"),
        "evaluate": SpeechEvaluateConfig(draws=0, controls=[], layers=False),
    }
    return module.Config(root=str(root), **(settings | changes))


@pytest.mark.parametrize(
    ("name", "epochs", "spelled"),
    [("wav2vec2", 1, "ctc-characters(epochs=1)/1"), ("hubert", 10, "ctc-characters/1")],
)
def test_recordings_become_scores_a_report_and_an_encoder(
    name: str, epochs: int, spelled: str, recordings: Path, tmp_path: Path
) -> None:
    evaluate = SpeechEvaluateConfig(draws=0, controls=["mel"], ctc=epochs)
    run = METHODS[name][0].main(quick(name, recordings, tmp_path / "runs", evaluate=evaluate))
    records = read_results(run / "results.json")
    assert {r.subject for r in records} == {name, "random-encoder", "mel"}
    protocols = {r.protocol for r in records if r.subject == name}
    assert {"logistic/1", "finetune-layer-weighted/1", spelled} <= protocols
    assert len([r for r in records if r.metric == "character_error_rate"]) == 2
    metrics = pd.read_csv(run / "metrics.csv")
    assert {"mask_share", "accuracy"} <= set(metrics)
    if name == "wav2vec2":
        assert (metrics["positives_among_negatives"].dropna() == 0).all()
    embedder: Any = mmssl.load(run)
    assert embedder.embed(recordings).shape == (24, 32)
    assert "100 frames a second" in (run / "report.html").read_text()


def test_settings_follow_from_the_clips_and_stand_in_the_configuration(recordings: Path, tmp_path: Path) -> None:
    run = audio_wav2vec2.main(quick("wav2vec2", recordings, tmp_path))
    cfg = OmegaConf.load(run / "config.yaml")
    assert cfg.model.convs == conv_stack(RATE, frame_rate=100, width=8)
    assert (cfg.method.span, cfg.method.entries) == (3, 20)
    assert 5 < cfg.method.negatives < 20


@pytest.mark.parametrize(
    ("frames", "batch", "span", "entries", "negatives"),
    [(499, 8, 10, 128, 100), (499, 64, 10, 320, 100), (41, 32, 4, 64, 19), (19, 8, 3, 20, 9)],
)
def test_spans_codes_and_negatives_scale_with_the_length_of_clips(
    frames: int, batch: int, span: int, entries: int, negatives: int
) -> None:
    sizes = Sizes(samples=1000, batch=batch, steps=100, dim=16)
    settled = audio_wav2vec2.settle(audio_wav2vec2.MethodConfig(), sizes, frames=frames)
    assert (settled.span, settled.entries) == (span, entries)
    assert settled.negatives == pytest.approx(negatives, abs=1)
    assert audio_hubert.settle(audio_hubert.MethodConfig(), sizes, frames=frames).span == usual_span(frames) == span


@pytest.mark.parametrize(("seconds", "rate", "hop"), [(10.0, 16_000, 320), (0.42, 8_000, 80), (1.0, 16_000, 320)])
def test_short_clips_get_more_frames_a_second(seconds: float, rate: int, hop: int) -> None:
    model = settle_model(WaveModelConfig(), rate=rate, samples=round(seconds * rate), start=None)
    assert model.convs is not None
    assert np.prod([stride for _, _, stride in model.convs]) == hop
    assert settle_model(model, rate=rate, samples=9, start=None) == model


def test_clips_too_short_for_a_mask_are_said_with_settings_that_help() -> None:
    encoder = Wav2Vec2Encoder(conv_stack(RATE, frame_rate=100, width=8), dim=16, depth=1, heads=2)
    crops = np.array([300] * 3 + [4000] * 7)
    with pytest.raises(ValueError, match=r"3 of 10 .* shorter than two mask spans of 3 frames") as caught:
        masked_clips(encoder, crops, rate=RATE, span=3)
    assert str(caught.value).endswith("leave them out with data.shortest=0.053 data.max_bad=0.3")
    kept = crops[crops >= 0.053 * RATE]
    assert "never masked" not in masked_clips(encoder, kept, rate=RATE, span=3)
    with pytest.raises(ValueError, match=r"10 of 10 .* more frames a second, or a longer data.crop$"):
        masked_clips(encoder, np.full(10, 300), rate=RATE, span=3)


def weights(run: Path) -> dict[str, Any]:
    return load_file(run / "encoder.safetensors")


@pytest.mark.parametrize(("stopped_in", "restart"), [(1, False), (2, False), (1, True)])
def test_a_hubert_that_was_stopped_in_either_iteration_ends_with_the_same_weights(
    stopped_in: int, restart: bool, recordings: Path, tmp_path: Path
) -> None:
    method = audio_hubert.MethodConfig(clusters=[4, 6], dim=8, restart=restart)
    whole = audio_hubert.main(quick("hubert", recordings, tmp_path / "whole", method=method))
    assert (whole / "units-0-1.npz").exists()
    assert (whole / "units-0-2.npz").exists()
    stopped = tmp_path / "stopped"
    shutil.copytree(whole, stopped)
    (stopped / "encoder.safetensors").unlink()
    (stopped / "results.json").unlink()
    half_done = stopped / "iteration-1" if stopped_in == 1 else stopped
    newest = max((half_done / "checkpoint" / "seed-0").iterdir())
    newest.unlink()  # the last step of that iteration was never made
    if stopped_in == 1:
        shutil.rmtree(stopped / "checkpoint")
        (stopped / "units-0-2.npz").unlink()
    run = audio_hubert.main(audio_hubert.Config(resume=str(stopped)))
    again = weights(run)
    assert all((again[name] == value).all() for name, value in weights(whole).items())


def test_published_weights_are_where_the_training_starts(recordings: Path, tmp_path: Path) -> None:
    published = Wav2Vec2Encoder(conv_stack(16_000, width=8), dim=64, depth=1, heads=1, position_kernel=4)
    save_file(published.state_dict(), tmp_path / "base.safetensors")
    cfg = quick("wav2vec2", recordings, tmp_path, checkpoint=str(tmp_path / "base.safetensors"))
    method = replace(cfg.method, span=3)
    train = replace(cfg.train, steps=1, lr=1e-12, weight_decay=0.0)
    data = replace(cfg.data, rate=48_000)  # so that the paper's strides give frames enough
    run = audio_wav2vec2.main(replace(cfg, model=WaveModelConfig(), method=method, train=train, data=data))
    trained = weights(run)
    for name, value in published.state_dict().items():
        np.testing.assert_allclose(trained[name], value, atol=1e-6)
    assert OmegaConf.load(run / "config.yaml").model.dim == 64


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("wav2vec2", {"model": WaveModelConfig("MelConv")}, "model.name=MelConv takes no waveforms"),
        (
            "wav2vec2",
            {"model": replace(SMALL, convs=[[8, 400, 400]])},
            r"\d+ of 16 training clips are shorter than two mask spans of 3 frames, 0.25 s: set method.span below 3",
        ),
        ("wav2vec2", {"model": replace(SMALL, heads=3)}, "dim must be a multiple of heads, got dim=16 and heads=3"),
        ("wav2vec2", {"model": replace(SMALL, pool="max")}, "pool must be mean or statistics, got 'max'"),
        (
            "wav2vec2",
            {"method": audio_wav2vec2.MethodConfig(groups=3, code_dim=8)},
            "a multiple of groups=3, got 8",
        ),
        ("hubert", {"method": audio_hubert.MethodConfig(clusters=[])}, "method.clusters is empty"),
        ("hubert", {"checkpoint": "nowhere"}, "there is no checkpoint nowhere"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_trained(
    name: str, changes: dict[str, Any], message: str, recordings: Path, tmp_path: Path
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        METHODS[name][0].main(quick(name, recordings, tmp_path / "runs", **changes))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", METHODS)
def test_the_gpu_experiment_is_the_papers_base_model(name: str) -> None:
    file = Path(__file__).parents[2] / "recipes" / f"audio_{name}" / "gpu.yaml"
    sections = OmegaConf.to_container(OmegaConf.load(file))
    assert isinstance(sections, dict)
    model = WaveModelConfig(**sections["model"], pool="mean")
    with torch.device("meta"):
        encoder = make_encoder(settle_model(model, rate=16_000, samples=160_000, start=None))
        method = METHODS[name][0].MethodConfig(**sections["method"])
        METHODS[name][0].build(encoder, METHODS[name][0].Config(method=method), None)
    assert (encoder.hop, encoder.receptive_field) == (320, 400)
    assert sum(p.numel() for p in encoder.parameters()) == 94_370_944  # transformers' 94,371,712 less its mask token


def test_sizes_beside_a_checkpoint_must_be_its_own() -> None:
    start = Wav2Vec2Encoder(conv_stack(RATE, width=8), dim=32, depth=1, heads=2)
    with pytest.raises(ValueError, match=r"model\.depth=5 is not that of the checkpoint, 1: leave the sizes"):
        settle_model(WaveModelConfig(depth=5), rate=RATE, samples=RATE, start=start)
