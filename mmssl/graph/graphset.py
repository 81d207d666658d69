"""Many graphs, or the nodes of one, with their labels; and batches of them, one gather each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmssl.graph.graphs import Graphs

Ints = npt.NDArray[np.int64]
Level = Literal["graph", "node"]


@dataclass(frozen=True, eq=False)
class GraphSet:
    """What a reader returns: graphs without features yet, and what is known of their nodes.

    Args:
        pairs: ``(2, E)`` edges, each once, nodes counted over all graphs.
        offsets: ``(G + 1,)`` the nodes of graph g are those from ``offsets[g]`` on.
        columns: of the nodes: name to ``(N,)`` numbers or names of categories, or ``(N, C)`` numbers. Empty: unknown.
        level: what an example is, a graph or a node.
        names: ``(n,)`` of the examples.
        labels: ``(n,)`` class codes, or numbers to predict; NaN is unlabelled. None if there are none.
        classes: their names; None for numbers, or without labels.
        parts: ``(n,)`` the published part of each example: "train", "validation", "test", or "" for none of them.
        smiles: ``(n,)`` of molecules.
        notes: what was left out, in words.
    """

    pairs: Ints
    offsets: Ints
    columns: dict[str, npt.NDArray[Any]]
    level: Level
    names: npt.NDArray[Any]
    labels: npt.NDArray[np.float64] | None = None
    classes: tuple[str, ...] | None = None
    parts: npt.NDArray[Any] | None = None
    smiles: npt.NDArray[Any] | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Examples."""
        return len(self.offsets) - 1 if self.level == "graph" else int(self.offsets[-1])

    @property
    def nodes(self) -> int:
        return int(self.offsets[-1])

    @property
    def degrees(self) -> Ints:
        """``(N,)`` edges of each node."""
        return np.bincount(self.pairs.ravel(), minlength=self.nodes)

    @property
    def node_graph(self) -> Ints:
        """``(N,)`` the graph of each node."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    @property
    def labelled(self) -> Ints:
        """Positions of the examples with a label."""
        return np.flatnonzero(~np.isnan(self.labels)) if self.labels is not None else np.empty(0, dtype=np.int64)


class GraphSource:
    """Graphs as batches, gathered on the device that holds them.

    How many nodes and edges a batch has is worked out on the host, so that nobody waits for the device.

    Args:
        graphs: all of them; edges ordered by graph, as readers give them.
        index: those that count; None for all.
    """

    def __init__(self, graphs: Graphs, index: Ints | None = None) -> None:
        self.graphs = graphs
        self.index = np.arange(len(graphs)) if index is None else index
        self.offsets = graphs.offsets.cpu().numpy()
        self.edge_offsets = np.concatenate([[0], graphs.edge_counts.cumsum(0).cpu().numpy()])

    def __len__(self) -> int:
        return len(self.index)

    def fetch(self, index: Ints) -> Graphs:
        chosen = self.index[index]
        nodes, offsets = self._rows(self.offsets, chosen)
        edges, edge_offsets = self._rows(self.edge_offsets, chosen)
        moved = self._there(offsets[:-1] - self.offsets[chosen])  # nodes are counted anew
        moved = moved.repeat_interleave(self._there(np.diff(edge_offsets)), output_size=len(edges))
        return Graphs(
            self.graphs.x.index_select(0, nodes),
            self.graphs.edges.index_select(1, edges) + moved,
            self._there(offsets),
        )

    def _rows(self, offsets: Ints, chosen: Ints) -> tuple[Tensor, Ints]:
        """Where the rows of the chosen graphs lie, and their offsets in the batch."""
        counts = offsets[chosen + 1] - offsets[chosen]
        new = np.concatenate([[0], np.cumsum(counts)])
        total = int(new[-1])
        first = self._there(offsets[chosen] - new[:-1])
        rows = first.repeat_interleave(self._there(counts), output_size=total)
        return rows + torch.arange(total, device=rows.device), new

    def _there(self, x: Ints) -> Tensor:
        return torch.from_numpy(x).to(self.graphs.device, non_blocking=True)


class NodeSource:
    """One large graph as the only batch there is: every step sees all of its nodes.

    Args:
        graphs: of which all nodes are examples.
    """

    def __init__(self, graphs: Graphs) -> None:
        self.graphs = graphs

    def __len__(self) -> int:
        return 1

    def fetch(self, index: Ints) -> Graphs:
        return self.graphs
