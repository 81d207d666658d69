"""Barlow Twins and VICReg against the papers' formulas in loops, and against lightly."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmssl.core.objectives.objective import Objective
from mmssl.core.objectives.redundancy import BarlowTwins, VICReg


def drawn(n: int, dim: int, seed: int = 0) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, dim, generator=draw)
    return [x, 0.7 * x + 0.5 * torch.randn(n, dim, generator=draw) + 0.3]


def barlow_twins(x: Tensor, y: Tensor, lambd: float) -> Tensor:
    """Equations 1 and 2 of the paper, entry by entry."""
    n, dim = x.shape
    x = (x - x.mean(0)) / ((x - x.mean(0)).square().mean(0) + 1e-5).sqrt()
    y = (y - y.mean(0)) / ((y - y.mean(0)).square().mean(0) + 1e-5).sqrt()
    loss = x.new_zeros(())
    for i in range(dim):
        for j in range(dim):
            c = (x[:, i] * y[:, j]).sum() / n
            loss = loss + ((1 - c) ** 2 if i == j else lambd * c**2)
    return loss


def vicreg(x: Tensor, y: Tensor, invariance: float, variance: float, covariance: float) -> Tensor:
    """Equations 1 to 6 of the paper; the weights of the terms as in the authors' code."""
    n, dim = x.shape
    loss = invariance * sum((a - b).square().sum() for a, b in zip(x, y, strict=True)) / (n * dim)
    for z in (x, y):
        c = z - z.mean(0)
        for i in range(dim):
            spread = ((c[:, i] ** 2).sum() / (n - 1) + 1e-4).sqrt()
            loss = loss + variance * torch.clamp(1 - spread, min=0) / dim / 2
            for j in range(dim):
                if i != j:
                    loss = loss + covariance * ((c[:, i] * c[:, j]).sum() / (n - 1)) ** 2 / dim
    return loss


def with_gradient(loss: Tensor, z: list[Tensor]) -> tuple[Tensor, Tensor]:
    return loss.detach().double(), torch.cat(torch.autograd.grad(loss, z)).double()


def assert_equal(objective: Objective, z: list[Tensor], expected: tuple[Tensor, Tensor]) -> None:
    value, gradient = with_gradient(objective(z, []), z)
    torch.testing.assert_close(value, expected[0], rtol=1e-5, atol=1e-5)
    assert (gradient - expected[1]).norm() <= 1e-5 * expected[1].norm() + 1e-6


@settings(max_examples=20, deadline=None)
@given(n=st.integers(3, 9), dim=st.integers(1, 9), lambd=st.floats(0.0, 1.0))
def test_barlow_twins_is_the_formula_with_more_or_fewer_samples_than_dimensions(n: int, dim: int, lambd: float) -> None:
    z = [x.requires_grad_() for x in drawn(n, dim)]
    exact = [x.detach().double().requires_grad_() for x in z]
    assert_equal(BarlowTwins(lambd), z, with_gradient(barlow_twins(exact[0], exact[1], lambd), exact))


@settings(max_examples=20, deadline=None)
@given(n=st.integers(3, 9), dim=st.integers(1, 9), weight=st.floats(0.0, 30.0))
def test_vicreg_is_the_formula_with_more_or_fewer_samples_than_dimensions(n: int, dim: int, weight: float) -> None:
    z = [x.requires_grad_() for x in drawn(n, dim)]
    exact = [x.detach().double().requires_grad_() for x in z]
    expected = with_gradient(vicreg(exact[0], exact[1], 25.0, 20.0, weight), exact)
    assert_equal(VICReg(invariance=25.0, variance=20.0, covariance=weight), z, expected)


@pytest.mark.parametrize(("n", "dim"), [(40, 12), (12, 40)])
def test_they_are_lightlys_losses(n: int, dim: int) -> None:
    lightly = pytest.importorskip("lightly.loss")
    z = [x.requires_grad_() for x in drawn(n, dim)]
    assert_equal(BarlowTwins(0.01), z, with_gradient(lightly.BarlowTwinsLoss(0.01)(*z), z))
    assert_equal(VICReg(), z, with_gradient(lightly.VICRegLoss()(*z), z))


@pytest.mark.parametrize("dim", [3, 8])
@pytest.mark.parametrize("objective", [BarlowTwins(), VICReg()])
def test_the_gradient_is_that_of_finite_differences(objective: Objective, dim: int) -> None:
    z = [x.double().requires_grad_() for x in drawn(5, dim)]
    assert torch.autograd.gradcheck(lambda *v: objective(list(v), []), z)


@pytest.mark.parametrize("dim", [8, 64])
@pytest.mark.parametrize("objective", [BarlowTwins(), VICReg()])
def test_half_precision_is_computed_in_float32_even_under_autocast(objective: Objective, dim: int) -> None:
    z = [x.bfloat16() for x in drawn(20, dim)]
    expected = objective([x.float() for x in z], [])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = objective(z, [])
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)


@pytest.mark.parametrize("objective", [BarlowTwins(), VICReg()])
@pytest.mark.parametrize("scale", [0.0, 1e-4, 1e4])
def test_extreme_embeddings_give_a_finite_loss_and_gradient(objective: Objective, scale: float) -> None:
    z = [(scale * x).requires_grad_() for x in drawn(8, 32)]
    loss = objective(z, [])
    loss.backward()
    assert loss.isfinite()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in z)


@pytest.mark.parametrize("objective", [BarlowTwins(), VICReg()])
def test_a_single_sample_and_a_third_view_are_refused(objective: Objective) -> None:
    with pytest.raises(ValueError, match="batch of one sample, which has no variance"):
        objective(drawn(1, 4), [])
    with pytest.raises(ValueError, match="exactly 2 views of each sample, got 3"):
        objective([torch.ones(4, 3)] * 3, [])


def test_negative_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="lambd must not be negative, got -1"):
        BarlowTwins(-1.0)
    with pytest.raises(ValueError, match="covariance must not be negative, got -2"):
        VICReg(covariance=-2.0)
