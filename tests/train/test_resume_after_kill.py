"""A run that SIGKILL ended goes on to the same bits as one that nobody touched."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mmssl.recipes.timeseries_ts2vec import Config, DataConfig, ModelConfig, TrainConfig, main

pytestmark = pytest.mark.slow
STEPS, EVERY = 12, 5


def config(folder: Path) -> Config:
    return Config(
        data=DataConfig(path=str(folder / "series.npy")),
        model=ModelConfig(dim=8, hidden=4, depth=2),
        train=TrainConfig(
            steps=STEPS, seeds=2, batch_size=4, log_every=2, checkpoint_every=EVERY, schedule="cosine", device="cpu"
        ),
        root=str(folder / "runs"),
    )


def kill_during(moment: str) -> None:
    """Arrange for this process to be killed, without any chance to tidy up."""
    import os

    from mmssl.train import checkpoint
    from mmssl.train.run import MetricsLog

    def kill() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    flush, write = checkpoint._flush, MetricsLog.write
    checkpoints = 0

    def flush_or_die(path: Path) -> None:
        nonlocal checkpoints
        checkpoints += path.suffix == ".part"
        if moment == "second checkpoint" and checkpoints == 2:
            kill()  # it is written in full, but not yet in its place
        flush(path)

    def write_or_die(self: MetricsLog, step: int, metrics: dict[str, float]) -> None:
        if (moment, self.seed, step) == ("half a row", 0, 8):
            with self.file.open("a") as file:
                file.write("0,8,1.2")
            kill()
        write(self, step, metrics)
        if (moment, self.seed, step) in (("no checkpoint yet", 0, 4), ("second seed", 1, 8)):
            kill()

    checkpoint._flush = flush_or_die
    MetricsLog.write = write_or_die  # type: ignore[method-assign]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kill")
    rng = np.random.default_rng(0)
    series = np.cumsum(rng.normal(size=(20, 40, 2)), axis=1).astype(np.float32)
    series[3, 30:] = series[5, 10] = np.nan
    np.save(folder / "series.npy", series)
    return folder


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    return main(config(folder))


def log(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("moment", ["no checkpoint yet", "half a row", "second checkpoint", "second seed"])
def test_a_killed_run_resumes_to_the_bits_of_an_uninterrupted_one(folder: Path, whole: Path, moment: str) -> None:
    before = set((folder / "runs" / "timeseries_ts2vec").iterdir())
    done = subprocess.run(
        [sys.executable, __file__, str(folder), moment], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    (run,) = set((folder / "runs" / "timeseries_ts2vec").iterdir()) - before
    assert not (run / "results.json").exists()
    assert main(Config(resume=str(run))) == run
    assert log(run) == log(whole)
    assert [row["step"] for row in log(run)] == 2 * [str(step) for step in range(0, STEPS + 1, 2)]
    ours, theirs = (load_file(path / "encoder.safetensors") for path in (run, whole))
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    left = [load_file(path / "checkpoint" / "seed-1" / f"step-{STEPS:010d}.safetensors") for path in (run, whole)]
    differ = [name for name in left[0] if not torch.equal(left[0][name], left[1][name])]
    assert [name for name in differ if not name.startswith(("generator.numpy", "generator.python"))] == []  # not ours


if __name__ == "__main__":
    kill_during(sys.argv[2])
    main(config(Path(sys.argv[1])))
