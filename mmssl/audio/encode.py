"""Representations of all clips of a set, in bounded memory."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from mmssl.audio.clips import ClipSet, Floats, Index, pad
from mmssl.audio.preprocess import Preprocessor

LONGEST = 30.0  # seconds; of longer clips the pieces are averaged
SECONDS = 120.0  # of a batch


def encode_clips(encoder: nn.Module, clips: ClipSet, preprocessor: Preprocessor) -> Floats:
    """One vector a clip, ``(n, dim)``, in float32.

    Clips are taken whole, those of similar length together. One of more than 30 s is cut into equal pieces, and the
    mean of theirs represents it.

    Args:
        encoder: ``(B, …)`` to ``(B, dim)``; is in evaluation mode meanwhile.
        clips: at the rate of the preprocessor.
        preprocessor: of the training.
    """
    device = next(encoder.parameters()).device
    dim: int = encoder.dim  # type: ignore[assignment]
    row, start, size = _pieces(clips)
    order = np.argsort(size, kind="stable")
    total = np.zeros((len(clips), dim), dtype=np.float64)
    training = encoder.training
    encoder.eval()
    try:
        with torch.inference_mode():
            for batch in _batches(order, size, int(SECONDS * clips.rate)):
                x = pad([clips.wave[start[i] : start[i] + size[i]] for i in batch])
                z = encoder(preprocessor(x.to(device)))
                np.add.at(total, row[batch], z.float().cpu().numpy())
    finally:
        encoder.train(training)
    return (total / np.bincount(row, minlength=len(clips))[:, None]).astype(np.float32)


def _pieces(clips: ClipSet) -> tuple[Index, Index, Index]:
    """Clip, start and size of every piece, ``(p,)`` each."""
    longest = int(LONGEST * clips.rate)
    counts = np.maximum(1, -(-clips.sizes // longest))
    row = np.repeat(np.arange(len(clips)), counts)
    nth = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    begin = nth * clips.sizes[row] // counts[row]
    end = (nth + 1) * clips.sizes[row] // counts[row]
    return row, clips.starts[row] + begin, end - begin


def _batches(order: Index, size: Index, samples: int) -> list[Index]:
    """Runs of ``order`` that take at most ``samples`` when padded; sizes rise along it."""
    batches, first = list[Index](), 0
    for last in range(1, len(order) + 1):
        if last == len(order) or (last + 1 - first) * size[order[last]] > samples:
            batches.append(order[first:last])
            first = last
    return batches
