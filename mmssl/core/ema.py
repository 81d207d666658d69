"""Models that follow the one that is trained: the mean of its weights, and the momentum teacher."""

from __future__ import annotations

import copy
import math
from typing import Literal

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
        if self.count.device.type == "cpu":  # nothing to wait for, and one pass over the weights instead of three
            torch._foreach_lerp_(mean, new, float(counted / self.count))
        else:
            change = list(torch._foreach_sub(new, mean))
            torch._foreach_mul_(change, counted / self.count)
            torch._foreach_add_(mean, change)
        for own, other in zip(self.module.buffers(), model.buffers(), strict=True):
            own.copy_(other)

    def train(self, mode: bool = True) -> AveragedModel:
        """Stays in evaluation mode: an averaged model is never trained."""
        return super().train(False)


class Teacher(nn.Module):
    """A copy of a model whose weights follow it: teacher ← m · teacher + (1 − m) · model, once an optimiser step.

    The momentum m rises as a cosine from ``momentum`` to ``final_momentum`` (BYOL, Grill et al., NeurIPS 2020; with
    both equal it is the constant one of MoCo, He et al., CVPR 2020). The copy takes no gradient and drops nothing out.

    Args:
        model: the model that is trained; it is copied, not kept.
        momentum: m at the start of the training.
        final_momentum: m at its end.
        statistics: what batch normalisation does in the teacher. ``"own"``: it normalises with the statistics of its
            own batch, as in the authors' code of BYOL and DINO. ``"average"``: with the average of the model's running
            statistics (EMAN, Cai et al., CVPR 2021), so that the samples of a batch cannot recognise each other by
            their common statistics, which is what shuffling across GPUs is for in MoCo; it needs no second GPU.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        momentum: float = 0.996,
        final_momentum: float = 1.0,
        statistics: Literal["own", "average"] = "own",
    ) -> None:
        super().__init__()
        for name, value in (("momentum", momentum), ("final_momentum", final_momentum)):
            if not 0 <= value <= 1:
                raise ValueError(f"the teacher's {name} must lie in [0, 1], got {value}")
        if statistics not in ("own", "average"):
            raise ValueError(f"statistics must be 'own' or 'average', got {statistics!r}")
        self.module = copy.deepcopy(model).requires_grad_(False)
        self.momentum = momentum
        self.final_momentum = final_momentum
        self.statistics = statistics
        self.train()

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return self.module(x)

    @torch.no_grad()
    def update(self, model: nn.Module, progress: float, skipped: Tensor) -> None:
        """One step after ``model``, unless ``skipped`` (0-dim bool) is True; nothing waits for a GPU.

        Args:
            model: the model that was copied, with its new weights.
            progress: share of the training that is done, in (0, 1].
            skipped: the step changed nothing.
        """
        rate = 1 - self.momentum_at(progress)
        followed: list[Tensor] = list(self.module.parameters())
        leading: list[Tensor] = list(model.parameters())
        for own, other in zip(self.module.buffers(), model.buffers(), strict=True):
            if own.is_floating_point() and self.statistics == "average":
                followed.append(own)
                leading.append(other)
        if skipped.device.type == "cpu":
            if not skipped:
                torch._foreach_lerp_(followed, leading, rate)
            return
        change = list(torch._foreach_sub(leading, followed))
        torch._foreach_mul_(change, rate * (~skipped))
        torch._foreach_add_(followed, change)

    def momentum_at(self, progress: float) -> float:
        """m after the share ``progress`` of the training."""
        return self.final_momentum - (self.final_momentum - self.momentum) * (math.cos(math.pi * progress) + 1) / 2

    def train(self, mode: bool = True) -> Teacher:
        """Stays in evaluation mode, except that batch normalisation with ``"own"`` statistics follows ``mode``."""
        super().train(False)
        if mode and self.statistics == "own":
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._NormBase):
                    module.train()
        self.training = mode
        return self
