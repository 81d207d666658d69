"""SCARF's two views of a batch of rows: one gather on the device against a row at a time, as data loaders do it.

The rows are like Adult's: 48,842 of 14 columns, six numbers and eight categories. The peer is a data set that corrupts
the row that it is asked for (a subset of the columns, and for each of them the cell of a random row), and a collation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from benchmarks.authors import paired
from mmssl.tabular.augment import Marginals, ScarfViews, corrupted_columns

ADULT = (0, 9, 0, 16, 0, 7, 15, 6, 5, 2, 0, 0, 0, 42)  # categories of each column, 0 for a number
ROWS, CORRUPTION = 48_842, 0.6
BATCHES = (128, 1_024)
REPEATS = 100


def measure() -> list[dict[str, Any]]:
    """One row a batch size."""
    x = adult_like()
    views, peer = ScarfViews(Marginals(x), CORRUPTION), RowByRow(x.numpy())
    return [_one(x, views, peer, batch) for batch in BATCHES]


def adult_like(rows: int = ROWS) -> Tensor:
    """Model input ``(rows, 14)`` with Adult's columns, drawn at random."""
    draw = torch.Generator().manual_seed(0)
    columns = [
        torch.randint(1, k + 1, (rows,), generator=draw).float() if k else torch.randn(rows, generator=draw)
        for k in ADULT
    ]
    return torch.stack(columns, dim=1)


class RowByRow(Dataset[tuple[Tensor, Tensor]]):
    """A row and its corruption, one at a time."""

    def __init__(self, x: npt.NDArray[np.float32]) -> None:
        self.x = x
        self.rng = np.random.default_rng(0)
        self.corrupted = corrupted_columns(CORRUPTION, x.shape[1])

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        row = self.x[i]
        other = row.copy()
        columns = self.rng.choice(self.x.shape[1], self.corrupted, replace=False)
        other[columns] = self.x[self.rng.integers(len(self.x), size=self.corrupted), columns]
        return torch.from_numpy(row), torch.from_numpy(other)


def _one(x: Tensor, views: ScarfViews, peer: RowByRow, batch: int) -> dict[str, Any]:
    index = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))[:batch]
    rows = index.tolist()
    contenders: dict[str, Callable[[], object]] = {
        "rows": lambda: torch.utils.data.default_collate([peer[i] for i in rows]),
        "batch": lambda: views(x[index]),
    }
    best = paired(contenders, repeats=REPEATS)
    return {
        "what": f"two SCARF views of {batch:,} rows of {len(ADULT)} columns",
        "peer": "a row at a time, numpy",
        "peer_ms": 1e3 * best["rows"],
        "mmssl_ms": 1e3 * best["batch"],
        "ratio": best["rows"] / best["batch"],
        "mmssl_rows_per_second": batch / best["batch"],
    }


if __name__ == "__main__":
    for row in measure():
        print(row)
