"""Eigenvector features of 1,024 subgraphs as GCC has them, against one call of SciPy's sparse eigensolver each.

Subgraphs are of walks with restarts in Cora, or in a random graph of its size where there is none. The subspaces of
both sides are compared where the last eigenvalue that counts is apart from the next: the row has the largest difference
of two nodes' cosines.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import eigsh
from sklearn.preprocessing import normalize

from mmssl.graph.features import NodeFeatures
from mmssl.graph.graphs import Graphs
from mmssl.graph.planetoid import read_planetoid
from mmssl.graph.spectral import positions
from mmssl.graph.walks import Adjacency, induced, restart_walks

SUBGRAPHS, DIM, PASSES = 1024, 32, 3
DATA = Path(os.environ.get("MMSSL_DATA", Path(__file__).parents[2] / "shared" / "data"))


def measure() -> list[dict[str, Any]]:
    """One row."""
    torch.manual_seed(0)
    whole, what = _graph()
    adjacency = Adjacency.of(whole)
    seeds = torch.randint(len(whole.x), (SUBGRAPHS,))
    subgraphs, _ = induced(adjacency, seeds, restart_walks(adjacency, seeds, steps=256, restart=0.8))
    best = {"ours": float("inf"), "theirs": float("inf")}
    for _ in range(PASSES):
        start = time.perf_counter()
        ours = positions(subgraphs, DIM)
        best["ours"] = min(best["ours"], time.perf_counter() - start)
        start = time.perf_counter()
        theirs = [_solve(matrix) for matrix in _matrices(subgraphs)]
        best["theirs"] = min(best["theirs"], time.perf_counter() - start)
    return [
        {
            "what": f"eigenvector features of {SUBGRAPHS:,} subgraphs ({what})",
            "peer": "scipy.sparse.linalg.eigsh, one call each",
            "peer_ms": 1e3 * best["theirs"],
            "mmssl_ms": 1e3 * best["ours"],
            "ratio": best["theirs"] / best["ours"],
            "largest_difference_of_subspaces": _difference(ours.numpy(), theirs, subgraphs),
        }
    ]


def _graph() -> tuple[Graphs, str]:
    folder = DATA / "graph" / "Planetoid" / "Cora"
    if folder.exists():
        return NodeFeatures(max_degree=0)(read_planetoid(folder, "cora")), "Cora"
    pairs = torch.randint(2708, (2, 5278)).sort(dim=0).values
    pairs = torch.unique(pairs[:, pairs[0] < pairs[1]], dim=1)
    return Graphs(torch.zeros(2708, 1), pairs, torch.tensor([0, 2708])), "a random graph"


def _matrices(graphs: Graphs) -> list[Any]:
    """The normalised adjacency of each."""
    cuts = np.concatenate([[0], graphs.edge_counts.cumsum(0).numpy()])
    found = []
    for i, (first, last) in enumerate(zip(graphs.offsets[:-1].tolist(), graphs.offsets[1:].tolist(), strict=True)):
        a, b = graphs.edges[:, cuts[i] : cuts[i + 1]].numpy() - first
        n = last - first
        adjacency = coo_matrix((np.ones(2 * len(a)), (np.r_[a, b], np.r_[b, a])), (n, n)).tocsr()
        scale = diags(np.asarray(adjacency.sum(axis=0)).ravel().clip(1) ** -0.5)
        found.append(scale @ adjacency @ scale)
    return found


def _solve(matrix: Any) -> npt.NDArray[np.float64]:
    """``(n, DIM)`` as in the authors' code."""
    n = matrix.shape[0]
    k = min(n - 2, DIM)
    if k <= 0:
        return np.zeros((n, DIM))
    _, vectors = eigsh(matrix, k=k, which="LA", ncv=min(n, max(2 * k + 1, 20)), v0=np.random.default_rng(0).random(n))
    return np.pad(normalize(vectors), ((0, 0), (0, DIM - k)))


def _difference(ours: npt.NDArray[np.float32], theirs: list[npt.NDArray[np.float64]], graphs: Graphs) -> float:
    """The largest difference of two rows' cosines: rows have length 1 on either side, and signs do not count."""
    largest = 0.0
    for i, (matrix, other) in enumerate(zip(_matrices(graphs), theirs, strict=True)):
        n = matrix.shape[0]
        k = min(n - 2, DIM)
        values = np.linalg.eigvalsh(matrix.toarray())[::-1]
        if k > 0 and values[k - 1] - values[k] > 1e-3:  # the subspace is one
            own = ours[int(graphs.offsets[i]) : int(graphs.offsets[i + 1])]
            largest = max(largest, float(np.abs(own @ own.T - other @ other.T).max()))
    return largest


if __name__ == "__main__":
    for row in measure():
        print(row)
