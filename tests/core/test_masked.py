"""Masked losses against loops over tokens."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmssl.core.objectives.masked import masked_cross_entropy, masked_mse, masked_smooth_l1


def drawn(b: int, n: int, p: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Prediction, target with a few NaN, and mask."""
    draw = torch.Generator().manual_seed(seed)
    prediction, target = (torch.randn(b, n, p, generator=draw) for _ in range(2))
    target[torch.rand(b, n, p, generator=draw) < 0.2] = math.nan
    return prediction, target, torch.rand(b, n, generator=draw) < 0.6


def by_loops(
    prediction: Tensor, target: Tensor, mask: Tensor, distance: str, *, normalise: bool, beta: float
) -> Tensor:
    tokens = []
    for b, n in mask.nonzero().tolist():
        measured = ~target[b, n].isnan()
        if not measured.any():
            continue
        x, y = prediction[b, n][measured], target[b, n][measured]
        if normalise:
            variance = y.var() if len(y) > 1 else y.new_zeros(())
            y = (y - y.mean()) / (variance + 1e-6).sqrt()
        gap = (x - y).abs()
        smooth = torch.where(gap < beta, gap**2 / (2 * beta), gap - beta / 2)
        tokens.append((gap**2 if distance == "mse" else smooth).mean())
    return torch.stack(tokens).mean() if tokens else prediction.sum() * 0


def assert_equal(loss: Tensor, prediction: Tensor, expected: Tensor, exact: Tensor) -> None:
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-6)
    ours, theirs = torch.autograd.grad(loss, prediction)[0], torch.autograd.grad(expected, exact)[0]
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(b=st.integers(1, 3), n=st.integers(1, 6), p=st.integers(2, 5), normalise=st.booleans(), seed=st.integers(0, 99))
def test_masked_mse_is_a_mean_over_masked_tokens(b: int, n: int, p: int, normalise: bool, seed: int) -> None:
    prediction, target, mask = drawn(b, n, p, seed)
    prediction.requires_grad_()
    exact = prediction.detach().double().requires_grad_()
    expected = by_loops(exact, target.double(), mask, "mse", normalise=normalise, beta=1.0)
    assert_equal(masked_mse(prediction, target, mask, normalise=normalise), prediction, expected, exact)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 6), p=st.integers(1, 5), beta=st.floats(0.1, 3.0), seed=st.integers(0, 99))
def test_masked_smooth_l1_is_a_mean_over_masked_tokens(n: int, p: int, beta: float, seed: int) -> None:
    prediction, target, mask = drawn(2, n, p, seed)
    prediction.requires_grad_()
    exact = prediction.detach().double().requires_grad_()
    expected = by_loops(exact, target.double(), mask, "smooth l1", normalise=False, beta=beta)
    assert_equal(masked_smooth_l1(prediction, target, mask, beta=beta), prediction, expected, exact)


@settings(max_examples=25, deadline=None)
@given(b=st.integers(1, 3), n=st.integers(1, 6), k=st.integers(1, 7), seed=st.integers(0, 99))
def test_masked_cross_entropy_is_a_mean_over_masked_tokens(b: int, n: int, k: int, seed: int) -> None:
    logits, _, mask = drawn(b, n, k, seed)
    ids = torch.randint(-1, k, (b, n), generator=torch.Generator().manual_seed(seed))
    logits.requires_grad_()
    exact = logits.detach().double().requires_grad_()
    used = [(i, j) for i, j in mask.nonzero().tolist() if ids[i, j] >= 0]
    terms = [torch.logsumexp(exact[i, j], dim=0) - exact[i, j, ids[i, j]] for i, j in used]
    expected = torch.stack(terms).mean() if terms else exact.sum() * 0
    assert_equal(masked_cross_entropy(logits, ids, mask), logits, expected, exact)


def test_normalised_pixels_are_those_of_the_paper() -> None:
    prediction, target, mask = torch.zeros(2, 3, 8), torch.randn(2, 3, 8), torch.ones(2, 3, dtype=torch.bool)
    pixels = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(masked_mse(prediction, target, mask, normalise=True), pixels.square().mean())


