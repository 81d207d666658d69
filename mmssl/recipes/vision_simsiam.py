"""Pretrain SimSiam on images, and say whether that helped.

    python -m mmssl.recipes.vision_simsiam                                    # 5,000 handwritten digits, two cores
    python -m mmssl.recipes.vision_simsiam data.path=photos data.size=64
    python -m mmssl.recipes.vision_simsiam --config-dir recipes/vision_simsiam --config-name cifar10

Measured results stand in recipes/vision_simsiam/README.md.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmssl.core.methods.joint_embedding import JointEmbedding
from mmssl.core.methods.simsiam import simsiam
from mmssl.recipes.command import command_line
from mmssl.recipes.experiment import Sizes, filled
from mmssl.recipes.training import TrainConfig
from mmssl.recipes.vision import ImageRecipe, VisionConfig, make_views, run_vision, train_config
from mmssl.vision.dataset import ImageData


@dataclass
class MethodConfig:
    """The heads; None is worked out from the encoder."""

    hidden: int | None = None  # None: the encoder's width, as in the paper
    out: int | None = None  # likewise
    bottleneck: int | None = None  # None: a quarter of that


@dataclass
class Config(VisionConfig):
    """All of the recipe's settings."""

    method: MethodConfig = field(default_factory=MethodConfig)
    train: TrainConfig = field(default_factory=lambda: train_config(optimizer="sgd", weight_decay=5e-4))


def main(cfg: Config) -> Path:
    """Pretrain, evaluate, report; returns the run folder."""
    return run_vision(cfg, RECIPE)


def build(encoder: Any, cfg: Config, data: ImageData) -> JointEmbedding:
    return simsiam(encoder, make_views(cfg, data), **asdict(cfg.method))


def settle(method: MethodConfig, sizes: Sizes) -> MethodConfig:
    return filled(method, hidden=sizes.dim, out=sizes.dim, bottleneck=max(1, (method.out or sizes.dim) // 4))


RECIPE = ImageRecipe("vision_simsiam", "SimSiam", lr=0.12, build=build, settle=settle)

if __name__ == "__main__":
    command_line(main, Config, prog=f"python -m mmssl.recipes.{RECIPE.name}")
