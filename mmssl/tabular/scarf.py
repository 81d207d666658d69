"""SCARF: contrast a row with itself after many of its cells were drawn anew (Bahri et al., ICLR 2022, 2106.15147).

It is SimCLR with a view of its own, and takes any other joint-embedding method as well: `ScarfViews` is all there is.

Differs from the paper in
- its loss: NT-Xent, in which either view is the anchor, and the rows of the same view are negatives, too; the paper
  contrasts clean rows with corrupted ones, in one direction. Both have cosine similarities and a temperature of 1;
- missing cells, which the paper fills in: they are neither replaced nor drawn, see `mmssl.tabular.augment`.
"""

from __future__ import annotations

from mmssl.core.heads import mlp
from mmssl.core.methods.joint_embedding import JointEmbedding
from mmssl.core.objectives.ntxent import NTXent
from mmssl.core.types import Encoder
from mmssl.tabular.augment import Marginals, ScarfViews


def scarf(
    encoder: Encoder,
    marginals: Marginals,
    *,
    corruption: float = 0.6,
    temperature: float = 1.0,
    hidden: int = 256,
) -> JointEmbedding:
    """Put SCARF together; the paper's values are the defaults.

    Args:
        encoder: what is pretrained; `mmssl.tabular.encoder.MLP` in the paper.
        marginals: of the training rows, which the corrupted cells come from.
        corruption: share of the cells of a row that are drawn anew.
        temperature: of the softmax over cosine similarities; 1 in the paper, 0.05 was better on most tables measured.
        hidden: width of both layers of the projector, the paper's head.
    """
    projector = mlp([encoder.dim, hidden, hidden], norm=False)
    return JointEmbedding(encoder, projector, NTXent(temperature), ScarfViews(marginals, corruption))
