"""NT-Xent against the paper's formula in loops, against a dense cross-entropy, and against lightly."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmssl.core.objectives import ntxent
from mmssl.core.objectives.ntxent import NTXent, nt_xent


def views(n: int, dim: int, *, count: int = 2, seed: int = 0, scale: float = 1.0) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(n, dim, generator=draw) for _ in range(count)]


def as_written(z: list[Tensor], temperature: float) -> Tensor:
    """Equation 1 of the paper in float64, anchor by anchor; several positives are averaged."""
    samples = [[v[i] / v[i].norm() for v in z] for i in range(len(z[0]))]
    everyone = [(i, a) for i in range(len(samples)) for a in range(len(z))]
    loss = z[0].new_zeros(())
    for i, a in everyone:
        logits = {(k, b): samples[i][a] @ samples[k][b] / temperature for k, b in everyone if (k, b) != (i, a)}
        total = torch.logsumexp(torch.stack(list(logits.values())), dim=0)
        positives = [logits[i, b] for b in range(len(z)) if b != a]
        loss = loss + total - torch.stack(positives).mean()
    return loss / len(everyone)


def dense(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    """The usual implementation: all similarities in one matrix."""
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    sim = (z @ z.T / temperature).masked_fill(torch.eye(len(z), dtype=torch.bool), -math.inf)
    n = len(z1)
    return F.cross_entropy(sim, torch.cat([torch.arange(n, 2 * n), torch.arange(n)]))


def with_gradient(loss: Tensor, z: list[Tensor]) -> tuple[Tensor, Tensor]:
    return loss.detach().double(), torch.cat(torch.autograd.grad(loss, z)).double()


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(2, 9),
    dim=st.integers(1, 8),
    count=st.integers(2, 4),
    side=st.integers(1, 20),
    temperature=st.floats(0.06, 0.9),
)
def test_value_and_gradient_are_those_of_the_formula_whatever_the_tiles(
    n: int, dim: int, count: int, side: int, temperature: float
) -> None:
    exact = [x.double().requires_grad_() for x in views(n, dim, count=count)]
    value, gradient = with_gradient(as_written(exact, temperature), exact)
    z = [x.requires_grad_() for x in views(n, dim, count=count)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ntxent, "SIDE", side)
        loss, dz = with_gradient(NTXent(temperature)(z, []), z)
    torch.testing.assert_close(loss, value, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(dz, gradient, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_many_tiles_equal_the_dense_loss_in_float32(temperature: float) -> None:
    z = [x.requires_grad_() for x in views(700, 16)]  # 1,400 rows: three tiles a side, the last one narrower
    assert len(z[0]) * 2 > 2 * ntxent.SIDE
    expected, gradient = with_gradient(dense(z[0], z[1], temperature), z)
    value, dz = with_gradient(nt_xent(z[0], z[1], temperature=temperature), z)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=0)
    assert (dz - gradient).norm() <= 1e-5 * gradient.norm()


@pytest.mark.filterwarnings("ignore:temperature=")
@pytest.mark.parametrize("temperature", [0.001, 0.01, 0.1, 10.0])
def test_any_temperature_is_as_exact(temperature: float) -> None:
    exact = [x.double().requires_grad_() for x in views(5, 3, seed=3)]
    value, gradient = with_gradient(as_written(exact, temperature), exact)
    z = [x.detach().float().requires_grad_() for x in exact]
    loss, dz = with_gradient(nt_xent(z[0], z[1], temperature=temperature), z)
    torch.testing.assert_close(loss, value, rtol=1e-5, atol=1e-5)
    assert (dz - gradient).norm() <= 1e-4 * gradient.norm()  # a similarity is exact to 1e-7, over the temperature


def test_it_is_lightlys_loss() -> None:
    lightly = pytest.importorskip("lightly.loss")
    z = [x.requires_grad_() for x in views(12, 7)]
    expected, gradient = with_gradient(lightly.NTXentLoss(temperature=0.3)(*z), z)
    value, dz = with_gradient(NTXent(0.3)(z, []), z)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(dz, gradient, rtol=1e-5, atol=1e-6)


def test_the_gradient_is_that_of_finite_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ntxent, "SIDE", 4)
    z = [x.double().requires_grad_() for x in views(3, 4, count=3)]
    assert torch.autograd.gradcheck(lambda *v: NTXent(0.2)(list(v), []), z)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32_even_under_autocast(dtype: torch.dtype) -> None:
    z = [x.to(dtype).requires_grad_() for x in views(20, 8)]
    expected = nt_xent(z[0].float(), z[1].float(), temperature=0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = nt_xent(z[0], z[1], temperature=0.1)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)
    loss.backward()
    assert all(x.grad is not None and x.grad.dtype == dtype and x.grad.isfinite().all() for x in z)


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_the_scale_of_embeddings_does_not_matter(scale: float) -> None:
    z = [x.requires_grad_() for x in views(6, 5, scale=scale)]
    loss = nt_xent(z[0], z[1], temperature=0.5)
    torch.testing.assert_close(loss, nt_xent(*views(6, 5), temperature=0.5))
    loss.backward()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in z)


@pytest.mark.parametrize("count", [2, 3])
def test_the_collapse_value_is_that_of_equal_embeddings(count: int) -> None:
    objective = NTXent()
    loss = objective([torch.ones(7, 4)] * count, [])
    assert float(loss) == pytest.approx(objective.collapse_loss(7), rel=1e-6)
    assert objective.collapse_loss(7) == pytest.approx(math.log(count * 7 - 1))


def test_the_input_is_left_alone_and_no_gradient_needs_no_gradient() -> None:
    z = views(6, 5)
    before = [x.clone() for x in z]
    with torch.no_grad():
        loss = nt_xent(z[0], z[1], temperature=0.5)
    assert not loss.requires_grad
    assert all(torch.equal(a, b) for a, b in zip(z, before, strict=True))


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_that_is_not_positive_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match=f"temperature must be positive, got {temperature}"):
        NTXent(temperature)
    with pytest.raises(ValueError, match="temperature must be positive"):
        nt_xent(*views(2, 2), temperature=temperature)


@pytest.mark.parametrize(("temperature", "why"), [(0.04, "single pairs decide"), (1.5, "count hardly more")])
def test_a_temperature_out_of_the_usual_range_draws_a_warning_that_says_why(temperature: float, why: str) -> None:
    with pytest.warns(UserWarning, match=why) as caught:
        NTXent(temperature)
    assert caught[0].filename == __file__


def test_a_single_sample_has_nothing_to_be_contrasted_with() -> None:
    with pytest.raises(ValueError, match="nothing to contrast"):
        nt_xent(*views(1, 4), temperature=0.5)


def test_a_single_view_and_unequal_views_are_refused() -> None:
    with pytest.raises(ValueError, match="needs at least 2 views of each sample, got 1"):
        NTXent()(views(4, 3)[:1], [])
    with pytest.raises(ValueError, match=r"one shape \(B, D\), got \(4, 3\), \(4, 2\)"):
        NTXent()([torch.ones(4, 3), torch.ones(4, 2)], [])
