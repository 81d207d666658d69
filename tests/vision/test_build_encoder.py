"""Encoders by name: the library's weights in and out, channels, stems, layers, and what is said about mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from mmssl.core.types import TokenEncoder
from mmssl.vision.encoder import ImageEncoder, build_encoder
from mmssl.vision.vit import VisionTransformer

SMALL_VIT: dict[str, Any] = {"patch": 4, "width": 24, "depth": 2, "heads": 3}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to public weights end at once."""

    def unreachable(*args: Any, **kwargs: Any) -> Any:
        raise URLError("no route to host")

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", unreachable)
    monkeypatch.setattr(timm.models._builder, "load_state_dict_from_hf", unreachable)
    monkeypatch.setattr(timm.models._builder, "load_state_dict_from_url", unreachable)


def headless(name: str, head: str) -> nn.Module:
    """A model of torchvision as its users take the head off."""
    torch.manual_seed(1)
    model = torchvision.models.get_model(name, weights=None)
    model.set_submodule(head, nn.Identity())
    return model


def small_resnet(name: str) -> nn.Module:
    model: Any = headless(name, "fc")
    model.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    model.maxpool = nn.Identity()
    return model


LIBRARY: dict[str, tuple[dict[str, Any], Callable[[], nn.Module]]] = {
    "resnet18": ({"size": 96}, lambda: headless("resnet18", "fc")),
    "torchvision:resnet18": ({"size": 32}, lambda: small_resnet("resnet18")),
    "torchvision:mobilenet_v3_small": ({"size": 32}, lambda: headless("mobilenet_v3_small", "classifier.3")),
    "timm:convnext_atto": ({"size": 64}, lambda: timm.create_model("convnext_atto", num_classes=0)),
    "timm:mobilenetv3_small_050": ({}, lambda: timm.create_model("mobilenetv3_small_050", num_classes=0)),
    "timm:vit_tiny_patch16_224": (
        {"size": 48},
        lambda: timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=48),
    ),
}


@pytest.mark.parametrize("name", LIBRARY)
def test_weights_load_strictly_into_the_plain_library_model_and_back(name: str) -> None:
    options, build = LIBRARY[name]
    encoder, plain = build_encoder(name, **options).eval(), build().eval()
    x = torch.rand(2, 3, 64, 64) if options.get("size") != 48 else torch.rand(2, 3, 48, 48)
    plain.load_state_dict(encoder.library_state_dict(), strict=True)
    with torch.no_grad():
        z = encoder(x)
        assert torch.equal(plain(x), z)
    assert z.shape == (2, encoder.dim)
    torch.manual_seed(2)
    other = build_encoder(name, **options).eval()
    with torch.no_grad():
        assert not torch.equal(other(x), z)
        other.model.load_state_dict(plain.state_dict(), strict=True)
        assert torch.equal(other(x), z)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet18", {"size": 32}),
        ("resnet18", {"size": 32, "stem": "standard", "in_channels": 1}),
        ("timm:resnet10t", {"in_channels": 5, "drop_path_rate": 0.1}),
        ("vit", {**SMALL_VIT, "size": 16, "positions": "sincos", "pool": "mean"}),
        ("timm:vit_tiny_patch16_224", {"size": 32, "in_channels": 2, "pool": "mean"}),
    ],
)
def test_arguments_are_json_and_build_the_same_encoder_again(name: str, options: dict[str, Any]) -> None:
    encoder = build_encoder(name, **options).eval()
    again = build_encoder(**json.loads(json.dumps(encoder.arguments))).eval()
    assert again.arguments == encoder.arguments
    again.load_state_dict(encoder.state_dict())
    size = encoder.arguments["size"]
    x = torch.rand(2, encoder.arguments["in_channels"], size, size)
    with torch.no_grad():
        assert torch.equal(again(x), encoder(x))


def test_a_bare_name_is_torchvisions_if_it_has_the_model_and_else_timms() -> None:
    assert isinstance(build_encoder("resnet18").model, torchvision.models.ResNet)
    assert isinstance(build_encoder("timm:resnet18").model, timm.models.resnet.ResNet)
    assert type(build_encoder("test_convnext").model) is timm.models.ConvNeXt


