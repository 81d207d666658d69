"""Gaussian blur with a strength of each image's own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmssl.vision.resample import Taps, filter_image
from mmssl.vision.steps import Step, check_probability, check_range, draw_chosen, uniform, where_chosen

REACH = 4  # standard deviations; what lies beyond is 6e-5 of the weight, a hundredth of a grey level of 8 bits


@dataclass(frozen=True)
class GaussianBlur(Step):
    """A Gaussian blur of random width; edges are reflected, as in torchvision. Any number of channels.

    A NaN reaches the pixels within the kernel.

    Args:
        sigma: smallest and largest standard deviation, in pixels.
        kernel: pixels of a side of the kernel, odd; None for SimCLR's: a tenth of the image, at least 3 (23 at 224
            pixels, 3 at 32). The Gaussian is cut off there, so that a small kernel blurs less than its sigma says.
        p: probability.
    """

    sigma: Sequence[float] = (0.1, 2.0)
    kernel: int | None = None
    p: float = 0.5

    def __post_init__(self) -> None:
        check_range("sigma", self.sigma, 0)
        if self.kernel is not None and (self.kernel < 1 or self.kernel % 2 == 0):
            raise ValueError(f"kernel must be an odd number of pixels, got {self.kernel}")
        check_probability("p", self.p)

    def apply(self, x: Tensor) -> Tensor:
        chosen, sigma = draw_chosen(x, self.p), uniform(x, *self.sigma)
        kernel = self.kernel or 2 * max(1, min(x.shape[2:]) // 20) + 1
        radius = min(kernel // 2, max(1, math.ceil(REACH * self.sigma[1])))
        return where_chosen(chosen, lambda rows, sigma: blur(rows, sigma, radius), x, sigma)


def blur(x: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """``(B, C, H, W)`` contiguous float32, each image with its own ``sigma`` ``(B,)``; kernel 2 · radius + 1."""
    height, width = x.shape[2:]
    return filter_image(x, _blur_taps(sigma, radius, height), _blur_taps(sigma, radius, width)).contiguous()


def _blur_taps(sigma: Tensor, radius: int, size: int) -> Taps:
    offset = torch.arange(-radius, radius + 1, dtype=torch.int32, device=sigma.device)
    weight = torch.exp(-0.5 * (offset / sigma.clamp(min=1e-3)[:, None]).square())  # (B, T); 1e-3 leaves one pixel
    weight = weight / weight.sum(dim=1, keepdim=True)
    index = torch.arange(size, dtype=torch.int32, device=sigma.device)[:, None] + offset  # (S, T)
    period = max(1, 2 * (size - 1))
    index = index % period
    index = index.minimum(period - index)  # …, 2, 1, 0, 1, 2, …, size - 1, size - 2, …
    return Taps(index[None], weight[:, None].expand(-1, size, -1))
