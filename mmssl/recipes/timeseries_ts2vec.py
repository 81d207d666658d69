"""Pretrain TS2Vec on sensor series, and say whether that helped.

    python -m mmssl.recipes.timeseries_ts2vec                # BasicMotions, about a minute on two cores, 97 %
    python -m mmssl.recipes.timeseries_ts2vec data.path=plant.parquet data.id=machine data.time=t data.window=256
    python -m mmssl.recipes.timeseries_ts2vec --config-dir recipes/timeseries_ts2vec --config-name ucr

Measured results stand in recipes/timeseries_ts2vec/README.md.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric

from mmssl.core.health import Diagnosis
from mmssl.core.schedules import warmup_cosine
from mmssl.eval.evaluate import PROTOCOLS
from mmssl.recipes import session
from mmssl.recipes.command import command_line
from mmssl.recipes.series_report import EvaluateConfig, Scores, write_results
from mmssl.recipes.sweep import sweep
from mmssl.timeseries.dataset import DataConfig, SeriesData, SeriesSource, load_data
from mmssl.timeseries.embedder import SeriesEmbedder
from mmssl.timeseries.encoder import DilatedConvEncoder
from mmssl.timeseries.ts2vec import TS2Vec
from mmssl.train.batches import ShuffledBatches
from mmssl.train.export import save_embedder
from mmssl.train.fit import setup_fabric
from mmssl.train.pretrain import Probe, pretrain
from mmssl.train.run import Run

RECIPE = "timeseries_ts2vec"
DEFAULT_DATA = "BasicMotions"
PROBE_STEPS = 20_000  # timestamps of the windows that health looks at


@dataclass
class ModelConfig:
    """The encoder; the paper's sizes."""

    dim: int = 320
    hidden: int = 64
    depth: int = 10
    missing: str = "auto"  # drop (the paper), indicator, or auto: indicator where single channels are missing


@dataclass
class MethodConfig:
    """TS2Vec; the paper's settings."""

    temporal_unit: int = 0
    mask_rate: float = 0.5
    max_length: int | None = 3000
    crop_multiple: int = 1


@dataclass
class TrainConfig:
    """The training; the paper's settings."""

    steps: int | None = None  # None: 200 up to 100,000 values of training windows, else 600
    batch_size: int = 8  # over all processes
    lr: float = 1e-3
    weight_decay: float = 0.01
    schedule: str = "constant"  # or cosine
    warmup: float = 0.0  # share of the steps, with cosine
    clip_norm: float | None = None
    accumulate: int = 1
    seed: int = 0
    seeds: int | None = None  # trainings, from `seed` on; None: 3 with labels, else 1
    device: str = "auto"
    precision: str = "32-true"  # or bf16-mixed
    compile: bool = False
    workers: int = 0
    log_every: int | None = None  # None: 20 times
    checkpoint_every: int | None = None  # None: 5 times


@dataclass
class HealthConfig:
    stop: bool = False  # stop when the embeddings collapse, instead of a warning


