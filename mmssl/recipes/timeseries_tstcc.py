"""Pretrain TS-TCC on series, and say whether that helped.

python -m mmssl.recipes.timeseries_tstcc                # BasicMotions, about a minute on two cores
python -m mmssl.recipes.timeseries_tstcc data.path=plant.parquet data.id=machine data.time=t data.window=256
python -m mmssl.recipes.timeseries_tstcc --config-dir recipes/timeseries_tstcc --config-name ucr data.root=<UCR archive>
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmssl.recipes.command import command_line
from mmssl.recipes.experiment import filled
from mmssl.recipes.timeseries import SeriesConfig, SeriesRecipe, SeriesSizes, run_series, train_config
from mmssl.recipes.training import TrainConfig
from mmssl.timeseries.dataset import SeriesData
from mmssl.timeseries.encoders.tstcc import ConvEncoder
from mmssl.timeseries.tstcc import TSTCC, tstcc_views


@dataclass
class MethodConfig:
    """TS-TCC; the paper's settings, but for the views."""

    future: int | None = None  # features that are predicted; None: one for 20 timestamps (6 for 128 in the paper)
    width: int = 100
    depth: int = 4
    heads: int = 4
    hidden: int = 64
    temperature: float = 0.2
    contextual: float = 0.7
    reference: str | None = None  # paper: what the authors ran


@dataclass
class ViewsConfig:
    """The weak and the strong view."""

    scaling: float | None = None  # None: 0.2, or the paper's 1.1 with method.reference=paper
    jitter: float | None = None  # None: 0.2, or 0.8 likewise
    max_segments: int = 8


@dataclass
class Config(SeriesConfig):
    """All of the recipe's settings."""

    views: ViewsConfig = field(default_factory=ViewsConfig)
    train: TrainConfig = field(default_factory=lambda: train_config(betas=[0.9, 0.99], weight_decay=3e-4))
    method: MethodConfig = field(default_factory=MethodConfig)


def main(cfg: Config) -> Path:
    """Pretrain, evaluate, report; returns the run folder."""
    return run_series(cfg, RECIPE)


def build(encoder: Any, cfg: Config, data: SeriesData) -> TSTCC:
    if not isinstance(encoder, ConvEncoder):
        raise ValueError(f"TS-TCC needs features over time, and model.name={cfg.model.name} has none: take tstcc")
    method = asdict(cfg.method)
    augment = tstcc_views(**asdict(cfg.views), reference=method["reference"])
    return TSTCC(encoder, augment, seed=cfg.train.seed, **method)


def settle(method: MethodConfig, sizes: SeriesSizes) -> MethodConfig:
    return filled(method, future=max(1, sizes.timestamps // 20))


RECIPE = SeriesRecipe("timeseries_tstcc", "TS-TCC", build=build, settle=settle)

if __name__ == "__main__":
    command_line(main, Config, prog=f"python -m mmssl.recipes.{RECIPE.name}")
