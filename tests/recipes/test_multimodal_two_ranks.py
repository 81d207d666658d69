"""The image–text recipes by torchrun on two gloo processes do what one process does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mmssl.train.run import read_metrics
from tests.multimodal.samples import write_table

pytestmark = [pytest.mark.dist, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
ENV = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
ALIKE = [  # nothing is drawn that two processes would draw otherwise, or normalised over a part of the batch
    *("model.name=vit", "model.patch=4", "model.width=16", "model.depth=1", "model.heads=2", "model.dim=8"),
    *("text.width=16", "text.depth=1", "text.heads=2", "text.dropout=0"),
    *("views.crop=[1,1]", "views.jitter_p=0", "views.words=0"),
    *("train.batch_size=8", "train.device=cpu", "evaluate.controls=[]"),
]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("pairs"), 36)


def run(recipe: str, table: Path, out: Path, *settings: str, ranks: int) -> Path:
    """A run to its end; its folder."""
    launcher = TORCHRUN if ranks > 1 else [sys.executable]
    line = [*launcher, "-m", f"mmssl.recipes.{recipe}", f"root={out}", f"data.path={table}", *ALIKE, *settings]
    done = subprocess.run(line, cwd=ROOT, env=ENV, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    (folder,) = (out / recipe).iterdir()
    return folder


@pytest.mark.parametrize(
    ("recipe", "more"),
    [
        ("multimodal_clip", ["method.chunks=2"]),
        ("multimodal_siglip", ["train.accumulate=2"]),
    ],
)
def test_two_processes_train_what_one_does(recipe: str, more: list[str], table: Path, tmp_path: Path) -> None:
    # Adam would make steps of what is rounding alone, such as the gradient of the keys' biases
    steps = ["train.steps=4", "train.log_every=1", "train.optimizer=sgd", "train.lr=0.1", *more]
    runs = [run(recipe, table, tmp_path / str(ranks), *steps, ranks=ranks) for ranks in (1, 2)]
    one, two = (read_metrics(folder / "metrics.csv") for folder in runs)
    assert [row["step"] for row in two] == [0, 1, 2, 3, 4]  # every row once
    for name in ("loss", "collapse_loss", "scale"):
        assert [row[name] for row in two[1:]] == pytest.approx([row[name] for row in one[1:]], rel=1e-5)
    weights = [load_file(folder / "encoder.safetensors") for folder in runs]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-4, atol=1e-5, msg=name)
    for file in ("results.json", "report.html", "embeddings.parquet"):
        assert (runs[1] / file).exists()
