"""Standardisation of images, and the schema that new data is held against."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Self, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmssl.vision.images import SPANS, ImageSet, Span

SAMPLE = 10_000  # images that the fit decodes of a set that is not in memory; enough for four digits of a mean
CHUNK = 2**22  # values at a time


@dataclass(frozen=True)
class ImagePreprocessor:
    """Per-channel standardisation, fitted on the training images; applies the same to all later data.

    Raw images are uint8, or float32 in which 0 and 1 are the ends of ``span``; augmentations work on these, and
    `__call__` standardises what they give.

    Args:
        channels: of an image.
        size: pixels of a side.
        dtype: of the training data as it was read: uint8, uint16 or float32.
        span: values that stand for 0 and 1: the range of the integer type, or the extremes of the training floats.
        mean: of each channel, on the scale on which ``span`` is 0 to 1.
        std: likewise; 1 for a constant channel.
    """

    channels: int = 0
    size: int = 0
    dtype: str = "uint8"
    span: Span = (0.0, 255.0)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def fit(self, raw: ImageSet) -> ImagePreprocessor:
        """Fitted on ``raw``, in float64; a set that is not in memory is sampled.

        Raises:
            ValueError: there is no image, or all values are the same.
        """
        if not len(raw):
            raise ValueError("there is no training image to fit on")
        rows = np.arange(len(raw))
        if not raw.in_memory and len(rows) > SAMPLE:
            rows = np.sort(np.random.default_rng(0).choice(rows, SAMPLE, replace=False))
        span = SPANS.get(raw.dtype) or _extremes(raw, rows)
        if span[0] == span[1]:
            raise ValueError(f"every value of every training image is {span[0]:g}: there is nothing to learn")
        raw = replace(raw, span=span)
        count = 0
        total, square = np.zeros(raw.channels), np.zeros(raw.channels)
        for x in _chunks(raw, rows):
            count += x[:, 0].numel()
            total += x.sum(dim=(0, 2, 3)).numpy()
            square += x.square().sum(dim=(0, 2, 3)).numpy()
        mean = total / count
        std = np.sqrt(np.maximum(square / count - mean**2, 0))
        std[std < 1e-6] = 1.0
        return replace(
            self,
            channels=raw.channels,
            size=raw.size,
            dtype=raw.dtype,
            span=span,
            mean=tuple(mean.tolist()),
            std=tuple(std.tolist()),
        )

    def prepare(self, raw: ImageSet) -> ImageSet:
        """Raw images on the scale of the training data: what training, encoding and controls start from.

        Raises:
            ValueError: they have other channels, another size or another kind of values than the training data.
        """
        self._check(raw)
        return replace(raw, span=self._span(raw))

    @overload
    def __call__(self, raw: ImageSet) -> Tensor: ...
    @overload
    def __call__(self, raw: Tensor) -> Tensor: ...
    def __call__(self, raw: ImageSet | Tensor) -> Tensor:
        """Standardised float32 ``(B, C, S, S)``.

        Args:
            raw: a set, taken into memory as a whole; or a batch, uint8 or floats on the scale 0 to 1, on any device
                and of any size (crops).
        """
        if isinstance(raw, ImageSet):
            images = self.prepare(raw)
            return self(images.read(np.arange(len(images)))[0])
        if raw.shape[1] != self.channels:
            raise ValueError(f"a batch of shape {tuple(raw.shape)}, trained on {_count(self.channels)}")
        factor, offset = _affine(self.mean, self.std, raw.dtype == torch.uint8, raw.device)
        return torch.addcmul(offset, raw.float(), factor)

    def state(self) -> dict[str, Any]:
        return {
            "channels": self.channels,
            "size": self.size,
            "dtype": self.dtype,
            "span": list(self.span),
            "mean": list(self.mean),
            "std": list(self.std),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        return cls(
            channels=state["channels"],
            size=state["size"],
            dtype=state["dtype"],
            span=tuple(state["span"]),
            mean=tuple(state["mean"]),
            std=tuple(state["std"]),
        )

    def _check(self, raw: ImageSet) -> None:
        first = repr(raw.names[0]) if len(raw) else "the set"
        if raw.channels != self.channels:
            raise ValueError(
                f"{first} has {_count(raw.channels)}, the training data had {self.channels}: read it with "
                f"data.channels={self.channels} if these are photographs, else bring images of the same instrument"
            )
        if raw.size != self.size:
            raise ValueError(
                f"{first} has {raw.size} x {raw.size} pixels, the training data {self.size} x {self.size}: read it "
                f"with data.size={self.size}"
            )

    def _span(self, raw: ImageSet) -> Span:
        """Integers have a scale of their own; floats take that of the training data, or must lie between 0 and 1."""
        if raw.dtype == "float32" and self.dtype == "float32":
            return self.span
        if raw.dtype != "float32" and self.dtype != "float32":
            return SPANS[raw.dtype]
        if raw.dtype != "float32":
            raise ValueError(
                f"{raw.names[0]!r} holds {raw.dtype}, the training data were floats from {self.span[0]:g} to "
                f"{self.span[1]:g}: convert it to the same scale"
            )
        low, high = _extremes(raw, np.arange(min(len(raw), SAMPLE)))
        if low < 0 or high > 1:
            raise ValueError(
                f"floats from {low:g} to {high:g}, the training data were {self.dtype}: give {self.dtype}, or floats "
                "between 0 and 1"
            )
        return (0.0, 1.0)


def _chunks(images: ImageSet, rows: npt.NDArray[np.int64]) -> Any:
    """The images at ``rows`` that can be decoded, in float64 on the scale 0 to 1."""
    step = max(1, CHUNK // (images.channels * images.size**2))
    for start in range(0, len(rows), step):
        x, readable = images.read(rows[start : start + step])
        x = x if readable.all() else x[torch.from_numpy(readable)]
        yield x.double().div_(255) if x.dtype == torch.uint8 else x.double()


def _extremes(images: ImageSet, rows: npt.NDArray[np.int64]) -> Span:
    ends = [(x.min().item(), x.max().item()) for x in _chunks(replace(images, span=(0.0, 1.0)), rows)]
    return min(low for low, _ in ends), max(high for _, high in ends)


@lru_cache
def _affine(
    mean: tuple[float, ...], std: tuple[float, ...], bytes: bool, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Factor and offset ``(1, C, 1, 1)`` that standardise; kept, because a copy to a GPU waits for it."""
    m, s = torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)
    factor, offset = 1 / (s * (255 if bytes else 1)), -m / s
    return tuple(v.float().view(1, -1, 1, 1).to(device) for v in (factor, offset))  # type: ignore[return-value]


def _count(channels: int) -> str:
    return f"{channels} channel{'' if channels == 1 else 's'}"
