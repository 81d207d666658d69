"""Weighted sums of neighbouring pixels: the one kernel behind resizing and blurring."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, eq=False)
class Taps:
    """Of which pixels a line of the result is made.

    Args:
        index: ``(1 or N, S, T)`` int32: the T pixels of the source behind each of S pixels.
        weight: ``(N, S, T)`` float32; those of a pixel sum to 1.
    """

    index: Tensor
    weight: Tensor

    def of(self, images: slice, b: int) -> Taps:
        """Those of some of ``b`` images, for N a multiple of ``b``."""
        index, weight = (t.unflatten(0, (-1, b))[:, images].flatten(0, 1) for t in (self.index, self.weight))
        return Taps(index, weight)


def filter_image(x: Tensor, vertical: Taps, horizontal: Taps) -> Tensor:
    """``(B, C, H, W)`` through one filter along H and another along W: ``(N, C, H', W')``, not contiguous.

    Args:
        x: contiguous float32.
        vertical: N is B, or a multiple of it: row n is made of image n modulo B.
        horizontal: for as many rows.
    """
    x = filter_height(x, vertical).transpose(2, 3).contiguous()
    return filter_height(x, horizontal).transpose(2, 3)


def filter_height(x: Tensor, taps: Taps) -> Tensor:
    """``(B, C, H, W)`` to ``(N, C, S, W)``.

    Lines of pixels are looked up like words in a table of embeddings, and added up in weighted bags: no other operator
    of torch sums a few lines at the speed of the memory with weights of each image's own. On a CPU, products with
    banded matrices took 4 times (32 pixels) to 10 times (224 pixels) as long, depthwise convolutions 1.5 to 9 times.
    """
    n, s, t = taps.weight.shape
    b, c, h, w = x.shape
    plane = torch.arange(n * c, dtype=torch.int32, device=x.device) % (b * c)
    index = (plane * h).view(n, c, 1, 1) + taps.index[:, None]  # (N, C, S, T), lines counted through all images
    weight = taps.weight[:, None].expand(n, c, s, t)
    lines = F.embedding_bag(index.view(-1, t), x.view(-1, w), mode="sum", per_sample_weights=weight.reshape(-1, t))
    return lines.view(n, c, s, w)
