"""Pretrain VIME on the rows of a table, fit labels with and without its semi-supervised stage, and say what helped.

    python -m mmssl.recipes.tabular_vime                                    # breast cancer, 569 rows, two cores
    python -m mmssl.recipes.tabular_vime data.path=table.csv data.label=churned
    python -m mmssl.recipes.tabular_vime --config-dir recipes/tabular_vime --config-name adult data.root=<folder>

Measured results stand in recipes/tabular_vime/README.md.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from mmssl.recipes.command import command_line
from mmssl.recipes.experiment import Sizes
from mmssl.recipes.table_scores import Floats, Rows, Semi
from mmssl.recipes.tabular import TableRecipe, TabularConfig, hold_out, run_tabular
from mmssl.tabular.dataset import TableSource
from mmssl.tabular.stopping import Patience
from mmssl.tabular.vime import VIME, VIMESemi, corrupt, default_width
from mmssl.train.batches import ShuffledBatches, Source
from mmssl.train.fit import fit
from mmssl.train.optim import build_optimizer

PROTOCOL = "vime-semi/1"
LOOK_EVERY = 10  # steps of the semi-supervised stage from one look at the validation rows to the next


@dataclass
class MethodConfig:
    """VIME's self-supervised stage; the paper's settings."""

    rate: float = 0.3  # probability with which a cell is replaced
    alpha: float = 2.0  # weight of restoring the row beside finding the cells
    reference: str = "paper"  # or authors: the table is corrupted once for the whole training, as in their code


@dataclass
class SemiConfig:
    """VIME's semi-supervised stage; the paper's settings."""

    steps: int = 1_000  # at most; 0 leaves the stage out
    batch_size: int = 128  # labelled rows, and unlabelled ones
    lr: float = 1e-3
    hidden: int = 100  # width of the predictor's two layers
    corruptions: int = 3  # of each unlabelled row
    beta: float = 1.0  # weight of the variance of the predictions over them
    validation: float = 0.1  # share of the labelled rows that choose the step
    patience: int = 100  # steps without a better validation loss, ten at a time


@dataclass
class Config(TabularConfig):
    """All of the recipe's settings."""

    method: MethodConfig = field(default_factory=MethodConfig)
    semi: SemiConfig = field(default_factory=SemiConfig)


def main(cfg: Config) -> Path:
    """Pretrain, evaluate, report; returns the run folder."""
    return run_tabular(cfg, RECIPE)


def build(encoder: Any, cfg: Config, rows: Tensor, cardinalities: Sequence[int]) -> VIME:
    return VIME(encoder, cardinalities, rate=cfg.method.rate, alpha=cfg.method.alpha)


def settle(method: MethodConfig, sizes: Sizes) -> MethodConfig:
    if method.reference not in ("paper", "authors"):
        raise ValueError(f"method.reference must be paper or authors, got {method.reference!r}")
    return method


def source(cfg: Config, rows: Source, seed: int) -> Source:
    """Rows, or pairs of a row and what it was corrupted to before the training.

    Raises:
        ValueError: the table is not in memory, so that it cannot be corrupted as a whole.
    """
    if cfg.method.reference == "paper":
        return rows
    if not isinstance(rows, TableSource):
        raise ValueError(
            "method.reference=authors corrupts the whole table once, and this one is streamed: "
            "set data.in_memory=true, or method.reference=paper"
        )
    x = rows.x
    with torch.random.fork_rng([x.device] if x.device.type == "cuda" else []):
        torch.manual_seed(seed)
        return _Pairs(x, corrupt(x, cfg.method.rate))


def semi(cfg: Config) -> Semi | None:
    return partial(semi_supervised, cfg=cfg.semi, rate=cfg.method.rate) if cfg.semi.steps else None


def semi_supervised(
    encoder: nn.Module, rows: Rows, fabric: Fabric, seed: int, *, cfg: SemiConfig, rate: float
) -> tuple[str, Floats]:
    """Fit a predictor on the frozen encoder to labels, and to agree with itself on corrupted unlabelled rows.

    Of its steps the one with the least loss on held-out labelled rows counts, as in the authors' code.

    Returns:
        The protocol id, and probabilities ``(m, n_classes)`` of the test rows, or estimates ``(m,)``.
    """
    device = fabric.device
    held, learnt = hold_out(len(rows.y), cfg.validation, seed=seed)
    x = torch.from_numpy(rows.x).to(device)
    mean, std = (0.0, 1.0) if rows.n_classes is not None else (float(rows.y.mean()), float(rows.y.std()))
    y = torch.from_numpy(rows.y if rows.n_classes is not None else (rows.y - mean) / std).to(device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        method = VIMESemi(
            copy.deepcopy(encoder),  # type: ignore[arg-type]
            rows.n_classes,
            hidden=cfg.hidden,
            rate=rate,
            corruptions=cfg.corruptions,
            beta=cfg.beta,
        ).to(device)
        labelled = ShuffledBatches(_Pairs(x[learnt], y[learnt]), batch_size=cfg.batch_size, seed=seed)
        others = TableSource(torch.from_numpy(rows.unlabelled).to(device))
        unlabelled = ShuffledBatches(others, batch_size=cfg.batch_size, seed=seed + 1)

        def batches(first: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
            return ((*known, other) for known, other in zip(labelled(first), unlabelled(first), strict=False))

        optimizer = build_optimizer("adam", method.predictor.parameters(), lr=cfg.lr)
        waiting = Patience(max(1, cfg.patience // LOOK_EVERY))
        best = copy.deepcopy(method.predictor.state_dict())
        for state in fit(method, batches, optimizer=optimizer, steps=cfg.steps, fabric=fabric, log_every=LOOK_EVERY):
            if not state.metrics or not len(held):
                continue
            with torch.no_grad():
                loss = float(method.supervised(method.predict(x[held]), y[held]))
            stop = waiting.exhausted(loss)
            if loss == waiting.best:
                best = copy.deepcopy(method.predictor.state_dict())
            if stop:
                break
        if len(held):
            method.predictor.load_state_dict(best)
    with torch.no_grad():
        out = method.eval().predict(torch.from_numpy(rows.test).to(device))
    if rows.n_classes is None:
        return PROTOCOL, (out[:, 0] * std + mean).cpu().numpy().astype(np.float64)
    return PROTOCOL, out.softmax(dim=1).cpu().numpy()


class _Pairs:
    """Rows, each with its label or its corruption, on the device."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def fetch(self, index: np.ndarray) -> tuple[Tensor, Tensor]:
        rows = torch.from_numpy(index).to(self.x.device)
        return self.x[rows], self.y[rows]


RECIPE = TableRecipe(
    "tabular_vime",
    "VIME",
    sizes=lambda cardinalities: (default_width(cardinalities), 1),
    build=build,
    settle=settle,
    source=source,
    semi=semi,
)

if __name__ == "__main__":
    command_line(main, Config, prog=f"python -m mmssl.recipes.{RECIPE.name}")
