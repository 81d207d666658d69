"""BYOL's and SimSiam's regression, and DINO, against the papers' formulas and against lightly."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmssl.core.objectives.distillation import DINO, CosineRegression

TAKEN, SKIPPED = torch.tensor(False), torch.tensor(True)


def drawn(n: int, dim: int, count: int, seed: int = 0) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(n, dim, generator=draw) for _ in range(count)]


def with_gradient(loss: Tensor, z: list[Tensor]) -> tuple[Tensor, Tensor]:
    return loss.detach().double(), torch.cat(torch.autograd.grad(loss, z)).double()


def byol(z: list[Tensor], t: list[Tensor]) -> Tensor:
    """Equation 2 of the paper, ‖q̄ − z̄'‖², averaged over samples and pairs of different views."""
    terms = [
        (a / a.norm() - b / b.norm()).square().sum()
        for i, view in enumerate(z)
        for j, target in enumerate(t)
        if i != j
        for a, b in zip(view, target, strict=True)
    ]
    return torch.stack(terms).mean()


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 6), dim=st.integers(1, 6), count=st.integers(2, 4))
def test_the_regression_is_byols_formula(n: int, dim: int, count: int) -> None:
    z, t = [x.requires_grad_() for x in drawn(n, dim, count)], drawn(n, dim, 2, seed=1)
    exact = [x.detach().double().requires_grad_() for x in z]
    value, gradient = with_gradient(byol(exact, [x.double() for x in t]), exact)
    loss, dz = with_gradient(CosineRegression()(z, t), z)
    torch.testing.assert_close(loss, value, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(dz, gradient, rtol=1e-5, atol=1e-5)


def test_half_the_scale_is_simsiam_up_to_a_constant_as_in_lightly() -> None:
    lightly = pytest.importorskip("lightly.loss")
    theirs = lightly.NegativeCosineSimilarity()
    z, t = [x.requires_grad_() for x in drawn(5, 4, 2)], drawn(5, 4, 2, seed=1)
    value, gradient = with_gradient((theirs(z[0], t[1]) + theirs(z[1], t[0])) / 2, z)
    loss, dz = with_gradient(CosineRegression(scale=1.0)(z, t), z)
    torch.testing.assert_close(loss - 1, value, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(dz, gradient, rtol=1e-5, atol=1e-7)


def test_no_gradient_goes_into_the_targets() -> None:
    z, t = drawn(3, 4, 2), [x.requires_grad_() for x in drawn(3, 4, 2, seed=1)]
    assert not CosineRegression()(z, t).requires_grad


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_the_length_of_embeddings_does_not_matter_to_the_regression(scale: float) -> None:
    z, t = drawn(3, 4, 2), drawn(3, 4, 2, seed=1)
    scaled = CosineRegression()([scale * x for x in z], [x / scale for x in t])
    torch.testing.assert_close(scaled, CosineRegression()(z, t))


def test_the_regression_is_computed_in_float32_under_autocast() -> None:
    z, t = [x.bfloat16() for x in drawn(3, 4, 2)], [x.bfloat16() for x in drawn(3, 4, 2, seed=1)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = CosineRegression()(z, t)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, CosineRegression()([x.float() for x in z], [x.float() for x in t]))


def test_the_regression_needs_a_target_and_a_positive_scale() -> None:
    with pytest.raises(ValueError, match="target of another view, got 2 outputs and 0 targets"):
        CosineRegression()(drawn(3, 4, 2), [])
    with pytest.raises(ValueError, match="scale must be positive, got 0"):
        CosineRegression(0)


def dino(z: list[Tensor], t: list[Tensor], centre: Tensor, student: float, teacher: float) -> Tensor:
    """Algorithm 1 of the paper, sample by sample, over all pairs of different views."""
    terms = []
    for j, target in enumerate(t):
        for i, view in enumerate(z):
            if i != j:
                for a, b in zip(view, target, strict=True):
                    p = ((b - centre) / teacher).softmax(dim=0)
                    terms.append(-(p * (a / student).log_softmax(dim=0)).sum())
    return torch.stack(terms).mean()


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 5), k=st.integers(2, 9), count=st.integers(2, 5), share=st.floats(0.0, 1.0))
def test_dino_is_the_formula_at_any_time_of_the_training(n: int, k: int, count: int, share: float) -> None:
    objective = DINO(k, warmup=0.4)
    objective.centre.copy_(drawn(1, k, 1, seed=7)[0][0])
    objective.after_step(share, TAKEN)
    z, t = [x.requires_grad_() for x in drawn(n, k, count)], drawn(n, k, 2, seed=1)
    exact = [x.detach().double().requires_grad_() for x in z]
    teacher = 0.04 + (0.07 - 0.04) * min(1.0, share / 0.4)
    expected = dino(exact, [x.double() for x in t], objective.centre.double(), 0.1, teacher)
    value, gradient = with_gradient(expected, exact)
    loss, dz = with_gradient(objective(z, t), z)
    torch.testing.assert_close(loss, value, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(dz, gradient, rtol=1e-5, atol=1e-5)


def test_dino_and_its_centre_are_lightlys_over_several_steps() -> None:
    lightly = pytest.importorskip("lightly.loss")
    theirs = lightly.DINOLoss(output_dim=9, teacher_temp=0.05)
    ours = DINO(9, teacher_temperature=0.05, warmup=0.0)
    for seed in range(4):
        z, t = [x.requires_grad_() for x in drawn(5, 9, 4, seed)], drawn(5, 9, 2, seed + 50)
        value, gradient = with_gradient(theirs(t, z), z)
        loss, dz = with_gradient(ours(z, t), z)
        ours.after_step(0.1 * seed, TAKEN)
        torch.testing.assert_close(loss, value, rtol=1e-5, atol=0)
        torch.testing.assert_close(dz, gradient, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(ours.centre, theirs.center.flatten())


def test_the_centre_moves_after_the_step_to_the_mean_of_all_its_forward_passes() -> None:
    objective = DINO(6, centre_momentum=0.8)
    first, second = drawn(3, 6, 2, seed=1), drawn(3, 6, 2, seed=2)
    objective(drawn(3, 6, 2), first)
    objective(drawn(3, 6, 2), second)
    assert torch.equal(objective.centre, torch.zeros(6))
    objective.after_step(0.1, TAKEN)
    centre = 0.2 * torch.cat(first + second).mean(dim=0)
    torch.testing.assert_close(objective.centre, centre)
    objective.after_step(0.2, TAKEN)  # nothing was seen in this step
    torch.testing.assert_close(objective.centre, centre)


def test_a_skipped_step_and_evaluation_leave_the_centre() -> None:
    objective = DINO(6)
    objective(drawn(3, 6, 2), drawn(3, 6, 2, seed=1))
    objective.after_step(0.1, TAKEN)
    before = objective.centre.clone()
    objective(drawn(3, 6, 2), [torch.full((3, 6), math.nan)] * 2)
    objective.after_step(0.2, SKIPPED)
    objective.eval()(drawn(3, 6, 2), drawn(3, 6, 2, seed=1))
    objective.after_step(0.3, TAKEN)
    assert torch.equal(objective.centre, before)


@pytest.mark.parametrize("centring", ["centre", "sinkhorn"])
def test_dinos_state_goes_through_a_state_dict(centring: str) -> None:
    first = DINO(6, centring=centring)
    z, t = drawn(3, 6, 3), drawn(3, 6, 2, seed=1)
    first(z, t)
    first.after_step(0.2, TAKEN)
    second = DINO(6, centring=centring)
    assert not torch.equal(first(z, t), second(z, t))  # another temperature of the teacher
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert torch.equal(first(z, t), second(z, t))


def test_sinkhorn_targets_use_all_outputs_alike_over_both_views() -> None:
    objective = DINO(4, warmup=0.0, teacher_temperature=0.5, centring="sinkhorn")
    z, t = [x.requires_grad_() for x in drawn(6, 4, 3)], drawn(6, 4, 2, seed=1)
    q = (torch.cat(t).double() / 0.5).exp()
    for _ in range(3):
        q = q / q.sum(dim=0)
        q = q / q.sum(dim=1, keepdim=True)
    log_p = [(x.double() / 0.1).log_softmax(dim=1) for x in z]
    terms = [-(q[:6] * log_p[1]), -(q[:6] * log_p[2]), -(q[6:] * log_p[0]), -(q[6:] * log_p[2])]
    torch.testing.assert_close(objective(z, t).double(), torch.stack(terms).sum(dim=2).mean(), rtol=1e-5, atol=0)
    assert set(objective.health()) == {"teacher_entropy"}


def test_the_gradient_of_dino_is_that_of_finite_differences() -> None:
    objective = DINO(5, student_temperature=0.5).double()
    t = [x.double() for x in drawn(3, 5, 2, seed=1)]
    z = [x.double().requires_grad_() for x in drawn(3, 5, 3)]
    assert torch.autograd.gradcheck(lambda *v: objective(list(v), t), z)


@pytest.mark.parametrize("centring", ["centre", "sinkhorn"])
def test_dino_is_computed_in_float32_under_autocast(centring: str) -> None:
    objective = DINO(8, centring=centring)
    z, t = [x.bfloat16() for x in drawn(4, 8, 3)], [x.bfloat16() for x in drawn(4, 8, 2, seed=1)]
    expected = objective([x.float() for x in z], [x.float() for x in t])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = objective(z, t)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)


@pytest.mark.parametrize("centring", ["centre", "sinkhorn"])
def test_large_outputs_give_a_finite_loss_and_gradient(centring: str) -> None:
    z = [(1e4 * x).requires_grad_() for x in drawn(4, 8, 3)]
    objective = DINO(8, centring=centring)
    loss = objective(z, [1e4 * x for x in drawn(4, 8, 2, seed=1)])
    loss.backward()
    assert loss.isfinite()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in z)
    assert all(value.isfinite() for value in objective.health().values())


