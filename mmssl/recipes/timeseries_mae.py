"""Pretrain a masked autoencoder on patches of series, and say whether that helped.

python -m mmssl.recipes.timeseries_mae                # BasicMotions, about a minute on two cores
python -m mmssl.recipes.timeseries_mae data.path=plant.parquet data.id=machine data.time=t data.window=256
python -m mmssl.recipes.timeseries_mae data.name=GunPoint model.patch=16
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmssl.core.methods.mae import MAE
from mmssl.core.transformer import sincos_1d
from mmssl.recipes.command import command_line
from mmssl.recipes.experiment import filled
from mmssl.recipes.timeseries import ModelConfig, SeriesConfig, SeriesRecipe, SeriesSizes, run_series
from mmssl.timeseries.dataset import SeriesData
from mmssl.timeseries.encoders.patch_transformer import PatchTransformer


@dataclass
class MethodConfig:
    """The mask and the decoder; None is worked out from the encoder."""

    mask_ratio: float = 0.5
    decoder_dim: int | None = None  # None: half the encoder's width
    decoder_depth: int = 1
    decoder_heads: int = 4
    normalise_targets: bool = False  # levels of a sensor mean something, unlike the brightness of a patch of pixels


@dataclass
class Config(SeriesConfig):
    """All of the recipe's settings."""

    model: ModelConfig = field(default_factory=lambda: ModelConfig(name="patch"))
    method: MethodConfig = field(default_factory=MethodConfig)


def main(cfg: Config) -> Path:
    """Pretrain, evaluate, report; returns the run folder."""
    return run_series(cfg, RECIPE)


def build(encoder: Any, cfg: Config, data: SeriesData) -> MAE:
    if not isinstance(encoder, PatchTransformer):
        raise ValueError(f"MAE leaves tokens out, and model.name={cfg.model.name} has none: take model.name=patch")
    tokens = encoder.tokens(data.train.length)
    if tokens < 2:
        raise ValueError(
            f"windows of {data.train.length} rows are a single patch of model.patch={encoder.patch}, and masking needs "
            "another one to see: set a larger data.window, or a smaller model.patch"
        )
    method = asdict(cfg.method)
    positions = sincos_1d(tokens, method["decoder_dim"])
    return MAE(encoder, positions=positions, **method)


def settle(method: MethodConfig, sizes: SeriesSizes) -> MethodConfig:
    return filled(method, decoder_dim=sizes.dim // 2)


RECIPE = SeriesRecipe("timeseries_mae", "MAE", build=build, settle=settle)

if __name__ == "__main__":
    command_line(main, Config, prog=f"python -m mmssl.recipes.{RECIPE.name}")
