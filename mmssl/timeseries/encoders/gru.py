"""A bidirectional gated recurrent unit (Cho et al., EMNLP 2014, arXiv 1406.1078), the encoder of TNC's simulation.

Differs from what TNC's authors (Tonekaboni et al., ICLR 2021) do:
- both directions are averaged over time. The authors take the outputs at the last timestamp, where the backward
  direction has seen nothing but that one;
- every value has an indicator for being missing, and neither direction walks through padding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmssl.timeseries.encoders.missing import check_channels, mean_over_time, with_indicator
from mmssl.timeseries.steps import extent, take


class BiGRU(nn.Module):
    """Series ``(B, T, C)`` to one vector each, ``(B, dim)``; NaN is missing, NaN at both ends is padding.

    Args:
        in_channels: C.
        hidden: size of the state of each direction; 100 in TNC.
        dim: of the vector, a linear map of both directions; 10 in TNC's simulation.
    """

    def __init__(self, in_channels: int, *, hidden: int = 100, dim: int = 128) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.dim = dim
        self.forwards = nn.GRU(2 * in_channels, hidden, batch_first=True)
        self.backwards = nn.GRU(2 * in_channels, hidden, batch_first=True)
        self.output = nn.Linear(2 * hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Mean over the timestamps of each series, padding left out."""
        check_channels(x, self.in_channels)
        start, length = extent(x)  # (B, 1) each
        t = torch.arange(x.shape[1], device=x.device)
        inside = t < length
        ahead = with_indicator(take(x, (start + t) % x.shape[1]))  # what is no padding comes first, either way round
        back = with_indicator(take(x, (start + length - 1 - t) % x.shape[1]))
        h = [mean_over_time(gru(way)[0], inside) for gru, way in ((self.forwards, ahead), (self.backwards, back))]
        return self.output(torch.cat(h, dim=1))
