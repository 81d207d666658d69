"""DINO: a student predicts the prototype probabilities of its momentum teacher (Caron et al., ICCV 2021).

arXiv 2104.14294.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from mmssl.core.ema import Teacher
from mmssl.core.heads import PrototypeHead
from mmssl.core.methods.joint_embedding import JointEmbedding
from mmssl.core.objectives.distillation import DINO
from mmssl.core.types import Augmentation, Encoder


def dino(
    encoder: Encoder,
    augment: Augmentation,
    *,
    hidden: int = 2048,
    bottleneck: int = 256,
    prototypes: int = 65_536,
    norm: bool = False,
    momentum: float = 0.996,
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.07,
    warmup_teacher_temperature: float = 0.04,
    warmup: float = 0.3,
    centre_momentum: float = 0.9,
    centring: Literal["centre", "sinkhorn"] = "centre",
    freeze: float = 0.01,
) -> JointEmbedding:
    """Put DINO together; a user gets the teacher's encoder.

    Args:
        encoder: what is pretrained.
        augment: a batch to its views, two full-size ones first.
        hidden: width of the head's hidden layers.
        bottleneck: size of the normalised vector before the prototypes.
        prototypes: K; see `scaling.prototypes`.
        norm: batch normalisation in the head, for encoders that have it themselves.
        momentum: of the teacher at the start, rising to 1; see `scaling.teacher_momentum`.
        student_temperature: of the student's probabilities.
        teacher_temperature: of the teacher's, after the warm-up.
        warmup_teacher_temperature: of the teacher's at the start.
        warmup: share of the training in which it rises (30 of 100 epochs in the paper).
        centre_momentum: of the centre.
        centring: ``"centre"`` (the paper) or ``"sinkhorn"`` (DINOv2).
        freeze: share of the training in which the prototypes stay as they are (one epoch of 100).
    """
    head = PrototypeHead(encoder.dim, prototypes, hidden=hidden, bottleneck=bottleneck, norm=norm)
    objective = DINO(
        prototypes,
        student_temperature=student_temperature,
        teacher_temperature=teacher_temperature,
        warmup_teacher_temperature=warmup_teacher_temperature,
        warmup=warmup,
        centre_momentum=centre_momentum,
        centring=centring,
    )
    return JointEmbedding(
        encoder,
        head,
        objective,
        augment,
        teacher=partial(Teacher, momentum=momentum),
        export_teacher=True,
        freeze=[head.prototypes],
        freeze_until=freeze,
    )
