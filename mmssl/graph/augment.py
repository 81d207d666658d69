"""Views of graphs: a whole batch at once, every graph with random numbers of its own, on the device of the batch.

What GraphCL (You et al., NeurIPS 2020, arXiv 2010.13902) does to a graph is `NodeDropping`, `EdgePerturbation`,
`AttributeMasking` and `Subgraph`; of GRACE (Zhu et al., 2020, arXiv 2006.04131) are `EdgeDropping` and
`FeatureDropping`, which keep every node where it is. Costs grow with N + E (N log N for a random order), never with the
graphs of a batch.

Nodes and edges really leave, so the size of a view is random, and a GPU is waited for a few times a view to know it.

Differs from GraphCL's code: there, an edge perturbation drops and never adds (``EdgePerturbation.add``); a subgraph is
taken among the neighbours of its first node alone, and keeps a fifth of the nodes (`Star`); masked features become
noise (``AttributeMasking.noise``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from mmssl.graph.graphs import Graphs, joined

SWEEPS = 8  # of growing a subgraph between two looks at whether it has ended


class Step(Protocol):
    """An augmentation of a batch of graphs; `torch.manual_seed` repeats it. It leaves its input alone."""

    def __call__(self, graphs: Graphs) -> Graphs: ...


@dataclass(frozen=True)
class NodeDropping:
    """⌊strength · n⌋ of a graph's n nodes leave with their edges, each with the same chance; one node stays at least.

    Args:
        strength: share of the nodes; 0.2 in GraphCL.
    """

    strength: float = 0.2

    def __post_init__(self) -> None:
        _check_strength(self.strength)

    def __call__(self, graphs: Graphs) -> Graphs:
        if self.strength == 0:
            return graphs
        dropped = _counts(graphs.sizes, self.strength).minimum(graphs.sizes - 1)
        return graphs.keep_nodes(_random_ranks(graphs.batch, graphs.sizes) >= dropped[graphs.batch])


@dataclass(frozen=True)
class EdgePerturbation:
    """⌊strength · m⌋ of a graph's m edges leave, and as many pairs of nodes that had none are joined.

    Every edge has the same chance to leave, and every pair to be joined. Pairs are drawn with replacement and one that
    is drawn twice counts once, so that a dense or very small graph may gain fewer edges than it loses; a complete graph
    gains none.

    Args:
        strength: share of the edges; 0.2 in GraphCL.
        add: join pairs; False: edges only leave, as in GraphCL's code.
    """

    strength: float = 0.2
    add: bool = True

    def __post_init__(self) -> None:
        _check_strength(self.strength)

    def __call__(self, graphs: Graphs) -> Graphs:
        if self.strength == 0:
            return graphs
        counts = _counts(graphs.edge_counts, self.strength)
        kept = graphs.edges[:, _random_ranks(graphs.edge_batch, graphs.edge_counts) >= counts[graphs.edge_batch]]
        return replace(graphs, edges=torch.cat([kept, _new_edges(graphs, counts)], dim=1) if self.add else kept)


@dataclass(frozen=True)
class AttributeMasking:
    """⌊strength · n⌋ of a graph's n nodes lose all their features.

    Args:
        strength: share of the nodes; 0.2 in GraphCL.
        noise: they become normal noise of mean and deviation 0.5, as in GraphCL's code, instead of 0.
    """

    strength: float = 0.2
    noise: bool = False

    def __post_init__(self) -> None:
        _check_strength(self.strength)

    def __call__(self, graphs: Graphs) -> Graphs:
        if self.strength == 0:
            return graphs
        masked = random_share(graphs, self.strength)
        value = 0.5 + 0.5 * torch.randn_like(graphs.x) if self.noise else torch.zeros_like(graphs.x)
        return graphs.with_features(torch.where(masked[:, None], value, graphs.x))


@dataclass(frozen=True)
class Subgraph:
    """n − ⌊strength · n⌋ of a graph's n nodes stay: those that a walk from a random node meets first.

    The walk goes on from all nodes that it has met: each time, along a random edge that leads out of them; where none
    does, from another random node. It is worked out for all nodes of a batch at once: give every edge an exponential
    length, and the walk meets nodes in the order of their distance from where it starts (Richardson's growth model),
    since what is left of an exponential length is as long as it was.

    Args:
        strength: share of the nodes that leave; 0.2 in GraphCL.
    """

    strength: float = 0.2

    def __post_init__(self) -> None:
        _check_strength(self.strength)

    def __call__(self, graphs: Graphs) -> Graphs:
        if self.strength == 0 or not len(graphs):
            return graphs
        dropped = _counts(graphs.sizes, self.strength).minimum(graphs.sizes - 1)
        met = _meeting_times(graphs)
        order = (met + graphs.batch * (met.max() + 1)).argsort()  # graph after graph
        return graphs.keep_nodes(_ranks(order, graphs.batch, graphs.sizes) < (graphs.sizes - dropped)[graphs.batch])


@dataclass(frozen=True)
class Star:
    """A random node stays, and ⌊share · n⌋ of its neighbours: the subgraph of GraphCL's code, which grows by one hop.

    All of the neighbours stay where there are fewer; the edges between nodes that stay do, too.

    Args:
        share: of a graph's n nodes; 0.2 in GraphCL's code.
    """

    share: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise ValueError(f"share must lie in [0, 1), got {self.share}: it is the share of the nodes that stays")

    def __call__(self, graphs: Graphs) -> Graphs:
        centre = _random_ranks(graphs.batch, graphs.sizes) == 0
        source, target = graphs.edge_index
        beside = torch.zeros_like(graphs.batch).index_add_(0, target, centre[source].long()) > 0
        hops = torch.where(centre, 0, torch.where(beside, 1, 2))
        chance = torch.rand(len(hops), dtype=torch.float64, device=graphs.device)
        rank = _ranks((3 * graphs.batch + hops + chance).argsort(), graphs.batch, graphs.sizes)
        return graphs.keep_nodes((hops < 2) & (rank <= _counts(graphs.sizes, self.share)[graphs.batch]))


@dataclass(frozen=True)
class EdgeDropping:
    """Every edge leaves with the same probability, in both of its directions; nodes stay.

    Args:
        strength: the probability.
    """

    strength: float = 0.2

    def __post_init__(self) -> None:
        _check_strength(self.strength)

    def __call__(self, graphs: Graphs) -> Graphs:
        if self.strength == 0:
            return graphs
        keep = torch.rand(graphs.edges.shape[1], device=graphs.device) >= self.strength
        return graphs.keep_edges(keep)


@dataclass(frozen=True)
class FeatureDropping:
    """Every feature is 0 with the same probability, for all nodes of a graph together.

    Args:
        strength: the probability.
    """

    strength: float = 0.2

    def __post_init__(self) -> None:
        _check_strength(self.strength)

    def __call__(self, graphs: Graphs) -> Graphs:
        if self.strength == 0:
            return graphs
        keep = torch.rand(len(graphs), graphs.x.shape[1], device=graphs.device) >= self.strength
        kept = keep if len(graphs) == 1 else keep[graphs.batch]
        return graphs.with_features(torch.where(kept, graphs.x, 0.0))


@dataclass(frozen=True)
class Pipeline:
    """Several steps, one after the other.

    Args:
        steps: in the order in which they are applied.
    """

    steps: tuple[Step, ...]

    def __call__(self, graphs: Graphs) -> Graphs:
        for step in self.steps:
            graphs = step(graphs)
        return graphs


@dataclass(frozen=True)
class OneOf:
    """One of several steps, drawn for every graph.

    Args:
        steps: each with the same chance.
    """

    steps: tuple[Step, ...]

    def __call__(self, graphs: Graphs) -> Graphs:
        chosen = torch.randint(len(self.steps), (len(graphs),), device=graphs.device)
        counts = chosen.new_zeros(len(self.steps)).scatter_add_(0, chosen, torch.ones_like(chosen))
        order = chosen.argsort(stable=True)
        parts = graphs.reordered(order).split(counts)
        done = [step(part) for step, part in zip(self.steps, parts, strict=True)]
        return joined(done).reordered(order.argsort())


@dataclass(frozen=True)
class GraphViews:
    """Two views of a batch of graphs.

    Args:
        first, second: what makes either; None leaves it as it is.
    """

    first: Step | None
    second: Step | None

    def __call__(self, graphs: Graphs) -> list[Graphs]:
        return [graphs if step is None else step(graphs) for step in (self.first, self.second)]


def random_share(graphs: Graphs, share: float) -> Tensor:
    """``(N,)`` bool, True for ⌊share · n⌋ random nodes of each graph."""
    counts = _counts(graphs.sizes, share)
    return _random_ranks(graphs.batch, graphs.sizes) < counts[graphs.batch]


def _check_strength(strength: float) -> None:
    if not 0 <= strength < 1:
        raise ValueError(f"strength must lie in [0, 1), got {strength}: it is the share that changes")


def _counts(sizes: Tensor, strength: float) -> Tensor:
    """``(G,)`` ⌊strength · size⌋ for the strength that was meant: .29 · 100 is 28.999999999999996 in floating point."""
    return (sizes.double() * strength + 1e-9).long()


def _random_ranks(group: Tensor, sizes: Tensor) -> Tensor:
    """Each element's place, from 0, in a random order of its group; groups are numbered, of ``sizes`` ``(G,)``."""
    return _ranks((torch.rand(len(group), dtype=torch.float64, device=group.device) + group).argsort(), group, sizes)


def _ranks(order: Tensor, group: Tensor, sizes: Tensor) -> Tensor:
    """Each element's place, from 0, in its group, where ``order`` ``(n,)`` has the elements group after group."""
    starts = sizes.cumsum(0) - sizes
    place = torch.arange(len(group), device=group.device) - starts[group[order]]
    return torch.empty_like(place).index_copy_(0, order, place)


def _new_edges(graphs: Graphs, counts: Tensor) -> Tensor:
    """Pairs of nodes without an edge, ``(2, K)``: of each graph at most ``counts`` ``(G,)``, the smaller node first.

    The pairs of a graph are numbered row by row of a triangle, and those without an edge by how many of them come
    before. So the r-th of these is found by a binary search among the edges.
    """
    sizes, first = graphs.sizes, graphs.offsets[:-1]
    pairs = sizes * (sizes - 1) // 2
    free = pairs - graphs.edge_counts
    counts = torch.where(free > 0, counts, 0)
    graph = torch.arange(len(graphs), device=graphs.device).repeat_interleave(counts)
    drawn = (torch.rand(len(graph), dtype=torch.float64, device=graphs.device) * free[graph]).long()
    start = pairs.cumsum(0) - pairs  # of a graph's pairs among those of all graphs
    low, high = graphs.edges - first[graphs.edge_batch]  # nodes counted within their graph
    taken = (start[graphs.edge_batch] + high * (high - 1) // 2 + low).sort().values
    free_before = taken - torch.arange(len(taken), device=graphs.device)  # free pairs of all graphs before each edge
    wanted = torch.unique((free.cumsum(0) - free)[graph] + drawn)  # the number of a free pair among those of all graphs
    pair = wanted + torch.searchsorted(free_before, wanted, right=True)
    graph = torch.searchsorted(start + pairs, pair, right=True)
    within = pair - start[graph]
    high = ((1 + (1 + 8 * within.double()).sqrt()) / 2).long()  # exact: the root of a whole number below 2^52
    low = within - high * (high - 1) // 2
    return torch.stack([low, high]) + first[graph]


def _meeting_times(graphs: Graphs) -> Tensor:
    """``(N,)`` float64, when the walk of `Subgraph` meets each node."""
    n, device = len(graphs.x), graphs.device
    length = torch.empty(graphs.edges.shape[1], dtype=torch.float64, device=device).exponential_()
    # the k-th node of a random order starts a walk of its own, later than all walks of those before it have ended
    late = length.sum() + 1
    time = _random_ranks(graphs.batch, graphs.sizes) * late
    ends, other = graphs.edge_index, length.repeat(2)
    for _ in range(0, n, SWEEPS):
        before = time
        for _ in range(SWEEPS):
            time = time.scatter_reduce(0, ends[1], time.index_select(0, ends[0]) + other, "amin")
        if torch.equal(before, time):
            break
    return time
