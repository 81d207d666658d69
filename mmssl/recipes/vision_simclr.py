"""Pretrain SimCLR on images, and say whether that helped.

    python -m mmssl.recipes.vision_simclr                       # 5,000 digits: 2.5 minutes on two cores, 96 %
    python -m mmssl.recipes.vision_simclr data.path=photos data.size=64
    python -m mmssl.recipes.vision_simclr --config-dir recipes/vision_simclr --config-name cifar10

Measured results stand in recipes/vision_simclr/README.md.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmssl.core.methods.joint_embedding import JointEmbedding
from mmssl.core.methods.simclr import simclr
from mmssl.recipes.command import command_line
from mmssl.recipes.experiment import Sizes, filled
from mmssl.recipes.vision import ImageRecipe, VisionConfig, make_views, run_vision
from mmssl.vision.dataset import ImageData


@dataclass
class MethodConfig:
    """The projector and the loss; the paper's sizes and its temperature for small images."""

    hidden: int | None = None  # None: the encoder's width
    out: int = 128
    temperature: float = 0.5


@dataclass
class Config(VisionConfig):
    """All of the recipe's settings."""

    method: MethodConfig = field(default_factory=MethodConfig)


def main(cfg: Config) -> Path:
    """Pretrain, evaluate, report; returns the run folder."""
    return run_vision(cfg, RECIPE)


def build(encoder: Any, cfg: Config, data: ImageData) -> JointEmbedding:
    return simclr(encoder, make_views(cfg, data), **asdict(cfg.method))


def settle(method: MethodConfig, sizes: Sizes) -> MethodConfig:
    return filled(method, hidden=sizes.dim)


RECIPE = ImageRecipe("vision_simclr", "SimCLR", lr=1e-3, build=build, settle=settle)

if __name__ == "__main__":
    command_line(main, Config, prog=f"python -m mmssl.recipes.{RECIPE.name}")
