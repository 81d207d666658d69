"""Pretrain VICReg on images, and say whether that helped.

    python -m mmssl.recipes.vision_vicreg                                    # 5,000 handwritten digits, two cores
    python -m mmssl.recipes.vision_vicreg data.path=photos data.size=64
    python -m mmssl.recipes.vision_vicreg --config-dir recipes/vision_vicreg --config-name cifar10

Measured results stand in recipes/vision_vicreg/README.md.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmssl.core.methods.joint_embedding import JointEmbedding
from mmssl.core.methods.vicreg import vicreg
from mmssl.recipes.command import command_line
from mmssl.recipes.experiment import Sizes, filled
from mmssl.recipes.vision import ImageRecipe, VisionConfig, make_views, run_vision
from mmssl.vision.dataset import ImageData


@dataclass
class MethodConfig:
    """The expander and the weights of the terms; None is worked out from the encoder."""

    width: int | None = None  # None: four times the encoder's, as in the paper
    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 1.0


@dataclass
class Config(VisionConfig):
    """All of the recipe's settings."""

    method: MethodConfig = field(default_factory=MethodConfig)


def main(cfg: Config) -> Path:
    """Pretrain, evaluate, report; returns the run folder."""
    return run_vision(cfg, RECIPE)


def build(encoder: Any, cfg: Config, data: ImageData) -> JointEmbedding:
    return vicreg(encoder, make_views(cfg, data), **asdict(cfg.method))


def settle(method: MethodConfig, sizes: Sizes) -> MethodConfig:
    return filled(method, width=4 * sizes.dim)


RECIPE = ImageRecipe("vision_vicreg", "VICReg", lr=1e-3, build=build, settle=settle)

if __name__ == "__main__":
    command_line(main, Config, prog=f"python -m mmssl.recipes.{RECIPE.name}")
