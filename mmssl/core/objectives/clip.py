"""The loss of CLIP: each image finds its caption in the batch, and each caption its image (Radford et al., ICML 2021).

arXiv 2103.00020, figure 3: the mean of two cross-entropies over the N × N cosines times a learnable scale, which is
clamped after the step (section 2.5). Where there are several positives, they share the target evenly, as in UniCL (Yang
et al., CVPR 2022, arXiv 2204.03610, equations 3 and 4).

The matrix is never held. Its tiles are worked out twice: for the sums of rows and columns, and for the gradient.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmssl.core.distributed import gather
from mmssl.core.objectives.alignment import PairObjective, Positives, check_pairs, own_rows, tiles
from mmssl.core.objectives.inputs import unit


class CLIP(PairObjective):
    """Symmetric InfoNCE with a learnable temperature.

    Args:
        temperature: at the start; 0.07 in the paper.
    """

    def __init__(self, temperature: float = 0.07) -> None:
        super().__init__(temperature)

    def forward(self, a: Tensor, b: Tensor, ids: Tensor | None = None) -> Tensor:
        check_pairs(a, b, ids, name="CLIP")
        with torch.autocast(a.device.type, enabled=False):
            a, b = unit(a), unit(b)
            loss: Tensor = _CLIP.apply(a, b, self.log_scale.exp(), Positives(a, ids))
            return loss

    def collapse_loss(self, batch: int) -> Tensor:
        """ln N, however many are positive."""
        return torch.tensor(math.log(batch))


class _CLIP(torch.autograd.Function):
    """Value and gradient in one go, as in `mmssl.core.objectives.ntxent`: the backward pass only has to scale."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, scale: Tensor, positives: Positives) -> Tensor:
        all_a, all_b = gather(a), gather(b)  # (N, D)
        own, n = own_rows(len(a)), len(all_a)
        logits = scale * all_a  # dot products with b are logits now

        rows, columns = a.new_full((n,), -math.inf), a.new_full((n,), -math.inf)  # log Σ exp
        for i, j, of_rows, of_columns in tiles(own, n, a.device):
            sim = logits[i] @ all_b[j].T
            if of_rows:
                rows[i] = torch.logaddexp(rows[i], sim.logsumexp(dim=1))
            if of_columns:
                columns[j] = torch.logaddexp(columns[j], sim.logsumexp(dim=0))
        rows, columns = gather(rows[own]), gather(columns[own])
        share = 1 / positives.counts  # of the target
        mean_a, mean_b = share * positives.total(all_a), share * positives.total(all_b)  # of an anchor's positives
        agreement = ((a * mean_b[own]).sum() + (b * mean_a[own]).sum()) / (2 * len(a))
        loss = (rows[own] + columns[own]).mean() / 2 - scale * agreement
        if not any(ctx.needs_input_grad):
            return loss

        da, db = torch.zeros_like(all_a), torch.zeros_like(all_b)
        for i, j, of_rows, of_columns in tiles(own, n, a.device):
            sim = logits[i] @ all_b[j].T
            p = (sim - rows[i, None]).exp_()  # of b_j for a_i
            p += sim.sub_(columns[j]).exp_()  # and of a_i for b_j
            if of_rows:
                da[i].addmm_(p, all_b[j])
            if of_columns:
                db[j].addmm_(p.T, all_a[i])
        da -= mean_b + positives.total(share * all_b)  # as anchors, and as positives of others
        db -= mean_a + positives.total(share * all_a)
        da, db = da[own], db[own]
        half = 1 / (2 * len(a))
        ctx.save_for_backward(scale * half * da, scale * half * db, half * (a * da).sum())
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        da, db, dscale = ctx.saved_tensors
        return da * grad, db * grad, dscale * grad, None
