"""The vision transformer against plain timm, and its tokens, targets and attention by hand."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from timm.models import VisionTransformer as Timm
from torch import Tensor, nn

from mmssl.core.transformer import sincos_2d
from mmssl.core.types import LayeredTokenEncoder
from mmssl.vision.encoder import build_encoder
from mmssl.vision.vit import VisionTransformer, init_from_scratch


def plain(**options: Any) -> Timm:
    """A small model of timm without a head, every parameter away from zero and one."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "img_size": 12,
        "patch_size": 4,
        "in_chans": 2,
        "embed_dim": 24,
        "depth": 3,
        "num_heads": 3,
    }
    model = Timm(**{**sizes, "num_classes": 0, **options})
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model.eval()


KINDS: dict[str, dict[str, Any]] = {
    "cls": {},
    "mean": {"global_pool": "avg", "fc_norm": False},
    "no cls": {"class_token": False, "global_pool": "avg", "fc_norm": False},
    "registers": {"reg_tokens": 2, "no_embed_class": True},
    "registers with positions": {"reg_tokens": 2},
    "norm before": {"pre_norm": True, "init_values": 0.1, "qk_norm": True},
}
every = pytest.mark.parametrize("options", KINDS.values(), ids=KINDS.keys())


def wrapped(model: Timm) -> VisionTransformer:
    return VisionTransformer(model, pool="mean" if model.global_pool == "avg" else "cls").eval()


@every
def test_it_computes_what_timm_computes(options: dict[str, Any]) -> None:
    model = plain(**options)
    encoder = wrapped(model)
    x = torch.rand(3, 2, 12, 12)
    with torch.no_grad():
        assert torch.equal(encoder.encode(encoder.tokenize(x)), model.forward_features(x))
        torch.testing.assert_close(encoder(x), model(x))
    assert encoder(x).shape == (3, encoder.dim)


@every
def test_images_of_another_size_are_as_in_timm_with_dynamic_sizes(options: dict[str, Any]) -> None:
    model = plain(**options)
    dynamic = plain(**options, dynamic_img_size=True)
    dynamic.load_state_dict(model.state_dict())
    x = torch.rand(3, 2, 8, 20)
    with torch.no_grad():
        torch.testing.assert_close(wrapped(model)(x), dynamic(x))


@every
def test_its_layers_are_those_of_timm(options: dict[str, Any]) -> None:
    model = plain(**options)
    encoder = wrapped(model)
    assert isinstance(encoder, LayeredTokenEncoder)
    x = torch.rand(3, 2, 12, 12)
    with torch.no_grad():
        expected = model.forward_intermediates(x, return_prefix_tokens=False, output_fmt="NLC", intermediates_only=True)
        layers = encoder.encode_layers(encoder.tokenize(x))
    assert len(layers) == len(expected) == 3
    for own, theirs in zip(layers, expected, strict=True):
        torch.testing.assert_close(own[:, encoder.prefix_tokens :], theirs)


@pytest.mark.parametrize("positions", ["learnt", "sincos"])
@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_its_weights_load_strictly_into_plain_timm(positions: str, pool: str) -> None:
    encoder = build_encoder("vit", size=16, patch=4, width=24, depth=2, heads=3, positions=positions, pool=pool).eval()
    model = Timm(
        img_size=16,
        patch_size=4,
        embed_dim=24,
        depth=2,
        num_heads=3,
        num_classes=0,
        global_pool="avg" if pool == "mean" else "token",
        fc_norm=False,
    ).eval()
    model.load_state_dict(encoder.library_state_dict(), strict=True)
    x = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(model(x), encoder(x))


def test_a_named_model_of_timm_goes_in_and_out_strictly() -> None:
    encoder = build_encoder("timm:vit_tiny_patch16_224", size=32, in_channels=1).eval()
    assert isinstance(encoder, VisionTransformer)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32, in_chans=1).eval()
    model.load_state_dict(encoder.library_state_dict(), strict=True)
    x = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(x), encoder(x))


