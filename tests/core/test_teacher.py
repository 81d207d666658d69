"""The momentum teacher: what follows, how fast, and what a skipped step leaves alone."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

from mmssl.core.ema import Teacher

TAKEN, SKIPPED = torch.tensor(False), torch.tensor(True)


def model() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))


def moved(module: nn.Module) -> nn.Module:
    """With other weights and other running statistics."""
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn_like(p))
    module.train()
    module(torch.randn(64, 3) * 3 + 1)
    return module


def test_a_step_follows_with_the_momentum_that_the_cosine_gives() -> None:
    student = model()
    teacher = Teacher(student, momentum=0.9, final_momentum=1.0)
    old = [p.double() for p in teacher.module.parameters()]
    moved(student)
    teacher.update(student, 0.25, TAKEN)
    m = 1 - (1 - 0.9) * (1 + math.cos(math.pi * 0.25)) / 2  # BYOL, section 3.2
    for now, before, leading in zip(teacher.module.parameters(), old, student.parameters(), strict=True):
        torch.testing.assert_close(now.double(), m * before + (1 - m) * leading.double(), rtol=1e-6, atol=1e-7)
    assert teacher.momentum_at(0.0) == pytest.approx(0.9)
    assert teacher.momentum_at(1.0) == 1.0


def test_a_skipped_step_changes_nothing_bit_for_bit() -> None:
    student = model()
    teacher = Teacher(student, momentum=0.5, statistics="average")
    before = copy.deepcopy(teacher.state_dict())
    teacher.update(moved(student), 0.1, SKIPPED)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_gpu_does_the_same_without_being_waited_for() -> None:
    student = model()
    on_cpu = Teacher(student, momentum=0.9)
    on_gpu = copy.deepcopy(on_cpu).cuda()
    leading = moved(student)
    on_cpu.update(leading, 0.25, TAKEN)
    torch.cuda.set_sync_debug_mode("error")
    try:
        on_gpu.update(leading.cuda(), 0.25, TAKEN.cuda())
        on_gpu.update(leading, 0.25, SKIPPED.cuda())
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for a, b in zip(on_gpu.module.parameters(), on_cpu.module.parameters(), strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=1e-6, atol=1e-7)


def test_averaged_statistics_follow_as_the_weights_do_and_the_batch_has_no_say() -> None:
    student = model()
    teacher: Any = Teacher(student, momentum=0.8, final_momentum=0.8, statistics="average").train()
    x = torch.randn(16, 3)
    alone = torch.cat([teacher(row[None]) for row in x])
    torch.testing.assert_close(teacher(x), alone)  # no sample knows of another
    before = teacher.module[1].running_mean.clone()
    moved(student)
    teacher.update(student, 0.5, TAKEN)
    expected = 0.8 * before + 0.2 * student[1].running_mean
    torch.testing.assert_close(teacher.module[1].running_mean, expected)


def test_own_statistics_are_those_of_the_batch_in_training_and_stay_apart_from_the_model() -> None:
    student = model()
    teacher: Any = Teacher(student).train()
    x = torch.randn(64, 3) * 2 + 5
    hidden = teacher.module[1](teacher.module[0](x))
    torch.testing.assert_close(hidden.mean(dim=0), torch.zeros(4), atol=1e-5, rtol=0)
    own = teacher.module[1].running_mean.clone()
    assert not torch.equal(own, student[1].running_mean)
    teacher.update(moved(student), 0.5, TAKEN)
    assert torch.equal(teacher.module[1].running_mean, own)


def test_a_teacher_drops_nothing_out_and_takes_no_gradient() -> None:
    teacher = Teacher(model()).train()
    x = torch.randn(8, 3, requires_grad=True)
    a, b = teacher(x), teacher(x)
    assert torch.equal(a, b)
    assert not a.requires_grad
    assert not any(p.requires_grad for p in teacher.parameters())
    teacher.eval()
    assert not any(m.training for m in teacher.modules())


@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_a_momentum_outside_zero_to_one_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=rf"momentum must lie in \[0, 1\], got {value}"):
        Teacher(model(), momentum=value)
    with pytest.raises(ValueError, match="final_momentum"):
        Teacher(model(), final_momentum=value)


def test_unknown_statistics_are_refused() -> None:
    with pytest.raises(ValueError, match="got 'shuffled'"):
        Teacher(model(), statistics="shuffled")  # type: ignore[arg-type]
