"""InceptionTime: convolutions of several lengths side by side (Ismail Fawaz et al., DMKD 2020, arXiv 1909.04939).

Six modules, with the input added back after every third, and the mean over time.

Differs from the paper:
- kernels of 39, 19 and 9 steps: even ones of 40, 20 and 10 have no middle;
- one network, where the paper averages the predictions of five;
- layer norm over the channels, indicators of what is missing, and zeros at padding, as in `ResNet1D`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmssl.timeseries.encoder import present
from mmssl.timeseries.encoders.missing import check_channels, mean_over_time, with_indicator
from mmssl.timeseries.encoders.resnet1d import ChannelNorm, masked

RESIDUAL = 3  # modules that a shortcut spans


class InceptionTime(nn.Module):
    """Series ``(B, T, C)`` to one vector each, ``(B, dim)``; NaN is missing, NaN at both ends is padding.

    Args:
        in_channels: C.
        hidden: filters of a branch; with one branch a kernel and one of max-pooling, ``dim`` is their sum.
        depth: number of modules.
        kernels: steps of the convolutions, odd.
    """

    def __init__(
        self, in_channels: int, *, hidden: int = 32, depth: int = 6, kernels: Sequence[int] = (39, 19, 9)
    ) -> None:
        super().__init__()
        if depth < 1 or not kernels or any(kernel % 2 == 0 for kernel in kernels):
            raise ValueError(f"it needs a module and odd kernels, got depth={depth} and kernels={kernels}")
        self.in_channels = in_channels
        self.dim = hidden * (len(kernels) + 1)
        widths = [2 * in_channels] + [self.dim] * (depth - 1)
        self.inceptions = nn.ModuleList(InceptionModule(width, hidden, kernels) for width in widths)
        self.shortcuts = nn.ModuleList(
            nn.Sequential(nn.Conv1d(width, self.dim, 1, bias=False), ChannelNorm(self.dim))
            for width in widths[: depth - RESIDUAL + 1 : RESIDUAL]
        )

    def forward(self, x: Tensor) -> Tensor:
        """Mean over the timestamps of each series, padding left out."""
        return mean_over_time(self.timestamps(x), present(x))

    def timestamps(self, x: Tensor) -> Tensor:
        """A representation for every timestamp: ``(B, T, C)`` to ``(B, T, dim)``, zero at padding."""
        check_channels(x, self.in_channels)
        inside = present(x)
        valid = None if inside is None else inside[:, None].to(x.dtype)  # (B, 1, T)
        h = entry = masked(with_indicator(x).transpose(1, 2), valid)  # (B, 2C, T)
        for i, module in enumerate(self.inceptions):
            h = module(h, valid)
            if i % RESIDUAL == RESIDUAL - 1:
                h = entry = masked(F.relu(h + self.shortcuts[i // RESIDUAL](entry)), valid)
        return h.transpose(1, 2)


class InceptionModule(nn.Module):
    """``(B, D, T)`` to ``(B, D', T)``: a bottleneck, then all kernels side by side, and beside them a maximum."""

    def __init__(self, width: int, hidden: int, kernels: Sequence[int]) -> None:
        super().__init__()
        self.bottleneck = nn.Conv1d(width, hidden, 1, bias=False)
        self.convs = nn.ModuleList(
            nn.Conv1d(hidden, hidden, kernel, padding=kernel // 2, bias=False) for kernel in kernels
        )
        self.pooled = nn.Conv1d(width, hidden, 1, bias=False)
        self.norm = ChannelNorm(hidden * (len(kernels) + 1))

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """``valid`` is ``(B, 1, T)``, 0 at padding."""
        narrow = self.bottleneck(x)
        branches = [conv(narrow) for conv in self.convs]
        branches.append(self.pooled(masked(_maximum_of_three(x, valid), valid)))
        return masked(F.relu(self.norm(torch.cat(branches, dim=1))), valid)


def _maximum_of_three(x: Tensor, valid: Tensor | None) -> Tensor:
    """Of each timestamp and its neighbours, ``(B, D, T)``; padding is nobody's neighbour."""
    if valid is None:
        return F.max_pool1d(x, 3, stride=1, padding=1)
    lowest = torch.finfo(x.dtype).min  # not -inf, which times 0 would be NaN
    return F.max_pool1d(x.masked_fill(valid == 0, lowest), 3, stride=1, padding=1)
