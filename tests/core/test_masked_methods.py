"""Masked methods on every encoder with tokens: gradients, state, resuming; and BERT and data2vec by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn

from mmssl.core.masking import Masking, block_mask, random_mask, span_mask
from mmssl.core.methods.bert import BERT
from mmssl.core.methods.data2vec import Data2Vec, masked_std
from mmssl.core.methods.mae import MAE
from mmssl.core.transformer import sincos_1d, sincos_2d
from mmssl.core.types import LayeredTokenEncoder, Method, TokenEncoder
from mmssl.timeseries.encoder import DilatedConvEncoder
from mmssl.train.checkpoint import Checkpoints
from mmssl.train.fit import fit, setup_fabric
from mmssl.vision.encoder import build_encoder
from tests.core.sequence import Sequence
from tests.train.small import everything, same

DECODER: dict[str, Any] = {"decoder_dim": 8, "decoder_depth": 1, "decoder_heads": 2}


def vit(**options: Any) -> Any:
    return build_encoder("vit", in_channels=2, size=12, patch=4, width=24, depth=2, heads=3, **options)


def series(missing: str = "drop", rate: float = 0.1) -> DilatedConvEncoder:
    return DilatedConvEncoder(2, dim=10, hidden=6, depth=3, dropout=rate, missing=missing)  # type: ignore[arg-type]


def images(seed: int) -> Tensor:
    return torch.rand(4, 2, 12, 12, generator=torch.Generator().manual_seed(seed))


def padded(seed: int) -> Tensor:
    """Series with padding, a single missing value and a missing timestamp."""
    x = torch.randn(4, 9, 2, generator=torch.Generator().manual_seed(seed))
    x[0, 7:], x[1, 3, 0], x[2, 4] = math.nan, math.nan, math.nan
    return x


Batches = Callable[[int], Tensor]
PAIRS: dict[str, tuple[Callable[[], nn.Module], Batches]] = {
    "mae, vit": (lambda: MAE(vit(), positions=sincos_2d(3, 3, 8), **DECODER), images),
    "mae, vit with fixed positions and mean": (
        lambda: MAE(vit(positions="sincos", pool="mean"), positions=sincos_2d(3, 3, 8), **DECODER),
        images,
    ),
    "mae, padded sequence": (
        lambda: MAE(Sequence(), positions=sincos_1d(9, 8), normalise_targets=False, **DECODER),
        padded,
    ),
    "bert, vit": (lambda: BERT(vit(), normalise_targets=True), images),
    "bert, vit and blocks": (lambda: BERT(vit(drop_path=0.2), masking=partial(block_mask, min_block=2)), images),
    "bert, padded sequence": (lambda: BERT(Sequence()), padded),
    "bert, series": (lambda: BERT(series(), masking=partial(span_mask, span=3)), padded),
    "bert, series with indicators": (lambda: BERT(series("indicator")), padded),
    "data2vec, vit": (lambda: Data2Vec(vit(), top_layers=2), images),
    "data2vec, padded sequence": (lambda: Data2Vec(Sequence(), top_layers=1), padded),
    "data2vec, series": (lambda: Data2Vec(series(), top_layers=2, masking=partial(span_mask, span=3)), padded),
}
every = pytest.mark.parametrize(("build", "batch"), PAIRS.values(), ids=PAIRS.keys())


def built(build: Callable[[], nn.Module]) -> Any:
    torch.manual_seed(0)
    return build()


@every
def test_the_loss_is_finite_and_reaches_every_trainable_parameter(
    build: Callable[[], nn.Module], batch: Batches
) -> None:
    method = built(build)
    out = method(batch(0))
    assert out["loss"].dtype == torch.float32
    assert out["loss"].isfinite()
    assert not any(value.requires_grad for name, value in out.items() if name != "loss")
    out["loss"].backward()
    for name, p in method.named_parameters():
        if p.requires_grad:
            assert p.grad is not None, name
            assert p.grad.isfinite().all(), name
            assert p.grad.abs().sum() > 0, name


@every
def test_a_forward_pass_changes_neither_its_input_nor_any_state(build: Callable[[], nn.Module], batch: Batches) -> None:
    method = built(build)
    x = batch(0)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    method(x)
    assert torch.equal(x.nan_to_num(7.0), batch(0).nan_to_num(7.0))
    assert same(before, dict(method.state_dict())) == []


@every
def test_state_goes_into_another_copy_and_gives_the_same_loss(build: Callable[[], nn.Module], batch: Batches) -> None:
    method = built(build)
    torch.manual_seed(5)
    other: Any = build()
    other.load_state_dict(method.state_dict())
    losses = []
    for m in (method, other):
        torch.manual_seed(1)
        losses.append(m(batch(0))["loss"])
    assert torch.equal(*losses)


@pytest.fixture(scope="module")
def fabric() -> Fabric:
    return setup_fabric(device="cpu")


@every
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(
    build: Callable[[], nn.Module], batch: Batches, fabric: Fabric, tmp_path: Path
) -> None:
    def batches(first: int) -> Iterator[Tensor]:
        while True:
            yield batch(first)
            first += 1

    def run(method: nn.Module, until: int, checkpoints: Checkpoints | None) -> dict[str, Any]:
        params = [p for p in method.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(params, lr=0.01, fused=True)
        loop = fit(
            method, batches, optimizer=optimizer, steps=4, fabric=fabric, checkpoints=checkpoints, checkpoint_every=1
        )
        for state in loop:
            if state.step == until + 1:  # the checkpoint of the step before is written
                break
        return everything(method, optimizer)

    first = built(build)
    torch.manual_seed(3)
    whole = run(first, 4, None)
    stopped = built(build)
    torch.manual_seed(3)
    run(stopped, 2, Checkpoints(tmp_path))
    again = built(build)
    torch.manual_seed(99)
    assert same(run(again, 4, Checkpoints(tmp_path)), whole) == []


@every
def test_losses_are_in_float32_under_autocast(build: Callable[[], nn.Module], batch: Batches) -> None:
    method = built(build).eval()  # no dropout, whose random numbers depend on the type
    losses = []
    for enabled in (False, True):
        torch.manual_seed(1)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            out = method(batch(0))
        assert {value.dtype for value in out.values()} == {torch.float32}
        losses.append(out["loss"])
    torch.testing.assert_close(losses[1], losses[0], rtol=0.05, atol=0)
    assert not torch.equal(*losses)  # the layers did run in bfloat16


def given(mask: Tensor) -> Masking:
    def masking(batch: int, tokens: int, ratio: float, device: Any = None) -> Tensor:
        return mask

    return masking


@every
def test_it_is_a_method_that_exports_its_encoder(build: Callable[[], nn.Module], batch: Batches) -> None:
    method = built(build)
    assert isinstance(method, Method)
    assert method.export() is method.encoder


# -------------------------------------------------------------------------------------------------------- BERT


def test_bert_on_series_is_what_one_would_write_by_hand() -> None:
    torch.manual_seed(0)
    encoder = series().eval()
    mask = torch.tensor([[False, True, True, False, False, True], [True, False, False, False, True, False]])
    method = BERT(encoder, masking=given(mask)).eval()
    nn.init.normal_(method.mask_token)  # as large as other tokens, or mistakes with it would hardly show
    x = torch.randn(2, 6, 2)
    x[0, 5] = math.nan  # padding
    x[1, 4, 0] = math.nan  # one value that is missing

    total, count = torch.zeros(()), 0
    for row, hidden in zip(x, mask.tolist(), strict=True):
        length = int((~row.isnan().all(dim=1)).sum())
        tokens = []
        for t in range(length):
            shown = not bool(row[t].isnan().any())
            token = encoder.input(row[t]) if shown else torch.zeros(6)
            tokens.append(method.mask_token if hidden[t] else token)
        z = encoder.encode(torch.stack(tokens)[None])[0]  # the bare series, without padding
        for t in range(length):
            if hidden[t]:
                errors = [(method.head(z[t])[c] - row[t, c]) ** 2 for c in range(2) if not bool(row[t, c].isnan())]
                total, count = total + torch.stack(errors).mean(), count + 1
    assert count == 4
    torch.testing.assert_close(method(x)["loss"], total / count)


def test_bert_does_not_see_what_is_masked_but_knows_where_it_was() -> None:
    torch.manual_seed(0)
    mask = torch.zeros(2, 9, dtype=torch.bool)
    mask[:, [1, 2, 7]] = True
    method = BERT(vit(), masking=given(mask)).eval()
    x = images(0)[:2]
    with torch.no_grad():
        before, _ = method.predict(x)
        assert not torch.allclose(before[:, 1], before[:, 2])
        x[:, :, :4, 4:] += 1.0  # patches 1 and 2
        assert torch.equal(method.predict(x)[0], before)
        x[:, :, :4, :4] += 1.0  # patch 0
        assert not torch.allclose(method.predict(x)[0], before)


def test_bert_on_images_is_the_encoder_with_replaced_tokens() -> None:
    torch.manual_seed(0)
    mask = torch.stack([torch.randperm(9) < 4 for _ in range(3)])
    method = BERT(vit(), masking=given(mask))
    nn.init.normal_(method.mask_token)
    x = images(0)[:3]
    model = method.encoder.model  # type: ignore[attr-defined]
    errors = []
    for image, hidden in zip(x, mask.tolist(), strict=True):
        patches = model.patch_embed(image[None])[0]
        tokens = [method.mask_token if h else patches[n] for n, h in enumerate(hidden)]
        h = torch.cat([model.cls_token[0], torch.stack(tokens)]) + model.pos_embed[0]
        out = method.head(model.norm(model.blocks(h[None])))[0, 1:]
        for n in range(9):
            if hidden[n]:
                i, j = 4 * (n // 3), 4 * (n % 3)
                pixels = image[:, i : i + 4, j : j + 4].permute(1, 2, 0).flatten()
                errors.append(F.mse_loss(out[n], pixels))
    torch.testing.assert_close(method(x)["loss"], torch.stack(errors).mean())


def test_series_of_padding_alone_are_no_targets_and_break_nothing() -> None:
    method = BERT(series())
    out = method(torch.full((2, 9, 2), math.nan))
    out["loss"].backward()
    assert out["loss"] == 0
    assert all(p.grad is None or not p.grad.any() for p in method.parameters())


def test_bert_refuses_encoders_without_tokens() -> None:
    with pytest.raises(TypeError, match="Linear has no tokens to mask: BERT needs a TokenEncoder"):
        BERT(nn.Linear(3, 2))  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------- data2vec


def test_data2vec_predicts_the_normalised_mean_of_the_teacher_s_top_blocks() -> None:
    torch.manual_seed(0)
    mask = torch.stack([torch.randperm(9) < 5 for _ in range(4)])
    method = Data2Vec(vit(), top_layers=2, beta=0.5, masking=given(mask))
    nn.init.normal_(method.mask_token)
    teacher: Any = method.teacher.module
    with torch.no_grad():
        for p in teacher.parameters():
            p.add_(0.05 * torch.randn_like(p))  # a teacher that is not the student
    seen: list[Tensor] = []
    for block in teacher.model.blocks:
        block.register_forward_hook(lambda module, args, out: seen.append(out))
    x = images(0)
    with torch.no_grad():
        teacher.model.forward_features(x)
    layers, seen[:] = list(seen), []
    assert len(layers) == 2
    target = torch.zeros(4, 9, 24)
    for layer in layers:
        deviation = layer - layer.mean(dim=-1, keepdim=True)
        target += (deviation / (layer.var(dim=-1, unbiased=False, keepdim=True) + 1e-5).sqrt())[:, 1:] / 2
    prediction = student_by_hand(method, x, mask)
    distance = (prediction - target).abs()
    smooth = torch.where(distance < 0.5, distance.square() / (2 * 0.5), distance - 0.5 / 2)
    torch.testing.assert_close(method(x)["loss"], smooth[mask].mean())


def student_by_hand(method: Data2Vec, x: Tensor, mask: Tensor) -> Tensor:
    model = method.encoder.model  # type: ignore[attr-defined]
    patches = torch.where(mask[..., None], method.mask_token, model.patch_embed(x))
    h = torch.cat([model.cls_token.expand(len(x), -1, -1), patches], dim=1) + model.pos_embed
    return method.head(model.norm(model.blocks(h)))[:, 1:]


def test_the_teacher_follows_the_student_and_gets_no_gradient() -> None:
    torch.manual_seed(0)
    method = Data2Vec(series(), top_layers=2, momentum=0.9, final_momentum=0.9)
    before = [p.clone() for p in method.teacher.parameters()]
    method(padded(0))["loss"].backward()
    assert not any(p.requires_grad or p.grad is not None for p in method.teacher.parameters())
    with torch.no_grad():
        for p in method.encoder.parameters():  # type: ignore[attr-defined]
            p.add_(1.0)
    method.after_step(0.5, torch.tensor(True))
    assert all(torch.equal(p, old) for p, old in zip(method.teacher.parameters(), before, strict=True))
    method.after_step(0.5, torch.tensor(False))
    for p, old in zip(method.teacher.parameters(), before, strict=True):
        torch.testing.assert_close(p, old + 0.1)
    assert method.export() is method.encoder


def test_the_teacher_sees_everything_without_dropout() -> None:
    torch.manual_seed(0)
    method = Data2Vec(series(rate=0.5), top_layers=2).train()
    x = padded(0)
    valid = method.encoder.valid(x)
    assert torch.equal(method.target(x, valid), method.target(x, valid))


def test_the_layers_of_the_series_encoder_lead_to_its_output() -> None:
    encoder = series().eval()
    assert isinstance(encoder, LayeredTokenEncoder)
    x = padded(0)
    valid, tokens = encoder.valid(x), encoder.tokenize(x)
    layers = encoder.encode_layers(tokens, valid)
    assert [layer.shape for layer in layers] == [(4, 9, 6)] * 3
    assert valid is not None
    assert not layers[-1][~valid].any()
    last = encoder.blocks[-1]
    out = last(layers[-1].transpose(1, 2)[:, :, None], valid[:, None, None].float())[:, :, 0].transpose(1, 2)
    torch.testing.assert_close(out, encoder.encode(tokens, valid), rtol=1e-5, atol=1e-6)


def test_padding_changes_nothing_for_data2vec() -> None:
    torch.manual_seed(0)
    x, mask = torch.randn(3, 6, 2), torch.stack([torch.randperm(6) < 3 for _ in range(3)])
    method = Data2Vec(series(), top_layers=2, masking=given(mask)).eval()
    nn.init.normal_(method.mask_token)
    bare = method(x)
    method.masking = given(F.pad(mask, (2, 1), value=True))
    longer = method(F.pad(x, (0, 0, 2, 1), value=math.nan))
    for name in ("loss", "prediction_std", "target_std"):
        torch.testing.assert_close(longer[name], bare[name], rtol=1e-5, atol=1e-6)


def test_spread_of_masked_tokens_is_their_standard_deviation() -> None:
    torch.manual_seed(0)
    x, mask = torch.randn(3, 5, 4), random_mask(3, 5, 0.6)
    torch.testing.assert_close(masked_std(x, mask), x[mask].std(dim=0, unbiased=False).mean())
    assert masked_std(torch.ones(3, 5, 4), mask) == 0
    assert masked_std(x, torch.zeros(3, 5, dtype=torch.bool)) == 0


def test_data2vec_refuses_what_it_cannot_learn_from() -> None:
    with pytest.raises(ValueError, match="the encoder has 2 layers, of which top_layers=3 cannot be taken"):
        Data2Vec(vit(), top_layers=3)(images(0))
    with pytest.raises(ValueError, match="top_layers must be at least 1, got 0"):
        Data2Vec(vit(), top_layers=0)
    with pytest.raises(TypeError, match=r"OneLayer does not show them: it needs encode_layers .*use BERT"):
        Data2Vec(OneLayer())  # type: ignore[arg-type]


class OneLayer(nn.Module):
    """Tokens, and nothing between them and the output."""

    droppable, prefix_tokens, token_dim, target_dim, dim = True, 0, 4, 1, 4

    def tokenize(self, x: Any) -> Tensor:
        raise NotImplementedError

    encode = targets = positions = valid = forward = tokenize


def test_one_layer_has_tokens() -> None:
    assert isinstance(OneLayer(), TokenEncoder)
