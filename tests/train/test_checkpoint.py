"""Checkpoints come back bit for bit, and a damaged or unwritable one costs nothing but itself."""

from __future__ import annotations

import random
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from mmssl.train import checkpoint
from mmssl.train.checkpoint import Checkpoints
from tests.train.small import Small, adamw, everything, numbered, same


def trained(steps: int = 3, *, fused: bool = True, **options: Any) -> tuple[Small, torch.optim.Optimizer]:
    method = Small(**options)
    optimizer = adamw(method, fused=fused)
    go_on(method, optimizer, steps)
    return method, optimizer


def go_on(method: Small, optimizer: torch.optim.Optimizer, steps: int, first: int = 0) -> None:
    source = numbered()(first)
    for _ in range(steps):
        method(next(source))["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        method.after_step(0.5, torch.tensor(False))


@pytest.mark.parametrize("fused", [True, False])
def test_method_and_optimiser_come_back_bit_for_bit(tmp_path: Path, fused: bool) -> None:
    method, optimizer = trained(fused=fused, conv=True)
    Checkpoints(tmp_path).save(3, method, optimizer)
    other, again = trained(1, fused=fused, conv=True, seed=5)
    assert Checkpoints(tmp_path).load(other, again) == 3
    assert same(everything(other, again), everything(method, optimizer)) == []
    go_on(other, again, 4, first=3)
    Checkpoints(tmp_path).load(Small(conv=True), adamw(Small(conv=True)))  # the generators only
    go_on(method, optimizer, 4, first=3)
    assert same(everything(other, again), everything(method, optimizer)) == []


def test_channels_last_weights_keep_their_layout_and_train_to_the_same_bits(tmp_path: Path) -> None:
    method, optimizer = trained(conv=True, noise=0)
    Checkpoints(tmp_path).save(3, method, optimizer)
    other = Small(conv=True, noise=0, seed=1)
    again = adamw(other)
    Checkpoints(tmp_path).load(other, again)
    conv = next(p for p in other.encoder.parameters() if p.ndim == 4)
    assert conv.is_contiguous(memory_format=torch.channels_last)
    assert again.state[conv]["exp_avg"].stride() == conv.stride()
    for m, o in ((method, optimizer), (other, again)):
        go_on(m, o, 5, first=3)
    assert same(everything(other, again), everything(method, optimizer)) == []


def test_generators_of_torch_numpy_and_python_go_on_where_they_were(tmp_path: Path) -> None:
    method, optimizer = trained()
    random.gauss()  # leaves a second number waiting, as numpy's does
    np.random.standard_normal()  # noqa: NPY002 - the global generator that users' code may draw from

    def drawn() -> list[float]:
        numbers = [random.gauss(), random.random(), np.random.standard_normal(), np.random.random()]  # noqa: NPY002
        return [*numbers, float(torch.randn(()))]

    Checkpoints(tmp_path).save(1, method, optimizer)
    expected = drawn()
    drawn()
    Checkpoints(tmp_path).load(method, optimizer)
    assert drawn() == expected


def test_saving_draws_nothing(tmp_path: Path) -> None:
    method, optimizer = trained()
    before = everything(method, optimizer), torch.get_rng_state(), random.getstate()
    Checkpoints(tmp_path).save(1, method, optimizer)
    assert same(everything(method, optimizer), before[0]) == []
    assert torch.equal(torch.get_rng_state(), before[1])
    assert random.getstate() == before[2]


def test_learning_rate_and_other_numbers_of_the_optimiser_come_back(tmp_path: Path) -> None:
    method, optimizer = trained()
    optimizer.param_groups[0] |= {"lr": 0.123, "base_lr": 0.5, "betas": (0.8, 0.99)}
    Checkpoints(tmp_path).save(1, method, optimizer)
    other, again = trained(seed=1)
    Checkpoints(tmp_path).load(other, again)
    group = again.param_groups[0]
    assert (group["lr"], group["base_lr"], tuple(group["betas"])) == (0.123, 0.5, (0.8, 0.99))


def test_without_a_checkpoint_nothing_happens(tmp_path: Path) -> None:
    method, optimizer = trained()
    before = everything(method, optimizer)
    assert Checkpoints(tmp_path / "none").load(method, optimizer) == 0
    assert same(everything(method, optimizer), before) == []


def test_the_newest_are_kept_and_the_others_go(tmp_path: Path) -> None:
    method, optimizer = trained()
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 30, 4000):
        checkpoints.save(step, method, optimizer)
    assert [file.name for file in checkpoints.files()] == ["step-0000000030.safetensors", "step-0000004000.safetensors"]
    assert checkpoints.step() == 4000
    with pytest.raises(ValueError, match="keep must be at least 2"):
        Checkpoints(tmp_path, keep=1)


