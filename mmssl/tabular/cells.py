"""Cells of a table as vectors: all of a row side by side, or a token for each cell. NaN is missing, code 0 is UNSEEN.

What training rows cannot teach does no harm: a category that they do not have adds nothing, and the indicator of a
missing cell starts at zero and stays there if no training cell is missing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Literal

import torch
from torch import Tensor, nn

Numeric = Literal["linear", "periodic", "piecewise"]


class FlatCells(nn.Module):
    """A row as the papers' networks take it: ``(B, M)`` to ``(B, dim)``, without parameters.

    Numeric cells as they are, 0 where missing; an indicator for each that is missing; categories one-hot, with a place
    for MISSING and none for UNSEEN.

    Args:
        cardinalities: for each column the size of its vocabulary, 0 for a numeric one.
    """

    numeric: Tensor
    categorical: Tensor
    first: Tensor
    cardinality: Tensor

    def __init__(self, cardinalities: Sequence[int]) -> None:
        super().__init__()
        _register_columns(self, cardinalities)
        sizes = [k + 1 for k in cardinalities if k]  # MISSING, then the vocabulary
        n = len(self.numeric)
        starts = [2 * n + sum(sizes[:i]) for i in range(len(sizes))]
        self.register_buffer("first", torch.tensor(starts, dtype=torch.int64), persistent=False)
        self.dim = 2 * n + sum(sizes)
        self.indicators = [*range(n, 2 * n), *starts]  # what is 1 where a cell is missing
        self.one_hot = sum(sizes)

    def forward(self, x: Tensor) -> Tensor:
        values = x[:, self.numeric]
        lost = values.isnan()
        cells = [values.masked_fill(lost, 0.0), lost.to(x.dtype)]
        if self.one_hot:
            codes = x[:, self.categorical]  # (B, C)
            missing, unseen = codes.isnan(), codes == 0
            slot = codes.masked_fill(missing, 0.0).long() + (self.first - 2 * len(self.numeric))
            one_hot = x.new_zeros(len(x), self.one_hot)
            cells.append(one_hot.scatter_(1, slot, (~unseen).to(x.dtype)))
        return torch.cat(cells, dim=1)

    def linear(self, out: int) -> nn.Linear:
        """A linear layer on these vectors, whose weights for missing cells start at zero."""
        layer = nn.Linear(self.dim, out)
        with torch.no_grad():
            layer.weight[:, self.indicators] = 0.0
        return layer


class CellTokens(nn.Module):
    """A token for each cell: ``(B, M)`` to ``(B, M, D)`` (Gorishniy et al., NeurIPS 2021, arXiv 2106.11959).

    Every column has a vector of its own, its position, to which the content of the cell is added: a category's vector,
    or that of a number by one of

    - ``"linear"``: the number times a vector;
    - ``"periodic"``: sines and cosines of learnt frequencies, a linear layer and ReLU (PLR);
    - ``"piecewise"``: how far it lies across each of ``bins`` intervals, and a linear layer (PLE). The intervals are
      equally likely under a standard normal distribution, which is what quantile scaling makes of every column.

    The last two are of Gorishniy et al., NeurIPS 2022 (arXiv 2203.05556).

    Args:
        cardinalities: for each column the size of its vocabulary, 0 for a numeric one.
        dim: D.
        numeric: see above.
        frequencies: of a column, for ``"periodic"``.
        scale: standard deviation of the initial frequencies.
        bins: for ``"piecewise"``.
    """

    numeric: Tensor
    categorical: Tensor
    cardinality: Tensor
    first: Tensor
    order: Tensor
    edges: Tensor

    def __init__(
        self,
        cardinalities: Sequence[int],
        dim: int,
        *,
        numeric: Numeric = "linear",
        frequencies: int = 16,
        scale: float = 0.1,
        bins: int = 16,
    ) -> None:
        super().__init__()
        if numeric not in ("linear", "periodic", "piecewise"):
            raise ValueError(f"numeric must be 'linear', 'periodic' or 'piecewise', got {numeric!r}")
        _register_columns(self, cardinalities)
        n, sizes = len(self.numeric), [k + 2 for k in cardinalities if k]  # MISSING, UNSEEN, then the vocabulary
        starts = torch.tensor([sum(sizes[:i]) for i in range(len(sizes))], dtype=torch.int64)
        self.register_buffer("first", starts, persistent=False)
        self.register_buffer("order", torch.cat([self.numeric, self.categorical]).argsort(), persistent=False)
        self.kind, self.dim = numeric, dim
        bound = dim**-0.5
        self.position = nn.Parameter(torch.empty(len(cardinalities), dim).uniform_(-bound, bound))
        self.missing = nn.Parameter(torch.zeros(n, dim))
        self.categories = nn.Parameter(torch.empty(sum(sizes), dim).uniform_(-bound, bound))
        with torch.no_grad():
            self.categories[torch.cat([starts, starts + 1])] = 0.0
        features = {"linear": 1, "periodic": 2 * frequencies, "piecewise": bins}[numeric]
        bound = (dim if numeric == "linear" else features) ** -0.5
        self.weight = nn.Parameter(torch.empty(n, features, dim).uniform_(-bound, bound))
        if numeric == "periodic":
            self.frequency = nn.Parameter(scale * torch.randn(n, frequencies))
            self.bias = nn.Parameter(torch.empty(n, dim).uniform_(-bound, bound))
        if numeric == "piecewise":
            quantiles = [NormalDist().inv_cdf(max(0.001, min(t / bins, 0.999))) for t in range(bins + 1)]
            self.register_buffer("edges", torch.tensor(quantiles), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        values = x[:, self.numeric]  # (B, n)
        lost = values.isnan()
        content = self._numbers(values.masked_fill(lost, 0.0))  # (B, n, D)
        content = torch.where(lost[..., None], self.missing, content)
        codes = x[:, self.categorical]
        slot = codes.add(1.0).nan_to_num(nan=0.0).long() + self.first  # (B, C)
        content = torch.cat([content, nn.functional.embedding(slot, self.categories)], dim=1)
        return content[:, self.order] + self.position

    def _numbers(self, values: Tensor) -> Tensor:
        """``(B, n)`` to ``(B, n, D)``."""
        if self.kind == "linear":
            return values[..., None] * self.weight[:, 0]
        if self.kind == "periodic":
            angle = 2 * math.pi * self.frequency * values[..., None]
            features = torch.cat([angle.cos(), angle.sin()], dim=-1)  # (B, n, 2k)
            return (torch.einsum("bnk,nkd->bnd", features, self.weight) + self.bias).relu()
        across = (values[..., None] - self.edges[:-1]) / self.edges.diff()
        low = torch.full_like(self.edges[1:], 0.0)
        low[0] = -math.inf  # beyond the outermost intervals the encoding goes on
        high = torch.full_like(low, 1.0)
        high[-1] = math.inf
        return torch.einsum("bnk,nkd->bnd", across.clamp(low, high), self.weight)


def _register_columns(module: nn.Module, cardinalities: Sequence[int]) -> None:
    """Which columns are numeric, which categorical, and how many categories each has, as buffers."""
    if not cardinalities or min(cardinalities) < 0:
        raise ValueError(f"cardinalities must be one number of categories a column, 0 for numeric, got {cardinalities}")
    module.register_buffer("cardinality", torch.tensor(list(cardinalities), dtype=torch.int64), persistent=False)
    for name, wanted in (("numeric", False), ("categorical", True)):
        columns = [j for j, k in enumerate(cardinalities) if bool(k) == wanted]
        module.register_buffer(name, torch.tensor(columns, dtype=torch.int64), persistent=False)
