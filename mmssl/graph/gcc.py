"""GCC: tell the surroundings of a node from those of others, by structure alone (Qiu et al., KDD 2020, 2006.09963).

Two random walks with restarts from one node give two subgraphs; nodes are known by their positions (eigenvectors),
their degree, and whether they are the seed. It is MoCo with these views.

Differs from the paper and its code in that the loss is symmetric, as all of MoCo is here: each subgraph is once the
query and once the key. The teacher's batch normalisation uses its own batch, as theirs does. Seeds are drawn in
proportion to degree^¾, one from each of N quantiles of that distribution in an epoch, of N nodes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from mmssl.core.ema import Teacher
from mmssl.core.methods.joint_embedding import JointEmbedding
from mmssl.core.objectives.ntxent import InfoNCE
from mmssl.core.types import Encoder
from mmssl.graph.graphs import Graphs
from mmssl.graph.graphset import GraphSet, Ints
from mmssl.graph.spectral import positions
from mmssl.graph.walks import Adjacency, induced, restart_walks

POSITIONS = 32  # eigenvectors of a node


def gcc(
    encoder: Encoder,
    augment: WalkViews,
    *,
    queue: int = 16_384,
    momentum: float = 0.999,
    temperature: float = 0.07,
) -> JointEmbedding:
    """Put GCC together.

    Args:
        encoder: what is pretrained; `mmssl.graph.encoder.StructureGIN` in the paper.
        augment: seeds to two subgraphs of each.
        queue: keys that are kept as negatives; see `mmssl.core.methods.scaling.queue_size`.
        momentum: of the teacher, constant.
        temperature: of the softmax over cosine similarities.
    """
    return JointEmbedding(
        encoder,
        nn.Identity(),
        InfoNCE(dim=encoder.dim, queue_size=queue, temperature=temperature),
        augment,
        teacher=partial(Teacher, momentum=momentum, final_momentum=momentum, statistics="own"),
    )


@dataclass(frozen=True)
class WalkViews:
    """Two subgraphs around each seed, of the nodes that two walks with restarts meet.

    Args:
        adjacency: of the graph; where there are several, they are parts of it that no edge joins.
        steps: of a walk.
        restart: probability of going back to the seed after a step.
    """

    adjacency: Adjacency = field(repr=False)
    steps: int = 256
    restart: float = 0.8

    def __call__(self, seeds: Tensor) -> list[Graphs]:
        """Seeds ``(B,)`` to two batches of B graphs."""
        return [self.view(seeds) for _ in range(2)]

    def view(self, seeds: Tensor) -> Graphs:
        """One subgraph a seed."""
        visited = restart_walks(self.adjacency, seeds, steps=self.steps, restart=self.restart)
        return structure(induced(self.adjacency, seeds, visited)[0])


def structure(graphs: Graphs) -> Graphs:
    """Features of the structure: positions, whether a node is the seed (which ``x`` ``(N, 1)`` says), its degree."""
    known = [positions(graphs, POSITIONS), graphs.x, graphs.degrees[:, None].float()]
    return graphs.with_features(torch.cat(known, dim=1))


class SeedSource:
    """Random nodes as seeds, in proportion to their degree^¾; `torch.manual_seed` repeats them.

    Args:
        degrees: ``(N,)``.
        device: of the batches.

    Raises:
        ValueError: there is no edge.
    """

    def __init__(self, degrees: Tensor, device: torch.device) -> None:
        weight = degrees.double().cpu().numpy() ** 0.75
        self.nodes = np.flatnonzero(weight)
        if not len(self.nodes):
            raise ValueError("the graphs have no edge, and there is nothing to walk along")
        self.ends = np.cumsum(weight[self.nodes]) * (len(weight) / weight.sum())  # of each node's part of [0, N)
        self.count = len(weight)
        self.device = device

    def __len__(self) -> int:
        return self.count

    def fetch(self, index: Ints) -> Tensor:
        """``(B,)`` seeds, each from another quantile: ``index`` says which ones."""
        drawn = index + torch.rand(len(index), dtype=torch.float64).numpy()
        chosen = np.searchsorted(self.ends, drawn, side="right").clip(max=len(self.nodes) - 1)
        return torch.from_numpy(self.nodes[chosen]).to(self.device, non_blocking=True)


@dataclass(frozen=True)
class StructuralFeatures:
    """Whole graphs as GCC sees them: the seed is the node with the largest degree, the first of several.

    Signs of positions are random, but the same for the same graphs.
    """

    @property
    def dim(self) -> int:
        return POSITIONS + 2

    def __call__(self, data: GraphSet) -> Graphs:
        degrees, graph = data.degrees, data.node_graph
        order = np.lexsort((np.arange(len(degrees)), -degrees, graph))
        seed = np.zeros((len(degrees), 1), dtype=np.float32)
        sizes = np.diff(data.offsets)
        seed[order[data.offsets[:-1][sizes > 0]]] = 1
        graphs = Graphs(torch.from_numpy(seed), torch.from_numpy(data.pairs), torch.from_numpy(data.offsets))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return structure(graphs)

    def describe(self) -> str:
        return (
            f"nodes are known by their structure alone: {POSITIONS} eigenvectors, degree, and the seed of their graph"
        )

    def state(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        return cls()
