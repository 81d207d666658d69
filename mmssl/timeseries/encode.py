"""Representations of series of any length in bounded memory: whole, per timestamp, or causally at every timestamp.

All of it is exact: what is computed in pieces equals what would have been computed at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmssl.core.types import Encoder
from mmssl.timeseries.encoder import ConvBlock, DilatedConvEncoder, present
from mmssl.timeseries.series import WindowSet

Floats = npt.NDArray[np.float32]
STEPS = 2**15  # timestamps that are encoded at a time; 2 x 320 floats each come to 80 MiB


def encode_windows(encoder: nn.Module, windows: WindowSet, *, steps: int = STEPS) -> Floats:
    """One vector a window: ``(n, dim)``.

    Windows of similar length are encoded together. One that is longer than ``steps`` goes through a
    `DilatedConvEncoder` in chunks, and through any other encoder alone.

    Args:
        encoder: set to evaluation mode by this.
        windows: n windows of any length; standardised like the training data.
        steps: timestamps held at a time.
    """
    dim = cast(Encoder, encoder).dim
    out = np.empty((len(windows), dim), dtype=np.float32)
    encoder.eval()
    device = next(encoder.parameters()).device
    with torch.inference_mode():
        for index in _batches(windows.lengths, steps):
            x = torch.from_numpy(windows.fetch(index)).to(device)  # (b, T, C)
            if x.shape[1] <= steps or not isinstance(encoder, DilatedConvEncoder):
                z = encoder(x)
            else:
                tops = [
                    (z if v is None else z[v]).amax(dim=0)
                    for z, v in _chunks(encoder, x[0], steps)
                    if v is None or v.any()
                ]
                z = torch.stack(tops).amax(dim=0, keepdim=True) if tops else x.new_zeros(1, dim)
            out[index] = z.float().cpu().numpy()
    return out


def encode_timestamps(encoder: DilatedConvEncoder, series: Floats, *, steps: int = STEPS) -> Floats:
    """One vector a timestamp of one series, each with the context of both sides: ``(T, C)`` to ``(T, dim)``."""
    encoder.eval()
    device = next(encoder.parameters()).device
    with torch.inference_mode():
        chunks = _chunks(encoder, torch.from_numpy(series).to(device), steps)
        return np.concatenate([z.float().cpu().numpy() for z, _ in chunks])


def encode_causal(
    encoder: DilatedConvEncoder, series: Floats, *, window: int = 201, mask_last: bool = False, steps: int = STEPS
) -> Floats:
    """One vector a timestamp that knows the past only: ``(T, C)`` to ``(T, dim)``.

    Row t is the representation of the last timestamp of the window ``series[t - window + 1 : t + 1]``, shorter at the
    start of the series; the paper's forecasts take 201 steps. Only the last timestamp of each window is wanted, so
    block i is evaluated at every 2^i-th timestamp counted from the end and at no other, which gives the identical
    number with a twelfth of the multiplications.

    A row that is missing is no end of its series: its representation is what the past lets expect, as with
    ``mask_last``. It is zero only where the window holds no value at all.

    Args:
        encoder: set to evaluation mode by this.
        series: ``(T, C)``, NaN for missing.
        window: timestamps that a representation may see, its own included.
        mask_last: hide the timestamp itself, so that its representation is what the past lets expect.
        steps: timestamps of windows held at a time.
    """
    if window < 1:
        raise ValueError(f"window must be at least 1 step, got {window}")
    encoder.eval()
    device = next(encoder.parameters()).device
    window = min(window, max(len(series), 1))
    out = np.empty((len(series), encoder.dim), dtype=np.float32)
    at_once = max(1, steps // window)
    with torch.inference_mode():
        x = torch.from_numpy(series).to(device)
        x = F.pad(x, (0, 0, window - 1, 0), value=float("nan"))  # before the start there is nothing
        for start in range(0, len(series), at_once):
            stop = min(start + at_once, len(series))
            stretch = x[start : stop + window - 1]
            views = stretch.unfold(0, window, 1).transpose(1, 2)  # (stop - start, window, C), no copy
            tokens = encoder.tokenize(views)
            if mask_last:
                tokens[:, -1] = 0.0
            z = _last_timestamp(encoder, tokens, _begun(views))
            out[start:stop] = z.float().cpu().numpy()
    return out


def _begun(x: Tensor) -> Tensor | None:
    """``(B, T)`` bool: False before the first timestamp with a value; None if all begin with one.

    `present` without an end: what is missing at the end of a window is missing, and no padding. As there, a GPU always
    returns the mask.
    """
    seen = ~x.isnan().all(dim=-1)  # (B, T)
    if x.device.type == "cpu" and bool(seen[:, 0].all()):
        return None
    return seen.to(torch.int8).cummax(dim=1).values.bool()


def _last_timestamp(encoder: DilatedConvEncoder, tokens: Tensor, valid: Tensor | None) -> Tensor:
    """``encoder.encode(tokens, valid)[:, -1]``, without the timestamps that it does not depend on.

    The last timestamp depends, in block i, on timestamps a multiple of 2^i before it. On that grid the block is a
    convolution without dilation, and its output is wanted at every second point.
    """
    h = tokens.transpose(1, 2)[:, :, None]  # (n, hidden, 1, T)
    v = None if valid is None else valid[:, None, None].to(h.dtype)
    for i, block in enumerate(encoder.conv_blocks()):
        assert block.dilation == 2**i
        h, v = _every_second(block, h, v)
    return h[:, :, 0, -1]


def _every_second(block: ConvBlock, h: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The block without dilation, at every second timestamp counted from the last: T to ceil(T / 2)."""
    points = h.shape[-1]
    if points == 1:
        alone = block.pointwise(h[:, :, 0, 0], None if v is None else v[:, :, 0, 0])
        return alone[:, :, None, None], v
    first = (points - 1) % 2
    residual = block.shortcut(h[..., first::2])
    a = F.conv2d(F.gelu(h), block.conv1.weight, block.conv1.bias, padding=(0, 1))
    if v is not None:
        a = a * v
    a = F.pad(F.gelu(a), (1 - first, 1))
    out = F.conv2d(a, block.conv2.weight, block.conv2.bias, stride=(1, 2)) + residual
    if v is None:
        return out, None
    v = v[..., first::2]
    return out * v, v


def _chunks(encoder: DilatedConvEncoder, x: Tensor, steps: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Representations of the timestamps of ``(T, C)`` in pieces ``(t, dim)``, and which are no padding ``(t,)``.

    Every piece is encoded with as much of both sides as its representations depend on.
    """
    valid = present(x[None])
    for start in range(0, len(x), steps):
        stop = min(start + steps, len(x))
        low, high = max(0, start - encoder.reach), min(len(x), stop + encoder.reach)
        tokens = encoder.tokenize(x[None, low:high])
        z = encoder.encode(tokens, None if valid is None else valid[:, low:high])[0]
        yield z[start - low : stop - low], None if valid is None else valid[0, start:stop]


def _batches(lengths: npt.NDArray[np.int64], steps: int) -> Iterator[npt.NDArray[np.int64]]:
    """Positions in batches of similar length whose padded size stays within ``steps``, or single ones beyond it."""
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * lengths[order[stop]] <= steps:
            stop += 1
        yield order[start:stop]
        start = stop
