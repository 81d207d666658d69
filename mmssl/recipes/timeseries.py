"""What the recipes share that bring a method of the core to series: their configuration, and the way to a report.

A recipe adds the settings of its method, how they follow from the amount of data, and how the method is put together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from mmssl.core.methods import scaling
from mmssl.core.statistics import estimate_statistics
from mmssl.core.types import Encoder
from mmssl.eval.report import Section
from mmssl.recipes import session
from mmssl.recipes.results import write_results
from mmssl.recipes.scores import UNTRAINED
from mmssl.recipes.series_report import SeriesEvaluateConfig, SeriesScores, embedded_windows
from mmssl.recipes.training import HealthConfig, TrainConfig, train_seed, work_out
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
from mmssl.timeseries.dataset import DataConfig, SeriesData, SeriesSource, load_data
from mmssl.timeseries.embedder import SeriesEmbedder
from mmssl.timeseries.encoders.build import build_encoder
from mmssl.timeseries.pictures import sheet
from mmssl.train.batches import ShuffledBatches
from mmssl.train.export import save_embedder
from mmssl.train.fit import setup_fabric
from mmssl.train.pretrain import Probe
from mmssl.train.run import Run

DEFAULT_DATA = "BasicMotions"
LOOKED_AT = 64  # windows that health looks at
ESTIMATED = 10  # batches for the statistics of batch normalisation before training
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
    root: str = "runs"  # folder of all runs
    resume: str | None = None  # a run folder to go on with


@dataclass
class JointConfig(SeriesConfig):
    """The same with views, for methods that compare them."""

    views: ViewsConfig = field(default_factory=ViewsConfig)


@dataclass(frozen=True)
class Sizes:
    """What settings are worked out from.

    Args:
        samples: training windows.
        batch: of a step, over all processes.
        steps: of the training.
        dim: of the encoder.
        timestamps: of the longest window.
    """

    samples: int
    batch: int
    steps: int
    dim: int
    timestamps: int

    @property
    def epoch(self) -> float:
        """Share of the training that one epoch is."""
        return min(1.0, self.samples / self.batch / self.steps)


@dataclass(frozen=True)
class Recipe:
    """What tells one recipe from another.

    Args:
        name: of its module.
        title: of its method.
        build: ``(encoder, cfg, data)`` to the method.
        settle: ``(cfg.method, sizes)`` to the same without a None.
        lr: learning rate, where the user says nothing.
        steps: of the optimiser, likewise.
    """

    name: str
    title: str
    build: Callable[[Any, Any, SeriesData], nn.Module]
    settle: Callable[[Any, Sizes], Any]
    lr: float = 1e-3
    steps: int = 300

    @property
    def subject(self) -> str:
        return self.name.removeprefix("timeseries_").replace("_", "-")


def run_series(cfg: SeriesConfig, recipe: Recipe) -> Path:
    """Pretrain, evaluate, report; returns the run folder."""
    fabric = setup_fabric(device=cfg.train.device, precision=cfg.train.precision)  # type: ignore[arg-type]
    cfg = session.configuration(cfg)
    if cfg.data.name is None and cfg.data.path is None:
        cfg = replace(cfg, data=replace(cfg.data, name=DEFAULT_DATA))
    data = load_data(cfg.data, seed=cfg.train.seed)
    scores = SeriesScores(data, cfg.evaluate, method=recipe.subject, title=recipe.title)
    cfg = settle(cfg, recipe, data, labelled=scores.labelled)
    try_out(cfg, recipe, data)
    run = session.open_run(cfg, recipe=recipe.name, fabric=fabric)
    with session.resume_hint(run, recipe.name, show=fabric.global_rank == 0):
        pretrain_and_score(cfg, recipe, data, scores, run, fabric)
    return run.path


def pretrain_and_score(
    cfg: Any, recipe: Recipe, data: SeriesData, scores: SeriesScores, run: Run, fabric: Fabric
) -> None:
    """All seeds into ``run``, then the report."""
    main_rank = fabric.global_rank == 0
    if main_rank:
        print(f"{data.name}\n{data.description}\nrun: {run.path}", flush=True)
        scores.controls()
    source = SeriesSource(data.train)
    looked_at = np.random.default_rng(0).permutation(len(source))[:LOOKED_AT]
    first: SeriesEmbedder | None = None
    sections: list[Section] = []
    diagnoses = []
    for seed in range(cfg.train.seed, cfg.train.seed + cfg.train.seeds):
        torch.manual_seed(seed)
        encoder = make_encoder(cfg, data)
        estimate_statistics(
            encoder, islice(ShuffledBatches(source, batch_size=cfg.train.batch_size, seed=seed)(), ESTIMATED)
        )
        if main_rank:
            scores.encoder(encoder, subject=UNTRAINED, seed=seed)
        method = recipe.build(encoder, cfg, data)
        if fabric.device.type == "cuda" and fabric.world_size > 1:  # torch has none for CPUs
            method = nn.SyncBatchNorm.convert_sync_batchnorm(method)
        if cfg.train.compile:
            encoder.compile()
        diagnosis = train_seed(
            method,
            source,
            probe=Probe(source.fetch(looked_at), encoder),
            train=cfg.train,
            health=cfg.health,
            run=run,
            fabric=fabric,
            seed=seed,
        )
        diagnoses.append(diagnosis)
        final = method.export()  # type: ignore[operator]
        if main_rank:
            scores.encoder(final, subject=recipe.subject, seed=seed)
        if first is None:
            reading = {name: getattr(cfg.data, name) for name in ("window", "stride", "id", "time", "resample")}
            first = SeriesEmbedder(final, arguments(cfg, data), data.preprocessor, **reading)
            if main_rank:
                save_embedder(run.path, first)
                sections = previews(method, source)
    assert first is not None
    if main_rank:
        write_results(
            run,
            cfg,
            scores,
            diagnoses,
            embedded_windows(data, first),
            recipe=recipe.name,
            dataset=data.name,
            description=data.description,
            sections=sections,
        )
    fabric.barrier()


def arguments(cfg: Any, data: SeriesData) -> dict[str, Any]:
    """What the encoder is built with, beside its name."""
    given = {name: value for name, value in vars(cfg.model).items() if name != "name" and value is not None}
    return {"in_channels": len(data.preprocessor.channels), **given}


def make_encoder(cfg: Any, data: SeriesData) -> nn.Module:
    """The encoder of ``cfg.model`` for the series of ``data``."""
    return build_encoder(cfg.model.name, **arguments(cfg, data))


def make_views(cfg: Any) -> SeriesViews:
    """Two views by ``cfg.views``."""
    v: ViewsConfig = cfg.views
    steps: list[tuple[bool, Callable[[], Step]]] = [
        (list(v.crop) != [1, 1], lambda: CropResize(tuple(v.crop))),
        (v.time_warp != 0, lambda: TimeWarp(v.time_warp)),
        (v.permutation != 1, lambda: Permutation(v.permutation)),
        (v.rotation != 0, lambda: Rotation(v.rotation)),
        (v.scaling != 0, lambda: Scaling(v.scaling)),
        (v.magnitude_warp != 0, lambda: MagnitudeWarp(v.magnitude_warp)),
        (v.frequency_mask != 0, lambda: FrequencyMask(v.frequency_mask)),
        (v.frequency_mix != 0, lambda: FrequencyMix(v.frequency_mix)),
        (v.channel_dropout != 0, lambda: ChannelDropout(v.channel_dropout)),
        (v.time_mask != 0, lambda: TimeMask(v.time_mask)),
        (v.jitter != 0, lambda: Jitter(v.jitter)),
    ]
    return SeriesViews(Pipeline(tuple(make() for used, make in steps if used)))


def settle(cfg: C, recipe: Recipe, data: SeriesData, *, labelled: bool) -> C:
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
    sizes = Sizes(len(data.train), train.batch_size, train.steps, dim, data.train.length)
    if cfg.train.warmup is None:
        train = replace(train, warmup=scaling.warmup(sizes.samples, sizes.batch, sizes.steps))
    return replace(cfg, train=train, method=recipe.settle(cfg.method, sizes))


def try_out(cfg: Any, recipe: Recipe, data: SeriesData) -> None:
    """Put the method together and show it two windows: what cannot work is said now, not after minutes of scoring.

    Raises:
        ValueError: it cannot work; the message says why.
    """
    method = recipe.build(make_encoder(cfg, data), cfg, data)
    method(SeriesSource(data.train).fetch(np.arange(2)))


def filled(settings: C, **values: Any) -> C:
    """``settings`` with ``values`` where they are None."""
    return replace(settings, **{name: value for name, value in values.items() if getattr(settings, name) is None})


def previews(method: Any, source: SeriesSource) -> list[Section]:
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
