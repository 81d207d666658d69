"""Pretrain SimCLR on series, and say whether that helped.

python -m mmssl.recipes.timeseries_simclr                # BasicMotions, about a minute on two cores
python -m mmssl.recipes.timeseries_simclr data.path=plant.parquet data.id=machine data.time=t data.window=256
python -m mmssl.recipes.timeseries_simclr data.name=GunPoint model.name=patch
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmssl.core.methods.joint_embedding import JointEmbedding
from mmssl.core.methods.simclr import simclr
from mmssl.recipes.command import command_line
from mmssl.recipes.experiment import filled
from mmssl.recipes.timeseries import JointConfig, SeriesRecipe, SeriesSizes, make_views, run_series
from mmssl.timeseries.dataset import SeriesData


@dataclass
class MethodConfig:
    """The projector and the loss."""

    hidden: int | None = None  # None: the encoder's width
    out: int = 128
    temperature: float = 0.2


@dataclass
class Config(JointConfig):
    """All of the recipe's settings."""

    method: MethodConfig = field(default_factory=MethodConfig)


def main(cfg: Config) -> Path:
    """Pretrain, evaluate, report; returns the run folder."""
    return run_series(cfg, RECIPE)


def build(encoder: Any, cfg: Config, data: SeriesData) -> JointEmbedding:
    return simclr(encoder, make_views(cfg), **asdict(cfg.method))


def settle(method: MethodConfig, sizes: SeriesSizes) -> MethodConfig:
    return filled(
        method,
        hidden=sizes.dim,
    )


RECIPE = SeriesRecipe("timeseries_simclr", "SimCLR", build=build, settle=settle)

if __name__ == "__main__":
    command_line(main, Config, prog=f"python -m mmssl.recipes.{RECIPE.name}")
