"""The training section of every recipe: its settings, and one seed of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from lightning_fabric import Fabric
from torch import nn

from mmssl.core.health import Diagnosis
from mmssl.core.schedules import warmup_cosine
from mmssl.recipes.limits import check_limits
from mmssl.train.batches import ShuffledBatches, Source
from mmssl.train.optim import OPTIMISERS, build_optimizer, decay_groups
from mmssl.train.pretrain import Probe, pretrain
from mmssl.train.run import Run


@dataclass
class TrainConfig:
    """The training; None stands for a value that is worked out from the data and written into config.yaml."""

    steps: int | None = None
    epochs: float | None = None  # instead of steps
    batch_size: int = 8  # over all processes and accumulated batches
    optimizer: str = "adamw"  # adam, sgd, lars (scales steps) or larc (clips them)
    lr: float | None = 1e-3
    momentum: float = 0.9  # of sgd, lars and larc
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])  # of adam and adamw
    weight_decay: float = 0.01
    decay_all: bool = True  # biases and norms, too
    schedule: str = "constant"  # or cosine
    warmup: float | None = 0.0  # share of the steps, with cosine
    clip_norm: float | None = None
    accumulate: int = 1  # batches to a step
    seed: int = 0
    seeds: int | None = None  # trainings, from `seed` on; None: the recipe decides
    device: str = "auto"  # cpu or cuda
    precision: str = "32-true"  # or bf16-mixed
    compile: bool = False
    workers: int | None = 0  # processes that fetch batches
    log_every: int | None = None  # steps; None: 20 times
    checkpoint_every: int | None = None  # steps; None: 5 times


@dataclass
class HealthConfig:
    """What to do about a collapse."""

    stop: bool = False  # stop when the embeddings collapse, instead of a warning


def work_out(
    train: TrainConfig, *, samples: int, steps: int, seeds: int, lr: float = 1e-3, warmup: float = 0.0, workers: int = 0
) -> TrainConfig:
    """Every None replaced by its value, and epochs by steps.

    Args:
        train: as the user gave it.
        samples: to train on.
        steps, seeds, lr, warmup, workers: what to take where the user gave none.

    Raises:
        ValueError: a value is impossible.
    """
    if train.schedule not in ("constant", "cosine"):
        raise ValueError(f"train.schedule must be constant or cosine, got {train.schedule!r}")
    if train.optimizer not in OPTIMISERS:
        raise ValueError(f"train.optimizer must be one of {', '.join(OPTIMISERS)}, got {train.optimizer!r}")
    if len(train.betas) != 2:
        raise ValueError(f"train.betas must be two numbers, got {train.betas}")
    check_limits(train, "train.")
    if train.batch_size % train.accumulate:
        raise ValueError(
            f"train.batch_size={train.batch_size} is not a multiple of train.accumulate={train.accumulate}"
        )
    if train.epochs is not None:
        if train.steps is not None:
            raise ValueError(f"give train.steps or train.epochs, got {train.steps} and {train.epochs:g}")
        steps = max(1, round(train.epochs * max(1, samples // min(train.batch_size, samples))))
    steps = train.steps or steps
    return replace(
        train,
        steps=steps,
        epochs=None,
        lr=lr if train.lr is None else train.lr,
        warmup=warmup if train.warmup is None else train.warmup,
        workers=workers if train.workers is None else train.workers,
        seeds=train.seeds or seeds,
        log_every=train.log_every or max(1, steps // 20),
        checkpoint_every=train.checkpoint_every or max(1, steps // 5),
    )


def train_seed(
    method: nn.Module,
    source: Source,
    *,
    probe: Probe,
    train: TrainConfig,
    health: HealthConfig,
    run: Run,
    fabric: Fabric,
    seed: int,
    stop: Callable[[Sequence[Mapping[str, float]]], bool] | None = None,
) -> Diagnosis:
    """The training of one seed into ``run``, or what is left of it there.

    Args:
        method: a `Method`; every parameter that wants a gradient is trained.
        source: gives the batches.
        probe, stop: see `mmssl.train.pretrain.pretrain`.
        train, health: from `work_out`.
    """
    assert train.steps is not None
    assert train.lr is not None
    assert train.warmup is not None
    assert train.workers is not None
    if fabric.world_size > 1:  # ranks draw different masks and dropout
        torch.manual_seed(seed + 7919 * fabric.global_rank)
    batches = ShuffledBatches(
        source,
        batch_size=train.batch_size // train.accumulate,
        seed=seed,
        workers=train.workers,
        pin_memory=fabric.device.type == "cuda",
    )
    optimizer = build_optimizer(
        train.optimizer,
        decay_groups(method, lr=train.lr, weight_decay=train.weight_decay, decay_all=train.decay_all),
        lr=train.lr,
        momentum=train.momentum,
        betas=(train.betas[0], train.betas[1]),
    )
    with run.log(seed) as log:
        return pretrain(
            method,
            batches,
            optimizer=optimizer,
            steps=train.steps,
            fabric=fabric,
            log=log,
            probe=probe,
            title=f"seed {seed}",
            stop_on_collapse=health.stop,
            stop=stop,
            checkpoints=run.checkpoints(seed),
            checkpoint_every=train.checkpoint_every,
            schedule=partial(warmup_cosine, warmup=train.warmup) if train.schedule == "cosine" else None,
            accumulate=train.accumulate,
            clip_norm=train.clip_norm,
            log_every=train.log_every,
        )
