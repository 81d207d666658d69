"""The dilated convolutional encoder of TS2Vec (Yue et al., AAAI 2022, arXiv 2106.10466).

Linear per timestamp, then residual blocks of two convolutions with dilation 2^i, no normalisation.

Differs from the paper in what it does with data that the paper's archives do not have:
- steps before the first and after the last value are padding: they are zero at every layer, exactly as the
  convolution's own "same" padding is, so that a padded series has the features of the bare one (the authors zero them
  at the input only, and they come back through the biases);
- `missing="indicator"` adds an indicator channel for every channel and zeroes single missing values; the paper's
  `"drop"` masks a whole timestamp as soon as one channel is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmssl.timeseries.dilated import residual_block, suits

Missing = Literal["drop", "indicator"]


class DilatedConvEncoder(nn.Module):
    """Series ``(B, T, C)`` to one vector a series, or one a timestamp; NaN is missing, NaN at both ends is padding.

    Args:
        in_channels: C.
        dim: size of a representation, 320 in the paper.
        hidden: width of all blocks but the last.
        depth: number of blocks with ``hidden`` channels; one more maps to ``dim``.
        dropout: of the representation, in training.
        missing: ``"drop"`` (the paper) or ``"indicator"``, see above.
    """

    droppable = False  # a convolution's neighbours would move
    prefix_tokens = 0

    def __init__(
        self,
        in_channels: int,
        *,
        dim: int = 320,
        hidden: int = 64,
        depth: int = 10,
        dropout: float = 0.1,
        missing: Missing = "drop",
    ) -> None:
        super().__init__()
        if missing not in ("drop", "indicator"):
            raise ValueError(f"missing must be 'drop' or 'indicator', got {missing!r}")
        self.dim = dim
        self.token_dim = hidden
        self.target_dim = in_channels
        self.missing = missing
        self.in_channels = in_channels
        self.input = nn.Linear(in_channels * (2 if missing == "indicator" else 1), hidden)
        widths = [hidden] * (depth + 1) + [dim]
        self.blocks = nn.ModuleList(
            ConvBlock(widths[i], widths[i + 1], dilation=2**i, project=i == depth) for i in range(depth + 1)
        )
        self.dropout = dropout

    @property
    def reach(self) -> int:
        """Steps on either side of a timestamp that its representation depends on (4094 in the paper)."""
        return sum(2 * block.dilation for block in self.conv_blocks())

    def conv_blocks(self) -> Iterator[ConvBlock]:
        for block in self.blocks:
            assert isinstance(block, ConvBlock)
            yield block

    def forward(self, x: Tensor) -> Tensor:
        """Maximum over the timestamps of each series, padding left out: ``(B, T, C)`` to ``(B, dim)``."""
        return max_over_time(self.timestamps(x), present(x))

    def timestamps(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """A representation for every timestamp: ``(B, T, C)`` to ``(B, T, dim)``, zero at padding.

        Args:
            x: series; NaN is missing.
            keep: ``(B, T)`` bool, False where a timestamp is hidden from the encoder; all are shown if None.
        """
        return self.encode(self.tokenize(x, keep), present(x))

    def shared_timestamps(self, x: list[Tensor], keep: list[Tensor], span: list[slice]) -> Tensor:
        """Representations of the timestamps that several segments of the same series share.

        The same as `timestamps` of each, cut to its span, but all segments at once. From the block on whose dilation is
        longer than any segment, timestamps no longer see each other, and only the shared ones are needed.

        Args:
            x: S segments ``(B, T_s, C)``.
            keep: for each ``(B, T_s)`` bool, as in `timestamps`.
            span: for each the shared timestamps, L of them.

        Returns:
            ``(B, S, L, dim)``.
        """
        lengths = [segment.shape[1] for segment in x]
        h, valid = (self._end_to_end if suits(x[0]) else self._side_by_side)(x, keep, lengths)
        shared = torch.stack([y[:, part] for y, part in zip(h, span, strict=True)], dim=1)
        shown = None if valid is None else torch.stack([v[:, part] for v, part in zip(valid, span, strict=True)], dim=1)
        return self._pointwise(shared, shown, max(lengths))

    def _end_to_end(
        self, x: list[Tensor], keep: list[Tensor], lengths: list[int]
    ) -> tuple[Sequence[Tensor], Sequence[Tensor] | None]:
        """Segments through the convolutions as one stretch of time.

        Returns:
            S times ``(B, T_s, D')``, and S times ``(B, T_s)`` bool, False at padding; None for no padding.
        """
        inside = [present(segment) for segment in x]
        valid = None
        if any(v is not None for v in inside):
            valid = torch.cat([k.new_ones(k.shape) if v is None else v for v, k in zip(inside, keep, strict=True)], 1)
        tokens = self.tokenize(torch.cat(x, dim=1), torch.cat(keep, dim=1))
        h = self._convolve_rows(tokens, valid, lengths)
        return h.split(lengths, dim=1), None if valid is None else valid.split(lengths, dim=1)

    def _side_by_side(
        self, x: list[Tensor], keep: list[Tensor], lengths: list[int]
    ) -> tuple[Sequence[Tensor], Sequence[Tensor] | None]:
        """The same as one batch, padded to one length, which changes nothing."""
        steps = max(lengths)
        padded = torch.cat([F.pad(part, (0, 0, 0, steps - part.shape[1]), value=float("nan")) for part in x])
        shown = torch.cat([F.pad(mask, (0, steps - mask.shape[1])) for mask in keep])
        valid = present(padded)  # (S·B, T)
        h = self._convolve_images(self.tokenize(padded, shown), valid, steps)
        return h.chunk(len(x)), None if valid is None else valid.chunk(len(x))

    def tokenize(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Input projection ``(B, T, C)`` to ``(B, T, hidden)``; zero where nothing is measured or ``keep`` is False."""
        if x.ndim != 3 or x.shape[-1] != self.in_channels:
            raise ValueError(f"expected series (B, T, {self.in_channels}), got {tuple(x.shape)}")
        lost = x.isnan()
        values = x.masked_fill(lost, 0.0)
        if self.missing == "indicator":
            shown = ~lost.all(dim=-1)
            values = torch.cat([values, lost.to(x.dtype)], dim=-1)
        else:
            shown = ~lost.any(dim=-1)
        if keep is not None:
            shown = shown & keep
        return self.input(values) * shown[..., None]

    def positions(self, x: Tensor) -> Tensor:
        """None are added: a convolution knows where its timestamps stand."""
        return x.new_zeros(1, 1, 1)

    def valid(self, x: Tensor) -> Tensor | None:
        """See `present`."""
        return present(x)

    def targets(self, x: Tensor) -> Tensor:
        """What a masked timestamp is to be told from: its values ``(B, T, C)``, NaN where nothing is measured."""
        return x

    def encode(self, tokens: Tensor, valid: Tensor | None = None) -> Tensor:
        """The convolutions: ``(B, T, hidden)`` to ``(B, T, dim)``.

        Args:
            tokens: projected timestamps.
            valid: ``(B, T)`` bool, False at padding; None says that there is none.
        """
        steps = tokens.shape[1]
        rows = suits(tokens)
        h = self._convolve_rows(tokens, valid, [steps]) if rows else self._convolve_images(tokens, valid, steps)
        return self._pointwise(h, valid, steps)

    def encode_layers(self, tokens: Tensor, valid: Tensor | None = None) -> list[Tensor]:
        """Outputs of the blocks before the last, each ``(B, T, hidden)``; arguments as in `encode`."""
        h = tokens.transpose(1, 2)[:, :, None]  # (B, hidden, 1, T)
        v = None if valid is None else valid[:, None, None].to(h.dtype)
        layers: list[Tensor] = []
        for block in list(self.conv_blocks())[:-1]:
            h = block(h, v)
            layers.append(h[:, :, 0].transpose(1, 2))
        return layers

    def _convolve_rows(self, tokens: Tensor, valid: Tensor | None, lengths: list[int]) -> Tensor:
        """The blocks in which timestamps see each other, as `residual_block`: ``(B, T, D)`` to ``(B, T, D')``.

        T is made of segments with ``lengths`` timestamps, and no segment sees another.
        """
        batch, steps, _ = tokens.shape
        h = tokens.transpose(0, 1).reshape(steps * batch, -1)
        v = None if valid is None else valid.t().reshape(-1, 1).to(h.dtype)
        rows = [batch * n for n in lengths]
        for block in self.conv_blocks():
            if block.dilation < max(lengths):
                h = block.rows(h, v, rows, batch * block.dilation)
        return h.view(steps, batch, -1).transpose(0, 1)

    def _convolve_images(self, tokens: Tensor, valid: Tensor | None, steps: int) -> Tensor:
        """The same with torch's convolutions, for a single segment of ``steps`` timestamps."""
        h = tokens.transpose(1, 2)[:, :, None]  # (B, D, 1, T), channels last in memory
        v = None if valid is None else valid.to(h.dtype)[:, None, None]  # views last: inductor fails on the strides
        for block in self.conv_blocks():
            if block.dilation < steps:
                h = block(h, v)
        return h[:, :, 0].transpose(1, 2)

    def _pointwise(self, h: Tensor, valid: Tensor | None, steps: int) -> Tensor:
        """The other blocks, and dropout: ``(…, D')`` to ``(…, dim)``; every timestamp for itself."""
        shape = h.shape[:-1]
        h = h.reshape(-1, h.shape[-1])
        v = None if valid is None else valid.reshape(-1, 1).to(h.dtype)
        for block in self.conv_blocks():
            if block.dilation >= steps:
                h = block.pointwise(h, v)
        if self.training and self.dropout > 0:
            h = dropout(h, self.dropout)
        return h.view(*shape, self.dim)


class ConvBlock(nn.Module):
    """GELU, conv, GELU, conv, and the input added; a 1×1 convolution where ``project`` is asked for or widths differ.

    Series are images of height 1 with the channels last in memory: the convolutions of torch are a fifth faster on them
    than on `(B, C, T)`.
    """

    def __init__(self, width_in: int, width_out: int, *, dilation: int, project: bool) -> None:
        super().__init__()
        self.dilation = dilation
        self.conv1 = _conv(width_in, width_out, dilation)
        self.conv2 = _conv(width_out, width_out, dilation)
        self.projector = nn.Linear(width_in, width_out) if project or width_in != width_out else None

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """``(B, width_in, 1, T)`` to ``(B, width_out, 1, T)``; ``valid`` is ``(B, 1, 1, T)``, 0 at padding."""
        h = self.conv1(F.gelu(x))  # in place from here: no gradient needs the output of a convolution
        if valid is not None:
            h = h.mul_(valid)
        h = self.conv2(F.gelu(h)).add_(self.shortcut(x))
        return h if valid is None else h.mul_(valid)

    def shortcut(self, x: Tensor) -> Tensor:
        """What is added: ``(B, width_in, 1, T)`` to ``(B, width_out, 1, T)``."""
        return x if self.projector is None else self.projector(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def rows(self, x: Tensor, valid: Tensor | None, lengths: Sequence[int], shift: int) -> Tensor:
        """The same on a CPU, for rows ``(N, width_in)`` in order of time; arguments as in `residual_block`."""
        return residual_block(x, self.conv1, self.conv2, self.projector, valid=valid, lengths=lengths, shift=shift)

    def pointwise(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """The same for timestamps that are further than a dilation from any other, ``(N, width_in)``.

        Both side taps of the convolutions see nothing but padding then, and the centre tap is a matrix product.
        """
        if suits(x):
            return self.rows(x, valid, [len(x)], shift=len(x))
        h = F.linear(F.gelu(x), self.conv1.weight[..., 1:2].flatten(1), self.conv1.bias)
        if valid is not None:
            h = h.mul_(valid)
        h = F.linear(F.gelu(h), self.conv2.weight[..., 1:2].flatten(1), self.conv2.bias)
        h = h.add_(x if self.projector is None else self.projector(x))
        return h if valid is None else h.mul_(valid)


def _conv(width_in: int, width_out: int, dilation: int) -> nn.Conv2d:
    conv = nn.Conv2d(width_in, width_out, (1, 3), padding=(0, dilation), dilation=(1, dilation))
    return conv.to(memory_format=torch.channels_last)


def dropout(x: Tensor, rate: float) -> Tensor:
    """Dropout; on a CPU four times as fast as torch's, by four 16-bit numbers out of every draw of the generator.

    The rate is rounded to a multiple of 2⁻¹⁶ there, and the scale matches the rounded one.
    """
    if x.device.type != "cpu" or rate == 0:
        return F.dropout(x, rate)
    dropped = round(rate * 2**16)
    bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    keep = torch.ge(bits[: x.numel()].view(x.shape), dropped - 2**15, out=torch.empty(x.shape))  # 0.0 or 1.0
    return x * keep.mul_(2**16 / (2**16 - dropped))


def present(x: Tensor) -> Tensor | None:
    """``(B, T)`` bool: False before the first and after the last timestamp with a value; None if all are inside.

    On a GPU the mask is always returned: to find out whether it is needed would mean to wait for the device. In
    `torch.compile`, too, where it would cut the graph in two.
    """
    seen = ~x.isnan().all(dim=-1)  # (B, T)
    if (
        x.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and bool(seen[:, 0].all())
        and bool(seen[:, -1].all())
    ):
        return None
    seen = seen.to(torch.int8)
    return (seen.cummax(dim=1).values & seen.flip(1).cummax(dim=1).values.flip(1)).bool()


def max_over_time(z: Tensor, valid: Tensor | None) -> Tensor:
    """``(B, T, D)`` to ``(B, D)``; timestamps with ``valid`` False do not count, a series without any gives zeros."""
    if valid is None:
        return z.amax(dim=1)
    top = z.masked_fill(~valid[..., None], float("-inf")).amax(dim=1)
    return torch.where(valid.any(dim=1, keepdim=True), top, 0.0)
