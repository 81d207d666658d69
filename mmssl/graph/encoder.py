"""Encoders of graphs: GIN, GCN and GAT, and any module of PyTorch Geometric; of whole graphs or of their nodes.

An encoder has ``nodes(graphs)``, ``(N, dim)``. Called, it gives the same, or one vector a graph, ``(G, dim)``, where it
pools. Messages are sums over edges in both directions, with torch's own index operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmssl.graph.graphs import Graphs

Pool = Literal["sum", "mean"] | None
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "prelu": nn.PReLU, "elu": nn.ELU}


class GraphEncoder(nn.Module):
    """What all of them have in common; subclasses define `nodes`.

    Args:
        in_dim: F, features of a node.
        dim: of what it returns.
        pool: the sum or the mean over the nodes of each graph; None gives one vector a node.
        arguments: what the class is built with.
    """

    def __init__(self, in_dim: int, dim: int, pool: Pool, arguments: dict[str, Any]) -> None:
        super().__init__()
        if pool not in ("sum", "mean", None):
            raise ValueError(f"pool must be 'sum', 'mean' or None, got {pool!r}")
        self.in_dim, self.dim, self.pool = in_dim, dim, pool
        self.arguments = arguments

    def forward(self, graphs: Graphs) -> Tensor:
        """``(G, dim)``, or ``(N, dim)`` without pooling."""
        if graphs.x.shape[1] != self.in_dim:
            raise ValueError(f"expected nodes with {self.in_dim} features, got {graphs.x.shape[1]}")
        h = self.nodes(graphs)  # (N, dim)
        return h if self.pool is None else pooled(h, graphs, self.pool)

    def nodes(self, graphs: Graphs) -> Tensor:
        """``(N, dim)``."""
        raise NotImplementedError


class GIN(GraphEncoder):
    """Graph isomorphism network (Xu et al., ICLR 2019, arXiv 1810.00826) as GraphCL has it: all layers, summed.

    Each layer is an MLP over a node plus the sum of its neighbours, ReLU, then batch normalisation.

    Args:
        in_dim: F, features of a node.
        hidden: width of a layer.
        depth: layers.
        pool: see `GraphEncoder`.
        jump: return all layers, ``dim = depth · hidden``; else the last.
    """

    def __init__(self, in_dim: int, *, hidden: int = 32, depth: int = 3, pool: Pool = "sum", jump: bool = True) -> None:
        arguments = {"in_dim": in_dim, "hidden": hidden, "depth": depth, "pool": pool, "jump": jump}
        super().__init__(in_dim, hidden * (depth if jump else 1), pool, arguments)
        self.jump = jump
        widths = [in_dim, *[hidden] * depth]
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.Linear(i, o), nn.ReLU(), nn.Linear(o, o)) for i, o in pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(hidden) for _ in range(depth))

    def nodes(self, graphs: Graphs) -> Tensor:
        h, layers = graphs.x, []
        for mlp, norm in zip(self.mlps, self.norms, strict=True):
            h = norm(F.relu(mlp(summed(h, graphs))))
            layers.append(h)
        return torch.cat(layers, dim=1) if self.jump else h

    def layers(self) -> list[list[nn.Parameter]]:
        """Parameters from input to output, for fine-tuning."""
        return [[*mlp.parameters(), *norm.parameters()] for mlp, norm in zip(self.mlps, self.norms, strict=True)]


class GCN(GraphEncoder):
    """Graph convolutional network (Kipf and Welling, ICLR 2017, arXiv 1609.02907).

    Each layer is Â X W + b with Â = D^-½ (A + I) D^-½, batch normalisation if wanted, and the activation.

    Args:
        in_dim: F, features of a node.
        widths: of the layers; the last is ``dim``.
        activation: ``"relu"``, ``"prelu"`` or ``"elu"``, after the last layer, too.
        norm: batch normalisation, with a running mean over about a hundred steps (BGRL).
        pool: see `GraphEncoder`.
    """

    def __init__(
        self,
        in_dim: int,
        *,
        widths: Sequence[int] = (256, 128),
        activation: str = "relu",
        norm: bool = False,
        pool: Pool = None,
    ) -> None:
        arguments = {"in_dim": in_dim, "widths": list(widths), "activation": activation, "norm": norm, "pool": pool}
        super().__init__(in_dim, widths[-1], pool, arguments)
        self.linears = nn.ModuleList(nn.Linear(i, o, bias=False) for i, o in pairwise([in_dim, *widths]))
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(o)) for o in widths)
        self.norms = nn.ModuleList(nn.BatchNorm1d(o, momentum=0.01) if norm else nn.Identity() for o in widths)
        self.activations = nn.ModuleList(_activation(activation)() for _ in widths)
        for linear in self.linears:
            nn.init.xavier_uniform_(linear.weight)  # type: ignore[arg-type]

    def nodes(self, graphs: Graphs) -> Tensor:
        h = graphs.x
        for linear, bias, norm, activation in zip(self.linears, self.biases, self.norms, self.activations, strict=True):
            h = activation(norm(smoothed(linear(h), graphs) + bias))
        return h

    def layers(self) -> list[list[nn.Parameter]]:
        """Parameters from input to output, for fine-tuning."""
        parts = zip(self.linears, self.biases, self.norms, self.activations, strict=True)
        return [
            [*linear.parameters(), bias, *norm.parameters(), *act.parameters()] for linear, bias, norm, act in parts
        ]


class GAT(GraphEncoder):
    """Graph attention network (Veličković et al., ICLR 2018, arXiv 1710.10903): heads side by side in every layer.

    Args:
        in_dim: F, features of a node.
        widths: of the layers, each a multiple of ``heads``; the last is ``dim``.
        heads: of a layer.
        activation: ``"relu"``, ``"prelu"`` or ``"elu"``, after the last layer, too.
        dropout: of the input of each layer.
        attention_dropout: of the weights of attention.
        pool: see `GraphEncoder`.
    """

    def __init__(
        self,
        in_dim: int,
        *,
        widths: Sequence[int] = (256, 256),
        heads: int = 4,
        activation: str = "elu",
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        pool: Pool = None,
    ) -> None:
        arguments = {
            "in_dim": in_dim,
            "widths": list(widths),
            "heads": heads,
            "activation": activation,
            "dropout": dropout,
            "attention_dropout": attention_dropout,
            "pool": pool,
        }
        super().__init__(in_dim, widths[-1], pool, arguments)
        if wrong := [width for width in widths if width % heads]:
            raise ValueError(f"widths must be multiples of heads={heads}, got {wrong[0]}")
        self.dropout = dropout
        self.attention = nn.ModuleList(
            _Attention(i, o, heads, attention_dropout) for i, o in pairwise([in_dim, *widths])
        )
        self.activations = nn.ModuleList(_activation(activation)() for _ in widths)

    def nodes(self, graphs: Graphs) -> Tensor:
        h = graphs.x
        loops = torch.arange(len(h), device=h.device)
        source, target = torch.cat([graphs.edge_index, loops.expand(2, -1)], dim=1)
        for attention, activation in zip(self.attention, self.activations, strict=True):
            h = activation(attention(F.dropout(h, self.dropout, self.training), source, target))
        return h

    def layers(self) -> list[list[nn.Parameter]]:
        """Parameters from input to output, for fine-tuning."""
        parts = zip(self.attention, self.activations, strict=True)
        return [[*attention.parameters(), *activation.parameters()] for attention, activation in parts]


class _Attention(nn.Module):
    """One layer of GAT: ``(N, in_dim)`` to ``(N, out_dim)``, all heads side by side."""

    def __init__(self, in_dim: int, out_dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.linear = nn.Linear(in_dim, out_dim, bias=False)
        self.sends, self.receives = (nn.Parameter(torch.empty(heads, out_dim // heads)) for _ in range(2))
        self.bias = nn.Parameter(torch.zeros(out_dim))
        for weight in (self.linear.weight, self.sends, self.receives):
            nn.init.xavier_uniform_(weight)

    def forward(self, x: Tensor, source: Tensor, target: Tensor) -> Tensor:
        h = self.linear(x).unflatten(1, (self.heads, -1))  # (N, H, D)
        sent, received = (h * self.sends).sum(dim=2), (h * self.receives).sum(dim=2)  # (N, H)
        score = F.leaky_relu(sent[source] + received[target], 0.2)  # (M, H)
        to = target[:, None].expand_as(score)
        top = torch.full_like(sent, -torch.inf).scatter_reduce(0, to, score.detach(), "amax")
        weight = (score - top[target]).exp()
        weight = weight / torch.zeros_like(sent).index_add(0, target, weight)[target]
        weight = F.dropout(weight, self.dropout, self.training)
        return torch.zeros_like(h).index_add(0, target, weight[..., None] * h[source]).flatten(1) + self.bias


class StructureGIN(GraphEncoder):
    """GCC's encoder (Qiu et al., KDD 2020, arXiv 2006.09963): a GIN over what nodes are in the structure of a graph.

    Its input, as `mmssl.graph.gcc.structure` makes it, has the degree of a node in the last column. All layers are
    pooled and projected, as the sum of a linear map of each.

    Args:
        in_dim: F, positions, seed flag, and degree.
        hidden: width of a layer, and of what it returns.
        depth: layers.
        degree_dim: size of the embedding of a degree.
        max_degree: larger ones count as this.
        pool: ``"sum"``; there are no nodes to return.
    """

    def __init__(
        self,
        in_dim: int,
        *,
        hidden: int = 64,
        depth: int = 5,
        degree_dim: int = 16,
        max_degree: int = 512,
        pool: Pool = "sum",
    ) -> None:
        arguments = {
            "in_dim": in_dim,
            "hidden": hidden,
            "depth": depth,
            "degree_dim": degree_dim,
            "max_degree": max_degree,
            "pool": pool,
        }
        super().__init__(in_dim, hidden, pool, arguments)
        if pool is None:
            raise ValueError("StructureGIN embeds whole graphs: pool must be 'sum' or 'mean'")
        self.max_degree = max_degree
        self.degree = nn.Embedding(max_degree + 1, degree_dim)
        self.gin = GIN(in_dim - 1 + degree_dim, hidden=hidden, depth=depth, pool=None)
        self.out = nn.Linear(self.gin.dim, hidden)

    def nodes(self, graphs: Graphs) -> Tensor:
        degree = self.degree(graphs.x[:, -1].long().clamp(max=self.max_degree))
        return self.gin(graphs.with_features(torch.cat([graphs.x[:, :-1], degree], dim=1)))

    def forward(self, graphs: Graphs) -> Tensor:
        assert self.pool is not None
        return F.normalize(self.out(pooled(self.nodes(graphs), graphs, self.pool)), dim=1)

    def layers(self) -> list[list[nn.Parameter]]:
        """Parameters from input to output, for fine-tuning."""
        first, *others = self.gin.layers()
        return [[*self.degree.parameters(), *first], *others, [*self.out.parameters()]]


class PyGEncoder(GraphEncoder):
    """Any module of PyTorch Geometric that maps ``(x, edge_index)`` to ``(N, dim)``, such as its ``GraphSAGE``.

    Args:
        module: the module.
        in_dim: F, features of a node.
        dim: of what it returns.
        pool: see `GraphEncoder`.
    """

    def __init__(self, module: nn.Module, *, in_dim: int, dim: int, pool: Pool = "sum") -> None:
        super().__init__(in_dim, dim, pool, {})
        self.module = module

    def nodes(self, graphs: Graphs) -> Tensor:
        return self.module(graphs.x, graphs.edge_index)


def neighbours(h: Tensor, graphs: Graphs) -> Tensor:
    """``(N, D)``, the sum over the neighbours of each node."""
    source, target = graphs.edge_index
    return torch.zeros_like(h).index_add(0, target, h.index_select(0, source))


def summed(h: Tensor, graphs: Graphs) -> Tensor:
    """A node and its neighbours: ``(N, D)`` to the same."""
    return h + neighbours(h, graphs)


def smoothed(h: Tensor, graphs: Graphs) -> Tensor:
    """``Â h`` with Â = D^-½ (A + I) D^-½: ``(N, D)`` to the same."""
    scale = (graphs.degrees + 1).to(h.dtype).rsqrt()[:, None]
    sent = h * scale
    return (sent + neighbours(sent, graphs)) * scale


def pooled(h: Tensor, graphs: Graphs, pool: Literal["sum", "mean"]) -> Tensor:
    """``(G, D)``, the sum or the mean over the nodes ``(N, D)`` of each graph."""
    total = h.new_zeros(len(graphs), h.shape[1]).index_add(0, graphs.batch, h)
    return total if pool == "sum" else total / graphs.sizes.clamp(min=1)[:, None]


def _activation(name: str) -> type[nn.Module]:
    if name not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return ACTIVATIONS[name]


ENCODERS: dict[str, type[GraphEncoder]] = {"GIN": GIN, "GCN": GCN, "GAT": GAT, "StructureGIN": StructureGIN}