# -------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("name", "close"),
    [("resnet81", "resnet18"), ("timm:convnext_tinny", "timm:convnext_tiny"), ("torchvision:resnet10", "resnet101")],
)
def test_a_wrong_name_is_answered_with_close_ones(name: str, close: str) -> None:
    with pytest.raises(ValueError, match=rf"no image model is called '{name}'; did you mean .*{close}"):
        build_encoder(name)


@pytest.mark.parametrize("name", ["zzz", "keras:zzz", ""])
def test_a_name_like_no_other_is_answered_with_how_to_write_one(name: str) -> None:
    with pytest.raises(ValueError, match="write 'resnet', 'vit', 'torchvision:<model>' or 'timm:<model>'"):
        build_encoder(name)


def test_options_of_the_wrong_model_are_refused() -> None:
    with pytest.raises(ValueError, match="resnet18 has no tokens in reach, so positions cannot be chosen"):
        build_encoder("resnet18", positions="sincos")
    with pytest.raises(TypeError, match="pach"):
        build_encoder("vit", pach=4)
    with pytest.raises(ValueError, match="positions must be 'learnt' or 'sincos', got 'rotary'"):
        build_encoder("vit", positions="rotary")
    with pytest.raises(ValueError, match="size must be a multiple of patch, got size=30 and patch=4"):
        build_encoder("vit", size=30)
    with pytest.raises(ValueError, match="width must be a multiple of heads, got width=100 and heads=6"):
        build_encoder("vit", width=100)
    with pytest.raises(ValueError, match="at least one channel, got in_channels=0"):
        build_encoder("resnet18", in_channels=0)
    with pytest.raises(ValueError, match="squeezenet1_0 has no linear head to be removed"):
        build_encoder("squeezenet1_0")


# --------------------------------------------------------------------------------------------------------- stem


@pytest.mark.parametrize("name", ["resnet18", "timm:resnet18"])
@pytest.mark.parametrize(
    ("options", "small"),
    [
        ({"size": 32}, True),
        ({"size": 64}, True),
        ({"size": 65}, False),
        ({"size": 32, "stem": "standard"}, False),
        ({"size": 224, "stem": "small"}, True),
    ],
)
def test_small_images_get_a_stem_that_keeps_their_size(name: str, options: dict[str, Any], small: bool) -> None:
    encoder: Any = build_encoder(name, **options).eval()
    assert encoder.arguments["stem"] == ("small" if small else "standard")
    sizes: list[torch.Size] = []
    encoder.model.layer1.register_forward_hook(lambda module, args, out: sizes.append(args[0].shape[2:]))
    encoder(torch.rand(1, 3, 32, 32))
    assert sizes == [(32, 32) if small else (8, 8)]


def test_models_without_the_usual_stem_keep_their_own() -> None:
    for name in ("timm:resnet10t", "timm:convnext_atto"):  # a ResNet with three convolutions in front; none at all
        assert build_encoder(name, size=32).arguments["stem"] == "standard"
        with pytest.raises(ValueError, match=f"stem='small' replaces the 7×7 convolution of a ResNet, and {name}"):
            build_encoder(name, stem="small")
    with pytest.raises(ValueError, match="stem must be 'auto', 'small' or 'standard', got 'cifar'"):
        build_encoder("resnet18", stem="cifar")  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------ weights


@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:resnet18"])
def test_three_channel_weights_serve_other_numbers_of_channels(name: str, tmp_path: Path) -> None:
    """Summed for one channel: a grey image looks as it did in colour. Repeated and scaled: so do two copies of one."""
    library, bare = name.split(":")
    public: Any = (
        torchvision.models.get_model(bare, weights=None) if library == "torchvision" else timm.create_model(bare)
    )
    file = tmp_path / "resnet.safetensors"
    save_file(public.state_dict(), file)  # with its head
    public.fc = nn.Identity()
    public.eval()
    grey, colour = torch.rand(2, 1, 64, 64), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        for channels, x, as_seen in (
            (3, colour, colour),
            (1, grey, grey.expand(-1, 3, -1, -1)),
            (6, colour.repeat(1, 2, 1, 1), colour),
        ):
            encoder = build_encoder(name, in_channels=channels, weights=file).eval()
            torch.testing.assert_close(encoder(x), public(as_seen), rtol=1e-4, atol=1e-5)
            assert encoder.arguments["stem"] == "standard"
            assert "weights" not in encoder.arguments


