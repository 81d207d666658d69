"""What the recipes share that bring a method of the core to series: their configuration, and the way to a report.

A recipe adds the settings of its method, how they follow from the amount of data, and how the method is put together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from mmssl.core.methods import scaling
from mmssl.core.types import Encoder
from mmssl.eval.report import Section
from mmssl.recipes.experiment import Experiment, Recipe, Sizes, Training, run_recipe
from mmssl.recipes.results import Embedded
from mmssl.recipes.series_report import SeriesEvaluateConfig, SeriesScores, embedded_windows
from mmssl.recipes.training import HealthConfig, TrainConfig, work_out
from mmssl.timeseries.ahead import StreamedSource
from mmssl.timeseries.augment import (
    ChannelDropout,
    CropResize,
    FrequencyMask,
    FrequencyMix,
    Jitter,
    MagnitudeWarp,
    Permutation,
    Pipeline,
    Rotation,
    Scaling,
    SeriesViews,
    Step,
    TimeMask,
    TimeWarp,
)
from mmssl.timeseries.dataset import DataConfig, SeriesData, SeriesSource, load_data, reading
from mmssl.timeseries.embedder import SeriesEmbedder
from mmssl.timeseries.encoders.build import build_encoder
from mmssl.timeseries.pictures import sheet
from mmssl.timeseries.tstcc import tstcc_views
from mmssl.train.pretrain import Probe

DEFAULT_DATA = "BasicMotions"
LOOKED_AT = 64  # windows that health looks at
PREVIEWED = 6  # windows whose views the report shows
C = TypeVar("C", bound=Any)


@dataclass
class ModelConfig:
    """The encoder; None leaves an option at the builder's value."""

    name: str = "tstcc"  # convolutions and pooling; resnet1d, patch (a transformer), dilated (TS2Vec)
    widths: list[int] | None = None  # of resnet1d and tstcc
    kernels: list[int] | None = None  # of resnet1d
    patch: int | None = None  # timestamps of a token, of "patch"
    dim: int | None = None  # of patch and dilated
    depth: int | None = None
    heads: int | None = None  # of patch
    hidden: int | None = None  # of dilated
    missing: str | None = None  # of dilated: drop or indicator
    kernel: int | None = None  # of tstcc, and the rest
    stride: int | None = None
    dropout: float | None = None


@dataclass
class ViewsConfig:
    """How a window becomes a view; strength 0 leaves a step out. See `mmssl.timeseries.augment` for what each destroys.

    Steps follow each other in this order.
    """

    pair: str = "alike"  # both views by the settings below; or tstcc: the weak and the strong view of TS-TCC
    crop: list[float] = field(default_factory=lambda: [0.5, 1.0])  # share that is kept; [1, 1] for all
    time_warp: float = 0.0
    permutation: int = 1  # segments at most
    rotation: float = 0.0  # degrees; channels are triples of axes
    scaling: float = 0.2
    magnitude_warp: float = 0.0
    frequency_mask: float = 0.0
    frequency_mix: float = 0.0
    channel_dropout: float = 0.0
    time_mask: float = 0.2
    jitter: float = 0.1


@dataclass(frozen=True)
class Augmentation:
    """How a setting of `ViewsConfig` becomes an augmentation.

    Args:
        make: from the setting.
        off: the setting that leaves it out.
        usual: the augmentation at its usual strength.
    """

    make: Callable[[Any], Step]
    off: Any
    usual: Step


AUGMENTATIONS = {
    "crop": Augmentation(lambda scale: CropResize(tuple(scale)), [1, 1], CropResize()),
    "time_warp": Augmentation(TimeWarp, 0, TimeWarp()),
    "permutation": Augmentation(Permutation, 1, Permutation()),
    "rotation": Augmentation(Rotation, 0, Rotation()),
    "scaling": Augmentation(Scaling, 0, Scaling()),
    "magnitude_warp": Augmentation(MagnitudeWarp, 0, MagnitudeWarp()),
    "frequency_mask": Augmentation(FrequencyMask, 0, FrequencyMask()),
    "frequency_mix": Augmentation(FrequencyMix, 0, FrequencyMix()),
    "channel_dropout": Augmentation(ChannelDropout, 0, ChannelDropout()),
    "time_mask": Augmentation(TimeMask, 0, TimeMask()),
    "jitter": Augmentation(Jitter, 0, Jitter()),
}  # in the order of the settings


