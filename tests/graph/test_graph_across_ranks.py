"""Losses of graphs on two gloo processes, with unequal numbers of masked nodes, against one with all of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.graph.across_ranks import LOSSES, play

pytestmark = [pytest.mark.dist, pytest.mark.slow]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    folder = tmp_path_factory.mktemp("ranks")
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.graph.across_ranks", folder, str(number)],
            cwd=Path(__file__).parents[2],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        )
        for number in range(2)
    ]
    try:
        errors = [process.communicate(timeout=180)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
    return [torch.load(folder / f"{number}.pt") for number in range(2)]


@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradients_are_those_of_one_process(name: str, ranks: list[dict[str, dict[str, Tensor]]]) -> None:
    for key, expected in play(name).items():
        found = torch.stack([part[name][key] for part in ranks]).mean(dim=0)  # as Fabric does for what is logged
        assert torch.allclose(found, expected, atol=1e-5, rtol=1e-4), key
