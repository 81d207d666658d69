"""A small transformer over the tokens of a text."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mmssl.core.transformer import Block
from mmssl.text.tokenizer import PADDING


class TextTransformer(nn.Module):
    """Tokens ``(B, L)`` to one vector a text, ``(B, dim)``: blocks with full attention, then the mean over the tokens.

    The text tower of CLIP (Radford et al., ICML 2021, section 2.4) attends to the left only and takes the end token, so
    that a language model could take its place; with few texts the mean learns faster. Embeddings start as CLIP's do.
    Padding changes nothing, and may stand anywhere: a word that is replaced by it is left out.

    Args:
        vocabulary: number of tokens.
        context: most tokens of a text; shorter inputs are welcome.
        dim: width.
        depth: number of blocks.
        heads: of the attention.
        dropout: of the embedded tokens and in the blocks.
    """

    arguments: dict[str, Any]  # that build it again

    def __init__(
        self, vocabulary: int, context: int, *, dim: int, depth: int, heads: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.arguments = {
            "vocabulary": vocabulary,
            "context": context,
            "dim": dim,
            "depth": depth,
            "heads": heads,
            "dropout": dropout,
        }
        self.vocabulary = vocabulary
        self.context = context
        self.dim = dim
        self.tokens = nn.Embedding(vocabulary, dim)
        self.positions = nn.Parameter(0.01 * torch.randn(context, dim))
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(dim, heads, dropout=dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        nn.init.normal_(self.tokens.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        if tokens.ndim != 2 or tokens.shape[1] > self.context:
            raise ValueError(
                f"expected tokens (B, L) with L up to the context, {self.context}, got {tuple(tokens.shape)}: "
                "a text tower goes with the tokenizer of its own run"
            )
        valid = tokens != PADDING  # (B, L)
        if tokens.device.type == "cpu":  # where it costs nothing to ask for the longest text
            longest = int((valid * torch.arange(1, tokens.shape[1] + 1)).max())
            tokens, valid = tokens[:, :longest], valid[:, :longest]
        h = self.drop(self.tokens(tokens) + self.positions[: tokens.shape[1]])  # (B, L, D)
        for block in self.blocks:
            h = block(h, valid)
        weight = valid[..., None].to(h.dtype)
        return (self.norm(h) * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
