"""Waveforms and a small encoder of them, for tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmssl.audio.clips import ClipSet, as_objects
from mmssl.audio.wav2vec2_encoder import Wav2Vec2Encoder, conv_stack

RATE = 8000


def small(**changes: Any) -> Wav2Vec2Encoder:
    """Two layers, 100 frames a second at 8 kHz."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"dim": 24, "depth": 2, "heads": 2, "position_kernel": 8, "position_groups": 4}
    return Wav2Vec2Encoder(conv_stack(RATE, frame_rate=100, width=16), **(sizes | changes))


def padded(clips: Sequence[Tensor], length: int) -> Tensor:
    """``(B, length)``, NaN after the end of each."""
    out = torch.full((len(clips), length), math.nan)
    for row, clip in zip(out, clips, strict=True):
        row[: len(clip)] = clip
    return out


def noises(sizes: Sequence[int]) -> list[Tensor]:
    """The same ones every time."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(size, generator=generator) for size in sizes]


def chords(n: int = 24) -> ClipSet:
    """Clips of two tones, one after the other, of .2 to .3 s; the order of a low and a high one is the label."""
    rng = np.random.default_rng(0)
    clips, labels = [], []
    for i in range(n):
        size = int(rng.integers(1600, 2400))
        tones = (300, 1200) if i % 2 else (1200, 300)
        time = np.arange(size) / RATE
        first = np.sin(2 * np.pi * tones[0] * time)
        second = np.sin(2 * np.pi * tones[1] * time)
        clips.append(np.where(np.arange(size) < size // 2, first, second) + 0.01 * rng.standard_normal(size))
        labels.append("up" if i % 2 else "down")
    return ClipSet.of(clips, RATE, as_objects([f"clip {i}" for i in range(n)]), labels=as_objects(labels))
