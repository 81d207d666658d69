"""What every encoder of series must do, and what some do besides."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from mmssl.core.types import LayeredTokenEncoder, TokenEncoder
from mmssl.timeseries.encoders.build import ENCODERS, build_encoder
from mmssl.timeseries.encoders.gru import BiGRU
from mmssl.timeseries.encoders.inception import InceptionTime
from mmssl.timeseries.encoders.patch_transformer import PatchTransformer
from mmssl.timeseries.encoders.resnet1d import ResNet1D
from mmssl.timeseries.encoders.tstcc import ConvEncoder

SMALL: dict[str, dict[str, Any]] = {
    "dilated": {"dim": 12, "hidden": 8, "depth": 2, "missing": "indicator"},
    "resnet1d": {"widths": [6, 10]},
    "inception": {"hidden": 3, "depth": 4, "kernels": [9, 3]},
    "gru": {"hidden": 8, "dim": 10},
    "patch": {"patch": 5, "dim": 12, "depth": 2, "heads": 2},
    "tstcc": {"widths": [6, 8, 10]},
}
every = pytest.mark.parametrize("name", ENCODERS)


def small(name: str) -> Any:
    torch.manual_seed(0)
    return build_encoder(name, in_channels=3, **SMALL[name]).eval()


def series(batch: int = 4, steps: int = 43) -> Tensor:
    return torch.randn(batch, steps, 3, generator=torch.Generator().manual_seed(steps))


@every
def test_it_gives_a_vector_for_each_series_of_any_length(name: str) -> None:
    encoder = small(name)
    for steps in (1, 7, 43):
        z = encoder(series(steps=steps))
        assert z.shape == (4, encoder.dim)
        assert z.isfinite().all()
    assert not torch.allclose(z[0], z[1], atol=1e-4)


@every
@pytest.mark.parametrize("steps", [43, 32])
@pytest.mark.parametrize(("head", "tail"), [(0, 20), (9, 0), (6, 7)])
def test_padding_at_either_end_changes_nothing(name: str, steps: int, head: int, tail: int) -> None:
    encoder = small(name)
    x = series(steps=steps)
    x[1, 10, 1] = math.nan
    padded = F.pad(x, (0, 0, head, tail), value=math.nan)
    assert torch.allclose(encoder(padded), encoder(x), atol=1e-5)


@every
def test_series_of_different_lengths_do_not_change_each_other(name: str) -> None:
    encoder = small(name)
    x = series()
    x[1, 20:] = x[2, :13] = math.nan
    z = encoder(x)
    for row, own in enumerate((x[0], x[1, :20], x[2, 13:], x[3])):
        assert torch.allclose(z[row], encoder(own[None])[0], atol=1e-5)


@every
def test_a_missing_value_is_finite_and_not_what_it_would_be_as_an_average(name: str) -> None:
    encoder = small(name)
    x = series()
    zero, lost = x.clone(), x.clone()
    zero[:, 10:20, 1], lost[:, 10:20, 1] = 0.0, math.nan
    assert encoder(lost).isfinite().all()
    if name != "tstcc":  # the paper's encoder knows no indicator
        assert not torch.allclose(encoder(lost), encoder(zero), atol=1e-4)


@every
def test_a_series_of_nothing_is_finite(name: str) -> None:
    x = series()
    x[2] = math.nan
    assert small(name)(x).isfinite().all()


@every
def test_every_parameter_gets_a_gradient(name: str) -> None:
    encoder = small(name).train()
    x = series()
    x[0, :5] = x[1, 8, 1] = math.nan
    encoder(x).square().sum().backward()
    assert [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@every
def test_other_channels_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"expected series \(B, T, 3\), got \(2, 9, 4\)"):
        small(name)(torch.zeros(2, 9, 4))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet1d", "inception", "patch", "tstcc"])  # torch does not trace a GRU
def test_it_compiles_to_one_graph(name: str) -> None:
    encoder = small(name)
    x = series()
    x[0, :5] = x[1, 8, 1] = math.nan
    compiled = torch.compile(encoder, backend="eager", fullgraph=True)
    assert torch.allclose(compiled(x), encoder(x), atol=1e-5)


@pytest.mark.parametrize("name", ["resnet1d", "inception", "patch", "tstcc"])
def test_it_never_waits_for_a_gpu(name: str) -> None:
    with FakeTensorMode():  # tensors without values: to ask for one is an error
        with torch.device("cuda"):
            encoder = build_encoder(name, in_channels=3, **SMALL[name])
        z = encoder(torch.empty(4, 43, 3, device="cuda"))
    assert z.device.type == "cuda"


def test_the_recurrent_one_does_not_wait_either() -> None:
    with torch.device("meta"):  # as above; cuDNN's weights cannot be faked
        encoder = build_encoder("gru", in_channels=3, **SMALL["gru"])
    assert encoder(torch.empty(4, 43, 3, device="meta")).shape == (4, 10)


@pytest.mark.parametrize("silent", ["forwards", "backwards"])
def test_either_direction_of_the_recurrent_one_sees_the_whole_series(silent: str) -> None:
    encoder: BiGRU = small("gru")
    for parameter in getattr(encoder, silent).parameters():
        torch.nn.init.zeros_(parameter)  # its part is constant then
    x = series(1, 20).requires_grad_()
    (gradient,) = torch.autograd.grad(encoder(x).square().sum(), x)
    assert (gradient.abs().amax(dim=2) > 1e-6).all()


def test_the_backward_direction_is_that_of_torch() -> None:
    encoder: BiGRU = small("gru")
    both = torch.nn.GRU(6, 8, batch_first=True, bidirectional=True)
    both.load_state_dict(
        {**encoder.forwards.state_dict(), **{f"{k}_reverse": v for k, v in encoder.backwards.state_dict().items()}}
    )
    x = series()
    h, _ = both(torch.cat([x, torch.zeros_like(x)], dim=-1))
    assert torch.allclose(encoder(x), encoder.output(h.mean(dim=1)), atol=1e-6)


def test_a_module_of_inception_is_the_papers() -> None:
    encoder = InceptionTime(1)
    assert encoder.dim == 128
    assert len(encoder.inceptions) == 6
    assert len(encoder.shortcuts) == 2
    shapes = [
        tuple(p.shape) for n, p in encoder.named_parameters() if n.startswith("inceptions.1.") and "norm" not in n
    ]
    assert shapes == [(32, 128, 1), (32, 32, 39), (32, 32, 19), (32, 32, 9), (32, 128, 1)]
    assert len(InceptionTime(1, depth=2).shortcuts) == 0


def test_an_encoder_is_built_by_its_name_or_that_of_its_class() -> None:
    assert isinstance(build_encoder("patch", in_channels=2), PatchTransformer)
    assert isinstance(build_encoder("ResNet1D", in_channels=2), ResNet1D)
    with pytest.raises(
        ValueError, match="no encoder 'lstm' of series; there are dilated, resnet1d, inception, gru, patch, tstcc"
    ):
        build_encoder("lstm", in_channels=2)
    with pytest.raises(ValueError, match=r"'tstcc' does not take these settings.*'patch'"):
        build_encoder("tstcc", in_channels=2, patch=3)


def test_the_tokens_of_the_patch_transformer_are_its_patches() -> None:
    encoder: PatchTransformer = small("patch")
    assert isinstance(encoder, TokenEncoder)
    assert isinstance(encoder, LayeredTokenEncoder)
    x = series(2, 12)
    assert encoder.tokens(12) == 3
    assert encoder.tokenize(x).shape == (2, 3, 12)
    target = encoder.targets(x)
    assert torch.equal(target[:, 1].view(2, 5, 3), x[:, 5:10])
    assert torch.equal(target[:, 2].view(2, 5, 3)[:, :2], x[:, 10:])
    assert target[:, 2, 6:].isnan().all()  # nothing is measured after the end
    layers = encoder.encode_layers(encoder.tokenize(x))
    assert torch.equal(encoder.norm(layers[-1]), encoder.encode(encoder.tokenize(x)))


def test_a_patch_is_valid_if_any_of_it_is() -> None:
    encoder: PatchTransformer = small("patch")
    x = series(3, 15)
    assert encoder.valid(x) is None
    x[1, 6:] = x[2, :5] = math.nan
    valid = encoder.valid(x)
    assert valid is not None
    assert valid.tolist() == [[True, True, True], [True, True, False], [True, True, False]]


def test_every_convolution_of_a_padded_series_sees_zeros_beyond_its_end() -> None:
    encoder: ResNet1D = small("resnet1d")
    x = series(1, 30)
    x[:, 20:] = math.nan
    h = encoder.timestamps(x)
    assert torch.equal(h[:, 20:], torch.zeros(1, 10, 10))
    assert torch.allclose(h[:, :20], encoder.timestamps(x[:, :20]), atol=1e-6)


def test_the_features_of_tstcc_have_the_length_of_the_paper() -> None:
    encoder = ConvEncoder(9)
    features, valid = encoder.features(torch.randn(2, 128, 9))  # human activity: 128 steps
    assert features.shape == (2, 18, 128)
    assert valid is None
    assert ConvEncoder(1).features(torch.randn(2, 178, 1))[0].shape == (2, 24, 128)  # epilepsy
    sleep = ConvEncoder(1, kernel=25, stride=3)
    assert sleep.features(torch.randn(2, 3000, 1))[0].shape == (2, 127, 128)


def test_tstcc_has_the_weights_of_the_paper() -> None:
    shapes = [tuple(p.shape) for n, p in ConvEncoder(9).named_parameters() if "conv" in n]
    assert shapes == [(32, 9, 8), (64, 32, 8), (128, 64, 8)]


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"odd kernels, got depth=6 and kernels=\(40, 20, 10\)"):
        InceptionTime(3, kernels=(40, 20, 10))
    with pytest.raises(ValueError, match=r"odd kernels.*kernels=\(8, 5, 3\)"):
        ResNet1D(3, kernels=(8, 5, 3))
    with pytest.raises(ValueError, match="patch must be at least 1 timestamp, got 0"):
        PatchTransformer(3, patch=0)
