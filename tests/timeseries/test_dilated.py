"""The residual block as matrix products against torch's convolutions, values and gradients."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmssl.timeseries.dilated import residual_block, suits
from mmssl.timeseries.encoder import DilatedConvEncoder


def modules(width_in: int, width_out: int, projected: bool) -> nn.ModuleDict:
    parts = nn.ModuleDict({
        "conv1": nn.Conv2d(width_in, width_out, (1, 3)),
        "conv2": nn.Conv2d(width_out, width_out, (1, 3)),
    })  # fmt: skip
    if projected:
        parts["projector"] = nn.Linear(width_in, width_out)
    return parts.double().to(memory_format=torch.channels_last)


def by_products(x: Tensor, parts: nn.ModuleDict, valid: Tensor | None, lengths: list[int], shift: int) -> Tensor:
    projector = parts["projector"] if len(parts) == 3 else None
    return residual_block(x, parts["conv1"], parts["conv2"], projector, valid=valid, lengths=lengths, shift=shift)  # type: ignore[arg-type]


def convolved(x: Tensor, parts: nn.ModuleDict, valid: Tensor, dilation: int) -> Tensor:
    """The block on one segment ``(T, B, C)`` with `F.conv1d`; ``valid`` is ``(T, B)``."""

    def conv(h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        out = F.conv1d(h.permute(1, 2, 0), weight[:, :, 0], bias, padding=dilation, dilation=dilation)
        return out.permute(2, 0, 1) * valid[..., None]

    h = conv(F.gelu(x), *parts["conv1"].parameters())
    h = conv(F.gelu(h), *parts["conv2"].parameters())
    residual = parts["projector"](x) if "projector" in parts else x
    return h + residual * valid[..., None]


@pytest.mark.parametrize("dilation", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("steps", [[1], [9], [2, 9], [5, 5, 1]])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("projected", [False, True])
def test_value_and_gradients_are_those_of_torch_s_convolutions(
    dilation: int, steps: list[int], padded: bool, projected: bool
) -> None:
    torch.manual_seed(0)
    batch, width_in, width_out = 3, 4, 6 if projected else 4
    parts = modules(width_in, width_out, projected)
    segments = [torch.randn(t, batch, width_in, dtype=torch.float64, requires_grad=True) for t in steps]
    valid = [(torch.rand(t, batch) > (0.3 if padded else -1)).double() for t in steps]
    pull = torch.randn(sum(steps) * batch, width_out, dtype=torch.float64)
    leaves = [*segments, *parts.parameters()]

    expected = torch.cat([
        convolved(x, parts, v, dilation).flatten(0, 1) for x, v in zip(segments, valid, strict=True)
    ])  # fmt: skip
    y = by_products(
        torch.cat([x.flatten(0, 1) for x in segments]),
        parts,
        torch.cat([v.flatten() for v in valid])[:, None] if padded else None,
        lengths=[t * batch for t in steps],
        shift=dilation * batch,
    )
    torch.testing.assert_close(y, expected)
    wanted = torch.autograd.grad((expected * pull).sum(), leaves)
    for own, other in zip(torch.autograd.grad((y * pull).sum(), leaves), wanted, strict=True):
        torch.testing.assert_close(own, other)


@pytest.mark.parametrize("shift", [2, 100])
@pytest.mark.parametrize("projected", [False, True])
def test_the_gradients_are_those_of_finite_differences(shift: int, projected: bool) -> None:
    torch.manual_seed(0)
    parts = modules(2, 3 if projected else 2, projected)
    valid = torch.tensor([1.0, 1, 0, 1, 1, 1, 0, 1, 1, 1], dtype=torch.float64)[:, None]
    x = torch.randn(10, 2, dtype=torch.float64, requires_grad=True)

    def block(x: Tensor, *_: Tensor) -> Tensor:
        return by_products(x, parts, valid, lengths=[4, 6], shift=shift)

    assert torch.autograd.gradcheck(block, (x, *parts.parameters()))


def test_inputs_are_left_as_they_are() -> None:
    torch.manual_seed(0)
    parts = modules(4, 4, projected=False)
    x = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    given = [x, *parts.parameters()]
    before = [p.detach().clone() for p in given]
    by_products(x, parts, None, lengths=[6], shift=1).sum().backward()
    for p, was in zip(given, before, strict=True):
        assert torch.equal(p, was)


def test_gradients_lie_in_memory_as_the_weights_do() -> None:
    encoder = DilatedConvEncoder(1, dim=6, hidden=4, depth=2)
    encoder(torch.randn(2, 3, 1)).sum().backward()
    for block in encoder.conv_blocks():
        for weight in (block.conv1.weight, block.conv2.weight):
            assert weight.grad is not None
            assert weight.grad.stride() == weight.stride()  # else the optimiser works on copies


def test_products_are_for_full_precision_outside_autocast() -> None:
    assert suits(torch.zeros(1))
    assert suits(torch.zeros(1, dtype=torch.float64))
    assert not suits(torch.zeros(1, dtype=torch.bfloat16))
    with torch.autocast("cpu", torch.bfloat16):
        assert not suits(torch.zeros(1))


def test_under_autocast_the_encoder_still_works_in_half_precision() -> None:
    torch.manual_seed(0)
    encoder = DilatedConvEncoder(2, dim=6, hidden=4, depth=3).eval()
    x, keep = torch.randn(2, 9, 2), torch.ones(2, 9, dtype=torch.bool)
    span = [slice(2, 9), slice(0, 7)]
    exact = encoder.shared_timestamps([x, x], [keep, keep], span)
    with torch.autocast("cpu", torch.bfloat16):
        low = encoder.shared_timestamps([x, x], [keep, keep], span)
    assert not torch.equal(low.float(), exact)
    torch.testing.assert_close(low.float(), exact, rtol=0.05, atol=0.05)
    low.float().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


@pytest.mark.slow  # tracing takes seconds
def test_a_compiled_encoder_gives_the_same_values_and_gradients() -> None:
    torch.manual_seed(0)
    encoder = DilatedConvEncoder(1, dim=6, hidden=4, depth=2).eval()
    twin = copy.deepcopy(encoder)
    compiled = torch.compile(twin.shared_timestamps, dynamic=True, fullgraph=True, backend="aot_eager")
    for steps in (7, 9):
        x, keep = torch.randn(2, steps, 1), torch.rand(2, steps) > 0.3
        x[0, 5:] = float("nan")
        span = [slice(1, 6), slice(0, 5)]
        results = [way([x, x[:, :6]], [keep, keep[:, :6]], span) for way in (encoder.shared_timestamps, compiled)]
        torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-6)
        for z in results:
            z.square().sum().backward()
    for own, other in zip(twin.parameters(), encoder.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-4, atol=1e-5)
