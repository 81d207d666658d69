"""Image encoders by name: any classification model of torchvision or timm without its head, at any number of channels.

    build_encoder("resnet18", size=32)                       # torchvision's, with a stem for small images
    build_encoder("timm:convnext_tiny", pretrained=True)
    build_encoder("resnet", layers=[1, 1, 1, 1], channels=[32, 64, 128, 256])
    build_encoder("vit", patch=4, width=192, depth=6, heads=6, positions="sincos")

Weights go in and out under the library's own names: what `library_state_dict` returns loads with ``strict=True`` into
the library's model once its head is gone (timm: ``num_classes=0``; torchvision: the last linear layer replaced by
`nn.Identity`). With the small stem, ``conv1`` is a 3×3 convolution of stride 1, and ``maxpool`` an `nn.Identity`.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import timm
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import VisionTransformer as TimmVisionTransformer
from timm.models import adapt_input_conv, get_pretrained_cfg_value
from timm.models.resnet import BasicBlock
from timm.models.resnet import ResNet as TimmResNet
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor, nn

from mmssl.vision.layers import layers
from mmssl.vision.vit import Pool, VisionTransformer, has_tokens, init_from_scratch

Stem = Literal["auto", "small", "standard"]
SMALL = 64  # pixels: up to here the standard stem of a ResNet throws too much away


class ImageEncoder(nn.Module):
    """A model of a library without its head: images ``(B, C, H, W)`` to ``(B, dim)``.

    Args:
        model: of timm or torchvision.
        dim: size of what it returns.
        in_channels: C.
    """

    arguments: dict[str, Any]  # of `build_encoder`

    def __init__(self, model: nn.Module, *, dim: int, in_channels: int) -> None:
        super().__init__()
        self.model = model
        self.dim = dim
        self.in_channels = in_channels

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"expected images (B, {self.in_channels}, H, W), got {tuple(x.shape)}")
        return self.model(x)

    def library_state_dict(self) -> dict[str, Tensor]:
        """Weights under the library's own names."""
        return self.model.state_dict()

    def layers(self) -> list[list[nn.Parameter]]:
        """Parameters from input to output, see `mmssl.vision.layers`."""
        return layers(self.model)


def build_encoder(
    name: str,
    *,
    in_channels: int = 3,
    size: int = 32,
    pretrained: bool = False,
    weights: str | os.PathLike[str] | None = None,
    stem: Stem = "auto",
    **options: Any,
) -> ImageEncoder | VisionTransformer:
    """An encoder, with ``dim``, ``layers()``, ``library_state_dict()`` and ``arguments``, which build it again.

    Args:
        name: ``"torchvision:resnet50"``, ``"timm:convnext_tiny"``; without a prefix the one of torchvision if both
            have it. ``"resnet"`` and ``"vit"`` are a plain ResNet and a plain vision transformer of timm in sizes of
            your own.
        in_channels: of the images. Pretrained weights for three channels are fitted by timm's rule: summed for one
            channel, else repeated and scaled by 3 / channels.
        size: of the images in pixels. Decides about the stem, and is built into transformers.
        pretrained: take the library's public weights, which are downloaded.
        weights: a local safetensors file instead, with the library's names; a head in it is left out.
        stem: of a ResNet. ``"small"``: a 3×3 convolution without stride and no pooling, as is usual on CIFAR.
            ``"auto"`` takes it up to 64 pixels, unless weights are loaded, which were made with the standard one.
        options: for ``"resnet"``: ``layers=[1, 1, 1, 1], channels=[32, 64, 128, 256]``, basic blocks and widths of the
            four stages; by default a ResNet-10 of half the usual width. For ``"vit"``: ``patch=4, width=192, depth=6,
            heads=6, mlp_ratio=4, drop_path=0``. For every vision transformer: ``pool="auto" | "cls" | "mean"``,
            ``positions="learnt" | "sincos"`` (fixed, as in MAE). Otherwise what the library's constructor takes.

    Vision transformers without weights start as MAE's do, see `init_from_scratch`.

    Raises:
        ValueError: no model has this name (close ones are named), or the options do not fit it.
        OSError: the weights could not be had.
    """
    if pretrained and weights is not None:
        raise ValueError("pretrained=True downloads weights, and weights= names a file: take one of them")
    if stem not in ("auto", "small", "standard"):
        raise ValueError(f"stem must be 'auto', 'small' or 'standard', got {stem!r}")
    if in_channels < 1:
        raise ValueError(f"images need at least one channel, got in_channels={in_channels}")
    library, bare = _find(name)
    tokens: dict[str, Any] = {key: options[key] for key in ("pool", "positions") if key in options}
    rest = {key: value for key, value in options.items() if key not in tokens}
    encoder: ImageEncoder | VisionTransformer
    if library == "torchvision":
        encoder = _torchvision(bare, size, in_channels, pretrained, rest)
    elif library == "timm":
        encoder = _timm(bare, size, in_channels, pretrained, rest, tokens)
    elif pretrained:
        raise ValueError(f"there are no public weights of {name!r}: name a model of timm, or a file with weights=")
    elif library == "resnet":
        encoder = _plain_resnet(in_channels, **rest)
    else:
        encoder = _with_tokens(_plain_vit(size, in_channels, **rest), scratch=True, **tokens)
    if tokens and not isinstance(encoder, VisionTransformer):
        raise ValueError(f"{name} has no tokens in reach, so {' and '.join(tokens)} cannot be chosen")
    if stem == "small" and pretrained:
        raise ValueError("public weights are made with the standard stem: leave stem='small' or pretrained=True away")
    if stem == "auto":
        small = size <= SMALL and not pretrained and weights is None and _has_usual_stem(encoder.model)
        stem = "small" if small else "standard"
    if stem == "small":
        _make_stem_small(encoder.model, name)
    if weights is not None:
        _load_file(encoder.model, Path(weights), in_channels)
    encoder.arguments = {"name": name, "in_channels": in_channels, "size": size, "stem": stem, **options}
    return encoder


