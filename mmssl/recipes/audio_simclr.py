"""Pretrain SimCLR on recordings, and say whether that helped.

    python -m mmssl.recipes.audio_simclr                                    # synthetic spoken words, two cores
    python -m mmssl.recipes.audio_simclr data.path=recordings data.rate=16000
    python -m mmssl.recipes.audio_simclr data.name=fsdd data.root=<folder>

SimCLR (arXiv 2002.05709) on log-mel spectrograms, with the same views as `mmssl.recipes.audio_byol`.
Measured results stand in recipes/audio_simclr/README.md.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmssl.audio.preprocess import MelPreprocessor
from mmssl.core.methods.joint_embedding import JointEmbedding
from mmssl.core.methods.simclr import simclr
from mmssl.recipes.audio import AudioRecipe, MelConfig, ViewsConfig, make_views, run_audio, train_config, view_pictures
from mmssl.recipes.command import command_line
from mmssl.recipes.experiment import Sizes, filled
from mmssl.recipes.training import TrainConfig


@dataclass
class MethodConfig:
    """The projector and the loss."""

    hidden: int | None = None  # None: the encoder's width
    out: int = 128
    temperature: float = 0.1


@dataclass
class Config(MelConfig):
    """All of the recipe's settings."""

    views: ViewsConfig = field(default_factory=ViewsConfig)
    train: TrainConfig = field(default_factory=lambda: train_config(lr=3e-3))
    method: MethodConfig = field(default_factory=MethodConfig)


def main(cfg: Config) -> Path:
    """Pretrain, evaluate, report; returns the run folder."""
    return run_audio(cfg, RECIPE)


def build(encoder: Any, cfg: Config, preprocessor: MelPreprocessor) -> JointEmbedding:
    return simclr(encoder, make_views(cfg.views, preprocessor), **asdict(cfg.method))


def settle(method: MethodConfig, sizes: Sizes) -> MethodConfig:
    return filled(method, hidden=sizes.dim)


RECIPE = AudioRecipe("audio_simclr", "SimCLR", build=build, settle=settle, pictures=view_pictures)

if __name__ == "__main__":
    command_line(main, Config, prog=f"python -m mmssl.recipes.{RECIPE.name}")
