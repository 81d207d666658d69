"""Score the frozen features of one subject and one seed with every protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mmssl.eval.features import Features, Labels, check_features, check_labels
from mmssl.eval.fewshot import LADDER, few_labels
from mmssl.eval.interval import Hits
from mmssl.eval.knn import knn
from mmssl.eval.linear import linear
from mmssl.eval.records import Record
from mmssl.eval.svm import svm


class Protocol(NamedTuple):
    """A way to turn labelled features into predictions.

    Args:
        id: versioned name that stands in every record; change the version when the numbers change.
        name: as the tables write it.
        predict: (train_x, train_y, test_x) -> predicted classes.
    """

    id: str
    name: str
    predict: Callable[[Features, Labels, Features], Labels]


PROTOCOLS = {
    "svm": Protocol("svm-rbf/1", "SVM", svm),
    "knn": Protocol("knn-1/1", "1-NN", knn),
    "linear": Protocol("logistic/1", "logistic", linear),
}
FEW_LABELS = "fewshot-logistic/1"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores of one subject and seed, and which test examples they come from.

    Args:
        dataset: name of the data.
        subject: whose features were scored.
        seed: its seed.
        records: one number each.
        hits: protocol id to ``(n_test,)``, predicted right or not.
        few_label_hits: labels a class to ``(draws, n_test)``.
        groups: ``(n_test,)``, test examples that are not independent share a group; None where all are.
    """

    dataset: str
    subject: str
    seed: int
    records: tuple[Record, ...]
    hits: dict[str, Hits] = field(default_factory=dict)
    few_label_hits: dict[int, Hits] = field(default_factory=dict)
    groups: npt.NDArray[np.generic] | None = None


def evaluate_features(
    train_x: Features,
    train_y: Labels,
    test_x: Features,
    test_y: Labels,
    *,
    dataset: str,
    subject: str,
    seed: int,
    split: str,
    groups: npt.NDArray[np.generic] | None = None,
    protocols: Sequence[str] = ("svm", "knn", "linear"),
    draws: int = 5,
    ladder: tuple[int, ...] = LADDER,
) -> Evaluation:
    """Score features with full labels and along the label budget.

    Args:
        train_x: ``(n, D)``.
        train_y: ``(n,)`` codes or names.
        test_x: ``(m, D)``.
        test_y: ``(m,)`` likewise; a class that training never saw counts as wrong.
        dataset: name of the data, for the records.
        subject: whose features these are, for the records and for messages.
        seed: seed of the pretraining or of the untrained weights; also seeds the label draws. A subject without
            randomness is evaluated once, with seed 0.
        split: name of the test split, for the records.
        groups: ``(m,)``, for example the entity of every test window.
        protocols: keys of ``PROTOCOLS``.
        draws: label draws for each budget; 0 leaves the curve out.
        ladder: budgets, in labels a class.

    Raises:
        ValueError: features that are not finite (subject, row and column named), one class only, mismatched lengths.
    """
    check_features(train_x, f"{subject}: training features")
    check_features(test_x, f"{subject}: test features")
    check_labels(train_y, len(train_x))
    if train_x.shape[1] != test_x.shape[1]:
        raise ValueError(f"{subject}: {train_x.shape[1]} training features but {test_x.shape[1]} test features")
    n_test = len(test_x)
    if test_y.shape != (n_test,) or (groups is not None and groups.shape != (n_test,)):
        got = test_y.shape if groups is None else (test_y.shape, groups.shape)
        raise ValueError(f"{subject}: {n_test} test examples need as many labels (and groups), got shape {got}")

    records: list[Record] = []
    hits: dict[str, Hits] = {}
    for key in protocols:
        protocol = PROTOCOLS[key]
        predictions = protocol.predict(train_x, train_y, test_x)
        hits[protocol.id] = predictions == test_y
        scores = {"accuracy": float(hits[protocol.id].mean()), "macro_f1": _macro_f1(test_y, predictions)}
        records += [
            Record(dataset, subject, protocol.id, metric, "all", seed, split, value, len(train_x), n_test)
            for metric, value in scores.items()
        ]
    drawn: dict[int, list[Hits]] = {}
    if draws:
        for d in few_labels(train_x, train_y, test_x, draws=draws, seed=seed, ladder=ladder):
            right = d.predictions == test_y
            drawn.setdefault(d.n_labels, []).append(right)
            value = float(right.mean())
            records.append(
                Record(
                    dataset, subject, FEW_LABELS, "accuracy", d.n_labels, seed, split, value, d.n_train, n_test, d.draw
                )
            )
    few = {k: np.stack(rows) for k, rows in drawn.items()}
    return Evaluation(dataset, subject, seed, tuple(records), hits, few, groups)


def _macro_f1(truth: Labels, predictions: Labels) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(truth, predictions, average="macro", zero_division=0))