def test_transformer_weights_of_another_size_are_interpolated_as_timm_does(tmp_path: Path) -> None:
    public: Any = timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=10)
    file = tmp_path / "vit.safetensors"
    save_file(public.state_dict(), file)
    encoder = build_encoder("timm:vit_tiny_patch16_224", size=96, weights=file).eval()
    public.reset_classifier(0)
    public.set_input_size(img_size=(96, 96))
    x = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), public.eval()(x))


def test_weights_of_an_earlier_run_go_on(tmp_path: Path) -> None:
    for name, options in (("resnet18", {"in_channels": 2, "stem": "small"}), ("vit", {**SMALL_VIT, "in_channels": 2})):
        first = build_encoder(name, **options).eval()
        for weights in (first.state_dict(), first.library_state_dict()):
            file = tmp_path / "encoder.safetensors"
            save_file({key: value.contiguous() for key, value in weights.items()}, file)
            second = build_encoder(name, **options, weights=file).eval()
            x = torch.rand(2, 2, 32, 32)
            with torch.no_grad():
                assert torch.equal(second(x), first(x))


def test_weights_that_do_not_fit_say_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "small.safetensors"
    save_file(build_encoder("resnet18", size=32).library_state_dict(), file)
    with pytest.raises(
        ValueError, match=r"(?s)small.safetensors does not fit .*conv1.weight.*stem='standard' or 'small'"
    ):
        build_encoder("resnet18", weights=file)
    build_encoder("resnet18", weights=file, stem="small")
    save_file({"conv1.weight": torch.zeros(64, 3, 7, 7)}, file)
    with pytest.raises(ValueError, match=r"(?s)does not fit .*Missing key.*bn1.weight"):
        build_encoder("resnet18", weights=file)


def test_files_that_are_no_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must be a .safetensors file .* got resnet18.pth"):
        build_encoder("resnet18", weights="resnet18.pth")
    with pytest.raises(OSError, match=r"missing.safetensors"):
        build_encoder("resnet18", weights=tmp_path / "missing.safetensors")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no weights")
    with pytest.raises(OSError, match=r"broken.safetensors is damaged"):
        build_encoder("resnet18", weights=broken)
    with pytest.raises(ValueError, match="take one of them"):
        build_encoder("resnet18", weights=broken, pretrained=True)


def test_public_weights_without_a_connection_point_to_a_local_file() -> None:
    with pytest.raises(
        OSError, match=r"(?s)torchvision:resnet18 could not be had: .*no route.*weights=<path>.safetensors"
    ):
        build_encoder("resnet18", size=32, pretrained=True)
    with pytest.raises(OSError, match=r"(?s)timm:resnet18 could not be had: .*no route.*weights=<path>.safetensors"):
        build_encoder("timm:resnet18", size=32, pretrained=True)


def test_public_weights_are_taken_with_the_standard_stem(monkeypatch: pytest.MonkeyPatch) -> None:
    public: Any = torchvision.models.resnet18()
    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", lambda *a, **k: public.state_dict())
    encoder: Any = build_encoder("resnet18", size=32, in_channels=1, pretrained=True)
    torch.testing.assert_close(encoder.model.conv1.weight, public.conv1.weight.sum(dim=1, keepdim=True))
    assert torch.equal(encoder.model.layer3[0].conv1.weight, public.layer3[0].conv1.weight)
    assert encoder.arguments["stem"] == "standard"
    assert "pretrained" not in encoder.arguments
    with pytest.raises(ValueError, match="public weights are made with the standard stem"):
        build_encoder("resnet18", stem="small", pretrained=True)


def test_models_without_public_weights_say_so() -> None:
    with pytest.raises(ValueError, match="there are no public weights of 'vit'"):
        build_encoder("vit", pretrained=True)
    with torch.device("meta"), pytest.raises(OSError, match="could not be had: No pretrained weights exist"):
        build_encoder("timm:vit_base_patch32_plus_256", pretrained=True)


# ------------------------------------------------------------------------------------------------------- layers


def named_layers(encoder: ImageEncoder | VisionTransformer) -> list[list[str]]:
    names = {id(p): name for name, p in encoder.model.named_parameters()}
    return [[names[id(p)] for p in layer] for layer in encoder.layers()]


