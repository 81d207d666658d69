"""Which pretraining helps on which table, from how many labels? Every method is fine-tuned, boosted trees stand beside.

    python -m mmssl.recipes.tabular_compare 'names=[adult]' root=<folder of tables> out=adult.csv
    python -m mmssl.recipes.tabular_compare --config-dir recipes/tabular_compare --config-name pmlb root=<folder>

Each result is a line of a CSV file as soon as it is known. The same command goes on where it was stopped.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import numpy as np
from lightning_fabric import Fabric
from torch import nn

from mmssl.eval.evaluate import BOOSTED
from mmssl.recipes import session, tabular_scarf, tabular_vime
from mmssl.recipes.command import command_line
from mmssl.recipes.scores import Task
from mmssl.recipes.table_scores import FineTuneConfig, Floats, boosted, fewest_labels, fine_tuned, task_and_rows
from mmssl.recipes.tabular import ModelConfig, StoppingConfig, TableRecipe, TabularConfig, experiment, train_config
from mmssl.recipes.tabular_vime import SemiConfig, semi_supervised
from mmssl.recipes.training import TrainConfig
from mmssl.tabular.cells import FlatCells
from mmssl.tabular.dataset import DataConfig, TableData, load_data
from mmssl.tabular.vime import RATE
from mmssl.train.fit import setup_fabric
from mmssl.train.run import Run

METHODS = ("scratch", "scarf", "vime", "boosting")
PREDICTORS = ("vime-semi", "mlp")  # VIME's second stage, and its predictor fitted to the columns and labels alone
RECIPES: dict[str, tuple[TableRecipe, type[TabularConfig]]] = {
    "scarf": (tabular_scarf.RECIPE, tabular_scarf.Config),
    "vime": (tabular_vime.RECIPE, tabular_vime.Config),
}


@dataclass
class Config:
    """All of the comparison's settings. A table without a test part of its own is split anew for every seed."""

    names: list[str] = field(default_factory=lambda: ["breast_cancer"])
    root: str | None = None  # folder of public tables on disk
    methods: list[str] = field(default_factory=lambda: list(METHODS))  # also vime-semi and mlp, its supervised baseline
    rows: int | None = None  # of the training part, drawn anew for each seed where there are more; None: all
    shares: list[float] = field(default_factory=lambda: [1.0])  # of the labels of these rows, one a class at least
    seeds: int = 5
    model: ModelConfig = field(default_factory=lambda: ModelConfig(hidden=256, depth=4))  # the same for all methods
    train: TrainConfig = field(default_factory=train_config)
    stopping: StoppingConfig = field(default_factory=StoppingConfig)
    scarf: tabular_scarf.MethodConfig = field(default_factory=tabular_scarf.MethodConfig)
    vime: tabular_vime.MethodConfig = field(default_factory=tabular_vime.MethodConfig)
    finetune: FineTuneConfig = field(default_factory=FineTuneConfig)
    semi: SemiConfig = field(default_factory=SemiConfig)
    out: str = "compare.csv"
    work: str = "runs/tabular_compare"  # folder of the pretrained encoders


@dataclass(frozen=True)
class Row:
    """A line of the file.

    Args:
        table: name of the data.
        share: of the training labels.
        seed: of weights, batches, split and labels.
        method: one of `METHODS` or `PREDICTORS`.
        protocol: versioned id of how labels were fitted.
        metric: ``"auc"``, ``"accuracy"`` or ``"r2"``.
        value: on the test rows.
        n_train: labelled rows used.
        n_test: test rows.
    """

    table: str
    share: float
    seed: int
    method: str
    protocol: str
    metric: str
    value: float
    n_train: int
    n_test: int


def main(cfg: Config) -> Path:
    """Everything that the file lacks; returns its path."""
    if unknown := [name for name in cfg.methods if name not in METHODS + PREDICTORS]:
        raise ValueError(f"unknown methods {unknown}; there are {[*METHODS, *PREDICTORS]}")
    if wrong := [share for share in cfg.shares if not 0 < share <= 1]:
        raise ValueError(f"shares must lie between 0 and 1, got {wrong}")
    fabric = setup_fabric(device=cfg.train.device, precision=cfg.train.precision)  # type: ignore[arg-type]
    out = Path(cfg.out)
    for name in cfg.names:
        for seed in range(cfg.train.seed, cfg.train.seed + cfg.seeds):
            done = {(row.share, row.method) for row in read_rows(out) if (row.table, row.seed) == (name, seed)}
            wanted = [method for method in cfg.methods if any((share, method) not in done for share in cfg.shares)]
            if not wanted:
                continue
            data = bounded(load_data(DataConfig(name=name, root=cfg.root), seed=seed), cfg.rows, seed)
            for method in wanted:
                shares = [share for share in cfg.shares if (share, method) not in done]
                for row in compared(replace(cfg, shares=shares), data, method, seed=seed, fabric=fabric):
                    _append(out, row)
                    print(f"{row.table}, {row.share:.0%} of the labels, seed {row.seed}, {row.method}: "
                          f"{row.metric} {row.value:.4f}", flush=True)  # fmt: skip
    print("\n" + win_matrix(read_rows(out)))
    return out


