"""Recordings for tests: tones of known pitch, in memory and in files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import torch

Floats = npt.NDArray[np.float32]


def tone(seconds: float = 0.3, rate: int = 8000, *, pitch: float = 440.0, level: float = 0.3) -> Floats:
    """``(samples,)``, a whole number of periods where ``pitch * seconds`` is one, so that its mean is 0."""
    at = np.arange(round(seconds * rate)) / rate
    return (level * np.sin(2 * np.pi * pitch * at)).astype(np.float32)


def write(path: Path, samples: npt.NDArray[Any], rate: int = 8000, **how: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, **how)
    return path


def write_folder(root: Path, paths: Iterable[str], *, rate: int = 8000) -> Path:
    """A tone in every file, each of another pitch and length."""
    for i, path in enumerate(paths):
        write(root / path, tone(0.2 + 0.01 * i, rate, pitch=200.0 + 50 * i), rate)
    return root


def batch(*seconds: float, rate: int = 8000, seed: int = 0) -> torch.Tensor:
    """Noise of these lengths: ``(B, longest)``, NaN after the end of each."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.full((len(seconds), round(max(seconds) * rate)), torch.nan)
    for row, length in zip(x, seconds, strict=True):
        n = round(length * rate)
        row[:n] = 0.2 * torch.randn(n, generator=generator)
    return x
