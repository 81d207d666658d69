"""Batches of windows whose rows are read while earlier batches are being learnt from."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmssl.timeseries.batches import centred
from mmssl.timeseries.streamed import Floats, Index, StreamedWindows

POOL_BYTES = 256 << 20  # of the pieces that are shuffled together; twice as much is in memory, to read ahead


class StreamedSource:
    """Windows of a Parquet folder as batches of tensors ``(B, T, C)``.

    An epoch takes the pieces in a random order. So many of them as make a pool are read, and their windows come
    shuffled; meanwhile the pieces of the next pool are read. The order depends on the seed alone, so a run that is
    resumed in the middle of an epoch gets the same batches.

    Args:
        windows: standardised.
        pool: bytes of the values that are shuffled together.
    """

    def __init__(self, windows: StreamedWindows, *, pool: int = POOL_BYTES) -> None:
        self.windows = windows
        self.length = windows.length
        self.pool = min(max(1, pool // windows.pieces.bytes), len(windows.pieces))  # pieces
        self.ragged = bool((windows.lengths < self.length).any())

    def __len__(self) -> int:
        return len(self.windows)

    def fetch(self, index: Index) -> Tensor:
        """Any windows; reads what it needs, so it is quick only for few or neighbouring ones."""
        order = np.argsort(index, kind="stable")  # piece by piece
        x = np.empty((len(index), self.length, len(self.windows.series.channels)), dtype=np.float32)
        x[order] = self.windows.fetch(index[order], self.length)
        return self._batch(x, index)

    def order(self, rng: np.random.Generator, part: int, parts: int) -> Index:
        """The windows of one epoch for one of several ranks, which read different pieces.

        Args:
            rng: in the same state on all ranks.
            part: number of the rank.
            parts: how many there are.
        """
        pieces, first, counts = np.unique(self.windows.piece, return_index=True, return_counts=True)
        shuffled = rng.permutation(len(pieces))
        owner = np.repeat(shuffled, counts[shuffled])
        order = np.concatenate([np.arange(first[i], first[i] + counts[i]) for i in shuffled])
        share = len(order) // parts
        mine = slice(part * share, (part + 1) * share)
        order, owner = order[mine], owner[mine]
        nth = np.cumsum(np.diff(owner, prepend=owner[:1]) != 0) // self.pool  # pool of each window
        ends = np.flatnonzero(np.diff(nth)) + 1
        return np.concatenate([rng.permutation(pool) for pool in np.split(order, ends)])

    def read_ahead(self, order: Iterator[Index], workers: int) -> Iterator[Tensor]:
        """The batches of ``order``, the pieces of two pools in memory at most.

        Args:
            order: batches of windows from `order`, epoch after epoch.
            workers: threads that read, one at least.
        """
        with ThreadPoolExecutor(max(1, workers), thread_name_prefix="pieces") as readers:
            shelf = _Shelf(self.windows.load, readers)
            for index, pieces in self._looking_ahead(order, shelf):
                x = self.windows.gather(index, shelf.get, self.length)
                shelf.give_back(pieces)
                yield self._batch(x, index)

    def _looking_ahead(self, order: Iterator[Index], shelf: _Shelf) -> Iterator[tuple[Index, list[int]]]:
        """The batches with their pieces, after those of later batches were asked for, as far as there is room."""
        queue: deque[tuple[Index, list[int]]] = deque()
        room = 2 * self.pool
        most = room * int(np.unique(self.windows.piece, return_counts=True)[1].max())  # windows known of at a time
        known = 0
        for index in order:
            pieces = np.unique(self.windows.piece[index]).tolist()
            while queue and (known + len(index) > most or shelf.would_hold(pieces) > room):
                known -= len(queue[0][0])
                yield queue.popleft()
            shelf.ask_for(pieces)
            queue.append((index, pieces))
            known += len(index)
        yield from queue

    def _batch(self, x: npt.NDArray[np.float32], index: Index) -> Tensor:
        batch = torch.from_numpy(x)
        return centred(batch, self.windows.lengths[index]) if self.ragged else batch


class _Shelf:
    """Pieces that are in memory, or being read, for as long as a batch that is known of needs them.

    Args:
        load: reads a piece.
        readers: threads to do it.
    """

    def __init__(self, load: Callable[[int], Floats], readers: ThreadPoolExecutor) -> None:
        self.load = load
        self.readers = readers
        self.held: dict[int, Future[Floats]] = {}
        self.wanted: Counter[int] = Counter()

    def would_hold(self, pieces: list[int]) -> int:
        """How many pieces there would be with these."""
        return len(self.held) + sum(piece not in self.held for piece in pieces)

    def ask_for(self, pieces: list[int]) -> None:
        for piece in pieces:
            if piece not in self.held:
                self.held[piece] = self.readers.submit(self.load, piece)
        self.wanted.update(pieces)

    def get(self, piece: int) -> Floats:
        return self.held[piece].result()

    def give_back(self, pieces: list[int]) -> None:
        self.wanted.subtract(pieces)
        for piece in pieces:
            if not self.wanted[piece]:
                del self.held[piece], self.wanted[piece]
