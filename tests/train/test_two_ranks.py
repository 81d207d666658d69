"""Two gloo processes do what one does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mmssl.train.fit import setup_fabric
from mmssl.train.run import read_metrics
from tests.train.two_ranks import PADDED, gradients, series, three_steps, ts2vec

pytestmark = [pytest.mark.dist, pytest.mark.slow]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launcher, "-m", "tests.train.two_ranks", folder],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def ranks(folder: Path) -> list[dict[str, Any]]:
    return [torch.load(folder / f"rank-{i}.pt") for i in range(2)]


def test_gather_puts_the_ranks_one_after_the_other_and_sums_their_gradients(ranks: list[dict[str, Any]]) -> None:
    assert [out["world"] for out in ranks] == [2, 2]
    x = torch.arange(6.0).view(3, 2)
    pull = torch.arange(12.0).view(6, 2) * 3  # of both ranks: once and twice
    for i, out in enumerate(ranks):
        assert torch.equal(out["gathered"], torch.cat([x, x + 10]))
        assert torch.equal(out["pulled"], pull[3 * i : 3 * i + 3])


@pytest.mark.parametrize("padded", PADDED)
def test_loss_and_gradient_of_a_shared_out_batch_are_those_of_one_process(
    ranks: list[dict[str, Any]], padded: str
) -> None:
    loss, gradient = gradients(ts2vec(), series(6, PADDED[padded]))
    for out in ranks:
        torch.testing.assert_close(out[padded][0], loss, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(out[padded][1], gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_three_steps_end_at_the_same_weights(ranks: list[dict[str, Any]], accumulate: int) -> None:
    alone = three_steps(setup_fabric(device="cpu"), accumulate)
    for out in ranks:
        two = out[f"steps {accumulate}"]
        for name, value in alone.items():
            torch.testing.assert_close(two[name], value, rtol=1e-5, atol=1e-5, msg=name)


def test_ranks_stay_equal_bit_for_bit_and_draw_apart(ranks: list[dict[str, Any]]) -> None:
    for key in ("steps 1", "steps 2"):
        for name, value in ranks[0][key].items():
            assert torch.equal(value, ranks[1][key][name]), name
    assert ranks[0]["ranks draw apart"]


def test_a_signal_to_one_rank_stops_all_of_them_at_one_step(ranks: list[dict[str, Any]]) -> None:
    assert ranks[0]["stopped"][0] == ranks[1]["stopped"][0]
    assert ranks[0]["stopped"][0][-1] == -1
    assert ranks[0]["stopped"][0][-2] < 12


def test_a_stopped_run_on_two_ranks_resumes_to_the_same_bits(ranks: list[dict[str, Any]]) -> None:
    for out in ranks:
        steps, state = out["resumed"]
        assert steps[0] == out["stopped"][0][-2] + 1
        assert steps[-1] == 12
        assert [name for name in state if not torch.equal(state[name], out["whole"][1][name])] == []


def test_the_recipe_leaves_one_run_with_every_row_once(ranks: list[dict[str, Any]], folder: Path) -> None:
    (run,) = (folder / "runs" / "timeseries_ts2vec").iterdir()
    rows = read_metrics(run / "metrics.csv")
    assert [(row["seed"], row["step"]) for row in rows] == [(seed, step) for seed in (0, 1) for step in (0, 2, 4, 6)]
    for name in ("encoder.safetensors", "results.json", "report.html", "embeddings.parquet"):
        assert (run / name).exists(), name