def bounded(data: TableData, rows: int | None, seed: int) -> TableData:
    """At most so many training rows; scales and vocabularies stay those of all of them."""
    if rows is None or len(data.train) <= rows:
        return data
    chosen = np.sort(np.random.default_rng(seed).choice(len(data.train), rows, replace=False))
    return replace(data, train=data.train.select(chosen))


def compared(cfg: Config, data: TableData, method: str, *, seed: int, fabric: Fabric) -> Iterator[Row]:
    """One method at every share of the labels."""
    cardinalities = data.preprocessor.cardinalities
    encoder = FlatCells(cardinalities) if method in ("boosting", "mlp") else _encoder(cfg, data, method, seed, fabric)
    assert data.test is not None
    for share in cfg.shares:
        labels = max(fewest_labels(data), round(share * len(data.train.labelled)))
        task, rows = task_and_rows(data, labels=labels, seed=seed)
        scored: Iterable[tuple[str, Floats]]
        if method == "boosting":
            scored = [(BOOSTED, boosted(rows, cardinalities))]
        elif method == "vime-semi":
            scored = [semi_supervised(encoder, rows, fabric, seed, cfg=cfg.semi, rate=RATE)]
        elif method == "mlp":
            alone = replace(cfg.semi, beta=0.0)
            scored = [("mlp/1", semi_supervised(encoder, rows, fabric, seed, cfg=alone, rate=RATE)[1])]
        else:
            scored = fine_tuned(encoder, rows, cfg.finetune, fabric=fabric, seed=seed)
        for protocol, outputs in scored:
            value = _value(task, outputs)
            yield Row(data.name, share, seed, method, protocol, task.measure.id, value, len(rows.y), len(task.test_y))


def win_matrix(rows: list[Row]) -> str:
    """On how many tables a method is ahead of another, by the mean over seeds, for each share of the labels."""
    lines = []
    for share in sorted({row.share for row in rows}):
        values: dict[str, dict[str, list[float]]] = {}
        for row in rows:
            if row.share == share:
                values.setdefault(row.method, {}).setdefault(row.table, []).append(row.value)
        means = {method: {table: np.mean(v) for table, v in tables.items()} for method, tables in values.items()}
        lines.append(f"{share:.0%} of the labels: tables on which the row's method is ahead of the column's")
        lines.append("".ljust(12) + "".join(name.rjust(12) for name in means))
        for ours, mine in means.items():
            cells = []
            for theirs in means.values():
                both = mine.keys() & theirs.keys()
                cells.append(f"{sum(mine[t] > theirs[t] for t in both)} of {len(both)}" if mine is not theirs else "–")
            lines.append(ours.ljust(12) + "".join(cell.rjust(12) for cell in cells))
    return "\n".join(lines)


def read_rows(path: Path) -> list[Row]:
    """What is known already."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [
            Row(**{f.name: {"float": float, "int": int}.get(str(f.type), str)(line[f.name]) for f in fields(Row)})
            for line in csv.DictReader(file)
        ]


def _append(path: Path, row: Row) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    first = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Row)])
        if first:
            writer.writeheader()
        writer.writerow(asdict(row) | {"value": f"{row.value:.6f}"})


def _encoder(cfg: Config, data: TableData, method: str, seed: int, fabric: Fabric) -> nn.Module:
    """With random weights, or pretrained on all training rows."""
    method = method.removesuffix("-semi")
    name = method if method in RECIPES else "scarf"  # only the encoder's sizes matter for random weights
    recipe, config = RECIPES[name]
    settings = config(model=cfg.model, train=cfg.train, stopping=cfg.stopping)
    settings = replace(settings, method=getattr(cfg, name))  # type: ignore[call-arg]
    ours = experiment(settings, recipe, data, fabric)
    encoder = ours.new_encoder(seed)
    if method == "scratch":
        return encoder
    run = Run.at(Path(cfg.work) / data.name / method)
    _check_settings(run, f"# rows: {cfg.rows}\n{session.config_yaml(settings)}")
    return ours.pretrained(encoder, run, seed)[0].export()  # type: ignore[operator]


def _check_settings(run: Run, settings: str) -> None:
    """Keep them beside the encoders; raise a ValueError if the encoders that lie there were trained with others."""
    if run.config.exists() and run.config.read_text() != settings:
        raise ValueError(
            f"{run.path} holds encoders that were pretrained with other settings (its {run.config.name}): delete "
            "it, or name another folder with work=…"
        )
    run.config.write_text(settings)


def _value(task: Task, outputs: Floats) -> float:
    """Of probabilities ``(m, n_classes)``, or estimates ``(m,)``."""
    predicted = outputs
    if task.measure.of == "class":
        predicted = task.classes[outputs.argmax(axis=1)]
    elif task.measure.of == "score":
        predicted = outputs[:, 1]
    return float(task.measure.parts(task.test_y, predicted).mean())


if __name__ == "__main__":
    command_line(main, Config, prog="python -m mmssl.recipes.tabular_compare")
