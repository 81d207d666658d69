"""`weighted_logsumexp` against a dense float64 formula under autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mmssl.core.objectives import contrastive
from mmssl.core.objectives.contrastive import weighted_logsumexp


def dense(z: Tensor, weight: Tensor, shown: Tensor | None, anchors: slice) -> Tensor:
    """Σ_i w_i log Σ_{j ≠ i, shown} exp(z_i · z_j), as it is written down; rows without a partner must have weight 0."""
    groups, n, _ = z.shape
    allowed = ~torch.eye(n, dtype=torch.bool).expand(groups, n, n)
    if shown is not None:
        allowed = allowed & shown[:, None, :]
    weight = weight.expand(groups, n)
    total = z.new_zeros(())
    for g in range(groups):
        for i in range(*anchors.indices(n)):
            if weight[g, i] != 0:
                total = total + weight[g, i] * torch.logsumexp(z[g, i] @ z[g, allowed[g, i]].T, dim=0)
    return total


@pytest.mark.parametrize("tile", [1, 30, 2**22])
@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("anchors", [slice(None), slice(2, 5)])
@pytest.mark.parametrize("one_weight", [False, True])
def test_value_and_gradient_are_those_of_the_dense_formula(
    monkeypatch: pytest.MonkeyPatch, tile: int, hidden: bool, anchors: slice, one_weight: bool
) -> None:
    monkeypatch.setattr(contrastive, "TILE", tile)
    draw = torch.Generator().manual_seed(0)
    z = 2 * torch.randn(3, 7, 4, generator=draw)
    weight = torch.full((1, 1), 0.3) if one_weight else torch.rand(3, 7, generator=draw)
    shown = torch.rand(3, 7, generator=draw) > 0.4 if hidden else None
    exact = z.double().requires_grad_()
    expected = dense(exact, weight.double(), shown, anchors)
    (gradient,) = torch.autograd.grad(expected, exact)
    before = z.clone()
    value, dz = weighted_logsumexp(z, weight, shown, anchors=anchors)
    torch.testing.assert_close(value.double(), expected.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(dz.double(), gradient, rtol=1e-5, atol=1e-5)
    assert torch.equal(z, before)


@pytest.mark.parametrize("tile", [1, 2**22])
def test_a_row_without_a_partner_gives_no_nan_and_leaves_the_others_alone(
    monkeypatch: pytest.MonkeyPatch, tile: int
) -> None:
    monkeypatch.setattr(contrastive, "TILE", tile)
    z = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1))
    shown = torch.tensor([[False, True, False, False], [True, True, True, True]])
    weight = torch.tensor([[1.0, 0.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]])  # row 1 of group 0 has nobody, and no weight
    value, dz = weighted_logsumexp(z, weight, shown)
    exact = z.double().requires_grad_()
    expected = dense(exact, weight.double(), shown, slice(None))
    torch.testing.assert_close(value.double(), expected.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(dz.double(), torch.autograd.grad(expected, exact)[0], rtol=1e-5, atol=1e-5)


def test_groups_where_nothing_is_shown_stay_finite() -> None:
    z = torch.randn(1, 3, 2)
    value, dz = weighted_logsumexp(z, torch.zeros(1, 3), torch.zeros(1, 3, dtype=torch.bool))
    assert float(value) == 0
    assert torch.equal(dz, torch.zeros_like(dz))


def test_large_similarities_do_not_overflow() -> None:
    z = 30 * torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(2))  # exp(z · z) is far beyond float32
    value, dz = weighted_logsumexp(z, torch.ones(1, 1))
    exact = z.double().requires_grad_()
    expected = dense(exact, torch.ones(1, 1, dtype=torch.float64), None, slice(None))
    torch.testing.assert_close(value.double(), expected.detach(), rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(dz.double(), torch.autograd.grad(expected, exact)[0], rtol=1e-3, atol=1e-3)


def test_the_gradient_is_that_of_finite_differences() -> None:
    draw = torch.Generator().manual_seed(3)
    z = torch.randn(2, 5, 3, generator=draw, dtype=torch.float64)
    weight = torch.rand(2, 5, generator=draw, dtype=torch.float64)
    _, dz = weighted_logsumexp(z, weight)
    eps = 1e-6
    for _ in range(5):
        step = torch.randn(z.shape, generator=draw, dtype=torch.float64)
        up, down = (weighted_logsumexp(z + sign * eps * step, weight)[0] for sign in (1, -1))
        assert float((up - down) / (2 * eps)) == pytest.approx(float((dz * step).sum()), rel=1e-6)
