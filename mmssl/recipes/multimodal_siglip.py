"""Train SigLIP on images with captions: search one with the other, and classify without labels.

    python -m mmssl.recipes.multimodal_siglip                            # glyphs of fonts with their Unicode names
    python -m mmssl.recipes.multimodal_siglip data.name=emoji data.root=<folder>
    python -m mmssl.recipes.multimodal_siglip data.path=products.csv data.image=photo data.caption=title
    python -m mmssl.recipes.multimodal_siglip data.path=products.csv model.image_run=<run> model.frozen=[image]

Measured results stand in recipes/multimodal_siglip/README.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mmssl.core.methods import scaling
from mmssl.core.objectives.siglip import SigLIP
from mmssl.recipes.command import command_line
from mmssl.recipes.experiment import Sizes, filled
from mmssl.recipes.multimodal import PairConfig, PairMethodConfig, PairRecipe, run_pairs


@dataclass
class MethodConfig(PairMethodConfig):
    """SigLIP; the paper's temperature at the start, its bias brought from the paper's batch to this one."""

    temperature: float = 0.1
    bias: float | None = None  # at the start; None: the log-odds of a pair among those of a batch


@dataclass
class Config(PairConfig):
    """All of the recipe's settings."""

    method: MethodConfig = field(default_factory=MethodConfig)


def main(cfg: Config) -> Path:
    """Train, evaluate, report; returns the run folder."""
    return run_pairs(cfg, RECIPE)


def objective(method: MethodConfig) -> SigLIP:
    assert method.bias is not None
    return SigLIP(method.temperature, bias=method.bias)


def settle(method: MethodConfig, sizes: Sizes) -> MethodConfig:
    return filled(method, bias=scaling.pair_bias(sizes.batch))


RECIPE = PairRecipe("multimodal_siglip", "SigLIP", objective=objective, settle=settle)

if __name__ == "__main__":
    command_line(main, Config, prog=f"python -m mmssl.recipes.{RECIPE.name}")
