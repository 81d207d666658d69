"""Batches are a function of the seed and their number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mmssl.train import batches
from mmssl.train.batches import Index, ShuffledBatches


class Numbers:
    """Sample i is the number i."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def fetch(self, index: Index) -> Tensor:
        return torch.from_numpy(np.asarray(index))


def first(source: ShuffledBatches, n: int, *, after: int = 0) -> list[list[int]]:
    return [batch.tolist() for batch in islice(source(after), n)]


def flat(lists: Iterable[list[int]]) -> list[int]:
    return list(chain.from_iterable(lists))


@pytest.mark.parametrize(("n", "size"), [(12, 4), (13, 4), (5, 5), (7, 1)])
def test_every_sample_comes_at_most_once_an_epoch_and_no_batch_is_short(n: int, size: int) -> None:
    source = ShuffledBatches(Numbers(n), batch_size=size)
    per_epoch = n // size
    for epoch in range(3):
        seen = flat(first(source, per_epoch, after=epoch * per_epoch))
        assert len(seen) == len(set(seen)) == per_epoch * size


def test_what_an_epoch_leaves_out_comes_in_others() -> None:
    seen = flat(first(ShuffledBatches(Numbers(13), batch_size=4), 30))
    assert set(seen) == set(range(13))


def test_epochs_and_seeds_are_shuffled_differently_and_repeat() -> None:
    source = ShuffledBatches(Numbers(40), batch_size=10)
    assert first(source, 4) != first(source, 4, after=4)
    assert first(source, 4) == first(ShuffledBatches(Numbers(40), batch_size=10), 4)
    assert first(source, 4) != first(ShuffledBatches(Numbers(40), batch_size=10, seed=1), 4)


@pytest.mark.parametrize("after", [0, 1, 3, 4, 11])
def test_it_goes_on_at_any_batch(after: int) -> None:
    source = ShuffledBatches(Numbers(13), batch_size=3, seed=2)
    assert first(source, 6, after=after) == first(source, 20)[after : after + 6]


def test_fewer_samples_than_a_batch_make_smaller_batches() -> None:
    source = ShuffledBatches(Numbers(5), batch_size=8)
    assert source.batch_size == 5
    assert all(sorted(batch) == [0, 1, 2, 3, 4] for batch in first(source, 3))


def test_the_global_generators_are_left_alone() -> None:
    before = torch.get_rng_state(), np.random.get_state(legacy=True)[2]  # type: ignore[index]  # noqa: NPY002
    first(ShuffledBatches(Numbers(10), batch_size=3), 5)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state(legacy=True)[2] == before[1]  # type: ignore[index]  # noqa: NPY002


def as_rank(monkeypatch: pytest.MonkeyPatch, rank: int, world: int) -> None:
    monkeypatch.setattr(batches, "rank", lambda: rank)
    monkeypatch.setattr(batches, "world_size", lambda: world)


def test_ranks_share_out_the_batches_of_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = first(ShuffledBatches(Numbers(26), batch_size=6), 10)
    parts: list[Any] = []
    for rank in range(3):
        as_rank(monkeypatch, rank, 3)
        source = ShuffledBatches(Numbers(26), batch_size=6)
        assert (source.per_rank, source.batch_size) == (2, 6)
        parts.append(first(source, 10))
    assert [flat(ranks) for ranks in zip(*parts, strict=True)] == whole


@pytest.mark.parametrize(("n", "size", "message"), [
    (2, 3, "2 samples are too few for 3 processes"),
    (9, 4, "batch_size=4 must be a multiple of the number of processes, 3"),
    (9, 0, "batch_size=0 must be a multiple"),
])  # fmt: skip
def test_batches_that_cannot_be_shared_out_are_refused(
    monkeypatch: pytest.MonkeyPatch, n: int, size: int, message: str
) -> None:
    as_rank(monkeypatch, 0, 3)
    with pytest.raises(ValueError, match=message):
        ShuffledBatches(Numbers(n), batch_size=size)


@pytest.mark.slow
@pytest.mark.parametrize("after", [0, 3])
def test_workers_give_the_same_batches(after: int) -> None:
    alone = ShuffledBatches(Numbers(26), batch_size=6, seed=3)
    helped = ShuffledBatches(Numbers(26), batch_size=6, seed=3, workers=2)
    before = torch.get_rng_state()
    assert first(helped, 9, after=after) == first(alone, 9, after=after)
    assert torch.equal(torch.get_rng_state(), before)


class InFiles(Numbers):
    """Numbers in files of five, read file by file."""

    def order(self, rng: np.random.Generator, part: int, parts: int) -> Index:
        files = rng.permutation(np.arange(self.n).reshape(-1, 5)).ravel()
        share = self.n // parts
        return files[part * share : (part + 1) * share]

    def read_ahead(self, order: Iterator[Index], workers: int) -> Iterator[Tensor]:
        return (self.fetch(index) for index in order)


@pytest.mark.parametrize("after", [0, 2, 7, 13])
def test_data_that_reads_ahead_decides_on_the_order_and_goes_on_at_any_batch(after: int) -> None:
    source = ShuffledBatches(InFiles(20), batch_size=5, workers=2)
    epoch = first(source, 4)
    assert sorted(flat(epoch)) == list(range(20))
    assert all(batch == list(range(batch[0], batch[0] + 5)) for batch in epoch)
    assert first(source, 5, after=after) == first(source, 20)[after : after + 5]


def test_ranks_share_out_the_order_of_data_that_reads_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    for rank in range(2):
        as_rank(monkeypatch, rank, 2)
        source = ShuffledBatches(InFiles(20), batch_size=10)
        assert source.per_rank == 5
        seen += flat(first(source, 2))
    assert sorted(seen) == list(range(20))
