"""Pretrain TS2Vec on sensor series, and say whether that helped.

    python -m mmssl.recipes.timeseries_ts2vec                # BasicMotions, about a minute on two cores, 97 %
    python -m mmssl.recipes.timeseries_ts2vec data.path=plant.parquet data.id=machine data.time=t data.window=256
    python -m mmssl.recipes.timeseries_ts2vec --config-dir recipes/timeseries_ts2vec --config-name ucr

Measured results stand in recipes/timeseries_ts2vec/README.md.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric

from mmssl.eval.evaluate import PROTOCOLS
from mmssl.recipes import session
from mmssl.recipes.command import command_line
from mmssl.recipes.results import write_results
from mmssl.recipes.scores import UNTRAINED
from mmssl.recipes.series_report import SeriesEvaluateConfig, SeriesScores, embedded_windows
from mmssl.recipes.sweep import sweep
from mmssl.recipes.training import HealthConfig, TrainConfig, train_seed, work_out
from mmssl.timeseries.dataset import DataConfig, SeriesData, SeriesSource, load_data
from mmssl.timeseries.embedder import SeriesEmbedder
from mmssl.timeseries.encoder import DilatedConvEncoder
from mmssl.timeseries.ts2vec import TS2Vec
from mmssl.train.export import save_embedder
from mmssl.train.fit import setup_fabric
from mmssl.train.pretrain import Probe
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
class Config:
    """All of the recipe's settings."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    health: HealthConfig = field(default_factory=HealthConfig)
    evaluate: SeriesEvaluateConfig = field(default_factory=SeriesEvaluateConfig)
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
    scores = SeriesScores(data, cfg.evaluate, method="ts2vec", title="TS2Vec")
    cfg = with_defaults(cfg, data, labelled=scores.labelled)
    run = session.open_run(cfg, recipe=RECIPE, fabric=fabric, folder=folder)
    whole = run if folder is None else Run(folder.parent)
    with session.resume_hint(whole, RECIPE, show=fabric.global_rank == 0):
        pretrain_and_score(cfg, data, scores, run, fabric)
    return run


def pretrain_and_score(cfg: Config, data: SeriesData, scores: SeriesScores, run: Run, fabric: Fabric) -> None:
    """All seeds into ``run``, then the report."""
    main_rank = fabric.global_rank == 0
    if main_rank:
        print(f"{data.name}\n{data.description}\nrun: {run.path}", flush=True)
        scores.controls()
    source = SeriesSource(data.train)
    looked_at = np.random.default_rng(0).permutation(len(source))[: max(16, min(64, PROBE_STEPS // source.length))]
    first: SeriesEmbedder | None = None
    diagnoses = []
    assert cfg.train.seeds is not None
    for seed in range(cfg.train.seed, cfg.train.seed + cfg.train.seeds):
        torch.manual_seed(seed)
        arguments = {"in_channels": len(data.preprocessor.channels), **asdict(cfg.model)}
        encoder = DilatedConvEncoder(**arguments)
        if main_rank:
            scores.encoder(encoder, subject=UNTRAINED, seed=seed)
        method = TS2Vec(encoder, seed=seed, **asdict(cfg.method))
        if cfg.train.compile:
            method.compile_encoder()
        probe = Probe(source.fetch(looked_at), encoder)
        diagnosis = train_seed(
            method,
            source,
            probe=probe,
            train=cfg.train,
            health=cfg.health,
            run=run,
            fabric=fabric,
            seed=seed,
        )
        diagnoses.append(diagnosis)
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
        embedded = embedded_windows(data, first)
        write_results(
            run, cfg, scores, diagnoses, embedded, recipe=RECIPE, dataset=data.name, description=data.description
        )
    fabric.barrier()


def with_defaults(cfg: Config, data: SeriesData, *, labelled: bool) -> Config:
    """Every None and "auto" that stands for a value is replaced by it, so that config.yaml hides nothing."""
    values = int(data.train.lengths.sum()) * len(data.preprocessor.channels)
    train = work_out(
        cfg.train, samples=len(data.train), steps=200 if values <= 100_000 else 600, seeds=3 if labelled else 1
    )
    missing = cfg.model.missing
    if missing == "auto":
        missing = "indicator" if data.partly_missing else "drop"
    return replace(cfg, train=train, model=replace(cfg.model, missing=missing))


if __name__ == "__main__":
    command_line(main, Config, prog=f"python -m mmssl.recipes.{RECIPE}")
