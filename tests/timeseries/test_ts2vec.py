"""Crops and masks against their definition, and the hierarchical loss against loops over the paper's equations."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmssl.timeseries.encoder import DilatedConvEncoder
from mmssl.timeseries.ts2vec import TS2Vec, _HierarchicalContrast, collapse_loss, hierarchical_contrastive_loss


def encoder(channels: int = 1, **options: float) -> DilatedConvEncoder:
    return DilatedConvEncoder(channels, dim=6, hidden=4, depth=2, dropout=options.get("dropout", 0.0))


def method(**options: int | float | None) -> TS2Vec:
    return TS2Vec(encoder(), **options)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------- the loss, slowly


def slow_loss(z: Tensor, valid: Tensor | None = None, *, alpha: float = 0.5, unit: int = 0) -> Tensor:
    """Equations 1 and 2 anchor by anchor, equation 3 and algorithm 1 level by level; padding takes no part."""
    series, _, steps, _ = z.shape
    v = torch.ones(series, steps, dtype=torch.bool) if valid is None else valid
    losses: list[Tensor] = []
    while True:
        steps = z.shape[2]
        level = z.new_zeros(())
        anchors = [(i, t, s) for i in range(series) for t in range(steps) for s in (0, 1) if v[i, t]]
        for i, t, s in anchors:
            positive = z[i, s, t] @ z[i, 1 - s, t]
            if series > 1:
                others = [
                    z[i, s, t] @ z[j, r, t] for j in range(series) for r in (0, 1) if v[j, t] and (j, r) != (i, s)
                ]
                level = level + alpha * (torch.logsumexp(torch.stack(others), 0) - positive)
            if steps > 1 and len(losses) >= unit:
                others = [z[i, s, t] @ z[i, r, u] for u in range(steps) for r in (0, 1) if v[i, u] and (u, r) != (t, s)]
                level = level + (1 - alpha) * (torch.logsumexp(torch.stack(others), 0) - positive)
        losses.append(level / max(1, len(anchors)))
        if steps == 1:
            return torch.stack(losses).mean()
        pooled, still = [], []
        for t in range(0, steps - 1, 2):
            pair = [torch.where(v[:, u, None, None], z[:, :, u], -math.inf) for u in (t, t + 1)]
            top = torch.maximum(*pair)
            still.append(v[:, t] | v[:, t + 1])
            pooled.append(torch.where(still[-1][:, None, None], top, 0.0))
        z, v = torch.stack(pooled, dim=2), torch.stack(still, dim=1)


def compare(z: Tensor, valid: Tensor | None = None, *, alpha: float = 0.5, unit: int = 0) -> None:
    exact = z.double().requires_grad_()
    expected = slow_loss(exact, valid, alpha=alpha, unit=unit)
    fast = z.clone().requires_grad_()
    loss = hierarchical_contrastive_loss(fast, valid, alpha=alpha, temporal_unit=unit)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)
    (want,) = torch.autograd.grad(expected, exact) if expected.requires_grad else (torch.zeros_like(exact),)
    (3 * loss).backward()
    assert fast.grad is not None
    torch.testing.assert_close(fast.grad.double(), 3 * want, rtol=1e-4, atol=1e-6)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("unit", [0, 1, 2])
@pytest.mark.parametrize(("series", "steps"), [(3, 8), (3, 7), (2, 13), (1, 6), (3, 1), (4, 2), (1, 1)])
def test_the_loss_and_its_gradient_are_those_of_the_paper(series: int, steps: int, unit: int) -> None:
    compare(drawn(series, 2, steps, 5), unit=unit)


@pytest.mark.parametrize("alpha", [0.0, 0.2, 1.0])
def test_alpha_weighs_instance_against_temporal(alpha: float) -> None:
    compare(drawn(3, 2, 5, 4), alpha=alpha)


@settings(max_examples=25, deadline=None)
@given(
    data=st.data(), series=st.integers(1, 4), steps=st.integers(1, 7), unit=st.integers(0, 2), seed=st.integers(0, 99)
)
def test_padding_is_neither_anchor_nor_positive_nor_negative(
    data: st.DataObject, series: int, steps: int, unit: int, seed: int
) -> None:
    flags = data.draw(
        st.lists(st.lists(st.booleans(), min_size=steps, max_size=steps), min_size=series, max_size=series)
    )
    compare(drawn(series, 2, steps, 3, seed=seed), torch.tensor(flags), unit=unit)


def test_what_stands_at_padding_does_not_matter() -> None:
    z, valid = drawn(3, 2, 9, 4), torch.ones(3, 9, dtype=torch.bool)
    valid[0, 6:], valid[1, :2] = False, False
    other = torch.where(valid[:, None, :, None], z, 100.0)
    assert torch.equal(hierarchical_contrastive_loss(z, valid), hierarchical_contrastive_loss(other, valid))


def test_all_valid_is_the_same_as_no_mask() -> None:
    z = drawn(4, 2, 10, 4)
    masked = hierarchical_contrastive_loss(z, torch.ones(4, 10, dtype=torch.bool))
    torch.testing.assert_close(masked, hierarchical_contrastive_loss(z))


@pytest.mark.parametrize("padded", [False, True])
def test_the_gradient_is_that_of_finite_differences(padded: bool) -> None:
    z = drawn(3, 2, 6, 2).double().requires_grad_()
    valid = None
    if padded:
        valid = torch.ones(3, 6, dtype=torch.bool)
        valid[1, 3:] = False
    assert torch.autograd.gradcheck(lambda z: _HierarchicalContrast.apply(z, valid, slice(0, 3), 0.5, 1), (z,))


@pytest.mark.parametrize(("series", "steps", "unit"), [(4, 9, 0), (1, 5, 0), (3, 1, 0), (5, 12, 2), (1, 1, 0)])
def test_the_collapse_value_is_the_loss_of_identical_embeddings(series: int, steps: int, unit: int) -> None:
    z = drawn(3).expand(series, 2, steps, 3)
    loss = float(hierarchical_contrastive_loss(z, temporal_unit=unit))
    assert collapse_loss(series, steps, temporal_unit=unit) == pytest.approx(loss, rel=1e-5, abs=1e-5)


def test_the_loss_stays_in_float32_under_autocast() -> None:
    z = drawn(3, 2, 8, 4)
    with torch.autocast("cpu", torch.bfloat16):
        low = hierarchical_contrastive_loss(z.bfloat16())
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, hierarchical_contrastive_loss(z.bfloat16().float()))


def test_the_order_of_series_and_of_segments_does_not_matter() -> None:
    z = drawn(4, 2, 8, 4)
    loss = hierarchical_contrastive_loss(z)
    torch.testing.assert_close(hierarchical_contrastive_loss(z[[2, 0, 3, 1]]), loss)
    torch.testing.assert_close(hierarchical_contrastive_loss(z.flip(1)), loss)


# --------------------------------------------------------------------------------------------- crops and masks


@settings(max_examples=200, deadline=None)
@given(
    batch=st.integers(1, 4),
    steps=st.integers(2, 60),
    unit=st.integers(0, 2),
    multiple=st.sampled_from([1, 4, 7]),
    seed=st.integers(0, 10_000),
)
def test_crops_overlap_in_one_window_and_stay_within_the_series(
    batch: int, steps: int, unit: int, multiple: int, seed: int
) -> None:
    ts2vec = method(temporal_unit=unit, crop_multiple=multiple, seed=seed)
    if steps < 2 ** (unit + 1):
        with pytest.raises(ValueError, match=f"series have {steps} timestamps, temporal_unit={unit} needs at least"):
            ts2vec.draw_crops(batch, steps)
        return
    crops = ts2vec.draw_crops(batch, steps)
    assert 0 <= crops.first <= crops.left < crops.right <= crops.last <= steps
    assert 2 ** (unit + 1) <= crops.length <= steps
    assert crops.offset.shape == (batch,)
    assert (crops.first + crops.offset >= 0).all()
    assert (crops.last + crops.offset <= steps).all()
    if multiple > 1 and steps >= 2 * multiple:
        assert crops.length % multiple == 0
        assert (crops.left - crops.first) % multiple == 0
        assert (crops.last - crops.right) % multiple == 0
    time = torch.arange(float(steps)).repeat(batch, 1)[..., None] + 1000 * torch.arange(batch)[:, None, None]
    first, second = crops.cut(time)
    assert first.shape == (batch, crops.right - crops.first, 1)
    assert second.shape == (batch, crops.last - crops.left, 1)
    assert torch.equal(first[:, crops.left - crops.first :], second[:, : crops.length])  # the same timestamps
    for segment, start in ((first, crops.first), (second, crops.left)):
        want = start + crops.offset[:, None] + torch.arange(segment.shape[1]) + 1000 * torch.arange(batch)[:, None]
        assert torch.equal(segment[..., 0].long(), want)


def test_crops_reach_every_length_and_every_place() -> None:
    ts2vec = method()
    seen = [ts2vec.draw_crops(3, 6) for _ in range(600)]
    assert {c.length for c in seen} == {2, 3, 4, 5, 6}
    assert {int(o) + c.first for c in seen for o in c.offset} == {0, 1, 2, 3, 4}
    assert {int(o) + c.last for c in seen for o in c.offset} == {2, 3, 4, 5, 6}
    assert any(c.first < c.left and c.right < c.last for c in seen)
    assert any(len(set(c.offset.tolist())) == 3 for c in seen)  # every series has an offset of its own


def test_crop_multiples_leave_few_shapes() -> None:
    ts2vec = method(crop_multiple=16)
    lengths = {ts2vec.draw_crops(2, 100).length for _ in range(300)}
    assert lengths == {16, 32, 48, 64, 80, 96}


def test_the_generator_goes_on_from_a_saved_state() -> None:
    one, two = method(seed=3), method(seed=4)
    for _ in range(5):
        one.draw_crops(2, 50)
    two.load_state_dict(one.state_dict())
    for _ in range(5):
        a, b = one.draw_crops(4, 50), two.draw_crops(4, 50)
        assert (a.first, a.left, a.right, a.last) == (b.first, b.left, b.right, b.last)
        assert torch.equal(a.offset, b.offset)


def test_crops_leave_the_global_generator_alone() -> None:
    ts2vec = method()
    before = torch.get_rng_state()
    ts2vec.draw_crops(4, 50)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.5])
def test_masks_hide_at_their_rate_and_independently(rate: float) -> None:
    torch.manual_seed(0)
    ts2vec, x = method(mask_rate=rate), torch.zeros(50, 400, 1)
    a, b = ts2vec.draw_mask(x), ts2vec.draw_mask(x)
    assert a.shape == (50, 400)
    assert a.dtype == torch.bool
    for mask in (a, b):
        assert float(mask.float().mean()) == pytest.approx(1 - rate, abs=0.02)
    assert float((a & b).float().mean()) == pytest.approx((1 - rate) ** 2, abs=0.02)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_an_impossible_mask_rate_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match=rf"mask_rate must lie in \[0, 1\), got {rate}"):
        method(mask_rate=rate)


# ------------------------------------------------------------------------------------------------- the method


@pytest.mark.parametrize("missing", ["drop", "indicator"])
def test_a_step_gives_a_finite_loss_and_a_gradient_in_every_parameter(missing: str) -> None:
    torch.manual_seed(0)
    ts2vec = TS2Vec(DilatedConvEncoder(3, dim=6, hidden=4, depth=3, missing=missing))  # type: ignore[arg-type]
    x = torch.randn(4, 40, 3)
    x[0, 30:], x[1, :5], x[2, 7], x[3, 9, 1] = math.nan, math.nan, math.nan, math.nan
    before = x.clone()
    out = ts2vec(x)
    out["loss"].backward()
    assert torch.equal(x.nan_to_num(7), before.nan_to_num(7))
    assert torch.isfinite(out["loss"])
    assert not out["collapse_loss"].requires_grad
    for name, p in ts2vec.encoder.named_parameters():
        assert p.grad is not None, name
        assert torch.isfinite(p.grad).all(), name
        assert p.grad.abs().sum() > 0, name


def test_the_loss_of_a_step_is_the_loss_of_its_crops() -> None:
    ts2vec, twin = method(mask_rate=0.0, seed=5), method(mask_rate=0.0, seed=5)
    x = drawn(3, 30, 1)
    crops = twin.draw_crops(3, 30)
    first, second = crops.cut(x)
    a = ts2vec.encoder.timestamps(first)[:, -crops.length :]
    b = ts2vec.encoder.timestamps(second)[:, : crops.length]
    out = ts2vec(x)
    torch.testing.assert_close(out["loss"], slow_loss(torch.stack([a, b], dim=1)), rtol=1e-5, atol=1e-5)
    assert float(out["collapse_loss"]) == pytest.approx(collapse_loss(3, crops.length), rel=1e-6)


def test_padding_at_the_end_changes_nothing_in_the_loss() -> None:
    z = drawn(3, 2, 12, 4)
    valid = torch.ones(3, 12, dtype=torch.bool)
    valid[:, 8:] = False  # as many levels as 8 timestamps have
    torch.testing.assert_close(hierarchical_contrastive_loss(z, valid), hierarchical_contrastive_loss(z[:, :, :8]))


def test_series_beyond_the_longest_length_are_cut_to_it() -> None:
    ts2vec, starts, seen = method(max_length=16), set(), []

    def look(x: list[Tensor], keep: list[Tensor], span: list[slice]) -> Tensor:
        seen.append(torch.cat([segment.flatten() for segment in x]))
        return torch.zeros(2, 2, span[1].stop, 3)

    ts2vec.encode_shared = look
    for _ in range(60):
        ts2vec(torch.arange(50.0)[None, :, None].expand(2, 50, 1))
        assert seen[-1].max() - seen[-1].min() < 16
        starts.add(int(seen[-1].min()))
    assert len(starts) > 20


def test_training_moves_the_average_and_exports_it() -> None:
    ts2vec = method()
    before = [p.clone() for p in ts2vec.export().parameters()]
    with torch.no_grad():
        for p in ts2vec.encoder.parameters():
            p.add_(1)
    ts2vec.after_step(1.0, torch.tensor(False))
    assert ts2vec.export() is ts2vec.averaged.module
    for old, new in zip(before, ts2vec.export().parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.5)


def test_the_state_goes_round() -> None:
    one, two = method(seed=1), method(seed=2)
    with torch.no_grad():
        for p in one.encoder.parameters():
            p.add_(0.1)
    one.after_step(0.5, torch.tensor(False))
    two.load_state_dict(one.state_dict())
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name]), name
    torch.manual_seed(0)
    a = one(drawn(3, 20, 1))["loss"]
    torch.manual_seed(0)
    assert torch.equal(two(drawn(3, 20, 1))["loss"], a)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_loss_and_its_gradient_are_the_same_on_a_gpu() -> None:
    valid = torch.ones(4, 20, dtype=torch.bool)
    valid[0, 11:] = False
    z = drawn(4, 2, 20, 8)
    grads, losses = [], []
    for device in ("cpu", "cuda"):
        x = z.to(device).requires_grad_()
        loss = hierarchical_contrastive_loss(x, valid.to(device))
        loss.backward()
        assert x.grad is not None
        grads.append(x.grad.cpu())
        losses.append(loss.detach().cpu())
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-4, atol=1e-5)
