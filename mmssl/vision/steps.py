"""What all augmentations of images have in common: what goes in, what comes out, and who may overwrite what."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

PIECE = 2**19  # values that a core works on at a time: 2 MiB in float32, about the size of its own cache

Change = Callable[..., Tensor]


class Step:
    """An augmentation of a batch of images; every image draws its own random numbers, on the device of the batch.

    Called with ``(B, C, H, W)`` uint8, or floats in [0, 1], it returns float32 in [0, 1] and leaves its input alone.
    `torch.manual_seed` repeats it. Subclasses are frozen dataclasses that define `apply`.
    """

    def __call__(self, x: Tensor) -> Tensor:
        check_images(x)
        with exact(x):
            return self.apply(as_float(x))

    def apply(self, x: Tensor) -> Tensor:
        """The augmentation itself, on contiguous float32 that belongs to it: the result may lie in the same memory."""
        raise NotImplementedError


@dataclass(frozen=True)
class Pipeline(Step):
    """Several steps, one after the other.

    Args:
        steps: in the order in which they are applied.
    """

    steps: tuple[Step, ...]

    def apply(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step.apply(x)
        return x


@contextmanager
def exact(x: Tensor) -> Iterator[None]:
    """Without gradients, and without autocast: bf16 has too few digits for pixels."""
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        yield


def pieces(device: torch.device, images: int, values: int) -> list[slice]:
    """So many images at a time as stay in the cache from one operation to the next; on a GPU all at once.

    Args:
        device: where the images are.
        images: how many there are.
        values: of one image.
    """
    step = max(1, torch.get_num_threads() * PIECE // values) if device.type == "cpu" else max(1, images)
    return [slice(start, start + step) for start in range(0, images, step)]


def check_images(x: Tensor) -> None:
    """Raise a ValueError unless ``x`` is a batch of images as `Step` takes them."""
    if x.ndim != 4 or 0 in x.shape:
        raise ValueError(f"expected a batch of images (B, C, H, W) with at least one pixel, got {tuple(x.shape)}")
    if x.dtype != torch.uint8 and not x.is_floating_point():
        raise ValueError(
            f"images must be uint8, or floats in [0, 1], got {x.dtype}: divide by the largest possible value first"
        )


def as_float(x: Tensor) -> Tensor:
    """A contiguous float32 copy; uint8 is divided by 255."""
    if x.dtype == torch.uint8:
        return x.to(torch.float32, memory_format=torch.contiguous_format).mul_(1 / 255)
    return x.to(torch.float32, memory_format=torch.contiguous_format, copy=True)


def draw_chosen(x: Tensor, p: float) -> Tensor:
    """``(B,)`` bool, True with probability ``p``."""
    return torch.rand(len(x), device=x.device) < p


def uniform(x: Tensor, low: float, high: float) -> Tensor:
    """``(B,)`` float32, evenly in [low, high]."""
    return torch.rand(len(x), device=x.device) * (high - low) + low


def where_chosen(chosen: Tensor, change: Change, x: Tensor, *parameters: Tensor) -> Tensor:
    """``change(x, *parameters)`` for the chosen rows, ``x`` itself for all others; may overwrite ``x``.

    Args:
        chosen: ``(B,)`` bool.
        change: makes a new ``(n, C, H, W)`` of n rows and their parameters.
        x: ``(B, C, H, W)`` contiguous float32.
        parameters: ``(B,)`` each.
    """
    return (change_few if x.device.type == "cpu" else change_all)(chosen, change, x, *parameters)


def change_few(chosen: Tensor, change: Change, x: Tensor, *parameters: Tensor) -> Tensor:
    """Only the chosen rows are computed, a few at a time."""
    index = chosen.nonzero().squeeze(1)
    for piece in pieces(x.device, len(index), x[0].numel()):
        rows = index[piece]
        x.index_copy_(0, rows, change(*(values.index_select(0, rows) for values in (x, *parameters))))
    return x


def change_all(chosen: Tensor, change: Change, x: Tensor, *parameters: Tensor) -> Tensor:
    """All rows are computed: to ask a GPU how many were chosen means to wait for it."""
    return torch.where(chosen[:, None, None, None], change(x, *parameters), x)


def check_probability(name: str, p: float) -> None:
    """Raise a ValueError unless ``p`` lies in [0, 1]."""
    if not 0 <= p <= 1:
        raise ValueError(f"{name} is a probability and must lie in [0, 1], got {p}")


def check_range(name: str, values: Sequence[float], low: float, high: float = math.inf) -> None:
    """Raise a ValueError unless ``values`` are a smallest and a largest value, from ``low`` to ``high``."""
    if len(values) != 2 or not low <= values[0] <= values[1] <= high:
        limits = f"at least {low}" if high == math.inf else f"from {low} to {high}"
        raise ValueError(f"{name} must be (smallest, largest), {limits}, got {tuple(values)}")
