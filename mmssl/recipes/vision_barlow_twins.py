"""Pretrain Barlow Twins on images, and say whether that helped.

    python -m mmssl.recipes.vision_barlow_twins                                    # 5,000 handwritten digits, two cores
    python -m mmssl.recipes.vision_barlow_twins data.path=photos data.size=64
    python -m mmssl.recipes.vision_barlow_twins --config-dir recipes/vision_barlow_twins --config-name cifar10

Measured results stand in recipes/vision_barlow_twins/README.md.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmssl.core.methods.barlow_twins import barlow_twins
from mmssl.core.methods.joint_embedding import JointEmbedding
from mmssl.recipes.command import command_line
from mmssl.recipes.experiment import Sizes, filled
from mmssl.recipes.vision import ImageRecipe, VisionConfig, make_views, run_vision
from mmssl.vision.dataset import ImageData


@dataclass
class MethodConfig:
    """The projector and the loss; None is worked out from the encoder."""

    width: int | None = None  # None: four times the encoder's, as in the paper
    lambd: float = 0.0051


@dataclass
class Config(VisionConfig):
    """All of the recipe's settings."""

    method: MethodConfig = field(default_factory=MethodConfig)


def main(cfg: Config) -> Path:
    """Pretrain, evaluate, report; returns the run folder."""
    return run_vision(cfg, RECIPE)


def build(encoder: Any, cfg: Config, data: ImageData) -> JointEmbedding:
    return barlow_twins(encoder, make_views(cfg, data), **asdict(cfg.method))


def settle(method: MethodConfig, sizes: Sizes) -> MethodConfig:
    return filled(method, width=4 * sizes.dim)


RECIPE = ImageRecipe("vision_barlow_twins", "Barlow Twins", lr=1e-3, build=build, settle=settle)

if __name__ == "__main__":
    command_line(main, Config, prog=f"python -m mmssl.recipes.{RECIPE.name}")
