"""Early stopping of a pretraining by rows that it does not learn from."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


@torch.no_grad()
def fixed_loss(method: nn.Module, x: Tensor, *, batch_size: int, seed: int = 0) -> float:
    """The loss of held-out rows, with the same corruptions whenever it is asked for.

    Losses of one training can be compared with each other: the random numbers are the same, and so are the batches. The
    global random generators stay as they are.

    Args:
        method: a `Method`, whose mode is restored afterwards.
        x: ``(n, M)`` rows on the device of the method, at least 2.
        batch_size: rows of a batch; an incomplete last one is left out, unless it is the only one.
        seed: of the corruptions.
    """
    size = min(batch_size, len(x))
    training = method.training
    method.eval()
    with torch.random.fork_rng(devices=[x.device] if x.device.type == "cuda" else []):
        torch.manual_seed(seed)
        losses = [method(x[i : i + size])["loss"] for i in range(0, len(x) - size + 1, size)]
    method.train(training)
    return float(torch.stack(losses).mean())


class Patience:
    """Says when a loss has not reached a new minimum for a while.

    Args:
        patience: how many losses in a row may be no new minimum; None never stops.
    """

    def __init__(self, patience: int | None) -> None:
        if patience is not None and patience < 1:
            raise ValueError(f"patience must be at least 1, got {patience}")
        self.patience = patience
        self.best = math.inf
        self.waited = 0

    def exhausted(self, loss: float) -> bool:
        """Take the next loss into account."""
        self.waited = 0 if loss < self.best else self.waited + 1
        self.best = min(self.best, loss)
        return self.patience is not None and self.waited >= self.patience
