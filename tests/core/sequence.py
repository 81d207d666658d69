"""A transformer over padded sequences of a few hundred weights: tokens that may be dropped, and padding."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmssl.core.transformer import Block, sincos_1d


class Sequence(nn.Module):
    """Values `(B, N, 2)`, NaN at padding, with two extra tokens in front."""

    droppable = True
    prefix_tokens = 2
    token_dim = 8
    target_dim = 2
    dim = 8

    def __init__(self, depth: int = 2) -> None:
        super().__init__()
        self.embed = nn.Linear(2, 8)
        self.prefix = nn.Parameter(torch.randn(1, 2, 8))
        self.blocks = nn.ModuleList(Block(8, 2) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        return self.encode(self.tokenize(x), self.valid(x))[:, 0]

    def tokenize(self, x: Tensor) -> Tensor:
        return self.embed(x.nan_to_num()) + self.positions(x)

    def positions(self, x: Tensor) -> Tensor:
        return sincos_1d(x.shape[1], 8).to(x.device)

    def valid(self, x: Tensor) -> Tensor | None:
        return ~x.isnan().all(dim=-1)

    def encode(self, tokens: Tensor, valid: Tensor | None = None) -> Tensor:
        return self.encode_layers(tokens, valid)[-1]

    def encode_layers(self, tokens: Tensor, valid: Tensor | None = None) -> list[Tensor]:
        h = torch.cat([self.prefix.expand(len(tokens), -1, -1), tokens], dim=1)
        if valid is not None:
            valid = nn.functional.pad(valid, (2, 0), value=True)
        layers: list[Tensor] = []
        for block in self.blocks:
            h = block(h, valid)
            layers.append(h)
        return layers

    def targets(self, x: Tensor) -> Tensor:
        return x
