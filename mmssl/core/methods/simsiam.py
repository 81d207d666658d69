"""SimSiam: BYOL without a teacher; a predictor and a stopped gradient suffice (Chen and He, CVPR 2021, 2011.10566)."""

from __future__ import annotations

from mmssl.core.heads import mlp
from mmssl.core.methods.joint_embedding import JointEmbedding
from mmssl.core.objectives.distillation import CosineRegression
from mmssl.core.types import Augmentation, Encoder


def simsiam(
    encoder: Encoder, augment: Augmentation, *, hidden: int = 2048, out: int = 2048, bottleneck: int = 512
) -> JointEmbedding:
    """Put SimSiam together; its loss is 1 − cos where the paper has −cos.

    Args:
        encoder: what is pretrained.
        augment: a batch to two views.
        hidden: width of the two hidden layers of the projector.
        out: size of the embeddings that are compared.
        bottleneck: width of the predictor's hidden layer, a quarter of ``out`` in the paper.
    """
    return JointEmbedding(
        encoder,
        mlp([encoder.dim, hidden, hidden, out], last_norm=True),
        CosineRegression(scale=1.0),
        augment,
        predictor=mlp([out, bottleneck, out]),
        stop_gradient=True,
    )
