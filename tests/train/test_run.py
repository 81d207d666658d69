"""The run folder and the log of metrics."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from mmssl.train.run import MetricsLog, Run, read_metrics


def log(folder: Path, seed: int = 0) -> MetricsLog:
    return MetricsLog(folder, seed=seed, tensorboard=False)


def losses(folder: Path) -> list[tuple[int, int, float]]:
    return [(int(row["seed"]), int(row["step"]), row["loss"]) for row in read_metrics(folder / "metrics.csv")]


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    with log(tmp_path) as metrics:
        metrics.write(0, {"loss": 1.5, "spread": 0.25})
        metrics.write(10, {"loss": 1 / 3, "spread": math.nan, "skipped": 2.0})
        metrics.write(20, {"loss": math.inf})
    rows = read_metrics(tmp_path / "metrics.csv")
    assert rows[0] == {"seed": 0, "step": 0, "loss": 1.5, "spread": 0.25}
    assert rows[1] == {"seed": 0, "step": 10, "loss": pytest.approx(1 / 3, rel=1e-8), "skipped": 2}
    assert rows[2]["loss"] == math.inf
    assert (tmp_path / "metrics.csv").read_text().splitlines()[0] == "seed,step,loss,spread,skipped"


def test_float32_values_survive_bit_for_bit(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    values = torch.randn(50).double().tolist()
    for i, value in enumerate(values):
        log(tmp_path).write(i, {"loss": value})
    read = [row["loss"] for row in read_metrics(tmp_path / "metrics.csv")]
    assert torch.equal(torch.tensor(read), torch.tensor(values))


def test_rows_after_the_checkpoint_are_replaced_when_a_run_goes_on(tmp_path: Path) -> None:
    before = log(tmp_path)
    for step in (0, 10, 20, 30):
        before.write(step, {"loss": float(step)})
    after = log(tmp_path)
    assert [row["step"] for row in after.rows] == [0, 10, 20, 30]
    after.write(20, {"loss": 0.5})
    after.write(30, {"loss": 0.25})
    assert losses(tmp_path) == [(0, 0, 0), (0, 10, 10), (0, 20, 0.5), (0, 30, 0.25)]


def test_seeds_share_the_file_and_replace_only_their_own_rows(tmp_path: Path) -> None:
    for seed in (0, 1):
        for step in (0, 10):
            log(tmp_path, seed).write(step, {"loss": float(seed)})
    again = log(tmp_path, 1)
    again.write(0, {"loss": 9.0})
    again.write(10, {"loss": 8.0, "new": 1.0})
    assert losses(tmp_path) == [(0, 0, 0), (0, 10, 0), (1, 0, 9), (1, 10, 8)]
    assert "new" not in read_metrics(tmp_path / "metrics.csv")[0]


def test_a_new_column_does_not_lose_the_old_rows(tmp_path: Path) -> None:
    metrics = log(tmp_path)
    metrics.write(0, {"spread": 0.5})
    metrics.write(1, {"loss": 2.0, "spread": 0.4})
    metrics.write(2, {"loss": 1.0})
    assert read_metrics(tmp_path / "metrics.csv") == [
        {"seed": 0, "step": 0, "spread": 0.5},
        {"seed": 0, "step": 1, "loss": 2.0, "spread": 0.4},
        {"seed": 0, "step": 2, "loss": 1.0},
    ]


def test_a_last_line_that_a_crash_cut_off_is_left_out_wherever_it_was_cut(tmp_path: Path) -> None:
    metrics = log(tmp_path)
    for step in (0, 1000):
        metrics.write(step, {"loss": 1.25e-7, "spread": 0.123456})
    file = tmp_path / "metrics.csv"
    whole = file.read_bytes()
    last = whole.rstrip().rindex(b"\n") + 1
    for cut in range(last, len(whole) - 1):
        file.write_bytes(whole[:cut])
        rows = read_metrics(file)
        complete = {"seed": 0, "step": 1000, "loss": 1.25e-7, "spread": 0.123456}
        assert len(rows) == 1 or rows[1] == complete, whole[last:cut]
        again = log(tmp_path)
        again.write(2000, {"loss": 1.0, "spread": 0.5})
        assert [row["step"] for row in read_metrics(file)][-1] == 2000


def test_tensorboard_gets_the_same_numbers(tmp_path: Path) -> None:
    with MetricsLog(tmp_path) as metrics:
        metrics.write(0, {"loss": 1.5})
    assert list((tmp_path / "tensorboard" / "seed-0").glob("events*"))


# ------------------------------------------------------------------------------------------------- the folder


def test_runs_of_the_same_second_get_folders_of_their_own(tmp_path: Path) -> None:
    runs = [Run.create("recipe", root=tmp_path) for _ in range(3)]
    assert len({run.path for run in runs}) == 3
    assert all(run.path.parent == tmp_path / "recipe" and not list(run.path.iterdir()) for run in runs)


def test_a_file_in_the_way_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(OSError, match=r"run folder .*taken is a file; give another place with root=<folder>"):
        Run.at(tmp_path / "taken")
    with pytest.raises(OSError, match=r"run folder .*taken.* cannot be written to: .*give another place"):
        Run.create("recipe", root=tmp_path / "taken")


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Path, data: bytes) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_bytes", denied)
    with pytest.raises(OSError, match=r"cannot be written to: Permission denied; give another place with root="):
        Run.create("recipe", root=tmp_path)


def test_what_is_no_run_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"is no run folder: it has no config\.yaml"):
        Run.open(tmp_path)
    (tmp_path / "config.yaml").write_text("")
    assert Run.open(tmp_path).path == tmp_path


def test_seeds_have_checkpoints_of_their_own(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert run.checkpoints(0).folder != run.checkpoints(1).folder
