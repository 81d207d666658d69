"""Barlow Twins: each dimension of one view correlates with itself in the other, and with no other dimension.

Zbontar et al., ICML 2021, arXiv 2103.03230.
"""

from __future__ import annotations

from mmssl.core.heads import mlp
from mmssl.core.methods.joint_embedding import JointEmbedding
from mmssl.core.objectives.redundancy import BarlowTwins
from mmssl.core.types import Augmentation, Encoder


def barlow_twins(
    encoder: Encoder, augment: Augmentation, *, width: int = 8192, lambd: float = 0.0051
) -> JointEmbedding:
    """Put Barlow Twins together.

    Args:
        encoder: what is pretrained.
        augment: a batch to two views.
        width: of all three layers of the projector, 2,048 for CIFAR-10 in reproductions; four times the encoder's.
        lambd: weight of the off-diagonal terms.
    """
    projector = mlp([encoder.dim, width, width, width], last_bias=False)
    return JointEmbedding(encoder, projector, BarlowTwins(lambd), augment)
