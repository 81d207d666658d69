"""Pretrain BYOL on rows with SCARF's views, and say whether that helped.

python -m mmssl.recipes.tabular_byol                # breast cancer, 569 rows, two cores
python -m mmssl.recipes.tabular_byol data.path=table.csv data.label=churned
python -m mmssl.recipes.tabular_byol data.name=wine method.corruption=0.4
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from mmssl.core.methods import scaling
from mmssl.core.methods.byol import byol
from mmssl.core.methods.joint_embedding import JointEmbedding
from mmssl.recipes.command import command_line
from mmssl.recipes.experiment import Sizes, filled
from mmssl.recipes.tabular import TableRecipe, TabularConfig, make_views, run_tabular


@dataclass
class MethodConfig:
    """The view, the heads and the teacher; None is worked out from the encoder and the amount of data."""

    corruption: float = 0.6  # share of the columns that are drawn anew in the second view
    hidden: int | None = None  # None: twice the encoder's width, as in the paper
    out: int = 128
    momentum: float | None = None  # at the start; None: the teacher looks back one epoch


@dataclass
class Config(TabularConfig):
    """All of the recipe's settings."""

    method: MethodConfig = field(default_factory=MethodConfig)


def main(cfg: Config) -> Path:
    """Pretrain, evaluate, report; returns the run folder."""
    return run_tabular(cfg, RECIPE)


def build(encoder: Any, cfg: Config, rows: Tensor, cardinalities: Sequence[int]) -> JointEmbedding:
    method = asdict(cfg.method)
    return byol(encoder, make_views(method.pop("corruption"), rows), **method)


def settle(method: MethodConfig, sizes: Sizes) -> MethodConfig:
    return filled(
        method,
        hidden=2 * sizes.dim,
        momentum=scaling.teacher_momentum(sizes.samples, sizes.batch),
    )


RECIPE = TableRecipe(
    "tabular_byol",
    "BYOL",
    sizes=lambda cardinalities: (256, 4),
    build=build,
    settle=settle,
)

if __name__ == "__main__":
    command_line(main, Config, prog=f"python -m mmssl.recipes.{RECIPE.name}")
