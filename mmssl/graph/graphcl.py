"""GraphCL: tell a graph from others by two views of it (You et al., NeurIPS 2020, arXiv 2010.13902).

It is SimCLR with `mmssl.graph.augment.GraphViews`; any other joint-embedding method of the core takes the same views.

The authors' code (unsupervised_TU) differs from the paper, and ``reference="authors"`` follows it, in that
- the original graph is compared with one view, in one direction; the paper compares two views, in both;
- the positive pair is missing from the denominator of the loss, and so are other graphs of the same view;
- an edge perturbation drops edges and adds none;
- a subgraph never grows past the neighbours of its first node, and keeps a fifth of the nodes, not four fifths;
- a tenth of nodes and edges changes, not a fifth; masked features become noise.
Not followed: their graphs have loops, and an edge may leave in one of its directions.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mmssl.core.distributed import gather, rank
from mmssl.core.heads import mlp
from mmssl.core.methods.joint_embedding import JointEmbedding
from mmssl.core.objectives.inputs import check_batch, check_temperature, check_views, unit
from mmssl.core.objectives.ntxent import NTXent
from mmssl.core.objectives.objective import Objective
from mmssl.core.types import Encoder
from mmssl.graph.augment import (
    AttributeMasking,
    EdgePerturbation,
    GraphViews,
    NodeDropping,
    OneOf,
    Star,
    Subgraph,
)

Reference = Literal["paper", "authors"]


def graphcl(
    encoder: Encoder,
    augment: GraphViews,
    *,
    temperature: float = 0.2,
    reference: Reference = "paper",
) -> JointEmbedding:
    """Put GraphCL together; the projector has the encoder's width, as in the paper: 96 for a GIN of 3 × 32.

    Args:
        encoder: what is pretrained, of whole graphs.
        augment: a batch to two views.
        temperature: of the softmax over cosine similarities.
        reference: ``"paper"``, or ``"authors"`` for the loss of their code, see above.
    """
    if reference not in ("paper", "authors"):
        raise ValueError(f"reference must be 'paper' or 'authors', got {reference!r}")
    projector = mlp([encoder.dim, encoder.dim, encoder.dim], norm=False)
    objective = NTXent(temperature) if reference == "paper" else OneWay(temperature)
    return JointEmbedding(encoder, projector, objective, augment)


def paper_views(strength: float = 0.2, *, original: bool = False) -> GraphViews:
    """Either view by one of the four augmentations, drawn for every graph.

    Args:
        strength: of each; 0.2 in the paper.
        original: the first view is the graph itself, the paper's "identical".
    """
    masking, perturbation = AttributeMasking(strength), EdgePerturbation(strength)
    step = OneOf((NodeDropping(strength), perturbation, masking, Subgraph(strength)))
    return GraphViews(None if original else step, step)


def authors_views(strength: float = 0.1) -> GraphViews:
    """The graph itself, and a view as in the authors' code.

    Args:
        strength: share of the nodes or edges that changes; 0.1 in their code, where a subgraph keeps twice that.
    """
    masking, dropping = AttributeMasking(strength, noise=True), EdgePerturbation(strength, add=False)
    return GraphViews(None, OneOf((NodeDropping(strength), dropping, masking, Star(2 * strength))))


class OneWay(Objective):
    """The loss of GraphCL's code: −log of exp(s_ii) / Σ_{j ≠ i} exp(s_ij), s the cosines of first and second views.

    Args:
        temperature: that cosines are divided by.
    """

    def __init__(self, temperature: float = 0.2) -> None:
        super().__init__()
        check_temperature(temperature)
        self.temperature = temperature

    def forward(self, z: list[Tensor], t: list[Tensor]) -> Tensor:
        check_views(z, name="GraphCL's loss", least=2, most=2)
        check_batch(len(z[0]), name="GraphCL's loss", why="which leaves nothing to contrast it with")
        with torch.autocast(z[0].device.type, enabled=False):
            sim = unit(z[0]) @ gather(unit(z[1])).T / self.temperature
            first = rank() * len(sim)
            positive = sim.diagonal(first)
            own = torch.zeros_like(sim, dtype=torch.bool)
            own.diagonal(first).fill_(True)
            return (sim.masked_fill(own, -torch.inf).logsumexp(dim=1) - positive).mean()