def test_targets_are_pixels_by_row_column_and_channel() -> None:
    encoder = wrapped(plain())
    x = torch.rand(2, 2, 8, 12)
    targets = encoder.targets(x)
    assert targets.shape == (2, 6, encoder.target_dim)
    for b in range(2):
        for n in range(6):
            top, left = 4 * (n // 3), 4 * (n % 3)
            pixels = [x[b, c, top + i, left + j] for i in range(4) for j in range(4) for c in range(2)]
            assert targets[b, n].tolist() == [float(p) for p in pixels]
    assert torch.equal(encoder.images(targets, (2, 3)), x)


def test_pictures_of_the_models_own_size_need_no_grid() -> None:
    encoder = wrapped(plain())
    x = torch.rand(2, 2, 12, 12)
    assert torch.equal(encoder.images(encoder.targets(x)), x)


def test_tokens_may_be_dropped_and_know_their_place() -> None:
    encoder = wrapped(plain())
    x = torch.rand(2, 2, 12, 12)
    with torch.no_grad():
        tokens = encoder.tokenize(x)
        order = torch.tensor([7, 2, 4])
        some = encoder.encode(tokens[:, order])
        assert some.shape == (2, 1 + 3, 24)
        torch.testing.assert_close(encoder.encode(tokens[:, order.flip(0)])[:, 1:].flip(1), some[:, 1:])
        embedded = tokens - encoder.positions(x)
        torch.testing.assert_close(embedded, encoder.model.patch_embed(x))


def test_fixed_positions_are_sines_and_cosines_with_nothing_for_cls() -> None:
    encoder: Any = build_encoder("vit", size=20, patch=4, width=24, heads=3, depth=1, positions="sincos")
    positions: Tensor = encoder.model.pos_embed
    assert positions.shape == (1, 26, 24)
    assert not positions[0, 0].any()
    assert torch.equal(positions[0, 1:], sincos_2d(5, 5, 24))
    assert "model.pos_embed" in encoder.state_dict()
    assert "model.pos_embed" not in dict(encoder.named_parameters())
    learnt = build_encoder("vit", size=20, patch=4, width=24, heads=3, depth=1)
    assert "model.pos_embed" in dict(learnt.named_parameters())


def test_it_starts_as_the_authors_of_mae_have_it() -> None:
    model = Timm(img_size=32, patch_size=4, embed_dim=192, depth=1, num_heads=3, num_classes=0)
    init_from_scratch(model)
    weights = {
        model.patch_embed.proj.weight: 4 * 4 * 3 + 192,
        model.blocks[0].attn.qkv.weight: 192 + 3 * 192,  # type: ignore[union-attr]
        model.blocks[0].mlp.fc2.weight: 4 * 192 + 192,  # type: ignore[union-attr]
    }
    for weight, fans in weights.items():
        bound = (6 / fans) ** 0.5
        assert float(weight.detach().abs().max()) == pytest.approx(bound, rel=0.01)
        assert float(weight.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.03)
    assert model.cls_token is not None
    assert float(model.cls_token.detach().std()) == pytest.approx(0.02, rel=0.2)


@pytest.mark.parametrize("kind", ["cls", "registers", "norm before"])
def test_attention_is_what_the_last_block_weighs_values_with(kind: str) -> None:
    model = plain(**KINDS[kind])
    encoder = wrapped(model)
    x = torch.rand(2, 2, 8, 12)
    attention = encoder.attention(x)
    assert attention.shape == (2, 3, 2, 3)
    last: Any = model.blocks[-1]
    last.attn.fused_attn = False  # the way of timm that computes the whole matrix
    seen: list[Tensor] = []
    last.attn.attn_drop.register_forward_hook(lambda module, args, out: seen.append(out))
    with torch.no_grad():
        encoder(x)
    torch.testing.assert_close(attention, seen[0][:, :, 0, encoder.prefix_tokens :].unflatten(-1, (2, 3)))


def test_every_parameter_is_in_exactly_one_layer_from_input_to_output() -> None:
    encoder = wrapped(plain(reg_tokens=2))
    layers = encoder.layers()
    names = {id(p): name for name, p in encoder.model.named_parameters()}
    assert sorted(names[id(p)] for layer in layers for p in layer) == sorted(names.values())
    assert len(layers) == 1 + 3
    assert {names[id(p)].split(".")[0] for p in layers[0]} == {"cls_token", "reg_token", "pos_embed", "patch_embed"}
    assert {names[id(p)] for p in layers[2]} == {name for name in names.values() if name.startswith("blocks.1.")}
    assert {"norm.weight", "blocks.2.norm1.weight"} <= {names[id(p)] for p in layers[3]}


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_a_gradient_reaches_every_parameter(pool: Any) -> None:
    encoder = VisionTransformer(plain(), pool=pool).train()
    encoder(torch.rand(2, 2, 12, 12)).square().sum().backward()
    for name, p in encoder.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().sum() > 0, name


def test_small_crops_leave_a_gradient_in_the_positions() -> None:
    encoder = wrapped(plain())
    encoder(torch.rand(2, 2, 8, 8)).square().sum().backward()
    assert encoder.model.pos_embed.grad.abs().sum() > 0


@pytest.mark.parametrize("shape", [(2, 12, 12), (2, 3, 12, 12), (2, 2, 12, 10)])
def test_images_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected images \(B, 2, H, W\) with H and W multiples of the patch 4 × 4"):
        wrapped(plain())(torch.zeros(shape))


def test_models_whose_tokens_cannot_be_reached_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be reached"):
        VisionTransformer(plain(num_classes=5))
    with pytest.raises(ValueError, match="cannot be reached"):
        VisionTransformer(plain(global_pool="avg"))  # its norm comes after pooling
    with pytest.raises(ValueError, match="cannot be reached"):
        VisionTransformer(nn.Linear(2, 2))


def test_cls_is_not_made_up() -> None:
    model = plain(class_token=False, global_pool="avg", fc_norm=False)
    with pytest.raises(ValueError, match="pool='cls' needs a CLS token"):
        VisionTransformer(model, pool="cls")
    encoder = VisionTransformer(model)
    assert encoder.pool == "mean"
    with pytest.raises(ValueError, match="no CLS token whose attention"):
        encoder.attention(torch.rand(1, 2, 12, 12))
    with pytest.raises(ValueError, match="pool must be 'auto', 'cls' or 'mean', got 'max'"):
        VisionTransformer(plain(), pool="max")  # type: ignore[arg-type]


def test_padding_is_refused() -> None:
    encoder = wrapped(plain())
    x = torch.rand(1, 2, 12, 12)
    assert encoder.valid(x) is None  # type: ignore[func-returns-value]
    with pytest.raises(ValueError, match="images have no padding"):
        encoder.encode(encoder.tokenize(x), torch.ones(1, 9, dtype=torch.bool))
