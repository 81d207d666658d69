"""Pretrain BYOL on images, and say whether that helped.

    python -m mmssl.recipes.vision_byol                                    # 5,000 handwritten digits, two cores
    python -m mmssl.recipes.vision_byol data.path=photos data.size=64
    python -m mmssl.recipes.vision_byol --config-dir recipes/vision_byol --config-name cifar10

Measured results stand in recipes/vision_byol/README.md.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmssl.core.methods import scaling
from mmssl.core.methods.byol import byol
from mmssl.core.methods.joint_embedding import JointEmbedding
from mmssl.recipes.command import command_line
from mmssl.recipes.experiment import Sizes, filled
from mmssl.recipes.training import TrainConfig
from mmssl.recipes.vision import ImageRecipe, VisionConfig, make_views, run_vision, train_config
from mmssl.vision.dataset import ImageData


@dataclass
class MethodConfig:
    """The heads and the teacher; None is worked out from the encoder and the amount of data."""

    hidden: int | None = None  # None: twice the encoder's width, as in the paper
    out: int = 256
    momentum: float | None = None  # at the start; None: the teacher looks back one epoch


@dataclass
class Config(VisionConfig):
    """All of the recipe's settings."""

    method: MethodConfig = field(default_factory=MethodConfig)
    train: TrainConfig = field(default_factory=lambda: train_config(optimizer="sgd", weight_decay=5e-4))


def main(cfg: Config) -> Path:
    """Pretrain, evaluate, report; returns the run folder."""
    return run_vision(cfg, RECIPE)


def build(encoder: Any, cfg: Config, data: ImageData) -> JointEmbedding:
    return byol(encoder, make_views(cfg, data), **asdict(cfg.method))


def settle(method: MethodConfig, sizes: Sizes) -> MethodConfig:
    return filled(method, hidden=2 * sizes.dim, momentum=scaling.teacher_momentum(sizes.samples, sizes.batch))


RECIPE = ImageRecipe("vision_byol", "BYOL", lr=0.12, build=build, settle=settle)

if __name__ == "__main__":
    command_line(main, Config, prog=f"python -m mmssl.recipes.{RECIPE.name}")
