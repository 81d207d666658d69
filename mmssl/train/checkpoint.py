"""Checkpoints: everything that a run needs to go on as if it had never stopped, in one safetensors file each.

No pickle: tensors are tensors, the rest is JSON in the file's header. A file appears under its name only when it is
complete on disk, and the one before is kept until then.
"""

from __future__ import annotations

import json
import os
import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mmssl.core.distributed import gather, rank, world_size


class Checkpoints:
    """The checkpoints of one run, newest last.

    Args:
        folder: created when the first one is written.
        keep: how many to keep; at least 2, so that a damaged file is not the end.
    """

    def __init__(self, folder: str | os.PathLike[str], *, keep: int = 2) -> None:
        if keep < 2:
            raise ValueError(f"keep must be at least 2 so that one can be damaged, got {keep}")
        self.folder = Path(folder)
        self.keep = keep

    def files(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.safetensors"))

    def step(self) -> int:
        """Step of the newest checkpoint, damaged or not; 0 if there is none."""
        files = self.files()
        return int(files[-1].stem.removeprefix("step-")) if files else 0

    def save(self, step: int, method: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Write a checkpoint; all ranks must call it, rank 0 writes.

        Raises:
            OSError: it could not be written; the earlier checkpoints are untouched.
        """
        generators = _generators()
        tensors = {f"method.{name}": value for name, value in method.state_dict().items()}
        saved = optimizer.state_dict()
        for i, state in saved["state"].items():
            for name, value in state.items():
                tensors[f"optimizer.{i}.{name}"] = torch.as_tensor(value)
        tensors |= {f"generator.{name}": value for name, value in generators.items()}
        if rank() > 0:
            return
        header = {"step": step, "world_size": world_size(), "param_groups": saved["param_groups"]}
        self.folder.mkdir(parents=True, exist_ok=True)
        final = self.folder / f"step-{step:010d}.safetensors"
        part = final.with_suffix(".part")
        try:
            own = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
            save_file(own, part, metadata={"mmssl": json.dumps(header)})
            _flush(part)
            os.replace(part, final)
            _flush(self.folder)
        except (OSError, SafetensorError) as error:
            part.unlink(missing_ok=True)
            kept = f"{self.files()[-1].name} is untouched" if self.files() else "there is no earlier one"
            raise OSError(f"checkpoint {final} could not be written: {error}; {kept}") from error
        for old in self.files()[: -self.keep]:
            old.unlink()

    def load(self, method: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Put the newest readable checkpoint into ``method``, ``optimizer`` and the random generators.

        Returns:
            The step it was written after; 0 if there is none.

        Raises:
            ValueError: there are checkpoints, and all are damaged; or they belong to another model.
        """
        files = self.files()
        for file in reversed(files):
            try:
                header, tensors = _read(file)
            except (SafetensorError, OSError, ValueError, KeyError) as error:
                warnings.warn(f"checkpoint {file} is damaged ({error}); going back to the one before", stacklevel=2)
                continue
            _restore(header, tensors, method, optimizer)
            return int(header["step"])
        if files:
            raise ValueError(f"all checkpoints in {self.folder} are damaged: {', '.join(f.name for f in files)}")
        return 0


def _read(file: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    with safe_open(file, framework="pt") as opened:
        header = json.loads((opened.metadata() or {})["mmssl"])
        return header, {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a dict


def _restore(
    header: dict[str, Any], tensors: dict[str, Tensor], method: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    try:
        method.load_state_dict(_under("method.", tensors))
    except RuntimeError as error:
        raise ValueError(f"the checkpoint belongs to another model or configuration: {error}") from error
    params = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _under("optimizer.", tensors).items():
        i, key = name.split(".", 1)
        param = params[int(i)]
        if value.shape == param.shape:  # in the memory layout of its parameter, as the fused optimisers expect
            value = torch.empty_like(param, dtype=value.dtype).copy_(value)
        state.setdefault(int(i), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": header["param_groups"]})
    if header["world_size"] != world_size():
        warnings.warn(
            f"the run was on {header['world_size']} processes and goes on with {world_size()}: "
            "it will be as good, but not the same bit for bit",
            stacklevel=3,
        )
        return
    _set_generators(_under("generator.", tensors))


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _generators() -> dict[str, Tensor]:
    """States of the random generators that code may draw from; one row a rank."""
    version, words, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002 - users' code
    assert version == 3
    assert kind == "MT19937"
    states = {
        "torch": torch.get_rng_state(),
        "python": torch.tensor(words, dtype=torch.int64),
        "python_gauss": torch.tensor([float("nan") if gauss is None else gauss], dtype=torch.float64),
        "numpy": torch.from_numpy(np.concatenate([keys, [position, has_gauss]]).astype(np.int64)),
        "numpy_gauss": torch.tensor([cached], dtype=torch.float64),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    device = "cuda" if world_size() > 1 and torch.distributed.get_backend() == "nccl" else "cpu"
    return {name: gather(state[None].to(device)).cpu() for name, state in states.items()}


def _set_generators(states: dict[str, Tensor]) -> None:
    own = {name: state[rank()].clone() for name, state in states.items()}  # torch reads a view from its base
    torch.set_rng_state(own["torch"])
    gauss = float(own["python_gauss"][0])
    random.setstate((3, tuple(own["python"].tolist()), None if gauss != gauss else gauss))
    words = own["numpy"].numpy()
    np.random.set_state(  # noqa: NPY002
        ("MT19937", words[:-2].astype(np.uint32), int(words[-2]), int(words[-1]), float(own["numpy_gauss"][0]))
    )
    if "cuda" in own and torch.cuda.is_available():
        torch.cuda.set_rng_state(own["cuda"])


def _flush(path: Path) -> None:
    """Onto the disk, so that a power cut cannot leave a name without its content."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
