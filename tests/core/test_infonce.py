"""InfoNCE with and without a queue, against the papers' formulas in float64 and against lightly."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmssl.core.objectives import ntxent
from mmssl.core.objectives.ntxent import InfoNCE

TAKEN, SKIPPED = torch.tensor(False), torch.tensor(True)


def drawn(n: int, dim: int, count: int, seed: int = 0) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(n, dim, generator=draw) for _ in range(count)]


def moco(query: Tensor, key: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Equation 1 of MoCo, query by query: −log of the share of the key among the key and the queue."""
    losses = []
    for q, k in zip(query, key, strict=True):
        q, k = q / q.norm(), k / k.norm()
        logits = torch.stack([q @ k, *(q @ other for other in queue)]) / temperature
        losses.append(torch.logsumexp(logits, dim=0) - logits[0])
    return torch.stack(losses).mean()


def moco_v3(query: Tensor, key: Tensor, temperature: float) -> Tensor:
    """Algorithm 1 of MoCo v3, one direction."""
    logits = F.normalize(query, dim=1) @ F.normalize(key, dim=1).T / temperature
    return 2 * temperature * F.cross_entropy(logits, torch.arange(len(query)))


def with_gradient(loss: Tensor, z: list[Tensor]) -> tuple[Tensor, Tensor]:
    return loss.detach().double(), torch.cat(torch.autograd.grad(loss, z)).double()


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 6),
    dim=st.integers(1, 6),
    size=st.integers(1, 12),
    count=st.integers(1, 2),
    temperature=st.floats(0.06, 0.9),
)
def test_value_and_gradient_with_a_queue_are_those_of_the_formula(
    n: int, dim: int, size: int, count: int, temperature: float
) -> None:
    objective = InfoNCE(temperature, queue_size=size, dim=dim)
    z, t = [x.requires_grad_() for x in drawn(n, dim, count)], drawn(n, dim, count, seed=1)
    exact, targets = [x.detach().double().requires_grad_() for x in z], [x.double() for x in t]
    assert objective.queue is not None
    queue = objective.queue.features.double()
    pairs = [(0, 0)] if count == 1 else [(0, 1), (1, 0)]
    expected = torch.stack([moco(exact[i], targets[j], queue, temperature) for i, j in pairs]).mean()
    value, gradient = with_gradient(expected, exact)
    loss, dz = with_gradient(objective(z, t), z)
    torch.testing.assert_close(loss, value, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(dz, gradient, rtol=1e-5, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(2, 8), dim=st.integers(1, 6), temperature=st.floats(0.06, 0.9))
def test_value_and_gradient_without_a_queue_are_those_of_moco_v3(n: int, dim: int, temperature: float) -> None:
    z, t = [x.requires_grad_() for x in drawn(n, dim, 2)], drawn(n, dim, 2, seed=1)
    exact = [x.detach().double().requires_grad_() for x in z]
    both = [moco_v3(exact[i], t[1 - i].double(), temperature) for i in range(2)]
    value, gradient = with_gradient(torch.stack(both).mean(), exact)
    loss, dz = with_gradient(InfoNCE(temperature, queue_size=0, dim=dim)(z, t), z)
    torch.testing.assert_close(loss, value, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(dz, gradient, rtol=1e-5, atol=1e-5)


def test_a_large_queue_is_gone_through_in_tiles_and_equals_the_dense_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = InfoNCE(0.1, queue_size=6_000, dim=16)
    z, t = [x.requires_grad_() for x in drawn(150, 16, 1)], drawn(150, 16, 1, seed=1)
    assert objective.queue is not None
    q, k = F.normalize(z[0], dim=1), F.normalize(t[0], dim=1)
    logits = torch.cat([(q * k).sum(dim=1, keepdim=True), q @ objective.queue.features.T], dim=1) / 0.1
    value, gradient = with_gradient(F.cross_entropy(logits, torch.zeros(150, dtype=torch.int64)), z)
    monkeypatch.setattr(ntxent, "TILE", 1)  # 64 queries at a time
    loss, dz = with_gradient(objective(z, t), z)
    torch.testing.assert_close(loss, value, rtol=1e-5, atol=0)
    assert (dz - gradient).norm() <= 1e-5 * gradient.norm()


def test_it_is_lightlys_loss_with_a_memory_bank() -> None:
    lightly = pytest.importorskip("lightly.loss")
    theirs = lightly.NTXentLoss(temperature=0.2, memory_bank_size=(24, 6))
    ours = InfoNCE(0.2, queue_size=24, dim=6)
    assert ours.queue is not None
    for seed in range(5):  # five batches of 8 go round the queue of 24
        z, t = [x.requires_grad_() for x in drawn(8, 6, 1, seed)], drawn(8, 6, 1, seed + 100)
        if seed == 0:  # their bank is random at first, as ours is
            theirs(z[0], t[0])
            ours.queue.load_state_dict({"features": theirs.memory_bank.bank.clone(), "total": torch.tensor(8)})
            continue
        value, gradient = with_gradient(theirs(z[0], t[0]), z)
        loss, dz = with_gradient(ours(z, t), z)
        ours.after_step(0.5, TAKEN)
        torch.testing.assert_close(loss, value, rtol=1e-5, atol=0)
        torch.testing.assert_close(dz, gradient, rtol=1e-5, atol=1e-6)


def test_keys_join_the_queue_after_the_step_and_not_in_the_forward_pass() -> None:
    objective = InfoNCE(queue_size=10, dim=4)
    assert objective.queue is not None
    before = copy.deepcopy(objective.state_dict())
    z, t = drawn(3, 4, 2), drawn(3, 4, 2, seed=1)
    objective(z, t)
    assert all(torch.equal(value, before[name]) for name, value in objective.state_dict().items())
    objective.after_step(0.1, TAKEN)
    torch.testing.assert_close(objective.queue.features[:6], F.normalize(torch.cat(t), dim=1))
    assert torch.equal(objective.queue.features[6:], before["queue.features"][6:])
    objective.after_step(0.2, TAKEN)  # a step without a forward pass brings nothing new
    assert int(objective.queue.total) == 6


def test_two_forward_passes_of_one_step_both_join_the_queue() -> None:
    objective = InfoNCE(queue_size=10, dim=4)
    assert objective.queue is not None
    first, second = drawn(2, 4, 2, seed=1), drawn(2, 4, 2, seed=2)
    objective(drawn(2, 4, 2), first)
    objective(drawn(2, 4, 2), second)
    objective.after_step(0.1, TAKEN)
    torch.testing.assert_close(objective.queue.features[:8], F.normalize(torch.cat(first + second), dim=1))


def test_a_skipped_step_leaves_the_queue_and_forgets_its_keys() -> None:
    objective = InfoNCE(queue_size=10, dim=4)
    before = copy.deepcopy(objective.state_dict())
    objective(drawn(3, 4, 2), [torch.full((3, 4), math.nan)] * 2)
    objective.after_step(0.1, SKIPPED)
    objective.after_step(0.2, TAKEN)
    assert all(torch.equal(value, before[name]) for name, value in objective.state_dict().items())


def test_evaluation_puts_nothing_aside() -> None:
    objective = InfoNCE(queue_size=10, dim=4).eval()
    before = copy.deepcopy(objective.state_dict())
    objective(drawn(3, 4, 2), drawn(3, 4, 2))
    objective.after_step(0.1, TAKEN)
    assert all(torch.equal(value, before[name]) for name, value in objective.state_dict().items())


def test_a_batch_larger_than_the_queue_leaves_its_last_keys() -> None:
    objective = InfoNCE(queue_size=4, dim=3)
    assert objective.queue is not None
    t = drawn(9, 3, 1)
    objective(drawn(9, 3, 1, seed=1), t)
    objective.after_step(0.1, TAKEN)
    last = F.normalize(t[0][-4:], dim=1)
    inside = {tuple(row.tolist()) for row in objective.queue.features}
    assert inside == {tuple(row.tolist()) for row in last}


def test_the_gradient_is_that_of_finite_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ntxent, "TILE", 1)
    t = [x.double() for x in drawn(3, 4, 2, seed=1)]
    for size in (0, 5):
        objective = InfoNCE(0.3, queue_size=size, dim=4).double().eval()
        z = [x.double().requires_grad_() for x in drawn(3, 4, 2)]
        assert torch.autograd.gradcheck(lambda *v, objective=objective: objective(list(v), t), z)


@pytest.mark.parametrize("size", [0, 7])
def test_half_precision_is_computed_in_float32_even_under_autocast(size: int) -> None:
    objective = InfoNCE(0.1, queue_size=size, dim=8).eval()
    z, t = [x.bfloat16().requires_grad_() for x in drawn(5, 8, 2)], [x.bfloat16() for x in drawn(5, 8, 2, seed=1)]
    expected = objective([x.float() for x in z], [x.float() for x in t])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = objective(z, t)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)


