"""Positions of nodes in their graph: eigenvectors of the normalised adjacency, many graphs to a call.

As GCC (Qiu et al., KDD 2020, arXiv 2006.09963) has them: of the largest min(n − 2, 32) eigenvalues, rows of length 1.
Theirs come from a sparse solver, one call a graph, whose random start decides about signs; here signs are drawn.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmssl.graph.graphs import Graphs

BLOCK = 2**22  # entries of the matrices that are decomposed together: 16 MiB


@torch.no_grad()
def positions(graphs: Graphs, dim: int = 32) -> Tensor:
    """``(N, dim)`` float32; zeros where a graph has too few eigenvectors.

    Graphs of similar size are padded to a common one and decomposed together. The padding has an eigenvalue below all
    others, and takes no part.

    Args:
        graphs: their features are not looked at.
        dim: eigenvectors of a node at most.
    """
    if dim < 1:
        raise ValueError(f"dim must be at least 1, got {dim}")
    out = torch.zeros(len(graphs.x), dim, device=graphs.device)
    sizes = graphs.sizes
    scale = graphs.degrees.clamp(min=1).float().rsqrt()
    value = scale[graphs.edges[0]] * scale[graphs.edges[1]]
    local = torch.arange(len(graphs.x), device=graphs.device) - graphs.offsets[:-1][graphs.batch]
    order = sizes.argsort()
    for chosen, width in _blocks(order, sizes[order].tolist()):
        row = torch.full((len(graphs),), -1, device=graphs.device)
        row[chosen] = torch.arange(len(chosen), device=graphs.device)
        nodes, edges = row[graphs.batch] >= 0, row[graphs.edge_batch] >= 0
        matrix = torch.zeros(len(chosen), width, width, device=graphs.device)
        matrix.diagonal(dim1=1, dim2=2).copy_(
            torch.where(torch.arange(width, device=row.device) < sizes[chosen, None], 0.0, -2.0)
        )
        block, (a, b) = row[graphs.edge_batch[edges]], local[graphs.edges[:, edges]]
        matrix[block, a, b] = matrix[block, b, a] = value[edges]
        vectors = torch.linalg.eigh(matrix).eigenvectors.flip(2)[:, :, :dim]  # the largest eigenvalue first
        used = torch.arange(vectors.shape[2], device=row.device) < (sizes[chosen, None] - 2)
        signs = torch.randint(2, used.shape, device=row.device) * 2 - 1
        vectors = vectors * (used * signs)[:, None, :]
        found = vectors[row[graphs.batch[nodes]], local[nodes]]
        out[nodes] = F.pad(F.normalize(found, dim=1), (0, dim - found.shape[1]))
    return out


def _blocks(order: Tensor, sizes: list[int]) -> list[tuple[Tensor, int]]:
    """Graphs, in the order of ``sizes``, in parts of at most `BLOCK` entries whose sizes differ by half at most.

    Each comes with its largest size.
    """
    parts, begin = [], 0
    for end in range(1, len(sizes) + 1):
        full = end == len(sizes)
        if full or sizes[end] > 1.5 * sizes[begin] + 4 or (end + 1 - begin) * sizes[end] ** 2 > BLOCK:
            parts.append((order[begin:end], sizes[end - 1]))
            begin = end
    return parts
