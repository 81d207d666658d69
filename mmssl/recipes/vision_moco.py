"""Pretrain MoCo v2 on images, and say whether that helped.

    python -m mmssl.recipes.vision_moco                                    # 5,000 handwritten digits, two cores
    python -m mmssl.recipes.vision_moco data.path=photos data.size=64
    python -m mmssl.recipes.vision_moco --config-dir recipes/vision_moco --config-name cifar10

Measured results stand in recipes/vision_moco/README.md.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmssl.core.methods import scaling
from mmssl.core.methods.joint_embedding import JointEmbedding
from mmssl.core.methods.moco import moco
from mmssl.recipes.command import command_line
from mmssl.recipes.experiment import Sizes, filled
from mmssl.recipes.vision import ImageRecipe, VisionConfig, make_views, run_vision
from mmssl.vision.dataset import ImageData


@dataclass
class MethodConfig:
    """The projector, the queue and the teacher; None is worked out from the amount of data."""

    hidden: int | None = None  # None: the encoder's width
    out: int = 128
    queue: int | None = None  # None: about a twelfth of the data
    momentum: float | None = None  # None: the teacher looks back one epoch
    temperature: float = 0.2


@dataclass
class Config(VisionConfig):
    """All of the recipe's settings."""

    method: MethodConfig = field(default_factory=MethodConfig)


def main(cfg: Config) -> Path:
    """Pretrain, evaluate, report; returns the run folder."""
    return run_vision(cfg, RECIPE)


def build(encoder: Any, cfg: Config, data: ImageData) -> JointEmbedding:
    return moco(encoder, make_views(cfg, data), **asdict(cfg.method))


def settle(method: MethodConfig, sizes: Sizes) -> MethodConfig:
    return filled(
        method,
        hidden=sizes.dim,
        queue=scaling.queue_size(sizes.samples, sizes.batch),
        momentum=scaling.teacher_momentum(sizes.samples, sizes.batch),
    )


RECIPE = ImageRecipe("vision_moco", "MoCo v2", lr=1e-3, build=build, settle=settle)

if __name__ == "__main__":
    command_line(main, Config, prog=f"python -m mmssl.recipes.{RECIPE.name}")
