"""Weights of models of transformers and torchaudio give the same outputs; what is said of weights that do not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mmssl.audio.wav2vec2_checkpoint import encoder_of, load_weights, read_checkpoint
from mmssl.audio.wav2vec2_encoder import Wav2Vec2Encoder, conv_stack

CONVS = [[24, 10, 5], [32, 3, 2], [32, 2, 2]]
SIZES: dict[str, Any] = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 80,
    "conv_dim": [width for width, _, _ in CONVS],
    "conv_kernel": [kernel for _, kernel, _ in CONVS],
    "conv_stride": [stride for _, _, stride in CONVS],
    "num_conv_pos_embeddings": 7,
    "num_conv_pos_embedding_groups": 4,
}
LARGE: dict[str, Any] = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}


def clips() -> torch.Tensor:
    """Three of 700 samples."""
    return torch.randn(3, 700, generator=torch.Generator().manual_seed(1))


def scrambled(model: Any) -> Any:
    """With weights that are all different, norms and biases included, in evaluation mode."""
    torch.manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model.eval()


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert"])
@pytest.mark.parametrize("form", [{}, LARGE], ids=["base", "large"])
def test_a_folder_of_transformers_gives_the_outputs_of_its_model(
    kind: str, form: dict[str, Any], tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    if kind == "wav2vec2":
        model = transformers.Wav2Vec2ForCTC(transformers.Wav2Vec2Config(**SIZES, **form, vocab_size=9))
        inner = model.wav2vec2
    else:
        model = inner = transformers.HubertModel(transformers.HubertConfig(**SIZES, **form))
    scrambled(model).save_pretrained(tmp_path)
    encoder = read_checkpoint(tmp_path).eval()
    x = clips()
    with torch.no_grad():
        expected = inner(x, output_hidden_states=True)
        layers = encoder.encode_layers(encoder.tokenize(x), encoder.valid(x))
    torch.testing.assert_close(layers[-1], expected.last_hidden_state, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(layers[0], expected.hidden_states[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("large", [False, True], ids=["base", "large"])
@pytest.mark.parametrize("pretraining", [False, True], ids=["model", "pretraining"])
def test_weights_of_torchaudio_give_the_outputs_of_its_model(large: bool, pretraining: bool, tmp_path: Path) -> None:
    models = pytest.importorskip("torchaudio").models
    settings: dict[str, Any] = {
        "extractor_mode": "layer_norm" if large else "group_norm",
        "extractor_conv_layer_config": [tuple(conv) for conv in CONVS],
        "extractor_conv_bias": large,
        "encoder_embed_dim": 64,
        "encoder_projection_dropout": 0.1,
        "encoder_pos_conv_kernel": 8,
        "encoder_pos_conv_groups": 4,
        "encoder_num_layers": 2,
        "encoder_num_heads": 4,
        "encoder_attention_dropout": 0.1,
        "encoder_ff_interm_features": 96,
        "encoder_ff_interm_dropout": 0.1,
        "encoder_dropout": 0.1,
        "encoder_layer_norm_first": large,
        "encoder_layer_drop": 0.1,
    }
    model = scrambled(models.wav2vec2_model(**settings, aux_num_out=5))
    weights = model.state_dict()
    if pretraining:  # as in a HuBERTPretrainModel, whose encoder is called wav2vec2
        weights = {f"wav2vec2.{name}": value for name, value in weights.items()} | {"mask_generator.x": torch.ones(3)}
    encoder = encoder_of(weights, heads=4, strides=[stride for _, _, stride in CONVS]).eval()
    x = clips()
    with torch.no_grad():
        expected, _ = model.extract_features(x)
        layers = encoder.encode_layers(encoder.tokenize(x), encoder.valid(x))
    torch.testing.assert_close(layers[0], expected[0], atol=1e-5, rtol=1e-5)
    if not large:  # torchaudio leaves the last norm of the large form out of extract_features
        torch.testing.assert_close(layers[1], expected[1], atol=1e-5, rtol=1e-5)


def test_a_file_of_weights_is_the_papers_model_as_far_as_weights_do_not_tell(tmp_path: Path) -> None:
    encoder = Wav2Vec2Encoder(conv_stack(16_000, width=8), dim=128, depth=1, heads=2)
    save_file(encoder.state_dict(), tmp_path / "base.safetensors")
    again = read_checkpoint(tmp_path / "base.safetensors")
    assert (again.hop, again.receptive_field, again.arguments["heads"]) == (320, 400, 2)
    with pytest.raises(ValueError, match=r"7 convolutions, and strides=\[5, 2\] are 2"):
        encoder_of(encoder.state_dict(), strides=[5, 2])


@pytest.mark.parametrize(("dim", "heads"), [(768, 12), (1024, 16), (1280, 16), (1920, 16)])
def test_weights_alone_have_the_heads_of_the_published_model_of_their_width(dim: int, heads: int) -> None:
    with torch.device("meta"):
        published = Wav2Vec2Encoder(conv_stack(16_000, width=8), dim=dim, depth=1, heads=heads)
        assert encoder_of(published.state_dict()).arguments["heads"] == heads


def small(**changes: Any) -> Wav2Vec2Encoder:
    sizes: dict[str, Any] = {"dim": 16, "depth": 2, "heads": 2, "position_kernel": 4, "position_groups": 2}
    return Wav2Vec2Encoder(CONVS, **(sizes | changes))


def test_a_checkpoint_of_other_sizes_names_the_first_that_differs() -> None:
    with pytest.raises(ValueError, match=r"other sizes.*projection\.weight is \(16, 32\) in the one and \(24, 32\)"):
        load_weights(small(dim=24), small().state_dict())
    with pytest.raises(ValueError, match=r"16 are missing \(encoder\.layers\.1\.attention"):
        load_weights(small(), small(depth=1).state_dict())
    with pytest.raises(ValueError, match=r"0 are missing.*not known \(encoder\.layers\.1\.attention"):
        load_weights(small(depth=1), small().state_dict())


def test_what_is_no_checkpoint_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint .*nowhere"):
        read_checkpoint(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="pickles are not read"):
        read_checkpoint(tmp_path)
    (tmp_path / "base.pt").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"base\.pt holds no safetensors file"):
        read_checkpoint(tmp_path / "base.pt")
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        read_checkpoint(tmp_path)
    save_file({"classifier.weight": torch.ones(2)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"no config\.json beside"):
        read_checkpoint(tmp_path)
    with pytest.raises(ValueError, match=r"not those of wav2vec 2\.0 or HuBERT: .*conv_layers\.0\.conv\.weight"):
        read_checkpoint(tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "whisper"}))
    with pytest.raises(ValueError, match="a model of type 'whisper'"):
        read_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "hubert", "feat_extract_norm": "layer"}))
    with pytest.raises(ValueError, match="mixes the forms"):
        read_checkpoint(tmp_path)
