"""The queue of features against a Python list that drops its oldest entries."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmssl.core.queue import FeatureQueue

TAKEN, SKIPPED = torch.tensor(False), torch.tensor(True)


def numbered(first: int, count: int) -> Tensor:
    """Rows that tell their number."""
    return torch.arange(first, first + count, dtype=torch.float32)[:, None].expand(-1, 3).clone()


@settings(max_examples=50, deadline=None)
@given(size=st.integers(1, 7), batches=st.lists(st.integers(1, 16), max_size=6))
def test_it_holds_the_last_features_whatever_the_sizes(size: int, batches: list[int]) -> None:
    queue = FeatureQueue(size, 3)
    entered = 0
    for n in batches:
        queue.enqueue(numbered(entered, n), TAKEN)
        entered += n
    kept = min(size, entered)
    inside = queue.features[queue.filled()]
    assert sorted(inside[:, 0].tolist()) == list(range(entered - kept, entered))
    assert int(queue.filled().sum()) == kept


def test_the_oldest_places_are_overwritten_in_turn() -> None:
    queue = FeatureQueue(4, 3)
    queue.enqueue(numbered(0, 3), TAKEN)
    queue.enqueue(numbered(3, 3), TAKEN)
    assert queue.features[:, 0].tolist() == [4, 5, 2, 3]


def test_more_features_than_places_end_as_if_they_had_come_one_by_one() -> None:
    at_once, singly = FeatureQueue(5, 3), FeatureQueue(5, 3)
    at_once.enqueue(numbered(0, 13), TAKEN)
    for i in range(13):
        singly.enqueue(numbered(i, 1), TAKEN)
    assert torch.equal(at_once.features, singly.features)
    assert torch.equal(at_once.total, singly.total)


@pytest.mark.parametrize("n", [1, 4, 9])
def test_a_skipped_step_moves_nothing_even_if_the_features_are_not_finite(n: int) -> None:
    queue = FeatureQueue(4, 3)
    queue.enqueue(numbered(0, 3), TAKEN)
    before = copy.deepcopy(queue.state_dict())
    queue.enqueue(torch.full((n, 3), float("nan")), SKIPPED)
    assert all(torch.equal(value, before[name]) for name, value in queue.state_dict().items())


def test_it_starts_with_random_directions_and_none_of_them_counts() -> None:
    queue = FeatureQueue(64, 8)
    torch.testing.assert_close(queue.features.norm(dim=1), torch.ones(64))
    assert queue.features.mean(dim=0).norm() < 0.5
    assert not queue.filled().any()


def test_its_state_goes_through_a_state_dict() -> None:
    queue, other = FeatureQueue(4, 3), FeatureQueue(4, 3)
    queue.enqueue(numbered(0, 6), TAKEN)
    other.load_state_dict(queue.state_dict())
    for q in (queue, other):
        q.enqueue(numbered(6, 3), TAKEN)
    assert torch.equal(queue.features, other.features)


def test_half_precision_is_stored_as_float32() -> None:
    queue = FeatureQueue(2, 3)
    queue.enqueue(numbered(0, 2).bfloat16(), TAKEN)
    assert queue.features.dtype == torch.float32


@pytest.mark.parametrize(("size", "dim"), [(0, 3), (4, 0)])
def test_an_empty_queue_is_refused(size: int, dim: int) -> None:
    with pytest.raises(ValueError, match=f"at least 1, got {size} and {dim}"):
        FeatureQueue(size, dim)
