"""Losses over masked tokens, for MAE, BERT-style and data2vec-style methods.

All are means over the masked tokens of all ranks, however they are spread over the ranks: each rank gets its own part,
so that the mean over ranks is the loss of the whole batch in one process. Without a masked token, the loss is 0.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from mmssl.core.distributed import gather, world_size
from mmssl.core.objectives.inputs import at_least_float32, check_positive


def masked_mse(prediction: Tensor, target: Tensor, mask: Tensor, *, normalise: bool = False) -> Tensor:
    """Mean squared error of masked tokens (He et al., MAE, CVPR 2022, arXiv 2111.06377).

    Args:
        prediction: ``(B, N, P)``.
        target: ``(B, N, P)``; NaN for what was not measured, which takes no part.
        mask: ``(B, N)`` bool, True for masked tokens.
        normalise: bring the target of each token to mean 0 and variance 1 first; as MAE's, the variance divides by
            P − 1 and has 1e-6 added to it.

    Returns:
        The mean over masked tokens of the mean over their measured values.
    """
    _check_shapes(prediction, target, mask, expected=prediction.shape)
    with torch.autocast(prediction.device.type, enabled=False):
        prediction, target = at_least_float32(prediction), at_least_float32(target)
        if normalise:
            target = _normalised(target)
        return _mean_of_tokens(F.mse_loss, prediction, target, mask)


def masked_smooth_l1(prediction: Tensor, target: Tensor, mask: Tensor, *, beta: float = 1.0) -> Tensor:
    """Smooth L1 distance of masked tokens (Baevski et al., data2vec, ICML 2022, arXiv 2202.03555, equation 4).

    Args:
        prediction: ``(B, N, P)``.
        target: ``(B, N, P)``; NaN for what was not measured, which takes no part.
        mask: ``(B, N)`` bool, True for masked tokens.
        beta: distance from which on the loss grows linearly; 2 for images in the paper.

    Returns:
        The mean over masked tokens of the mean over their measured values.
    """
    check_positive("beta", beta)
    _check_shapes(prediction, target, mask, expected=prediction.shape)
    with torch.autocast(prediction.device.type, enabled=False):
        prediction, target = at_least_float32(prediction), at_least_float32(target)
        return _mean_of_tokens(partial(F.smooth_l1_loss, beta=beta), prediction, target, mask)


def masked_cross_entropy(logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy of masked tokens (Devlin et al., BERT, NAACL 2019, arXiv 1810.04805).

    Args:
        logits: ``(B, N, K)``.
        ids: ``(B, N)`` int64; negative for what was not measured, which takes no part.
        mask: ``(B, N)`` bool, True for masked tokens.

    Returns:
        The mean over masked tokens.
    """
    _check_shapes(logits, ids, mask, expected=logits.shape[:2])
    with torch.autocast(logits.device.type, enabled=False):
        used = mask & (ids >= 0)
        ids = torch.where(used, ids, -1)
        total = F.cross_entropy(at_least_float32(logits).flatten(0, 1), ids.flatten(), ignore_index=-1, reduction="sum")
        return _mean_over_ranks(total, used.sum())


def _check_shapes(prediction: Tensor, target: Tensor, mask: Tensor, *, expected: torch.Size) -> None:
    """``expected`` is the shape that the target must have."""
    if prediction.dim() != 3 or target.shape != expected or mask.shape != prediction.shape[:2]:
        raise ValueError(
            f"a prediction {tuple(prediction.shape)} must have three axes, (B, N, …), and needs a target "
            f"{tuple(expected)} and a mask {tuple(prediction.shape[:2])}, got {tuple(target.shape)} and "
            f"{tuple(mask.shape)}"
        )
    if mask.dtype != torch.bool:
        raise ValueError(f"mask must be bool, True for masked tokens, got {mask.dtype}")


def _normalised(target: Tensor) -> Tensor:
    """Each token ``(…, P)`` to mean 0 and variance 1 over its measured values."""
    if target.shape[-1] < 2:
        raise ValueError("normalise needs at least 2 values in a token: with 1, all targets would be 0")
    mean = target.nanmean(dim=-1, keepdim=True)
    deviation = target - mean
    degrees = ((~deviation.isnan()).sum(dim=-1, keepdim=True) - 1).clamp(min=1)
    variance = deviation.square().nansum(dim=-1, keepdim=True) / degrees
    return deviation * (variance + 1e-6).rsqrt()


def _mean_of_tokens(distance: Callable[..., Tensor], prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean over masked tokens of the mean ``distance`` of their measured values."""
    used = mask[..., None] & ~target.isnan()  # (B, N, P)
    prediction, target = torch.where(used, prediction, 0.0), torch.where(used, target, 0.0)
    measured = used.sum(dim=-1)  # (B, N)
    tokens = distance(prediction, target, reduction="none").sum(dim=-1) / measured.clamp(min=1)
    return _mean_over_ranks(tokens.sum(), (measured > 0).sum())


def _mean_over_ranks(total: Tensor, count: Tensor) -> Tensor:
    """This rank's part of a mean, for its sum and the number of its summands; 0 where there are none anywhere."""
    everywhere = gather(count[None]).sum()
    return total * world_size() / everywhere.clamp(min=1)
