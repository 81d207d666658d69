"""An epoch of SCARF on a table of Adult's size, against the same model, loss and optimiser fed by a data loader.

48,842 rows, batch 128, encoder of 4 × 256 and head of 2 × 256. The peer corrupts a row at a time in a `DataLoader`
without workers, which for rows as small as these is the fastest way to use one, and computes the loss with all
similarities in a matrix. A part of the epoch is timed, and both take turns.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.authors import paired
from benchmarks.tabular_views import ADULT, ROWS, RowByRow, adult_like
from mmssl.core.methods.joint_embedding import JointEmbedding
from mmssl.tabular.augment import Marginals
from mmssl.tabular.dataset import TableSource
from mmssl.tabular.encoder import MLP
from mmssl.tabular.scarf import scarf
from mmssl.train.batches import ShuffledBatches
from mmssl.train.fit import fit, setup_fabric
from mmssl.train.optim import build_optimizer

BATCH, STEPS, REPEATS = 128, 40, 5
AN_EPOCH = ROWS // BATCH


def measure() -> list[dict[str, Any]]:
    """One row: the whole epoch, and of which share is the model's own time."""
    x = adult_like()
    ours, theirs = _method(x), _method(x)
    loader = DataLoader(RowByRow(x.numpy()), batch_size=BATCH, shuffle=True, drop_last=True)
    optimizers = [build_optimizer("adam", method.parameters(), lr=1e-3) for method in (ours, theirs)]
    fabric = setup_fabric(device="cpu")
    batches = ShuffledBatches(TableSource(x), batch_size=BATCH)

    def in_batches() -> None:
        for _ in fit(ours, batches, optimizer=optimizers[0], steps=STEPS, fabric=fabric, log_every=STEPS):
            pass

    def row_by_row() -> None:
        _train(theirs, islice(iter(loader), STEPS), optimizers[1])

    ready = [(row, row.clone()) for row in islice(batches(), STEPS)]

    def model_alone() -> None:
        _train(theirs, iter(ready), optimizers[1])

    best = paired({"rows": row_by_row, "batch": in_batches, "model": model_alone}, repeats=REPEATS)
    scale = AN_EPOCH / STEPS
    return [
        {
            "what": f"epoch of SCARF, {ROWS:,} rows, batch {BATCH} ({STEPS} of {AN_EPOCH} steps timed)",
            "peer": "the same model fed by a DataLoader, a row at a time",
            "peer_ms": 1e3 * scale * best["rows"],
            "mmssl_ms": 1e3 * scale * best["batch"],
            "ratio": best["rows"] / best["batch"],
            "peer_model_alone_ms": 1e3 * scale * best["model"],
        }
    ]


def _method(x: Tensor) -> JointEmbedding:
    torch.manual_seed(0)
    return scarf(MLP(ADULT), Marginals(x))


def _train(method: JointEmbedding, batches: Iterator[tuple[Tensor, Tensor]], optimizer: torch.optim.Optimizer) -> None:
    """A bare loop over pairs of views."""
    for clean, corrupted in batches:
        z = F.normalize(torch.cat([method.student(clean), method.student(corrupted)]), dim=1)
        sim = (z @ z.T).masked_fill(torch.eye(len(z), dtype=torch.bool), -torch.inf)
        n = len(clean)
        loss = F.cross_entropy(sim, torch.cat([torch.arange(n, 2 * n), torch.arange(n)]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


if __name__ == "__main__":
    for row in measure():
        print(row)