def train_config(**settings: Any) -> TrainConfig:
    """The training section: learning rate and warm-up from the data, cosine to zero."""
    usual: dict[str, Any] = {"batch_size": 64, "lr": None, "warmup": None, "schedule": "cosine", "decay_all": False}
    return TrainConfig(**{**usual, **settings})


@dataclass
class SeriesConfig:
    """All settings of such a recipe but those of its method."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=train_config)
    health: HealthConfig = field(default_factory=HealthConfig)
    evaluate: SeriesEvaluateConfig = field(default_factory=SeriesEvaluateConfig)
    names: list[str] = field(default_factory=list)  # several data sets of an archive, one after the other
    root: str = "runs"  # folder of all runs
    resume: str | None = None  # a run folder to go on with


@dataclass
class JointConfig(SeriesConfig):
    """The same with views, for methods that compare them."""

    views: ViewsConfig = field(default_factory=ViewsConfig)


@dataclass(frozen=True)
class SeriesSizes(Sizes):
    """The same for series.

    Args:
        timestamps: of the longest window.
    """

    timestamps: int


@dataclass(frozen=True)
class SeriesRecipe(Recipe):
    """What tells one recipe for series from another.

    Args:
        build: ``(encoder, cfg, data)`` to the method.
        settle: ``(cfg.method, sizes)`` to the same without a None.
        lr: learning rate, where the user says nothing.
        steps: of the optimiser, likewise.
    """

    build: Callable[[Any, Any, SeriesData], nn.Module]
    settle: Callable[[Any, SeriesSizes], Any]
    lr: float = 1e-3
    steps: int = 300


def run_series(cfg: SeriesConfig, recipe: SeriesRecipe) -> Path:
    """Pretrain, evaluate, report; returns the run folder."""
    return run_recipe(cfg, recipe, prepare)


def prepare(cfg: Any, recipe: SeriesRecipe, fabric: Fabric) -> SeriesExperiment:
    """Open the data and work out the settings; what cannot work is said now."""
    cfg = with_default_data(cfg)
    data = load_data(cfg.data, seed=cfg.train.seed)
    scores = SeriesScores(data, cfg.evaluate, method=recipe.subject, title=recipe.title)
    cfg = settle(cfg, recipe, data, labelled=scores.labelled)
    try_out(cfg, recipe, data)
    return SeriesExperiment(cfg, recipe, data, scores, fabric)


def with_default_data(cfg: C) -> C:
    """The default data where the user names none."""
    if cfg.data.name is None and cfg.data.path is None:
        return replace(cfg, data=replace(cfg.data, name=DEFAULT_DATA))
    return cfg


class SeriesExperiment(Experiment):
    """A configuration and its series; see `Experiment`."""

    recipe: SeriesRecipe

    def __init__(self, cfg: Any, recipe: Recipe, data: SeriesData, scores: SeriesScores, fabric: Fabric) -> None:
        super().__init__(cfg, recipe, data, scores, fabric)
        self.data = data

    def fingerprint(self) -> Mapping[str, int | str]:
        test, fitted = self.data.test, self.data.preprocessor
        scales = zip(fitted.channels, fitted.mean, fitted.std, strict=True)
        return {
            "training windows": len(self.data.train),
            "test windows": 0 if test is None else len(test),
            **{f"channel {name}": f"mean {mean:.6g}, sd {std:.6g}" for name, mean, std in scales},
        }

    def make_encoder(self) -> nn.Module:
        return make_encoder(self.cfg, self.data)

    def source(self) -> SeriesSource | StreamedSource:
        return self.data.source()

    def training(self, encoder: nn.Module, seed: int) -> Training:
        source = self.source()
        looked_at = np.random.default_rng(0).permutation(len(source))[:LOOKED_AT]
        method = self.recipe.build(encoder, self.cfg, self.data)
        return Training(method, source, Probe(source.fetch(looked_at), encoder))

    def embedder(self, encoder: nn.Module) -> SeriesEmbedder:
        return SeriesEmbedder(encoder, self.arguments(), self.data.preprocessor, **reading(self.cfg.data))

    def arguments(self) -> dict[str, Any]:
        """What the encoder is built with, beside its name."""
        return arguments(self.cfg, self.data)

    def embedded(self, embedder: SeriesEmbedder) -> Embedded:
        return embedded_windows(self.data, embedder)

    def sections(self, method: nn.Module, encoder: nn.Module) -> list[Section]:
        return previews(method, self.source())


def arguments(cfg: Any, data: SeriesData) -> dict[str, Any]:
    """What the encoder is built with, beside its name."""
    given = {name: value for name, value in vars(cfg.model).items() if name != "name" and value is not None}
    return {"in_channels": len(data.preprocessor.channels), **given}


def make_encoder(cfg: Any, data: SeriesData) -> nn.Module:
    """The encoder of ``cfg.model`` for the series of ``data``."""
    return build_encoder(cfg.model.name, **arguments(cfg, data))


def make_views(cfg: Any) -> SeriesViews:
    """Two views by ``cfg.views``.

    Raises:
        ValueError: a pair that is not known, or settings that it does not take.
    """
    if cfg.views.pair == "tstcc":
        usual = ViewsConfig()
        if given := [f"views.{name}" for name in AUGMENTATIONS if getattr(cfg.views, name) != getattr(usual, name)]:
            raise ValueError(f"views.pair=tstcc has strengths of its own; leave out {', '.join(given)}")
        return tstcc_views()
    if cfg.views.pair != "alike":
        raise ValueError(f"views.pair must be alike or tstcc, got {cfg.views.pair!r}")
    steps = [(of, getattr(cfg.views, name)) for name, of in AUGMENTATIONS.items()]
    return SeriesViews(Pipeline(tuple(of.make(value) for of, value in steps if value != of.off)))


def settle(cfg: C, recipe: SeriesRecipe, data: SeriesData, *, labelled: bool) -> C:
    """Every None that stands for a value is replaced by it, so that config.yaml hides nothing."""
    batch = min(cfg.train.batch_size, len(data.train))
    train = work_out(
        replace(cfg.train, batch_size=max(1, batch // cfg.train.accumulate) * cfg.train.accumulate),
        samples=len(data.train),
        steps=recipe.steps,
        seeds=3 if labelled else 1,
        lr=recipe.lr,
    )
    assert train.steps is not None
    dim = cast(Encoder, make_encoder(cfg, data)).dim
    sizes = SeriesSizes(len(data.train), train.batch_size, train.steps, dim, data.train.length)
    if cfg.train.warmup is None:
        train = replace(train, warmup=scaling.warmup(sizes.samples, sizes.batch, sizes.steps))
    return replace(cfg, train=train, method=recipe.settle(cfg.method, sizes))


def try_out(cfg: Any, recipe: SeriesRecipe, data: SeriesData) -> None:
    """Put the method together and show it two windows: what cannot work is said now, not after minutes of scoring.

    Raises:
        ValueError: it cannot work; the message says why.
    """
    method = recipe.build(make_encoder(cfg, data), cfg, data)
    method(data.source().fetch(np.arange(2)))


def previews(method: Any, source: SeriesSource | StreamedSource) -> list[Section]:
    """What the method sees of a few training windows."""
    if method.augment is None:
        return []
    x = source.fetch(np.random.default_rng(0).permutation(len(source))[:PREVIEWED])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        views = [view.numpy() for view in method.augment(x)]
    rows = [[x[i].numpy(), *(view[i] for view in views)] for i in range(len(x))]
    caption = "What the views of a window have in common is what the encoder is asked to keep; six channels at most."
    return [Section("Views", sheet(rows, ["window", *(f"view {i + 1}" for i in range(len(views)))]), caption)]
