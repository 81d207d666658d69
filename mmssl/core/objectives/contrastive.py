"""The part that all contrastive losses share: log Σ exp of similarities, without the matrix of similarities."""

from __future__ import annotations

import torch
from torch import Tensor

TILE = 2**22  # similarities held at a time: 16 MiB in float32, small enough for a cache, large enough for a GEMM
LEFT_OUT = torch.finfo(torch.float32).min / 2  # not -inf: a row without any partner would have a NaN for a gradient


def weighted_logsumexp(
    z: Tensor, weight: Tensor, shown: Tensor | None = None, *, anchors: slice = slice(None)
) -> tuple[Tensor, Tensor]:
    """Σ_i w_i log Σ_{j ≠ i} exp(z_i · z_j) and its gradient, worked out together.

    Tile by tile, so that memory grows with N and not with N², and every similarity is computed once. It is what the
    inside of an `autograd.Function` calls; nothing is recorded.

    Args:
        z: ``(G, N, D)`` float32, G independent groups of N vectors.
        weight: ``(G, N)``, or broadcastable to it; the weight of each anchor i.
        shown: ``(G, N)`` bool, False for a vector j that nobody is held against; None shows all.
        anchors: the rows i that count; a rank of a distributed loss wants its own.

    Returns:
        The sum, 0-dim, and its gradient ``(G, N, D)``.
    """
    groups, n, _ = z.shape
    weight = weight.expand(groups, n)
    start, stop, _ = anchors.indices(n)
    rows = max(1, TILE // (groups * n))
    if rows >= n and stop - start == n:  # everything at once; z zᵀ is symmetric, so one product gives the gradient
        value, p = _tile(z, weight, shown, 0, n)
        return value, torch.bmm(p + p.transpose(1, 2), z)
    value, dz = z.new_zeros(()), torch.zeros_like(z)
    for i in range(start, stop, rows):
        j = min(i + rows, stop)
        part, p = _tile(z, weight, shown, i, j)
        value += part
        dz[:, i:j].baddbmm_(p, z)
        dz.baddbmm_(p.transpose(1, 2), z[:, i:j])
    return value, dz


def _tile(z: Tensor, weight: Tensor, shown: Tensor | None, i: int, j: int) -> tuple[Tensor, Tensor]:
    """Sum over the anchors i … j, and its gradient with respect to their similarities ``(G, j - i, N)``."""
    sim = torch.bmm(z[:, i:j], z.transpose(1, 2))
    sim.diagonal(i, dim1=1, dim2=2).fill_(LEFT_OUT)
    if shown is not None:
        sim.masked_fill_(~shown[:, None, :], LEFT_OUT)
    top = sim.amax(dim=-1, keepdim=True)
    sim.sub_(top).exp_()
    total = sim.sum(dim=-1, keepdim=True)
    w = weight[:, i:j, None]
    return ((total.log() + top) * w).sum(), sim.mul_(w / total)
