"""BYOL: predict what a slowly moving copy makes of the other view (Grill et al., NeurIPS 2020, arXiv 2006.07733)."""

from __future__ import annotations

from functools import partial

from mmssl.core.ema import Teacher
from mmssl.core.heads import mlp
from mmssl.core.methods.joint_embedding import JointEmbedding
from mmssl.core.objectives.distillation import CosineRegression
from mmssl.core.types import Augmentation, Encoder


def byol(
    encoder: Encoder, augment: Augmentation, *, hidden: int = 4096, out: int = 256, momentum: float = 0.996
) -> JointEmbedding:
    """Put BYOL together.

    Args:
        encoder: what is pretrained.
        augment: a batch to two views.
        hidden: width of the hidden layer of projector and predictor.
        out: size of the embeddings that are compared.
        momentum: of the teacher at the start, rising to 1; see `scaling.teacher_momentum`.
    """
    return JointEmbedding(
        encoder,
        mlp([encoder.dim, hidden, out]),
        CosineRegression(),
        augment,
        predictor=mlp([out, hidden, out]),
        teacher=partial(Teacher, momentum=momentum),
    )
