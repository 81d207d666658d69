"""What a pretrained encoder has to beat: statistics of spectra over time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mmssl.audio.batches import by_length
from mmssl.audio.clips import ClipSet, Floats
from mmssl.audio.spectrum import log_mel, mfcc


def mel_statistics(clips: ClipSet) -> Floats:
    """Mean and standard deviation over time of each of 64 log-mel bands, ``(n, 128)``."""
    return _statistics(clips, lambda x: log_mel(x, clips.rate))


def mfcc_statistics(clips: ClipSet) -> Floats:
    """Mean and standard deviation over time of 13 cepstral coefficients and their derivatives, ``(n, 78)``."""
    return _statistics(clips, lambda x: mfcc(x, clips.rate))


def _statistics(clips: ClipSet, features: Callable[[Tensor], Tensor]) -> Floats:
    batches, out = list(by_length(clips)), []
    for index in batches:
        x = features(clips.padded(index)).double()  # (B, F, D)
        mean = x.nanmean(dim=1)
        deviation = (x - mean[:, None]).square().nanmean(dim=1).sqrt()
        out.append(torch.cat([mean, deviation], dim=1).float().numpy())
    return np.concatenate(out)[np.argsort(np.concatenate(batches))]
