"""What the recipes for audio share: their configuration, and the way from recordings to a report.

A recipe adds the settings of its method, how they follow from the amount of data, and how the method is put together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from mmssl.audio.augment import (
    FrequencyMask,
    Gain,
    LogMixupExp,
    MelViews,
    Noise,
    Pipeline,
    Pitch,
    Polarity,
    RandomResizeCrop,
    Reverb,
    Speed,
    TimeMask,
    TimeShift,
)
from mmssl.audio.clips import ClipSource
from mmssl.audio.dataset import AudioData, DataConfig, load_data
from mmssl.audio.embedder import ClipEmbedder
from mmssl.audio.encoder import ENCODERS, MEL_ENCODERS, MelTransformer
from mmssl.audio.named import SPOKEN
from mmssl.audio.pictures import sheet
from mmssl.audio.preprocess import MelPreprocessor, Preprocessor, WavePreprocessor
from mmssl.core.distributed import world_size
from mmssl.core.methods import scaling
from mmssl.eval.report import Section
from mmssl.recipes.audio_scores import AudioEvaluateConfig, AudioScores, embedded_clips
from mmssl.recipes.experiment import Experiment, Recipe, Sizes, Training, filled, run_recipe
from mmssl.recipes.results import Embedded
from mmssl.recipes.training import HealthConfig, TrainConfig, work_out
from mmssl.train.pretrain import Probe

LOOKED_AT = 128  # clips that health looks at
PREVIEWED = 6  # clips whose views the report shows
SHOWN = 2.0  # seconds of each
READERS = 4  # threads, where clips are decoded whenever they are needed


@dataclass
class ModelConfig:
    """The encoder; None leaves an option at the class's value."""

    name: str = "MelConv"
    mels: int | None = None  # bands of the spectrogram
    dim: int | None = None  # of the embedding
    widths: list[int] | None = None  # of MelConv: channels of its convolutions
    dropout: float | None = None
    patch: list[int] | None = None  # of MelTransformer: frames and mels
    depth: int | None = None
    heads: int | None = None


@dataclass
class ViewsConfig:
    """How a clip becomes two views; 0 switches a change off. Without a comment: BYOL-A's."""

    gain: float = 6.0  # dB to either side; of our own
    noise: list[float] = field(default_factory=lambda: [15.0, 40.0])  # dB above the noise; of our own
    noise_p: float = 0.5
    polarity: float = 0.0  # share of the clips; spectrograms do not show it
    shift: float = 0.0  # share of the clip
    speed: float = 0.1  # share; of our own
    pitch: float = 0.0  # semitones; several times as slow as all others together
    reverb: float = 0.0  # energy of the echo as a share
    mixup: float = 0.1  # largest share of another clip's energy; .4 in the paper
    crop_time: list[float] = field(default_factory=lambda: [0.6, 1.5])  # share of the clip
    crop_frequency: list[float] = field(default_factory=lambda: [0.6, 1.5])  # share of the bands
    time_mask: float = 0.0  # share of the clip
    frequency_mask: float = 0.0  # share of the bands


def train_config(**settings: Any) -> TrainConfig:
    """The training section of a recipe for audio: warm-up from the data, cosine to zero."""
    usual: dict[str, Any] = {"batch_size": 128, "warmup": None, "workers": None, "schedule": "cosine"}
    return TrainConfig(**{**usual, "decay_all": False, **settings})


@dataclass
class AudioConfig:
    """All settings of a recipe for audio but those of its encoder and its method."""

    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=train_config)
    health: HealthConfig = field(default_factory=HealthConfig)
    evaluate: AudioEvaluateConfig = field(default_factory=AudioEvaluateConfig)
    root: str = "runs"  # folder of all runs
    resume: str | None = None  # a run folder to go on with


@dataclass
class MelConfig(AudioConfig):
    """With an encoder of mel spectrograms."""

    model: ModelConfig = field(default_factory=ModelConfig)


