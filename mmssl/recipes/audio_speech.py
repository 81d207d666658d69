"""What `audio_wav2vec2` and `audio_hubert` share: the encoder of waveforms, what follows from the clips, and scores.

The rest is the way of all recipes for audio (`mmssl.recipes.audio`).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from mmssl.audio.clips import ClipSet, Index
from mmssl.audio.ctc import CTC, Alphabet, TranscriptSource, error_rate, spelled
from mmssl.audio.dataset import load_data
from mmssl.audio.layer_weights import LayerSource, LayerWeights
from mmssl.audio.named import SPOKEN
from mmssl.audio.preprocess import Preprocessor, WavePreprocessor
from mmssl.audio.spans import least_frames
from mmssl.audio.wav2vec2_checkpoint import read_checkpoint
from mmssl.audio.wav2vec2_encoder import Wav2Vec2Encoder, conv_stack
from mmssl.core.schedules import warmup_cosine
from mmssl.recipes.audio import AudioConfig, AudioExperiment, AudioRecipe, settle
from mmssl.recipes.audio_scores import AudioEvaluateConfig, AudioScores
from mmssl.recipes.experiment import run_recipe
from mmssl.train.batches import ShuffledBatches
from mmssl.train.finetune import Strategy, finetune, predict
from mmssl.train.fit import fit
from mmssl.train.optim import build_optimizer

FRAMES = 40  # of a usual clip at least
FRAME_RATES = (50, 100)  # the paper's, and one for clips that have fewer frames than that
SPANS = (3, 10)  # frames of a mask at least, and in the papers
UNMASKED = 0.1  # share of the clips that may be too short for a mask
LAYER_PROBE = Strategy("layer-weighted", epochs=50, lr_encoder=0.01, lr_head=0.01)
CTC_PROTOCOL, CTC_EPOCHS = "ctc-characters/1", 10  # another number of epochs stands in the id
CTC_BATCH, CTC_RATE, CTC_WARMUP = 32, 1e-3, 0.1


@dataclass
class WaveModelConfig:
    """The encoder, small by default; None is worked out from the data. A checkpoint brings its own sizes."""

    name: str = "wav2vec2"
    convs: list[list[int]] | None = None  # width, kernel and stride of each; None: the paper's, with frames enough
    dim: int = 128
    depth: int = 3
    heads: int = 4
    hidden: int | None = None  # None: 4 · dim
    position_kernel: int = 16  # frames
    position_groups: int = 8
    dropout: float = 0.1
    layerdrop: float = 0.0
    large: bool = False  # layer norms everywhere, and before attention and feed-forward
    conv_bias: bool = False
    pool: str = "statistics"  # over frames: mean and standard deviation of all layers; or mean, of the last one


@dataclass
class SpeechEvaluateConfig(AudioEvaluateConfig):
    """How features are scored; only where there are labels."""

    layers: bool = True  # a probe on a weighted mean of all layers
    ctc: int = 0  # epochs of fine-tuning on the characters of the labels; 0 leaves it out


@dataclass
class SpeechConfig(AudioConfig):
    """All settings of these recipes but those of their methods."""

    model: WaveModelConfig = field(default_factory=WaveModelConfig)
    evaluate: SpeechEvaluateConfig = field(default_factory=SpeechEvaluateConfig)
    checkpoint: str | None = None  # published weights to start from: a folder of transformers, or a safetensors file


@dataclass(frozen=True)
class SpeechRecipe(AudioRecipe):
    """What tells one recipe for speech from another; its ``settle`` is also told ``frames``, those of a usual clip."""

    settle: Callable[..., Any]


def run_speech(cfg: SpeechConfig, recipe: SpeechRecipe, *, kind: type[SpeechExperiment] | None = None) -> Path:
    """Pretrain, evaluate, report; returns the run folder.

    Args:
        cfg: as the user gave it.
        recipe: its own part.
        kind: of the experiment.
    """
    return run_recipe(cfg, recipe, partial(prepare, kind=kind or SpeechExperiment))


def prepare(cfg: Any, recipe: SpeechRecipe, fabric: Fabric, *, kind: type[SpeechExperiment]) -> SpeechExperiment:
    """Open the data and work out the settings; what cannot work is said now."""
    if cfg.data.name is None and cfg.data.path is None:
        cfg = replace(cfg, data=replace(cfg.data, name=SPOKEN))
    data = load_data(cfg.data, seed=cfg.train.seed)
    preprocessor = WavePreprocessor(data.rate)
    scores = SpeechScores(data, preprocessor, cfg.evaluate, method=recipe.subject, title=recipe.title)
    start = None if cfg.checkpoint is None else read_checkpoint(cfg.checkpoint)
    crops = np.minimum(data.train.sizes, round(cfg.data.crop * data.rate))
    model = settle_model(cfg.model, rate=data.rate, samples=int(np.median(crops)), start=start)
    encoder = make_encoder(model)
    frames = encoder.frame_count(int(np.median(crops)))
    recipe = replace(recipe, settle=partial(recipe.settle, frames=frames))
    cfg = settle(replace(cfg, model=model), recipe, data)
    line = masked_clips(encoder, crops, rate=data.rate, span=cfg.method.span)
    data = replace(data, description="\n".join([data.description, line]))
    experiment = kind(cfg, recipe, data, preprocessor, scores, fabric)
    experiment.start = start
    recipe.build(experiment.make_encoder(), cfg, preprocessor)  # complains of impossible settings now
    return experiment


class SpeechExperiment(AudioExperiment):
    """A configuration and its clips, whose encoder takes waveforms; see `Experiment`."""

    start: Wav2Vec2Encoder | None = None  # weights that every seed begins with

    def make_encoder(self) -> Wav2Vec2Encoder:
        encoder = make_encoder(self.cfg.model)
        if self.start is not None:
            encoder.load_state_dict(self.start.state_dict())
        return encoder

    def compile(self, method: nn.Module, encoder: nn.Module) -> None:
        """The method calls the parts of the encoder, and clips differ in length."""
        assert isinstance(encoder, Wav2Vec2Encoder)
        encoder.feature_extractor.compile(dynamic=True)
        encoder.encoder.compile(dynamic=True)


def make_encoder(model: WaveModelConfig) -> Wav2Vec2Encoder:
    """The encoder of ``cfg.model``, worked out.

    Raises:
        ValueError: there is no such encoder.
    """
    if model.name != "wav2vec2":
        raise ValueError(f"model.name={model.name} takes no waveforms; the encoder of this recipe is wav2vec2")
    return Wav2Vec2Encoder(**{name: value for name, value in asdict(model).items() if name != "name"})


def settle_model(model: WaveModelConfig, *, rate: int, samples: int, start: Wav2Vec2Encoder | None) -> WaveModelConfig:
    """Convolutions that give a usual clip of ``samples`` at ``rate`` frames enough; or the sizes of ``start``.

    Raises:
        ValueError: other sizes were asked for than those of ``start``.
    """
    if start is not None:
        sizes = {k: v for k, v in start.arguments.items() if k not in ("dropout", "layerdrop", "pool")}
        usual = asdict(WaveModelConfig())
        for name, value in asdict(model).items():
            if name in sizes and value not in (usual[name], sizes[name]):
                raise ValueError(
                    f"model.{name}={value} is not that of the checkpoint, {sizes[name]}: leave the sizes of the model "
                    "to the checkpoint, or start without one"
                )
        return replace(model, **sizes)
    if model.convs is not None:
        return model
    enough = samples / rate * FRAME_RATES[0] >= FRAMES
    return replace(model, convs=conv_stack(rate, frame_rate=FRAME_RATES[0 if enough else 1], width=model.dim // 2))


def usual_span(frames: int) -> int:
    """Frames of a mask for clips of so many."""
    return min(max(round(frames / 10), SPANS[0]), SPANS[1])


def masked_clips(encoder: Wav2Vec2Encoder, crops: Index, *, rate: int, span: int) -> str:
    """A sentence about frames, and about clips that are too short to be masked.

    Raises:
        ValueError: more than a tenth are.
    """
    frames = encoder.frames(torch.from_numpy(crops)).numpy()
    short = int((frames < least_frames(span)).sum())
    seconds = (encoder.receptive_field + (least_frames(span) - 1) * encoder.hop) / rate
    if short > UNMASKED * len(crops):
        share = math.ceil(100 * short / len(crops)) / 100
        leave_out = f"leave them out with data.shortest={math.ceil(1000 * seconds) / 1000} data.max_bad={share}"
        raise ValueError(
            f"{short:,} of {len(crops):,} training clips are shorter than two mask spans of {span} frames, "
            f"{seconds:.2g} s: set method.span below {span}, model.convs for more frames a second, or "
            f"{leave_out if short < len(crops) else 'a longer data.crop'}"
        )
    said = f"{rate / encoder.hop:.4g} frames a second, {int(np.median(frames))} in a usual clip; each sees "
    said += f"{1000 * encoder.receptive_field / rate:.3g} ms"
    return said + (f"; {short:,} clips are shorter than {seconds:.2g} s and never masked" if short else "")


class SpeechScores(AudioScores):
    """As for all audio; and a probe on all layers, and fine-tuning that spells the labels."""

    cfg: SpeechEvaluateConfig

    def encoder(self, encoder: nn.Module, *, subject: str, seed: int, fabric: Fabric) -> None:
        super().encoder(encoder, subject=subject, seed=seed, fabric=fabric)
        if self.task is None:
            return
        assert isinstance(encoder, Wav2Vec2Encoder)
        if self.cfg.layers:
            self._layers(encoder, subject, seed, fabric)
        if self.cfg.ctc:
            self._spell(encoder, subject, seed, fabric)

    def _layers(self, encoder: Wav2Vec2Encoder, subject: str, seed: int, fabric: Fabric) -> None:
        task = self._task()
        train, test = (LayerSource(encoder, clips, self.preprocessor) for clips in (self.train, self.test))
        tuned = finetune(
            LayerWeights(*train.features.shape[1:]),
            LAYER_PROBE,
            source=train,
            labels=task.train_codes,
            n_classes=len(task.classes),
            fabric=fabric,
            seed=seed,
        )
        if fabric.global_rank == 0:
            self.add_predictions(subject, tuned.protocol, seed, task.classes[predict(tuned, test, fabric=fabric)])

    def _spell(self, encoder: Wav2Vec2Encoder, subject: str, seed: int, fabric: Fabric) -> None:
        task = self._task()
        model = spell(
            encoder, self.train, [spelled(y) for y in task.train_y], self.preprocessor, self.cfg.ctc, fabric, seed
        )
        if fabric.global_rank > 0:
            return
        found, said = model.transcribe(self.test), [spelled(y) for y in task.test_y]
        label = {spelled(y): y for y in task.classes}
        epochs = self.cfg.ctc
        protocol = CTC_PROTOCOL if epochs == CTC_EPOCHS else CTC_PROTOCOL.replace("/", f"(epochs={epochs})/")
        self.add_predictions(subject, protocol, seed, np.array([label.get(word, word) for word in found]))
        last = self.evaluations[-1]
        rate = error_rate(found, said)
        record = replace(last.records[0], metric="character_error_rate", value=rate)
        self.evaluations[-1] = replace(last, records=(*last.records, record))
        print(f"{self.subjects.name(subject)}, seed {seed}: {100 * rate:.1f} % of the characters wrong by {protocol}")


def spell(
    encoder: Wav2Vec2Encoder,
    clips: ClipSet,
    texts: Sequence[str],
    preprocessor: Preprocessor,
    epochs: int,
    fabric: Fabric,
    seed: int,
) -> CTC:
    """Fit a copy of ``encoder`` to the characters of what is said in clips."""
    alphabet = Alphabet.of(texts)
    torch.manual_seed(seed)
    model = CTC(copy.deepcopy(encoder), alphabet, preprocessor)
    source = TranscriptSource(clips, [alphabet.encode(text) for text in texts], batch_size=CTC_BATCH)
    batches = ShuffledBatches(source, batch_size=min(CTC_BATCH, len(source)), seed=seed)
    optimizer = build_optimizer("adam", [p for p in model.parameters() if p.requires_grad], lr=CTC_RATE)
    steps = epochs * (len(source) // batches.batch_size)
    schedule = partial(warmup_cosine, warmup=CTC_WARMUP)
    for _ in fit(model, batches, optimizer=optimizer, steps=steps, fabric=fabric, schedule=schedule, clip_norm=1.0):
        pass
    return model
