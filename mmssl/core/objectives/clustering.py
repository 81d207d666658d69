"""Clustering: balanced assignments to prototypes by Sinkhorn's algorithm, and SwAV, which predicts them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmssl.core.distributed import gather, rank, world_size
from mmssl.core.objectives.inputs import (
    at_least_float32,
    check_not_negative,
    check_positive,
    check_share,
    check_views,
    unit,
)
from mmssl.core.objectives.objective import Objective
from mmssl.core.objectives.pairs import cross_view_entropy
from mmssl.core.objectives.progress import Progress
from mmssl.core.queue import FeatureQueue


@torch.no_grad()
def sinkhorn(scores: Tensor, *, epsilon: float = 0.05, iterations: int = 3, counted: Tensor | None = None) -> Tensor:
    """Soft assignments of samples to prototypes that use all prototypes alike (Cuturi, NeurIPS 2013).

    Alternately, each prototype gets the same share of all samples, and each sample is handed out in full; the latter
    comes last, so that rows sum to 1. It works with logarithms: scores of any size are fine.

    Args:
        scores: ``(B, K)``, those of this rank's samples; prototypes share out the samples of all ranks.
        epsilon: temperature; the smaller, the closer to one prototype a sample.
        iterations: of both halves; few, for assignments that are balanced roughly.
        counted: ``(B,)`` bool, False for samples that take no share of the prototypes; they are assigned as if they
            did. One at least must be True over all ranks.

    Returns:
        ``(B, K)``, without a gradient.
    """
    with torch.autocast(scores.device.type, enabled=False):
        log_q = at_least_float32(scores) / epsilon
        for _ in range(iterations):
            sharing = log_q if counted is None else log_q.masked_fill(~counted[:, None], -math.inf)
            log_q = log_q - gather(sharing.logsumexp(dim=0, keepdim=True)).logsumexp(dim=0)
            log_q = log_q - log_q.logsumexp(dim=1, keepdim=True)
        return log_q.exp()


class SwAV(Objective):
    """Swapped prediction of assignments (Caron et al., NeurIPS 2020, arXiv 2006.09882), with multi-crop and a queue.

    The two full-size views, which come first, are assigned to prototypes by `sinkhorn`; every other view predicts the
    assignment. Prototypes are brought back to length 1 after each step. Differs from the authors' code: the queue is
    one for all ranks, filled from the first step on, and counts as far as it is filled.

    Args:
        dim: of the embeddings.
        prototypes: 3,000 for ImageNet, 512 for small data.
        temperature: of the predictions.
        epsilon: of `sinkhorn`.
        iterations: of `sinkhorn`.
        queue_size: earlier samples that take part in the assignment, of all ranks, for batches smaller than the number
            of prototypes (3,840 in the paper); 0 for none.
        queue_from: share of the training after which the queue is used.
        freeze: share of the training during which the prototypes stay what they were.
    """

    def __init__(
        self,
        dim: int,
        prototypes: int = 3_000,
        *,
        temperature: float = 0.1,
        epsilon: float = 0.05,
        iterations: int = 3,
        queue_size: int = 0,
        queue_from: float = 0.0,
        freeze: float = 0.0,
    ) -> None:
        super().__init__()
        check_positive("dim", dim)
        check_positive("temperature", temperature)
        check_positive("epsilon", epsilon)
        check_positive("iterations", iterations)
        if prototypes < 2:
            raise ValueError(f"prototypes must be at least 2, got {prototypes}")
        check_not_negative("queue_size", queue_size)
        check_share("queue_from", queue_from)
        check_share("freeze", freeze)
        self.temperature = temperature
        self.epsilon = epsilon
        self.iterations = iterations
        self.queue_from = queue_from
        self.freeze = freeze
        self.prototypes = nn.Parameter(F.normalize(torch.randn(prototypes, dim), dim=1))
        self.queue = FeatureQueue(queue_size, 2 * dim) if queue_size else None  # both views of a sample in a row
        self.progress = Progress()
        self._seen: list[Tensor] = []  # full-size views (B, 2 D) of the forward passes of this step

    def forward(self, z: list[Tensor], t: list[Tensor]) -> Tensor:
        check_views(z, name="SwAV", least=2, dim=self.prototypes.shape[1])
        with torch.autocast(z[0].device.type, enabled=False):
            views = [unit(x) for x in z]
            prototypes = self._frozen() if self.progress.share < self.freeze else self.prototypes
            scores = [x @ prototypes.T for x in views]  # each (B, K)
            targets = [self._assign(scores[i].detach(), i) for i in range(2)]
            loss = cross_view_entropy([s / self.temperature for s in scores], targets)
        if self.training and self.queue is not None:
            self._seen.append(torch.cat(views[:2], dim=1).detach())
        return loss

    @torch.no_grad()
    def after_step(self, progress: float, skipped: Tensor) -> None:
        self.progress.share = progress
        self.prototypes.copy_(torch.where(skipped, self.prototypes, F.normalize(self.prototypes, dim=1)))
        if self.queue is not None:
            for views in self._seen:
                self.queue.enqueue(views, skipped)
        self._seen.clear()

    def collapse_loss(self, batch: int) -> float:
        return math.log(len(self.prototypes))

    def _frozen(self) -> Tensor:
        """The prototypes with a gradient of zero: DDP waits for the gradient of every parameter."""
        return self.prototypes.detach() + 0.0 * self.prototypes

    def _assign(self, scores: Tensor, view: int) -> Tensor:
        """Targets ``(B, K)`` of a full-size view; the queue comes along, each rank with its part of it."""
        if self.queue is None or self.progress.share < self.queue_from:
            return sinkhorn(scores, epsilon=self.epsilon, iterations=self.iterations)
        part = slice(rank(), None, world_size())
        earlier = self.queue.features[part].chunk(2, dim=1)[view] @ self.prototypes.detach().T
        counted = torch.cat([torch.ones_like(scores[:, 0], dtype=torch.bool), self.queue.filled()[part]])
        both = sinkhorn(torch.cat([scores, earlier]), epsilon=self.epsilon, iterations=self.iterations, counted=counted)
        return both[: len(scores)]
