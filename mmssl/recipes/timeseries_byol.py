"""Pretrain BYOL on series, and say whether that helped.

python -m mmssl.recipes.timeseries_byol                # BasicMotions, about a minute on two cores
python -m mmssl.recipes.timeseries_byol data.path=plant.parquet data.id=machine data.time=t data.window=256
python -m mmssl.recipes.timeseries_byol data.name=GunPoint views.time_warp=0.2
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmssl.core.methods import scaling
from mmssl.core.methods.byol import byol
from mmssl.core.methods.joint_embedding import JointEmbedding
from mmssl.recipes.command import command_line
from mmssl.recipes.experiment import filled
from mmssl.recipes.timeseries import JointConfig, SeriesRecipe, SeriesSizes, make_views, run_series
from mmssl.timeseries.dataset import SeriesData


@dataclass
class MethodConfig:
    """The heads and the teacher; None is worked out from the encoder and the amount of data."""

    hidden: int | None = None  # None: twice the encoder's width, as in the paper
    out: int = 128
    momentum: float | None = None  # at the start; None: the teacher looks back one epoch


@dataclass
class Config(JointConfig):
    """All of the recipe's settings."""

    method: MethodConfig = field(default_factory=MethodConfig)


def main(cfg: Config) -> Path:
    """Pretrain, evaluate, report; returns the run folder."""
    return run_series(cfg, RECIPE)


def build(encoder: Any, cfg: Config, data: SeriesData) -> JointEmbedding:
    return byol(encoder, make_views(cfg), **asdict(cfg.method))


def settle(method: MethodConfig, sizes: SeriesSizes) -> MethodConfig:
    return filled(
        method,
        hidden=2 * sizes.dim,
        momentum=scaling.teacher_momentum(sizes.samples, sizes.batch),
    )


RECIPE = SeriesRecipe("timeseries_byol", "BYOL", build=build, settle=settle)

if __name__ == "__main__":
    command_line(main, Config, prog=f"python -m mmssl.recipes.{RECIPE.name}")
