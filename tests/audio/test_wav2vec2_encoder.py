"""The waveform encoder: nothing changes by padding, frames and rates are what strides make them, tokens fit methods."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmssl.audio.wav2vec2_encoder import BASE, TimeNorm, Wav2Vec2Encoder, conv_stack
from mmssl.core.methods.bert import BERT
from mmssl.core.methods.data2vec import Data2Vec
from mmssl.core.methods.mae import MAE
from mmssl.core.types import LayeredTokenEncoder
from mmssl.train.finetune import layer_groups
from tests.audio.waveforms import noises, padded, small

SIZES = [60, *torch.linspace(130, 3300, 15).int().tolist()]  # 1 to 41 frames, one shorter than a frame


@pytest.mark.parametrize("large", [False, True], ids=["base", "large"])
@pytest.mark.parametrize("pool", ["mean", "statistics"])
@pytest.mark.parametrize("length", [3300, 4000])
def test_a_clip_has_the_same_output_alone_and_padded_among_sixteen(large: bool, pool: str, length: int) -> None:
    encoder = small(large=large, pool=pool).eval()
    alone = torch.cat([encoder(clip[None]) for clip in noises(SIZES)])
    together = encoder(padded(noises(SIZES), length))
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("large", [False, True], ids=["base", "large"])
def test_every_frame_of_every_layer_is_the_same_alone_and_padded(large: bool) -> None:
    encoder = small(large=large).eval()
    x = padded(noises(SIZES), 4000)
    valid = encoder.valid(x)
    layers = encoder.encode_layers(encoder.tokenize(x), valid)
    for i, clip in enumerate(noises(SIZES)):
        own = encoder.encode_layers(encoder.tokenize(clip[None]), encoder.valid(clip[None]))
        for whole, single in zip(layers, own, strict=True):
            torch.testing.assert_close(whole[i, valid[i]], single[0], atol=1e-5, rtol=0)


def test_padding_gets_no_gradient_and_changes_none() -> None:
    def gradients(length: int) -> list[Tensor]:
        encoder = small().eval()
        encoder(padded(noises(SIZES[:4]), length)).square().sum().backward()
        return [p.grad for p in encoder.parameters() if p.grad is not None]

    for a, b in zip(gradients(3300), gradients(5000), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_the_masked_norm_is_torchs_group_norm_of_each_bare_clip() -> None:
    norm = TimeNorm(3)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(2, 3, 50)
    found = norm(x, torch.tensor([50, 31]))
    for i, steps in enumerate((50, 31)):
        expected = torch.nn.functional.group_norm(x[i : i + 1, :, :steps], 3, norm.weight, norm.bias)
        torch.testing.assert_close(found[i : i + 1, :, :steps], expected, atol=1e-5, rtol=1e-5)


def test_frames_follow_from_the_strides() -> None:
    base = Wav2Vec2Encoder(dim=32, depth=1, heads=2, hidden=32)
    assert (base.hop, base.receptive_field) == (320, 400)
    assert [base.frame_count(n) for n in (16_000, 400, 399, 719, 720)] == [49, 1, 1, 1, 2]
    encoder = small()
    for samples in (100, 500, 3441, 8000):
        x = torch.zeros(1, samples)
        assert encoder.tokenize(x).shape[1] == encoder.frame_count(samples) == int(encoder.valid(x).sum())


@pytest.mark.parametrize(
    ("rate", "frame_rate", "hop"),
    [(16_000, 50, 320), (8_000, 100, 80), (8_000, 50, 160), (16_000, 100, 160), (44_100, 50, 640), (22_050, 100, 160)],
)
def test_a_stack_for_any_rate_has_about_that_many_frames(rate: int, frame_rate: float, hop: int) -> None:
    stack = conv_stack(rate, frame_rate=frame_rate)
    assert math.prod(stride for _, _, stride in stack) == hop
    assert rate / hop == pytest.approx(frame_rate, rel=0.42)
    if (rate, frame_rate) == (16_000, 50):
        assert [tuple(conv) for conv in stack] == list(BASE)


def test_more_frames_than_samples_allow_are_refused() -> None:
    with pytest.raises(ValueError, match="100 frames a second need 1000 samples a second, got 500"):
        conv_stack(500, frame_rate=100)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"heads": 5}, "multiple of heads, got dim=24"), ({"position_groups": 7}, "multiple of position_groups")],
)
def test_sizes_that_do_not_divide_are_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**changes)


def test_silence_and_a_constant_offset_are_finite_with_finite_gradients() -> None:
    encoder = small()
    x = torch.stack([torch.zeros(2000), torch.full((2000,), 0.5), torch.randn(2000)])
    out = encoder(x)
    out.sum().backward()
    assert out.isfinite().all()
    assert all(p.grad.isfinite().all() for p in encoder.parameters() if p.grad is not None)


def test_loudness_and_a_constant_offset_hardly_change_an_output() -> None:
    encoder = small().eval()
    x = torch.randn(2, 3000)
    torch.testing.assert_close(encoder(5 * x + 0.3), encoder(x), atol=1e-3, rtol=0)


def test_layerdrop_leaves_a_gradient_in_every_parameter() -> None:
    encoder = small(layerdrop=0.99)
    encoder(torch.randn(2, 2000)).sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())
    assert all(not p.grad.any() for p in encoder.encoder.layers.parameters() if p.grad is not None)


def test_targets_are_the_samples_of_each_frame() -> None:
    encoder = small()
    x = padded([torch.arange(900.0), torch.arange(500.0)], 900)
    targets = encoder.targets(x)
    assert targets.shape == (2, encoder.frame_count(900), encoder.hop)
    assert targets[0, 3, 0] == 3 * encoder.hop
    assert targets[1].isnan().sum() == targets[1].numel() - 500


def test_fine_tuning_finds_every_parameter_in_one_group() -> None:
    assert len(layer_groups(small(depth=3))) == 5


@pytest.mark.parametrize("method", ["bert", "data2vec"])
def test_masked_methods_of_the_core_learn_from_waveforms(method: str) -> None:
    encoder = small()
    assert isinstance(encoder, LayeredTokenEncoder)
    model: Any = BERT(encoder) if method == "bert" else Data2Vec(encoder, top_layers=2)
    loss = model(padded([torch.randn(2000), torch.randn(1200)], 2000))["loss"]
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


def test_mae_says_that_frames_cannot_be_left_out() -> None:
    with pytest.raises(ValueError, match="droppable is False"):
        MAE(small(), positions=torch.zeros(5, 512))


def test_an_encoder_is_built_again_from_its_arguments() -> None:
    encoder = small(large=True, conv_bias=True).eval()
    again = Wav2Vec2Encoder(**encoder.arguments).eval()
    again.load_state_dict(copy.deepcopy(encoder.state_dict()))
    x = torch.randn(1, 2000)
    assert torch.equal(again(x), encoder(x))
