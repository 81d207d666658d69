"""wav2vec 2.0 and HuBERT on two gloo processes, clips of different lengths on each, against one with all clips."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.audio.across_ranks import METHODS, play
from tests.ranks import run_ranks

pytestmark = [pytest.mark.dist, pytest.mark.slow]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    folder = tmp_path_factory.mktemp("ranks")
    run_ranks("tests.audio.across_ranks", folder, count=2)
    return [torch.load(folder / f"{number}.pt") for number in range(2)]


@pytest.mark.parametrize("name", METHODS)
def test_loss_and_gradients_are_those_of_one_process(name: str, ranks: list[dict[str, dict[str, Tensor]]]) -> None:
    for key, expected in play(name).items():
        found = torch.stack([part[name][key] for part in ranks]).mean(dim=0)  # as Fabric does for what is logged
        assert torch.allclose(found, expected, atol=1e-5, rtol=1e-4), key
