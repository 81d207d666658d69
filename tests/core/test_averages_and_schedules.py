"""The running mean of the weights, and the cosine with warm-up."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from mmssl.core.distributed import gather, rank, world_size
from mmssl.core.ema import AveragedModel
from mmssl.core.schedules import warmup_cosine

TAKEN, SKIPPED = torch.tensor(False), torch.tensor(True)


def moved(model: nn.Module, by: float) -> None:
    with torch.no_grad():
        for p in model.parameters():
            p.add_(by)


def test_the_average_is_the_mean_of_all_weights_with_the_initial_ones() -> None:
    model = nn.Linear(3, 2)
    average = AveragedModel(model)
    seen = [copy.deepcopy(model.state_dict())]
    for i in range(5):
        moved(model, 0.1 * i)
        average.update(model, TAKEN)
        seen.append(copy.deepcopy(model.state_dict()))
    for name, value in average.module.state_dict().items():
        torch.testing.assert_close(value, torch.stack([s[name] for s in seen]).mean(dim=0))
    assert float(average.count) == 6


def test_a_skipped_step_leaves_the_average_as_it_is_bit_for_bit() -> None:
    model = nn.Linear(3, 2)
    average = AveragedModel(model)
    moved(model, 0.3)
    average.update(model, TAKEN)
    before = copy.deepcopy(average.state_dict())
    moved(model, 100.0)
    average.update(model, SKIPPED)
    for name, value in average.state_dict().items():
        assert torch.equal(value, before[name])


def test_the_average_is_a_copy_without_gradients_that_stays_in_evaluation() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout())
    average = AveragedModel(model)
    average.train()
    assert not any(m.training for m in average.modules())
    assert model.training
    assert not any(p.requires_grad for p in average.parameters())
    assert {p.data_ptr() for p in model.parameters()}.isdisjoint(p.data_ptr() for p in average.parameters())


def test_batch_statistics_are_copied_and_not_averaged() -> None:
    model = nn.BatchNorm1d(2)
    average = AveragedModel(model)
    model(torch.randn(16, 2) + 5)
    average.update(model, TAKEN)
    for own, other in zip(average.module.buffers(), model.buffers(), strict=True):
        assert torch.equal(own, other)


@pytest.mark.parametrize(
    ("progress", "warmup", "final", "factor"),
    [
        (0.0, 0.0, 0.0, 1.0),
        (0.5, 0.0, 0.0, 0.5),
        (1.0, 0.0, 0.1, 0.1),
        (0.0, 0.2, 0.0, 0.0),
        (0.1, 0.2, 0.0, 0.5),
        (0.2, 0.2, 0.0, 1.0),
        (0.6, 0.2, 0.2, 0.6),
        (0.4, 0.2, 0.0, 0.5 * (1 + math.cos(math.pi / 4))),
    ],
)
def test_the_rate_rises_in_a_line_and_falls_as_a_cosine(
    progress: float, warmup: float, final: float, factor: float
) -> None:
    assert warmup_cosine(progress, warmup=warmup, final=final) == pytest.approx(factor, abs=1e-12)


def test_one_process_is_a_world_of_its_own() -> None:
    x = torch.randn(3, requires_grad=True)
    assert (rank(), world_size()) == (0, 1)
    assert gather(x) is x