@pytest.mark.parametrize(
    ("name", "options", "blocks"),
    [
        ("resnet18", {}, 8),
        ("timm:resnet18", {}, 8),
        ("torchvision:resnet50", {"size": 224}, 16),
        ("timm:test_convnext", {}, None),
        ("torchvision:mobilenet_v3_small", {}, None),
        ("vit", SMALL_VIT, 2),
        ("vit", {**SMALL_VIT, "positions": "sincos"}, 2),
    ],
)
def test_every_parameter_is_in_one_layer_the_stem_first(name: str, options: dict[str, Any], blocks: int | None) -> None:
    encoder = build_encoder(name, **options)
    layers = named_layers(encoder)
    flat = [each for layer in layers for each in layer]
    assert sorted(flat) == sorted(each for each, _ in encoder.model.named_parameters())
    assert all(layers)
    if blocks is not None:
        assert len(layers) == 1 + blocks
    if "resnet" in name:
        assert {each.split(".")[0] for each in layers[0]} == {"conv1", "bn1"}
        assert all(each.startswith("layer1.0.") for each in layers[1])
        assert {each.rpartition(".")[0].rpartition(".")[0] for each in layers[-1]} <= {"layer4.1", "layer4.2"}


def test_the_blocks_of_torchvisions_transformer_are_its_layers() -> None:
    with torch.device("meta"):
        encoder = build_encoder("torchvision:vit_b_16", size=32)
    layers = named_layers(encoder)
    assert len(layers) == 1 + 12
    assert "conv_proj.weight" in layers[0]
    assert "encoder.pos_embedding" in layers[0]
    assert all("encoder_layer_0." in each for each in layers[1])
    assert layers[-1][-1] == "encoder.ln.bias"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "torchvision:densenet121",
        "torchvision:efficientnet_b0",
        "torchvision:googlenet",
        "torchvision:mnasnet0_5",
        "torchvision:regnet_y_400mf",
        "torchvision:shufflenet_v2_x0_5",
        "torchvision:convnext_tiny",
        "torchvision:swin_t",
        "torchvision:vit_b_16",
        "timm:swin_tiny_patch4_window7_224",
        "timm:efficientnet_b0",
        "timm:caformer_s18",
        "timm:vit_base_patch16_siglip_224",
        "timm:vit_tiny_r_s16_p8_224",
        "timm:mixer_s32_224",
    ],
)
def test_families_can_be_built_trained_and_taken_apart(name: str) -> None:
    encoder = build_encoder(name, in_channels=2, size=224)
    z = encoder(torch.rand(2, 2, 224, 224))
    assert z.shape == (2, encoder.dim)
    z.square().sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())
    layers = named_layers(encoder)
    assert len(layers) > 3
    assert sorted(each for layer in layers for each in layer) == sorted(n for n, _ in encoder.model.named_parameters())


# ------------------------------------------------------------------------------------------------------ forward


@pytest.mark.parametrize("name", ["resnet18", "timm:test_convnext"])
@pytest.mark.parametrize("channels", [1, 4])
def test_a_gradient_reaches_every_parameter_at_any_number_of_channels(name: str, channels: int) -> None:
    encoder = build_encoder(name, in_channels=channels)
    encoder(torch.rand(4, channels, 32, 32)).square().sum().backward()
    for each, p in encoder.named_parameters():
        assert p.grad is not None, each
        assert p.grad.abs().sum() > 0, each


@pytest.mark.parametrize("shape", [(2, 32, 32), (2, 1, 32, 32)])
def test_images_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected images \(B, 3, H, W\), got \(2, "):
        build_encoder("resnet18")(torch.zeros(shape))


def test_only_transformers_have_tokens() -> None:
    assert isinstance(build_encoder("vit", **SMALL_VIT), TokenEncoder)
    assert not isinstance(build_encoder("resnet18"), TokenEncoder)


def test_new_convolutions_start_like_those_of_a_resnet() -> None:
    encoder: Any = build_encoder("resnet18", in_channels=7)
    weight: Tensor = encoder.model.conv1.weight
    assert weight.shape == (64, 7, 3, 3)
    assert float(weight.detach().std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)
