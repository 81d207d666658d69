"""A residual block of TS2Vec on a CPU: dilated convolutions as sums of matrix products, with a backward pass by hand.

Series are kept time first, ``(T, B, C)`` as rows ``(T·B, C)``. The neighbour ``dilation`` timestamps away is then the
row ``dilation·B`` further, and each tap of a convolution is one product of contiguous rows that is added to the output
in place. Against torch's convolutions on a CPU:
- a side tap is computed where it has a neighbour and nowhere else: two thirds of the work where the dilation is half
  the series' length, one third where it is longer than the series;
- bias and residual cost no pass of their own, and segments of unequal lengths need no padding;
- nothing depends on shapes. The library behind torch's convolutions generates machine code for every new length and
  dilation, and TS2Vec cuts another length at every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Taps = tuple[Tensor, Tensor, Tensor]  # of the neighbour before, the row itself, the neighbour after


def suits(x: Tensor) -> bool:
    """Whether `residual_block` is the way for ``x``: on a CPU, in full precision, and outside `torch.compile`."""
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
    )


def residual_block(
    x: Tensor,
    conv1: nn.Conv2d,
    conv2: nn.Conv2d,
    projector: nn.Linear | None,
    *,
    valid: Tensor | None = None,
    lengths: Sequence[int],
    shift: int,
) -> Tensor:
    """GELU, convolution, GELU, convolution, and the input added: ``(N, C)`` to ``(N, C')``.

    Args:
        x: rows, time first.
        conv1: weight ``(C', C, 1, 3)`` and bias ``(C',)`` of the first convolution; fastest with channels last.
        conv2: of the second one, ``(C', C', 1, 3)`` and ``(C',)``.
        projector: applied to the input that is added; None adds it as it is.
        valid: ``(N, 1)``, 0.0 at padding, where the output of both convolutions is zeroed, else 1.0.
        lengths: numbers of rows, adding up to N, of the segments that do not see each other.
        shift: rows from a timestamp to the neighbour that a side tap sees, dilation times batch.
    """
    extra = (None, None) if projector is None else (projector.weight, projector.bias)
    y: Tensor = _ResidualBlock.apply(
        x, conv1.weight, conv1.bias, conv2.weight, conv2.bias, *extra, valid, lengths, shift
    )
    return y


class _ResidualBlock(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight1: Tensor,
        bias1: Tensor,
        weight2: Tensor,
        bias2: Tensor,
        projector: Tensor | None,
        projector_bias: Tensor | None,
        valid: Tensor | None,
        lengths: Sequence[int],
        shift: int,
    ) -> Tensor:
        a = F.gelu(x)
        h = _convolve(a, _forward_taps(weight1), x.new_empty(len(x), len(bias1)).copy_(bias1), lengths, shift)
        if valid is not None:
            h.mul_(valid)
        b = F.gelu(h)
        if projector is None or projector_bias is None:
            y = x + bias2
        else:
            y = torch.addmm(bias2 + projector_bias, x, projector.t())
        _convolve(b, _forward_taps(weight2), y, lengths, shift)
        if valid is not None:
            y.mul_(valid)
        ctx.save_for_backward(x, a, h, b, weight1, weight2, projector, valid)
        ctx.lengths, ctx.shift = lengths, shift
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, a, h, b, weight1, weight2, projector, valid = ctx.saved_tensors
        lengths, shift = ctx.lengths, ctx.shift
        dy = dy.contiguous() if valid is None else dy * valid
        dweight2, dbias2 = _tap_gradients(b, dy, weight2, lengths, shift), dy.sum(dim=0)
        dh = _convolve(dy, _backward_taps(weight2), None, lengths, shift)
        _times_gelu_derivative(dh, h)
        if valid is not None:
            dh.mul_(valid)
        dweight1, dbias1 = _tap_gradients(a, dh, weight1, lengths, shift), dh.sum(dim=0)
        dx = _convolve(dh, _backward_taps(weight1), None, lengths, shift)
        _times_gelu_derivative(dx, x)
        if projector is None:
            return dx.add_(dy), dweight1, dbias1, dweight2, dbias2, None, None, None, None, None
        dx.addmm_(dy, projector)
        return dx, dweight1, dbias1, dweight2, dbias2, dy.t() @ x, dbias2.clone(), None, None, None


def _forward_taps(weight: Tensor) -> Taps:
    before, here, after = weight[:, :, 0].unbind(dim=-1)
    return before.t(), here.t(), after.t()


def _backward_taps(weight: Tensor) -> Taps:
    """Of the transposed convolution: what came from before goes back to before."""
    before, here, after = weight[:, :, 0].unbind(dim=-1)
    return after, here, before


def _convolve(x: Tensor, taps: Taps, out: Tensor | None, lengths: Sequence[int], shift: int) -> Tensor:
    """Convolution of ``x``, ``(N, C)`` to ``(N, C')``, added to ``out`` in place where it is given."""
    before, here, after = taps
    out = x @ here if out is None else out.addmm_(x, here)
    for late, early in _neighbours(lengths, shift):
        out[late].addmm_(x[early], before)
        out[early].addmm_(x[late], after)
    return out


def _tap_gradients(x: Tensor, dy: Tensor, weight: Tensor, lengths: Sequence[int], shift: int) -> Tensor:
    """Gradient of ``weight`` in a convolution of ``x`` ``(N, C)`` whose output has the gradient ``dy`` ``(N, C')``."""
    gradient = torch.zeros_like(weight)  # with the same strides
    before, here, after = gradient[:, :, 0].unbind(dim=-1)
    here.addmm_(dy.t(), x)
    for late, early in _neighbours(lengths, shift):
        before.addmm_(dy[late].t(), x[early])
        after.addmm_(dy[early].t(), x[late])
    return gradient


def _neighbours(lengths: Sequence[int], shift: int) -> list[tuple[slice, slice]]:
    """For each segment the rows that have a neighbour before them, and these neighbours."""
    ends = accumulate(lengths)
    return [
        (slice(end - n + shift, end), slice(end - n, end - shift))
        for n, end in zip(lengths, ends, strict=True)
        if n > shift
    ]


def _times_gelu_derivative(gradient: Tensor, x: Tensor) -> None:
    """Take a gradient through ``F.gelu(x)``, in place."""
    torch.ops.aten.gelu_backward.grad_input(gradient, x, grad_input=gradient)
