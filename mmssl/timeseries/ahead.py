"""Windows of a Parquet folder as batches: the pieces of its files, for `mmssl.train.pools`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmssl.timeseries.batches import centred
from mmssl.timeseries.streamed import Floats, StreamedWindows

Index = npt.NDArray[np.integer]
POOL_BYTES = 256 << 20  # of the pieces that are shuffled together; twice as much is in memory, to read ahead


class StreamedSource:
    """Windows of a Parquet folder as batches of tensors ``(B, T, C)``, read a piece at a time.

    Args:
        windows: standardised.
        pool: bytes of the values that are shuffled together.
    """

    def __init__(self, windows: StreamedWindows, *, pool: int = POOL_BYTES) -> None:
        self.windows = windows
        self.length = windows.length
        self.pieces, first = np.unique(windows.piece, return_index=True)  # those that have windows
        self.first = np.append(first, len(windows))
        self.pool = max(1, pool // windows.pieces.bytes)
        self.ragged = bool((windows.lengths < self.length).any())

    def __len__(self) -> int:
        return len(self.windows)

    def fetch(self, index: Index) -> Tensor:
        """Any windows; reads what it needs, so it is quick only for few or neighbouring ones."""
        return self._batch(index, self.windows.load)

    def load(self, piece: int) -> Floats:
        """The rows of a piece ``(rows, C)``."""
        return self.windows.load(int(self.pieces[piece]))

    def gather(self, index: Index, loaded: Callable[[int], Floats]) -> Tensor:
        """The batch of these windows, from pieces that are loaded."""
        return self._batch(index, lambda piece: loaded(int(np.searchsorted(self.pieces, piece))))

    def _batch(self, index: Index, rows_of: Callable[[int], Floats]) -> Tensor:
        batch = torch.from_numpy(self.windows.gather(index, rows_of, self.length))
        return centred(batch, self.windows.lengths[index]) if self.ragged else batch
