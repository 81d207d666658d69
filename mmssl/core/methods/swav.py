"""SwAV: predict the cluster of one view from another, with clusters of equal size (Caron et al., NeurIPS 2020).

arXiv 2006.09882.
"""

from __future__ import annotations

from mmssl.core.heads import mlp
from mmssl.core.methods.joint_embedding import JointEmbedding
from mmssl.core.objectives.clustering import SwAV
from mmssl.core.types import Augmentation, Encoder


def swav(
    encoder: Encoder,
    augment: Augmentation,
    *,
    hidden: int = 2048,
    out: int = 128,
    prototypes: int = 3000,
    temperature: float = 0.1,
    epsilon: float = 0.05,
    queue: int = 3840,
    queue_from: float = 0.0375,
    freeze: float = 0.0025,
) -> JointEmbedding:
    """Put SwAV together.

    Args:
        encoder: what is pretrained.
        augment: a batch to its views, two full-size ones first.
        hidden: width of the projector's hidden layer.
        out: size of the embeddings that are compared.
        prototypes: number of clusters; see `scaling.prototypes`.
        temperature: of the predicted cluster probabilities.
        epsilon: of the equal partition; smaller is closer to hard clusters.
        queue: earlier embeddings that take part in the partition, for batches that are small beside ``prototypes``.
        queue_from: share of the training at which it begins to (epoch 15 of 400 in the paper).
        freeze: share of the training in which prototypes stay as they are (one epoch of 400).
    """
    objective = SwAV(
        dim=out,
        prototypes=prototypes,
        temperature=temperature,
        epsilon=epsilon,
        queue_size=queue,
        queue_from=queue_from,
        freeze=freeze,
    )
    return JointEmbedding(encoder, mlp([encoder.dim, hidden, out]), objective, augment)
