"""CLIP's and SigLIP's losses against the papers' formulas, pair by pair in float64, and against open_clip."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mmssl.core.methods.scaling import pair_bias
from mmssl.core.objectives import alignment
from mmssl.core.objectives.alignment import PairObjective
from mmssl.core.objectives.clip import CLIP
from mmssl.core.objectives.siglip import SigLIP

TAKEN, SKIPPED = torch.tensor(False), torch.tensor(True)
BUILD: dict[str, Callable[[], PairObjective]] = {"CLIP": CLIP, "SigLIP": lambda: SigLIP(bias=-2.0)}
both = pytest.mark.parametrize("build", BUILD.values(), ids=BUILD)


def drawn(n: int, dim: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(n, dim, generator=draw).requires_grad_() for _ in range(2))
    return a, b


def repeated(n: int, kinds: int, seed: int = 0) -> Tensor:
    """Numbers of a and b of which some occur several times."""
    return torch.randint(0, kinds, (n, 2), generator=torch.Generator().manual_seed(seed)) * 7 - 3


def are_positive(ids: Tensor | None, n: int) -> list[list[bool]]:
    if ids is None:
        return [[i == j for j in range(n)] for i in range(n)]
    rows = ids.tolist()
    return [[rows[i][0] == rows[j][0] or rows[i][1] == rows[j][1] for j in range(n)] for i in range(n)]


def clip(a: Tensor, b: Tensor, log_scale: Tensor, ids: Tensor | None) -> Tensor:
    """Cross-entropy with a target that is even over the positives, both directions, anchor by anchor."""
    positive = are_positive(ids, len(a))
    losses = []
    for x, y in ((a, b), (b, a)):
        for i in range(len(x)):
            logits = torch.stack([log_scale.exp() * F.cosine_similarity(x[i], y[j], dim=0) for j in range(len(y))])
            share = logits.log_softmax(dim=0)
            losses.append(-torch.stack([share[j] for j in range(len(y)) if positive[i][j]]).mean())
    return torch.stack(losses).mean()


def siglip(a: Tensor, b: Tensor, log_scale: Tensor, bias: Tensor, ids: Tensor | None) -> Tensor:
    """Algorithm 1 of the paper, decision by decision."""
    positive = are_positive(ids, len(a))
    loss = torch.zeros((), dtype=torch.float64)
    for i in range(len(a)):
        for j in range(len(b)):
            logit = log_scale.exp() * F.cosine_similarity(a[i], b[j], dim=0) + bias
            loss = loss - F.logsigmoid(logit if positive[i][j] else -logit)
    return loss / len(a)


def reference(objective: PairObjective, a: Tensor, b: Tensor, ids: Tensor | None) -> tuple[Tensor, list[Tensor]]:
    """Value and gradients in float64."""
    inputs = [x.detach().double().requires_grad_() for x in (a, b, *objective.parameters())]
    x, y, *learnt = inputs
    value = clip(x, y, learnt[0], ids) if isinstance(objective, CLIP) else siglip(x, y, learnt[0], learnt[1], ids)
    return value.detach(), list(torch.autograd.grad(value, inputs))


def assert_close(found: Tensor, expected: Tensor) -> None:
    assert (found.double() - expected).norm() <= 1e-5 * (1 + expected.norm())


@both
@settings(max_examples=20, deadline=None)
@given(
    n=st.integers(2, 9),
    dim=st.integers(2, 6),
    kinds=st.integers(0, 9),
    side=st.integers(1, 5),
    scale=st.floats(1.1, 40.0),
)
def test_value_and_gradients_are_those_of_the_formula(
    build: Callable[[], PairObjective], n: int, dim: int, kinds: int, side: int, scale: float
) -> None:
    objective = build()
    objective.log_scale.data.fill_(math.log(scale))
    a, b = drawn(n, dim)
    ids = repeated(n, kinds) if kinds else None
    value, gradients = reference(objective, a, b, ids)
    with mock.patch.object(alignment, "SIDE", side):
        loss = objective(a, b, ids)
    assert loss.dtype == torch.float32
    assert_close(loss.detach(), value)
    for found, expected in zip(torch.autograd.grad(loss, [a, b, *objective.parameters()]), gradients, strict=True):
        assert_close(found, expected)


@pytest.mark.parametrize("n", [2, 65, 700])
def test_they_are_open_clips_losses(n: int) -> None:
    theirs = pytest.importorskip("open_clip.loss")
    a, b = drawn(n, 16)
    for objective in (CLIP(), SigLIP(bias=pair_bias(n))):
        scale = objective.log_scale.detach().exp().requires_grad_()
        sides = F.normalize(a, dim=1), F.normalize(b, dim=1)
        if isinstance(objective, SigLIP):
            inputs = [a, b, scale, objective.bias]
            expected = theirs.SigLipLoss()(*sides, scale, objective.bias)
        else:
            inputs = [a, b, scale]
            expected = theirs.ClipLoss()(*sides, scale)
        gradients = list(torch.autograd.grad(expected, inputs))
        gradients[2] = gradients[2] * scale.detach()  # ours is of the logarithm
        loss = objective(a, b)
        assert_close(loss.detach(), expected.detach())
        for found, wanted in zip(torch.autograd.grad(loss, [a, b, *objective.parameters()]), gradients, strict=True):
            assert_close(found, wanted)


@both
def test_the_gradient_is_that_of_finite_differences(build: Callable[[], PairObjective]) -> None:
    objective = build().double()
    a, b = (x.detach().double().requires_grad_() for x in drawn(4, 3))
    objective.log_scale.data.fill_(1.0)
    for ids in (None, repeated(4, 2)):
        assert torch.autograd.gradcheck(lambda a, b, *_, ids=ids: objective(a, b, ids), [a, b, *objective.parameters()])


class Largest(TorchDispatchMode):
    """Notes how many elements the largest result of all operations has."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        sizes = [x.numel() for x in (out if isinstance(out, tuple | list) else [out]) if isinstance(x, Tensor)]
        self.elements = max([self.elements, *sizes])
        return out