def test_both_collapses_of_dino_show() -> None:
    objective = DINO(16)
    uniform = [torch.zeros(5, 16)] * 2
    loss = objective(uniform, uniform)
    assert float(loss) == pytest.approx(objective.collapse_loss(5), rel=1e-6)
    assert objective.collapse_loss(5) == pytest.approx(math.log(16))
    assert float(objective.health()["teacher_entropy"]) == pytest.approx(math.log(16), rel=1e-6)
    one = [torch.eye(16)[:1].expand(5, -1) * 100] * 2
    objective(one, one)
    assert float(objective.health()["teacher_entropy"]) == 0
    assert float(objective.health()["centre_norm"]) == 0
    objective.after_step(0.1, TAKEN)
    assert float(objective.health()["centre_norm"]) > 0
    assert not any(value.requires_grad for value in objective.health().values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out_dim": 1}, "out_dim must be at least 2, got 1"),
        ({"student_temperature": 0.0}, "student_temperature must be positive, got 0.0"),
        ({"teacher_temperature": -1.0}, "teacher_temperature must be positive, got -1.0"),
        ({"warmup": 2.0}, r"warmup must lie in \[0, 1\], got 2.0"),
        ({"centre_momentum": 1.1}, r"centre_momentum must lie in \[0, 1\], got 1.1"),
        ({"centring": "mean"}, "centring must be 'centre' or 'sinkhorn', got 'mean'"),
    ],
)
def test_unusable_values_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DINO(**({"out_dim": 8} | options))  # type: ignore[arg-type]


def test_outputs_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one shape \(B, 8\), got \(3, 6\)"):
        DINO(8)(drawn(3, 6, 2), drawn(3, 6, 2))
