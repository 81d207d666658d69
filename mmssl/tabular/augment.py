"""Corrupted rows: cells replaced by what the same column holds in other rows. Missing cells take no part.

A missing cell is never replaced, and never what another is replaced by: a corruption changes values, not what is known
of a row. So marginals are those of the observed cells of the training rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import combinations

import torch
from torch import Tensor

SUBSETS = 2**16  # of columns that are listed beforehand, where there are no more


class Marginals:
    """The empirical marginal distribution of every column of the training rows.

    Where no cell is missing it is the training rows themselves, not a copy; else each column is packed, observed cells
    first. Either way a draw for a whole batch is one gather. The rows follow the first batch to its device. They are no
    buffers of a module: no checkpoint wants them, and ranks would send them to each other in every step.

    A column without any value has nothing to give but a missing cell. There are such columns where these rows are some
    of those that the scales are fitted on.

    Args:
        train: ``(N, M)`` model input, NaN for missing.
    """

    def __init__(self, train: Tensor) -> None:
        lost = train.isnan()
        self.complete = not bool(lost.any())
        self.packed = train if self.complete else train.gather(0, lost.to(torch.uint8).argsort(dim=0, stable=True))
        self.counts = (~lost).sum(dim=0).clamp(min=1)

    @property
    def columns(self) -> int:
        return self.packed.shape[1]

    def sample(self, columns: Tensor) -> Tensor:
        """``(B, k)``, every cell an observed one of its column if it has any, drawn uniformly and for itself.

        Args:
            columns: ``(B, k)`` int64, which they are.
        """
        if self.packed.device != columns.device:
            self.packed, self.counts = self.packed.to(columns.device), self.counts.to(columns.device)
        if self.complete:
            row = torch.randint(len(self.packed), columns.shape, device=columns.device)
        else:
            counts = self.counts.take(columns)
            row = (torch.rand(columns.shape, device=columns.device, dtype=torch.float64) * counts).long()
        cell = torch.add(columns, row, alpha=self.columns)
        # of a flat view: a gather by two indices takes three times as long
        return self.packed.reshape(-1).index_select(0, cell.view(-1)).view(columns.shape)


class Subsets:
    """Subsets of a fixed size, drawn uniformly.

    Where they are few they are listed beforehand, and a draw is one gather; else the largest random numbers decide.

    Args:
        size: M.
        count: k, of the M that are in a subset.
    """

    def __init__(self, size: int, count: int) -> None:
        self.size, self.count = size, count
        self.table: Tensor | None = None
        if (subsets := math.comb(size, count)) <= SUBSETS:
            self.table = torch.tensor(list(combinations(range(size), count)), dtype=torch.int64).view(subsets, count)

    def draw(self, rows: int, device: torch.device) -> Tensor:
        """``(rows, k)`` int64, the members."""
        if self.table is None:
            return torch.rand(rows, self.size, device=device).topk(self.count, dim=1, sorted=False).indices
        if self.table.device != device:
            self.table = self.table.to(device)
        return self.table.index_select(0, torch.randint(len(self.table), (rows,), device=device))


@dataclass(frozen=True)
class ScarfViews:
    """Two views of a row: itself, and itself with exactly ⌊c · M⌋ of its columns drawn anew from their marginals.

    Which columns is drawn for every row. Where one of them is missing in the row it stays missing, so that of the
    observed cells a share of c is replaced on average.

    Args:
        marginals: of the training rows.
        corruption: c; 0 leaves the second view as it is.
    """

    marginals: Marginals = field(repr=False)
    corruption: float = 0.6
    subsets: Subsets = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.corruption <= 1:
            raise ValueError(f"corruption must lie between 0 and 1, got {self.corruption}")
        columns = self.marginals.columns
        object.__setattr__(self, "subsets", Subsets(columns, corrupted_columns(self.corruption, columns)))

    def __call__(self, x: Tensor) -> list[Tensor]:
        """``(B, M)`` to the clean and the corrupted view."""
        chosen = self.subsets.draw(len(x), x.device)  # (B, k)
        corrupted = x.scatter(1, chosen, self.marginals.sample(chosen))
        return [x, corrupted.add_(x, alpha=0.0)]  # 0 times NaN is NaN: what is missing stays missing


def corrupted_columns(corruption: float, columns: int) -> int:
    """⌊c · M⌋, for the c that was meant: .29 · 100 is 28.999999999999996 in floating point."""
    return math.floor(corruption * columns + 1e-9)


def permuted(x: Tensor) -> Tensor:
    """The observed cells of every column ``(B, M)`` in a random order of its own: VIME's draw from the marginals.

    They change places among themselves; what stands where a cell is missing means nothing.
    """
    lost = x.isnan()
    order = torch.rand_like(x).masked_fill(lost, 2.0).argsort(dim=0)  # rows of observed cells, then of missing ones
    place = (~lost).cumsum(dim=0).sub(1).clamp(min=0)  # of each observed cell, among the observed
    return x.gather(0, order.gather(0, place))


def swap_masked(x: Tensor, other: Tensor, rate: float) -> Tensor:
    """``x`` with each cell taken from ``other`` with probability ``rate``, where both have one; ``(B, M)`` all."""
    chosen = (torch.rand_like(x) < rate) & ~x.isnan() & ~other.isnan()
    return torch.where(chosen, other, x)
