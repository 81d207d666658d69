"""Pretrain TS2Vec on sensor series, and say whether that helped.

    python -m mmssl.recipes.timeseries_ts2vec                # BasicMotions, about a minute on two cores, 97 %
    python -m mmssl.recipes.timeseries_ts2vec data.path=plant.parquet data.id=machine data.time=t data.window=256
    python -m mmssl.recipes.timeseries_ts2vec --config-dir recipes/timeseries_ts2vec --config-name ucr

Measured results stand in recipes/timeseries_ts2vec/README.md.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from lightning_fabric import Fabric
from torch import nn

from mmssl.eval.report import Section
from mmssl.recipes.command import command_line
from mmssl.recipes.experiment import Recipe, Training, run_recipe
from mmssl.recipes.series_report import SeriesEvaluateConfig, SeriesScores
from mmssl.recipes.timeseries import LOOKED_AT, SeriesExperiment, with_default_data
from mmssl.recipes.training import HealthConfig, TrainConfig, work_out
from mmssl.timeseries.dataset import DataConfig, SeriesData, load_data
from mmssl.timeseries.encoder import DilatedConvEncoder
from mmssl.timeseries.ts2vec import TS2Vec
from mmssl.train.pretrain import Probe

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
    return run_recipe(cfg, RECIPE, prepare)


def prepare(cfg: Config, recipe: Recipe, fabric: Fabric) -> TS2VecExperiment:
    """Open the data and work out the settings."""
    cfg = with_default_data(cfg)
    data = load_data(cfg.data, min_length=2 ** (cfg.method.temporal_unit + 1), seed=cfg.train.seed)
    scores = SeriesScores(data, cfg.evaluate, method=recipe.subject, title=recipe.title)
    return TS2VecExperiment(with_defaults(cfg, data, labelled=scores.labelled), recipe, data, scores, fabric)


class TS2VecExperiment(SeriesExperiment):
    """TS2Vec has an encoder of its own, and as few windows are looked at as they are long."""

    def make_encoder(self) -> DilatedConvEncoder:
        return DilatedConvEncoder(**self.arguments())

    def arguments(self) -> dict[str, Any]:
        return {"in_channels": len(self.data.preprocessor.channels), **asdict(self.cfg.model)}

    def training(self, encoder: nn.Module, seed: int) -> Training:
        source = self.source()
        count = max(16, min(LOOKED_AT, PROBE_STEPS // source.length))
        looked_at = np.random.default_rng(0).permutation(len(source))[:count]
        assert isinstance(encoder, DilatedConvEncoder)
        method = TS2Vec(encoder, seed=seed, **asdict(self.cfg.method))
        return Training(method, source, Probe(source.fetch(looked_at), encoder))

    def compile(self, method: nn.Module, encoder: nn.Module) -> None:
        assert isinstance(method, TS2Vec)
        method.compile_encoder()

    def sections(self, method: nn.Module, encoder: nn.Module) -> list[Section]:
        return []  # its views are masks inside the encoder


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


RECIPE = Recipe("timeseries_ts2vec", "TS2Vec")

if __name__ == "__main__":
    command_line(main, Config, prog=f"python -m mmssl.recipes.{RECIPE.name}")
