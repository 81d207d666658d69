"""MAE against loops written from the paper, and what it must not see."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mmssl.core.methods.mae as mae_module
from mmssl.core.methods.mae import MAE
from mmssl.core.transformer import sincos_1d, sincos_2d
from mmssl.core.types import Method, TokenEncoder
from mmssl.timeseries.encoder import DilatedConvEncoder
from mmssl.vision.encoder import build_encoder
from mmssl.vision.vit import VisionTransformer
from tests.core.sequence import Sequence


def encoder(**options: Any) -> VisionTransformer:
    """Two channels of 12 × 12 pixels in patches of 4: nine tokens of 32 values."""
    built = build_encoder("vit", in_channels=2, size=12, **{"patch": 4, "width": 24, "depth": 2, "heads": 3, **options})
    assert isinstance(built, VisionTransformer)
    return built


def method(*, normalise: bool = True, **options: Any) -> MAE:
    torch.manual_seed(0)
    built = MAE(
        encoder(**options),
        positions=sincos_2d(3, 3, 16),
        mask_ratio=0.7,
        decoder_dim=16,
        decoder_depth=2,
        decoder_heads=2,
        normalise_targets=normalise,
    )
    with torch.no_grad():
        for p in built.parameters():  # norms and biases away from one and zero, which would hide mistakes
            if p.ndim == 1:
                p.add_(0.2 * torch.randn_like(p))
    return built


def fix_mask(monkeypatch: pytest.MonkeyPatch, mask: Tensor) -> None:
    monkeypatch.setattr(mae_module, "random_mask", lambda batch, tokens, ratio, device=None: mask)


def patches_by_hand(image: Tensor, size: int) -> list[list[float]]:
    """`(C, H, W)` to one list of pixels a patch, in the order (row, column, channel)."""
    channels, height, width = image.shape
    return [
        [
            float(image[c, top + i, left + j])
            for i in range(size)
            for j in range(size)
            for c in range(channels)
        ]
        for top in range(0, height, size)
        for left in range(0, width, size)
    ]  # fmt: skip


def slow_mae(m: MAE, x: Tensor, mask: Tensor, normalise: bool) -> Tensor:
    """The paper in loops over images and tokens; only the transformer blocks themselves are those of the model."""
    vit = m.encoder.model  # type: ignore[attr-defined]
    losses: list[Tensor] = []
    for image, hidden in zip(x, mask.tolist(), strict=True):
        visible = [n for n, h in enumerate(hidden) if not h]
        embedded = F.conv2d(image[None], vit.patch_embed.proj.weight, vit.patch_embed.proj.bias, stride=4)[0]
        tokens = [embedded[:, n // 3, n % 3] + vit.pos_embed[0, 1 + n] for n in visible]
        h = torch.stack([vit.cls_token[0, 0] + vit.pos_embed[0, 0], *tokens])[None]
        for block in vit.blocks:
            h = block(h)
        h = F.linear(vit.norm(h), m.decoder_embed.weight, m.decoder_embed.bias)[0]
        rows = [h[0]]
        for n in range(9):
            token = m.mask_token if hidden[n] else h[1 + visible.index(n)]
            rows.append(token + sincos_2d(3, 3, 16)[n])
        h = torch.stack(rows)[None]
        for block in m.decoder_blocks:
            h = block(h)
        out = F.linear(m.decoder_norm(h), m.decoder_pred.weight, m.decoder_pred.bias)[0, 1:]
        for n, pixels in enumerate(patches_by_hand(image, 4)):
            if not hidden[n]:
                continue
            mean = sum(pixels) / 32
            deviation = math.sqrt(sum((p - mean) ** 2 for p in pixels) / 31 + 1e-6)
            wanted = [(p - mean) / deviation for p in pixels] if normalise else pixels
            losses.append(torch.stack([(out[n, i] - wanted[i]) ** 2 for i in range(32)]).mean())
    return torch.stack(losses).mean()


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("positions", ["learnt", "sincos"])
def test_it_is_the_paper_in_loops(monkeypatch: pytest.MonkeyPatch, normalise: bool, positions: str) -> None:
    m = method(normalise=normalise, positions=positions)
    x = torch.rand(3, 2, 12, 12)
    mask = torch.stack([torch.randperm(9) < 6 for _ in range(3)])
    fix_mask(monkeypatch, mask)
    loss, expected = m(x)["loss"], slow_mae(m, x, mask, normalise)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    params = [p for p in m.parameters() if p.requires_grad]
    for own, theirs in zip(torch.autograd.grad(loss, params), torch.autograd.grad(expected, params), strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-5)


def test_hidden_pixels_are_not_seen_and_visible_ones_are(monkeypatch: pytest.MonkeyPatch) -> None:
    m = method()
    x = torch.rand(2, 2, 12, 12)
    mask = torch.zeros(2, 9, dtype=torch.bool)
    mask[:, [0, 1, 2, 3, 5, 8]] = True
    fix_mask(monkeypatch, mask)
    with torch.no_grad():
        before, _ = m.predict(x)
        x[:, :, :4] += 1.0  # the first row of patches
        assert torch.equal(m.predict(x)[0], before)
        x[:, :, 4:8, 4:8] += 1.0  # the patch in the middle
        assert not torch.allclose(m.predict(x)[0], before)


def test_the_encoder_works_on_visible_tokens_alone() -> None:
    m = method()
    lengths: list[int] = []
    m.encoder.model.blocks[0].register_forward_hook(lambda module, args, out: lengths.append(args[0].shape[1]))  # type: ignore[attr-defined]
    m(torch.rand(4, 2, 12, 12))
    assert lengths == [1 + 3]


def test_reconstructions_are_in_the_units_of_the_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    m = method()
    x = 3 * torch.rand(2, 2, 12, 12) + 5
    fix_mask(monkeypatch, torch.stack([torch.randperm(9) < 6 for _ in range(2)]))
    prediction, mask = m.predict(x)
    picture, same_mask = m.reconstruct(x)
    assert torch.equal(mask, same_mask)
    assert not picture.requires_grad
    for b in range(2):
        for n, pixels in enumerate(patches_by_hand(x[b], 4)):
            values = torch.tensor(pixels)
            expected = prediction[b, n] * (values.var() + 1e-6).sqrt() + values.mean()
            torch.testing.assert_close(picture[b, n], expected.detach(), rtol=1e-4, atol=1e-4)
    plain = method(normalise=False)
    torch.testing.assert_close(plain.reconstruct(x)[0], plain.predict(x)[0].detach())


@pytest.mark.parametrize("hidden", [True, False])
def test_padding_changes_no_prediction_and_is_no_target(monkeypatch: pytest.MonkeyPatch, hidden: bool) -> None:
    torch.manual_seed(0)
    sequence = Sequence()
    x = torch.randn(3, 6, 2)
    padded = F.pad(x, (0, 0, 0, 2), value=math.nan)
    mask = torch.stack([torch.randperm(6) < 4 for _ in range(3)])
    options: dict[str, Any] = {"decoder_dim": 8, "decoder_depth": 1, "decoder_heads": 2, "normalise_targets": False}
    bare = MAE(sequence, positions=sincos_1d(6, 8), mask_ratio=4 / 6, **options)
    longer = MAE(sequence, positions=sincos_1d(8, 8), mask_ratio=(6 if hidden else 4) / 8, **options)
    longer.load_state_dict(bare.state_dict())
    fix_mask(monkeypatch, mask)
    expected, loss = bare.predict(x)[0], bare(x)["loss"]
    fix_mask(monkeypatch, F.pad(mask, (0, 2), value=hidden))
    torch.testing.assert_close(longer.predict(padded)[0][:, :6], expected)
    torch.testing.assert_close(longer(padded)["loss"], loss)


def test_a_single_missing_value_is_no_target(monkeypatch: pytest.MonkeyPatch) -> None:
    m = method(normalise=False)
    fix_mask(monkeypatch, torch.tensor([[True] * 6 + [False] * 3]))
    x = torch.rand(1, 2, 12, 12)
    whole = m(x)["loss"]
    m.encoder.targets = lambda x: VisionTransformer.targets(m.encoder, x).masked_fill(lost, math.nan)  # type: ignore[method-assign, arg-type]
    lost = torch.zeros(1, 9, 32, dtype=torch.bool)
    lost[0, 8] = True  # it is visible, and no target anyway
    assert torch.equal(m(x)["loss"], whole)
    lost[0, 1, 3] = True
    loss = m(x)["loss"]
    assert loss.isfinite()
    assert not torch.equal(loss, whole)


def test_what_starts_where_as_the_authors_have_it() -> None:
    torch.manual_seed(0)
    m = MAE(encoder(), positions=sincos_2d(3, 3, 512))
    assert float(m.mask_token.detach().std()) == pytest.approx(0.02, rel=0.15)
    for linear, bound in ((m.decoder_embed, math.sqrt(6 / (24 + 512))), (m.decoder_pred, math.sqrt(6 / (512 + 32)))):
        assert float(linear.weight.detach().abs().max()) == pytest.approx(bound, rel=0.02)
        assert not linear.bias.any()
    assert len(m.decoder_blocks) == 8
    assert m.visible == 9 - round(0.75 * 9)


def test_the_loss_is_in_float32_under_autocast() -> None:
    m = method()
    x = torch.rand(4, 2, 12, 12)
    torch.manual_seed(1)
    exact = m(x)["loss"]
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = m(x)["loss"]
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=0.05, atol=0)


def test_it_is_a_method_and_exports_its_encoder() -> None:
    m = method()
    assert isinstance(m, Method)
    assert isinstance(m.encoder, TokenEncoder)
    assert m.export() is m.encoder
    x = torch.rand(2, 2, 12, 12)
    m.augment = lambda batch: batch / 255
    torch.manual_seed(1)
    loss = m(x * 255)["loss"]
    m.augment = None
    torch.manual_seed(1)
    torch.testing.assert_close(m(x)["loss"], loss)


def test_an_encoder_that_cannot_drop_tokens_is_refused_with_an_alternative() -> None:
    with pytest.raises(ValueError, match=r"DilatedConvEncoder cannot do without .*use BERT of mmssl.core.methods.bert"):
        MAE(DilatedConvEncoder(2, hidden=4, depth=1), positions=sincos_1d(9, 512))


def test_an_encoder_without_tokens_is_refused() -> None:
    plain = build_encoder("resnet18", size=32)
    with pytest.raises(TypeError, match="ImageEncoder has no tokens to mask: MAE needs a TokenEncoder"):
        MAE(plain, positions=sincos_2d(3, 3, 512))  # type: ignore[arg-type]


def test_positions_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"positions must be \(tokens, decoder_dim=512\), got \(9, 16\)"):
        MAE(encoder(), positions=sincos_2d(3, 3, 16))
    m = method()
    with pytest.raises(ValueError, match="the input has 4 tokens, and the decoder has positions for 9"):
        m(torch.rand(2, 2, 8, 8))


def test_the_decoder_is_not_in_the_exported_encoder() -> None:
    m = method()
    exported = m.export()
    assert isinstance(exported, nn.Module)
    assert not [name for name in exported.state_dict() if "decoder" in name or "mask" in name]
