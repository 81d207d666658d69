"""TS-TCC against its formulas, written out one by one, and what it does with padding."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmssl.timeseries import tstcc
from mmssl.timeseries.augment import SeriesViews, StrongView, WeakView
from mmssl.timeseries.encoders.tstcc import ConvEncoder
from mmssl.timeseries.tstcc import TSTCC, temporal_contrast, tstcc_views
from mmssl.timeseries.tstcc_paper import PaperBlock, PaperStrongView, PaperWeakView


def unchanged(x: Tensor) -> list[Tensor]:
    return [x, 0.5 * x + 0.1]


def small(augment: Any = unchanged, **options: Any) -> TSTCC:
    torch.manual_seed(0)
    encoder = ConvEncoder(2, widths=(4, 6, 8), dropout=0.0)
    return TSTCC(encoder, augment, **{"future": 2, "width": 12, "depth": 1, "heads": 2, "hidden": 8} | options)


def series(batch: int = 5, steps: int = 50) -> Tensor:
    return torch.randn(batch, steps, 2, generator=torch.Generator().manual_seed(1))


def by_hand(anchors: Tensor, candidates: Tensor) -> float:
    """Equation 2 of the paper, term by term in float64."""
    a, c = anchors.double().numpy(), candidates.double().numpy()
    terms = []
    for k in range(a.shape[1]):
        for i in range(len(a)):
            e = [math.exp(np.dot(a[i, k], c[n, k])) for n in range(len(c))]
            terms.append(-math.log(e[i] / sum(e)))
    return float(np.mean(terms))


def test_temporal_contrast_is_the_papers_formula() -> None:
    a, c = torch.randn(6, 3, 4), torch.randn(6, 3, 4)
    assert temporal_contrast(a, c).item() == pytest.approx(by_hand(a, c), rel=1e-5)


def test_padding_is_neither_predicted_nor_a_candidate() -> None:
    a, c = torch.randn(6, 2, 4), torch.randn(6, 2, 4)
    valid = torch.ones(6, 2, dtype=torch.bool)
    valid[4, 1] = valid[5, 1] = False
    expected = (6 * by_hand(a[:, :1], c[:, :1]) + 4 * by_hand(a[:4, 1:], c[:4, 1:])) / 10
    assert temporal_contrast(a, c, valid).item() == pytest.approx(expected, rel=1e-5)
    broken = c.clone()
    broken[4:, 1] = 1e4
    assert torch.equal(temporal_contrast(a, broken, valid), temporal_contrast(a, c, valid))


def test_without_anything_to_predict_the_temporal_contrast_is_0() -> None:
    a = torch.randn(3, 2, 4, requires_grad=True)
    loss = temporal_contrast(a, torch.randn(3, 2, 4), torch.zeros(3, 2, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert a.grad is not None
    assert a.grad.isfinite().all()


def test_ranks_share_the_loss_of_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    a, c = torch.randn(8, 3, 4), torch.randn(8, 3, 4)
    valid = torch.rand(8, 3) < 0.7
    whole = temporal_contrast(a, c, valid)
    parts = []
    for number in range(2):
        monkeypatch.setattr(tstcc, "world_size", lambda: 2)
        monkeypatch.setattr(tstcc, "rank", lambda number=number: number)
        monkeypatch.setattr(tstcc, "gather", lambda x: valid if x.dtype == torch.bool else c)
        own = slice(4 * number, 4 * number + 4)
        parts.append(temporal_contrast(a[own], c[own], valid[own]))
    assert torch.stack(parts).mean().item() == pytest.approx(whole.item(), rel=1e-6)


def nt_xent_by_hand(z1: Tensor, z2: Tensor, temperature: float) -> float:
    z = F.normalize(torch.cat([z1, z2]).double(), dim=1)
    sim = (z @ z.T / temperature).exp()
    n = len(z1)
    terms = [-math.log(sim[i, (i + n) % (2 * n)] / (sim[i].sum() - sim[i, i])) for i in range(2 * n)]
    return sum(terms) / (2 * n)


def test_the_loss_is_that_of_the_paper_put_together_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    method = small()
    monkeypatch.setattr(method, "draw_moment", lambda steps: 3)
    x = series()
    out = method(x)
    features = F.normalize(method.encoder.features(torch.cat(unchanged(x)))[0], dim=-1)
    context = method.summary(features[:, :4], None)
    predicted = method.predictor(context).view(10, 2, 8)
    future = features[:, 4:6]
    pairs = [(predicted[:5], future[5:]), (predicted[5:], future[:5])]  # past of one view, future of the other
    temporal = sum(by_hand(a.detach(), b.detach()) for a, b in pairs)
    with torch.no_grad():
        first, second = method.projector(context).chunk(2)
        contextual = nt_xent_by_hand(first, second, 0.2)
    assert out["temporal_loss"].item() == pytest.approx(temporal, rel=1e-4)
    assert out["contextual_loss"].item() == pytest.approx(contextual, rel=1e-4)
    assert out["loss"].item() == pytest.approx(temporal + 0.7 * contextual, rel=1e-4)


def test_the_loss_of_the_authors_has_views_apart_two_moments_and_the_softmax_over_predictions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    method = small(reference="paper")
    for module in method.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    moments = iter([3, 1])
    monkeypatch.setattr(method, "draw_moment", lambda steps: next(moments))
    x = series()
    out = method(x)
    weak, strong = (F.normalize(method.encoder.features(view)[0], dim=-1) for view in unchanged(x))
    temporal, projected = 0.0, []
    for now, past, other in ((3, weak, strong), (1, strong, weak)):
        context = method.summary(past[:, : now + 1], None)
        predicted = method.predictor(context).view(5, 2, 8)
        temporal += by_hand(other[:, now + 1 : now + 3].detach(), predicted.detach())  # a feature finds its prediction
        projected.append(method.projector(context).detach())
    assert out["temporal_loss"].item() == pytest.approx(temporal, rel=1e-4)
    assert out["contextual_loss"].item() == pytest.approx(nt_xent_by_hand(projected[0], projected[1], 0.2), rel=1e-4)


def test_the_authors_block_is_softer_attention_and_a_relu() -> None:
    torch.manual_seed(0)
    block = PaperBlock(12, 3, 8).eval()
    x = torch.randn(2, 5, 12)
    h = block.norm1(x)
    parts = []
    for q, k, v in zip(*(part.split(4, dim=-1) for part in block.qkv(h).chunk(3, dim=-1)), strict=True):
        parts.append((q @ k.mT / math.sqrt(12)).softmax(dim=-1) @ v)
    y = x + block.proj[0](torch.cat(parts, dim=-1))
    y = y + block.mlp[3](F.relu(block.mlp[0](block.norm2(y))))
    assert torch.allclose(block(x), y, atol=1e-5)
    assert block.qkv.bias is None
    assert block.proj[1].p == 0.1
    valid = torch.tensor([[True] * 5, [True, True, True, False, False]])
    assert torch.allclose(block(x, valid)[1, :3], block(x[1:, :3])[0], atol=1e-5)


def test_the_future_does_not_leak_into_the_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    method = small().eval()
    seen: list[Tensor] = []
    monkeypatch.setattr(method, "draw_moment", lambda steps: 2)
    method.summary.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    method(series())
    assert [tuple(h.shape) for h in seen] == [(5, 3, 8), (5, 3, 8)]


def test_order_matters_to_the_summary_but_not_to_that_of_the_authors() -> None:
    h = torch.randn(3, 7, 8)
    for reference, same in ((None, False), ("paper", True)):
        summary = small(reference=reference).eval().summary
        assert torch.allclose(summary(h, None), summary(h.flip(1), None), atol=1e-5) is same


def test_every_parameter_gets_a_gradient_also_from_padded_series() -> None:
    method = small(tstcc_views(max_segments=4)).train()
    x = series(6)
    x[0, 20:] = x[1, :30] = x[2, 9, 0] = torch.nan
    out = method(x)
    out["loss"].backward()
    assert all(value.isfinite() for value in out.values())
    silent = [name for name, p in method.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert silent == []


def test_a_collapse_has_the_loss_that_is_announced() -> None:
    method = small().eval()
    for parameter in method.predictor.parameters():
        torch.nn.init.zeros_(parameter)
    last = method.projector[-1]
    assert isinstance(last, torch.nn.Linear)
    torch.nn.init.zeros_(last.weight)
    out = method(series())
    assert out["loss"].item() == pytest.approx(out["collapse_loss"].item(), rel=1e-4)


def test_moments_are_drawn_from_the_whole_series_and_come_back_with_the_state() -> None:
    method = small()
    assert {method.draw_moment(7) for _ in range(200)} == {0, 1, 2, 3, 4}
    state = method.get_extra_state().clone()
    ahead = [method.draw_moment(1000) for _ in range(5)]
    method.set_extra_state(state)
    assert [method.draw_moment(1000) for _ in range(5)] == ahead


def test_a_series_that_is_too_short_is_refused_with_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"8 features over time, and future=9 .* smaller future"):
        small(future=9)(series())


def test_views_are_a_weak_and_a_strong_one_or_those_of_the_authors() -> None:
    assert tstcc_views() == SeriesViews(WeakView(0.2, 0.05), StrongView(8, 0.2))
    assert tstcc_views(reference="paper") == SeriesViews(PaperWeakView(1.1), PaperStrongView(8, 0.8))
    with pytest.raises(ValueError, match="reference must be None or 'paper', got 'authors'"):
        tstcc_views(reference="authors")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="reference must be None or 'paper'"):
        small(reference="code")


def test_the_authors_weak_view_multiplies_each_timestamp_by_a_number_around_2() -> None:
    torch.manual_seed(0)
    factor = PaperWeakView(0.3)(torch.ones(400, 20, 3))
    assert torch.equal(factor[..., 0], factor[..., 1])
    assert factor.mean() == pytest.approx(2, abs=0.02)
    assert factor[..., 0].std() == pytest.approx(0.3, rel=0.05)


def test_the_authors_strong_view_puts_the_first_channel_in_the_place_of_all() -> None:
    x = torch.arange(30.0).expand(2000, 30)[..., None] + torch.tensor([0.0, 100.0])
    torch.manual_seed(0)
    out = PaperStrongView(8, 0.0)(x)
    copied = (out[..., 0] == out[..., 1]).all(dim=1)
    assert copied.float().mean() == pytest.approx(6 / 7, abs=0.03)  # all with more than one of one to seven segments
    assert torch.equal(out[~copied], x[~copied])
    assert torch.equal(out[copied][..., 0].sort(dim=1).values, x[copied][..., 0])
    pieces = 1 + (out[copied][..., 0].diff(dim=1) != 1).sum(dim=1)
    assert pieces.max() == 7
    assert (pieces == 1).any()  # segments that came back in their order


def test_the_authors_strong_view_leaves_padding_where_it_is() -> None:
    x = torch.arange(30.0).expand(50, 30)[..., None].clone()
    x[:, :4] = x[:, 26:] = torch.nan
    out = PaperStrongView(8, 0.0)(x)
    assert torch.equal(out.isnan(), x.isnan())
    assert torch.equal(out[:, 4:26].sort(dim=1).values, x[:, 4:26])


def test_impossible_views_of_the_authors_are_refused() -> None:
    with pytest.raises(ValueError, match="max_segments must be at least 2, got 1"):
        PaperStrongView(1)
    with pytest.raises(ValueError, match="jitter must be at least 0, got -1"):
        PaperStrongView(8, -1)
