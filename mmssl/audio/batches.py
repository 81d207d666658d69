"""Batches of clips that are only looked at: of similar length, and no more of them than fit into memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mmssl.audio.clips import ClipSet, Index

SECONDS = 120.0  # of a batch with its padding


def by_length(clips: ClipSet, *, seconds: float = SECONDS) -> Iterator[Index]:
    """Positions of all clips, the longest first, at most so many seconds together, padding included."""
    order = np.argsort(-clips.sizes, kind="stable")
    while len(order):
        fitting = max(1, int(seconds * clips.rate / max(1, clips.sizes[order[0]])))
        yield order[:fitting]
        order = order[fitting:]
