"""The convolutional encoder of TS-TCC (Eldele et al., IJCAI 2021, arXiv 2106.14112), after Wang et al. (IJCNN 2017).

Three blocks of convolution, batch norm, ReLU and max-pooling by two; a feature for about every eighth timestamp.

Differs from the authors' code: a vector for a series is the mean over its features, where they flatten them for a
linear layer, which asks for series of one length; padding is zero in every layer and takes no part in the mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmssl.timeseries.encoder import present
from mmssl.timeseries.encoders.missing import check_channels, mean_over_time, without_head

WIDTHS = (32, 64, 128)


class ConvEncoder(nn.Module):
    """Series ``(B, T, C)`` to one vector each, ``(B, dim)``; NaN is missing, NaN at both ends is padding.

    Args:
        in_channels: C.
        widths: of the blocks; the last one is ``dim``.
        kernel: steps of the first convolution: 8 for human activity and epilepsy, 25 for sleep in the authors' code.
        stride: of the first convolution: 1, or 3 for sleep.
        dropout: after the first block.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        widths: Sequence[int] = WIDTHS,
        kernel: int = 8,
        stride: int = 1,
        dropout: float = 0.35,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.dim = widths[-1]
        entry = [in_channels, *widths[:-1]]
        self.blocks = nn.ModuleList(
            ConvBlock(a, b, kernel if i == 0 else 8, stride if i == 0 else 1)
            for i, (a, b) in enumerate(zip(entry, widths, strict=True))
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return mean_over_time(*self.features(x))

    def features(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features over time ``(B, T', dim)``, zero at padding, and which are none: ``(B, T')`` bool, None for all."""
        check_channels(x, self.in_channels)
        inside = present(x)
        lengths = None if inside is None else inside.sum(dim=1)  # (B,)
        h = (x if inside is None else without_head(x)).nan_to_num(0.0).transpose(1, 2)  # (B, C, T)
        for i, block in enumerate(self.blocks):
            h, lengths = block(h, lengths)
            if i == 0:
                h = self.dropout(h)
        return h.transpose(1, 2), None if lengths is None else before(lengths, h.shape[2])


class ConvBlock(nn.Module):
    """``(B, D, T)`` to ``(B, D', T')`` with T' about T / (2 · stride)."""

    def __init__(self, width_in: int, width_out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width_in, width_out, kernel, stride=stride, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm1d(width_out)

    def forward(self, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """``lengths`` are of the series without padding, ``(B,)``, and come back as those of the outputs."""
        h = F.relu(self.norm(self.conv(x)))
        if lengths is None:
            return F.max_pool1d(h, 2, 2, padding=1), None
        kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
        reached = (lengths + 2 * (kernel // 2) - kernel) // stride + 1  # outputs that the bare series would have
        reached = reached.clamp(min=0) * (lengths > 0)
        h = h * before(reached, h.shape[2])[:, None]
        return F.max_pool1d(h, 2, 2, padding=1), (reached // 2 + 1) * (lengths > 0)


def before(lengths: Tensor, steps: int) -> Tensor:
    """``(B, steps)`` bool, True up to the length of each series."""
    return torch.arange(steps, device=lengths.device) < lengths[:, None]
