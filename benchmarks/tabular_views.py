"""SCARF's two views of a batch of rows: one gather on the device against a row at a time, as data loaders do it.

The rows are like Adult's: 48,842 of 14 columns, six numbers and eight categories. The peers are data sets that corrupt
the row that they are asked for (a subset of the columns, and for each of them the cell of a random row), and a
collation: ts3l's, where it is installed, and the shortest one in numpy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from benchmarks import tabular_peer
from benchmarks.authors import paired
from mmssl.tabular.augment import Marginals, ScarfViews, corrupted_columns
from mmssl.tabular.dataset import TableSource

ADULT = (0, 9, 0, 16, 0, 7, 15, 6, 5, 2, 0, 0, 0, 42)  # categories of each column, 0 for a number
ROWS, CORRUPTION = 48_842, 0.6
BATCHES = (128, 1_024)
REPEATS, STRETCH = 100, 20  # turns, and batches of ours in a turn: one alone would be timed with cold caches


def measure() -> list[dict[str, Any]]:
    """One row a batch size and peer."""
    x = adult_like()
    peers: dict[str, Dataset[tuple[Tensor, Tensor]]] = {"a row at a time, numpy": RowByRow(x.numpy())}
    if tabular_peer.installed():
        peers["ts3l's data set"] = tabular_peer.row_by_row(x)
    return [row for batch in BATCHES for row in _one(x, peers, batch)]


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


def _one(x: Tensor, peers: dict[str, Dataset[tuple[Tensor, Tensor]]], batch: int) -> list[dict[str, Any]]:
    index = np.random.default_rng(1).permutation(len(x))[:batch]
    views, source = ScarfViews(Marginals(x), CORRUPTION), TableSource(x)

    def ours() -> None:
        for _ in range(STRETCH):
            views(source.fetch(index))

    def collated(peer: Dataset[tuple[Tensor, Tensor]]) -> Callable[[], object]:
        return lambda: torch.utils.data.default_collate([peer[i] for i in index])

    best = paired({"mmssl": ours} | {name: collated(peer) for name, peer in peers.items()}, repeats=REPEATS)
    mine = best.pop("mmssl") / STRETCH
    return [
        {
            "what": f"two SCARF views of {batch:,} rows of {len(ADULT)} columns",
            "peer": peer,
            "peer_ms": 1e3 * seconds,
            "mmssl_ms": 1e3 * mine,
            "ratio": seconds / mine,
            "mmssl_rows_per_second": batch / mine,
        }
        for peer, seconds in best.items()
    ]


if __name__ == "__main__":
    for row in measure():
        print(row)