@both
def test_the_matrix_of_similarities_is_never_held(build: Callable[[], PairObjective]) -> None:
    objective, (a, b) = build(), drawn(400, 8)
    with mock.patch.object(alignment, "SIDE", 64), Largest() as largest:
        objective(a, b, repeated(400, 300)).backward()
    assert largest.elements <= 64 * 64  # a tile; all would be 160,000


@both
def test_ids_that_never_repeat_change_nothing(build: Callable[[], PairObjective]) -> None:
    objective, (a, b) = build(), drawn(9, 4)
    apart = torch.stack([torch.randperm(9), 50 - torch.randperm(9)], dim=1)
    assert_close(objective(a, b, apart).detach(), objective(a, b).detach().double())


def test_copies_of_a_caption_contradict_each_other_in_siglip_unless_they_are_told() -> None:
    objective = SigLIP(bias=-45.0)
    objective.log_scale.data.fill_(math.log(90))
    a = torch.tensor([[1.0, 0], [1.0, 0], [0, 1.0]])  # two images of a horse, one of a boat; all captions fit
    copies = torch.tensor([[0, 5], [1, 5], [2, 6]])
    assert float(objective(a, a, copies).detach()) < 1e-6
    assert float(objective(a, a).detach()) > 29  # twice 45, of three images


def test_copies_of_a_caption_are_alike_to_clip_as_long_as_they_are_embedded_alike() -> None:
    a, b = drawn(6, 4)
    ids = torch.tensor([[0, 0], [1, 0], [2, 0], [3, 1], [4, 1], [5, 2]])
    b = b[ids[:, 1]]
    assert_close(CLIP()(a, b, ids).detach(), CLIP()(a, b).detach().double())


@both
def test_half_precision_is_computed_in_float32_even_under_autocast(build: Callable[[], PairObjective]) -> None:
    objective = build()
    a, b = (x.detach().bfloat16().requires_grad_() for x in drawn(5, 8))
    expected = objective(a.float(), b.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = objective(a, b)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)
    loss.backward()
    assert a.grad is not None
    assert a.grad.dtype == torch.bfloat16