@pytest.mark.parametrize("loss", [masked_mse, masked_smooth_l1])
def test_tokens_that_are_shown_and_values_that_are_missing_get_no_gradient(loss: object) -> None:
    assert callable(loss)
    prediction, target, mask = drawn(2, 5, 4)
    prediction.requires_grad_()
    loss(prediction, target, mask).backward()
    assert prediction.grad is not None
    used = mask[..., None] & ~target.isnan()
    assert (prediction.grad[~used] == 0).all()
    assert (prediction.grad[used] != 0).all()


@pytest.mark.parametrize("nothing", ["mask", "target"])
def test_nothing_to_predict_gives_zero_with_a_gradient(nothing: str) -> None:
    prediction, target, mask = drawn(2, 5, 4)
    ids = torch.zeros(2, 5, dtype=torch.int64)
    if nothing == "mask":
        mask = torch.zeros_like(mask)
    else:
        target, ids = torch.full_like(target, math.nan), ids - 1
    prediction.requires_grad_()
    for loss in (
        masked_mse(prediction, target, mask),
        masked_mse(prediction, target, mask, normalise=True),
        masked_smooth_l1(prediction, target, mask),
        masked_cross_entropy(prediction, ids, mask),
    ):
        assert float(loss.detach()) == 0
        (gradient,) = torch.autograd.grad(loss, prediction)
        assert torch.equal(gradient, torch.zeros_like(gradient))


def test_what_is_predicted_for_tokens_that_are_shown_may_be_anything() -> None:
    prediction, target, mask = drawn(2, 5, 4)
    expected = masked_mse(prediction, target, mask)
    prediction[~mask] = math.inf
    prediction.requires_grad_()
    loss = masked_mse(prediction, target, mask)
    assert torch.equal(loss, expected)
    loss.backward()
    assert prediction.grad is not None
    assert prediction.grad.isfinite().all()


def test_the_gradients_are_those_of_finite_differences() -> None:
    prediction, target, mask = (x.double() if x.is_floating_point() else x for x in drawn(2, 4, 3))
    prediction.requires_grad_()
    ids = torch.randint(0, 3, (2, 4))
    assert torch.autograd.gradcheck(lambda x: masked_mse(x, target, mask, normalise=True), prediction)
    assert torch.autograd.gradcheck(lambda x: masked_smooth_l1(x, target, mask, beta=0.5), prediction)
    assert torch.autograd.gradcheck(lambda x: masked_cross_entropy(x, ids, mask), prediction)


def test_half_precision_is_computed_in_float32_even_under_autocast() -> None:
    prediction, target, mask = drawn(3, 20, 6)
    prediction, target = prediction.bfloat16(), target.bfloat16()
    ids = torch.randint(0, 6, (3, 20))

    def losses(x: Tensor, y: Tensor) -> list[Tensor]:
        return [
            masked_mse(x, y, mask, normalise=True),
            masked_smooth_l1(x, y, mask),
            masked_cross_entropy(x, ids, mask),
        ]

    expected = losses(prediction.float(), target.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = losses(prediction, target)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == torch.float32
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_extreme_values_give_a_finite_loss(scale: float) -> None:
    prediction, target, mask = drawn(2, 5, 4)
    for normalise in (False, True):
        assert masked_mse(scale * prediction, scale * target, mask, normalise=normalise).isfinite()
    assert masked_smooth_l1(scale * prediction, scale * target, mask).isfinite()
    assert masked_cross_entropy(scale * prediction, torch.zeros(2, 5, dtype=torch.int64), mask).isfinite()


def test_shapes_and_kinds_that_do_not_fit_are_named() -> None:
    x, mask = torch.ones(2, 3, 4), torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"needs a target \(2, 3, 4\) and a mask \(2, 3\), got \(2, 3, 5\) and"):
        masked_mse(x, torch.ones(2, 3, 5), mask)
    with pytest.raises(ValueError, match=r"needs a target \(2, 3\) and a mask \(2, 3\), got \(2, 3, 4\) and"):
        masked_cross_entropy(x, torch.ones(2, 3, 4, dtype=torch.int64), mask)
    with pytest.raises(ValueError, match=r"mask must be bool, True for masked tokens, got torch.float32"):
        masked_smooth_l1(x, x, mask.float())
    with pytest.raises(ValueError, match="beta must be positive, got 0"):
        masked_smooth_l1(x, x, mask, beta=0)
    with pytest.raises(ValueError, match="at least 2 values in a token"):
        masked_mse(x[..., :1], x[..., :1], mask, normalise=True)
