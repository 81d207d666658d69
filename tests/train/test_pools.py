"""Samples of files that are read a piece at a time: each once an epoch, mixed, and never too many pieces in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import chain, islice

import numpy as np
import pytest
import torch
from torch import Tensor

from mmssl.train import pools
from mmssl.train.batches import ShuffledBatches
from mmssl.train.pools import Index, InPieces, pooled_order, read_ahead

SIZES = (7, 1, 5, 9, 2, 6, 3, 8, 4, 5)  # samples of each piece


class Numbers:
    """Sample i is the number i."""

    def __init__(self, pool: int = 3) -> None:
        self.first = np.concatenate([[0], np.cumsum(SIZES)])
        self.pool = pool
        self.loaded: list[int] = []

    def __len__(self) -> int:
        return int(self.first[-1])

    def load(self, piece: int) -> Index:
        self.loaded.append(piece)
        return np.arange(self.first[piece], self.first[piece + 1])

    def gather(self, index: Index, loaded: Callable[[int], Index]) -> Tensor:
        owner = np.searchsorted(self.first, index, side="right") - 1
        return torch.tensor([loaded(int(p))[i - self.first[p]] for i, p in zip(index, owner, strict=True)])

    def fetch(self, index: Index) -> Tensor:
        return self.gather(index, self.load)


def pieces_of(order: Index, source: Numbers) -> list[int]:
    return (np.searchsorted(source.first, order, side="right") - 1).tolist()


@pytest.mark.parametrize("pool", [1, 3, 100])
def test_an_epoch_is_every_sample_once_and_a_pool_of_pieces_is_mixed(pool: int) -> None:
    source = Numbers(pool)
    assert isinstance(source, InPieces)
    order = pooled_order(source, np.random.default_rng(0), 0, 1)
    assert sorted(order) == list(range(50))
    owners = pieces_of(order, source)
    in_turn = list(dict.fromkeys(owners))
    for start in range(0, len(SIZES), pool):  # the pools come one after the other
        together = owners[: sum(SIZES[piece] for piece in set(in_turn[start : start + pool]))]
        owners = owners[len(together) :]
        assert len(set(together)) == min(pool, len(SIZES) - start)


@pytest.mark.parametrize("parts", [2, 3, 7])
def test_ranks_have_different_samples_and_share_few_pieces(parts: int) -> None:
    source = Numbers()
    orders = [pooled_order(source, np.random.default_rng(5), part, parts) for part in range(parts)]
    assert {len(order) for order in orders} == {50 // parts}
    assert len(set(np.concatenate(orders).tolist())) == 50 // parts * parts
    assert sum(len(set(pieces_of(order, source))) for order in orders) <= len(SIZES) + parts - 1


@pytest.mark.parametrize("after", [0, 3, 9, 10, 23])
def test_batches_go_on_at_any_place_and_readers_change_nothing(after: int) -> None:
    whole = [x.tolist() for x in islice(ShuffledBatches(Numbers(), batch_size=5, seed=2)(), 40)]
    assert sorted(chain.from_iterable(whole[:10])) == list(range(50))
    assert whole[:10] != whole[10:20]
    rest = ShuffledBatches(Numbers(), batch_size=5, seed=2, workers=3)(after)
    assert [x.tolist() for x in islice(rest, 40 - after)] == whole[after:]


@pytest.mark.parametrize("pool", [1, 2, 4])
def test_two_pools_at_most_are_in_memory_and_each_piece_is_read_once_an_epoch(
    pool: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []

    class Counting(pools._Shelf):
        def ask_for(self, pieces: list[int]) -> None:
            super().ask_for(pieces)
            held.append(len(self.held))

    monkeypatch.setattr(pools, "_Shelf", Counting)
    source = Numbers(pool)
    order = pooled_order(source, np.random.default_rng(1), 0, 1)
    batches = list(read_ahead(source, iter(np.split(order, 25)), workers=2))
    assert torch.cat(batches).tolist() == order.tolist()
    assert sorted(source.loaded) == list(range(len(SIZES)))
    assert pool < max(held) <= 2 * pool


def test_few_pieces_are_not_looked_ahead_of_for_ever() -> None:
    asked = 0

    def order() -> Iterator[Index]:
        nonlocal asked
        while True:
            asked += 10
            yield np.arange(10)

    next(read_ahead(Numbers(pool=1000), order(), 1))
    assert asked <= 2 * len(SIZES) * max(SIZES) + 10


def test_the_readers_stop_with_the_batches_and_do_not_finish_what_was_asked_for() -> None:
    go_on = threading.Event()

    class Slow(Numbers):
        def load(self, piece: int) -> Index:
            rows = super().load(piece)
            if len(self.loaded) > 1:
                go_on.wait(10)
            return rows

    source = Slow(pool=100)
    order = pooled_order(source, np.random.default_rng(0), 0, 1)
    stream = read_ahead(source, iter([*np.split(np.sort(order), 50)]), workers=1)
    next(stream)
    threading.Timer(0.1, go_on.set).start()
    stream.close()  # type: ignore[attr-defined]
    assert len(source.loaded) <= 2
    assert not any(thread.name.startswith("pieces") for thread in threading.enumerate())


def test_what_goes_wrong_while_reading_is_raised_with_the_batch_that_needs_it() -> None:
    class Damaged(Numbers):
        def load(self, piece: int) -> Index:
            if piece == 3:
                raise OSError("part-3.parquet is damaged")
            return super().load(piece)

    stream = read_ahead(Damaged(), iter(np.split(np.arange(50), 25)), workers=2)
    assert len(list(islice(stream, 6))) == 6
    with pytest.raises(OSError, match=r"part-3\.parquet is damaged"):
        next(stream)
