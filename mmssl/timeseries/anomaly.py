"""Anomaly scores from a pretrained encoder: how much a row surprises it, and which channel is to blame.

Masked-last score (TS2Vec, Yue et al., AAAI 2022): the embedding of a row is compared with the one that the encoder
gives when the row itself is hidden; where the past lets expect the row, both agree.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from mmssl.timeseries.encode import encode_causal
from mmssl.timeseries.encoder import DilatedConvEncoder

Floats = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float64]
AVERAGED = 21  # rows of the moving average, the paper's


def masked_last_scores(encoder: DilatedConvEncoder, series: Floats, *, window: int = 201) -> Scores:
    """L1 distance of the embeddings of each row with the row shown and with it hidden: ``(T, C)`` to ``(T,)``.

    Args:
        encoder: pretrained.
        series: standardised, NaN for missing.
        window: rows that an embedding sees.
    """
    shown = encode_causal(encoder, series, window=window)
    hidden = encode_causal(encoder, series, window=window, mask_last=True)
    distance: Scores = np.abs(shown - hidden).sum(axis=1, dtype=np.float64)
    return distance


def adjust_by_moving_average(scores: Scores, *, span: int = AVERAGED) -> Scores:
    """Scores relative to their mean over the ``span`` rows before: ``(s - m) / m``; 0 while there is no such past.

    As the paper has it, so that a noisy stretch raises no alarm for being noisy. ``(T,)`` to ``(T,)``.
    """
    out = np.zeros(len(scores))
    if len(scores) <= span:
        return out
    total = np.concatenate([[0.0], np.cumsum(scores)])
    mean = (total[span:-1] - total[: -span - 1]) / span  # of rows t - span to t - 1, for t from span on
    out[span:] = (scores[span:] - mean) / np.maximum(mean, 1e-12)
    return out


def attribute_to_channels(
    encoder: DilatedConvEncoder, series: Floats, *, row: int, width: int, window: int = 201
) -> Scores:
    """How much of the masked-last score of ``row`` goes away when a channel does again what it did before: ``(C,)``.

    One channel at a time, the last ``width`` rows up to ``row`` are replaced by the ``width`` rows before them.
    Positive: the channel makes the row stand out. 0 where there is no row before.

    Args:
        encoder: pretrained.
        series: ``(T, C)``, standardised.
        row: whose score is explained.
        width: rows that count as the episode.
        window: rows that a score looks back at.
    """
    seen = series[max(0, row - window + 1) : row + 1]
    width = min(width, len(seen) // 2)
    if width == 0:
        return np.zeros(series.shape[1])
    variants = np.repeat(seen[None], 1 + series.shape[1], axis=0)  # (1 + C, T', C), as it is and with each replaced
    for channel in range(series.shape[1]):
        variants[1 + channel, -width:, channel] = seen[-2 * width : -width, channel]
    encoder.eval()
    x = torch.from_numpy(variants).to(next(encoder.parameters()).device)
    keep = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    with torch.inference_mode():
        shown = encoder.timestamps(x)[:, -1]
        keep[:, -1] = False
        score = (shown - encoder.timestamps(x, keep)[:, -1]).abs().sum(dim=1).double().cpu().numpy()
    change: Scores = score[0] - score[1:]
    return change