@both
def test_large_embeddings_and_the_largest_scale_give_a_finite_loss_and_gradient(
    build: Callable[[], PairObjective],
) -> None:
    objective = build()
    objective.log_scale.data.fill_(math.log(100))
    a, b = drawn(6, 8)
    loss = objective(1e4 * a, -1e4 * a + b)  # every pair is as wrong as it can be
    gradients = torch.autograd.grad(loss, [a, b, *objective.parameters()])
    assert loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients)


@both
def test_the_scale_is_clamped_after_the_step_and_not_in_the_forward_pass(build: Callable[[], PairObjective]) -> None:
    objective = build()
    objective.log_scale.data.fill_(5.0)
    before = copy.deepcopy(objective.state_dict())
    objective(*drawn(3, 4))
    objective.after_step(0.1, SKIPPED)
    assert all(torch.equal(value, before[name]) for name, value in objective.state_dict().items())
    objective.after_step(0.2, TAKEN)
    assert float(objective.log_scale.detach()) == pytest.approx(math.log(100))
    objective.log_scale.data.fill_(1.5)
    objective.after_step(0.3, TAKEN)
    assert float(objective.log_scale.detach()) == 1.5


@pytest.mark.parametrize("ids", [None, repeated(12, 4)], ids=["apart", "repeated"])
def test_clips_collapse_value_is_that_of_equal_embeddings(ids: Tensor | None) -> None:
    same = torch.ones(12, 4)
    assert float(CLIP()(same, same, ids).detach()) == pytest.approx(float(CLIP().collapse_loss(12)), rel=1e-5)


@pytest.mark.parametrize("ids", [None, repeated(12, 4)], ids=["apart", "repeated"])
def test_siglips_collapse_value_is_the_least_that_a_bias_can_reach_with_equal_embeddings(ids: Tensor | None) -> None:
    same = torch.ones(12, 4)
    reached = []
    for bias in torch.arange(-16.0, -6.0, 0.02):
        objective = SigLIP(bias=float(bias))
        reached.append(float(objective(same, same, ids).detach()))
    assert min(reached) == pytest.approx(float(objective.collapse_loss(12)), rel=1e-4)


def test_siglip_starts_at_its_collapse_value_with_the_bias_of_the_batch() -> None:
    a, b = torch.eye(64)[:32], torch.eye(64)[32:]  # random towers: nothing is like anything
    objective = SigLIP(bias=pair_bias(32))
    assert float(objective(a, b).detach()) == pytest.approx(float(objective.collapse_loss(32)), rel=1e-5)
    assert pair_bias(16_384) == pytest.approx(-10, abs=0.5)  # the paper's value at the paper's batch


def test_health_tells_scale_and_bias() -> None:
    assert {name: round(float(value), 3) for name, value in CLIP().health().items()} == {"scale": 14.286}
    assert {name: round(float(value), 3) for name, value in SigLIP().health().items()} == {"scale": 10, "bias": -10}


@both
def test_what_cannot_work_is_named(build: Callable[[], PairObjective]) -> None:
    a, b = drawn(3, 4)
    with pytest.raises(ValueError, match="given a batch of one sample, which leaves nothing to tell it from: use a ba"):
        build()(a[:1], b[:1])
    with pytest.raises(ValueError, match=r"one shape \(B, D\), got \(3, 4\), \(2, 4\)"):
        build()(a, b[:2])
    with pytest.raises(ValueError, match=r"ids of shape \(3, 2\), two for each pair, got \(3,\)"):
        build()(a, b, torch.zeros(3, dtype=torch.int64))


def test_unusable_settings_are_named() -> None:
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        CLIP(0.0)
    with (
        pytest.raises(ValueError, match=r"at least 0\.01, where it is clamped, got 0\.001"),
        pytest.warns(match="below"),
    ):
        CLIP(0.001)
    with pytest.warns(UserWarning, match=r"temperature=2\.0: above 1"):
        SigLIP(2.0)
    with pytest.raises(ValueError, match="bias must be a finite number, got nan"):
        SigLIP(bias=math.nan)
