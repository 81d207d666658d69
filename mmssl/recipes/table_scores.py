"""What every recipe for tables scores: labelled rows, with all that a user of boosted trees would compare with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from torch import nn

from mmssl.eval.evaluate import BOOSTED
from mmssl.eval.measures import ACCURACY, AUC, MEASURES, R2, Measure
from mmssl.recipes.scores import EncoderScores, EvaluateConfig, Task
from mmssl.tabular.controls import boosting, columns
from mmssl.tabular.dataset import Part, TableData, TableSource
from mmssl.tabular.encode import encode_rows
from mmssl.train.finetune import estimates, finetune, probabilities, strategies

Floats = npt.NDArray[np.floating[Any]]
CONTROLS = {"columns": "scaled columns", "boosting": "boosted trees on the columns"}


@dataclass
class FineTuneConfig:
    """Fitting encoder and head to labels; as many epochs from random weights."""

    strategy: str = "full"  # none, auto (by the number of labels), linear, partial, full, or all
    epochs: int = 30
    least_steps: int = 300  # more epochs where there are few labels
    batch_size: int = 128
    lr_encoder: float = 1e-3
    layer_decay: float = 1.0  # of this rate from one layer to the one before it
    head: list[int] = field(default_factory=list)  # widths of its hidden layers; [256, 256] in SCARF's paper
    lr_head: float = 1e-3
    weight_decay: float = 0.0


@dataclass
class TabularEvaluateConfig(EvaluateConfig):
    """How features of rows are scored; only where there are labels."""

    protocols: list[str] = field(default_factory=lambda: ["linear"])
    controls: list[str] = field(default_factory=lambda: list(CONTROLS))
    measure: str = "auto"  # what decides: auc for two classes, accuracy for more, r2 for numbers
    labels: int | None = None  # labelled training rows, one a class at least; others count as unlabelled. None: all
    max_rows: int = 60_000  # labelled rows of each part that are scored; more are drawn from at random
    finetune: FineTuneConfig = field(default_factory=FineTuneConfig)


@dataclass(frozen=True, eq=False)
class Rows:
    """What is learnt from labels, and predicted.

    Args:
        x: ``(n, M)`` labelled training rows.
        y: ``(n,)`` codes from 0 to ``n_classes - 1``, or numbers.
        unlabelled: ``(N, M)`` all training rows.
        test: ``(m, M)``.
        n_classes: None for a regression.
    """

    x: npt.NDArray[np.float32]
    y: npt.NDArray[Any]
    unlabelled: npt.NDArray[np.float32]
    test: npt.NDArray[np.float32]
    n_classes: int | None


# (encoder, rows, fabric, seed) to a protocol id and probabilities (m, n_classes), or estimates (m,)
Semi = Callable[[nn.Module, Rows, Fabric, int], tuple[str, Floats]]


class RowScores(EncoderScores):
    """Scores on labelled rows.

    Args:
        data: its labelled rows are scored; without a test part nothing is.
        cfg: protocols, draws and controls.
        method: subject id of the pretrained encoder.
        title: its readable name.
        semi: fits labels with the help of unlabelled rows.

    Raises:
        ValueError: a setting is impossible for this data.
    """

    def __init__(
        self, data: TableData, cfg: TabularEvaluateConfig, *, method: str, title: str, semi: Semi | None = None
    ) -> None:
        self.cardinalities = data.preprocessor.cardinalities
        self.semi = semi
        self.finetune = cfg.finetune
        task = None
        if data.test is not None and data.test.labels is not None:
            task, self.rows = task_and_rows(data, cfg.measure, labels=cfg.labels, limit=cfg.max_rows)
        super().__init__(task, cfg, method=method, title=title, controls=CONTROLS)

    def controls(self) -> None:
        """Score what has nothing to do with the encoder."""
        for name in self.cfg.controls if self.labelled else ():
            if name == "columns":
                train, test = (columns(x, self.cardinalities) for x in (self.rows.x, self.rows.test))
                self.add(name, 0, train, test)
            else:
                self.add_outputs(name, BOOSTED, 0, boosted(self.rows, self.cardinalities))

    def encoder(self, encoder: nn.Module, *, subject: str, seed: int, fabric: Fabric) -> None:
        """Score the frozen features of an encoder, with trees and without, and what fine-tuning makes of it."""
        if not self.labelled:
            return
        if fabric.global_rank == 0:
            train, test = encode_rows(encoder, self.rows.x), encode_rows(encoder, self.rows.test)
            self.add(subject, seed, train, test)
            if "boosting" in self.cfg.controls:
                self.add_outputs(subject, BOOSTED, seed, boosted(self.rows, self.cardinalities, train, test))
            if self.semi is not None:
                protocol, outputs = self.semi(encoder, self.rows, fabric, seed)
                self.add_outputs(subject, protocol, seed, outputs)
        for protocol, outputs in fine_tuned(encoder, self.rows, self.finetune, fabric=fabric, seed=seed):
            if fabric.global_rank == 0:
                self.add_outputs(subject, protocol, seed, outputs)

    def add_outputs(self, subject: str, protocol: str, seed: int, outputs: Floats) -> None:
        """Score probabilities ``(m, n_classes)`` of the task's classes in order, or estimates ``(m,)``."""
        task = self._task()
        if self.rows.n_classes is None:
            self.add_predictions(subject, protocol, seed, outputs)
        else:
            scores = outputs[:, 1] if task.measure is AUC else None
            self.add_predictions(subject, protocol, seed, task.classes[outputs.argmax(axis=1)], scores=scores)