@pytest.mark.parametrize("size", [0, 7])
def test_large_embeddings_give_a_finite_loss_and_gradient(size: int) -> None:
    z = [(1e4 * x).requires_grad_() for x in drawn(5, 8, 2)]
    loss = InfoNCE(queue_size=size, dim=8)(z, [1e4 * x for x in drawn(5, 8, 2, seed=1)])
    loss.backward()
    assert loss.isfinite()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in z)


@pytest.mark.parametrize("size", [0, 12])
def test_the_collapse_value_is_that_of_equal_embeddings(size: int) -> None:
    objective = InfoNCE(0.2, queue_size=size, dim=4)
    same = [torch.ones(6, 4)] * 2
    objective(same, same)
    objective.after_step(0.5, TAKEN)  # 12 keys fill the queue
    assert float(objective(same, same)) == pytest.approx(objective.collapse_loss(6), rel=1e-5)


def test_unusable_values_are_named() -> None:
    with pytest.raises(ValueError, match="temperature must be positive, got -1"):
        InfoNCE(-1.0, queue_size=4, dim=2)
    with pytest.raises(ValueError, match="queue_size must not be negative, got -4"):
        InfoNCE(queue_size=-4, dim=2)
    with pytest.raises(ValueError, match="target of another view, got 2 outputs and 0 targets"):
        InfoNCE(queue_size=4, dim=3)(drawn(4, 3, 2), [])
    with pytest.raises(ValueError, match=r"one shape \(B, 5\), got \(4, 3\)"):
        InfoNCE(queue_size=4, dim=5)(drawn(4, 3, 2), drawn(4, 3, 2))
    with pytest.raises(ValueError, match="nothing to contrast"):
        InfoNCE(queue_size=0, dim=3)(drawn(1, 3, 2), drawn(1, 3, 2))
