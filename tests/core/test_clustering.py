"""Sinkhorn against its fixed point and the paper's matrix form; SwAV against the paper's sums and lightly."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmssl.core.objectives.clustering import SwAV, sinkhorn

TAKEN, SKIPPED = torch.tensor(False), torch.tensor(True)


def drawn(n: int, dim: int, count: int = 1, seed: int = 0) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(n, dim, generator=draw) for _ in range(count)]


def as_written(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    """The paper's appendix, column by column: rows of Q to sum 1 / K, then columns to sum 1 / B."""
    q = (scores.double().T / epsilon).exp()  # (K, B)
    k, b = q.shape
    for _ in range(iterations):
        for row in range(k):
            q[row] /= q[row].sum() * k
        for column in range(b):
            q[:, column] /= q[:, column].sum() * b
    return (q * b).T


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 8), k=st.integers(1, 8), iterations=st.integers(1, 5), epsilon=st.floats(0.03, 1.0))
def test_assignments_are_those_of_the_paper(n: int, k: int, iterations: int, epsilon: float) -> None:
    scores = drawn(n, k)[0].clamp(-1, 1)
    q = sinkhorn(scores, epsilon=epsilon, iterations=iterations)
    torch.testing.assert_close(q.double(), as_written(scores, epsilon, iterations), rtol=1e-5, atol=1e-6)


def test_assignments_are_lightlys() -> None:
    theirs = pytest.importorskip("lightly.loss.swav_loss").sinkhorn
    scores = drawn(12, 7)[0].clamp(-1, 1)
    torch.testing.assert_close(sinkhorn(scores), theirs(scores), rtol=1e-5, atol=1e-6)


def test_after_many_iterations_all_prototypes_are_used_alike() -> None:
    q = sinkhorn(drawn(20, 5)[0], epsilon=0.5, iterations=200)
    torch.testing.assert_close(q.sum(dim=0), torch.full((5,), 4.0), rtol=1e-4, atol=0)
    torch.testing.assert_close(q.sum(dim=1), torch.ones(20))


def test_samples_that_do_not_count_change_nothing_for_the_others() -> None:
    scores, others = drawn(6, 4, count=2)
    alone = sinkhorn(scores)
    counted = torch.arange(12) < 6
    together = sinkhorn(torch.cat([scores, others]), counted=counted)
    torch.testing.assert_close(together[:6], alone)
    assert together.isfinite().all()
    everybody = sinkhorn(torch.cat([scores, others]), counted=torch.ones(12, dtype=torch.bool))
    torch.testing.assert_close(everybody, sinkhorn(torch.cat([scores, others])))
    assert not torch.allclose(everybody[:6], alone)


@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_scores_of_any_size_give_finite_assignments(scale: float) -> None:
    q = sinkhorn(scale * drawn(8, 5)[0])
    assert q.isfinite().all()
    torch.testing.assert_close(q.sum(dim=1), torch.ones(8))


def test_assignments_are_worked_out_in_float32_under_autocast() -> None:
    scores = drawn(8, 5)[0].bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        q = sinkhorn(scores)
    assert q.dtype == torch.float32
    assert torch.equal(q, sinkhorn(scores.float()))


def swav(z: list[Tensor], prototypes: Tensor, earlier: list[Tensor], *, temperature: float, epsilon: float) -> Tensor:
    """Equation 2 of the paper and its multi-crop extension (equation 6), sum by sum.

    Args:
        earlier: embeddings of the queue for both full-size views.
    """
    unit = [x / x.norm(dim=1, keepdim=True) for x in z]
    total, count = z[0].new_zeros(()), 0
    for i in range(2):
        with torch.no_grad():
            scores = torch.cat([earlier[i], unit[i]]) @ prototypes.T
            q = as_written(scores, epsilon, 3)[len(earlier[i]) :]
        for v in range(len(z)):
            if v != i:
                p = (unit[v] @ prototypes.T / temperature).softmax(dim=1)
                for n in range(len(q)):
                    total = total - (q[n] * p[n].log()).sum()
                count += len(q)
    return total / count


