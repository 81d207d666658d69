"""What encoders of series make of missing values and of padding."""

from __future__ import annotations

import torch
from torch import Tensor

from mmssl.timeseries.steps import extent, take


def check_channels(x: Tensor, channels: int) -> None:
    """Raise a ValueError unless ``x`` is a batch of series with so many channels."""
    if x.ndim != 3 or x.shape[-1] != channels:
        raise ValueError(f"expected series (B, T, {channels}), got {tuple(x.shape)}")


def with_indicator(x: Tensor) -> Tensor:
    """``(…, C)`` with NaN to ``(…, 2C)``: values, 0 where missing, then 1 where missing and 0 elsewhere."""
    lost = x.isnan()
    return torch.cat([x.masked_fill(lost, 0.0), lost.to(x.dtype)], dim=-1)


def without_head(x: Tensor) -> Tensor:
    """Series ``(B, T, C)`` with all padding at the end, so that it does not matter at which end it was."""
    start, _ = extent(x)
    return take(x, (torch.arange(x.shape[1], device=x.device) + start) % x.shape[1])


def mean_over_time(z: Tensor, valid: Tensor | None) -> Tensor:
    """``(B, T, D)`` to ``(B, D)``; timestamps with ``valid`` False do not count, a series without any gives zeros."""
    if valid is None:
        return z.mean(dim=1)
    weight = valid.to(z.dtype)[..., None]
    return (z * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