@dataclass(frozen=True)
class AudioRecipe(Recipe):
    """What tells one recipe for audio from another.

    Args:
        build: ``(encoder, cfg, preprocessor)`` to the method; batches are waveforms.
        settle: ``(cfg.method, sizes)`` to the same without a None.
        steps: of the optimiser, where the user says nothing.
        pictures: further sections of the report, ``(method, encoder, preprocessor, data)``.
    """

    build: Callable[[Any, Any, Any], nn.Module]
    settle: Callable[[Any, Sizes], Any]
    steps: int = 500
    pictures: Callable[[Any, nn.Module, Any, AudioData], Sequence[Section]] | None = None


def run_audio(cfg: AudioConfig, recipe: AudioRecipe, *, kind: type[AudioExperiment] | None = None) -> Path:
    """Pretrain, evaluate, report; returns the run folder.

    Args:
        cfg: as the user gave it.
        recipe: its own part.
        kind: of the experiment, where more differs than the method.
    """

    def prepared(cfg: Any, recipe: AudioRecipe, fabric: Fabric) -> AudioExperiment:
        return prepare(cfg, recipe, fabric, kind=kind or AudioExperiment)

    return run_recipe(cfg, recipe, prepared)


def prepare(cfg: Any, recipe: AudioRecipe, fabric: Fabric, *, kind: type[AudioExperiment]) -> AudioExperiment:
    """Open the data and work out the settings; what cannot work is said now."""
    if cfg.data.name is None and cfg.data.path is None:
        cfg = replace(cfg, data=replace(cfg.data, name=SPOKEN))
    data = load_data(cfg.data, seed=cfg.train.seed)
    preprocessor = make_preprocessor(cfg.model, data).fit(data.train)
    scores = AudioScores(data, preprocessor, cfg.evaluate, method=recipe.subject, title=recipe.title)
    cfg = settle(cfg, recipe, data)
    experiment = kind(cfg, recipe, data, preprocessor, scores, fabric)
    recipe.build(experiment.make_encoder(), cfg, preprocessor)  # complains of impossible settings now
    return experiment