def gradients(loss: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    return [g.double() for g in torch.autograd.grad(loss, inputs)]


@settings(max_examples=15, deadline=None)
@given(
    n=st.integers(1, 6),
    dim=st.integers(2, 6),
    k=st.integers(2, 7),
    count=st.integers(2, 5),
    queue=st.integers(0, 5),
)
def test_value_and_gradients_are_those_of_the_formula(n: int, dim: int, k: int, count: int, queue: int) -> None:
    objective = SwAV(dim, k, temperature=0.2, epsilon=0.1, queue_size=queue)
    earlier = [torch.empty(0, dim, dtype=torch.float64)] * 2
    if objective.queue is not None:  # some of it is filled
        objective.queue.enqueue(torch.cat([F.normalize(x, dim=1) for x in drawn(3, dim, 2, seed=5)], dim=1), TAKEN)
        filled = objective.queue.features[objective.queue.filled()].double()
        earlier = [filled[:, :dim], filled[:, dim:]]
    z = [x.requires_grad_() for x in drawn(n, dim, count)]
    exact = [x.detach().double().requires_grad_() for x in [*z, objective.prototypes]]
    expected = swav(exact[:-1], exact[-1], earlier, temperature=0.2, epsilon=0.1)
    loss = objective(z, [])
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(gradients(loss, [*z, objective.prototypes]), gradients(expected, exact), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_it_is_lightlys_loss_with_multi_crop() -> None:
    lightly = pytest.importorskip("lightly.loss")
    objective = SwAV(6, 9)
    z = [x.requires_grad_() for x in drawn(10, 6, count=5)]
    scores = [F.normalize(x, dim=1) @ objective.prototypes.T for x in z]
    torch.testing.assert_close(objective(z, []), lightly.SwaVLoss()(scores[:2], scores[2:])[0], rtol=1e-5, atol=0)


def test_the_gradient_is_that_of_finite_differences() -> None:
    objective = SwAV(3, 4, temperature=0.5).double()
    small = [x.double().requires_grad_() for x in drawn(4, 3, count=2, seed=1)]
    full = [x.double() for x in drawn(4, 3, count=2)]  # their assignments have no gradient, so they stay put
    assert torch.autograd.gradcheck(lambda *v: objective([*full, *v], []), small)


def test_prototypes_have_length_one_from_the_start_and_after_each_step() -> None:
    objective = SwAV(5, 8)
    torch.testing.assert_close(objective.prototypes.norm(dim=1), torch.ones(8))
    with torch.no_grad():
        objective.prototypes.mul_(3)
    direction = F.normalize(objective.prototypes.detach(), dim=1)
    objective.after_step(0.1, TAKEN)
    torch.testing.assert_close(objective.prototypes.detach(), direction)


def test_a_skipped_step_changes_nothing_bit_for_bit() -> None:
    objective = SwAV(5, 8, queue_size=6)
    objective(drawn(3, 5, 2), [])
    objective.after_step(0.1, TAKEN)
    before = copy.deepcopy(objective.state_dict())
    objective([torch.full((3, 5), math.nan)] * 2, [])
    objective.after_step(0.1, SKIPPED)
    assert all(torch.equal(value, before[name]) for name, value in objective.state_dict().items())


def test_frozen_prototypes_get_a_gradient_of_zero_and_then_one() -> None:
    objective = SwAV(5, 8, freeze=0.25)
    value, free = objective(drawn(3, 5, 2), []), SwAV(5, 8)
    free.load_state_dict(objective.state_dict())
    assert torch.equal(value, free(drawn(3, 5, 2), []))
    assert torch.equal(torch.autograd.grad(value, objective.prototypes)[0], torch.zeros(8, 5))
    for progress, moves in ((0.2, False), (0.25, True)):
        objective.after_step(progress, TAKEN)
        (gradient,) = torch.autograd.grad(objective(drawn(3, 5, 2), []), objective.prototypes)
        assert bool(gradient.any()) == moves


def test_the_queue_is_filled_all_along_and_used_from_its_share_of_the_training_on() -> None:
    with_queue, without = SwAV(5, 8, queue_size=6, queue_from=0.5), SwAV(5, 8)
    without.prototypes = with_queue.prototypes
    z = drawn(3, 5, 4, seed=2)
    assert with_queue.queue is not None
    for step in (1, 2):
        assert torch.equal(with_queue(z, []), without(z, []))
        with_queue.after_step(0.2 * step, TAKEN)
        assert int(with_queue.queue.total) == 3 * step
    torch.testing.assert_close(with_queue.queue.features[:3], torch.cat([F.normalize(x, dim=1) for x in z[:2]], dim=1))
    with_queue.after_step(0.5, TAKEN)
    others = drawn(3, 5, 4, seed=3)
    assert not torch.allclose(with_queue(others, []), without(others, []))


def test_two_forward_passes_of_one_step_both_join_the_queue_and_evaluation_does_not() -> None:
    objective = SwAV(5, 8, queue_size=20)
    objective(drawn(3, 5, 2), [])
    objective(drawn(3, 5, 2, seed=1), [])
    objective.eval()(drawn(3, 5, 2, seed=2), [])
    objective.after_step(0.1, TAKEN)
    assert objective.queue is not None
    assert int(objective.queue.total) == 6


def test_its_state_and_the_progress_go_through_a_state_dict() -> None:
    first = SwAV(5, 8, queue_size=6, queue_from=0.3, freeze=0.3)
    z = drawn(3, 5, 2)
    first(z, [])
    first.after_step(0.4, TAKEN)
    second = SwAV(5, 8, queue_size=6, queue_from=0.3, freeze=0.3)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(z, []), second(z, []))
    second(z, []).backward()
    assert second.prototypes.grad is not None
    assert second.prototypes.grad.abs().sum() > 0


def test_half_precision_is_computed_in_float32_even_under_autocast() -> None:
    objective = SwAV(5, 8)
    z = [x.bfloat16() for x in drawn(4, 5, 3)]
    expected = objective([x.float() for x in z], [])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = objective(z, [])
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)


