"""VICReg: invariance, with a variance and a covariance term against a collapse (Bardes et al., ICLR 2022).

arXiv 2105.04906.
"""

from __future__ import annotations

from mmssl.core.heads import mlp
from mmssl.core.methods.joint_embedding import JointEmbedding
from mmssl.core.objectives.redundancy import VICReg
from mmssl.core.types import Augmentation, Encoder


def vicreg(
    encoder: Encoder,
    augment: Augmentation,
    *,
    width: int = 8192,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
) -> JointEmbedding:
    """Put VICReg together.

    Args:
        encoder: what is pretrained.
        augment: a batch to two views.
        width: of all three layers of the expander; four times the encoder's in the paper.
        invariance, variance, covariance: weights of the three terms.
    """
    projector = mlp([encoder.dim, width, width, width], last_bias=False)
    objective = VICReg(invariance=invariance, variance=variance, covariance=covariance)
    return JointEmbedding(encoder, projector, objective, augment)
