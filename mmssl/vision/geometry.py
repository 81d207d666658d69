"""Augmentations that move pixels: random resized crops and flips."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmssl.vision.resample import Taps, filter_image
from mmssl.vision.steps import (
    Step,
    as_float,
    check_images,
    check_probability,
    check_range,
    draw_chosen,
    exact,
    pieces,
    where_chosen,
)

TRIES = 10  # boxes that are drawn for an image, of which the first that fits is taken; torchvision's number


@dataclass(frozen=True)
class RandomResizedCropFlip(Step):
    """A random part of each image, resized to one size and perhaps mirrored, in one resampling.

    Boxes are drawn exactly as torchvision's `RandomResizedCrop` draws them: whole pixels; area and logarithm of the
    aspect ratio uniform; the first of ten that fits, else the largest central one. Bilinear, with antialiasing where a
    crop is made smaller (torchvision's ``antialias=True``); a crop smaller than ``size`` is enlarged. A NaN reaches
    the pixels next to it.

    Args:
        size: pixels of a side of the result, or (height, width).
        scale: smallest and largest area of a crop, as a share of the image; (1, 1) with ``ratio=(1, 1)`` takes all of
            a square image.
        ratio: smallest and largest width / height of a crop.
        flip: probability of a mirror image; 0 where left and right mean something, as in digits.
    """

    size: int | tuple[int, int]
    scale: Sequence[float] = (0.08, 1.0)
    ratio: Sequence[float] = (3 / 4, 4 / 3)
    flip: float = 0.5

    def __post_init__(self) -> None:
        if min(self._height_width) < 1:
            raise ValueError(f"size must be at least 1 pixel, got {self.size}")
        check_range("scale", self.scale, 0, 1)
        check_range("ratio", self.ratio, 0)
        if 0 in (*self.scale, *self.ratio):
            raise ValueError(f"scale and ratio must be positive, got {tuple(self.scale)} and {tuple(self.ratio)}")
        check_probability("flip", self.flip)

    def __call__(self, x: Tensor) -> Tensor:
        return self.views(x, 1)  # which does without a copy of the whole batch in float32

    def apply(self, x: Tensor) -> Tensor:
        return self.views(x, 1)

    def views(self, x: Tensor, count: int) -> Tensor:
        """``count`` independent crops of each image: ``(count · B, C, height, width)``, the first of all images first.

        Args:
            x: ``(B, C, H, W)`` uint8 or float in [0, 1]; left alone.
            count: of crops.
        """
        check_images(x)
        n, (height, width) = count * len(x), x.shape[2:]
        with exact(x):
            boxes = draw_boxes(n, height, width, scale=self.scale, ratio=self.ratio, device=x.device)
            return crop_resize(x, boxes, self._height_width, torch.rand(n, device=x.device) < self.flip)

    @property
    def _height_width(self) -> tuple[int, int]:
        return (self.size, self.size) if isinstance(self.size, int) else self.size


@dataclass(frozen=True)
class HorizontalFlip(Step):
    """The mirror image, left and right exchanged.

    Args:
        p: probability.
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        check_probability("p", self.p)

    def apply(self, x: Tensor) -> Tensor:
        return where_chosen(draw_chosen(x, self.p), lambda rows: rows.flip(-1), x)


def draw_boxes(
    n: int, height: int, width: int, *, scale: Sequence[float], ratio: Sequence[float], device: torch.device
) -> Tensor:
    """``(N, 4)`` int64 (top, left, height, width) within an image of ``height`` × ``width`` pixels."""
    u = torch.rand(4, n, TRIES, device=device)
    area = height * width * (scale[0] + (scale[1] - scale[0]) * u[0])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = torch.exp(low + (high - low) * u[1])
    h, w = (area / aspect).sqrt().round(), (area * aspect).sqrt().round()
    fits = (h > 0) & (h <= height) & (w > 0) & (w <= width)
    top = (u[2] * (height - h + 1)).floor().minimum(height - h)  # rounding can bring a number below 1 to 1
    left = (u[3] * (width - w + 1)).floor().minimum(width - w)
    first = fits.to(torch.int8).argmax(dim=1, keepdim=True)
    box = torch.stack([top, left, h, w], dim=-1).gather(1, first[..., None].expand(-1, -1, 4)).squeeze(1)  # (N, 4)
    central = torch.stack([torch.full_like(top[:, 0], edge) for edge in _central_box(height, width, ratio)], dim=-1)
    return torch.where(fits.any(dim=1, keepdim=True), box, central).long()


def _central_box(height: int, width: int, ratio: Sequence[float]) -> tuple[int, int, int, int]:
    """The largest box with an admissible aspect ratio, where no random one fits."""
    h, w = height, width
    if width / height < ratio[0]:
        h = max(1, round(width / ratio[0]))
    elif width / height > ratio[1]:
        w = max(1, round(height * ratio[1]))
    return (height - h) // 2, (width - w) // 2, h, w


def crop_resize(x: Tensor, boxes: Tensor, size: tuple[int, int], flip: Tensor) -> Tensor:
    """Parts of images, resized bilinearly with antialiasing, and mirrored.

    Args:
        x: ``(B, C, H, W)`` uint8 or float.
        boxes: ``(N, 4)`` integer (top, left, height, width); N a multiple of B, box n is of image n modulo B.
        size: height and width of the result.
        flip: ``(N,)`` bool.
    """
    (b, c, h, w), n = x.shape, len(boxes)
    top, left, height, width = boxes.unbind(1)
    vertical = _resize_taps(top, height, torch.zeros_like(flip), source=h, size=size[0])
    horizontal = _resize_taps(left, width, flip, source=w, size=size[1])
    out = torch.empty(n // b, b, c, *size, device=x.device)
    for part in pieces(x.device, b, c * max(h * w, n // b * size[0] * size[1])):
        made = filter_image(as_float(x[part]), vertical.of(part, b), horizontal.of(part, b))
        out[:, part] = made.unflatten(0, (n // b, -1))
    return out.flatten(0, 1)


def _resize_taps(start: Tensor, length: Tensor, flip: Tensor, *, source: int, size: int) -> Taps:
    """A triangle as wide as a pixel of the source or of the result, whichever is wider, cut off at the box's edges."""
    taps = max(2, math.ceil(2 * source / size))  # the widest that any box needs, so that shapes depend on no data
    out = torch.arange(size, device=start.device)
    out = torch.where(flip[:, None], size - 1 - out, out)  # (N, S)
    step = (length / size)[:, None]
    radius = step.clamp(min=1)
    centre = (out + 0.5) * step  # in the box, where pixel j covers j … j + 1
    index = (centre - radius + 0.5).floor()[..., None] + torch.arange(taps, device=start.device)  # (N, S, T)
    weight = (1 - (index + 0.5 - centre[..., None]).abs() / radius[..., None]).clamp(min=0)
    last = length[:, None, None] - 1
    weight = weight * ((index >= 0) & (index <= last))
    index = index.clamp(min=0).minimum(last) + start[:, None, None]
    return Taps(index.int(), weight / weight.sum(dim=-1, keepdim=True))
