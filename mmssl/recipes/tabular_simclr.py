"""Pretrain SimCLR on rows with SCARF's views, and say whether that helped.

python -m mmssl.recipes.tabular_simclr                # breast cancer, 569 rows, two cores
python -m mmssl.recipes.tabular_simclr data.path=table.csv data.label=churned
python -m mmssl.recipes.tabular_simclr data.name=wine model.name=ResNet
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from mmssl.core.methods.joint_embedding import JointEmbedding
from mmssl.core.methods.simclr import simclr
from mmssl.recipes.command import command_line
from mmssl.recipes.experiment import Sizes, filled
from mmssl.recipes.tabular import TableRecipe, TabularConfig, make_views, run_tabular


@dataclass
class MethodConfig:
    """The view, the projector and the loss; None is worked out from the encoder."""

    corruption: float = 0.6  # share of the columns that are drawn anew in the second view
    hidden: int | None = None  # None: the encoder's width, as in the paper
    out: int = 128
    temperature: float = 0.5


@dataclass
class Config(TabularConfig):
    """All of the recipe's settings."""

    method: MethodConfig = field(default_factory=MethodConfig)


def main(cfg: Config) -> Path:
    """Pretrain, evaluate, report; returns the run folder."""
    return run_tabular(cfg, RECIPE)


def build(encoder: Any, cfg: Config, rows: Tensor, cardinalities: Sequence[int]) -> JointEmbedding:
    method = asdict(cfg.method)
    return simclr(encoder, make_views(method.pop("corruption"), rows), **method)


def settle(method: MethodConfig, sizes: Sizes) -> MethodConfig:
    return filled(
        method,
        hidden=sizes.dim,
    )


RECIPE = TableRecipe(
    "tabular_simclr",
    "SimCLR",
    sizes=lambda cardinalities: (256, 4),
    build=build,
    settle=settle,
)

if __name__ == "__main__":
    command_line(main, Config, prog=f"python -m mmssl.recipes.{RECIPE.name}")