def task_and_rows(
    data: TableData, measure: str = "auto", *, labels: int | None = None, limit: int = 60_000, seed: int = 0
) -> tuple[Task, Rows]:
    """What is predicted, and from what.

    Args:
        data: with labelled test rows.
        measure: see `TabularEvaluateConfig`.
        labels: labelled training rows; None: all.
        limit: labelled rows of each part.
        seed: of the rows that are drawn where there are more.

    Raises:
        ValueError: the training rows have one label or are too few for their classes, the test rows have none, or the
            measure does not fit.
    """
    assert data.test is not None
    if not len(data.test.labelled):
        raise ValueError(
            f"none of the {len(data.test):,} test rows has a label, so nothing can be scored: give others "
            "(data.test_path, data.split), or leave data.label out"
        )
    least = fewest_labels(data)
    if min(limit, limit if labels is None else labels) < least:
        given = f"evaluate.max_rows={limit}" if labels is None else f"evaluate.labels={labels}"
        raise ValueError(f"{given} is too few: {least} labelled rows are needed, one a class and two at least")
    train = _positions(data.train, limit if labels is None else min(limit, labels), seed)
    if data.classes is not None:
        train = _with_every_class(train, data.train, seed)
    test = _positions(data.test, limit, seed)
    train_y, test_y = _labels(data, data.train)[train], _labels(data, data.test)[test]
    if len(np.unique(train_y)) < 2:
        raise ValueError(
            f"all {len(train_y)} labelled training rows have the label {str(train_y[0])!r}: there is nothing to learn; "
            "raise evaluate.labels, or split another way (data.split)"
        )
    regression = data.classes is None
    decides = _measure(measure, regression=regression, train_y=train_y, test_y=test_y)
    groups = None if data.test.groups is None else data.test.groups[test]
    task = Task(data.name, data.split, train_y, test_y, groups, examples="rows", measure=decides)
    return task, Rows(
        data.train.x[train],
        train_y.astype(np.float32) if regression else task.train_codes,
        data.train.x,
        data.test.x[test],
        None if regression else len(task.classes),
    )


def fewest_labels(data: TableData) -> int:
    """How many labelled training rows can be learnt from: one a class, and two at least."""
    assert data.train.labels is not None
    return 2 if data.classes is None else max(2, len(np.unique(data.train.labels[data.train.labelled])))


def boosted(
    rows: Rows, cardinalities: Sequence[int], train_z: Floats | None = None, test_z: Floats | None = None
) -> Floats:
    """Boosted trees on the columns, and on an embedding beside them; see `mmssl.tabular.controls.boosting`."""
    return boosting(
        rows.x, rows.y, rows.test, cardinalities, train_z=train_z, test_z=test_z, regression=rows.n_classes is None
    )  # fmt: skip


def fine_tuned(
    encoder: nn.Module, rows: Rows, cfg: FineTuneConfig, *, fabric: Fabric, seed: int
) -> Iterator[tuple[str, Floats]]:
    """Protocol ids, and probabilities ``(m, n_classes)`` of the test rows, or estimates ``(m,)``."""
    train, test = (TableSource(torch.from_numpy(x).to(fabric.device)) for x in (rows.x, rows.test))
    settings = asdict(cfg) | {"head": tuple(cfg.head)}
    for strategy in strategies(settings.pop("strategy"), n_labelled=len(rows.y)):
        tuned = finetune(
            encoder,
            replace(strategy, **settings),
            source=train,
            labels=rows.y,
            n_classes=rows.n_classes,
            fabric=fabric,
            seed=seed,
        )
        outputs = estimates if rows.n_classes is None else probabilities
        yield tuned.protocol, outputs(tuned, test, fabric=fabric)


def _labels(data: TableData, part: Part) -> npt.NDArray[Any]:
    """Names of the classes, or numbers; anything where there is none."""
    assert part.labels is not None
    if data.classes is None:
        return part.labels
    return np.array(data.classes)[np.nan_to_num(part.labels, nan=0.0).astype(np.int64)]


def _positions(part: Part, limit: int, seed: int) -> npt.NDArray[np.int64]:
    """Of the labelled rows, at most ``limit``, in order."""
    labelled = part.labelled
    if len(labelled) <= limit:
        return labelled
    return np.sort(np.random.default_rng(seed).choice(labelled, limit, replace=False))


def _with_every_class(chosen: npt.NDArray[np.int64], part: Part, seed: int) -> npt.NDArray[np.int64]:
    """``chosen`` labelled rows with one of each class that they lack, in place of ones of classes with several."""
    assert part.labels is not None
    labels, chosen = part.labels, chosen.copy()
    rng = np.random.default_rng(seed)
    for code in np.setdiff1d(labels[part.labelled], labels[chosen]):
        _, place, counts = np.unique(labels[chosen], return_inverse=True, return_counts=True)
        chosen[rng.choice(np.flatnonzero(counts[place] > 1))] = rng.choice(np.flatnonzero(labels == code))
    return np.sort(chosen)


def _measure(name: str, *, regression: bool, train_y: npt.NDArray[Any], test_y: npt.NDArray[Any]) -> Measure:
    """What decides."""
    if name != "auto" and name not in MEASURES:
        raise ValueError(f"evaluate.measure must be auto, {', '.join(MEASURES)}, got {name!r}")
    both = len(np.unique(train_y)) == 2 and np.array_equal(np.unique(train_y), np.unique(test_y))
    if name == "auto":
        return R2 if regression else AUC if both else ACCURACY
    measure = MEASURES[name]
    if (measure is R2) != regression:
        raise ValueError(f"evaluate.measure={name} does not fit the label, which is {_kind(regression)}")
    if measure is AUC and not both:
        raise ValueError("evaluate.measure=auc needs two classes, both among the training and the test rows")
    return measure


def _kind(regression: bool) -> str:
    return "a number (data.task=classification reads it as classes)" if regression else "a class"
