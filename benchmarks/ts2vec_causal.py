"""Causal encoding of every timestamp: the pyramid against one window per timestamp, which gives the same numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from benchmarks.authors import Authors, copy_weights, paired
from mmssl.timeseries.encode import encode_causal
from mmssl.timeseries.encoder import DilatedConvEncoder

STEPS, WINDOW, BATCH = 10_000, 201, 256
SAMPLE = 1_024  # timestamps that one window per timestamp is timed on; its cost is proportional


def measure(authors: Authors | None) -> list[dict[str, Any]]:
    """A row for windows through our own encoder, and one for the authors' ``encode`` if there is a checkout."""
    torch.manual_seed(0)
    encoder = DilatedConvEncoder(1).eval()
    series = np.random.default_rng(0).standard_normal((STEPS, 1)).astype(np.float32)
    net = None
    if authors is not None:
        net = authors.build(1, 320).eval()
        copy_weights(net, encoder)
    windows = torch.from_numpy(series).unfold(0, WINDOW, 1).transpose(1, 2)  # (STEPS - 200, 201, 1)

    def plainly(model: Any) -> torch.Tensor:
        with torch.inference_mode():
            return torch.cat([model(windows[i : i + BATCH].clone())[:, -1] for i in range(0, SAMPLE, BATCH)])

    plain = {"one window per timestamp, same encoder": encoder.timestamps}
    if net is not None:
        plain["one window per timestamp, authors' encoder"] = net
    rows = []
    pyramid = encode_causal(encoder, series, window=WINDOW)
    for name, model in plain.items():
        difference = float(np.abs(plainly(model).numpy() - pyramid[WINDOW - 1 : WINDOW - 1 + SAMPLE]).max())
        best = paired(
            {
                "plain": lambda model=model: plainly(model),  # type: ignore[misc]
                "pyramid": lambda: encode_causal(encoder, series, window=WINDOW),
            },
            repeats=3,
        )
        theirs = 1e3 * best["plain"] * STEPS / SAMPLE
        rows.append(
            {
                "what": f"causal encoding of {STEPS:,} timestamps, window {WINDOW}",
                "peer": name,
                "peer_ms": theirs,
                "mmssl_ms": 1e3 * best["pyramid"],
                "ratio": theirs / (1e3 * best["pyramid"]),
                "largest_difference": difference,
            }
        )
    return rows
