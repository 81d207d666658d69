"""Pretrain a masked autoencoder on spectrograms of recordings, and say whether that helped.

    python -m mmssl.recipes.audio_mae                                    # synthetic spoken words, two cores
    python -m mmssl.recipes.audio_mae data.path=recordings data.rate=16000
    python -m mmssl.recipes.audio_mae data.name=fsdd data.root=<folder>

MAE (arXiv 2111.06377) on log-mel patches, as in "Masked Spectrogram Modeling" (Niizumi et al., 2022, arXiv 2204.12260).
Measured results stand in recipes/audio_mae/README.md.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmssl.audio.augment import MelView
from mmssl.audio.dataset import AudioData
from mmssl.audio.encoder import MelTransformer
from mmssl.audio.pictures import sheet
from mmssl.audio.preprocess import MelPreprocessor
from mmssl.core.methods.mae import MAE
from mmssl.core.transformer import sincos_2d
from mmssl.eval.report import Section
from mmssl.recipes.audio import PREVIEWED, AudioRecipe, MelConfig, ModelConfig, run_audio, train_config
from mmssl.recipes.command import command_line
from mmssl.recipes.experiment import Sizes, filled
from mmssl.recipes.training import TrainConfig


@dataclass
class MethodConfig:
    """The mask and the decoder; None is worked out from the encoder."""

    mask_ratio: float = 0.75
    decoder_dim: int | None = None  # None: half the encoder's width
    decoder_depth: int = 1
    decoder_heads: int = 4
    normalise_targets: bool = True


@dataclass
class Config(MelConfig):
    """All of the recipe's settings."""

    model: ModelConfig = field(default_factory=lambda: ModelConfig("MelTransformer"))
    train: TrainConfig = field(default_factory=lambda: train_config(betas=[0.9, 0.95], weight_decay=0.05))
    method: MethodConfig = field(default_factory=MethodConfig)


def main(cfg: Config) -> Path:
    """Pretrain, evaluate, report; returns the run folder."""
    return run_audio(cfg, RECIPE)


def build(encoder: Any, cfg: Config, preprocessor: MelPreprocessor) -> MAE:
    if not isinstance(encoder, MelTransformer):
        raise ValueError(f"model.name={cfg.model.name} has no patches to mask: set model.name=MelTransformer")
    patches = max(1, round(cfg.data.crop / preprocessor.hop) // encoder.patch[0])
    method = asdict(cfg.method)
    return MAE(
        encoder,
        positions=sincos_2d(patches, encoder.bands, method["decoder_dim"]),
        augment=MelView(preprocessor, patches * encoder.patch[0]),
        **method,
    )


def settle(method: MethodConfig, sizes: Sizes) -> MethodConfig:
    return filled(method, decoder_dim=sizes.dim // 2)


@torch.no_grad()
def reconstructions(method: Any, encoder: Any, preprocessor: MelPreprocessor, data: AudioData) -> list[Section]:
    """Clips, what the encoder saw of them, and what the decoder made of that."""
    clips = data.train if data.test is None else data.test
    rows = np.sort(np.random.default_rng(0).permutation(len(clips))[:PREVIEWED])
    most = round(method.augment.frames * preprocessor.hop * data.rate)  # samples that a view has room for
    x = method.augment(clips.padded(rows, most=most).to(next(encoder.parameters()).device))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        prediction, mask = method.eval().reconstruct(x)
    truth = encoder.targets(x)
    after = truth.isnan()
    hidden = truth.masked_fill(mask[..., None], 0.0).masked_fill(after, torch.nan)
    rebuilt = torch.where(mask[..., None], prediction, truth).masked_fill(after, torch.nan)
    spectrograms = [encoder.spectrograms(patches) for patches in (truth, hidden, rebuilt)]
    html = sheet(
        [[part[i] for part in spectrograms] for i in range(len(rows))],
        [str(clips.names[i]) for i in rows],
        ["clip", "what the encoder saw", "reconstruction"],
    )
    return [Section("Reconstructions", html, "Visible patches of the reconstruction are the clip's own.")]


RECIPE = AudioRecipe("audio_mae", "MAE", build=build, settle=settle, pictures=reconstructions)

if __name__ == "__main__":
    command_line(main, Config, prog=f"python -m mmssl.recipes.{RECIPE.name}")
