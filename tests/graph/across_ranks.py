"""What test_graph_across_ranks.py runs: `python -m tests.graph.across_ranks <folder> <rank of 2>`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mmssl.core.distributed import rank, world_size
from mmssl.graph.graphcl import OneWay
from mmssl.graph.graphmae import scaled_cosine_error
from tests.ranks import group

NODES = 10
MASKED = torch.tensor([1, 0, 0, 0, 0, 1, 1, 1, 0, 1]).bool()  # one of the first rank, four of the second


def one_way(z: Tensor, x: Tensor, masked: Tensor) -> Tensor:
    return OneWay(0.2)([z, z.roll(1, dims=1)], [])


def graphmae(z: Tensor, x: Tensor, masked: Tensor) -> Tensor:
    return scaled_cosine_error(z, x, masked, gamma=2.0)


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "GraphCL of the authors": one_way,
    "GraphMAE": graphmae,
}


def play(name: str) -> dict[str, Tensor]:
    """Loss of this rank's part, and the gradient of the weights."""
    torch.manual_seed(0)
    linear, x = nn.Linear(4, 4), torch.randn(NODES, 4)
    size = NODES // world_size()
    own = slice(rank() * size, (rank() + 1) * size)
    module = DistributedDataParallel(linear) if world_size() > 1 else linear
    loss = LOSSES[name](module(x[own]), x[own], MASKED[own])
    loss.backward()
    assert linear.weight.grad is not None
    return {"loss": loss.detach(), "gradient": linear.weight.grad}


def main(folder: Path, number: int) -> None:
    with group(folder, number, count=2):
        torch.save({name: play(name) for name in LOSSES}, folder / f"{number}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
