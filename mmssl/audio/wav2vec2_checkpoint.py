"""Published weights of wav2vec 2.0 and HuBERT as starting points: those of transformers and of torchaudio.

    encoder = read_checkpoint("wav2vec2-base")            # a folder of transformers: config.json, model.safetensors
    encoder = read_checkpoint("hubert_base.safetensors")  # weights alone: save_file(bundle.get_model().state_dict(), …)
    encoder = encoder_of(model.state_dict())              # weights in memory

Only safetensors files are read, since the older formats are pickles, which run code that is in them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mmssl.audio.wav2vec2_encoder import BASE, Wav2Vec2Encoder

PARTS = ("feature_extractor.", "feature_projection.", "encoder.")  # of the encoder; heads and quantizers are left out
RENAMED = (  # what other names become ours, in this order
    (r"^(wav2vec2|hubert|model)\.", ""),
    (r"^encoder\.feature_projection\.", "feature_projection."),
    (r"^encoder\.transformer\.", "encoder."),
    (r"\.pos_conv_embed\.conv\.", ".pos_conv."),
    (r"\.parametrizations\.weight\.original0$", ".weight_g"),
    (r"\.parametrizations\.weight\.original1$", ".weight_v"),
    (r"\.feed_forward\.", "."),
)
STRIDES = tuple(stride for _, _, stride in BASE)
HEAD, HEADS = 64, 16  # features of an attention head in published models, and most heads, which are wider then


def read_checkpoint(path: str | Path) -> Wav2Vec2Encoder:
    """The encoder in a folder of transformers, or in a safetensors file with names of transformers or torchaudio.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: it is damaged, a pickle, or another kind of model.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no checkpoint {path}: give a folder that transformers wrote, or a file")
    file, config = (path / "model.safetensors", path / "config.json") if path.is_dir() else (path, None)
    if not file.exists() or file.suffix != ".safetensors":
        raise ValueError(
            f"{path} holds no safetensors file: pickles are not read. Write one with save_pretrained(folder) of "
            "transformers, or with safetensors.torch.save_file(model.state_dict(), file)"
        )
    try:
        weights = load_file(file)
    except SafetensorError as error:
        raise ValueError(f"the checkpoint {file} is damaged: {error}") from error
    if config is None:
        return encoder_of(weights)
    if not config.exists():
        raise ValueError(f"{path} has no config.json beside its weights; if they are the paper's model, name the file")
    return encoder_of(weights, **_settings(json.loads(config.read_text()), path))


def encoder_of(
    weights: Mapping[str, Tensor], *, heads: int | None = None, strides: Sequence[int] = STRIDES
) -> Wav2Vec2Encoder:
    """An encoder with these weights; its sizes are theirs.

    Args:
        weights: names of transformers or torchaudio.
        heads: of the attention; None: one for 64 features, 16 at most, as in all published models.
        strides: of the convolutions, which weights do not tell; the paper's by default.

    Raises:
        ValueError: they are those of another kind of model.
    """
    own = renamed(weights)
    try:
        kernels = _stack(own, "feature_extractor.conv_layers.{}.conv.weight")
        dim = len(own["feature_projection.projection.weight"])
        positions = own["encoder.pos_conv.weight_v"]
        hidden = len(own["encoder.layers.0.intermediate_dense.weight"])
    except KeyError as error:
        raise ValueError(f"the weights are not those of wav2vec 2.0 or HuBERT: {error} is missing") from error
    if len(kernels) != len(strides):
        raise ValueError(
            f"the weights have {len(kernels)} convolutions, and strides={list(strides)} are {len(strides)}"
        )
    encoder = Wav2Vec2Encoder(
        [[len(kernel), kernel.shape[2], stride] for kernel, stride in zip(kernels, strides, strict=True)],
        dim=dim,
        depth=len(_stack(own, "encoder.layers.{}.layer_norm.weight")),
        heads=min(max(1, dim // HEAD), HEADS) if heads is None else heads,
        hidden=hidden,
        position_kernel=positions.shape[2],
        position_groups=dim // positions.shape[1],
        large="feature_extractor.conv_layers.1.layer_norm.weight" in own,
        conv_bias="feature_extractor.conv_layers.0.conv.bias" in own,
    )
    load_weights(encoder, weights)
    return encoder


def load_weights(encoder: Wav2Vec2Encoder, weights: Mapping[str, Tensor]) -> None:
    """Put weights, with names of transformers or torchaudio, into an encoder of the same sizes.

    Raises:
        ValueError: it has other sizes, or they belong to another kind of model.
    """
    new, now = renamed(weights), encoder.state_dict()
    if different := [name for name in now if name in new and new[name].shape != now[name].shape]:
        name = different[0]
        raise ValueError(
            f"the checkpoint has other sizes than the encoder ({len(different)} of {len(now)} weights): {name} is "
            f"{tuple(new[name].shape)} in the one and {tuple(now[name].shape)} in the other. Leave the sizes of the "
            "encoder to the checkpoint"
        )
    missing, unknown = [name for name in now if name not in new], [name for name in new if name not in now]
    if missing or unknown:
        raise ValueError(
            f"the weights are not those of wav2vec 2.0 or HuBERT as large as the encoder: {len(missing)} are missing "
            f"({', '.join(missing[:2])}), {len(unknown)} not known ({', '.join(unknown[:2])})"
        )
    encoder.load_state_dict(new)


def renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's part of the weights, by our names."""
    out = {}
    for name, value in weights.items():
        for pattern, ours in RENAMED:
            name = re.sub(pattern, ours, name)
        if name.startswith(PARTS):
            out[name] = value
    return out


def _stack(weights: Mapping[str, Tensor], name: str) -> list[Tensor]:
    """Weights of that name with 0, 1, 2, … in it, of which there is at least one."""
    out = [weights[name.format(0)]]
    while (following := name.format(len(out))) in weights:
        out.append(weights[following])
    return out


def _settings(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """What weights do not tell, from a configuration of transformers."""
    kind = config.get("model_type")
    if kind not in ("wav2vec2", "hubert"):
        raise ValueError(f"{path} is a model of type {kind!r}, and the encoder is that of 'wav2vec2' or 'hubert'")
    large = config.get("feat_extract_norm", "group") == "layer"
    if large != config.get("do_stable_layer_norm", False) or config.get("conv_pos_batch_norm", False):
        raise ValueError(
            f"{path} mixes the forms of the base and the large models (feat_extract_norm, do_stable_layer_norm, "
            "conv_pos_batch_norm in config.json), which no published wav2vec 2.0 does"
        )
    strides = config.get("conv_stride", STRIDES)
    return {"heads": config.get("num_attention_heads", 12), "strides": tuple(strides)}
