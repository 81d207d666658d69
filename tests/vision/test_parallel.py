from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from mmssl.vision.parallel import in_order, processes


def squares(index: np.ndarray) -> tuple[list[int], int]:
    return [int(i) ** 2 for i in index], os.getpid()


def refuse(index: np.ndarray) -> None:
    if index[0]:
        raise ValueError(f"nothing at {index[0]}")


@pytest.mark.parametrize("workers", [0, 2])
def test_results_come_in_order_and_cover_everything_once(workers: int) -> None:
    parts = list(in_order(squares, 10, 3, workers=workers))
    assert sum((part for part, _ in parts), []) == [i**2 for i in range(10)]  # noqa: RUF017
    assert [len(part) for part, _ in parts] == [3, 3, 3, 1]
    assert (os.getpid() in {process for _, process in parts}) == (workers == 0)


def test_a_single_piece_of_work_starts_no_process() -> None:
    assert list(in_order(squares, 3, 5, workers=2)) == [([0, 1, 4], os.getpid())]
    assert list(in_order(squares, 0, 5, workers=2)) == []


def test_random_numbers_of_the_caller_are_not_drawn() -> None:
    before = torch.random.get_rng_state()
    list(in_order(squares, 4, 2, workers=1))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_an_error_of_a_worker_reaches_the_caller() -> None:
    with pytest.raises(ValueError, match="nothing at 2"):
        list(in_order(refuse, 4, 2, workers=1))


def test_there_is_at_least_one_process() -> None:
    assert 1 <= processes() <= (os.cpu_count() or 1)
