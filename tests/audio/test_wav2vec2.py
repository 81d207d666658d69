"""wav2vec 2.0 against transformers' model and a plain rewriting of the paper's formulas; and what must never happen."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmssl.audio.spans import masked_count
from mmssl.audio.wav2vec2 import GumbelQuantizer, Wav2Vec2, contrastive_loss, draw_negatives
from mmssl.audio.wav2vec2_checkpoint import encoder_of
from mmssl.audio.wav2vec2_encoder import Wav2Vec2Encoder, conv_stack
from tests.audio.waveforms import noises, padded, small


def method(**changes: Any) -> Wav2Vec2:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"span": 4, "entries": 8, "code_dim": 8, "dim": 8, "negatives": 12}
    return Wav2Vec2(small(), **(settings | changes))


def batch() -> Tensor:
    return padded(noises([3300, 2400, 1600]), 3300)


# ------------------------------------------------------------------------------------------------------- references


def slow_contrast(c: Tensor, q: Tensor, names: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """Equation 3 of the paper, frame by frame and vector by vector."""
    out = torch.zeros(c.shape[:2], dtype=torch.float64)
    for b in range(len(c)):
        for t in range(c.shape[1]):
            others = [int(j) for j in negatives[b, t] if names[b, j] != names[b, t]]
            scores = [F.cosine_similarity(c[b, t].double(), q[b, j].double(), dim=0) for j in [t, *others]]
            out[b, t] = -(torch.stack(scores) / temperature).log_softmax(dim=0)[0]
    return out


def test_the_contrastive_loss_is_the_papers() -> None:
    torch.manual_seed(0)
    c, codebook = torch.randn(3, 9, 6), torch.randn(5, 6)
    names = torch.randint(5, (3, 9))
    negatives = draw_negatives(torch.ones(3, 9, dtype=torch.bool), 20)
    found = contrastive_loss(c, codebook[names], names, negatives, 0.1)
    expected = slow_contrast(c, codebook[names], names, negatives, 0.1)
    torch.testing.assert_close(found.loss.double(), expected, atol=1e-5, rtol=1e-5)
    different = (names[:, :, None] != names.gather(1, negatives.flatten(1)).view_as(negatives)).sum(dim=2)
    torch.testing.assert_close(found.even, (1 + different).log())


def test_loss_and_quantizer_are_those_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.Wav2Vec2Config(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        conv_dim=[16, 16, 16],
        conv_kernel=[10, 3, 2],
        conv_stride=[5, 2, 2],
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=4,
        codevector_dim=12,
        proj_codevector_dim=10,
        num_codevectors_per_group=6,
        num_codevector_groups=2,
        diversity_loss_weight=0.1,
    )
    torch.manual_seed(0)
    theirs = transformers.Wav2Vec2ForPreTraining(config).eval()
    ours = Wav2Vec2(
        encoder_of(theirs.state_dict(), heads=2, strides=[5, 2, 2]),
        span=4,
        entries=6,
        code_dim=12,
        dim=10,
        negatives=7,
        feature_penalty=0.0,
    ).eval()
    with torch.no_grad():
        ours.masking.mask_token.copy_(theirs.wav2vec2.masked_spec_embed)
        ours.quantizer.logits.load_state_dict(theirs.quantizer.weight_proj.state_dict())
        ours.quantizer.codebook.copy_(theirs.quantizer.codevectors.view(2, 6, 6))
        ours.predict.load_state_dict(theirs.project_hid.state_dict())
        ours.project_codes.load_state_dict(theirs.project_q.state_dict())
    x = torch.randn(3, 1200)
    frames = ours.encoder.frame_count(1200)
    torch.manual_seed(5)  # the draws that ours makes inside: first the mask, then the negatives
    masked = ours.masking(ours.encoder, x)
    most = masked_count(frames, span=4)
    drawn = draw_negatives(torch.ones(3, most, dtype=torch.bool), 7)
    index = masked.mask.nonzero()[:, 1].view(3, most)
    flat = torch.zeros(3, frames, 7, dtype=torch.long)  # theirs counts negatives through the whole batch
    for b in range(3):
        flat[b, index[b]] = index[b][drawn[b]] + b * frames
    with torch.no_grad():
        expected = theirs(x, mask_time_indices=masked.mask, sampled_negative_indices=flat)
        torch.manual_seed(5)
        out = ours(x)
    n = 3 * most
    diversity = (12 - expected.codevector_perplexity) / 12
    torch.testing.assert_close(out["code_perplexity"], expected.codevector_perplexity, atol=1e-5, rtol=1e-5)
    ours_contrast = out["loss"] - 0.1 * (12 - soft_perplexity(ours, masked.features, index)) / 12
    torch.testing.assert_close(ours_contrast, expected.contrastive_loss / n, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(expected.diversity_loss / n, diversity)  # scaled as ours is: by the number of frames


def soft_perplexity(model: Wav2Vec2, features: Tensor, index: Tensor) -> Tensor:
    """Of the softmax without noise or temperature, from its definition; transformers has it in training only."""
    chosen = torch.stack([row[i] for row, i in zip(features, index, strict=True)]).flatten(0, 1)
    total = torch.zeros((), dtype=torch.float64)
    for group in model.quantizer.logits(chosen).double().chunk(model.quantizer.groups, dim=1):
        mean = group.softmax(dim=1).mean(dim=0)
        total = total + (-(mean * mean.log()).sum()).exp()
    return total.float()


def test_the_quantizer_trains_by_a_hard_gumbel_softmax() -> None:
    torch.manual_seed(0)
    quantizer = GumbelQuantizer(5, groups=2, entries=4, dim=6, temperature=2.0).train()
    x, valid = torch.randn(2, 7, 5), torch.ones(2, 7, dtype=torch.bool)
    torch.manual_seed(9)
    codes = quantizer(x, valid)
    torch.manual_seed(9)
    logits = quantizer.logits(x).view(2, 7, 2, 4)
    choice = F.gumbel_softmax(logits, tau=2.0, hard=True)  # torch's own
    expected = torch.stack([choice[..., g, :] @ quantizer.codebook[g] for g in range(2)], dim=2).flatten(2)
    torch.testing.assert_close(codes.vectors, expected, atol=1e-5, rtol=1e-5)
    weight = torch.randn_like(expected)
    ours = torch.autograd.grad((codes.vectors * weight).sum(), quantizer.logits.weight)
    theirs = torch.autograd.grad((expected * weight).sum(), quantizer.logits.weight)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_equal_names_are_equal_vectors() -> None:
    quantizer = GumbelQuantizer(5, groups=3, entries=3, dim=6, temperature=1.0).train()
    codes = quantizer(torch.randn(1, 60, 5), torch.ones(1, 60, dtype=torch.bool))
    same = (codes.vectors[0][:, None] == codes.vectors[0]).all(dim=-1)
    assert torch.equal(same, codes.names[0][:, None] == codes.names[0])
    assert 1 < same.sum(dim=1).float().mean() < 60


# ------------------------------------------------------------------------------------------------------- negatives


def test_negatives_are_other_masked_frames_of_the_same_clip_and_all_of_them_are_drawn() -> None:
    torch.manual_seed(0)
    counts = [9, 4, 2, 0]
    valid = torch.arange(9) < torch.tensor(counts)[:, None]
    drawn = draw_negatives(valid, 400)
    for row, count in zip(drawn, counts, strict=True):
        for t in range(count):
            assert set(row[t].tolist()) == set(range(count)) - {t}
    assert int(drawn.max()) < 9


def test_a_frame_whose_negatives_are_all_the_same_code_costs_nothing_and_stays_finite() -> None:
    c = torch.randn(1, 5, 4, requires_grad=True)
    loss = contrastive_loss(c, torch.ones(1, 5, 4), torch.zeros(1, 5), torch.randint(5, (1, 5, 3))).loss
    loss.sum().backward()
    assert not loss.any()
    assert c.grad is not None
    assert not c.grad.isnan().any()


# ------------------------------------------------------------------------------------------------------ the method


def test_the_loss_is_finite_and_every_parameter_has_a_gradient() -> None:
    model = method()
    out = model(batch())
    out["loss"].backward()
    assert out["loss"].isfinite()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert float(out["positives_among_negatives"]) == 0
    assert 0.4 < float(out["mask_share"]) < 0.7
    assert 1 <= float(out["code_perplexity"]) <= 16
    assert 0.1 < float(out["code_use"]) < 1


def test_one_entry_for_all_frames_is_no_use_of_the_codebooks() -> None:
    model = method()
    with torch.no_grad():
        model.quantizer.logits.bias[:: model.quantizer.entries] += 100
    out = model(batch())
    assert float(out["code_perplexity"]) == pytest.approx(model.quantizer.groups, abs=1e-4)
    assert float(out["code_use"]) == pytest.approx(0, abs=1e-5)


def test_padding_changes_no_loss() -> None:
    model = method().eval()
    losses = []
    for x in (batch(), F.pad(batch(), (0, 40), value=math.nan)):  # not a frame more: the same masks are drawn
        torch.manual_seed(1)
        losses.append(model(x)["loss"])
    torch.testing.assert_close(*losses, atol=1e-5, rtol=1e-5)


def test_convolutions_learn_a_tenth_as_fast() -> None:
    def gradients(scale: float, monkey: pytest.MonkeyPatch) -> Tensor:
        monkey.setattr("mmssl.audio.masked_frames.CONV_GRADIENT", scale)
        model = method()
        model.eval()
        torch.manual_seed(2)
        model(batch())["loss"].backward()
        grad = next(model.encoder.feature_extractor.parameters()).grad
        assert grad is not None
        return grad

    with pytest.MonkeyPatch.context() as monkey:
        torch.testing.assert_close(gradients(0.1, monkey) * 10, gradients(1.0, monkey), atol=1e-6, rtol=1e-4)


def test_the_gumbel_temperature_falls_as_in_the_authors_training() -> None:
    model = method()
    for progress in (0.0025, 0.25, 0.5, 0.9, 1.0):
        model.after_step(progress, torch.tensor(False))
        expected = max(2 * 0.999995 ** (400_000 * progress), 0.5)
        assert float(model.quantizer.temperature) == pytest.approx(expected, rel=1e-3)


def test_silence_and_clips_too_short_for_a_mask_do_no_harm() -> None:
    model = method()
    silent = model(torch.zeros(2, 2400))
    assert silent["loss"].isfinite()
    short = padded([torch.randn(2400), torch.randn(200)], 2400)
    assert model(short)["loss"].isfinite()
    only_short = model(torch.randn(2, 200))
    only_short["loss"].backward()
    assert only_short["loss"].isfinite()
    assert float(only_short["mask_share"]) == 0


def test_learning_brings_the_loss_below_that_of_equal_cosines() -> None:
    torch.manual_seed(0)
    time = torch.arange(1600) / 8000
    tones = torch.stack([
        torch.cat([torch.sin(2 * math.pi * f * time[:800]), torch.sin(2 * math.pi * 3 * f * time[800:])])
        for f in torch.linspace(150, 900, 16)
    ])  # fmt: skip
    model = method(entries=6)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(60):
        out = model(tones)
        optimizer.zero_grad()
        out["loss"].backward()
        optimizer.step()
        model.after_step((step + 1) / 60, torch.tensor(False))
    assert float(out["loss"].detach()) < 0.9 * float(out["collapse_loss"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"negatives": 0}, "negatives must be at least 1, got 0"),
        ({"temperature": 0.0}, "temperature must be positive, got 0.0"),
        ({"code_dim": 7}, "a multiple of groups=2, got 7"),
        ({"entries": 1}, "entries must be at least 2, got 1"),
        ({"span": 0}, "a span must be at least one frame, got 0"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        method(**settings)


def test_a_large_encoder_learns_as_well() -> None:
    encoder = Wav2Vec2Encoder(
        conv_stack(8000, frame_rate=100, width=8),
        dim=16,
        depth=1,
        heads=2,
        position_kernel=4,
        position_groups=2,
        large=True,
        pool="statistics",
    )
    out = Wav2Vec2(encoder, span=4, entries=4, code_dim=8, dim=8, negatives=5)(batch())
    assert out["loss"].isfinite()
    assert encoder(batch()).shape == (3, 32)
