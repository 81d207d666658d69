"""Train CLIP on images with captions: search one with the other, and classify without labels.

    python -m mmssl.recipes.multimodal_clip                            # glyphs of fonts with their Unicode names
    python -m mmssl.recipes.multimodal_clip data.name=emoji data.root=<folder>
    python -m mmssl.recipes.multimodal_clip data.path=products.csv data.image=photo data.caption=title
    python -m mmssl.recipes.multimodal_clip data.path=products.csv model.image_run=<run> model.frozen=[image]

Measured results stand in recipes/multimodal_clip/README.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mmssl.core.objectives.clip import CLIP
from mmssl.recipes.command import command_line
from mmssl.recipes.experiment import Sizes
from mmssl.recipes.multimodal import PairConfig, PairMethodConfig, PairRecipe, run_pairs


@dataclass
class MethodConfig(PairMethodConfig):
    """CLIP; the paper's temperature at the start."""


@dataclass
class Config(PairConfig):
    """All of the recipe's settings."""

    method: MethodConfig = field(default_factory=MethodConfig)


def main(cfg: Config) -> Path:
    """Train, evaluate, report; returns the run folder."""
    return run_pairs(cfg, RECIPE)


def objective(method: MethodConfig) -> CLIP:
    return CLIP(method.temperature)


def settle(method: MethodConfig, sizes: Sizes) -> MethodConfig:
    return method


RECIPE = PairRecipe("multimodal_clip", "CLIP", objective=objective, settle=settle)

if __name__ == "__main__":
    command_line(main, Config, prog=f"python -m mmssl.recipes.{RECIPE.name}")
