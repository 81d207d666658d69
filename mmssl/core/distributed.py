"""Rank, world size and a gather with gradients; all of it the identity in a single process."""

from __future__ import annotations

import gc
import importlib

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def before_group() -> None:
    """To be called before the group of processes is formed, for `close_group` to end it.

    DDP imports ``torch._dynamo``, which holds the group if there is one by then (measured with torch 2.14).
    """
    importlib.import_module("torch._dynamo")


def close_group() -> None:
    """Ends the group of processes, and its threads, while the interpreter is still whole.

    A thread of gloo that lets go of a tensor while the interpreter comes down ends the process in an abort ("terminate
    called without an active exception"). The threads live as long as anything holds the group, as DDP modules do.
    """
    if world_size() > 1:
        gc.collect()
        dist.destroy_process_group()


def gather(x: Tensor) -> Tensor:
    """Every rank's ``x`` one after the other along the first axis; shapes must agree across ranks.

    The gradient of an entry is the *sum* of what all ranks' losses ask of it. With a loss that each rank averages over
    its own anchors, and gradients averaged across ranks as DDP does, this is the gradient of the loss of the whole
    batch in one process.
    """
    return x if world_size() == 1 else _Gather.apply(x)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        out = [torch.empty_like(x) for _ in range(world_size())]
        dist.all_gather(out, x.contiguous())
        return torch.cat(out)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        total = grad.contiguous().clone()
        dist.all_reduce(total)
        return total.chunk(world_size())[rank()]
