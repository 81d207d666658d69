"""BGRL: predict what a slowly moving copy makes of a node in another view (Thakoor et al., ICLR 2022, 2102.06514).

BYOL over nodes, without a projector. The loss is the mean of both directions; the authors add them.

Differs from the authors' code in that the teacher starts as a copy of the encoder; theirs has other random weights.
Its batch normalisation uses the statistics of its own batch, as theirs does, which is the whole graph.
"""

from __future__ import annotations

from functools import partial

from torch import nn

from mmssl.core.ema import Teacher
from mmssl.core.heads import mlp
from mmssl.core.methods.joint_embedding import JointEmbedding
from mmssl.core.objectives.distillation import CosineRegression
from mmssl.core.types import Encoder
from mmssl.graph.augment import GraphViews


def bgrl(encoder: Encoder, augment: GraphViews, *, hidden: int = 512, momentum: float = 0.99) -> JointEmbedding:
    """Put BGRL together.

    Args:
        encoder: what is pretrained, of nodes; a `mmssl.graph.encoder.GCN` with batch normalisation and PReLU.
        augment: a graph to two views with all of its nodes.
        hidden: width of the predictor.
        momentum: of the teacher at the start, rising to 1.
    """
    return JointEmbedding(
        encoder,
        nn.Identity(),
        CosineRegression(),
        augment,
        predictor=mlp([encoder.dim, hidden, encoder.dim], norm=False, activation=nn.PReLU),
        teacher=partial(Teacher, momentum=momentum),
    )
