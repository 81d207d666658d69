"""Pretrain DINO on images, and say whether that helped.

    python -m mmssl.recipes.vision_dino                                    # 5,000 handwritten digits, two cores
    python -m mmssl.recipes.vision_dino data.path=photos data.size=64
    python -m mmssl.recipes.vision_dino --config-dir recipes/vision_dino --config-name cifar10

The defaults are for ResNets. A vision transformer wants ``model.name=vit method.norm=false train.optimizer=adamw
train.lr=5e-4 train.weight_decay=0.04 train.clip_norm=3``. Measured results stand in recipes/vision_dino/README.md.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from mmssl.core.methods import scaling
from mmssl.core.methods.dino import dino
from mmssl.core.methods.joint_embedding import JointEmbedding
from mmssl.eval.report import Section
from mmssl.recipes.command import command_line
from mmssl.recipes.experiment import Sizes, filled
from mmssl.recipes.training import TrainConfig
from mmssl.recipes.vision import ImageRecipe, VisionConfig, make_views, run_vision, some, train_config
from mmssl.vision.dataset import ImageData
from mmssl.vision.pictures import sheet


@dataclass
class MethodConfig:
    """The head, the teacher and its targets; None is worked out from the encoder and the amount of data."""

    hidden: int | None = None  # None: four times the encoder's width, at most the paper's 2048
    bottleneck: int = 256
    prototypes: int | None = None  # None: one for about twelve samples
    norm: bool = True  # batch normalisation in the head; the paper has it for ResNets alone
    momentum: float | None = None  # at the start; None: the teacher looks back one epoch
    student_temperature: float = 0.1
    teacher_temperature: float = 0.07
    warmup_teacher_temperature: float = 0.04
    warmup: float = 0.3  # share of the training
    centre_momentum: float = 0.9
    centring: str = "centre"  # or sinkhorn
    freeze: float | None = None  # share of the training; None: one epoch


@dataclass
class Config(VisionConfig):
    """All of the recipe's settings."""

    method: MethodConfig = field(default_factory=MethodConfig)
    train: TrainConfig = field(default_factory=lambda: train_config(optimizer="sgd", weight_decay=5e-4))


def main(cfg: Config) -> Path:
    """Pretrain, evaluate, report; returns the run folder."""
    return run_vision(cfg, RECIPE)


def build(encoder: Any, cfg: Config, data: ImageData) -> JointEmbedding:
    return dino(encoder, make_views(cfg, data), **asdict(cfg.method))


def settle(method: MethodConfig, sizes: Sizes) -> MethodConfig:
    return filled(
        method,
        hidden=min(2048, 4 * sizes.dim),
        prototypes=scaling.prototypes(sizes.samples, per_prototype=12, low=128, high=65_536),
        momentum=scaling.teacher_momentum(sizes.samples, sizes.batch),
        freeze=sizes.epoch,
    )


@torch.no_grad()
def attention_maps(method: Any, encoder: Any, data: ImageData) -> list[Section]:
    """Where the class token looks, head by head; with a vision transformer only."""
    if not hasattr(encoder, "attention"):
        return []
    images = some(data.train if data.test is None else data.test)
    maps = encoder.eval().attention(data.preprocessor(images.to(next(encoder.parameters()).device)))  # (B, heads, h, w)
    maps = (maps / maps.amax(dim=(-2, -1), keepdim=True)).cpu()
    large = F.interpolate(maps, scale_factor=images.shape[-1] / maps.shape[-1])
    rows = [[images[i], *large[i, :, None]] for i in range(len(images))]
    titles = ["image", *(f"head {i + 1}" for i in range(large.shape[1]))]
    return [Section("Attention", sheet(rows, titles), "Attention of the class token in the last block; white is most.")]


RECIPE = ImageRecipe("vision_dino", "DINO", lr=0.12, build=build, settle=settle, pictures=attention_maps)

if __name__ == "__main__":
    command_line(main, Config, prog=f"python -m mmssl.recipes.{RECIPE.name}")
