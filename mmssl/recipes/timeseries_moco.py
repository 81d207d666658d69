"""Pretrain MoCo v2 on series, and say whether that helped.

python -m mmssl.recipes.timeseries_moco                # BasicMotions, about a minute on two cores
python -m mmssl.recipes.timeseries_moco data.path=plant.parquet data.id=machine data.time=t data.window=256
python -m mmssl.recipes.timeseries_moco data.name=GunPoint model.name=tstcc
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmssl.core.methods import scaling
from mmssl.core.methods.joint_embedding import JointEmbedding
from mmssl.core.methods.moco import moco
from mmssl.recipes.command import command_line
from mmssl.recipes.experiment import filled
from mmssl.recipes.timeseries import JointConfig, SeriesRecipe, SeriesSizes, make_views, run_series
from mmssl.timeseries.dataset import SeriesData


@dataclass
class MethodConfig:
    """The projector, the queue and the teacher; None is worked out from the amount of data."""

    hidden: int | None = None  # None: the encoder's width
    out: int = 128
    queue: int | None = None  # None: about a twelfth of the data
    momentum: float | None = None  # None: the teacher looks back one epoch
    temperature: float = 0.2


@dataclass
class Config(JointConfig):
    """All of the recipe's settings."""

    method: MethodConfig = field(default_factory=MethodConfig)


def main(cfg: Config) -> Path:
    """Pretrain, evaluate, report; returns the run folder."""
    return run_series(cfg, RECIPE)


def build(encoder: Any, cfg: Config, data: SeriesData) -> JointEmbedding:
    return moco(encoder, make_views(cfg), **asdict(cfg.method))


def settle(method: MethodConfig, sizes: SeriesSizes) -> MethodConfig:
    return filled(
        method,
        hidden=sizes.dim,
        queue=scaling.queue_size(sizes.samples, sizes.batch),
        momentum=scaling.teacher_momentum(sizes.samples, sizes.batch),
    )


RECIPE = SeriesRecipe("timeseries_moco", "MoCo v2", build=build, settle=settle)

if __name__ == "__main__":
    command_line(main, Config, prog=f"python -m mmssl.recipes.{RECIPE.name}")
