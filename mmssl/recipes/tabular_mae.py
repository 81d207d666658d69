"""Pretrain a masked autoencoder on the cells of rows, and say whether that helped.

python -m mmssl.recipes.tabular_mae                # breast cancer, 569 rows, two cores
python -m mmssl.recipes.tabular_mae data.path=table.csv data.label=churned
python -m mmssl.recipes.tabular_mae data.name=wine model.numeric=piecewise
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from mmssl.recipes.command import command_line
from mmssl.recipes.experiment import Sizes, filled
from mmssl.recipes.tabular import ModelConfig, TableRecipe, TabularConfig, run_tabular, train_config
from mmssl.recipes.training import TrainConfig
from mmssl.tabular.encoder import FTTransformer
from mmssl.tabular.mae import CellMAE


@dataclass
class MethodConfig:
    """The mask and the decoder; None is worked out from the encoder."""

    mask_ratio: float = 0.5
    decoder_dim: int | None = None  # None: half the encoder's width
    decoder_depth: int = 1
    decoder_heads: int = 4


@dataclass
class Config(TabularConfig):
    """All of the recipe's settings."""

    model: ModelConfig = field(default_factory=lambda: ModelConfig(name="FTTransformer", hidden=32, depth=2))
    train: TrainConfig = field(default_factory=lambda: replace(train_config(), seeds=1))  # a minute each
    method: MethodConfig = field(default_factory=MethodConfig)


def main(cfg: Config) -> Path:
    """Pretrain, evaluate, report; returns the run folder."""
    return run_tabular(cfg, RECIPE)


def build(encoder: Any, cfg: Config, rows: Tensor, cardinalities: Sequence[int]) -> CellMAE:
    if not isinstance(encoder, FTTransformer):
        raise ValueError(
            f"MAE leaves cells out, and model.name={cfg.model.name} needs all of them: take model.name=FTTransformer"
        )
    return CellMAE(encoder, cardinalities, **asdict(cfg.method))


def settle(method: MethodConfig, sizes: Sizes) -> MethodConfig:
    return filled(method, decoder_dim=sizes.dim // 2)


RECIPE = TableRecipe(
    "tabular_mae",
    "MAE",
    sizes=lambda cardinalities: (256, 4),
    build=build,
    settle=settle,
)

if __name__ == "__main__":
    command_line(main, Config, prog=f"python -m mmssl.recipes.{RECIPE.name}")
