"""Pretrain SCARF on the rows of a table, and say whether that helped.

    python -m mmssl.recipes.tabular_scarf                                   # breast cancer, 569 rows, two cores
    python -m mmssl.recipes.tabular_scarf data.path=table.csv data.label=churned
    python -m mmssl.recipes.tabular_scarf --config-dir recipes/tabular_scarf --config-name adult data.root=<folder>

Measured results stand in recipes/tabular_scarf/README.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from mmssl.core.methods.joint_embedding import JointEmbedding
from mmssl.recipes.command import command_line
from mmssl.recipes.tabular import TableRecipe, TabularConfig, make_views, run_tabular
from mmssl.tabular.scarf import scarf


@dataclass
class MethodConfig:
    """SCARF; the paper's settings."""

    corruption: float = 0.6  # share of the columns that are drawn anew
    temperature: float = 1.0
    hidden: int = 256  # width of the projector's two layers


@dataclass
class Config(TabularConfig):
    """All of the recipe's settings."""

    method: MethodConfig = field(default_factory=MethodConfig)


def main(cfg: Config) -> Path:
    """Pretrain, evaluate, report; returns the run folder."""
    return run_tabular(cfg, RECIPE)


def build(encoder: Any, cfg: Config, rows: Tensor, cardinalities: Sequence[int]) -> JointEmbedding:
    method = cfg.method
    views = make_views(method.corruption, rows)
    return scarf(
        encoder,
        views.marginals,
        corruption=method.corruption,
        temperature=method.temperature,
        hidden=method.hidden,
    )


RECIPE = TableRecipe("tabular_scarf", "SCARF", sizes=lambda cardinalities: (256, 4), build=build)

if __name__ == "__main__":
    command_line(main, Config, prog=f"python -m mmssl.recipes.{RECIPE.name}")
