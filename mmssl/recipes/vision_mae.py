"""Pretrain a masked autoencoder on images, and say whether that helped.

    python -m mmssl.recipes.vision_mae                                    # 5,000 handwritten digits, two cores
    python -m mmssl.recipes.vision_mae data.path=photos data.size=64 model.patch=8
    python -m mmssl.recipes.vision_mae --config-dir recipes/vision_mae --config-name cifar10

Measured results stand in recipes/vision_mae/README.md.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from mmssl.core.methods.mae import MAE
from mmssl.core.transformer import sincos_2d
from mmssl.eval.report import Section
from mmssl.recipes.command import command_line
from mmssl.recipes.experiment import Sizes, filled
from mmssl.recipes.training import TrainConfig
from mmssl.recipes.vision import (
    CropConfig,
    ImageRecipe,
    ModelConfig,
    VisionConfig,
    on_screen,
    run_vision,
    some,
    train_config,
)
from mmssl.vision.augment import MAEViews
from mmssl.vision.dataset import ImageData
from mmssl.vision.pictures import sheet


@dataclass
class MethodConfig:
    """The mask and the decoder; None is worked out from the encoder."""

    mask_ratio: float = 0.75
    decoder_dim: int | None = None  # None: half the encoder's width
    decoder_depth: int = 1
    decoder_heads: int = 4
    normalise_targets: bool = True


def model_config() -> ModelConfig:
    return ModelConfig(name="vit", patch=4, width=64, depth=4, heads=4, positions="sincos", pool="mean")


@dataclass
class Config(VisionConfig):
    """All of the recipe's settings."""

    model: ModelConfig = field(default_factory=model_config)
    views: CropConfig = field(default_factory=CropConfig)  # type: ignore[assignment]  # one view, no colours
    train: TrainConfig = field(default_factory=lambda: train_config(betas=[0.9, 0.95], weight_decay=0.05))
    method: MethodConfig = field(default_factory=MethodConfig)


def main(cfg: Config) -> Path:
    """Pretrain, evaluate, report; returns the run folder."""
    return run_vision(cfg, RECIPE)


def build(encoder: Any, cfg: Config, data: ImageData) -> MAE:
    if not hasattr(encoder, "grid"):
        raise ValueError(
            f"model.name={cfg.model.name} is no vision transformer, and MAE needs tokens: try model.name=vit"
        )
    method = asdict(cfg.method)
    height, width = encoder.grid
    augment = MAEViews(
        data.preprocessor.size,
        scale=cfg.views.crop,
        flip=cfg.views.flip or 0.0,
        mean=data.preprocessor.mean,
        std=data.preprocessor.std,
    )
    return MAE(encoder, positions=sincos_2d(height, width, method["decoder_dim"]), augment=augment, **method)


def settle(method: MethodConfig, sizes: Sizes) -> MethodConfig:
    return filled(method, decoder_dim=sizes.dim // 2)


@torch.no_grad()
def reconstructions(method: MAE, encoder: Any, data: ImageData) -> list[Section]:
    """Test images, what the encoder saw of them, and what the decoder made of that."""
    images = some(data.train if data.test is None else data.test)
    x = data.preprocessor(images.to(next(encoder.parameters()).device))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        prediction, mask = method.eval().reconstruct(x)
    truth = encoder.targets(x)
    masked = mask[..., None]
    hidden = encoder.images(truth.masked_fill(masked, 0.0))
    rebuilt = encoder.images(torch.where(masked, prediction, truth))
    rows = [[images[i], on_screen(hidden[i], data), on_screen(rebuilt[i], data)] for i in range(len(images))]
    caption = (
        "Images that were held out. Visible patches of the reconstruction are the image's own"
        + (", and masked ones have the true mean and contrast of the patch" if method.normalise_targets else "")
        + "."
    )
    return [Section("Reconstructions", sheet(rows, ["image", "what the encoder saw", "reconstruction"]), caption)]


RECIPE = ImageRecipe("vision_mae", "MAE", lr=2e-3, steps=1000, build=build, settle=settle, pictures=reconstructions)

if __name__ == "__main__":
    command_line(main, Config, prog=f"python -m mmssl.recipes.{RECIPE.name}")
