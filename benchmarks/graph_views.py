"""GraphCL's views of batches of 128 NCI1 graphs, against one graph at a time with PyTorch Geometric's own functions.

The peer loops over `Data`: nodes leave through `torch_geometric.utils.subgraph`, edges through `dropout_edge` before
random pairs are added, features are masked, and a walk in plain Python picks a subgraph; `Batch.from_data_list` makes
the batch again. Either side starts from what it keeps in memory. Where there is no NCI1 (MMSSL_DATA, or shared/data),
trees of the size of its graphs stand in.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmssl.graph.augment import AttributeMasking, EdgePerturbation, NodeDropping, OneOf, Step, Subgraph
from mmssl.graph.features import NodeFeatures
from mmssl.graph.graphs import Graphs
from mmssl.graph.graphset import GraphSource
from mmssl.graph.tu import read_tu

BATCH, STRENGTH, PASSES = 128, 0.2, 5
DATA = Path(os.environ.get("MMSSL_DATA", Path(__file__).parents[2] / "shared" / "data"))


def measure() -> list[dict[str, Any]]:
    """One row an augmentation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PyTorch Geometric's import, about torch.jit
        import torch_geometric.utils  # noqa: F401

    torch.manual_seed(0)
    graphs, what = _graphs()
    batch = GraphSource(graphs).fetch(np.random.default_rng(0).permutation(len(graphs))[:BATCH])
    single = batch.to_pyg().to_data_list()
    steps: list[tuple[Step, Callable[[Any], Any]]] = [
        (NodeDropping(STRENGTH), _drop_nodes),
        (EdgePerturbation(STRENGTH), _perturb_edges),
        (AttributeMasking(STRENGTH), _mask_attributes),
        (Subgraph(STRENGTH), _walk),
    ]
    every = [theirs for _, theirs in steps]
    steps.append((OneOf(tuple(ours for ours, _ in steps)), lambda data: every[int(torch.randint(4, ()))](data)))
    return [_one(ours, theirs, batch, single, what) for ours, theirs in steps]


def _graphs() -> tuple[Graphs, str]:
    folder = DATA / "graph" / "TUDataset" / "NCI1"
    if folder.exists():
        examples = read_tu(folder)
        return NodeFeatures.fit(examples, np.ones(examples.nodes, dtype=bool))(examples), "NCI1"
    rng = np.random.default_rng(0)
    sizes = rng.integers(15, 46, 2 * BATCH)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    node = np.concatenate([np.arange(1, n) for n in sizes])  # each node but the first is joined to an earlier one
    first = np.repeat(offsets[:-1], sizes - 1)
    pairs = np.stack([first + rng.integers(0, node), first + node])
    return Graphs(
        torch.eye(37)[rng.integers(0, 37, offsets[-1])], torch.from_numpy(pairs), torch.from_numpy(offsets)
    ), ("trees of the size of NCI1's graphs")


def _one(ours: Step, theirs: Callable[[Any], Any], batch: Graphs, single: list[Any], what: str) -> dict[str, Any]:
    from torch_geometric.data import Batch

    def batched() -> Any:
        return ours(Graphs(batch.x, batch.edges, batch.offsets))  # without what an earlier pass worked out

    def one_by_one() -> Any:
        return Batch.from_data_list([theirs(data) for data in single])

    best = {batched: float("inf"), one_by_one: float("inf")}
    for _ in range(PASSES):
        for run in best:
            start = time.perf_counter()
            run()
            best[run] = min(best[run], time.perf_counter() - start)
    return {
        "what": f"{type(ours).__name__} of {BATCH} graphs ({what})",
        "peer": "PyTorch Geometric, one graph at a time",
        "peer_ms": 1e3 * best[one_by_one],
        "mmssl_ms": 1e3 * best[batched],
        "ratio": best[one_by_one] / best[batched],
    }


def _drop_nodes(data: Any) -> Any:
    n = data.num_nodes
    return _induced(data, torch.randperm(n)[int(STRENGTH * n) :].sort().values)


def _perturb_edges(data: Any) -> Any:
    from torch_geometric.data import Data
    from torch_geometric.utils import coalesce, dropout_edge

    kept, _ = dropout_edge(data.edge_index, STRENGTH, force_undirected=True)
    new = torch.randint(data.num_nodes, (2, int(STRENGTH * data.num_edges / 2)))
    return Data(x=data.x, edge_index=coalesce(torch.cat([kept, new, new.flip(0)], dim=1)))


def _mask_attributes(data: Any) -> Any:
    from torch_geometric.data import Data

    x = data.x.clone()
    x[torch.randperm(data.num_nodes)[: int(STRENGTH * data.num_nodes)]] = 0
    return Data(x=x, edge_index=data.edge_index)


def _walk(data: Any) -> Any:
    """Along random edges that lead out of the nodes met so far."""
    near: list[list[int]] = [[] for _ in range(data.num_nodes)]
    for a, b in data.edge_index.T.tolist():
        near[a].append(b)
    wanted = data.num_nodes - int(STRENGTH * data.num_nodes)
    met: set[int] = set()
    out: list[int] = []
    while len(met) < wanted:
        out = [node for node in out if node not in met]
        node = out[int(torch.randint(len(out), ()))] if out else int(torch.randint(data.num_nodes, ()))
        met.add(node)
        out += near[node]
    return _induced(data, torch.tensor(sorted(met)))


def _induced(data: Any, nodes: torch.Tensor) -> Any:
    from torch_geometric.data import Data
    from torch_geometric.utils import subgraph

    edge_index, _ = subgraph(nodes, data.edge_index, relabel_nodes=True, num_nodes=data.num_nodes)
    return Data(x=data.x[nodes], edge_index=edge_index)


if __name__ == "__main__":
    for row in measure():
        print(row)
