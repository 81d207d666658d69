"""Pretraining as a recipe wants it: the loop with a progress bar, logs, checkpoints and a watch on collapse."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from tqdm import tqdm

from mmssl.core.health import Diagnosis, diagnose, distinct_share, embedding_health
from mmssl.train.checkpoint import Checkpoints
from mmssl.train.fit import fit
from mmssl.train.run import MetricsLog


class Collapsed(RuntimeError):
    """The embeddings collapsed, and the run was asked to stop for that."""


@dataclass(frozen=True)
class Probe:
    """Inputs whose embeddings are looked at on every logging step.

    Args:
        inputs: a batch of different inputs, on the CPU.
        embed: gives the embeddings ``(n, D)`` of a batch; must not draw random numbers.
        measure: further numbers of the method in evaluation mode, such as the loss of held-out rows. Every rank calls
            it, since a loss may need all ranks, and what rank 0 gets is logged. It must leave the random generators as
            they are.
    """

    inputs: Any
    embed: Callable[[Any], Tensor]
    measure: Callable[[nn.Module], Mapping[str, float]] | None = None


def pretrain(
    method: nn.Module,
    batches: Callable[[int], Iterator[Any]],
    *,
    optimizer: torch.optim.Optimizer,
    steps: int,
    fabric: Fabric,
    log: MetricsLog,
    probe: Probe,
    title: str = "pretraining",
    stop_on_collapse: bool = False,
    stop: Callable[[Sequence[Mapping[str, float]]], bool] | None = None,
    checkpoints: Checkpoints | None = None,
    **fit_options: Any,
) -> Diagnosis:
    """Train to the end, or until ``stop`` says so, and say how healthy the embeddings are.

    Args:
        method, batches, optimizer, steps, fabric, checkpoints, fit_options: see `mmssl.train.fit.fit`.
        log: takes a row on every logging step, with the health of the probe beside the metrics.
        probe: looked at before the first and on every logging step.
        title: of the progress bar.
        stop_on_collapse: raise `Collapsed` instead of a warning.
        stop: asked on every logging step whether the rows of the log so far end the training; a checkpoint is written
            then. As it sees nothing but the rows, a run that was interrupted stops where it would have.

    Raises:
        Collapsed: the embeddings have collapsed and ``stop_on_collapse`` is set.
    """
    distinct = distinct_share(probe.inputs) if isinstance(probe.inputs, Tensor) else 1.0
    inputs = fabric.to_device(probe.inputs)
    method = fabric.to_device(method)  # the first look is before fit moves it
    warned = False
    start = checkpoints.step() if checkpoints is not None else 0
    if start == 0:
        row = _look(method, probe, inputs, fabric)
        if fabric.global_rank == 0:
            log.write(0, row)
    if stop is not None and fabric.broadcast(stop([row for row in log.rows if row["step"] <= start])):
        steps = start  # it had stopped already: fit only reads the checkpoint
    bar = tqdm(
        total=steps,
        initial=start,
        desc=title,
        unit="step",
        disable=fabric.global_rank > 0,
        mininterval=0.2 if sys.stderr.isatty() else 15.0,
        dynamic_ncols=True,
    )
    with bar:
        for state in fit(
            method,
            batches,
            optimizer=optimizer,
            steps=steps,
            fabric=fabric,
            checkpoints=checkpoints,
            **fit_options,
        ):
            if state.metrics:
                problem = ""
                row = state.metrics | _look(method, probe, inputs, fabric)
                if fabric.global_rank == 0:
                    log.write(state.step, row)
                    bar.set_postfix(loss=f"{row['loss']:.3f}", rank=f"{row['effective_rank']:.1f}", refresh=False)
                    diagnosis = diagnose(log.rows, distinct=distinct)
                    if diagnosis.status == "collapsed":
                        problem = f"step {state.step}: {' '.join(diagnosis.findings)}"
                if stop_on_collapse and (problem := fabric.broadcast(problem)):
                    raise Collapsed(problem)
                if problem and not warned:
                    warned = True
                    bar.clear()
                    warnings.warn(problem, stacklevel=2)
                if stop is not None and fabric.broadcast(stop(log.rows)):
                    if checkpoints is not None:
                        checkpoints.save(state.step, method, optimizer)
                    break
            bar.update(state.step - bar.n)
    return diagnose(log.rows, distinct=distinct)


def _look(method: nn.Module, probe: Probe, inputs: Any, fabric: Fabric) -> dict[str, float]:
    """Health of the embeddings, on rank 0, and what else is measured."""
    training = method.training
    method.eval()
    row: dict[str, float] = {}
    with torch.no_grad():
        if fabric.global_rank == 0:
            row = {name: float(value) for name, value in embedding_health(probe.embed(inputs)).items()}
        if probe.measure is not None:
            row |= probe.measure(method)
    method.train(training)
    return row
