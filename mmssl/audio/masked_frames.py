"""What wav2vec 2.0 and HuBERT do before their losses differ: hide spans of frames and encode what is left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmssl.audio.spans import masked_count, span_masks
from mmssl.audio.wav2vec2_encoder import Wav2Vec2Encoder
from mmssl.core.distributed import gather, world_size
from mmssl.core.masking import hide

CONV_GRADIENT = 0.1  # times which the convolutions learn, as in both papers' code


@dataclass(frozen=True, eq=False)
class MaskedFrames:
    """The frames of a batch after some were hidden.

    Args:
        mask: ``(B, N)`` bool, True where hidden.
        inside: ``(B, N)`` bool, False after the end of a clip.
        context: ``(B, N, D)``, what the encoder makes of them.
        features: ``(B, N, C)``, layer-normed features of all frames, none hidden, with a gradient.
        energy: mean square of the features before their norm; both papers add 10 times it to the loss.
    """

    mask: Tensor
    inside: Tensor
    context: Tensor
    features: Tensor
    energy: Tensor

    @property
    def share(self) -> Tensor:
        """Of the frames that is masked."""
        return self.mask.sum() / self.inside.sum()


class FrameMasking(nn.Module):
    """Masks of a batch of waveforms, and a learnt vector that stands for masked frames.

    Args:
        dim: D, of the encoder's tokens.
        probability, span: see `span_masks`.
    """

    def __init__(self, dim: int, *, probability: float, span: int) -> None:
        super().__init__()
        masked_count(1, probability=probability, span=span)  # complains now
        self.probability = probability
        self.span = span
        self.mask_token = nn.Parameter(torch.rand(dim))

    def forward(self, encoder: Wav2Vec2Encoder, x: Tensor) -> MaskedFrames:
        """Mask and encode waveforms ``(B, samples)``, NaN after the end of a clip."""
        inside = encoder.valid(x)  # (B, N)
        features = scaled_gradient(encoder.features(x), CONV_GRADIENT)  # (B, N, C)
        normed = encoder.feature_projection.layer_norm(features)
        tokens = encoder.dropout(encoder.feature_projection.projection(normed))
        mask = span_masks(inside.sum(dim=1), inside.shape[1], probability=self.probability, span=self.span)
        h = encoder.encode(hide(tokens, mask, self.mask_token, encoder.positions(x)), inside)
        return MaskedFrames(mask, inside, h, normed, mean_over_ranks(features.float().square().mean(dim=-1), inside))


def mean_over_ranks(values: Tensor, valid: Tensor) -> Tensor:
    """Mean of ``values`` where ``valid``; with several ranks its mean over them is that of all of their values.

    Where nothing is valid, 0 with a gradient of 0.
    """
    count = gather(valid.sum()[None].float()).sum().clamp(min=1)
    return torch.where(valid, values, 0.0).sum() * (world_size() / count)


def scaled_gradient(x: Tensor, scale: float) -> Tensor:
    """``x``, whose gradient is multiplied by ``scale``."""
    return _Scaled.apply(x, scale)


class _Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.scale, None
