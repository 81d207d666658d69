"""Self-distillation: BYOL's and SimSiam's regression of another view, and DINO's classification of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mmssl.core.distributed import gather
from mmssl.core.objectives.clustering import sinkhorn
from mmssl.core.objectives.inputs import (
    at_least_float32,
    check_positive,
    check_share,
    check_views,
    unit,
)
from mmssl.core.objectives.objective import Objective
from mmssl.core.objectives.pairs import cross_view_entropy, targets_of_others
from mmssl.core.objectives.progress import Progress


class CosineRegression(Objective):
    """Squared distance of unit vectors, 2 − 2 cos, to the target of another view.

    BYOL (Grill et al., NeurIPS 2020, arXiv 2006.07733, equation 2) and SimSiam (Chen and He, CVPR 2021,
    arXiv 2011.10566, equation 1). The loss is the *mean* over pairs of an output and the target of another view, so
    that two views give half of the sum of both directions that BYOL's authors take.

    Args:
        scale: the loss is scale · (1 − cos): 2 for BYOL; 1 for SimSiam, whose −cos lies 1 below.
    """

    def __init__(self, scale: float = 2.0) -> None:
        super().__init__()
        check_positive("scale", scale)
        self.scale = scale

    def forward(self, z: list[Tensor], t: list[Tensor]) -> Tensor:
        others = targets_of_others(len(z), len(t))
        check_views(z + t, name="cosine regression")
        with torch.autocast(z[0].device.type, enabled=False):
            outputs, targets = [unit(x) for x in z], [unit(x.detach()) for x in t]
            cosine = [(x * targets[j]).sum(dim=1).mean() for i, x in enumerate(outputs) for j in others[i]]
            return self.scale * (1 - torch.stack(cosine).mean())


class DINO(Objective):
    """Cross-entropy with the teacher's softmax of another view (Caron et al., ICCV 2021, arXiv 2104.14294).

    The teacher's outputs are kept from collapsing by sharpening and centring: less a running mean of them, over all
    ranks, as it was before this step; or balanced by `sinkhorn` (DINOv2, Oquab et al., arXiv 2304.07193).

    Args:
        out_dim: K, outputs of the head.
        student_temperature: of the student's softmax.
        teacher_temperature: of the teacher's, after the warm-up.
        warmup_teacher_temperature: of the teacher's at the start; it rises in a line.
        warmup: share of the training that the rise takes; 30 of 100 epochs in the paper.
        centre_momentum: share of the centre that a step leaves.
        centring: ``"centre"`` or ``"sinkhorn"``.
    """

    centre: Tensor

    def __init__(
        self,
        out_dim: int,
        *,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.07,
        warmup_teacher_temperature: float = 0.04,
        warmup: float = 0.3,
        centre_momentum: float = 0.9,
        centring: str = "centre",
    ) -> None:
        super().__init__()
        if out_dim < 2:
            raise ValueError(f"out_dim must be at least 2, got {out_dim}")
        check_positive("student_temperature", student_temperature)
        check_positive("teacher_temperature", teacher_temperature)
        check_positive("warmup_teacher_temperature", warmup_teacher_temperature)
        check_share("warmup", warmup)
        check_share("centre_momentum", centre_momentum)
        if centring not in ("centre", "sinkhorn"):
            raise ValueError(f"centring must be 'centre' or 'sinkhorn', got {centring!r}")
        self.student_temperature = student_temperature
        self.teacher_temperature = teacher_temperature
        self.warmup_teacher_temperature = warmup_teacher_temperature
        self.warmup = warmup
        self.centre_momentum = centre_momentum
        self.centring = centring
        self.register_buffer("centre", torch.zeros(out_dim))
        self.progress = Progress()
        self._means: list[Tensor] = []  # of the teacher's outputs in the forward passes of this step
        self._entropy: Tensor | None = None

    def forward(self, z: list[Tensor], t: list[Tensor]) -> Tensor:
        check_views(z + t, name="DINO", least=2, dim=len(self.centre))
        with torch.autocast(z[0].device.type, enabled=False):
            outputs = at_least_float32(torch.stack(t).detach())  # (views, B, K)
            targets = self._targets(outputs)
            self._entropy = torch.special.entr(targets).sum(dim=-1).mean()
            loss = cross_view_entropy([at_least_float32(x) / self.student_temperature for x in z], list(targets))
        if self.training and self.centring == "centre":
            self._means.append(outputs.mean(dim=(0, 1)))
        return loss

    @torch.no_grad()
    def after_step(self, progress: float, skipped: Tensor) -> None:
        self.progress.share = progress
        if self._means:
            mean = gather(torch.stack(self._means)).mean(dim=0)
            moved = self.centre_momentum * self.centre + (1 - self.centre_momentum) * mean
            self.centre.copy_(torch.where(skipped, self.centre, moved))
        self._means.clear()

    def collapse_loss(self, batch: int) -> float:
        return math.log(len(self.centre))

    def health(self) -> dict[str, Tensor]:
        """``"teacher_entropy"``: mean over samples, ln K if all outputs are alike, 0 if one of them takes all;
        ``"centre_norm"``: length of the centre, which grows without bound when the outputs run away."""
        found = {} if self._entropy is None else {"teacher_entropy": self._entropy}
        return found if self.centring == "sinkhorn" else {**found, "centre_norm": self.centre.norm()}

    def _temperature(self) -> float:
        """Of the teacher, now."""
        done = min(1.0, self.progress.share / self.warmup) if self.warmup else 1.0
        return self.warmup_teacher_temperature + done * (self.teacher_temperature - self.warmup_teacher_temperature)

    def _targets(self, outputs: Tensor) -> Tensor:
        """Outputs ``(views, B, K)`` of the teacher to probabilities."""
        if self.centring == "sinkhorn":
            return sinkhorn(outputs.flatten(0, 1), epsilon=self._temperature()).view_as(outputs)
        return ((outputs - self.centre) / self._temperature()).softmax(dim=-1)
