"""Which tokens are hidden, and how to pick the others out; every mask is ``(B, N)`` bool, True = masked.

All masks of a batch have the same number of masked tokens, so that what is left is a rectangle and nobody has to ask a
GPU for a size. Random numbers come from the global generator of the device.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

Device = torch.device | str | None


class Masking(Protocol):
    """How `random_mask`, and `span_mask` and `block_mask` with their options bound by `functools.partial`, look."""

    def __call__(self, batch: int, tokens: int, ratio: float, device: Device = None) -> Tensor: ...


def masked_count(tokens: int, ratio: float) -> int:
    """How many of ``tokens`` are masked: ``ratio`` of them, rounded, but at least one, and not all."""
    if not 0 < ratio < 1:
        raise ValueError(f"the mask ratio must lie between 0 and 1, got {ratio}")
    if tokens < 2:
        raise ValueError(f"masking needs at least 2 tokens, one to see and one to predict, got {tokens}")
    return min(max(round(ratio * tokens), 1), tokens - 1)


def random_mask(batch: int, tokens: int, ratio: float, device: Device = None) -> Tensor:
    """Every token with the same chance, as in MAE (He et al., CVPR 2022).

    Args:
        batch: B.
        tokens: N.
        ratio: share of the tokens that is masked, see `masked_count`.
        device: where the mask is drawn.
    """
    return _smallest(torch.rand(batch, tokens, device=device), masked_count(tokens, ratio))


def span_mask(batch: int, tokens: int, ratio: float, device: Device = None, *, span: int = 10) -> Tensor:
    """Stretches of ``span`` neighbours in a sequence, as in wav2vec 2.0 (Baevski et al., NeurIPS 2020).

    Spans start anywhere, may overlap, and are drawn until the share is covered. The last one is cut to give the exact
    number, where the authors let the number vary.

    Args:
        batch: B.
        tokens: N, in the order of the sequence.
        ratio: share of the tokens that is masked, see `masked_count`.
        device: where the mask is drawn.
        span: length of a stretch in tokens.
    """
    count = masked_count(tokens, ratio)
    if span < 1:
        raise ValueError(f"span must be at least one token, got {span}")
    draw = torch.rand(batch, 1, tokens + span - 1, device=device)  # when the span that starts here is drawn
    return _smallest(-F.max_pool1d(-draw, span, stride=1)[:, 0], count)  # a token goes with the first span over it


def block_mask(
    batch: int,
    tokens: int,
    ratio: float,
    device: Device = None,
    *,
    grid: tuple[int, int] | None = None,
    min_block: int = 16,
    min_aspect: float = 0.3,
) -> Tensor:
    """Rectangles on a grid of patches, as in BEiT (Bao et al., ICLR 2022).

    Rectangles of a random area and shape are drawn until the share is covered; the last one is cut to give the exact
    number. The authors draw the area of each from what is still missing, and come out slightly below the share.

    Args:
        batch: B.
        tokens: N = h · w, row by row.
        ratio: share of the tokens that is masked, see `masked_count`; .4 in the paper.
        device: where the mask is drawn.
        grid: (h, w); a square if None.
        min_block: smallest area of a rectangle in tokens; the largest is all tokens to be masked.
        min_aspect: smallest ratio of height to width; the largest is its inverse.
    """
    count = masked_count(tokens, ratio)
    if grid is None:
        grid = (math.isqrt(tokens), math.isqrt(tokens))
    if grid[0] * grid[1] != tokens:
        raise ValueError(f"a grid of {grid[0]} × {grid[1]} does not have {tokens} tokens: pass grid=(height, width)")
    if not 0 < min_aspect <= 1:
        raise ValueError(f"min_aspect must lie in (0, 1], got {min_aspect}")
    covered = _rectangles(batch, grid, min(min_block, count), count, min_aspect, device)  # (B, draws, N)
    draws = covered.shape[1]
    drawn = torch.arange(draws, device=device, dtype=torch.float32)[:, None]
    first = torch.where(covered, drawn, draws).amin(dim=1)  # (B, N), the draw that covers a token
    place = torch.linspace(0, 0.5, tokens, device=device).expand(batch, -1)
    upwards = torch.rand(batch, 1, device=device) < 0.5  # so that the cut is not always at the bottom
    place = torch.where(upwards, 0.5 - place, place)
    rest = torch.rand(batch, tokens, device=device)  # in the rare case that all draws together are too few
    return _smallest(first + torch.where(first < draws, place, rest), count)


def _rectangles(
    batch: int, grid: tuple[int, int], min_area: int, max_area: int, min_aspect: float, device: Device
) -> Tensor:
    """Random rectangles ``(B, 32, h · w)`` bool, True inside."""
    height, width = grid
    u = torch.rand(4, batch, 32, 1, device=device)
    area = min_area + u[0] * (max_area - min_area)
    aspect = torch.exp((2 * u[1] - 1) * -math.log(min_aspect))
    h = (area * aspect).sqrt().round().clamp(1, height)
    w = (area / aspect).sqrt().round().clamp(1, width)
    top = (u[2] * (height - h + 1)).floor()
    left = (u[3] * (width - w + 1)).floor()
    y, x = torch.arange(height, device=device), torch.arange(width, device=device)
    rows = (y >= top) & (y < top + h)  # (B, 32, h)
    columns = (x >= left) & (x < left + w)
    return (rows[..., None] & columns[..., None, :]).flatten(2)


def _smallest(key: Tensor, count: int) -> Tensor:
    """``(B, N)`` bool, True at the ``count`` smallest of each row; of equal ones the first."""
    chosen = key.argsort(dim=1, stable=True)[:, :count]
    return torch.zeros_like(key, dtype=torch.bool).scatter_(1, chosen, True)


def hide(tokens: Tensor, mask: Tensor, mask_token: Tensor, positions: Tensor) -> Tensor:
    """Put a learnt token in the place of masked ones.

    Args:
        tokens: ``(B, N, D)``, positions included.
        mask: ``(B, N)``.
        mask_token: ``(D,)``.
        positions: broadcast to ``(B, N, D)``; the mask token gets them, so that it is known what is missing.
    """
    return torch.where(mask[..., None], mask_token + positions, tokens)


def kept_indices(mask: Tensor, count: int) -> Tensor:
    """Where a batch of tokens, laid out flat as ``(B · N, …)``, is not masked.

    Args:
        mask: ``(B, N)``, with ``count`` tokens not masked in every row.
        count: K; a number that the caller knows, so that nothing waits for a GPU.

    Returns:
        ``(B · K,)`` int64, in the order of the tokens.
    """
    batch, tokens = mask.shape
    kept = mask.to(torch.uint8).argsort(dim=1, stable=True)[:, :count]
    return (kept + tokens * torch.arange(batch, device=mask.device)[:, None]).flatten()


def take(x: Tensor, indices: Tensor) -> Tensor:
    """``(B, N, …)`` to ``(B, K, …)``: the tokens at `kept_indices`."""
    return x.flatten(0, 1).index_select(0, indices).unflatten(0, (len(x), -1))


def put(x: Tensor, indices: Tensor, fill: Tensor, tokens: int) -> Tensor:
    """``(B, K, D)`` to ``(B, N, D)``: the inverse of `take`, with ``fill`` ``(D,)`` where nothing was taken.

    Args:
        x: tokens to put back.
        indices: `kept_indices`.
        fill: stands at all other tokens, usually a learnt mask token.
        tokens: N.
    """
    whole = fill.to(x.dtype).expand(len(x) * tokens, -1)
    return whole.index_copy(0, indices, x.flatten(0, 1)).unflatten(0, (len(x), tokens))
