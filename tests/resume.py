"""A training that was stopped and resumed, against the same one without a stop."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmssl.train.checkpoint import Checkpoints
from mmssl.train.fit import fit, setup_fabric
from mmssl.train.optim import build_optimizer, decay_groups

Batches = Callable[[int], Iterator[Any]]


def assert_resumes_bit_for_bit(build: Callable[[], nn.Module], batches: Batches, folder: Path) -> None:
    """Four steps in one go, against three, and then the rest from the checkpoint of step 2.

    Args:
        build: gives the method, with the same weights each time.
        batches: from a step on.
        folder: for the checkpoints.
    """
    whole = _trained(build(), batches, folder / "whole")
    _trained(build(), batches, folder / "parts", stop=3)
    resumed = _trained(build(), batches, folder / "parts")
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []


def _trained(method: nn.Module, batches: Batches, folder: Path, *, stop: int | None = None) -> dict[str, Tensor]:
    optimizer = build_optimizer("adamw", decay_groups(method, lr=1e-3, weight_decay=0.1), lr=1e-3)
    torch.manual_seed(3)
    run = fit(
        method,
        batches,
        optimizer=optimizer,
        steps=4,
        fabric=setup_fabric(device="cpu"),
        checkpoints=Checkpoints(folder),
        checkpoint_every=2,
    )
    for state in run:
        if state.step == stop:
            run.close()  # type: ignore[attr-defined]
            break
    return copy.deepcopy(method.state_dict())
