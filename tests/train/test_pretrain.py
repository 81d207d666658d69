"""Pretraining with a watch on collapse: what real runs that learn, collapse or diverge are told."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmssl.core.health import Diagnosis
from mmssl.timeseries.encoder import DilatedConvEncoder
from mmssl.timeseries.ts2vec import TS2Vec
from mmssl.train.batches import Index, ShuffledBatches
from mmssl.train.checkpoint import Checkpoints
from mmssl.train.fit import Diverged, setup_fabric
from mmssl.train.pretrain import Collapsed, Probe, pretrain
from mmssl.train.run import MetricsLog, read_metrics
from tests.train.small import Small, adamw, everything, numbered, same


class Rows:
    def __init__(self, x: Tensor) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def fetch(self, index: Index) -> Tensor:
        return self.x[index]


def waves(n: int = 64, steps: int = 60) -> Tensor:
    """Sines of different frequency and phase in noise, standardised."""
    draw = torch.Generator().manual_seed(0)
    frequency, phase = 0.05 + torch.rand(n, 1, 2, generator=draw) / 2, 6.3 * torch.rand(n, 1, 2, generator=draw)
    x = torch.sin(frequency * torch.arange(steps)[None, :, None] + phase)
    x = x + 0.3 * torch.randn(n, steps, 2, generator=draw)
    return (x - x.mean()) / x.std()


def run(folder: Path, x: Tensor, *, lr: float = 1e-3, steps: int = 80, **options: Any) -> Diagnosis:
    torch.manual_seed(0)
    encoder = DilatedConvEncoder(2, dim=16, hidden=8, depth=3)
    method = TS2Vec(encoder)
    return pretrain(
        method,
        ShuffledBatches(Rows(x), batch_size=8),
        optimizer=torch.optim.AdamW(encoder.parameters(), lr=lr, fused=True),
        steps=steps,
        fabric=setup_fabric(device="cpu"),
        log=MetricsLog(folder, tensorboard=False),
        probe=Probe(x[:32], encoder),
        log_every=steps // 20,
        **options,
    )


def test_a_run_that_learns_is_called_healthy(tmp_path: Path) -> None:
    said = run(tmp_path, waves(), lr=1e-2)
    assert said.status == "healthy", said.findings


def test_every_logging_step_has_its_health_from_before_the_first_step_on(tmp_path: Path) -> None:
    run(tmp_path, waves(), steps=40)
    rows = read_metrics(tmp_path / "metrics.csv")
    assert [row["step"] for row in rows] == list(range(0, 41, 2))
    assert set(rows[0]) == {"seed", "step", "spread", "effective_rank"}
    for row in rows[1:]:
        assert set(row) >= {"loss", "collapse_loss", "spread", "effective_rank", "lr", "grad_norm", "skipped"}


def test_looking_at_the_health_changes_nothing_in_the_training(tmp_path: Path) -> None:
    losses = []
    for every in (2, 6):
        torch.manual_seed(0)
        encoder = DilatedConvEncoder(2, dim=8, hidden=4, depth=2)
        x = waves(16, 20)
        folder = tmp_path / str(every)
        pretrain(
            TS2Vec(encoder),
            ShuffledBatches(Rows(x), batch_size=8),
            optimizer=torch.optim.AdamW(encoder.parameters(), fused=True),
            steps=12,
            fabric=setup_fabric(device="cpu"),
            log=MetricsLog(folder, tensorboard=False),
            probe=Probe(x, encoder),
            log_every=every,
        )
        rows = read_metrics(folder / "metrics.csv")
        losses.append({row["step"]: row["loss"] for row in rows if row["step"] in (6, 12)})
    assert losses[0] == losses[1]


def test_constant_windows_are_called_a_collapse_of_the_data_once(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        said = run(tmp_path, torch.full((64, 60, 2), 0.5))
    assert said.status == "collapsed"
    assert "Likely cause: the data. Only 3% of the inputs differ" in said.findings[0]
    assert [str(w.message)[:17] for w in caught] == ["step 4: Collapse:"]


def test_a_common_level_that_drowns_the_differences_is_called_so(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="hardly differed before training"):
        said = run(tmp_path, 100 + 0.01 * waves())
    assert said.status == "collapsed"


def test_a_collapse_stops_the_run_if_asked_to(tmp_path: Path) -> None:
    with pytest.raises(Collapsed, match="step 4: Collapse: all embeddings are nearly the same"):
        run(tmp_path, torch.full((64, 60, 2), 0.5), stop_on_collapse=True)


def test_windows_of_two_kinds_are_worth_a_warning(tmp_path: Path) -> None:
    said = run(tmp_path, waves()[:2].repeat(32, 1, 1))
    assert said.status == "warning"
    assert "Only 6% of the inputs looked at differ" in said.findings[-1]


def test_an_absurd_learning_rate_is_not_called_healthy(tmp_path: Path) -> None:
    said = run(tmp_path, waves(), lr=1.0)
    assert said.status == "warning"
    assert "worse than one that tells nothing apart. Lower the learning rate" in said.findings[0]


def test_an_absurd_learning_rate_on_the_paper_s_encoder_ends_the_run_with_advice(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder, x = DilatedConvEncoder(2), waves(16, 20)
    with pytest.warns(UserWarning, match="Collapse: .*Likely cause: the training diverged"), pytest.raises(Diverged):
        pretrain(
            TS2Vec(encoder),
            ShuffledBatches(Rows(x), batch_size=8),
            optimizer=torch.optim.AdamW(encoder.parameters(), lr=1.0, fused=True),
            steps=60,
            fabric=setup_fabric(device="cpu"),
            log=MetricsLog(tmp_path, tensorboard=False),
            probe=Probe(x, encoder),
            log_every=5,
            patience=10,
        )


def test_going_on_from_a_checkpoint_writes_no_second_first_row(tmp_path: Path) -> None:
    for _ in range(2):
        run(tmp_path, waves(), steps=20, checkpoints=Checkpoints(tmp_path / "checkpoint"))
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.csv")] == list(range(21))


def small(folder: Path, *, steps: int = 40, **options: Any) -> tuple[nn.Module, torch.optim.Optimizer, MetricsLog]:
    """A training of 40 steps at most that is looked at every fifth."""
    method = Small()
    optimizer = adamw(method)
    log = MetricsLog(folder, tensorboard=False)
    measure = options.pop("measure", None)
    pretrain(
        method,
        numbered(),
        optimizer=optimizer,
        steps=steps,
        fabric=setup_fabric(device="cpu"),
        log=log,
        probe=Probe(torch.eye(3), method.encoder, measure),
        log_every=5,
        **options,
    )
    return method, optimizer, log


def held_out(method: nn.Module) -> dict[str, float]:
    x = next(numbered()(1_000))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {"validation_loss": float(method(x)["loss"]), "training": float(method.training)}


def after(steps: int) -> Callable[[Sequence[Mapping[str, float]]], bool]:
    return lambda rows: rows[-1]["step"] >= steps if rows else False


def test_what_is_measured_stands_in_every_row_and_changes_nothing(tmp_path: Path) -> None:
    plain, measured = small(tmp_path / "plain"), small(tmp_path / "measured", measure=held_out)
    assert same(everything(*plain[:2]), everything(*measured[:2])) == []
    rows = measured[2].rows
    assert [row["step"] for row in rows] == list(range(0, 41, 5))
    assert all(row["validation_loss"] > 0 and row["training"] == 0 for row in rows)
    assert rows[-1]["validation_loss"] < rows[0]["validation_loss"]
    assert [row["loss"] for row in rows[1:]] == [row["loss"] for row in plain[2].rows[1:]]
    assert measured[0].training


def test_a_training_ends_where_its_rows_say_so(tmp_path: Path) -> None:
    asked: list[float] = []

    def stop(rows: Sequence[Mapping[str, float]]) -> bool:
        asked.append(rows[-1]["step"] if rows else -1)
        return after(15)(rows)

    *_, log = small(tmp_path, stop=stop, measure=held_out)
    assert [row["step"] for row in log.rows] == [0, 5, 10, 15]
    assert asked == [0, 5, 10, 15]


def test_a_training_that_was_interrupted_stops_where_it_would_have(tmp_path: Path) -> None:
    whole = small(tmp_path / "whole", stop=after(25), checkpoints=Checkpoints(tmp_path / "whole"))
    checkpoints = Checkpoints(tmp_path / "parts")
    small(tmp_path / "parts", steps=10, checkpoints=checkpoints)
    with pytest.raises(KeyboardInterrupt):  # after step 20, of which no checkpoint tells
        small(tmp_path / "parts", stop=_interrupt(20), checkpoints=checkpoints)
    resumed = small(tmp_path / "parts", stop=after(25), checkpoints=checkpoints)
    assert same(everything(*whole[:2]), everything(*resumed[:2])) == []
    assert [row["step"] for row in resumed[2].rows] == [0, 5, 10, 15, 20, 25]
    assert resumed[2].rows == whole[2].rows


def _interrupt(step: int) -> Callable[[Sequence[Mapping[str, float]]], bool]:
    def stop(rows: Sequence[Mapping[str, float]]) -> bool:
        if rows and rows[-1]["step"] >= step:
            raise KeyboardInterrupt
        return False

    return stop


def test_a_training_that_had_stopped_is_not_gone_on_with(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoint")
    first = small(tmp_path, stop=after(15), checkpoints=checkpoints)
    assert checkpoints.step() == 15
    again = small(tmp_path, stop=after(15), checkpoints=checkpoints)
    assert same(everything(*first[:2]), everything(*again[:2])) == []
    assert again[2].rows == MetricsLog(tmp_path, tensorboard=False).rows
    assert [row["step"] for row in again[2].rows] == [0, 5, 10, 15]
