"""What the authors of TS-TCC ran where `mmssl.timeseries.tstcc` does something else: ``reference="paper"``.

Written from their published code (github.com/emadeldeen24/TS-TCC): both views, and the blocks of the transformer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmssl.timeseries.augment import Jitter, Step
from mmssl.timeseries.steps import check_strength, extent, take
from mmssl.timeseries.timing import rearranged


@dataclass(frozen=True)
class PaperWeakView(Step):
    """The weak view of the authors' code: every timestamp times a number of its own around 2, without noise.

    Destroys levels, thresholds, and the shape of whatever is shorter than a few timestamps.

    Args:
        sigma: standard deviation of the factor; 1.1 for human activity, 0.001 for epilepsy, 1.5 for sleep.
    """

    sigma: float = 1.1

    def __post_init__(self) -> None:
        check_strength("sigma", self.sigma)

    def draw(self, x: Tensor) -> Tensor:
        """``(B, T, 1)``, the factors."""
        return torch.randn(*x.shape[:2], 1, device=x.device).mul_(self.sigma).add_(2)

    def apply(self, x: Tensor, drawn: Tensor) -> Tensor:
        return x * drawn


@dataclass(frozen=True)
class PaperStrongView(Step):
    """The strong view of the authors' code: a series in segments has its first channel in the place of all channels.

    Destroys what `Permutation` does, and all channels but the first.

    Args:
        max_segments: one less at most, as in the authors' code: 8 for human activity, 5 for epilepsy, 12 for sleep.
        jitter: noise on top; 0.8, 0.001 and 2.
    """

    max_segments: int = 8
    jitter: float = 0.8

    def __post_init__(self) -> None:
        if self.max_segments < 2:
            raise ValueError(f"max_segments must be at least 2, got {self.max_segments}")
        check_strength("jitter", self.jitter)

    def run(self, x: Tensor) -> Tensor:
        most = self.max_segments - 1
        start, length = extent(x)
        count = torch.randint(1, most + 1, start.shape, device=x.device)
        cuts = start + (torch.rand(len(x), most - 1, device=x.device) * (length - 2).clamp(min=0)).long()
        cuts = torch.where(torch.arange(1, most, device=x.device) >= count, start + length, cuts).sort(dim=1).values
        edges = torch.cat([start, cuts, start + length], dim=1)
        index = rearranged(edges, torch.rand(len(x), most, device=x.device).argsort(dim=1), x.shape[1])
        first = take(x, index)[..., :1].expand_as(x)
        return Jitter(self.jitter).run(torch.where(count[..., None] > 1, first, x))


class PaperBlock(nn.Module):
    """A transformer block as the authors have it: ``(B, N, D)`` to ``(B, N, D)``.

    Attention is softer than usual, its scores being divided by √D instead of √(D / heads); queries, keys and values
    have no bias; the MLP is ReLU; there is dropout behind every linear map; torch initialises.
    """

    def __init__(self, dim: int, heads: int, hidden: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim must be a multiple of heads, got dim={dim} and heads={heads}")
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Sequential(nn.Linear(dim, dim), nn.Dropout(dropout))
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, dim), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Nobody attends to tokens where ``valid``, ``(B, N)`` bool, is False."""
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = None if valid is None else valid[:, None, None]
        h = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=x.shape[-1] ** -0.5)
        x = x + self.proj(h.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))
