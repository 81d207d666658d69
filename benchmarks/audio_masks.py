"""Span masks of wav2vec 2.0 for 64 clips of 800 frames, against one row at a time in NumPy.

The peer is the paper's own algorithm as its code has it, rewritten for this comparison: starts without replacement,
spans written out frame by frame, rows cut to the batch minimum. ``tight`` is the same with NumPy's fastest operations.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mmssl.audio.spans import span_masks

BATCH, FRAMES, PROBABILITY, SPAN = 64, 800, 0.65, 10
ROUNDS, CALLS = 30, 5

Mask = npt.NDArray[np.bool_]


def measure() -> list[dict[str, Any]]:
    """One row; best of rounds that take turns, several calls at a time.

    ``first`` is the best of each turn's first call, when the processor's caches hold what the others did.
    """
    frames = torch.full((BATCH,), FRAMES)
    rng = np.random.default_rng(0)
    runs: dict[str, Callable[[], Any]] = {
        "mmssl": lambda: span_masks(frames, FRAMES, probability=PROBABILITY, span=SPAN),
        "peer": lambda: _rows(rng, _written_out),
        "tight": lambda: _rows(rng, _broadcast),
    }
    best, first = dict.fromkeys(runs, float("inf")), dict.fromkeys(runs, float("inf"))
    for _ in range(ROUNDS):
        for name, run in runs.items():
            seconds = []
            for _ in range(CALLS):
                start = time.perf_counter()
                run()
                seconds.append(time.perf_counter() - start)
            best[name] = min(best[name], *seconds)
            first[name] = min(first[name], seconds[0])
    shares = {name: float(np.asarray(run()).mean()) for name, run in runs.items()}
    return [
        {
            "what": f"span masks of {BATCH} × {FRAMES} frames",
            "peer": "the authors' algorithm, row by row in NumPy",
            "peer_ms": 1e3 * best["peer"],
            "mmssl_ms": 1e3 * best["mmssl"],
            "ratio": best["peer"] / best["mmssl"],
            "first_call_ms": 1e3 * first["mmssl"],
            "first_call_ratio": first["peer"] / first["mmssl"],
            "tight_peer_ms": 1e3 * best["tight"],
            "mmssl_share": shares["mmssl"],
            "peer_share": shares["peer"],
        }
    ]


def _rows(rng: np.random.Generator, covered: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.int64]]) -> Mask:
    """Masks whose rows have the number of the smallest; ``covered`` gives the frames of spans with these starts."""
    rows = []
    for _ in range(BATCH):
        spans = max(2, int(PROBABILITY * FRAMES / SPAN + rng.random()))
        rows.append(covered(rng.choice(FRAMES - SPAN, spans, replace=False)))
    least = min(len(row) for row in rows)
    mask = np.zeros((BATCH, FRAMES), dtype=bool)
    for row, frames in zip(mask, rows, strict=True):
        row[rng.choice(frames, least, replace=False)] = True
    return mask


def _written_out(starts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.unique(np.asarray([starts[j] + offset for j in range(len(starts)) for offset in range(SPAN)]))


def _broadcast(starts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    row = np.zeros(FRAMES, dtype=bool)
    row[starts[:, None] + np.arange(SPAN)] = True
    return np.flatnonzero(row)


if __name__ == "__main__":
    for row in measure():
        print(row)
