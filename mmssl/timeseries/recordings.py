"""Long recordings for TNC: where windows may lie, and how far each one's neighbourhood reaches, worked out once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmssl.timeseries.series import SeriesSet
from mmssl.timeseries.stationarity import neighbourhood_sizes


class Recordings:
    """Places for windows, on a grid over every recording; a batch is places, not values.

    `mmssl.timeseries.tnc.TNC` takes the values of its windows from ``values`` by itself, on the device. Places are half
    a window apart; where between two of them a window lies is drawn in every step.

    Args:
        series: standardised; what has no break in it is a recording. Those shorter than two windows are left out.
        window: rows of a window.
        neighbourhood: windows to either side that count as its neighbourhood; None tests for each place how far the
            recording is stationary, see `neighbourhood_sizes`.

    Raises:
        ValueError: no recording has two windows, or ``window`` or ``neighbourhood`` is impossible.
    """

    def __init__(self, series: SeriesSet, *, window: int, neighbourhood: int | None = None) -> None:
        if window < 2 or (neighbourhood is not None and neighbourhood < 1):
            raise ValueError(
                f"a window needs at least 2 rows and a neighbourhood 1 window, got {window} and {neighbourhood}"
            )
        begin, length, _ = series.stretches()
        long = length >= 2 * window
        if not long.any():
            raise ValueError(
                f"TNC compares windows of one recording, and none has two windows of {window} rows: the longest has "
                f"{length.max()}. Set a smaller data.window"
            )
        self.window = window
        self.grid = max(1, window // 2)
        self.values = torch.from_numpy(np.ascontiguousarray(series.values))  # (rows, C)
        counts = (length[long] - window) // self.grid + 1
        nth = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        first, end = np.repeat(begin[long], counts), np.repeat((begin + length)[long], counts)
        start = first + nth * self.grid
        if neighbourhood is None:
            size = neighbourhood_sizes(series.values, start + window // 2, first, end, window=window)
        else:
            size = np.full(len(start), neighbourhood)
        self.places = np.stack([start, first, end - window, size], axis=1).astype(np.int64)

    def __len__(self) -> int:
        return len(self.places)

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """``(n,)``, the neighbourhood of each place, in windows to either side."""
        return self.places[:, 3]

    def fetch(self, index: npt.NDArray[np.int64]) -> Tensor:
        """Places ``(b, 4)`` int64: row of a window's start, the first and the last that its recording allows, size."""
        return torch.from_numpy(self.places[index])
