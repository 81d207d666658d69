"""What all augmentations of audio have in common: what goes in, what comes out, and what comes after the end."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from mmssl.audio.clips import lengths


class Step:
    """An augmentation of a batch of clips; every clip draws its own random numbers, on the device of the batch.

    Called with floats ``(B, samples)`` or ``(B, frames, mels)``, NaN after the end of each clip, it returns float32 of
    the same kind and leaves its input alone. `torch.manual_seed` repeats it. Subclasses are frozen dataclasses that
    define `apply`; ``ndim`` says which kind they take.
    """

    ndim: int

    def __call__(self, x: Tensor) -> Tensor:
        if x.ndim != self.ndim or 0 in x.shape or not x.is_floating_point():
            kind = "waveforms (B, samples)" if self.ndim == 2 else "mel frames (B, frames, mels)"
            raise ValueError(
                f"expected floats: {kind} with at least one value, got {x.dtype} of shape {tuple(x.shape)}"
            )
        with exact(x):
            return self.apply(x.float())

    def apply(self, x: Tensor) -> Tensor:
        """The augmentation of float32, without gradients and autocast; not in place."""
        raise NotImplementedError


@dataclass(frozen=True)
class Pipeline:
    """Several steps, one after the other.

    Args:
        steps: in the order in which they are applied.
    """

    steps: tuple[Step, ...] = ()

    def __call__(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return x


@contextmanager
def exact(x: Tensor) -> Iterator[None]:
    """Without gradients, and without autocast: bf16 has too few digits for positions in time."""
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        yield


def uniform(x: Tensor, low: float, high: float) -> Tensor:
    """``(B,)`` float32, evenly in [low, high]."""
    return torch.rand(len(x), device=x.device) * (high - low) + low


def chosen(x: Tensor, p: float) -> Tensor:
    """``(B,)`` bool, True with probability ``p``."""
    return torch.rand(len(x), device=x.device) < p


def inside(x: Tensor) -> Tensor:
    """``(B, T)`` bool, False after the end of a clip."""
    return torch.arange(x.shape[1], device=x.device) < lengths(x)[:, None]


def check_share(name: str, value: float) -> None:
    """Raise a ValueError unless ``value`` lies in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must lie in [0, 1], got {value}")


def check_range(name: str, values: Sequence[float], low: float = -math.inf) -> None:
    """Raise a ValueError unless ``values`` are a smallest and a largest value, above ``low``."""
    if len(values) != 2 or not low < values[0] <= values[1]:
        above = "" if low == -math.inf else f", above {low:g}"
        raise ValueError(f"{name} must be (smallest, largest){above}, got {tuple(values)}")
