"""Transformer blocks and fixed positions, for decoders and for encoders of any modality."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Attention and an MLP, each after a layer norm and added to its input (Dosovitskiy et al., ICLR 2021).

    Linear layers start as Xavier uniform without biases, as in the authors' code of MAE.

    Args:
        dim: D.
        heads: of the attention; D must be a multiple.
        mlp_ratio: width of the MLP's hidden layer over D.
        dropout: of what attention and MLP add.
    """

    def __init__(self, dim: int, heads: int, *, mlp_ratio: float = 4.0, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim must be a multiple of heads, got dim={dim} and heads={heads}")
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.fc1 = nn.Linear(dim, int(mlp_ratio * dim))
        self.fc2 = nn.Linear(int(mlp_ratio * dim), dim)
        self.drop = nn.Dropout(dropout)
        self.apply(init_linear)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """``(B, N, D)`` to ``(B, N, D)``; nobody attends to tokens where ``valid``, ``(B, N)`` bool, is False."""
        x = x + self.drop(self.attend(self.norm1(x), valid))
        return x + self.drop(self.fc2(F.gelu(self.fc1(self.norm2(x)))))

    def attend(self, x: Tensor, valid: Tensor | None) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each (B, heads, N, D / heads)
        seen = None if valid is None else valid[:, None, None]
        h = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        return self.proj(h.transpose(1, 2).flatten(2))


def init_linear(module: nn.Module) -> None:
    """Xavier uniform and no bias, if ``module`` is a linear layer; for `nn.Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def sincos_1d(n: int, dim: int) -> Tensor:
    """Fixed positions of a sequence (Vaswani et al., NeurIPS 2017) in the order of MAE: all sines, then all cosines.

    Args:
        n: number of positions, counted from 0.
        dim: size of one, even.

    Returns:
        ``(n, dim)`` float32.
    """
    return _sincos(torch.arange(n, dtype=torch.float64), dim).float()


def sincos_2d(height: int, width: int, dim: int) -> Tensor:
    """Fixed positions of a grid, row by row, as in the authors' code of MAE: the first half tells the column.

    Args:
        height: rows.
        width: columns.
        dim: size of one, a multiple of 4.

    Returns:
        ``(height · width, dim)`` float32.
    """
    if dim % 4:
        raise ValueError(f"sine and cosine of two coordinates need a dim that is a multiple of 4, got {dim}")
    row = _sincos(torch.arange(height, dtype=torch.float64), dim // 2)
    column = _sincos(torch.arange(width, dtype=torch.float64), dim // 2)
    return torch.cat([column.repeat(height, 1), row.repeat_interleave(width, dim=0)], dim=1).float()


def _sincos(position: Tensor, dim: int) -> Tensor:
    """``(n,)`` to ``(n, dim)``: wavelengths from 2π to 2π · 10,000."""
    if dim % 2:
        raise ValueError(f"sine and cosine need an even dim, got {dim}")
    omega = 10_000.0 ** (-torch.arange(dim // 2, dtype=torch.float64) / (dim // 2))
    angle = position[:, None] * omega
    return torch.cat([angle.sin(), angle.cos()], dim=1)