@dataclass
class Config:
    """All of the recipe's settings."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    health: HealthConfig = field(default_factory=HealthConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    names: list[str] = field(default_factory=list)  # several data sets of an archive, one after the other
    root: str = "runs"  # folder of all runs
    resume: str | None = None  # a run folder to go on with


def main(cfg: Config) -> Path:
    """Pretrain, evaluate, report; returns the run folder."""
    fabric = setup_fabric(device=cfg.train.device, precision=cfg.train.precision)  # type: ignore[arg-type]
    cfg = session.configuration(cfg)
    if not cfg.names:
        return run_one(cfg, fabric).path
    run = session.open_run(cfg, recipe=RECIPE, fabric=fabric)

    def one(name: str, folder: Path) -> None:
        run_one(replace(cfg, names=[], data=replace(cfg.data, name=name)), fabric, folder)

    sweep(run.path, cfg.names, one, protocol=PROTOCOLS[cfg.evaluate.protocols[0]].id)
    return run.path


def run_one(cfg: Config, fabric: Fabric, folder: Path | None = None) -> Run:
    """One data set, all seeds."""
    if cfg.data.name is None and cfg.data.path is None:
        cfg = replace(cfg, data=replace(cfg.data, name=DEFAULT_DATA))
    data = load_data(cfg.data, min_length=2 ** (cfg.method.temporal_unit + 1), seed=cfg.train.seed)
    scores = Scores(data, cfg.evaluate, method="ts2vec", title="TS2Vec")
    cfg = work_out(cfg, data, labelled=scores.labelled)
    run = session.open_run(cfg, recipe=RECIPE, fabric=fabric, folder=folder)
    main_rank = fabric.global_rank == 0
    if main_rank:
        print(f"{data.name}\n{data.description}\nrun: {run.path}", flush=True)
        scores.controls()
    first: SeriesEmbedder | None = None
    diagnoses = []
    assert cfg.train.seeds is not None
    for seed in range(cfg.train.seed, cfg.train.seed + cfg.train.seeds):
        torch.manual_seed(seed)
        arguments = {"in_channels": len(data.preprocessor.channels), **asdict(cfg.model)}
        encoder = DilatedConvEncoder(**arguments)
        if main_rank:
            scores.encoder(encoder, subject="random-encoder", seed=seed)
        method = TS2Vec(encoder, seed=seed, **asdict(cfg.method))
        try:
            diagnoses.append(pretrain_seed(method, data, run, cfg, fabric, seed))
        except KeyboardInterrupt:
            if main_rank:
                print(f"\nstopped; go on with\n  {session.resume_command(run, RECIPE)}", file=sys.stderr)
            raise
        final = method.export()
        assert isinstance(final, DilatedConvEncoder)
        if main_rank:
            scores.encoder(final, subject="ts2vec", seed=seed)
        if first is None:
            options = {name: getattr(cfg.data, name) for name in ("window", "stride", "id", "time", "resample")}
            first = SeriesEmbedder(final, arguments, data.preprocessor, **options)
            if main_rank:
                save_embedder(run.path, first)
    assert first is not None
    if main_rank:
        write_results(run, cfg, scores, first, diagnoses, recipe=RECIPE)
    fabric.barrier()
    return run


def pretrain_seed(method: TS2Vec, data: SeriesData, run: Run, cfg: Config, fabric: Fabric, seed: int) -> Diagnosis:
    """The training of one seed, or what is left of it."""
    train = cfg.train
    assert train.steps is not None
    assert train.log_every is not None
    if fabric.world_size > 1:  # ranks draw different masks and dropout; with one process nothing is drawn in between
        torch.manual_seed(seed + 7919 * fabric.global_rank)
    source = SeriesSource(data.train)
    batches = ShuffledBatches(
        source,
        batch_size=train.batch_size // train.accumulate,
        seed=seed,
        workers=train.workers,
        pin_memory=fabric.device.type == "cuda",
    )
    if train.compile:
        method.compile_encoder()
    optimizer = torch.optim.AdamW(method.encoder.parameters(), lr=train.lr, weight_decay=train.weight_decay, fused=True)
    chosen = np.random.default_rng(seed).permutation(len(source))[: max(16, min(64, PROBE_STEPS // source.length))]
    with run.log(seed) as log:
        return pretrain(
            method,
            batches,
            optimizer=optimizer,
            steps=train.steps,
            fabric=fabric,
            log=log,
            probe=Probe(source.fetch(chosen), method.encoder),
            title=f"seed {seed}",
            stop_on_collapse=cfg.health.stop,
            checkpoints=run.checkpoints(seed),
            checkpoint_every=train.checkpoint_every,
            schedule=partial(warmup_cosine, warmup=train.warmup) if train.schedule == "cosine" else None,
            accumulate=train.accumulate,
            clip_norm=train.clip_norm,
            log_every=train.log_every,
        )


def work_out(cfg: Config, data: SeriesData, *, labelled: bool) -> Config:
    """Replaces every None and "auto" that stands for a value, so that config.yaml hides nothing."""
    train = cfg.train
    if train.schedule not in ("constant", "cosine"):
        raise ValueError(f"train.schedule must be constant or cosine, got {train.schedule!r}")
    values = int(data.train.lengths.sum()) * len(data.preprocessor.channels)
    steps = train.steps or (200 if values <= 100_000 else 600)
    train = replace(
        train,
        steps=steps,
        seeds=train.seeds or (3 if labelled else 1),
        log_every=train.log_every or max(1, steps // 20),
        checkpoint_every=train.checkpoint_every or max(1, steps // 5),
    )
    missing = cfg.model.missing
    if missing == "auto":
        missing = "indicator" if data.partly_missing else "drop"
    return replace(cfg, train=train, model=replace(cfg.model, missing=missing))


if __name__ == "__main__":
    command_line(main, Config, prog=f"python -m mmssl.recipes.{RECIPE}")
