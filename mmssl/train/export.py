"""The encoder that leaves a run: weights in safetensors, everything else in JSON; nothing is unpickled."""

from __future__ import annotations

import importlib
import json
import os
import platform
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import mmssl
from mmssl.core.types import Embedder

FORMAT = 1  # of encoder.json


class Exportable(Embedder, Protocol):
    """An embedder that can be written and read again."""

    @property
    def encoder(self) -> nn.Module: ...

    def state(self) -> dict[str, Any]: ...  # JSON: builder arguments and preprocessor

    @classmethod
    def from_state(cls, state: dict[str, Any], weights: dict[str, Tensor], device: str) -> Embedder: ...


def save_embedder(folder: str | os.PathLike[str], embedder: Exportable) -> None:
    """Write ``encoder.safetensors`` and ``encoder.json`` into ``folder``."""
    folder = Path(folder)
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in embedder.encoder.state_dict().items()}
    kind = type(embedder)
    description = {
        "format": FORMAT,
        "embedder": f"{kind.__module__}:{kind.__qualname__}",
        "dim": embedder.dim,
        **embedder.state(),
        "versions": versions(),
    }
    save_file(weights, folder / "encoder.safetensors")
    (folder / "encoder.json").write_text(json.dumps(description, indent=1, allow_nan=False) + "\n")


def load_embedder(folder: str | os.PathLike[str], *, device: str = "cpu") -> Embedder:
    """What `save_embedder` wrote; see `mmssl.load`."""
    folder = Path(folder)
    description_file, weights_file = folder / "encoder.json", folder / "encoder.safetensors"
    for file in (description_file, weights_file):
        if not file.exists():
            raise FileNotFoundError(
                f"{folder} has no {file.name}: it is no finished run. The encoder is written when the pretraining is "
                "done; go on with resume=<run>"
            )
    try:
        description = json.loads(description_file.read_text())
        weights = load_file(weights_file)
    except (json.JSONDecodeError, SafetensorError) as error:
        raise ValueError(f"the encoder in {folder} is damaged: {error}") from error
    if description.get("format") != FORMAT:
        raise ValueError(
            f"{description_file} has format {description.get('format')!r}, mmssl {mmssl.__version__} reads {FORMAT}"
        )
    module, _, name = description["embedder"].partition(":")
    if module.split(".")[0] != "mmssl":
        raise ValueError(f"{description_file} asks for {description['embedder']!r}, which is not a part of mmssl")
    kind: type[Exportable] = getattr(importlib.import_module(module), name)
    return kind.from_state(description, weights, device)


def versions() -> dict[str, str]:
    """Of what the numbers of a run depend on."""
    return {
        "mmssl": mmssl.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
