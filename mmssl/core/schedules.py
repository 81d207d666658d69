"""Schedules: functions of the share of the training that is done."""

from __future__ import annotations

import math


def warmup_cosine(progress: float, *, warmup: float = 0.0, final: float = 0.0) -> float:
    """Factor that rises linearly to 1 over the first ``warmup`` of the training and falls as a cosine to ``final``.

    Args:
        progress: share of the training that is done, in [0, 1].
        warmup: share of the training that is spent on rising.
        final: factor at the end.
    """
    if progress < warmup:
        return progress / warmup
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
