"""Work on runs of positions by other processes, for decoding: PIL holds the interpreter too long for threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

T = TypeVar("T")


def in_order(work: Callable[[npt.NDArray[np.int64]], T], n: int, chunk: int, *, workers: int) -> Iterator[T]:
    """``work`` on the positions 0 to n, ``chunk`` at a time; results in order.

    Args:
        work: gets positions; must be picklable where processes are spawned, its result always.
        n: how many positions.
        chunk: positions of a call.
        workers: processes that work ahead; 0 works here.
    """
    chunks = _Chunks(work, n, chunk)
    if workers == 0 or len(chunks) < 2:
        yield from (chunks[i] for i in range(len(chunks)))
        return
    yield from DataLoader(
        chunks,
        batch_size=None,
        num_workers=min(workers, len(chunks)),
        collate_fn=_as_it_is,
        generator=torch.Generator().manual_seed(0),  # leaves the global generator alone
    )


def processes() -> int:
    """How many can run at once on this machine."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _as_it_is(result: T) -> T:
    return result


class _Chunks(Dataset[Any]):
    def __init__(self, work: Callable[[npt.NDArray[np.int64]], Any], n: int, chunk: int) -> None:
        self.work, self.n, self.chunk = work, n, chunk

    def __len__(self) -> int:
        return -(-self.n // self.chunk)

    def __getitem__(self, i: int) -> Any:
        return self.work(np.arange(i * self.chunk, min((i + 1) * self.chunk, self.n)))
