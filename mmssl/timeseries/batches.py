"""Windows in memory as batches of tensors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmssl.timeseries.series import Windows


class SeriesSource:
    """Windows as batches of tensors ``(B, T, C)``, padded to the longest with NaN; shorter ones lie in the middle."""

    def __init__(self, windows: Windows) -> None:
        self.windows = windows
        self.length = windows.length
        self.ragged = bool((windows.lengths < self.length).any())

    def __len__(self) -> int:
        return len(self.windows)

    def fetch(self, index: npt.NDArray[np.int64]) -> Tensor:
        x = torch.from_numpy(self.windows.fetch(index, self.length))
        return centred(x, self.windows.lengths[index]) if self.ragged else x


def centred(x: Tensor, lengths: npt.NDArray[np.int64]) -> Tensor:
    """Moves series ``(B, T, C)`` that are padded at the end into the middle of T, so that crops meet all of them."""
    shift = torch.from_numpy((x.shape[1] - lengths) // 2)
    steps = (torch.arange(x.shape[1]) - shift[:, None]) % x.shape[1]  # (B, T)
    return x.gather(1, steps[..., None].expand_as(x))