@pytest.mark.parametrize("damage", ["truncated", "empty", "header", "foreign"])
def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(tmp_path: Path, damage: str) -> None:
    method, optimizer = trained()
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, method, optimizer)
    expected = everything(method, optimizer)
    go_on(method, optimizer, 2)
    checkpoints.save(3, method, optimizer)
    newest = checkpoints.files()[-1]
    data = newest.read_bytes()
    if damage == "foreign":
        from safetensors.torch import save_file

        save_file({"x": torch.zeros(2)}, newest)
    else:
        newest.write_bytes(
            {"truncated": data[: len(data) // 2], "empty": b"", "header": b"\xff" * 20 + data[20:]}[damage]
        )
    other, again = trained(seed=1)
    with pytest.warns(UserWarning, match=r"step-0000000003\.safetensors is damaged .*going back to the one before"):
        assert checkpoints.load(other, again) == 1
    assert same(everything(other, again), expected) == []


def test_only_damaged_checkpoints_are_an_error_that_names_them(tmp_path: Path) -> None:
    method, optimizer = trained()
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(step, method, optimizer)
    for file in checkpoints.files():
        file.write_bytes(file.read_bytes()[:100])
    with (
        pytest.warns(UserWarning, match="is damaged"),
        pytest.raises(ValueError, match=r"all checkpoints in .* are damaged: step-0000000001.*, step-0000000002"),
    ):
        checkpoints.load(method, optimizer)


def test_another_model_is_an_error_that_says_so(tmp_path: Path) -> None:
    Checkpoints(tmp_path).save(1, *trained())
    other, again = trained(conv=True)
    with pytest.raises(ValueError, match="the checkpoint belongs to another model or configuration"):
        Checkpoints(tmp_path).load(other, again)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("I/O error: no space")])
@pytest.mark.parametrize("earlier", [True, False])
def test_a_checkpoint_that_cannot_be_written_leaves_the_earlier_one_and_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, earlier: bool
) -> None:
    method, optimizer = trained()
    checkpoints = Checkpoints(tmp_path / "here")
    if earlier:
        checkpoints.save(1, method, optimizer)
    before = [(file.name, file.read_bytes()) for file in checkpoints.files()]

    def half(tensors: object, path: Path, **_: object) -> None:
        Path(path).write_bytes(b"half")
        raise error

    monkeypatch.setattr(checkpoint, "save_file", half)
    kept = r"step-0000000001\.safetensors is untouched" if earlier else "there is no earlier one"
    with pytest.raises(OSError, match=rf"step-0000000002\.safetensors could not be written: .*pace.*; {kept}"):
        checkpoints.save(2, method, optimizer)
    assert [(file.name, file.read_bytes()) for file in checkpoints.folder.iterdir()] == before


def test_a_folder_that_cannot_be_made_is_an_error_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        Checkpoints(tmp_path / "file" / "seed-0").save(1, *trained())


DISK_FULL = """
import resource, signal, sys
from pathlib import Path
from tests.train.test_checkpoint import Checkpoints, trained
method, optimizer = trained()
checkpoints = Checkpoints(sys.argv[1])
checkpoints.save(1, method, optimizer)
size = checkpoints.files()[0].stat().st_size
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails instead, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, resource.RLIM_INFINITY))
try:
    checkpoints.save(2, method, optimizer)
except OSError as error:
    print(error)
print(sorted(file.name for file in Path(sys.argv[1]).iterdir()))
print(checkpoints.load(method, optimizer))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no such limit here")
def test_a_real_write_that_fails_half_way_leaves_the_earlier_checkpoint(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DISK_FULL, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    message, files, step = done.stdout.splitlines()
    assert "could not be written" in message
    assert "step-0000000001.safetensors is untouched" in message
    assert files == "['step-0000000001.safetensors']"
    assert step == "1"


def test_tensors_that_share_memory_are_written_all_the_same(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Linear(3, 3)
            self.same = self.encoder

    method = Tied()
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9)
    Checkpoints(tmp_path).save(1, method, optimizer)
    assert Checkpoints(tmp_path).load(method, optimizer) == 1
