"""Undirected graphs as three tensors, one graph after the other: a batch lies on one device and is never unpacked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch_geometric.data import Batch, Data


@dataclass(frozen=True, eq=False)
class Graphs:
    """G undirected graphs with N nodes and E edges in all. An edge is listed once, and no edge is a loop.

    Args:
        x: ``(N, F)`` float32, features of the nodes, graph after graph.
        edges: ``(2, E)`` int64, an edge's nodes, counted over all graphs, the smaller one first.
        offsets: ``(G + 1,)`` int64; the nodes of graph g are those from ``offsets[g]`` to ``offsets[g + 1] - 1``.
    """

    x: Tensor
    edges: Tensor
    offsets: Tensor

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def device(self) -> torch.device:
        return self.x.device

    @property
    def sizes(self) -> Tensor:
        """``(G,)`` nodes of each graph."""
        return self.offsets.diff()

    @cached_property
    def batch(self) -> Tensor:
        """``(N,)`` the graph of each node."""
        graphs = torch.arange(len(self), device=self.device)
        return graphs.repeat_interleave(self.sizes, output_size=len(self.x))

    @cached_property
    def edge_batch(self) -> Tensor:
        """``(E,)`` the graph of each edge."""
        return self.batch[self.edges[0]]

    @cached_property
    def edge_index(self) -> Tensor:
        """``(2, 2E)`` both directions of every edge, as PyTorch Geometric's layers take them."""
        return torch.cat([self.edges, self.edges.flip(0)], dim=1)

    @cached_property
    def degrees(self) -> Tensor:
        """``(N,)`` int64, edges of each node."""
        ends = self.edges.flatten()
        return torch.zeros(len(self.x), dtype=torch.int64, device=self.device).scatter_add_(
            0, ends, torch.ones_like(ends)
        )

    @cached_property
    def edge_counts(self) -> Tensor:
        """``(G,)`` edges of each graph."""
        return torch.zeros_like(self.offsets[1:]).scatter_add_(0, self.edge_batch, torch.ones_like(self.edge_batch))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Graphs:
        """The same on another device."""
        x, edges, offsets = (t.to(device, non_blocking=non_blocking) for t in (self.x, self.edges, self.offsets))
        return Graphs(x, edges, offsets)

    def with_features(self, x: Tensor) -> Graphs:
        """The same graphs with other features ``(N, F)``."""
        return replace(self, x=x)

    def keep_edges(self, keep: Tensor) -> Graphs:
        """Without the edges where ``keep`` ``(E,)`` is False."""
        return replace(self, edges=self.edges[:, keep])

    def keep_nodes(self, keep: Tensor) -> Graphs:
        """Without the nodes where ``keep`` ``(N,)`` is False, and without their edges; the others are renumbered.

        A graph may be left without nodes.
        """
        before = _starts(keep)  # (N + 1,) kept nodes before each
        edges = self.edges[:, keep[self.edges].all(dim=0)]
        return Graphs(self.x[keep], before[edges], before[self.offsets])

    def split(self, counts: Tensor) -> list[Graphs]:
        """Parts of so many graphs each, in their order; ``counts`` ``(K,)`` sum to G. A GPU is waited for once."""
        graphs = _starts(counts)
        nodes = self.offsets[graphs]
        part = torch.bucketize(self.edges[0], nodes[1:], right=True)  # (E,)
        edges = self.edges[:, part.argsort(stable=True)]
        ends = _starts(torch.zeros_like(counts).scatter_add_(0, part, torch.ones_like(part)))
        bounds = zip(*(pairwise(starts) for starts in torch.stack([graphs, nodes, ends]).tolist()), strict=True)
        return [
            Graphs(self.x[first:last], edges[:, a:b] - first, self.offsets[g : h + 1] - first)
            for (g, h), (first, last), (a, b) in bounds
        ]

    def reordered(self, order: Tensor) -> Graphs:
        """The graphs in another order: graph i becomes what graph ``order[i]`` is; ``order`` ``(G,)`` has each once."""
        sizes, place = self.sizes[order], torch.arange(len(self.x), device=self.device)
        offsets = _starts(sizes)
        moved = (self.offsets[order] - offsets[:-1]).repeat_interleave(sizes, output_size=len(place))
        nodes = place + moved
        return Graphs(self.x[nodes], torch.empty_like(nodes).index_copy_(0, nodes, place)[self.edges], offsets)

    def to_pyg(self) -> Batch:
        """A batch of PyTorch Geometric with both directions of every edge."""
        from torch_geometric.data import Batch, Data

        edge_counts = 2 * self.edge_counts
        order = self.edge_batch.repeat(2).argsort(stable=True)
        edge_index = self.edge_index[:, order]
        first = self.offsets[:-1].repeat_interleave(edge_counts)
        parts = zip(
            self.x.split(self.sizes.tolist()), (edge_index - first).split(edge_counts.tolist(), dim=1), strict=True
        )
        return Batch.from_data_list([Data(x=x, edge_index=e) for x, e in parts])

    @classmethod
    def from_pyg(cls, data: Data | Sequence[Data], *, undirected: bool = False) -> Graphs:
        """From a `Data`, a `Batch` or a list of `Data` with ``x`` and ``edge_index``.

        Loops and repeated edges are left out.

        Args:
            data: the graphs.
            undirected: take every edge for an undirected one, whichever way it points.

        Raises:
            ValueError: there are no features, an edge leads to a node that does not exist or to another graph, or has
                no way back.
        """
        from torch_geometric.data import Batch

        batch = data if not isinstance(data, Sequence) else Batch.from_data_list(list(data))
        x, edge_index = batch.x, batch.edge_index
        if x is None or edge_index is None:
            raise ValueError(
                "the graphs need x (features of their nodes) and edge_index; "
                "torch_geometric.transforms.OneHotDegree makes features of degrees"
            )
        n = len(x)
        outside = ((edge_index < 0) | (edge_index >= n)).any(dim=0)
        if bool(outside.any()):
            at = int(outside.int().argmax())
            raise ValueError(f"edge {at} joins nodes {edge_index[:, at].tolist()}, but there are {n} nodes, from 0 on")
        offsets = getattr(batch, "ptr", None)
        if offsets is None:
            offsets = torch.tensor([0, n], device=x.device)
        graph = torch.searchsorted(offsets, edge_index.contiguous(), right=True)
        crossing = graph[0] != graph[1]
        if bool(crossing.any()):
            at = int(crossing.int().argmax())
            a, b = (graph[:, at] - 1).tolist()
            raise ValueError(f"edge {at} of the batch joins graphs {a} and {b}: one of them has too large a node index")
        edge_index = edge_index[:, edge_index[0] != edge_index[1]]
        code = torch.unique(edge_index.amin(dim=0) * n + edge_index.amax(dim=0))
        ways = torch.unique(edge_index[0] * n + edge_index[1])
        if len(ways) != 2 * len(code) and not undirected:
            raise ValueError(
                f"the graph is directed: {2 * len(code) - len(ways)} of {len(code)} edges have no way back. Pass "
                "undirected=True to take every edge for an undirected one"
            )
        x = x.float() if x.ndim > 1 else x.float()[:, None]
        return cls(x, torch.stack([code // n, code % n]), offsets)


def joined(parts: Sequence[Graphs]) -> Graphs:
    """The graphs of several batches, one batch after the other."""
    before = accumulate((len(part.x) for part in parts[:-1]), initial=0)
    sizes = torch.cat([part.sizes for part in parts])
    return Graphs(
        torch.cat([part.x for part in parts]),
        torch.cat([part.edges + first for part, first in zip(parts, before, strict=True)], dim=1),
        _starts(sizes),
    )


def _starts(counts: Tensor) -> Tensor:
    """``(K + 1,)`` where each of K groups of ``counts`` ``(K,)`` begins, and where the last one ends."""
    return torch.nn.functional.pad(counts.cumsum(0), (1, 0))
