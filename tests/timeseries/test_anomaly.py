"""Masked-last scores against their definition, and blame that falls on the right channel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from mmssl.timeseries.anomaly import adjust_by_moving_average, attribute_to_channels, masked_last_scores
from mmssl.timeseries.encoder import DilatedConvEncoder

Floats = npt.NDArray[np.float32]


def encoder(channels: int = 3) -> DilatedConvEncoder:
    torch.manual_seed(0)
    return DilatedConvEncoder(channels, dim=8, hidden=6, depth=3).eval()


def series(steps: int = 60) -> Floats:
    t = np.arange(steps)
    noise = 0.05 * np.random.default_rng(0).normal(size=(steps, 3))
    return (np.stack([np.sin(t / 4), np.cos(t / 3), 0 * t], axis=1) + noise).astype(np.float32)


def test_the_score_compares_a_row_that_is_shown_with_the_same_one_hidden() -> None:
    model, x = encoder(), series()
    scores = masked_last_scores(model, x, window=20)
    for t in (0, 5, 40):
        past = torch.from_numpy(x[max(0, t - 19) : t + 1])[None]
        keep = torch.ones(past.shape[:2], dtype=torch.bool)
        keep[:, -1] = False
        with torch.no_grad():
            gap = model.timestamps(past)[0, -1] - model.timestamps(past, keep)[0, -1]
        assert scores[t] == pytest.approx(float(gap.abs().sum()), rel=1e-4)


def test_adjustment_is_by_the_mean_of_the_rows_before() -> None:
    scores = np.random.default_rng(0).random(50)
    adjusted = adjust_by_moving_average(scores, span=21)
    assert (adjusted[:21] == 0).all()
    for t in (21, 30, 49):
        mean = scores[t - 21 : t].mean()
        assert adjusted[t] == pytest.approx((scores[t] - mean) / mean)
    assert adjust_by_moving_average(scores[:10]).tolist() == [0.0] * 10


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_the_channel_that_jumps_is_to_blame(channel: int) -> None:
    x = series()
    x[50, channel] += 8
    change = attribute_to_channels(encoder(), x, row=50, width=5, window=40)
    assert int(np.argmax(change)) == channel
    assert change[channel] > 0


def test_the_first_row_has_nothing_to_be_compared_with() -> None:
    assert attribute_to_channels(encoder(), series(), row=0, width=5).tolist() == [0.0, 0.0, 0.0]
