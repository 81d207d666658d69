"""The scores of a run as they come in: every subject by the same protocols, on the same labelled examples."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from lightning_fabric import Fabric
from torch import nn

from mmssl.eval.evaluate import PROTOCOLS, Evaluation, evaluate_features, evaluate_predictions, protocol_for
from mmssl.eval.features import Features, Labels
from mmssl.eval.measures import ACCURACY, Measure
from mmssl.eval.records import Record, Subjects

UNTRAINED = "random-encoder"  # subject id of the encoder at random initialisation


@dataclass
class EvaluateConfig:
    """How features are scored; only where there are labels. A modality adds its controls and limits."""

    protocols: list[str] = field(default_factory=lambda: ["svm", "knn", "linear"])  # the first one decides
    draws: int = 5  # of labelled examples, for each point of the label-budget curve; 0 leaves it out
    controls: list[str] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Task:
    """What is predicted, and from which examples.

    Args:
        dataset: name of the data, for the records.
        split: name of the test split, for the records.
        train_y: ``(n,)`` codes or names of the labelled training examples; numbers of a regression.
        test_y: ``(m,)`` likewise, of the test examples.
        groups: ``(m,)``, test examples that are not independent share a group; None where all are.
        examples: what an example is, in the plural.
        entities: what a group is, in the plural.
        measure: what decides: accuracy, AUC for two classes, or R² of a regression.
    """

    dataset: str
    split: str
    train_y: Labels
    test_y: Labels
    groups: npt.NDArray[np.generic] | None = None
    examples: str = "examples"
    entities: str = "groups"
    measure: Measure = ACCURACY

    @cached_property
    def classes(self) -> Labels:
        """``(n_classes,)``, those of the training examples in order; predicted codes are positions in it."""
        return np.unique(self.train_y)

    @cached_property
    def train_codes(self) -> npt.NDArray[np.int64]:
        """``(n,)``, the training labels as positions in ``classes``."""
        return np.searchsorted(self.classes, self.train_y).astype(np.int64)


def _warn_of_new_labels(task: Task) -> None:
    new = np.setdiff1d(task.test_y, task.classes) if task.measure.of == "class" else np.array([])
    if len(new):
        count = int(np.isin(task.test_y, new).sum())
        warnings.warn(
            f"{count:,} of {len(task.test_y):,} test {task.examples} have a label that no training one has "
            f"({', '.join(map(str, new[:5]))}{', …' if len(new) > 5 else ''}): nothing can be right on them; "
            "another split would say more",
            stacklevel=3,
        )


class Scores:
    """Evaluations of one run; without a task nothing is scored.

    Args:
        task: None where there are no labels, or no test part.
        cfg: protocols, draws and controls.
        method: subject id of the pretrained encoder.
        title: its readable name.
        controls: readable name of every control that there is.

    Raises:
        ValueError: a control or a protocol that does not exist.
    """

    def __init__(
        self, task: Task | None, cfg: EvaluateConfig, *, method: str, title: str, controls: Mapping[str, str]
    ) -> None:
        for what, given, known in (("controls", cfg.controls, controls), ("protocols", cfg.protocols, PROTOCOLS)):
            if unknown := [name for name in given if name not in known]:
                raise ValueError(f"unknown evaluate.{what} {unknown}; there are {list(known)}")
        if not cfg.protocols:
            raise ValueError(f"evaluate.protocols is empty, and the first one decides; there are {list(PROTOCOLS)}")
        if task is not None:
            first = protocol_for(cfg.protocols[0], n_train=len(task.train_y), measure=task.measure)
            if task.measure.of == "score" and first.probabilities is None:
                raise ValueError(
                    f"{task.measure.name} decides, and protocol {cfg.protocols[0]!r}, the first of evaluate.protocols, "
                    "gives no probabilities; put linear first"
                )
            _warn_of_new_labels(task)
        self.task = task
        self.cfg = cfg
        self.title = title
        self.evaluations: list[Evaluation] = []
        names = {**controls, method: title, UNTRAINED: "same encoder, untrained"}
        self.subjects = Subjects(method, UNTRAINED, tuple(cfg.controls), names)

    @property
    def labelled(self) -> bool:
        """Is there anything to score?"""
        return self.task is not None

    @property
    def primary(self) -> str:
        """Id of the protocol that decides."""
        assert self.task is not None
        return protocol_for(self.cfg.protocols[0], n_train=len(self.task.train_y), measure=self.task.measure).id

    def records(self) -> list[Record]:
        return [record for evaluation in self.evaluations for record in evaluation.records]

    def add(self, subject: str, seed: int, train_x: Features, test_x: Features) -> None:
        """Score features of the task's examples, ``(n, D)`` and ``(m, D)``.

        Args:
            subject: whose they are.
            seed: of the pretraining or of the untrained weights; 0 for a control.
        """
        task = self._task()
        self.evaluations.append(
            evaluate_features(
                train_x,
                task.train_y,
                test_x,
                task.test_y,
                dataset=task.dataset,
                subject=subject,
                seed=seed,
                split=task.split,
                groups=task.groups,
                protocols=self.cfg.protocols,
                draws=self.cfg.draws,
                measure=task.measure,
            )
        )

    def add_predictions(
        self,
        subject: str,
        protocol: str,
        seed: int,
        predictions: npt.NDArray[Any],
        *,
        n_train: int | None = None,
        scores: npt.NDArray[np.floating[Any]] | None = None,
    ) -> None:
        """Score what a fine-tuned model predicts for the test examples.

        Args:
            subject: whose encoder was fine-tuned.
            protocol: versioned id of how, for example ``"finetune-full/1"``.
            seed: of the pretraining or of the untrained weights.
            predictions: ``(m,)``, labels as in the task's ``test_y``; of codes, that is ``task.classes[codes]``.
            n_train: labelled examples used; None: all of the task's.
            scores: ``(m,)`` of the second of two classes, which AUC needs.
        """
        task = self._task()
        self.evaluations.append(
            evaluate_predictions(
                predictions,
                task.test_y,
                dataset=task.dataset,
                subject=subject,
                protocol=protocol,
                seed=seed,
                split=task.split,
                n_train=len(task.train_y) if n_train is None else n_train,
                groups=task.groups,
                measure=task.measure,
                scores=scores,
                classes=None if task.measure.of == "number" else task.classes,
            )
        )

    def _task(self) -> Task:
        if self.task is None:
            raise ValueError("there is no task to score: the data has no labels, or no test part")
        return self.task


class EncoderScores(Scores):
    """Scores of a modality's encoders and controls on the task's examples."""

    @abstractmethod
    def controls(self) -> None:
        """Score what has nothing to do with the encoder; without a task nothing. Called on rank 0."""

    @abstractmethod
    def encoder(self, encoder: nn.Module, *, subject: str, seed: int, fabric: Fabric) -> None:
        """Score an encoder; without a task nothing. Called on all ranks, as fine-tuning needs them; rank 0 scores."""
