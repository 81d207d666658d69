"""data2vec: predict what a teacher makes of the hidden tokens in their context (Baevski et al., ICML 2022, 2202.03555).

The student sees the input with mask tokens; the teacher, a moving average of it, sees all of it. Targets are the
teacher's upper layers, averaged.

Differs from the paper:
- one kind of target for all modalities: the output of each block, layer-normalised, then averaged. The authors' code
  takes the feed-forward output for text and audio, instance norm for audio, and normalises the average for images;
- the momentum rises as a cosine over the whole training, where the authors let it rise linearly over the first steps;
- the teacher is a copy of the whole encoder; for audio and text the authors share the tokens.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmssl.core.ema import Teacher
from mmssl.core.masking import Masking, hide, random_mask
from mmssl.core.objectives.masked import masked_smooth_l1
from mmssl.core.transformer import init_linear
from mmssl.core.types import Augmentation, LayeredTokenEncoder


class Data2Vec(nn.Module):
    """The method; a batch is what ``augment`` takes, or the encoder if there is none.

    Args:
        encoder: what is pretrained; it must show its layers.
        mask_ratio: share of the tokens that is masked: .6 for images, .65 for audio, .35 for text in the paper.
        masking: which ones: `block_mask` for images, ``partial(span_mask, span=10)`` for audio in the paper.
        top_layers: K, how many upper layers make the target.
        beta: distance from which on the loss grows linearly: 2 for images, 4 for text in the paper.
        momentum: of the teacher at the start.
        final_momentum: of the teacher at the end.
        augment: a batch to one view.
    """

    def __init__(
        self,
        encoder: LayeredTokenEncoder,
        *,
        mask_ratio: float = 0.6,
        masking: Masking = random_mask,
        top_layers: int = 6,
        beta: float = 2.0,
        momentum: float = 0.999,
        final_momentum: float = 0.9998,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(encoder, LayeredTokenEncoder):
            raise TypeError(
                f"data2vec predicts layers of a teacher, and {type(encoder).__name__} does not show them: it needs "
                "encode_layers (see LayeredTokenEncoder); with tokens alone, use BERT of mmssl.core.methods.bert"
            )
        if top_layers < 1:
            raise ValueError(f"top_layers must be at least 1, got {top_layers}")
        self.encoder = encoder
        self.teacher = Teacher(cast(nn.Module, encoder), momentum=momentum, final_momentum=final_momentum)
        self.augment = augment
        self.mask_ratio = mask_ratio
        self.masking = masking
        self.top_layers = top_layers
        self.beta = beta
        self.mask_token = nn.Parameter(0.02 * torch.randn(encoder.token_dim))
        self.head = nn.Linear(encoder.dim, encoder.token_dim)
        init_linear(self.head)

    def forward(self, batch: Any) -> dict[str, Tensor]:
        x = batch if self.augment is None else self.augment(batch)
        tokens, valid = self.encoder.tokenize(x), self.encoder.valid(x)  # (B, N, D), (B, N)
        mask = self.masking(len(tokens), tokens.shape[1], self.mask_ratio, tokens.device)
        if valid is not None:
            mask = mask & valid
        h = self.encoder.encode(hide(tokens, mask, self.mask_token, self.encoder.positions(x)), valid)
        prediction = self.head(h[:, self.encoder.prefix_tokens :])  # (B, N, D)
        target = self.target(x, valid)
        return {
            "loss": masked_smooth_l1(prediction, target, mask, beta=self.beta),
            "prediction_std": masked_std(prediction.detach(), mask),
            "target_std": masked_std(target, mask),
        }

    @torch.no_grad()
    def target(self, x: Any, valid: Tensor | None) -> Tensor:
        """Mean of the teacher's top layers over the whole input, each layer-normalised: ``(B, N, D)`` float32."""
        teacher = cast(LayeredTokenEncoder, self.teacher.module)
        layers = teacher.encode_layers(teacher.tokenize(x), valid)
        if len(layers) < self.top_layers:
            raise ValueError(
                f"the encoder has {len(layers)} layers, of which top_layers={self.top_layers} cannot be taken"
            )
        top = [F.layer_norm(layer.float(), layer.shape[-1:]) for layer in layers[-self.top_layers :]]
        return torch.stack(top).mean(dim=0)[:, self.encoder.prefix_tokens :]

    def after_step(self, progress: float, skipped: Tensor) -> None:
        self.teacher.update(cast(nn.Module, self.encoder), progress, skipped)

    def export(self) -> nn.Module:
        """The student, which the authors fine-tune."""
        return cast(nn.Module, self.encoder)


def masked_std(x: Tensor, mask: Tensor) -> Tensor:
    """Standard deviation over the masked tokens of ``(B, N, D)``, averaged over D: near 0 after a collapse."""
    weight = mask[..., None] / mask.sum().clamp(min=1)
    mean = (x.float() * weight).sum(dim=(0, 1))
    return ((x.float() - mean).square() * weight).sum(dim=(0, 1)).sqrt().mean()
