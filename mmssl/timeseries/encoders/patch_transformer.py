"""A transformer over patches of a series (Nie et al., PatchTST, ICLR 2023, arXiv 2211.14730).

Differs from the paper: a patch holds all channels, where PatchTST treats every channel as a series of its own; patches
do not overlap, so that a masked one cannot be copied from its neighbours; positions are fixed; every value has an
indicator for being missing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmssl.core.transformer import Block, init_linear, sincos_1d
from mmssl.timeseries.encoder import present
from mmssl.timeseries.encoders.missing import check_channels, mean_over_time, with_indicator, without_head


class PatchTransformer(nn.Module):
    """Series ``(B, T, C)`` to one vector each, ``(B, dim)``; its tokens are patches, and may be left out.

    NaN is missing. NaN at either end is padding: it changes nothing, whichever end it is at.

    Args:
        in_channels: C.
        patch: timestamps of a token; the last token of a series may have less.
        dim: width of the transformer.
        depth: number of blocks.
        heads: of the attention.
    """

    droppable = True
    prefix_tokens = 0

    def __init__(self, in_channels: int, *, patch: int = 8, dim: int = 128, depth: int = 4, heads: int = 4) -> None:
        super().__init__()
        if patch < 1:
            raise ValueError(f"patch must be at least 1 timestamp, got {patch}")
        self.in_channels = in_channels
        self.patch = patch
        self.dim = self.token_dim = dim
        self.target_dim = patch * in_channels
        self.embed = nn.Linear(2 * patch * in_channels, dim)
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        init_linear(self.embed)

    def forward(self, x: Tensor) -> Tensor:
        """Mean over the tokens of each series, padding left out."""
        valid = self.valid(x)
        return mean_over_time(self.encode(self.tokenize(x), valid), valid)

    def tokens(self, steps: int) -> int:
        """How many tokens series of so many timestamps have."""
        return -(-steps // self.patch)

    def tokenize(self, x: Tensor) -> Tensor:
        """Patches with their positions: ``(B, T, C)`` to ``(B, N, dim)``."""
        return self.embed(with_indicator(self.targets(x))) + self.positions(x)

    def positions(self, x: Tensor) -> Tensor:
        """``(1, N, dim)``, counted from the first timestamp that is no padding."""
        return sincos_1d(self.tokens(x.shape[1]), self.dim)[None].to(x.device, non_blocking=True)

    def valid(self, x: Tensor) -> Tensor | None:
        """``(B, N)`` bool, False where all of a patch is padding; None for no padding."""
        inside = present(x)
        if inside is None:
            return None
        lengths = inside.sum(dim=1, keepdim=True)  # what is no padding comes first
        return torch.arange(self.tokens(x.shape[1]), device=x.device) * self.patch < lengths

    def targets(self, x: Tensor) -> Tensor:
        """The values of every patch, ``(B, N, patch · C)``; NaN where nothing is measured."""
        check_channels(x, self.in_channels)
        x = without_head(x)
        x = F.pad(x, (0, 0, 0, -x.shape[1] % self.patch), value=float("nan"))
        return x.reshape(len(x), -1, self.target_dim)

    def encode(self, tokens: Tensor, valid: Tensor | None = None) -> Tensor:
        """The transformer: ``(B, N', dim)`` to ``(B, N', dim)``; nobody looks at tokens where ``valid`` is False."""
        for block in self.blocks:
            tokens = block(tokens, valid)
        return self.norm(tokens)

    def encode_layers(self, tokens: Tensor, valid: Tensor | None = None) -> list[Tensor]:
        """Outputs of all blocks, each ``(B, N', dim)``; arguments as in `encode`."""
        layers = []
        for block in self.blocks:
            tokens = block(tokens, valid)
            layers.append(tokens)
        return layers
