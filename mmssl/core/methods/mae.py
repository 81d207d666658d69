"""MAE: rebuild an input from a quarter of its tokens (He et al., CVPR 2022, arXiv 2111.06377).

Only visible tokens go through the encoder; a light decoder is given them back in place, with a mask token everywhere
else, and predicts what was hidden.

Differs from the paper in that nothing of it is about images: tokens, positions and targets are those of any
`TokenEncoder` whose tokens may be dropped, and values that were not measured (NaN) are no targets.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from mmssl.core.masking import kept_indices, masked_count, put, random_mask, take
from mmssl.core.objectives.masked import masked_mse
from mmssl.core.transformer import Block, init_linear
from mmssl.core.types import Augmentation, TokenEncoder


class MAE(nn.Module):
    """The method; a batch is what ``augment`` takes, or the encoder if there is none.

    Args:
        encoder: what is pretrained; initialised by whoever built it.
        positions: ``(N, decoder_dim)``, fixed positions of the decoder's tokens: `sincos_2d` for images.
        mask_ratio: share of the tokens that is hidden.
        decoder_dim: width of the decoder.
        decoder_depth: its number of blocks.
        decoder_heads: its heads.
        normalise_targets: subtract the mean of each token's target and divide by its standard deviation.
        augment: a batch to one view, such as a crop with a flip.
    """

    decoder_positions: Tensor

    def __init__(
        self,
        encoder: TokenEncoder,
        *,
        positions: Tensor,
        mask_ratio: float = 0.75,
        decoder_dim: int = 512,
        decoder_depth: int = 8,
        decoder_heads: int = 16,
        normalise_targets: bool = True,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(encoder, TokenEncoder):
            raise TypeError(
                f"{type(encoder).__name__} has no tokens to mask: MAE needs a TokenEncoder, such as a vision "
                "transformer; without one, take a method that compares views, such as SimCLR"
            )
        if not encoder.droppable:
            raise ValueError(
                f"MAE leaves masked tokens out, and {type(encoder).__name__} cannot do without (droppable is False): "
                "use BERT of mmssl.core.methods.bert, which puts a mask token in their place"
            )
        if positions.ndim != 2 or positions.shape[1] != decoder_dim:
            raise ValueError(f"positions must be (tokens, decoder_dim={decoder_dim}), got {tuple(positions.shape)}")
        self.encoder = encoder
        self.augment = augment
        self.mask_ratio = mask_ratio
        self.visible = len(positions) - masked_count(len(positions), mask_ratio)
        self.normalise_targets = normalise_targets
        self.decoder_embed = nn.Linear(encoder.dim, decoder_dim)
        self.mask_token = nn.Parameter(0.02 * torch.randn(decoder_dim))
        self.register_buffer("decoder_positions", positions.clone(), persistent=False)
        self.decoder_blocks = nn.ModuleList(Block(decoder_dim, decoder_heads) for _ in range(decoder_depth))
        self.decoder_norm = nn.LayerNorm(decoder_dim, eps=1e-6)
        self.decoder_pred = nn.Linear(decoder_dim, encoder.target_dim)
        init_linear(self.decoder_embed)
        init_linear(self.decoder_pred)

    def forward(self, batch: Any) -> dict[str, Tensor]:
        x = batch if self.augment is None else self.augment(batch)
        prediction, mask = self.predict(x)
        loss = masked_mse(prediction, self.encoder.targets(x), mask, normalise=self.normalise_targets)
        return {"loss": loss}

    def predict(self, x: Any) -> tuple[Tensor, Tensor]:
        """What the decoder makes of the visible tokens: ``(B, N, target_dim)``, and the mask ``(B, N)``."""
        tokens = self.encoder.tokenize(x)  # (B, N, D)
        n, expected = tokens.shape[1], len(self.decoder_positions)
        if n != expected:
            raise ValueError(f"the input has {n} tokens, and the decoder has positions for {expected}")
        mask = random_mask(len(tokens), n, self.mask_ratio, tokens.device)
        kept = kept_indices(mask, self.visible)
        valid = self.encoder.valid(x)
        h = self.encoder.encode(take(tokens, kept), None if valid is None else take(valid, kept))  # (B, P + K, dim)
        return self.decode(h, kept, valid), mask

    def decode(self, h: Tensor, kept: Tensor, valid: Tensor | None) -> Tensor:
        """``(B, P + K, dim)`` to ``(B, N, target_dim)``; prefix tokens stay in front, without a position."""
        h = self.decoder_embed(h)
        prefix, h = h.tensor_split([self.encoder.prefix_tokens], dim=1)
        h = put(h, kept, self.mask_token, len(self.decoder_positions)) + self.decoder_positions
        h = torch.cat([prefix, h], dim=1)
        if valid is not None:
            valid = nn.functional.pad(valid, (prefix.shape[1], 0), value=True)
        for block in self.decoder_blocks:
            h = block(h, valid)
        return self.decoder_pred(self.decoder_norm(h))[:, prefix.shape[1] :]

    @torch.no_grad()
    def reconstruct(self, x: Any) -> tuple[Tensor, Tensor]:
        """For pictures: predictions ``(B, N, target_dim)`` in the units of the targets, and the mask ``(B, N)``.

        If targets are normalised, each token is given the mean and the standard deviation that it really has, as in the
        pictures of the paper; the model does not predict them.

        Args:
            x: what the encoder takes; nothing is augmented.
        """
        prediction, mask = self.predict(x)
        prediction = prediction.float()
        if self.normalise_targets:
            target = self.encoder.targets(x).float()
            mean = target.nanmean(dim=-1, keepdim=True)
            degrees = (~target.isnan()).sum(dim=-1, keepdim=True) - 1
            variance = (target - mean).square().nansum(dim=-1, keepdim=True) / degrees.clamp(min=1)
            prediction = prediction * (variance + 1e-6).sqrt() + mean
        return prediction, mask

    def after_step(self, progress: float, skipped: Tensor) -> None:
        """Nothing follows the weights."""

    def export(self) -> nn.Module:
        return cast(nn.Module, self.encoder)
