"""The sigmoid loss of SigLIP: is this pair a pair? (Zhai et al., ICCV 2023, arXiv 2303.15343, algorithm 1).

Every a with every b of the batch is a decision of its own, so that nothing has to be normalised over the batch:
Σ_ij −log σ(±(scale · cos_ij + bias)) / N, with + for pairs that belong together.

Differs from the paper: the scale is clamped like that of CLIP, at 100. The bias at the start is the paper's −10 here,
which belongs to batches of 16 to 32 thousand; `mmssl.core.methods.scaling.pair_bias` has the one of other sizes.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmssl.core.distributed import gather
from mmssl.core.objectives.alignment import PairObjective, Positives, check_pairs, own_rows, tiles
from mmssl.core.objectives.inputs import unit


class SigLIP(PairObjective):
    """The sigmoid loss with a learnable temperature and bias.

    Args:
        temperature: at the start; 0.1 in the paper, where the scale t is 10.
        bias: b at the start.
    """

    def __init__(self, temperature: float = 0.1, *, bias: float = -10.0) -> None:
        super().__init__(temperature)
        if not math.isfinite(bias):
            raise ValueError(f"bias must be a finite number, got {bias}")
        self.bias = nn.Parameter(torch.tensor(float(bias)))
        self.positives = torch.ones(())  # to a pair, in the last forward pass

    def forward(self, a: Tensor, b: Tensor, ids: Tensor | None = None) -> Tensor:
        check_pairs(a, b, ids, name="SigLIP")
        with torch.autocast(a.device.type, enabled=False):
            a, b = unit(a), unit(b)
            positives = Positives(a, ids)
            self.positives = positives.counts.mean()
            loss: Tensor = _SigLIP.apply(a, b, self.log_scale.exp(), self.bias, positives)
            return loss

    def collapse_loss(self, batch: int) -> Tensor:
        """N times the entropy of one decision, whose share of positives is all that is known; near 1 + ln N."""
        share = self.positives / batch
        return batch * -(torch.xlogy(share, share) + torch.xlogy(1 - share, 1 - share))

    def health(self) -> dict[str, Tensor]:
        """Scale and bias, detached."""
        return super().health() | {"bias": self.bias.detach().clone()}


class _SigLIP(torch.autograd.Function):
    """Value and gradient of each tile at once: −log σ(x) = softplus(x) − x leaves a plain sum for the positives."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, scale: Tensor, bias: Tensor, positives: Positives) -> Tensor:
        all_a, all_b = gather(a), gather(b)  # (N, D)
        own, n = own_rows(len(a)), len(all_a)
        logits = scale * all_a
        wanted = any(ctx.needs_input_grad)

        value, told = a.new_zeros(()), a.new_zeros(())  # Σ softplus and Σ σ over own rows
        da, db = torch.zeros_like(all_a), torch.zeros_like(all_b)
        for i, j, of_rows, of_columns in tiles(own, n, a.device):
            sim = torch.addmm(bias, logits[i], all_b[j].T)
            if of_rows:
                value += F.softplus(sim).sum()
            if not wanted:
                continue
            p = sim.sigmoid_()
            if of_rows:
                told += p.sum()
                da[i].addmm_(p, all_b[j])
            if of_columns:
                db[j].addmm_(p.T, all_a[i])
        total_a, total_b, count = positives.total(all_a)[own], positives.total(all_b)[own], positives.counts[own].sum()
        agreement = ((a * total_b).sum() + (b * total_a).sum()) / 2
        loss = (value - scale * agreement - bias * count) / len(a)
        da, db = (da[own] - total_b) / len(a), (db[own] - total_a) / len(a)
        ctx.save_for_backward(scale * da, scale * db, (a * da).sum(), (told - count) / len(a))
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:
        da, db, dscale, dbias = ctx.saved_tensors
        return da * grad, db * grad, dscale * grad, dbias * grad, None
