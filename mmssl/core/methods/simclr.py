"""SimCLR: other samples of the batch are the negatives (Chen et al., ICML 2020, arXiv 2002.05709)."""

from __future__ import annotations

from mmssl.core.heads import mlp
from mmssl.core.methods.joint_embedding import JointEmbedding
from mmssl.core.objectives.ntxent import NTXent
from mmssl.core.types import Augmentation, Encoder


def simclr(
    encoder: Encoder,
    augment: Augmentation,
    *,
    hidden: int | None = None,
    out: int = 128,
    temperature: float = 0.5,
) -> JointEmbedding:
    """Put SimCLR together.

    Args:
        encoder: what is pretrained.
        augment: a batch to two views.
        hidden: width of the projector's hidden layer; the encoder's by default, as in the paper.
        out: size of the embeddings that are compared.
        temperature: 0.5 for CIFAR-10 in the paper, 0.1 for ImageNet.
    """
    projector = mlp([encoder.dim, hidden or encoder.dim, out])
    return JointEmbedding(encoder, projector, NTXent(temperature), augment)
