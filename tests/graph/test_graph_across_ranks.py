"""Losses of graphs on two gloo processes, with unequal numbers of masked nodes, against one with all of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.graph.across_ranks import LOSSES, play
from tests.ranks import run_ranks

pytestmark = [pytest.mark.dist, pytest.mark.slow]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    folder = tmp_path_factory.mktemp("ranks")
    run_ranks("tests.graph.across_ranks", folder, count=2)
    return [torch.load(folder / f"{number}.pt") for number in range(2)]


@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradients_are_those_of_one_process(name: str, ranks: list[dict[str, dict[str, Tensor]]]) -> None:
    for key, expected in play(name).items():
        found = torch.stack([part[name][key] for part in ranks]).mean(dim=0)  # as Fabric does for what is logged
        assert torch.allclose(found, expected, atol=1e-5, rtol=1e-4), key
