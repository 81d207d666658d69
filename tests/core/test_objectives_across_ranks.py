"""Every objective on two and four gloo processes against one process with the joined batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.core.across_ranks import LOSSES, OBJECTIVES, everything
from tests.ranks import run_ranks

pytestmark = [pytest.mark.dist, pytest.mark.slow]
Found = dict[str, dict[str, Tensor]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    run_ranks("tests.core.across_ranks", folder, count=4)
    return folder


@pytest.fixture(scope="module")
def alone() -> Found:
    return everything()


@pytest.fixture(scope="module", params=[2, 4])
def ranks(folder: Path, request: pytest.FixtureRequest) -> list[Found]:
    return [torch.load(folder / f"{number}-of-{request.param}.pt") for number in range(request.param)]


def assert_close(found: Tensor, expected: Tensor, what: str) -> None:
    difference = (found - expected).double().norm()
    assert difference <= 1e-5 * expected.double().norm() + 1e-7, f"{what}: {difference}"


@pytest.mark.parametrize("name", [*OBJECTIVES, *LOSSES, "towers with CLIP", "towers with SigLIP"])
def test_loss_and_gradients_are_those_of_one_process(alone: Found, ranks: list[Found], name: str) -> None:
    for key, expected in alone[name].items():
        if key.startswith(("loss", "gradient of")):  # DDP averages both
            assert_close(torch.stack([out[name][key] for out in ranks]).mean(dim=0), expected, key)
        elif key.startswith("gradient"):  # of the embeddings: what reaches the weights is averaged over ranks
            assert_close(torch.cat([out[name][key] for out in ranks], dim=1) / len(ranks), expected, key)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_queues_centres_and_prototypes_are_those_of_one_process_and_equal_on_all_ranks(
    alone: Found, ranks: list[Found], name: str
) -> None:
    for key, expected in alone[name].items():
        if "after step" in key:
            assert_close(ranks[0][name][key], expected, key)
            assert all(torch.equal(out[name][key], ranks[0][name][key]) for out in ranks)


def test_a_skipped_step_changes_nothing(alone: Found) -> None:
    for name in OBJECTIVES:
        for key, value in alone[name].items():
            if key.endswith("after step 1") and "progress" not in key:
                assert torch.equal(value, alone[name][key.replace("1", "0")]), f"{name}: {key}"


def test_assignments_are_balanced_over_all_ranks(alone: Found, ranks: list[Found]) -> None:
    rows = torch.cat([out["sinkhorn"]["rows"] for out in ranks])
    assert_close(rows, alone["sinkhorn"]["rows"], "assignments")
