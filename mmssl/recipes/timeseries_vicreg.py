"""Pretrain VICReg on series, and say whether that helped.

python -m mmssl.recipes.timeseries_vicreg                # BasicMotions, about a minute on two cores
python -m mmssl.recipes.timeseries_vicreg data.path=plant.parquet data.id=machine data.time=t data.window=256
python -m mmssl.recipes.timeseries_vicreg data.name=GunPoint views.frequency_mask=0.1
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmssl.core.methods.joint_embedding import JointEmbedding
from mmssl.core.methods.vicreg import vicreg
from mmssl.recipes.command import command_line
from mmssl.recipes.experiment import filled
from mmssl.recipes.timeseries import JointConfig, SeriesRecipe, SeriesSizes, make_views, run_series
from mmssl.timeseries.dataset import SeriesData


@dataclass
class MethodConfig:
    """The expander and the weights of the terms; None is worked out from the encoder."""

    width: int | None = None  # None: four times the encoder's, as in the paper
    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 1.0


@dataclass
class Config(JointConfig):
    """All of the recipe's settings."""

    method: MethodConfig = field(default_factory=MethodConfig)


def main(cfg: Config) -> Path:
    """Pretrain, evaluate, report; returns the run folder."""
    return run_series(cfg, RECIPE)


def build(encoder: Any, cfg: Config, data: SeriesData) -> JointEmbedding:
    return vicreg(encoder, make_views(cfg), **asdict(cfg.method))


def settle(method: MethodConfig, sizes: SeriesSizes) -> MethodConfig:
    return filled(
        method,
        width=4 * sizes.dim,
    )


RECIPE = SeriesRecipe("timeseries_vicreg", "VICReg", build=build, settle=settle)

if __name__ == "__main__":
    command_line(main, Config, prog=f"python -m mmssl.recipes.{RECIPE.name}")