def _find(name: str) -> tuple[Literal["resnet", "vit", "torchvision", "timm"], str]:
    """The library, and the name that it knows the model by."""
    ours = torchvision.models.list_models(module=torchvision.models)
    prefix, _, bare = name.rpartition(":")
    if name == "resnet":
        return "resnet", name
    if name == "vit":
        return "vit", name
    if prefix in ("", "torchvision") and bare in ours:
        return "torchvision", bare
    if prefix in ("", "timm") and timm.is_model(bare):
        return "timm", bare
    theirs = timm.list_models()
    known = [
        "resnet",
        "vit",
        *ours,
        *theirs,
        *(f"torchvision:{each}" for each in ours),
        *(f"timm:{each}" for each in theirs),
    ]
    close = dict.fromkeys(difflib.get_close_matches(name, known, n=4))
    hint = (
        f"did you mean {', '.join(close)}?"
        if close
        else "write 'resnet', 'vit', 'torchvision:<model>' or 'timm:<model>'"
    )
    raise ValueError(f"no image model is called {name!r}; {hint}")


def _torchvision(name: str, size: int, in_channels: int, pretrained: bool, options: dict[str, Any]) -> ImageEncoder:
    """The last linear layer is the head; it is replaced by the identity."""
    if name.startswith("vit_"):
        options = {"image_size": size, **options}
    if name in ("googlenet", "inception_v3"):
        options = {"aux_logits": False, "init_weights": True, **options}
    model = torchvision.models.get_model(name, weights=None, **options)
    linear = [(path, module) for path, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ValueError(f"torchvision's {name} has no linear head to be removed; timm may have a model like it")
    path, head = linear[-1]
    model.set_submodule(path, nn.Identity())
    if in_channels != 3:
        path, first = next((path, module) for path, module in model.named_modules() if isinstance(module, nn.Conv2d))
        model.set_submodule(path, _like(first, in_channels=in_channels))
    if pretrained:
        public = torchvision.models.get_model_weights(name).DEFAULT
        try:
            state = public.get_state_dict(progress=False, check_hash=True, weights_only=True)
        except OSError as error:
            raise _not_had(f"torchvision:{name}", error) from error
        _load(model, state, in_channels, str(public))
    return ImageEncoder(model, dim=head.in_features, in_channels=in_channels)


def _timm(
    name: str, size: int, in_channels: int, pretrained: bool, options: dict[str, Any], tokens: dict[str, Any]
) -> ImageEncoder | VisionTransformer:
    if get_pretrained_cfg_value(name, "fixed_input_size"):
        options = {"img_size": size, **options}
    if timm.model_entrypoint(name).__module__ == TimmResNet.__module__:
        options = {"zero_init_last": False, **options}  # see _plain_resnet
    try:
        model: Any = timm.create_model(name, pretrained=pretrained, num_classes=0, in_chans=in_channels, **options)
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        raise _not_had(f"timm:{name}", error) from error
    if has_tokens(model):
        return _with_tokens(model, scratch=not pretrained, **tokens)
    dim = getattr(model, "head_hidden_size", model.num_features)  # wider than the features in some families
    return ImageEncoder(model, dim=dim, in_channels=in_channels)


def _plain_resnet(
    in_channels: int, *, layers: Sequence[int] = (1, 1, 1, 1), channels: Sequence[int] = (32, 64, 128, 256)
) -> ImageEncoder:
    if len(layers) != 4 or len(channels) != 4 or min(*layers, *channels) < 1:
        raise ValueError(f"a ResNet has four stages, got layers={list(layers)} and channels={list(channels)}")
    # Residual branches that begin at zero would leave the strided shortcuts, which on small images see a few pixels of
    # the border: an untrained encoder would give all images the same features.
    model = TimmResNet(
        BasicBlock,  # type: ignore[arg-type]  # timm says an instance, and means the class
        tuple(layers),
        num_classes=0,
        in_chans=in_channels,
        channels=tuple(channels),
        zero_init_last=False,
    )
    return ImageEncoder(model, dim=channels[-1], in_channels=in_channels)


def _plain_vit(
    size: int,
    in_channels: int,
    *,
    patch: int = 4,
    width: int = 192,
    depth: int = 6,
    heads: int = 6,
    mlp_ratio: float = 4.0,
    drop_path: float = 0.0,
) -> nn.Module:
    if size % patch:
        raise ValueError(f"size must be a multiple of patch, got size={size} and patch={patch}")
    if width % heads:
        raise ValueError(f"width must be a multiple of heads, got width={width} and heads={heads}")
    return TimmVisionTransformer(
        img_size=size,
        patch_size=patch,
        in_chans=in_channels,
        num_classes=0,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        mlp_ratio=mlp_ratio,
        drop_path_rate=drop_path,
    )


def _with_tokens(
    model: nn.Module, *, scratch: bool, pool: Pool = "auto", positions: Literal["learnt", "sincos"] = "learnt"
) -> VisionTransformer:
    if positions not in ("learnt", "sincos"):
        raise ValueError(f"positions must be 'learnt' or 'sincos', got {positions!r}")
    if scratch:
        init_from_scratch(model, sincos=positions == "sincos")
    return VisionTransformer(model, pool=pool, fixed_positions=positions == "sincos")


def _has_usual_stem(model: nn.Module) -> bool:
    """Is it a ResNet with a single convolution and pooling in front?"""
    return isinstance(model, torchvision.models.ResNet | TimmResNet) and isinstance(model.conv1, nn.Conv2d)


def _make_stem_small(model: Any, name: str) -> None:
    if not _has_usual_stem(model):
        raise ValueError(f"stem='small' replaces the 7×7 convolution of a ResNet, and {name} has none: leave it away")
    model.conv1 = _like(model.conv1, kernel_size=3, stride=1, padding=1)
    model.maxpool = nn.Identity()


def _like(conv: nn.Conv2d, **changes: Any) -> nn.Conv2d:
    """A new convolution like ``conv`` but for ``changes``, initialised as those of a ResNet."""
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
    new = nn.Conv2d(**{**{each: getattr(conv, each) for each in names}, "bias": conv.bias is not None, **changes})
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    if new.bias is not None:
        nn.init.zeros_(new.bias)
    return new


def _load_file(model: nn.Module, file: Path, in_channels: int) -> None:
    if file.suffix != ".safetensors":
        raise ValueError(f"weights must be a .safetensors file (nothing is unpickled here), got {file}")
    try:
        state = load_file(file)
    except SafetensorError as error:
        raise OSError(f"{file} is damaged: {error}") from error
    if all(key.startswith("model.") for key in state):  # the encoder of a run, whose model is inside an encoder
        state = {key.removeprefix("model."): value for key, value in state.items()}
    _load(model, state, in_channels, str(file))


def _load(model: nn.Module, state: dict[str, Tensor], in_channels: int, source: str) -> None:
    """Load weights with a head, of other image sizes in a vision transformer, or for three channels."""
    if isinstance(model, TimmVisionTransformer):
        state = checkpoint_filter_fn(state, model)
    heads = {name for name, module in model.named_modules() if isinstance(module, nn.Identity)}
    state = {key: value for key, value in state.items() if key.rpartition(".")[0] not in heads}
    own = model.state_dict()
    for key, value in state.items():
        if in_channels != 3 and value.ndim == 4 and value.shape[1] == 3 and key in own and own[key].shape[1] != 3:
            state[key] = adapt_input_conv(in_channels, value)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(
            f"{source} does not fit the model: {error}\n"
            "The stem of a ResNet must be that of its weights: stem='standard' or 'small'"
        ) from error


def _not_had(name: str, error: Exception) -> OSError:
    return OSError(
        f"the public weights of {name} could not be had: {error}\nWithout a connection, pass a local file: "
        "weights=<path>.safetensors, with the names of the library"
    )
