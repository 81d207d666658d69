"""Subgraphs around nodes by random walks with restarts: all walks of a batch at once, on any device."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mmssl.graph.graphs import Graphs


class Adjacency(NamedTuple):
    """Neighbours of every node, one node after the other.

    Args:
        starts: ``(N + 1,)`` int64; the neighbours of node i are those from ``starts[i]`` on.
        neighbours: ``(2E,)`` int64, in order.
    """

    starts: Tensor
    neighbours: Tensor

    @classmethod
    def of(cls, graphs: Graphs) -> Adjacency:
        source, target = graphs.edge_index
        order = (source * len(graphs.x) + target).argsort()
        return cls(torch.nn.functional.pad(graphs.degrees.cumsum(0), (1, 0)), target[order])

    @property
    def degrees(self) -> Tensor:
        """``(N,)``."""
        return self.starts.diff()


def restart_walks(adjacency: Adjacency, seeds: Tensor, *, steps: int, restart: float) -> Tensor:
    """Nodes that random walks step on, ``(B, steps)``; after every step a walk goes back to its seed by chance.

    What a walk does between two restarts is independent of all that it did before. So the first steps after all
    restarts are made together, then the second ones, and so on: a few rounds instead of ``steps``.

    Args:
        adjacency: of the graph.
        seeds: ``(B,)`` where the walks begin; one without neighbours stays there.
        steps: of each walk.
        restart: probability of going back after a step.
    """
    if steps < 1:
        raise ValueError(f"a walk needs at least one step, got steps={steps}")
    if not 0 <= restart <= 1:
        raise ValueError(f"restart must lie in [0, 1], got {restart}")
    shape, device = (len(seeds), steps), seeds.device
    begins = torch.rand(shape, device=device) < restart  # this step is made from the seed
    begins[:, 0] = True
    at = torch.arange(steps, device=device).expand(shape)
    since = at - torch.where(begins, at, 0).cummax(dim=1).values  # steps after the last restart
    chance = torch.rand(shape, dtype=torch.float64, device=device)
    degrees = adjacency.degrees
    origin = seeds[:, None].expand(shape)
    walked = origin
    for distance in range(int(since.max()) + 1):
        if distance:
            origin = walked.roll(1, dims=1)
        first, count = adjacency.starts[origin], degrees[origin]
        chosen = (first + (chance * count).long()).clamp(max=max(0, len(adjacency.neighbours) - 1))
        stepped = torch.where(count > 0, adjacency.neighbours[chosen], origin) if len(adjacency.neighbours) else origin
        walked = torch.where(since == distance, stepped, walked)
    return walked


def induced(adjacency: Adjacency, seeds: Tensor, visited: Tensor) -> tuple[Graphs, Tensor]:
    """The subgraphs of the nodes that walks met, seeds included.

    Args:
        adjacency: of the graph.
        seeds: ``(B,)``.
        visited: ``(B, T)`` nodes, in any order and number.

    Returns:
        B graphs whose only feature is whether a node is the seed, and ``(N',)`` which node each is.
    """
    batch, total = len(seeds), len(adjacency.starts) - 1
    walk = torch.arange(batch, device=seeds.device)[:, None]
    code = torch.unique(walk * total + torch.cat([seeds[:, None], visited], dim=1))  # (N',), walk after walk
    owner, node = code // total, code % total
    count = adjacency.degrees[node]
    source = torch.arange(len(code), device=code.device).repeat_interleave(count)
    edge = torch.arange(len(source), device=code.device) - (count.cumsum(0) - count)[source]
    wanted = owner[source] * total + adjacency.neighbours[adjacency.starts[node][source] + edge]
    target = torch.searchsorted(code, wanted).clamp(max=len(code) - 1)
    keep = (code[target] == wanted) & (source < target)
    sizes = torch.zeros(batch, dtype=torch.int64, device=code.device).scatter_add_(0, owner, torch.ones_like(owner))
    is_seed = (node == seeds[owner]).float()[:, None]
    edges = torch.stack([source[keep], target[keep]])
    return Graphs(is_seed, edges, torch.nn.functional.pad(sizes.cumsum(0), (1, 0))), node
