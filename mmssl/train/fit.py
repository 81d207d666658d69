"""The training loop: a generator that yields after every optimiser step, so that everything else is a plain `if`.

    fabric = setup_fabric(precision="bf16-mixed")
    for state in fit(method, batches, optimizer=optimizer, steps=600, fabric=fabric):
        if state.metrics:
            print(state.step, state.metrics["loss"])

Lightning Fabric brings devices, precision and processes; the loop adds accumulation, clipping, skipped NaN steps and
checkpoints.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Literal, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from mmssl.core.distributed import before_group
from mmssl.core.types import Method
from mmssl.train.checkpoint import Checkpoints

Precision = Literal["32-true", "bf16-mixed"]
RANKS_AGREE_EVERY = 16  # steps; torchrun kills ranks that do not stop within half a minute


@dataclass
class State:
    """Where the training is.

    Args:
        step: optimiser steps done, counted from 1.
        steps: of the whole training.
        metrics: means over the ranks on logging steps, else empty: what the method returned, ``lr``, ``grad_norm`` and
            ``skipped``, the number of steps so far that changed nothing because a gradient was not finite.
    """

    step: int
    steps: int
    metrics: dict[str, float] = field(default_factory=dict)


class Diverged(RuntimeError):
    """Gradients have not been finite for many steps in a row."""


def setup_fabric(*, device: str = "auto", precision: Precision = "32-true") -> Fabric:
    """Fabric on one device, or on all processes that torchrun or SLURM started.

    Args:
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        precision: ``"32-true"`` or ``"bf16-mixed"``.
    """
    if precision not in ("32-true", "bf16-mixed"):
        raise ValueError(f"precision must be '32-true' or 'bf16-mixed', got {precision!r}")
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device must be 'auto', 'cpu' or 'cuda', got {device!r}")
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    fabric = Fabric(
        accelerator=device,
        precision=precision,
        devices=local,
        num_nodes=max(1, world // local),
        strategy="ddp" if world > 1 else "auto",
    )
    if world > 1:
        before_group()
    fabric.launch()
    return fabric


def fit(
    method: nn.Module,
    batches: Callable[[int], Iterator[Any]],
    *,
    optimizer: torch.optim.Optimizer,
    steps: int,
    fabric: Fabric,
    schedule: Callable[[float], float] | None = None,
    accumulate: int = 1,
    clip_norm: float | None = None,
    log_every: int = 10,
    checkpoints: Checkpoints | None = None,
    checkpoint_every: int | None = None,
    patience: int = 50,
) -> Iterator[State]:
    """Train ``method`` and yield a `State` after every optimiser step.

    If ``checkpoints`` has one, the training goes on from there, to the same numbers as without the interruption. On
    Ctrl-C or SIGTERM the current step is finished (with several ranks: up to 16 steps), a checkpoint written, and
    KeyboardInterrupt raised.

    Args:
        method: a `Method`; it is moved to the device.
        batches: called with the number of batches to leave out, gives an endless iterator over the rest.
        optimizer: over parameters of ``method``. One that is ``fused`` skips a step without waiting for the device.
        steps: of the optimiser, in all.
        fabric: from `setup_fabric`.
        schedule: factor of the learning rate as a function of the share of the training that is done.
        accumulate: batches that make up one step. Contrastive terms see one batch at a time.
        clip_norm: largest norm of the gradient.
        log_every: steps from one logging step to the next; the last step always is one. Only on them is a value read
            from the device.
        checkpoints: where to write checkpoints and look for one to go on from.
        checkpoint_every: steps from one checkpoint to the next; None writes one at the end only.
        patience: give up after this many skipped steps between two logging steps that are all there were.

    Raises:
        Diverged: no step between two logging steps, at least ``patience``, had a finite gradient.
        KeyboardInterrupt: after Ctrl-C or SIGTERM; a checkpoint was written if there is a place for it.
        OSError: a checkpoint could not be written.
    """
    module, _ = fabric.setup(method, optimizer)
    start = checkpoints.load(method, optimizer) if checkpoints is not None else 0
    loop = _Loop(method, module, optimizer, fabric, accumulate, clip_norm)
    base_lr = [group.setdefault("base_lr", group["lr"]) for group in optimizer.param_groups]
    source = batches(start * accumulate)
    method.train()
    clean = start  # the last logging step by which some step since the one before had a finite gradient
    saved = start
    with _stop_signals() as stopped:
        for step in range(start + 1, steps + 1):
            if schedule is not None:
                factor = schedule((step - 1) / steps)
                for group, lr in zip(optimizer.param_groups, base_lr, strict=True):
                    group["lr"] = lr * factor
            logging = step % log_every == 0 or step == steps
            loop.step(source, step / steps, logging)
            state = State(step, steps, loop.read() if logging else {})
            if logging:
                if loop.recent_skips < step - clean:
                    clean, loop.recent_skips = step, 0
                elif loop.recent_skips >= patience:
                    raise Diverged(
                        f"no gradient was finite in the last {loop.recent_skips} steps up to step {step}: "
                        "lower train.lr, clip gradients (train.clip_norm=1), or look for extreme values in the data"
                    )
            yield state
            due = checkpoint_every is not None and step % checkpoint_every == 0
            asked = logging or step % RANKS_AGREE_EVERY == 0 or fabric.world_size == 1
            stop = asked and _any_rank(stopped.is_set(), fabric)
            if checkpoints is not None and (due or stop or step == steps):
                checkpoints.save(step, method, optimizer)
                saved = step
            if stop:
                raise KeyboardInterrupt(f"stopped after step {step}; checkpoint of step {saved}")


def _any_rank(flag: bool, fabric: Fabric) -> bool:
    """Ranks hear of a signal at different steps, and have to stop at the same one."""
    if fabric.world_size == 1:
        return flag
    return bool(fabric.all_reduce(torch.tensor(float(flag), device=fabric.device), reduce_op="sum"))


class _Loop:
    """One optimiser step, and the running numbers of it that stay on the device until somebody logs."""

    def __init__(
        self,
        method: nn.Module,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        fabric: Fabric,
        accumulate: int,
        clip_norm: float | None,
    ) -> None:
        self.method = cast(Method, method)
        self.module = module
        self.optimizer = optimizer
        self.fabric = fabric
        self.accumulate = accumulate
        self.clip_norm = clip_norm
        self.params = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
        self.fused = all(group.get("fused") for group in optimizer.param_groups)
        self.running = [  # what a forward pass changes although the step may be skipped
            buffer
            for m in method.modules()
            if isinstance(m, nn.modules.batchnorm._NormBase)
            for buffer in m.buffers(recurse=False)
        ]
        self.skipped = torch.zeros((), device=fabric.device)
        self.norm = torch.zeros((), device=fabric.device)
        self.out: list[dict[str, Tensor]] = []
        self.recent_skips = 0
        self._read_skips = 0

    def step(self, source: Iterator[Any], progress: float, logging: bool) -> None:
        before = [buffer.clone() for buffer in self.running]
        self.out = []
        for i in range(self.accumulate):
            batch = self.fabric.to_device(next(source))
            if self.accumulate == 1:
                self._backward(batch, logging)
            else:
                with self.fabric.no_backward_sync(self.module, enabled=i < self.accumulate - 1):  # type: ignore[arg-type]
                    self._backward(batch, logging)
        grads = [p.grad for p in self.params if p.grad is not None]
        self.norm = torch.nn.utils.get_total_norm(grads)
        if self.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self.params, self.clip_norm, self.norm)
        bad = ~self.norm.isfinite()
        if self.fused:
            self.optimizer.found_inf = bad.float()  # type: ignore[attr-defined]  # the kernel then changes nothing
            self.optimizer.step()
        elif not bool(bad):
            self.optimizer.step()
        self.optimizer.zero_grad()
        for buffer, old in zip(self.running, before, strict=True):
            buffer.copy_(torch.where(bad, old, buffer))
        self.skipped += bad
        self.method.after_step(progress, bad)

    def _backward(self, batch: Any, logging: bool) -> None:
        out = self.module(batch)
        loss = out["loss"] if self.accumulate == 1 else out["loss"] / self.accumulate
        self.fabric.backward(loss)
        if logging:
            self.out.append({name: value.detach() for name, value in out.items()})

    def read(self) -> dict[str, float]:
        """Values of the last step, averaged over its batches and the ranks."""
        names = list(self.out[0])
        values = torch.stack([
            torch.stack([out[name].to(self.norm).float() for out in self.out]).mean() for name in names
        ])  # fmt: skip
        values = cast(Tensor, self.fabric.all_reduce(values, reduce_op="mean"))
        metrics = dict(zip(names, values.tolist(), strict=True))
        metrics["lr"] = float(self.optimizer.param_groups[0]["lr"])
        metrics["grad_norm"] = float(self.norm)
        metrics["skipped"] = float(self.skipped)
        self.recent_skips += int(metrics["skipped"]) - self._read_skips
        self._read_skips = int(metrics["skipped"])
        return metrics


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM set the event that is given; a second Ctrl-C interrupts at once."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return

    def stop(number: int, frame: FrameType | None) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt
        stopped.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
