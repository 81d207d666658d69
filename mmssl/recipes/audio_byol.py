"""Pretrain BYOL-A on recordings, and say whether that helped.

    python -m mmssl.recipes.audio_byol                                    # synthetic spoken words, two cores
    python -m mmssl.recipes.audio_byol data.path=recordings data.rate=16000
    python -m mmssl.recipes.audio_byol data.name=fsdd data.root=<folder>

BYOL (arXiv 2006.07733) on log-mel spectrograms with the views of BYOL-A (Niizumi et al., IJCNN 2021, arXiv 2103.06695).
Measured results stand in recipes/audio_byol/README.md.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmssl.audio.preprocess import MelPreprocessor
from mmssl.core.methods import scaling
from mmssl.core.methods.byol import byol
from mmssl.core.methods.joint_embedding import JointEmbedding
from mmssl.recipes.audio import AudioRecipe, MelConfig, ViewsConfig, make_views, run_audio, view_pictures
from mmssl.recipes.command import command_line
from mmssl.recipes.experiment import Sizes, filled


@dataclass
class MethodConfig:
    """The heads and the teacher; None is worked out from the encoder and the amount of data."""

    hidden: int | None = None  # None: twice the encoder's width
    out: int = 256
    momentum: float | None = None  # at the start; None: the teacher looks back one epoch


@dataclass
class Config(MelConfig):
    """All of the recipe's settings."""

    views: ViewsConfig = field(default_factory=ViewsConfig)
    method: MethodConfig = field(default_factory=MethodConfig)


def main(cfg: Config) -> Path:
    """Pretrain, evaluate, report; returns the run folder."""
    return run_audio(cfg, RECIPE)


def build(encoder: Any, cfg: Config, preprocessor: MelPreprocessor) -> JointEmbedding:
    return byol(encoder, make_views(cfg.views, preprocessor), **asdict(cfg.method))


def settle(method: MethodConfig, sizes: Sizes) -> MethodConfig:
    return filled(method, hidden=2 * sizes.dim, momentum=scaling.teacher_momentum(sizes.samples, sizes.batch))


RECIPE = AudioRecipe("audio_byol", "BYOL-A", build=build, settle=settle, pictures=view_pictures)

if __name__ == "__main__":
    command_line(main, Config, prog=f"python -m mmssl.recipes.{RECIPE.name}")
