"""Samples of files that are larger than memory: which pieces are shuffled together, and reading them before their turn.

An epoch takes the pieces in a random order. So many of them as make a pool are read, and their samples come shuffled;
meanwhile the pieces of the next pool are read. The order depends on the seed alone, so a run that is resumed in the
middle of an epoch gets the same batches.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Index = npt.NDArray[np.integer[Any]]


@runtime_checkable
class InPieces(Protocol):
    """A `mmssl.train.batches.Source` that reads a piece of its files at a time, such as a row group."""

    @property
    def first(self) -> Index: ...  # (pieces + 1,), sample with which each piece begins, and the number of samples

    @property
    def pool(self) -> int: ...  # pieces whose samples are shuffled together; twice as many are in memory

    def load(self, piece: int) -> Any: ...  # called by several threads

    def gather(self, index: Index, loaded: Callable[[int], Any]) -> Any: ...  # a batch, from pieces that are loaded


def pooled_order(source: InPieces, rng: np.random.Generator, part: int, parts: int) -> Index:
    """The samples of one epoch for one of several ranks, which read different pieces.

    Args:
        source: the data.
        rng: in the same state on all ranks.
        part: number of the rank.
        parts: how many there are.
    """
    first = source.first
    pieces = rng.permutation(len(first) - 1)
    share = int(first[-1]) // parts
    skip = part * share  # of the samples in this order of the pieces, those before are other ranks'
    order: Index = np.empty(share, dtype=np.int32 if first[-1] < 2**31 else np.int64)
    filled = 0
    for pool in np.split(pieces, range(source.pool, len(pieces), source.pool)):
        begin = filled
        for piece in pool:
            low, high = int(first[piece]), int(first[piece + 1])
            low, skip = min(low + skip, high), max(skip - (high - low), 0)
            high = min(high, low + share - filled)
            order[filled : filled + high - low] = np.arange(low, high)
            filled += high - low
        rng.shuffle(order[begin:filled])
    return order


def read_ahead(source: InPieces, order: Iterator[Index], workers: int) -> Iterator[Any]:
    """The batches of ``order``, the pieces of two pools in memory at most.

    Args:
        source: the data.
        order: batches of samples from `pooled_order`, epoch after epoch.
        workers: threads that read, one at least.
    """
    readers = ThreadPoolExecutor(max(1, workers), thread_name_prefix="pieces")
    shelf = _Shelf(source.load, readers)
    try:
        for index, pieces in _looking_ahead(source, order, shelf):
            batch = source.gather(index, shelf.get)
            shelf.give_back(pieces)
            yield batch
    finally:
        readers.shutdown(cancel_futures=True)


def _looking_ahead(source: InPieces, order: Iterator[Index], shelf: _Shelf) -> Iterator[tuple[Index, list[int]]]:
    """The batches with their pieces, after those of later batches were asked for, as far as there is room."""
    queue: deque[tuple[Index, list[int]]] = deque()
    room = 2 * min(source.pool, len(source.first) - 1)
    most = room * int(np.diff(source.first).max())  # samples known of at a time
    known = 0
    for index in order:
        pieces = np.unique(np.searchsorted(source.first, index, side="right") - 1).tolist()
        while queue and (known + len(index) > most or shelf.would_hold(pieces) > room):
            known -= len(queue[0][0])
            yield queue.popleft()
        shelf.ask_for(pieces)
        queue.append((index, pieces))
        known += len(index)
    yield from queue


class _Shelf:
    """Pieces that are in memory, or being read, for as long as a batch that is known of needs them.

    Args:
        load: reads a piece.
        readers: threads to do it.
    """

    def __init__(self, load: Callable[[int], Any], readers: ThreadPoolExecutor) -> None:
        self.load = load
        self.readers = readers
        self.held: dict[int, Future[Any]] = {}
        self.wanted: Counter[int] = Counter()

    def would_hold(self, pieces: list[int]) -> int:
        """How many pieces there would be with these."""
        return len(self.held) + sum(piece not in self.held for piece in pieces)

    def ask_for(self, pieces: list[int]) -> None:
        for piece in pieces:
            if piece not in self.held:
                self.held[piece] = self.readers.submit(self.load, piece)
        self.wanted.update(pieces)

    def get(self, piece: int) -> Any:
        return self.held[piece].result()

    def give_back(self, pieces: list[int]) -> None:
        self.wanted.subtract(pieces)
        for piece in pieces:
            if not self.wanted[piece]:
                del self.held[piece], self.wanted[piece]
