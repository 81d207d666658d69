"""The one class behind SimCLR, MoCo, BYOL, SimSiam, Barlow Twins, VICReg, SwAV and DINO, for every modality.

Views of the same samples are embedded by an encoder and a projector; an objective compares them with each other, or
with targets that come from a momentum teacher or from the other view without a gradient. What differs between the
papers is which of these parts there are; the files beside this one put them together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from mmssl.core.distributed import world_size
from mmssl.core.ema import Teacher
from mmssl.core.objectives.objective import Objective
from mmssl.core.objectives.progress import Progress
from mmssl.core.types import Encoder


class Branch(nn.Module):
    """An encoder and its projector: what the teacher is a copy of."""

    def __init__(self, encoder: Encoder, projector: nn.Module) -> None:
        super().__init__()
        assert isinstance(encoder, nn.Module)
        self.encoder = encoder
        self.projector = projector

    def forward(self, x: Any) -> Tensor:
        return self.projector(self.encoder(x))


class JointEmbedding(nn.Module):
    """A method over views, ready for `mmssl.train.fit`.

    Args:
        encoder: what is pretrained.
        projector: ``(B, encoder.dim)`` to the embeddings that are compared.
        objective: the loss.
        augment: a batch to its views, full-size ones first; two at least. Views of one shape that follow each other go
            through the encoder together, so batch normalisation sees them together.
        predictor: on the trained side only (BYOL, SimSiam, MoCo v3).
        teacher: makes the teacher of a branch, for example ``partial(Teacher, momentum=0.99)``; it embeds the
            full-size views, and the objective gets that as targets.
        stop_gradient: the targets are this encoder's own embeddings, without a gradient (SimSiam).
        export_teacher: the teacher's encoder is the one that a user gets (DINO).
        freeze: parameters that get a zero gradient at first.
        freeze_until: share of the training at which that ends.

    Raises:
        ValueError: both a teacher and ``stop_gradient``, or ``export_teacher`` without a teacher.
    """

    def __init__(
        self,
        encoder: Encoder,
        projector: nn.Module,
        objective: Objective,
        augment: Callable[[Any], Sequence[Any]],
        *,
        predictor: nn.Module | None = None,
        teacher: Callable[[nn.Module], Teacher] | None = None,
        stop_gradient: bool = False,
        export_teacher: bool = False,
        freeze: Sequence[nn.Parameter] = (),
        freeze_until: float = 0.0,
    ) -> None:
        super().__init__()
        if teacher is not None and stop_gradient:
            raise ValueError("targets come from a teacher or from stop_gradient, not from both")
        if export_teacher and teacher is None:
            raise ValueError("export_teacher needs a teacher")
        self.student = Branch(encoder, projector)
        self.predictor = predictor if predictor is not None else nn.Identity()
        self.teacher = teacher(self.student) if teacher is not None else None
        self.objective = objective
        self.augment = augment
        self.stop_gradient = stop_gradient
        self.export_teacher = export_teacher
        self.freeze_until = freeze_until
        self.progress = Progress()
        for parameter in freeze:
            parameter.register_hook(self._held_back)

    @property
    def encoder(self) -> nn.Module:
        return self.student.encoder

    def forward(self, batch: Any) -> dict[str, Tensor]:
        with torch.no_grad():
            views = self.augment(batch)
        if len(views) < 2:
            raise ValueError(f"a joint embedding compares views of the same sample, and augment gave {len(views)}")
        z = _embed(self.student, views)  # (B, D) each
        t: list[Tensor] = []
        if self.teacher is not None:
            t = _embed(self.teacher, [view for view in views if _shape(view) == _shape(views[0])])
        elif self.stop_gradient:
            t = [v.detach() for v in z]
        loss = self.objective([self.predictor(v) for v in z], t)
        out = {"loss": loss, **self.objective.health()}
        collapsed = self.objective.collapse_loss(len(z[0]) * world_size())
        if collapsed is not None:
            out["collapse_loss"] = torch.tensor(collapsed)
        return out

    def after_step(self, progress: float, skipped: Tensor) -> None:
        if self.teacher is not None:
            self.teacher.update(self.student, progress, skipped)
        self.objective.after_step(progress, skipped)
        self.progress.share = progress

    def export(self) -> nn.Module:
        """The encoder that the paper evaluates."""
        if self.export_teacher:
            assert self.teacher is not None
            return self.teacher.module.encoder  # type: ignore[return-value]
        return self.student.encoder

    def _held_back(self, grad: Tensor) -> Tensor:
        """Zero and not None: ranks wait for the gradient of every parameter."""
        return grad * float(self.progress.share >= self.freeze_until)


def _embed(model: nn.Module, views: Sequence[Any]) -> list[Tensor]:
    """One pass for neighbouring views of the same shape."""
    z: list[Tensor] = []
    for shape, group in groupby(views, key=_shape):
        same = list(group)
        if shape is None or len(same) == 1:  # views that are no tensors are the encoder's business
            z += [model(view) for view in same]
        else:
            z += model(torch.cat(same)).chunk(len(same))
    return z


def _shape(view: Any) -> torch.Size | None:
    return view.shape if isinstance(view, Tensor) else None
