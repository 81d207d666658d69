"""Pretrain TNC on long recordings, and say whether that helped.

    python -m mmssl.recipes.timeseries_tnc                # exercises with a smartwatch, two minutes on two cores
    python -m mmssl.recipes.timeseries_tnc data.path=plant.parquet data.id=machine data.time=t data.window=256
    python -m mmssl.recipes.timeseries_tnc --config-dir recipes/timeseries_tnc --config-name simulated

Measured results stand in recipes/timeseries_tnc/README.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from lightning_fabric import Fabric
from torch import nn

from mmssl.core.methods import scaling
from mmssl.eval.report import Section
from mmssl.recipes.command import command_line
from mmssl.recipes.experiment import Recipe, Training, run_recipe
from mmssl.recipes.series_report import SeriesEvaluateConfig, SeriesScores
from mmssl.recipes.timeseries import LOOKED_AT, SeriesConfig, SeriesExperiment, make_encoder, train_config
from mmssl.recipes.training import TrainConfig, work_out
from mmssl.timeseries.dataset import SeriesData, load_data
from mmssl.timeseries.recordings import Recordings
from mmssl.timeseries.series import Windows
from mmssl.timeseries.tnc import TNC
from mmssl.train.pretrain import Probe

DEFAULT_DATA, DEFAULT_WINDOW = "watch", 200  # four seconds, twice the exercise


@dataclass
class MethodConfig:
    """TNC."""

    pairs: int = 2  # neighbours of each window, and as many others; 40 in the authors' simulation
    weight: float = 0.05  # w: how likely what is far away is a neighbour after all
    neighbourhood: int | None = None  # windows to either side; None: as far as the recording is stationary


@dataclass
class Config(SeriesConfig):
    """All of the recipe's settings."""

    train: TrainConfig = field(default_factory=train_config)
    evaluate: SeriesEvaluateConfig = field(
        default_factory=lambda: SeriesEvaluateConfig(protocols=["probe", "knn"], controls=["statistics", "raw"])
    )
    method: MethodConfig = field(default_factory=MethodConfig)


def main(cfg: Config) -> Path:
    """Pretrain, evaluate, report; returns the run folder."""
    return run_recipe(cfg, RECIPE, prepare)


def prepare(cfg: Config, recipe: Recipe, fabric: Fabric) -> TNCExperiment:
    """Open the data, test where it is stationary, and work out the settings."""
    if cfg.data.name is None and cfg.data.path is None:
        window = cfg.data.window or DEFAULT_WINDOW
        cfg = replace(cfg, data=replace(cfg.data, name=DEFAULT_DATA, window=window))
    if cfg.data.window is None:
        raise ValueError(
            "TNC compares windows of one recording and needs their length: set data.window to the rows that show what "
            "is going on, such as two seconds of a movement"
        )
    data = load_data(cfg.data, seed=cfg.train.seed)
    if not isinstance(data.train, Windows):
        raise ValueError("TNC takes its windows from recordings in memory: set data.in_memory=true, or a larger memory")
    scores = SeriesScores(data, cfg.evaluate, method=recipe.subject, title=recipe.title)
    recordings = Recordings(data.train.series, window=cfg.data.window, neighbourhood=cfg.method.neighbourhood)
    train = work_out(cfg.train, samples=len(recordings), steps=120, seeds=3 if scores.labelled else 1)
    if cfg.train.warmup is None:
        assert train.steps is not None
        train = replace(train, warmup=scaling.warmup(len(recordings), train.batch_size, train.steps))
    cfg = replace(cfg, train=train)
    TNC(make_encoder(cfg, data), recordings, pairs=cfg.method.pairs, weight=cfg.method.weight)  # complains now
    return TNCExperiment(cfg, recipe, data, scores, fabric, recordings)


class TNCExperiment(SeriesExperiment):
    """The batches of TNC are places in recordings; its encoder takes the same windows as every other."""

    def __init__(
        self,
        cfg: Any,
        recipe: Recipe,
        data: SeriesData,
        scores: SeriesScores,
        fabric: Fabric,
        recordings: Recordings,
    ) -> None:
        super().__init__(cfg, recipe, data, scores, fabric)
        self.recordings = recordings
        one, two, three = (float(np.mean(recordings.sizes == size)) for size in (1, 2, 3))
        self.description += (
            f"\nneighbourhoods at {len(recordings):,} places: one window to either side at {one:.0%}, two at "
            f"{two:.0%}, three at {three:.0%}"
        )

    def training(self, encoder: nn.Module, seed: int) -> Training:
        source = self.source()
        looked_at = np.random.default_rng(0).permutation(len(source))[:LOOKED_AT]
        method = TNC(encoder, self.recordings, pairs=self.cfg.method.pairs, weight=self.cfg.method.weight)
        return Training(method, self.recordings, Probe(source.fetch(looked_at), encoder))

    def sections(self, method: nn.Module, encoder: nn.Module) -> list[Section]:
        return []  # nothing is changed about a window


RECIPE = Recipe("timeseries_tnc", "TNC")

if __name__ == "__main__":
    command_line(main, Config, prog=f"python -m mmssl.recipes.{RECIPE.name}")