class AudioExperiment(Experiment):
    """A configuration and its clips; see `Experiment`."""

    recipe: AudioRecipe

    def __init__(
        self,
        cfg: Any,
        recipe: Recipe,
        data: AudioData,
        preprocessor: Preprocessor,
        scores: AudioScores,
        fabric: Fabric,
    ) -> None:
        super().__init__(cfg, recipe, data, scores, fabric)
        self.data = data
        self.preprocessor = preprocessor

    def make_encoder(self) -> nn.Module:
        return make_encoder(self.cfg.model)

    def source(self) -> ClipSource:
        train = self.cfg.train
        batch = max(1, train.batch_size // train.accumulate // world_size())
        return ClipSource(self.data.train, crop=round(self.cfg.data.crop * self.data.rate), batch_size=batch)

    def inputs(self, batch: Tensor) -> Tensor:
        return self.preprocessor(batch.to(self.fabric.device))

    def training(self, encoder: nn.Module, seed: int) -> Training:
        source = self.source()
        looked_at = source.fetch(np.random.default_rng(0).permutation(len(source))[:LOOKED_AT])
        method = self.recipe.build(encoder, self.cfg, self.preprocessor)
        return Training(method, source, Probe(looked_at, lambda x: encoder(self.inputs(x))))

    def compile(self, method: nn.Module, encoder: nn.Module) -> None:
        """The blocks of a transformer, which masked methods enter without calling the encoder; any other as a whole."""
        for part in encoder.blocks if isinstance(encoder, MelTransformer) else [encoder]:
            part.compile()

    def embedder(self, encoder: nn.Module) -> ClipEmbedder:
        return ClipEmbedder(encoder, self.cfg.model.name, self.preprocessor, self.cfg.data.mix, self.cfg.data.file)

    def embedded(self, embedder: ClipEmbedder) -> Embedded:
        return embedded_clips(self.data, embedder)

    def sections(self, method: nn.Module, encoder: nn.Module) -> list[Section]:
        pictures = self.recipe.pictures
        return [] if pictures is None else [*pictures(method, encoder, self.preprocessor, self.data)]


def make_preprocessor(model: Any, data: AudioData) -> Preprocessor:
    """What the encoder of ``cfg.model`` is given.

    Raises:
        ValueError: there is no such encoder.
    """
    if model.name not in ENCODERS:
        raise ValueError(f"model.name must be one of {', '.join(ENCODERS)}, got {model.name!r}")
    if model.name not in MEL_ENCODERS:
        return WavePreprocessor(data.rate)
    return MelPreprocessor(data.rate) if model.mels is None else MelPreprocessor(data.rate, mels=model.mels)


def make_encoder(model: Any) -> nn.Module:
    """The encoder of ``cfg.model``.

    Raises:
        ValueError: it does not know an option.
    """
    options = {
        f.name: value for f in fields(model) if f.name != "name" and (value := getattr(model, f.name)) is not None
    }
    try:
        return ENCODERS[model.name](**options)
    except TypeError as error:
        raise ValueError(f"model.name={model.name} does not take all of {', '.join(options)}: {error}") from error


def make_views(views: ViewsConfig, preprocessor: MelPreprocessor) -> MelViews:
    """The views of ``cfg.views``; what is switched off costs nothing."""
    waves = {
        Gain(views.gain): views.gain,
        Speed(views.speed): views.speed,
        Pitch(views.pitch): views.pitch,
        TimeShift(views.shift): views.shift,
        Reverb(preprocessor.rate, wet=views.reverb): views.reverb,
        Noise(tuple(views.noise), views.noise_p): views.noise_p,
        Polarity(views.polarity): views.polarity,
    }
    crop = RandomResizeCrop(tuple(views.crop_time), tuple(views.crop_frequency))
    mels = {
        crop: crop.time != (1, 1) or crop.frequency != (1, 1),
        TimeMask(views.time_mask): views.time_mask,
        FrequencyMask(views.frequency_mask): views.frequency_mask,
    }
    return MelViews(
        preprocessor,
        wave=Pipeline(tuple(step for step, strength in waves.items() if strength)),
        mixup=LogMixupExp(views.mixup),
        mel=Pipeline(tuple(step for step, strength in mels.items() if strength)),
    )


def settle(cfg: Any, recipe: AudioRecipe, data: AudioData) -> Any:
    """Every None that stands for a value is replaced by it, so that config.yaml hides nothing."""
    samples, unit = len(data.train), max(1, cfg.train.accumulate) * world_size()
    train = work_out(
        replace(cfg.train, batch_size=max(unit, min(cfg.train.batch_size, samples) // unit * unit)),
        samples=samples,
        steps=recipe.steps,
        seeds=1,
        workers=0 if data.train.in_memory else READERS,
    )
    assert train.steps is not None
    encoder: Any = make_encoder(cfg.model)
    names = {f.name for f in fields(cfg.model)} & set(encoder.arguments)
    model = filled(cfg.model, **{name: encoder.arguments[name] for name in names})
    sizes = Sizes(samples, train.batch_size, train.steps, encoder.dim)
    if cfg.train.warmup is None:
        train = replace(train, warmup=scaling.warmup(sizes.samples, sizes.batch, sizes.steps))
    data_cfg = replace(cfg.data, rate=data.rate)
    return replace(cfg, data=data_cfg, model=model, train=train, method=recipe.settle(cfg.method, sizes))


def view_pictures(method: Any, encoder: nn.Module, preprocessor: MelPreprocessor, data: AudioData) -> list[Section]:
    """What the method sees of a few training clips."""
    rows = np.sort(np.random.default_rng(0).permutation(len(data.train))[:PREVIEWED])
    clips = data.train.padded(rows, most=round(SHOWN * data.rate))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, second = method.augment(clips)
    whole = preprocessor(clips)
    pictures = [[whole[i], first[i], second[i]] for i in range(len(rows))]
    caption = (
        "What the two views of a clip have in common is what the encoder is asked to keep. Each step draws others."
    )
    html = sheet(pictures, [str(data.train.names[i]) for i in rows], ["clip", "view 1", "view 2"])
    return [Section("Views", html, caption)]
