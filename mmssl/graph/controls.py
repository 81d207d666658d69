"""What a pretrained encoder of graphs has to beat: histograms, and the features of the Weisfeiler–Lehman kernel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from mmssl.graph.encoder import neighbours, pooled
from mmssl.graph.graphs import Graphs

MAX_DEGREE = 64  # larger ones share the last place
WL_FEATURES = 2**13  # at most; rarer labels share places


def histogram(graphs: Graphs) -> npt.NDArray[np.float32]:
    """``(G, F + 65)``: sums of the features of a graph's nodes (of one-hot labels their counts), and of each degree."""
    degrees = torch.nn.functional.one_hot(graphs.degrees.clamp(max=MAX_DEGREE), MAX_DEGREE + 1).to(graphs.x)
    found: npt.NDArray[np.float32] = pooled(torch.cat([graphs.x, degrees], dim=1), graphs, "sum").numpy()
    return found


def neighbourhoods(graphs: Graphs, *, hops: int = 2) -> npt.NDArray[np.float32]:
    """``(N, F)``: features of a node's neighbourhood without any weight, as in SGC (Wu et al., ICML 2019): Âʰ X."""
    h = graphs.x
    scale = (graphs.degrees + 1).float().rsqrt()[:, None]
    for _ in range(hops):
        h = h * scale
        h = (h + neighbours(h, graphs)) * scale
    return h.numpy()


def weisfeiler_lehman(graphs: Graphs, *, rounds: int = 4, features: int = WL_FEATURES) -> npt.NDArray[np.float32]:
    """How often each label of the Weisfeiler–Lehman refinement occurs (Shervashidze et al., JMLR 2011), of length 1.

    A node's label of the next round stands for its label and those of its neighbours; dot products are the kernel, made
    cosines. Labels come from the rows of ``x`` that are equal.

    Args:
        graphs: on the CPU.
        rounds: of refinement.
        features: at most; where there are more labels, the rarest ones share places by a hash.

    Returns:
        ``(G, D)``.
    """
    batch = graphs.batch.numpy()
    source, target = graphs.edge_index.numpy()
    order = np.argsort(target, kind="stable")
    starts = np.concatenate([[0], np.cumsum(graphs.degrees.numpy())])
    labels = np.unique(graphs.x.numpy(), axis=0, return_inverse=True)[1].ravel()
    blocks = []
    for round_ in range(rounds + 1):
        if round_:
            near = labels[source[order]]
            near = near[np.lexsort((near, target[order]))]  # each node's neighbours in order
            keys = [(own, near[a:b].tobytes()) for own, a, b in zip(labels, starts[:-1], starts[1:], strict=True)]
            seen: dict[tuple[int, bytes], int] = {}
            labels = np.array([seen.setdefault((int(own), rest), len(seen)) for own, rest in keys])
        blocks.append(_counts(labels, batch, len(graphs), max(1, features // (rounds + 1))))
    counts = np.concatenate(blocks, axis=1)
    return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-12)


def _counts(
    labels: npt.NDArray[np.int64], batch: npt.NDArray[np.int64], graphs: int, features: int
) -> npt.NDArray[np.float32]:
    """``(graphs, D)`` how often each label occurs, D ``features`` at most: half of them for the frequent labels."""
    frequency = np.bincount(labels)
    place = np.empty(len(frequency), dtype=np.int64)
    place[np.argsort(-frequency, kind="stable")] = np.arange(len(frequency))
    if len(frequency) > features:
        half = features // 2
        place = np.where(place < half, place, half + (place * 2654435761 % 2**32) % (features - half))
    counts = np.zeros((graphs, min(features, len(frequency))), dtype=np.float32)
    np.add.at(counts, (batch, place[labels]), 1.0)
    return counts
