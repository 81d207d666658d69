"""Pretrain wav2vec 2.0 on recordings, and say whether that helped.

    python -m mmssl.recipes.audio_wav2vec2                                # synthetic spoken words, two cores
    python -m mmssl.recipes.audio_wav2vec2 data.path=recordings data.rate=16000
    python -m mmssl.recipes.audio_wav2vec2 data.path=recordings data.rate=16000 checkpoint=<folder of transformers>
    python -m mmssl.recipes.audio_wav2vec2 --config-dir recipes/audio_wav2vec2 --config-name fsdd data.root=<folder>

wav2vec 2.0 (Baevski et al., NeurIPS 2020, arXiv 2006.11477). Measured results stand in
recipes/audio_wav2vec2/README.md.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmssl.audio.preprocess import Preprocessor
from mmssl.audio.spans import masked_count
from mmssl.audio.wav2vec2 import Wav2Vec2
from mmssl.recipes.audio import train_config
from mmssl.recipes.audio_speech import SpeechConfig, SpeechRecipe, run_speech, usual_span
from mmssl.recipes.command import command_line
from mmssl.recipes.experiment import Sizes, filled
from mmssl.recipes.training import TrainConfig

ENTRIES = (20, 320)  # of a codebook at least, and in the paper
USES = 8  # masked frames of a batch for each entry


@dataclass
class MethodConfig:
    """wav2vec 2.0; None is worked out from the length of the clips. Without a comment: the paper's."""

    probability: float = 0.65
    span: int | None = None  # frames; None: a tenth of a usual clip, from 3 to 10, the paper's
    groups: int = 2
    entries: int | None = None  # None: one for 8 masked frames of a batch, 320 at most, the paper's
    code_dim: int = 64  # 256 in the paper
    dim: int = 64  # 256 in the paper
    negatives: int | None = None  # None: as many as there are other masked frames, 100 at most, the paper's
    temperature: float = 0.1
    diversity: float = 0.1
    feature_penalty: float = 1.0  # 10 in the paper


@dataclass
class Config(SpeechConfig):
    """All of the recipe's settings."""

    train: TrainConfig = field(
        default_factory=lambda: train_config(
            seeds=1, batch_size=32, lr=2e-3, betas=[0.9, 0.98], weight_decay=0.01, warmup=0.1
        )
    )
    method: MethodConfig = field(default_factory=MethodConfig)


def main(cfg: Config) -> Path:
    """Pretrain, evaluate, report; returns the run folder."""
    return run_speech(cfg, RECIPE)


def build(encoder: Any, cfg: Config, preprocessor: Preprocessor) -> Wav2Vec2:
    return Wav2Vec2(encoder, augment=preprocessor, **asdict(cfg.method))


def settle(method: MethodConfig, sizes: Sizes, *, frames: int) -> MethodConfig:
    method = filled(method, span=usual_span(frames))
    masked = masked_count(frames, probability=method.probability, span=method.span or 1)
    entries = 2 ** math.floor(math.log2(max(1, sizes.batch * masked / USES)))
    return filled(
        method,
        entries=min(max(entries, ENTRIES[0]), ENTRIES[1]),
        negatives=min(max(masked - 1, 1), 100),
    )


RECIPE = SpeechRecipe("audio_wav2vec2", "wav2vec 2.0", build=build, settle=settle, steps=500)

if __name__ == "__main__":
    command_line(main, Config, prog=f"python -m mmssl.recipes.{RECIPE.name}")
