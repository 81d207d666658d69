"""Pretrain DINO on series, and say whether that helped.

python -m mmssl.recipes.timeseries_dino                # BasicMotions, about a minute on two cores
python -m mmssl.recipes.timeseries_dino data.path=plant.parquet data.id=machine data.time=t data.window=256
python -m mmssl.recipes.timeseries_dino data.name=GunPoint model.name=patch
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmssl.core.methods import scaling
from mmssl.core.methods.dino import dino
from mmssl.core.methods.joint_embedding import JointEmbedding
from mmssl.recipes.command import command_line
from mmssl.recipes.experiment import filled
from mmssl.recipes.timeseries import JointConfig, SeriesRecipe, SeriesSizes, make_views, run_series
from mmssl.timeseries.dataset import SeriesData


@dataclass
class MethodConfig:
    """The head, the teacher and its targets; None is worked out from the encoder and the amount of data."""

    hidden: int | None = None  # None: four times the encoder's width, at most the paper's 2048
    bottleneck: int = 64
    prototypes: int | None = None  # None: one for about twelve samples, 128 at least
    norm: bool = False  # batch normalisation in the head
    momentum: float | None = None  # at the start; None: the teacher looks back one epoch
    student_temperature: float = 0.1
    teacher_temperature: float = 0.07
    warmup_teacher_temperature: float = 0.04
    warmup: float = 0.3  # share of the training
    centre_momentum: float = 0.9
    centring: str = "centre"  # or sinkhorn
    freeze: float | None = None  # share of the training; None: one epoch


@dataclass
class Config(JointConfig):
    """All of the recipe's settings."""

    method: MethodConfig = field(default_factory=MethodConfig)


def main(cfg: Config) -> Path:
    """Pretrain, evaluate, report; returns the run folder."""
    return run_series(cfg, RECIPE)


def build(encoder: Any, cfg: Config, data: SeriesData) -> JointEmbedding:
    return dino(encoder, make_views(cfg), **asdict(cfg.method))


def settle(method: MethodConfig, sizes: SeriesSizes) -> MethodConfig:
    return filled(
        method,
        hidden=min(2048, 4 * sizes.dim),
        prototypes=scaling.prototypes(sizes.samples, per_prototype=12, low=128, high=65_536),
        momentum=scaling.teacher_momentum(sizes.samples, sizes.batch),
        freeze=sizes.epoch,
    )


RECIPE = SeriesRecipe("timeseries_dino", "DINO", build=build, settle=settle)

if __name__ == "__main__":
    command_line(main, Config, prog=f"python -m mmssl.recipes.{RECIPE.name}")
