"""Rows of files that are larger than memory, shuffled a pool of blocks at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmssl.tabular.data import read_tables
from mmssl.tabular.preprocess import TablePreprocessor
from mmssl.tabular.tables import Table
from mmssl.tabular.tableset import Floats

Index = npt.NDArray[np.integer]
POOL_CELLS = 1 << 24  # that are shuffled together: 64 MiB


class TableStream:
    """Model input as batches ``(B, M)``, read from the files when they are needed.

    An epoch takes the blocks in a random order. So many of them as make a pool are read, and their rows come shuffled.
    The order depends on the seed alone, so a run that is resumed in the middle of an epoch gets the same batches.

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

    def load(self, block: int) -> Floats:
        """The rows of a block."""
        columns = self.preprocessor.columns
        return self.preprocessor(read_tables([self.blocks[block]], missing=self.missing, columns=columns))

    def fetch(self, index: Index) -> Tensor:
        """Any rows; reads every block that they are in, so it is quick only for neighbouring ones."""
        return next(self.read_ahead(iter([index]), workers=0))

    def order(self, rng: np.random.Generator, part: int, parts: int) -> Index:
        """The rows of one epoch for one of several ranks, which read different blocks.

        Args:
            rng: in the same state on all ranks.
            part: number of the rank.
            parts: how many there are.
        """
        blocks = rng.permutation(len(self.blocks))
        share = len(self) // parts
        skip = part * share  # of the rows in this order of the blocks, those before are other ranks'
        order: Index = np.empty(share, dtype=np.int32 if len(self) < 2**31 else np.int64)
        filled = 0
        for pool in np.split(blocks, range(self.pool, len(blocks), self.pool)):
            begin = filled
            for block in pool:
                low, high = self.first[block], self.first[block + 1]
                low, skip = min(low + skip, high), max(skip - (high - low), 0)
                high = min(high, low + share - filled)
                order[filled : filled + high - low] = np.arange(low, high)
                filled += int(high - low)
            rng.shuffle(order[begin:filled])
        return order

    def read_ahead(self, order: Iterator[Index], workers: int) -> Iterator[Tensor]:
        """The batches of ``order``, whose blocks are in memory, a pool of them at most, until the next pool begins.

        Args:
            order: batches of rows from `order`, epoch after epoch.
            workers: threads that read, one at least.
        """
        held: OrderedDict[int, Floats] = OrderedDict()
        with ThreadPoolExecutor(max(1, workers), thread_name_prefix="blocks") as readers:
            for index in order:
                out = np.empty((len(index), len(self.preprocessor.fitted)), dtype=np.float32)
                owner = np.searchsorted(self.first, index, side="right") - 1
                blocks = np.unique(owner).tolist()
                lacking = [block for block in blocks if block not in held]
                for block in blocks:
                    if block in held:
                        self._gather(out, index, owner, block, held[block])
                while held and len(held) + len(lacking) > self.pool:
                    held.popitem(last=False)
                for block, rows in zip(lacking, readers.map(self.load, lacking), strict=True):
                    held[block] = rows
                    self._gather(out, index, owner, block, rows)
                yield torch.from_numpy(out)

    def _gather(self, out: Floats, index: Index, owner: Index, block: int, rows: Floats) -> None:
        mine = owner == block
        out[mine] = rows[index[mine] - self.first[block]]
