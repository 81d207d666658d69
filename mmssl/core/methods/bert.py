"""BERT-style masked modelling: a learnt token stands in for what is hidden (Devlin et al., NAACL 2019, 1810.04805).

The whole sequence goes through the encoder, masked tokens replaced, and a linear layer predicts what they were; with
pixels it is SimMIM (Xie et al., CVPR 2022). It asks nothing of the encoder but tokens, so it works where they cannot be
left out: convolutions, for example.

Differs from the papers:
- targets are continuous (values, pixels, samples) and the loss is a mean squared error; SimMIM takes L1;
- every masked token is replaced. BERT keeps 10% of them and puts random words for another 10%, so that words mean
  something where nothing is masked; an encoder of continuous values has seen unmasked ones on both sides anyway;
- padding is never masked, and values that were not measured (NaN) are no targets.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from mmssl.core.masking import Masking, hide, random_mask
from mmssl.core.objectives.masked import masked_mse
from mmssl.core.transformer import init_linear
from mmssl.core.types import Augmentation, TokenEncoder


class BERT(nn.Module):
    """The method; a batch is what ``augment`` takes, or the encoder if there is none.

    Args:
        encoder: what is pretrained.
        mask_ratio: share of the tokens that is masked. Words need .15; neighbours in images and series tell so much of
            each other that half and more are usual.
        masking: which ones: `random_mask`, ``partial(span_mask, span=10)`` for sequences, `block_mask` for images.
        normalise_targets: as in `MAE`; for tokens of two values and more.
        augment: a batch to one view.
    """

    def __init__(
        self,
        encoder: TokenEncoder,
        *,
        mask_ratio: float = 0.5,
        masking: Masking = random_mask,
        normalise_targets: bool = False,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(encoder, TokenEncoder):
            raise TypeError(
                f"{type(encoder).__name__} has no tokens to mask: BERT needs a TokenEncoder; without one, take a "
                "method that compares views, such as SimCLR"
            )
        self.encoder = encoder
        self.augment = augment
        self.mask_ratio = mask_ratio
        self.masking = masking
        self.normalise_targets = normalise_targets
        self.mask_token = nn.Parameter(0.02 * torch.randn(encoder.token_dim))
        self.head = nn.Linear(encoder.dim, encoder.target_dim)
        init_linear(self.head)

    def forward(self, batch: Any) -> dict[str, Tensor]:
        x = batch if self.augment is None else self.augment(batch)
        prediction, mask = self.predict(x)
        loss = masked_mse(prediction, self.encoder.targets(x), mask, normalise=self.normalise_targets)
        return {"loss": loss}

    def predict(self, x: Any) -> tuple[Tensor, Tensor]:
        """Predictions of all tokens ``(B, N, target_dim)``, and the mask ``(B, N)``."""
        tokens, valid = self.encoder.tokenize(x), self.encoder.valid(x)  # (B, N, D), (B, N)
        mask = self.masking(len(tokens), tokens.shape[1], self.mask_ratio, tokens.device)
        if valid is not None:
            mask = mask & valid
        h = self.encoder.encode(hide(tokens, mask, self.mask_token, self.encoder.positions(x)), valid)
        return self.head(h[:, self.encoder.prefix_tokens :]), mask

    def after_step(self, progress: float, skipped: Tensor) -> None:
        """Nothing follows the weights."""

    def export(self) -> nn.Module:
        return cast(nn.Module, self.encoder)
