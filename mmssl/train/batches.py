"""Which samples make up which batch: a function of the seed and the batch's number, so that a resumed run agrees."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Sampler

from mmssl.core.distributed import rank, world_size
from mmssl.train.pools import InPieces, pooled_order, read_ahead

Index = npt.NDArray[np.int64]


class Source(Protocol):
    """Data that gives whole batches."""

    def __len__(self) -> int: ...

    def fetch(self, index: Index) -> Any: ...  # the batch of the samples at these positions


@runtime_checkable
class ReadAhead(Source, Protocol):
    """Data that is read from files in an order of its own, before it is needed."""

    def order(self, rng: np.random.Generator, part: int, parts: int) -> Index:
        """The samples of one epoch for one rank of several: ``len // parts`` of them, none twice, at random."""

    def read_ahead(self, order: Iterator[Index], workers: int) -> Iterator[Any]:
        """The batches of these samples, read by so many threads."""


class ShuffledBatches:
    """Endless batches, reshuffled every epoch; an incomplete last batch of an epoch is left out.

    Calling it with the number of batches to leave out gives an iterator that goes on from there.

    Args:
        source: the data. Fetched in this process without workers, which is fastest for arrays in memory. One that can
            `ReadAhead` decides on the order; data that is `InPieces` is shuffled a pool of them at a time.
        batch_size: samples of a batch over all ranks; every rank gets an equal part. Smaller if there are
            fewer samples.
        seed: of the shuffling, the same on all ranks.
        workers: processes that fetch ahead, for data that has to be read or decoded; threads with these two.
        pin_memory: put batches of workers into page-locked memory, for a GPU.
    """

    def __init__(
        self, source: Source, *, batch_size: int, seed: int = 0, workers: int = 0, pin_memory: bool = False
    ) -> None:
        if len(source) < world_size():
            raise ValueError(f"{len(source)} samples are too few for {world_size()} processes")
        if batch_size < world_size() or batch_size % world_size():
            raise ValueError(f"batch_size={batch_size} must be a multiple of the number of processes, {world_size()}")
        self.source = source
        self.per_rank = min(batch_size, len(source)) // world_size()
        self.seed = seed
        self.workers = workers
        self.pin_memory = pin_memory

    @property
    def batch_size(self) -> int:
        """Samples of a batch over all ranks."""
        return self.per_rank * world_size()

    def __call__(self, first: int = 0) -> Iterator[Any]:
        if isinstance(self.source, ReadAhead):
            order = _Order(len(self.source), self.per_rank, self.seed, first, self.source.order)
            return self.source.read_ahead(iter(order), self.workers)
        if isinstance(self.source, InPieces):
            order = _Order(len(self.source), self.per_rank, self.seed, first, partial(pooled_order, self.source))
            return read_ahead(self.source, iter(order), self.workers)
        order = _Order(len(self.source), self.per_rank, self.seed, first)
        if self.workers == 0:
            return map(self.source.fetch, order)
        loader = DataLoader(
            _Fetching(self.source),
            sampler=order,
            batch_size=None,
            num_workers=self.workers,
            pin_memory=self.pin_memory,
            generator=torch.Generator().manual_seed(self.seed),  # leaves the global generator alone
        )
        return iter(loader)


class _Order(Sampler[Index]):
    """This rank's positions, batch after batch, from batch number ``first`` on."""

    def __init__(
        self,
        n: int,
        per_rank: int,
        seed: int,
        first: int,
        order: Callable[[np.random.Generator, int, int], npt.NDArray[Any]] | None = None,
    ) -> None:
        self.n, self.per_rank, self.seed, self.first = n, per_rank, seed, first
        self.order = order

    def __iter__(self) -> Iterator[Index]:
        total = self.per_rank * world_size()
        epoch, batch = divmod(self.first, self.n // total)
        while True:
            rng = np.random.default_rng([self.seed, epoch])
            if self.order is None:  # each batch is shared out
                shuffled, step, skip = rng.permutation(self.n), total, rank() * self.per_rank
            else:
                shuffled, step, skip = self.order(rng, rank(), world_size()), self.per_rank, 0
            for i in range(batch, self.n // total):
                start = i * step + skip
                yield shuffled[start : start + self.per_rank]
            epoch, batch = epoch + 1, 0


class _Fetching(torch.utils.data.Dataset[Any]):
    """What a worker runs: a whole batch is one item."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __getitem__(self, index: Any) -> Any:
        return self.source.fetch(index)
