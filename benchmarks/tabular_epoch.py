"""An epoch of SCARF on a table of Adult's size, against the same network fed a row at a time.

48,842 rows, batch 128, encoder of 4 × 256 and head of 2 × 256. The peers are ts3l, where it is installed, with its data
set, loss and trainer and with the number of loader workers that suits it best; and a bare loop with a `DataLoader`,
whose data set corrupts a row in numpy and whose loss has all similarities in one matrix: what is left when nothing is
wasted but the loading. A part of the epoch is timed, and all take turns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks import tabular_peer
from benchmarks.authors import paired
from benchmarks.tabular_views import ADULT, ROWS, RowByRow, adult_like
from mmssl.core.methods.joint_embedding import Branch, JointEmbedding
from mmssl.tabular.augment import Marginals
from mmssl.tabular.dataset import TableSource
from mmssl.tabular.encoder import MLP
from mmssl.tabular.scarf import scarf
from mmssl.train.batches import ShuffledBatches
from mmssl.train.fit import fit, setup_fabric
from mmssl.train.optim import build_optimizer

BATCH, STEPS, REPEATS = 128, 40, 5
TS3L_STEPS, TS3L_REPEATS = 5, 2  # each takes half a second
WORKERS = (0, 2)  # of ts3l's loader
AN_EPOCH = ROWS // BATCH


def measure() -> list[dict[str, Any]]:
    """One row a peer: the whole epoch, and beside it how long the network alone would take."""
    x = adult_like()
    ours, theirs = _method(x), _method(x)
    loader = DataLoader(RowByRow(x.numpy()), batch_size=BATCH, shuffle=True, drop_last=True)
    optimizers = [build_optimizer("adam", method.parameters(), lr=1e-3) for method in (ours, theirs)]
    fabric = setup_fabric(device="cpu")
    batches = ShuffledBatches(TableSource(x), batch_size=BATCH)
    ready = [(row, row.clone()) for row in islice(batches(), STEPS)]

    def in_batches() -> None:
        for _ in fit(ours, batches, optimizer=optimizers[0], steps=STEPS, fabric=fabric, log_every=STEPS):
            pass

    contenders: dict[str, Callable[[], object]] = {
        "mmssl": in_batches,
        "alone": lambda: _train(theirs, iter(ready), optimizers[1]),
        "a bare loop and a DataLoader": lambda: _train(theirs, islice(iter(loader), STEPS), optimizers[1]),
    }
    best = dict.fromkeys(contenders, float("inf"))
    ts3l = dict.fromkeys(WORKERS if tabular_peer.installed() else (), float("inf"))
    for i in range(REPEATS):
        turn = paired(contenders, repeats=1)
        best = {name: min(best[name], turn[name]) for name in best}
        if i < TS3L_REPEATS:
            ts3l = {workers: min(seconds, _ts3l(x, workers)) for workers, seconds in ts3l.items()}
    mine, alone = best.pop("mmssl"), best.pop("alone")
    if ts3l:
        workers = min(ts3l, key=lambda n: ts3l[n])
        best[f"ts3l, {workers} workers"] = ts3l[workers]
    scale = AN_EPOCH / STEPS
    return [
        {
            "what": f"epoch of SCARF, {ROWS:,} rows, batch {BATCH} ({STEPS} of {AN_EPOCH} steps timed)",
            "peer": peer,
            "peer_ms": 1e3 * scale * seconds,
            "mmssl_ms": 1e3 * scale * mine,
            "ratio": seconds / mine,
            "network_alone_ms": 1e3 * scale * alone,
        }
        for peer, seconds in best.items()
    ]


def _ts3l(x: Tensor, workers: int) -> float:
    """Seconds of as many steps as ours."""
    method = _method(x)
    branch = method.student
    assert isinstance(branch, Branch)
    return STEPS * tabular_peer.seconds_a_step(
        x, branch.encoder, branch.projector, batch_size=BATCH, steps=TS3L_STEPS, workers=workers
    )


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
