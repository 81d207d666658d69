"""A training step of TS2Vec against the authors' implementation: same weights, crops and loss; how much faster?"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.authors import Authors, copy_weights, crops
from mmssl.timeseries.encoder import DilatedConvEncoder
from mmssl.timeseries.ts2vec import TS2Vec, hierarchical_contrastive_loss

BATCH, LENGTHS, CROPS, PASSES = 8, (150, 251), 24, 8


def measure(authors: Authors) -> list[dict[str, Any]]:
    """One row a series length."""
    return [_one(authors, steps) for steps in LENGTHS]


def _one(authors: Authors, steps: int) -> dict[str, Any]:
    torch.manual_seed(0)
    x = torch.randn(BATCH, steps, 1)
    net = authors.build(1, 320)
    encoder = DilatedConvEncoder(1)
    copy_weights(net, encoder)
    drawn = crops(steps, BATCH, CROPS, seed=0)
    difference = max(_loss_difference(authors, net, encoder, x, c) for c in drawn[:6])

    averaged = torch.optim.swa_utils.AveragedModel(net)
    their_optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    method = TS2Vec(encoder)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-3, fused=True)
    skipped = torch.tensor(False)
    net.train()
    encoder.train()

    def theirs(c: Any) -> None:
        their_optimizer.zero_grad()
        authors.loss(*authors.shared(net, x, c)).backward()
        their_optimizer.step()
        averaged.update_parameters(net)

    def ours(c: Any) -> None:
        method.draw_crops = lambda *_: c  # type: ignore[method-assign]
        optimizer.zero_grad()
        method(x)["loss"].backward()
        optimizer.step()
        method.after_step(0.0, skipped)

    theirs_ms, ours_ms = (1e3 * seconds / CROPS for seconds in _alternate(theirs, ours, drawn))
    return {
        "what": f"TS2Vec training step, batch {BATCH}, T = {steps}, mean over {CROPS} crops",
        "peer": "authors' implementation",
        "peer_ms": theirs_ms,
        "mmssl_ms": ours_ms,
        "ratio": theirs_ms / ours_ms,
        "largest_loss_difference": difference,
    }


def _alternate(theirs: Callable[[Any], None], ours: Callable[[Any], None], drawn: list[Any]) -> list[float]:
    """Seconds for one pass over the crops: sum of the fastest of each, over passes in which the two take turns.

    Whole passes, as in a training: a step that follows the other's finds its memory given away.
    """
    best = np.full((2, len(drawn)), np.inf)
    for _ in range(PASSES):
        for i, step in enumerate((theirs, ours)):
            step(drawn[0])
            for j, c in enumerate(drawn):
                start = time.perf_counter()
                step(c)
                best[i, j] = min(best[i, j], time.perf_counter() - start)
    return [float(row.sum()) for row in best]


def _loss_difference(authors: Authors, net: Any, encoder: DilatedConvEncoder, x: torch.Tensor, c: Any) -> float:
    """Relative, on the same weights and crops, without mask and dropout."""
    net.eval()
    encoder.eval()
    with torch.no_grad():
        theirs = authors.loss(*authors.shared(net, x, c, "all_true"))
        first, second = c.cut(x)
        z = encoder.shared_timestamps(
            [first, second],
            [torch.ones(first.shape[:2], dtype=torch.bool), torch.ones(second.shape[:2], dtype=torch.bool)],
            [slice(c.left - c.first, c.right - c.first), slice(0, c.length)],
        )
        ours = hierarchical_contrastive_loss(z)
    return float(abs(ours - theirs) / theirs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--authors", type=Path, required=True, help="checkout of the authors' repository")
    for row in measure(Authors(parser.parse_args().authors)):
        print(row)
