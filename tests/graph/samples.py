"""Small graphs for tests."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from mmssl.graph.graphs import Graphs, joined


def random_graphs(sizes: list[int], *, density: float = 0.4, features: int = 3, seed: int = 0) -> Graphs:
    """Each pair of nodes of a graph is joined with this probability; every node's features are its own."""
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    pairs = [
        (first + a, first + b)
        for first, n in zip(offsets, sizes, strict=False)
        for a, b in itertools.combinations(range(n), 2)
        if rng.random() < density
    ]
    x = rng.standard_normal((int(offsets[-1]), features)).astype(np.float32)
    edges = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T.contiguous()
    return Graphs(torch.from_numpy(x), edges, torch.from_numpy(offsets.astype(np.int64)))


def edge_set(graphs: Graphs) -> set[tuple[int, int]]:
    return {(int(a), int(b)) for a, b in graphs.edges.T}


def check(graphs: Graphs) -> None:
    """What holds for all `Graphs`."""
    n, (low, high) = len(graphs.x), graphs.edges
    assert graphs.offsets[0] == 0
    assert graphs.offsets[-1] == n
    assert (graphs.sizes >= 0).all()
    assert (low >= 0).all()
    assert (high < n).all()  # no dangling index
    assert (low < high).all()  # each edge once, no loop
    assert len(edge_set(graphs)) == graphs.edges.shape[1]
    assert torch.equal(graphs.batch[low], graphs.batch[high])  # no edge crosses graphs


def equal(a: Graphs, b: Graphs) -> bool:
    return torch.equal(a.x, b.x) and torch.equal(a.edges, b.edges) and torch.equal(a.offsets, b.offsets)


def copied(graphs: Graphs) -> Graphs:
    return Graphs(graphs.x.clone(), graphs.edges.clone(), graphs.offsets.clone())


def copies(graphs: Graphs, count: int) -> Graphs:
    """The same graphs so many times."""
    return joined([graphs] * count)
