"""Rows of files that are larger than memory: the blocks of the files, for `mmssl.train.pools`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmssl.tabular.data import read_tables
from mmssl.tabular.preprocess import TablePreprocessor
from mmssl.tabular.tables import Table
from mmssl.tabular.tableset import Floats

Index = npt.NDArray[np.integer]
POOL_CELLS = 1 << 24  # that are shuffled together: 64 MiB; twice as much is in memory, to read ahead


class TableStream:
    """Model input as batches ``(B, M)``, read a block of the files at a time.

    Args:
        blocks: that are learnt from.
        preprocessor: fitted on some of their rows.
        missing: texts that stand for an empty cell.
        pool: cells that are shuffled together, of one block at least.
    """

    def __init__(
        self,
        blocks: Sequence[Table],
        preprocessor: TablePreprocessor,
        *,
        missing: Sequence[str],
        pool: int = POOL_CELLS,
    ) -> None:
        self.blocks, self.preprocessor, self.missing = blocks, preprocessor, missing
        counts = [block.rows or 0 for block in blocks]
        self.first = np.concatenate([[0], np.cumsum(counts)])  # row with which each block begins
        self.pool = max(1, pool // (max(counts) * len(preprocessor.fitted)))  # blocks

    def __len__(self) -> int:
        return int(self.first[-1])

    def load(self, piece: int) -> Floats:
        """The rows of a block."""
        columns = self.preprocessor.columns
        return self.preprocessor(read_tables([self.blocks[piece]], missing=self.missing, columns=columns))

    def fetch(self, index: Index) -> Tensor:
        """Any rows; reads every block that they are in, so it is quick only for neighbouring ones."""
        return self.gather(index, self.load)

    def gather(self, index: Index, loaded: Callable[[int], Floats]) -> Tensor:
        """The batch of these rows, from blocks that are loaded."""
        out = np.empty((len(index), len(self.preprocessor.fitted)), dtype=np.float32)
        owner = np.searchsorted(self.first, index, side="right") - 1
        for block in np.unique(owner).tolist():
            mine = owner == block
            out[mine] = loaded(block)[index[mine] - self.first[block]]
        return torch.from_numpy(out)