def test_large_embeddings_give_a_finite_loss_and_gradient() -> None:
    z = [(1e4 * x).requires_grad_() for x in drawn(4, 5, 3)]
    loss = SwAV(5, 8, temperature=0.01)(z, [])
    loss.backward()
    assert loss.isfinite()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in z)


def test_the_collapse_value_is_that_of_equal_prototypes() -> None:
    objective = SwAV(5, 8)
    with torch.no_grad():
        objective.prototypes.copy_(torch.ones(8, 5))
    loss = objective(drawn(4, 5, 2), [])
    assert float(loss.detach()) == pytest.approx(objective.collapse_loss(4), rel=1e-6)
    assert objective.collapse_loss(4) == pytest.approx(math.log(8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature must be positive, got 0.0"),
        ({"epsilon": -0.1}, "epsilon must be positive, got -0.1"),
        ({"iterations": 0}, "iterations must be positive, got 0"),
        ({"prototypes": 1}, "prototypes must be at least 2, got 1"),
        ({"queue_size": -1}, "queue_size must not be negative, got -1"),
        ({"queue_from": 1.5}, r"queue_from must lie in \[0, 1\], got 1.5"),
        ({"freeze": -0.5}, r"freeze must lie in \[0, 1\], got -0.5"),
    ],
)
def test_unusable_values_are_named(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SwAV(4, **options)  # type: ignore[arg-type]


def test_a_single_view_and_another_dimension_are_refused() -> None:
    with pytest.raises(ValueError, match="SwAV needs at least 2 views"):
        SwAV(5, 8)(drawn(4, 5), [])
    with pytest.raises(ValueError, match=r"one shape \(B, 5\), got \(4, 3\)"):
        SwAV(5, 8)(drawn(4, 3, 2), [])
