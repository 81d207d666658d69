"""Weights averaged along the training."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class AveragedModel(nn.Module):
    """A copy of a model that holds the mean of all weights so far, the initial ones included.

    The mean of SWA (Izmailov et al., 2018), updated every optimiser step as TS2Vec does. Nothing waits for the device,
    and a skipped step leaves the mean alone.

    Args:
        model: the model that is trained; it is copied, not kept.
    """

    count: Tensor

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
        self.register_buffer("count", torch.ones((), dtype=torch.float32))

    @torch.no_grad()
    def update(self, model: nn.Module, skipped: Tensor) -> None:
        """Take the weights of ``model`` into the mean, unless ``skipped`` (0-dim bool) is True.

        Buffers such as batch-norm statistics are copied, not averaged.
        """
        counted = (~skipped).to(self.count)
        self.count += counted
        mean: list[Tensor] = list(self.module.parameters())
        new: list[Tensor] = list(model.parameters())
        change = torch._foreach_sub(new, mean)
        torch._foreach_mul_(change, counted / self.count)
        torch._foreach_add_(mean, list(change))
        for own, other in zip(self.module.buffers(), model.buffers(), strict=True):
            own.copy_(other)

    def train(self, mode: bool = True) -> AveragedModel:
        """Stays in evaluation mode: an averaged model is never trained."""
        return super().train(False)
