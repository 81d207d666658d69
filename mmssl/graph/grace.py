"""GRACE: tell a node from all others by two views of the graph (Zhu et al., 2020, arXiv 2006.04131).

NT-Xent over nodes, whose candidates are the other nodes of both views. In each view edges leave and features are 0 for
all nodes, with probabilities of its own.

Differs from the authors' code in that an edge leaves in both of its directions or not at all; theirs draws for each.
"""

from __future__ import annotations

from torch import nn

from mmssl.core.heads import mlp
from mmssl.core.methods.joint_embedding import JointEmbedding
from mmssl.core.objectives.ntxent import NTXent
from mmssl.core.types import Encoder
from mmssl.graph.augment import EdgeDropping, FeatureDropping, GraphViews, Pipeline


def grace(encoder: Encoder, augment: GraphViews, *, hidden: int = 128, temperature: float = 0.4) -> JointEmbedding:
    """Put GRACE together; the defaults are the authors' for Cora.

    Args:
        encoder: what is pretrained, of nodes; `mmssl.graph.encoder.GCN` in the paper.
        augment: a graph to two views with all of its nodes.
        hidden: width of the projector.
        temperature: of the softmax over cosine similarities.
    """
    projector = mlp([encoder.dim, hidden, encoder.dim], norm=False, activation=nn.ELU)
    return JointEmbedding(encoder, projector, NTXent(temperature), augment)


def node_views(edges: tuple[float, float] = (0.2, 0.4), features: tuple[float, float] = (0.3, 0.4)) -> GraphViews:
    """Two views with all nodes.

    Args:
        edges: probabilities that an edge leaves, in either view; those of GRACE for Cora.
        features: that a feature is 0, likewise.
    """
    first, second = (Pipeline((EdgeDropping(e), FeatureDropping(f))) for e, f in zip(edges, features, strict=True))
    return GraphViews(first, second)
