"""What test_two_ranks.py runs on two processes: `torchrun --nproc-per-node 2 -m tests.train.two_ranks <folder>`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmssl.core.distributed import close_group, gather, rank, world_size
from mmssl.timeseries.encoder import DilatedConvEncoder
from mmssl.timeseries.ts2vec import TS2Vec
from mmssl.train.batches import Index, ShuffledBatches
from mmssl.train.checkpoint import Checkpoints
from mmssl.train.fit import fit, setup_fabric
from tests.train.small import Small, adamw, numbered

PADDED = {  # rows of the batch of 6 that end early, and where; ranks have three rows each
    "nowhere": {},
    "differently": {0: 20, 1: 12, 4: 27},
    "on the second rank only": {3: 9, 5: 17},
    "almost everything of the first": {0: 3, 1: 2, 2: 4},
}


def ts2vec(**options: int) -> TS2Vec:
    """Without masks and dropout, so that what ranks draw apart does not differ."""
    torch.manual_seed(0)
    encoder = DilatedConvEncoder(2, dim=6, hidden=5, depth=3, dropout=0.0)
    return TS2Vec(encoder, mask_rate=0.0, seed=4, **options)


def series(n: int, padded: dict[int, int]) -> Tensor:
    x = torch.randn(n, 32, 2, generator=torch.Generator().manual_seed(1))
    for row, end in padded.items():
        x[row, end:] = float("nan")
    return x


class Rows:
    """12 series of which some are short."""

    def __init__(self) -> None:
        self.x = series(12, {0: 20, 5: 12, 7: 27, 11: 9})

    def __len__(self) -> int:
        return len(self.x)

    def fetch(self, index: Index) -> Tensor:
        return self.x[index]


def gradients(method: TS2Vec, batch: Tensor) -> tuple[Tensor, Tensor]:
    """Loss, and the gradient of all weights in one vector, of a fresh method."""
    loss = method(batch)["loss"]
    loss.backward()
    return loss.detach(), torch.cat([p.grad.flatten() for p in method.encoder.parameters() if p.grad is not None])


def three_steps(fabric: Any, accumulate: int = 1) -> dict[str, Tensor]:
    method = ts2vec()
    optimizer = torch.optim.SGD(method.encoder.parameters(), lr=0.05, momentum=0.9)
    batches = ShuffledBatches(Rows(), batch_size=4, seed=2)
    losses = [
        state.metrics["loss"]
        for state in fit(
            method, batches, optimizer=optimizer, steps=3, fabric=fabric, accumulate=accumulate, log_every=1
        )
    ]
    return {**method.state_dict(), "losses": torch.tensor(losses)}


def mean_over_ranks(x: Tensor) -> Tensor:
    return gather(x[None]).mean(dim=0)


def part(batch: Tensor) -> Tensor:
    return batch.chunk(world_size())[rank()]


def small_run(fabric: Any, folder: Path, *, until: int, signals: dict[int, int]) -> tuple[list[int], dict[str, Tensor]]:
    """12 steps of the small method with its noise; ``signals`` says at which step a rank sends itself a SIGTERM."""
    method = Small(norm=False)
    optimizer = adamw(method)
    torch.manual_seed(10 + rank())

    def batches(first: int) -> Iterator[Tensor]:
        return map(part, numbered()(first))

    steps = []
    try:
        for state in fit(
            method,
            batches,
            optimizer=optimizer,
            steps=12,
            fabric=fabric,
            checkpoints=Checkpoints(folder),
            checkpoint_every=5,
            log_every=3,
        ):
            steps.append(state.step)
            if signals.get(rank()) == state.step:
                os.kill(os.getpid(), signal.SIGTERM)
            if state.step == until:
                break
    except KeyboardInterrupt:
        steps.append(-1)
    return steps, dict(method.state_dict())


def main(folder: Path) -> None:
    fabric = setup_fabric(device="cpu")
    out: dict[str, Any] = {"world": world_size()}

    x = torch.arange(6.0).view(3, 2) + 10 * rank()
    x.requires_grad_()
    pull = torch.arange(12.0).view(6, 2) * (1 + rank())
    out["gathered"] = gather(x).detach()
    (gather(x) * pull).sum().backward()
    out["pulled"] = x.grad

    for name, padded in PADDED.items():
        loss, gradient = gradients(ts2vec(), part(series(6, padded)))
        out[name] = (mean_over_ranks(loss), mean_over_ranks(gradient))
    for accumulate in (1, 2):
        out[f"steps {accumulate}"] = three_steps(fabric, accumulate)

    torch.manual_seed(rank())
    noise = torch.rand(3)
    out["ranks draw apart"] = not torch.equal(*gather(noise[None]))

    out["whole"] = small_run(fabric, folder / "whole", until=99, signals={})
    out["stopped"] = small_run(fabric, folder / "stopped", until=99, signals={1: 7})  # the second rank only
    out["resumed"] = small_run(fabric, folder / "stopped", until=99, signals={})
    torch.save(out, folder / f"rank-{rank()}.pt")
    recipe(folder)


def recipe(folder: Path) -> None:
    from mmssl.recipes.timeseries_ts2vec import Config, DataConfig, ModelConfig, TrainConfig
    from mmssl.recipes.timeseries_ts2vec import main as pretrain

    if rank() == 0:
        np.save(folder / "series.npy", series(12, {0: 20, 5: 12, 11: 9}).numpy())
    torch.distributed.barrier()
    pretrain(
        Config(
            data=DataConfig(path=str(folder / "series.npy")),
            model=ModelConfig(dim=6, hidden=4, depth=2),
            train=TrainConfig(steps=6, seeds=2, batch_size=4, log_every=2, checkpoint_every=3, device="cpu"),
            root=str(folder / "runs"),
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    close_group()
