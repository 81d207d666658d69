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

    Args:
        train: ``(N, M)`` model input, NaN for missing.

    Raises:
        ValueError: a column without any value.
    """

    def __init__(self, train: Tensor) -> None:
        lost = train.isnan()
        counts = len(train) - lost.sum(dim=0)
        if bool((counts == 0).any()):
            raise ValueError(f"column {int((counts == 0).int().argmax())} of the training rows holds no value")
        self.complete = not bool(lost.any())
        self.packed = train if self.complete else train.gather(0, lost.to(torch.uint8).argsort(dim=0, stable=True))
        self.counts = counts
        self.column = torch.arange(train.shape[1], device=train.device)

    @property
    def columns(self) -> int:
        return self.packed.shape[1]

    def sample(self, rows: int, device: torch.device) -> Tensor:
        """``(rows, M)``, every cell an observed one of its column, drawn uniformly and for itself."""
        if self.packed.device != device:
            self.packed, self.counts = self.packed.to(device), self.counts.to(device)
            self.column = self.column.to(device)
        shape = (rows, self.columns)
        if self.complete:
            row = torch.randint(len(self.packed), shape, device=device)
        else:
            row = (torch.rand(shape, device=device, dtype=torch.float64) * self.counts).long()
        cell = row.mul_(self.columns).add_(self.column)  # a flat gather takes a third of the time of one by two indices
        return self.packed.reshape(-1).index_select(0, cell.view(-1)).view(shape)


class Subsets:
    """Subsets of a fixed size, drawn uniformly.

    Where they are few they are listed beforehand, and a draw is one gather; else the largest random numbers decide.

    Args:
        size: M.
        count: of the M that are in a subset.
    """

    def __init__(self, size: int, count: int) -> None:
        self.size, self.count = size, count
        self.table: Tensor | None = None
        if (subsets := math.comb(size, count)) <= SUBSETS:
            index = torch.tensor(list(combinations(range(size), count)), dtype=torch.int64).view(subsets, count)
            self.table = torch.zeros(subsets, size, dtype=torch.bool).scatter_(1, index, True)

    def draw(self, rows: int, device: torch.device) -> Tensor:
        """``(rows, M)`` bool, True for the members."""
        if self.table is None:
            index = torch.rand(rows, self.size, device=device).topk(self.count, dim=1, sorted=False).indices
            return torch.zeros(rows, self.size, dtype=torch.bool, device=device).scatter_(1, index, True)
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
        chosen = self.subsets.draw(len(x), x.device) & ~x.isnan()
        return [x, torch.where(chosen, self.marginals.sample(len(x), x.device), x)]


def corrupted_columns(corruption: float, columns: int) -> int:
    """⌊c · M⌋, for the c that was meant: .29 · 100 is 28.999999999999996 in floating point."""
    return math.floor(corruption * columns + 1e-9)


def permuted(x: Tensor) -> Tensor:
    """Every column ``(B, M)`` in a random order of its own: VIME's draw from the marginals."""
    return x.gather(0, torch.rand_like(x).argsort(dim=0))


def swap_masked(x: Tensor, other: Tensor, rate: float) -> Tensor:
    """``x`` with each cell taken from ``other`` with probability ``rate``, where both have one; ``(B, M)`` all."""
    chosen = (torch.rand_like(x) < rate) & ~x.isnan() & ~other.isnan()
    return torch.where(chosen, other, x)
