"""The generic class and its presets: what every method must hold, and what tells one from another."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmssl.core.ema import Teacher
from mmssl.core.heads import mlp
from mmssl.core.methods import scaling
from mmssl.core.methods.dino import dino
from mmssl.core.methods.joint_embedding import JointEmbedding
from mmssl.core.methods.moco import moco
from mmssl.core.methods.swav import swav
from mmssl.core.objectives.ntxent import NTXent
from mmssl.core.types import Method
from tests.core.methods import JOINT_EMBEDDINGS, Dense, noisy_pair

TAKEN, SKIPPED = torch.tensor(False), torch.tensor(True)

every = pytest.mark.parametrize("name", JOINT_EMBEDDINGS)


def build(name: str, views: Callable[[Any], list[Any]] = noisy_pair) -> Any:  # a JointEmbedding and its parts
    torch.manual_seed(0)
    return JOINT_EMBEDDINGS[name](Dense(), views).train()


def batch(n: int = 16) -> Tensor:
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(1))


def step(method: Any, progress: float = 1.0, skipped: Tensor = TAKEN) -> dict[str, Tensor]:
    out = method(batch())
    method.zero_grad()
    out["loss"].backward()
    if not skipped:
        with torch.no_grad():
            for p in method.parameters():
                if p.grad is not None:
                    p.sub_(p.grad, alpha=0.05)
    method.after_step(progress, skipped)
    return out


@every
def test_it_is_a_method_with_a_finite_loss(name: str) -> None:
    method = build(name)
    out = method(batch())
    assert isinstance(method, Method)
    assert out["loss"].shape == ()
    assert out["loss"].dtype == torch.float32
    assert all(value.isfinite() for value in out.values())
    assert not any(value.requires_grad for key, value in out.items() if key != "loss")


@every
def test_every_trainable_parameter_gets_a_gradient(name: str) -> None:
    method = build(name)
    step(method)  # what is frozen at first is not after this
    step(method)
    for key, p in method.named_parameters():
        if p.requires_grad:
            assert p.grad is not None, key
            if ".bias" not in key:  # batch normalisation of the next layer cancels some biases
                assert p.grad.abs().max() > 0, key


@every
def test_the_teacher_gets_no_gradient(name: str) -> None:
    method = build(name)
    step(method)
    if method.teacher is not None:
        assert not any(p.requires_grad or p.grad is not None for p in method.teacher.parameters())


@every
def test_forward_changes_no_state_apart_from_batch_statistics(name: str) -> None:
    method = build(name)
    step(method, 0.1)
    before = copy.deepcopy(method.state_dict())
    method(batch())["loss"].backward()
    changed = [key for key, value in method.state_dict().items() if not torch.equal(value, before[key])]
    assert all("running_" in key or "num_batches" in key for key in changed)


@every
def test_a_skipped_step_leaves_teacher_queue_and_centre_alone(name: str) -> None:
    method = build(name)
    step(method, 0.1)
    method(batch())
    before = copy.deepcopy(method.state_dict())
    method.after_step(0.2, SKIPPED)
    changed = [key for key, value in method.state_dict().items() if not torch.equal(value, before[key])]
    assert all("_extra_state" in key for key in changed)  # the time goes on


@every
def test_two_forwards_of_a_step_move_the_state_once(name: str) -> None:
    method = build(name)
    student = {key: p.detach().clone() for key, p in method.student.named_parameters()}
    teacher = copy.deepcopy(method.teacher)
    with torch.no_grad():
        for p in method.student.parameters():
            p.add_(0.1)
    method(batch())
    method(batch())
    method.after_step(0.5, TAKEN)
    if teacher is not None:
        assert method.teacher is not None
        rate = 1 - teacher.momentum_at(0.5)
        for key, p in method.teacher.module.named_parameters():
            torch.testing.assert_close(p, student[key] + rate * 0.1)


@every
def test_a_saved_state_goes_on_bit_for_bit(name: str) -> None:
    one, other = build(name), JOINT_EMBEDDINGS[name](Dense(), noisy_pair).train()
    step(one, 0.2)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    losses = []
    for method in (one, other):
        torch.manual_seed(5)
        losses.append([step(method, progress)["loss"] for progress in (0.4, 0.6, 0.8)])
    assert torch.equal(torch.stack(losses[0]), torch.stack(losses[1]))
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


@every
def test_what_is_exported_is_the_encoder_without_heads(name: str) -> None:
    method = build(name)
    step(method)
    encoder = method.export()
    assert isinstance(encoder, Dense)
    same = all(
        torch.equal(a, b) for a, b in zip(encoder.parameters(), method.student.encoder.parameters(), strict=True)
    )
    assert same == (name != "dino")  # a user gets DINO's teacher


@every
def test_the_loss_is_float32_in_a_bf16_forward(name: str) -> None:
    method = build(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = method(batch())
    assert out["loss"].dtype == torch.float32
    assert out["loss"].isfinite()


def crops(x: Tensor) -> list[Tensor]:
    """Two full-size views and three smaller ones."""
    full = [x + 0.1 * torch.randn_like(x) for _ in range(2)]
    return full + [x[:, :4] + 0.1 * torch.randn_like(x[:, :4]) for _ in range(3)]


class Pooled(nn.Module):
    """An encoder of rows of any width."""

    dim = 7

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 7)
        self.passes: list[torch.Size] = []

    def forward(self, x: Tensor) -> Tensor:
        self.passes.append(x.shape)
        return self.linear(x[..., None]).relu().amax(dim=1)


def test_multi_crop_makes_one_pass_a_size_and_the_teacher_sees_full_views_only() -> None:
    encoder = Pooled()
    method: Any = dino(encoder, crops, hidden=12, bottleneck=6, prototypes=10)
    method(batch(4))
    assert encoder.passes == [(8, 6), (12, 4)]
    assert method.teacher.module.encoder.passes == [(8, 6)]


def test_swav_takes_crops_of_two_sizes() -> None:
    out = swav(Pooled(), crops, hidden=12, out=8, prototypes=10, queue=0)(batch())
    out["loss"].backward()
    assert out["loss"].isfinite()


def test_prototypes_stay_as_they_are_for_the_first_share_of_the_training_and_after_a_resume() -> None:
    method = build("dino")
    prototypes = method.student.projector.prototypes
    step(method, 0.2)
    assert prototypes.grad is not None  # a zero and not None: ranks wait for every gradient
    assert (prototypes.grad == 0).all()
    other: Any = JOINT_EMBEDDINGS["dino"](Dense(), noisy_pair)
    other.load_state_dict(method.state_dict())
    step(other, 0.5)
    assert (other.student.projector.prototypes.grad == 0).all()
    step(other, 0.6)
    assert (other.student.projector.prototypes.grad != 0).any()


def test_keys_of_moco_do_not_depend_on_the_batch_they_come_in() -> None:
    method = moco(Dense(), noisy_pair, out=8, queue=16).train()
    assert method.teacher is not None
    step(method)
    x = batch()
    torch.testing.assert_close(method.teacher(x)[:4], method.teacher(x[:4]))


def test_the_collapse_value_is_the_loss_of_equal_embeddings() -> None:
    for name in ("simclr", "dino"):
        method = build(name)
        with torch.no_grad():
            projector = method.student.projector
            last = projector.mlp[-1] if name == "dino" else projector[-1]
            last.weight.zero_()
            if last.bias is not None:
                last.bias.fill_(float(name == "simclr"))  # cosines of 0 with all prototypes
        if method.teacher is not None:
            method.teacher.module.load_state_dict(method.student.state_dict())
        out = method(batch())
        assert out["loss"].item() == pytest.approx(float(out["collapse_loss"]), rel=1e-3), name


def test_views_are_made_without_a_gradient_and_one_view_is_not_enough() -> None:
    method = JointEmbedding(Dense(), mlp([7, 3]), NTXent(), lambda x: [x])
    with pytest.raises(ValueError, match="augment gave 1"):
        method(batch())


def test_contradicting_parts_are_refused() -> None:
    teacher = partial(Teacher, momentum=0.9)
    with pytest.raises(ValueError, match="not from both"):
        JointEmbedding(Dense(), mlp([7, 3]), NTXent(), noisy_pair, teacher=teacher, stop_gradient=True)
    with pytest.raises(ValueError, match="needs a teacher"):
        JointEmbedding(Dense(), mlp([7, 3]), NTXent(), noisy_pair, export_teacher=True)
    with pytest.raises(ValueError, match="moco_v3"):
        moco(Dense(), noisy_pair, queue=0)


def test_settings_go_through_the_published_ones() -> None:
    imagenet, cifar = 1_281_167, 50_000
    assert scaling.teacher_momentum(imagenet, 4096) == pytest.approx(0.996, abs=1e-3)  # BYOL
    assert scaling.teacher_momentum(cifar, 512) == pytest.approx(0.99, abs=1e-3)
    assert scaling.teacher_momentum(1000, 512) == 0.95
    assert scaling.queue_size(imagenet, 256) == 65_536  # MoCo
    assert scaling.queue_size(cifar, 512) == 4_096
    assert scaling.queue_size(1000, 256) == 512
    assert scaling.prototypes(cifar, per_prototype=12, low=128, high=65_536) == 4_096
    assert scaling.prototypes(50, per_prototype=12, low=128, high=65_536) == 128
    assert scaling.warmup(cifar, 500, 100 * 200) == pytest.approx(0.05)
    assert scaling.warmup(1000, 100, 50) == 0.1
