"""Contrast with other samples: NT-Xent of SimCLR, and InfoNCE of MoCo with and without a queue.

Neither holds all similarities at once. They are worked out tile by tile, and NT-Xent works them out twice: for the sums
over all candidates, and for the gradient. Its matrix of similarities is symmetric, so that half of the tiles do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmssl.core.distributed import gather, rank
from mmssl.core.objectives.contrastive import LEFT_OUT, TILE
from mmssl.core.objectives.inputs import check_batch, check_not_negative, check_temperature, check_views, unit
from mmssl.core.objectives.objective import Objective
from mmssl.core.objectives.pairs import targets_of_others
from mmssl.core.queue import FeatureQueue


class NTXent(Objective):
    """NT-Xent of SimCLR (Chen et al., ICML 2020, arXiv 2002.05709, equation 1) over two or more views.

    Each view of a sample is told from all views of all other samples, and of its own sample: V·N − 1 candidates. With
    more than two views, the positives of an anchor are averaged outside of the logarithm (Khosla et al., Supervised
    Contrastive Learning, NeurIPS 2020, equation 2).

    Args:
        temperature: of the softmax over cosine similarities; 0.5 for CIFAR-10, 0.1 for ImageNet in the paper.
    """

    def __init__(self, temperature: float = 0.5) -> None:
        super().__init__()
        check_temperature(temperature)
        self.temperature = temperature
        self.views = 2  # of the last forward pass

    def forward(self, z: list[Tensor], t: list[Tensor]) -> Tensor:
        self.views = len(z)
        return _nt_xent(z, self.temperature)

    def collapse_loss(self, batch: int) -> float:
        return math.log(self.views * batch - 1)


def nt_xent(z1: Tensor, z2: Tensor, *, temperature: float) -> Tensor:
    """See `NTXent`; memory grows with N, not with N².

    Args:
        z1: ``(B, D)``, one view of this rank's samples; need not be normalised.
        z2: ``(B, D)``, the other view.
        temperature: of the softmax over cosine similarities.

    Returns:
        The mean over this rank's anchors, held against the samples of all ranks; 0-dim.

    Raises:
        ValueError: there is one sample only, and nothing to tell it from.
    """
    check_temperature(temperature)
    return _nt_xent([z1, z2], temperature)


def _nt_xent(z: list[Tensor], temperature: float) -> Tensor:
    check_views(z, name="NT-Xent", least=2)
    check_batch(len(z[0]), name="NT-Xent", why="which leaves nothing to contrast it with")
    with torch.autocast(z[0].device.type, enabled=False):
        views = unit(torch.stack(z, dim=1)) / math.sqrt(temperature)  # (B, V, D); dot products are logits now
        loss: Tensor = _NTXent.apply(views)
        return loss


class _NTXent(torch.autograd.Function):
    """Value and gradient in one go: the backward pass only has to scale.

    A rank works out the similarities of its own anchors. The gradient of an anchor needs no more than these and the
    sums of all others, so that ranks exchange vectors and sums, but no gradients. It is the gradient of the whole
    batch's loss, on the understanding that all ranks weigh their losses alike.
    """

    @staticmethod
    def forward(ctx: Any, views: Tensor) -> Tensor:
        samples, n_views, dim = views.shape
        z = gather(views.reshape(-1, dim))  # (M, D), views of a sample side by side
        own = slice(rank() * samples * n_views, (rank() + 1) * samples * n_views)
        positive = ((views.sum(dim=1, keepdim=True) - views) / (n_views - 1)).view(-1, dim)  # mean of an anchor's

        lse = z.new_full((len(z),), -math.inf)
        for i, j, mirrored in _tiles(own, len(z), z.device):
            sim = _similarities(z, i, j)
            lse[i] = torch.logaddexp(lse[i], sim.logsumexp(dim=1))
            if mirrored:
                lse[j] = torch.logaddexp(lse[j], sim.logsumexp(dim=0))
        lse = gather(lse[own])
        loss = (lse[own] - (z[own] * positive).sum(dim=1)).mean()
        if not ctx.needs_input_grad[0]:
            return loss

        dz = torch.zeros_like(z)
        for i, j, mirrored in _tiles(own, len(z), z.device):
            sim = _similarities(z, i, j)
            p = (sim - lse[i, None]).exp_()  # of candidate j for anchor i
            p += sim.sub_(lse[j]).exp_()  # and of candidate i for anchor j
            dz[i].addmm_(p, z[j])
            if mirrored:
                dz[j].addmm_(p.T, z[i])
        ctx.save_for_backward((dz[own] - 2 * positive).div_(len(positive)).view_as(views))
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (dz,) = ctx.saved_tensors
        return dz * grad


SIDE = 512  # of a tile, on a CPU: 1 MiB of similarities stay in its cache
SIDE_ON_GPU = 4096  # 64 MiB, so that few kernels have much to do


def _tiles(rows: slice, n: int, device: torch.device) -> Iterator[tuple[slice, slice, bool]]:
    """Cut rows × n similarities into tiles of rows i and columns j.

    Where the rows are all there are, the tiles below the diagonal are left out; the third value is True for tiles that
    stand for their mirror image, too.
    """
    side = SIDE if device.type == "cpu" else SIDE_ON_GPU
    symmetric = rows.stop - rows.start == n
    for i in range(rows.start, rows.stop, side):
        for j in range(i if symmetric else 0, n, side):
            yield slice(i, min(i + side, rows.stop)), slice(j, min(j + side, n)), symmetric and i != j


def _similarities(z: Tensor, i: slice, j: slice) -> Tensor:
    """Dot products of the rows i and j, those of a row with itself left out."""
    sim = z[i] @ z[j].T
    sim.diagonal(i.start - j.start).fill_(LEFT_OUT)
    return sim


class InfoNCE(Objective):
    """InfoNCE of MoCo: tell the target of another view from those of earlier batches, or of this one.

    With a queue (He et al., CVPR 2020, arXiv 1911.05722): cross-entropy over the target and ``queue_size`` earlier
    targets, which join the queue once a step, from all ranks. Without (MoCo v3, Chen et al., ICCV 2021,
    arXiv 2104.02057): over the targets of all samples of this step, times 2 · temperature. Either is the *mean* over
    pairs of an output and the target of another view, both directions if there are two outputs; the authors of v3 add
    the two.

    Args:
        temperature: of the softmax over cosine similarities; 0.2 in MoCo v2, 0.07 in v1.
        queue_size: targets that are remembered: 65,536 in MoCo, 4,096 for CIFAR-10; 0 for MoCo v3.
        dim: of the embeddings.
    """

    def __init__(self, temperature: float = 0.2, *, queue_size: int, dim: int) -> None:
        super().__init__()
        check_temperature(temperature)
        check_not_negative("queue_size", queue_size)
        self.temperature = temperature
        self.dim = dim
        self.queue = FeatureQueue(queue_size, dim) if queue_size else None
        self._seen: list[Tensor] = []  # targets of the forward passes of this step

    def forward(self, z: list[Tensor], t: list[Tensor]) -> Tensor:
        others = targets_of_others(len(z), len(t))
        check_views(z + t, name="InfoNCE", dim=self.dim)
        if self.queue is None:
            check_batch(len(z[0]), name="InfoNCE without a queue", why="which leaves nothing to contrast it with")
        with torch.autocast(z[0].device.type, enabled=False):
            queries, keys = [unit(x) for x in z], [unit(x.detach()) for x in t]
            pairs = [(query, keys[j]) for i, query in enumerate(queries) for j in others[i]]
            loss = torch.stack([self._contrast(query, key) for query, key in pairs]).mean()
        if self.training and self.queue is not None:
            self._seen += keys
        return loss

    def after_step(self, progress: float, skipped: Tensor) -> None:
        if self.queue is not None:
            for keys in self._seen:
                self.queue.enqueue(keys, skipped)
        self._seen.clear()

    def collapse_loss(self, batch: int) -> float:
        if self.queue is None:
            return 2 * self.temperature * math.log(batch)
        return math.log(1 + len(self.queue.features))

    def _contrast(self, query: Tensor, key: Tensor) -> Tensor:
        """Mean over a batch of queries ``(B, D)`` and their keys."""
        positive = (query * key).sum(dim=1) / self.temperature
        if self.queue is None:
            candidates: Tensor = _LogSumExp.apply(query, gather(key), self.temperature)
            return 2 * self.temperature * (candidates - positive).mean()
        negatives: Tensor = _LogSumExp.apply(query, self.queue.features.to(query), self.temperature)
        return (torch.logaddexp(positive, negatives) - positive).mean()


class _LogSumExp(torch.autograd.Function):
    """log Σ_j exp(query_i · key_j / temperature) for each i, with a gradient for the queries ``(B, D)`` only.

    A tile has all keys for some queries, so that its gradient is known at once.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, keys: Tensor, temperature: float) -> Tensor:
        tile = TILE if query.device.type == "cpu" else SIDE_ON_GPU**2
        rows = max(64, tile // len(keys))  # fewer would make slow matrix products
        value, slope = query.new_empty(len(query)), torch.empty_like(query)
        for i in range(0, len(query), rows):
            part = slice(i, i + rows)
            sim = (query[part] / temperature) @ keys.T
            top = sim.amax(dim=1, keepdim=True)
            total = sim.sub_(top).exp_().sum(dim=1, keepdim=True)
            value[part] = (total.log() + top).squeeze(1)
            slope[part] = (sim @ keys).div_(total * temperature)
        ctx.save_for_backward(slope)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return slope * grad[:, None], None, None
