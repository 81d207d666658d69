"""Pretrain SwAV on images, and say whether that helped.

    python -m mmssl.recipes.vision_swav                                    # 5,000 handwritten digits, two cores
    python -m mmssl.recipes.vision_swav data.path=photos data.size=64
    python -m mmssl.recipes.vision_swav --config-dir recipes/vision_swav --config-name cifar10

Measured results stand in recipes/vision_swav/README.md.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmssl.core.methods import scaling
from mmssl.core.methods.joint_embedding import JointEmbedding
from mmssl.core.methods.swav import swav
from mmssl.recipes.command import command_line
from mmssl.recipes.experiment import Sizes, filled
from mmssl.recipes.vision import ImageRecipe, VisionConfig, make_views, run_vision
from mmssl.vision.dataset import ImageData


@dataclass
class MethodConfig:
    """The projector and the clusters; None is worked out from the encoder and the amount of data."""

    hidden: int | None = None  # None: the encoder's width, as in the paper
    out: int = 128
    prototypes: int | None = None  # None: one for about a hundred samples
    temperature: float = 0.1
    epsilon: float = 0.05
    queue: int | None = None  # None: as many embeddings as make three for each prototype, if the batch has fewer
    queue_from: float = 0.0375  # share of the training
    freeze: float | None = None  # share of the training; None: one epoch


@dataclass
class Config(VisionConfig):
    """All of the recipe's settings."""

    method: MethodConfig = field(default_factory=MethodConfig)


def main(cfg: Config) -> Path:
    """Pretrain, evaluate, report; returns the run folder."""
    return run_vision(cfg, RECIPE)


def build(encoder: Any, cfg: Config, data: ImageData) -> JointEmbedding:
    return swav(encoder, make_views(cfg, data), **asdict(cfg.method))


def settle(method: MethodConfig, sizes: Sizes) -> MethodConfig:
    prototypes = method.prototypes
    if prototypes is None:
        prototypes = scaling.prototypes(sizes.samples, per_prototype=100, low=32, high=3000)
    return filled(
        method,
        hidden=sizes.dim,
        prototypes=prototypes,
        queue=0 if sizes.batch >= 3 * prototypes else 3 * prototypes // sizes.batch * sizes.batch,
        freeze=sizes.epoch,
    )


RECIPE = ImageRecipe("vision_swav", "SwAV", lr=1e-3, build=build, settle=settle)

if __name__ == "__main__":
    command_line(main, Config, prog=f"python -m mmssl.recipes.{RECIPE.name}")
