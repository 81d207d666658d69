"""The loop against a plain PyTorch loop, bit for bit, and against everything that goes wrong in a night."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from mmssl.core.schedules import warmup_cosine
from mmssl.core.types import Method
from mmssl.train.checkpoint import Checkpoints
from mmssl.train.fit import Diverged, State, fit, setup_fabric
from tests.train.small import Small, adamw, everything, numbered, same


@pytest.fixture(scope="module")
def fabric() -> Fabric:
    return setup_fabric(device="cpu")


def plain(method: Small, optimizer: torch.optim.Optimizer, steps: int, clip: float | None = None) -> list[float]:
    method.train()
    losses, source = [], numbered()(0)
    for step in range(steps):
        loss = method(next(source))["loss"]
        loss.backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(method.encoder.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad()
        method.after_step((step + 1) / steps, torch.tensor(False))
        losses.append(float(loss.detach()))
    return losses


def drive(loop: Iterator[State], seen: list[int], at: int, action: Callable[[], None]) -> None:
    """Run to the end, and do something after step ``at``."""
    for state in loop:
        seen.append(state.step)
        if state.step == at:
            action()


def test_the_small_method_is_a_method() -> None:
    assert isinstance(Small(), Method)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_it_is_a_plain_loop_bit_for_bit(fabric: Fabric, fused: bool, clip: float | None) -> None:
    ours, theirs = Small(), Small()
    a, b = adamw(ours, fused=fused), adamw(theirs, fused=fused)
    torch.manual_seed(1)
    states = list(fit(ours, numbered(), optimizer=a, steps=12, fabric=fabric, clip_norm=clip, log_every=1))
    torch.manual_seed(1)
    losses = plain(theirs, b, 12, clip)
    assert same(everything(ours, a), everything(theirs, b)) == []
    assert [state.metrics["loss"] for state in states] == losses


def test_it_says_where_it_is_and_reads_values_on_logging_steps_only(fabric: Fabric) -> None:
    method = Small()
    states = list(fit(method, numbered(), optimizer=adamw(method), steps=10, fabric=fabric, log_every=4))
    assert [state.step for state in states] == list(range(1, 11))
    assert {state.steps for state in states} == {10}
    assert [state.step for state in states if state.metrics] == [4, 8, 10]
    metrics = states[3].metrics
    assert set(metrics) == {"loss", "largest", "lr", "grad_norm", "skipped"}
    assert metrics["largest"] == float(next(numbered()(3)).abs().max())
    assert metrics["grad_norm"] > 0


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("when", [0, 4])
def test_a_step_with_nan_changes_nothing_and_the_training_goes_on(fabric: Fabric, fused: bool, when: int) -> None:
    method = Small()
    optimizer = adamw(method, fused=fused)
    history: list[dict[str, Any]] = []
    loop = fit(method, numbered(broken=(when,)), optimizer=optimizer, steps=8, fabric=fabric, log_every=1)
    before = everything(method, optimizer)
    for state in loop:
        history.append(everything(method, optimizer))
        assert state.metrics["skipped"] == float(state.step > when)
    if when:
        assert same(history[when], history[when - 1]) == []
        assert same(history[when - 1], history[when - 2])  # a usual step does change something
    else:  # the optimiser may have made its empty state
        assert same({name: history[0][name] for name in before}, before) == []
        assert not any(history[0][name].any() for name in history[0] if name.startswith("optimizer"))
    name = "method.encoder.0.weight"
    assert not torch.equal(history[when + 1][name], history[when][name])
    assert all(value.isfinite().all() for value in history[-1].values())


def test_one_broken_part_of_an_accumulated_step_skips_the_whole_step(fabric: Fabric) -> None:
    method = Small()
    optimizer = adamw(method)
    before = everything(method, optimizer)
    for state in fit(
        method, numbered(broken=(1,)), optimizer=optimizer, steps=1, fabric=fabric, accumulate=3, log_every=1
    ):
        assert state.metrics["skipped"] == 1
    after = everything(method, optimizer)
    assert same({name: after[name] for name in before}, before) == []


@pytest.mark.parametrize("fused", [True, False])
def test_two_batches_of_four_are_one_of_eight(fabric: Fabric, fused: bool) -> None:
    def halves(first: int) -> Iterator[Tensor]:
        for number, batch in enumerate(numbered()(first // 2)):
            for i, half in enumerate(batch.chunk(2)):
                if 2 * number + i >= first % 2:
                    yield half

    one, two = Small(norm=False, noise=0), Small(norm=False, noise=0)
    a = list(fit(one, numbered(), optimizer=adamw(one, fused=fused), steps=6, fabric=fabric, log_every=1))
    b = list(fit(two, halves, optimizer=adamw(two, fused=fused), steps=6, fabric=fabric, accumulate=2, log_every=1))
    for p, q in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
    for x, y in zip(a, b, strict=True):
        assert x.metrics["loss"] == pytest.approx(y.metrics["loss"], rel=1e-5)
        assert x.metrics["grad_norm"] == pytest.approx(y.metrics["grad_norm"], rel=1e-4)


def test_clipping_bounds_the_step_and_reports_the_norm_before(fabric: Fabric) -> None:
    method = Small(norm=False, noise=0)
    optimizer = torch.optim.SGD(method.encoder.parameters(), lr=1.0)
    before = torch.cat([p.detach().flatten() for p in method.encoder.parameters()])
    for state in fit(method, numbered(), optimizer=optimizer, steps=1, fabric=fabric, clip_norm=0.01, log_every=1):
        moved = torch.cat([p.detach().flatten() for p in method.encoder.parameters()]) - before
        assert float(moved.norm()) == pytest.approx(0.01, rel=1e-3)
        assert state.metrics["grad_norm"] > 0.1


@pytest.mark.parametrize("fused", [True, False])
def test_the_learning_rate_follows_the_schedule(fabric: Fabric, fused: bool) -> None:
    method = Small()
    loop = fit(
        method,
        numbered(),
        optimizer=adamw(method, fused=fused, lr=0.02),
        steps=10,
        fabric=fabric,
        schedule=lambda progress: warmup_cosine(progress, warmup=0.3),
        log_every=1,
    )
    want = [0.02 * warmup_cosine(i / 10, warmup=0.3) for i in range(10)]
    assert [state.metrics["lr"] for state in loop] == pytest.approx(want)


def test_nothing_but_nan_ends_the_training_with_advice(fabric: Fabric) -> None:
    method = Small()
    loop = fit(
        method,
        numbered(broken=tuple(range(5, 1000))),
        optimizer=adamw(method),
        steps=1000,
        fabric=fabric,
        log_every=4,
        patience=20,
    )
    steps = []
    with pytest.raises(Diverged, match=r"no gradient was finite in the last 20 steps up to step 28: lower train\.lr"):
        steps += [state.step for state in loop]
    assert len(steps) <= 28


def test_every_second_step_with_nan_is_no_divergence(fabric: Fabric) -> None:
    method = Small()
    broken = tuple(range(0, 100, 2))
    states = list(
        fit(
            method,
            numbered(broken=broken),
            optimizer=adamw(method),
            steps=100,
            fabric=fabric,
            log_every=1,
            patience=3,
        )
    )
    assert states[-1].metrics["skipped"] == 50


@pytest.mark.parametrize(("key", "value"), [("device", "tpu"), ("precision", "16-true")])
def test_an_unknown_device_or_precision_is_named(key: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{key} must be .* got '{value}'"):
        setup_fabric(**{key: value})  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------- resuming


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("stop", [1, 6, 7, 9])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_training_that_was_cut_off_ends_with_the_same_bits(
    fabric: Fabric, tmp_path: Path, fused: bool, stop: int, accumulate: int
) -> None:
    def trained(checkpoints: Checkpoints | None, until: int) -> tuple[dict[str, Any], list[float]]:
        method = Small(conv=True)
        optimizer = adamw(method, fused=fused)
        torch.manual_seed(3)
        losses = []
        for state in fit(
            method,
            numbered(broken=(4,)),
            optimizer=optimizer,
            steps=10,
            fabric=fabric,
            schedule=warmup_cosine,
            accumulate=accumulate,
            log_every=1,
            checkpoints=checkpoints,
            checkpoint_every=3,
        ):
            losses.append(state.metrics["loss"])
            if state.step == until:
                break
        return everything(method, optimizer), losses

    whole, losses = trained(None, 10)
    trained(Checkpoints(tmp_path), stop)
    assert Checkpoints(tmp_path).step() == (stop - 1) // 3 * 3
    resumed, rest = trained(Checkpoints(tmp_path), 11)
    assert same(resumed, whole) == []
    assert str(rest) == str(losses[(stop - 1) // 3 * 3 :])  # nan included


def test_a_finished_training_has_nothing_left_to_do(fabric: Fabric, tmp_path: Path) -> None:
    for expected in (5, 0):
        method = Small()
        states = list(
            fit(
                method,
                numbered(),
                optimizer=adamw(method),
                steps=5,
                fabric=fabric,
                checkpoints=Checkpoints(tmp_path),
            )
        )
        assert len(states) == expected
    assert Checkpoints(tmp_path).step() == 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_finishes_the_step_writes_a_checkpoint_and_interrupts(
    fabric: Fabric, tmp_path: Path, number: signal.Signals
) -> None:
    method = Small()
    optimizer = adamw(method)
    before = signal.getsignal(number)
    seen: list[int] = []
    loop = fit(method, numbered(), optimizer=optimizer, steps=10, fabric=fabric, checkpoints=Checkpoints(tmp_path))
    with pytest.raises(KeyboardInterrupt, match="stopped after step 4; checkpoint of step 4"):
        drive(loop, seen, 4, lambda: os.kill(os.getpid(), number))
    assert seen == [1, 2, 3, 4]
    assert signal.getsignal(number) is before
    other = Small(seed=1)
    again = adamw(other)
    fabric.setup(other, again)
    assert Checkpoints(tmp_path).load(other, again) == 4
    assert same(everything(other, again), everything(method, optimizer)) == []


def test_a_second_ctrl_c_interrupts_at_once(fabric: Fabric) -> None:
    method = Small()
    seen: list[int] = []

    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        seen.append(-1)

    loop = fit(method, numbered(), optimizer=adamw(method), steps=10, fabric=fabric)
    with pytest.raises(KeyboardInterrupt):
        drive(loop, seen, 2, twice)
    assert seen == [1, 2]


def test_signal_handlers_come_back_when_the_training_is_left_early(fabric: Fabric) -> None:
    before = signal.getsignal(signal.SIGINT)
    method = Small()
    loop = fit(method, numbered(), optimizer=adamw(method), steps=10, fabric=fabric)
    next(loop)
    assert signal.getsignal(signal.SIGINT) is not before
    loop.close()  # type: ignore[attr-defined]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_training_in_a_thread_leaves_the_signals_alone(fabric: Fabric) -> None:
    done: list[State] = []

    def work() -> None:
        method = Small()
        done.extend(fit(method, numbered(), optimizer=adamw(method), steps=3, fabric=fabric))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(done) == 3


def test_a_full_disk_ends_the_training_with_the_earlier_checkpoint_in_place(
    fabric: Fabric, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = Small()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    loop = fit(
        method,
        numbered(),
        optimizer=adamw(method),
        steps=10,
        fabric=fabric,
        checkpoints=Checkpoints(tmp_path),
        checkpoint_every=2,
    )
    with pytest.raises(OSError, match=r"step-0000000004.*No space left.*step-0000000002\.safetensors is untouched"):
        drive(loop, [], 3, lambda: monkeypatch.setattr("mmssl.train.checkpoint.save_file", full))
    assert [file.name for file in tmp_path.iterdir()] == ["step-0000000002.safetensors"]
