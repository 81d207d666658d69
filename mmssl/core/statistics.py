"""Running statistics of batch normalisation, estimated before the first step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn


@torch.no_grad()
def estimate_statistics(model: nn.Module, batches: Iterable[Any]) -> None:
    """Set the running statistics of every batch normalisation in ``model`` to their mean over ``batches``.

    A new network has running statistics of 0 and 1, which its activations do not have: in evaluation mode it sends all
    inputs to nearly the same place, as a control it is weaker than an untrained network is, and as a teacher it has
    nothing to teach. Training does not look at them, so this changes no gradient.

    Args:
        model: takes a batch; its weights and its mode are left as they are.
        batches: a few of those that it will be trained on.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    if not norms:
        return
    momentum, modes = [m.momentum for m in norms], {m: m.training for m in model.modules()}
    model.eval()  # no dropout
    for m in norms:
        m.reset_running_stats()
        m.momentum = None  # a plain mean
        m.train()
    for batch in batches:
        model(batch)
    for m, old in zip(norms, momentum, strict=True):
        m.momentum = old
    for module, mode in modes.items():
        module.training = mode
