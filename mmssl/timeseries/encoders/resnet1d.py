"""A residual network of plain convolutions over time (Wang et al., IJCNN 2017, arXiv 1611.06455).

Three residual blocks of three convolutions each, and the mean over time.

Differs from the paper:
- kernels of 7, 5 and 3 steps: an even one of 8 has no middle;
- channels are normalised at each timestamp (layer norm) instead of over the batch: neither padding nor the other series
  of a batch, nor the number of GPUs, change anything, and an untrained network is a fair control;
- every channel has an indicator channel for what is missing; padding stays zero in every layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from mmssl.timeseries.encoder import present
from mmssl.timeseries.encoders.missing import check_channels, mean_over_time, with_indicator


class ResNet1D(nn.Module):
    """Series ``(B, T, C)`` to one vector each, ``(B, dim)``; NaN is missing, NaN at both ends is padding.

    Args:
        in_channels: C.
        widths: of the residual blocks; the last one is ``dim``.
        kernels: steps of the three convolutions of a block, odd.
    """

    def __init__(
        self, in_channels: int, *, widths: Sequence[int] = (64, 128, 128), kernels: Sequence[int] = (7, 5, 3)
    ) -> None:
        super().__init__()
        if not widths or not kernels or any(kernel % 2 == 0 for kernel in kernels):
            raise ValueError(f"a block needs a width and odd kernels, got widths={widths} and kernels={kernels}")
        self.in_channels = in_channels
        self.dim = widths[-1]
        entry = [2 * in_channels, *widths[:-1]]
        self.blocks = nn.ModuleList(ResidualBlock(a, b, kernels) for a, b in zip(entry, widths, strict=True))

    def forward(self, x: Tensor) -> Tensor:
        """Mean over the timestamps of each series, padding left out."""
        return mean_over_time(self.timestamps(x), present(x))

    def timestamps(self, x: Tensor) -> Tensor:
        """A representation for every timestamp: ``(B, T, C)`` to ``(B, T, dim)``, zero at padding."""
        check_channels(x, self.in_channels)
        inside = present(x)
        valid = None if inside is None else inside[:, None].to(x.dtype)  # (B, 1, T)
        h = masked(with_indicator(x).transpose(1, 2), valid)  # (B, 2C, T)
        for block in self.blocks:
            h = block(h, valid)
        return h.transpose(1, 2)


class ResidualBlock(nn.Module):
    """Convolutions with a norm each, ReLU between them, and the input added: ``(B, D, T)`` to ``(B, D', T)``."""

    def __init__(self, width_in: int, width_out: int, kernels: Sequence[int]) -> None:
        super().__init__()
        entry = [width_in] + [width_out] * (len(kernels) - 1)
        self.convs = nn.ModuleList(
            nn.Conv1d(width, width_out, kernel, padding=kernel // 2, bias=False)
            for width, kernel in zip(entry, kernels, strict=True)
        )
        self.norms = nn.ModuleList(ChannelNorm(width_out) for _ in kernels)
        self.shortcut = nn.Conv1d(width_in, width_out, 1) if width_in != width_out else nn.Identity()

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """``valid`` is ``(B, 1, T)``, 0 at padding."""
        h = x
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            h = norm(conv(h if i == 0 else masked(F.relu(h), valid)))
        return masked(F.relu(h + self.shortcut(x)), valid)


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each timestamp of ``(B, D, T)``."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


def masked(x: Tensor, valid: Tensor | None) -> Tensor:
    """``x`` with zeros at padding."""
    return x if valid is None else x * valid
