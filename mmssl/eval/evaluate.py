"""Score one subject and one seed: frozen features with every protocol, or what a fine-tuned model predicts.

What decides is one of `mmssl.eval.measures`: accuracy, AUC for two classes, R² for a regression.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mmssl.eval import folds
from mmssl.eval.features import Features, Labels, check_features, check_labels
from mmssl.eval.fewshot import LADDER, few_labels
from mmssl.eval.interval import Hits
from mmssl.eval.knn import knn, weighted_knn
from mmssl.eval.linear import linear, linear_probabilities, probe, probe_probabilities
from mmssl.eval.measures import ACCURACY, Measure
from mmssl.eval.records import Record
from mmssl.eval.ridge import ridge
from mmssl.eval.svm import svm


class Protocol(NamedTuple):
    """A way to turn labelled features into predictions.

    Args:
        id: versioned name that stands in every record; change the version when the numbers change.
        name: as the tables write it.
        predict: (train_x, train_y, test_x) -> predicted classes, or numbers.
        probabilities: likewise -> ``(m, n_classes)``, classes in their sorted order; None where it gives none.
        regression: does it predict numbers?
    """

    id: str
    name: str
    predict: Callable[[Features, Labels, Features], npt.NDArray[Any]]
    probabilities: Callable[[Features, Labels, Features], npt.NDArray[np.floating[Any]]] | None = None
    regression: bool = False


PROTOCOLS = {
    "svm": Protocol("svm-rbf/1", "SVM", svm),
    "knn": Protocol("knn-1/1", "1-NN", knn),
    "linear": Protocol("logistic/1", "logistic", linear, linear_probabilities),
    "knn200": Protocol("knn-cosine-200-t0.1/1", "200-NN", weighted_knn),
    "probe": Protocol("logistic-holdout/1", "logistic", probe, probe_probabilities),
    "ridge": Protocol("ridge/1", "ridge", ridge, regression=True),
}
LINEAR_MAX = 10_000  # training examples; five-fold cross-validation of more takes many minutes
FEW_LABELS = "fewshot-logistic/1"
FEW_NUMBERS = "fewshot-ridge/1"
BOOSTED = "boosting/2"  # trees on the columns of a table; for an encoder, with its embedding appended to them
FINE_TUNED = {  # as mmssl.train.finetune names its strategies
    "finetune-linear/1": "linear probe",
    "finetune-partial/1": "half fine-tuned",
    "finetune-full/1": "fine-tuned",
}
OF_TABLES = {
    "finetune-full(batch_size=128,lr_encoder=0.001,least_steps=300)/1": "fine-tuned",
    "vime-semi/1": "VIME semi-supervised",
    BOOSTED: "boosted trees",
}
OF_SPEECH = {
    "finetune-layer-weighted/1": "layer-weighted probe",
    "ctc-characters/1": "CTC, whole words",
}
NAMES = {
    **{p.id: p.name for p in PROTOCOLS.values()},
    folds.PROTOCOL: "SVM in ten folds",
    "finetune-full(epochs=100,batch_size=128,lr_encoder=0.001)/1": "fine-tuned",  # graphs
    **FINE_TUNED,
    **OF_TABLES,
    **OF_SPEECH,
}  # in the order of the tables


def protocol_for(key: str, *, n_train: int, measure: Measure = ACCURACY) -> Protocol:
    """``PROTOCOLS[key]``, or what stands in for it, under its own id.

    The linear protocol becomes another one where there are too many examples for it, and ridge for a regression. That
    depends on the task alone, so that all subjects are scored by the same protocol.

    Raises:
        ValueError: a protocol for classes was asked to predict numbers, or the other way round.
    """
    if measure.of == "number" and key in ("linear", "probe"):
        key = "ridge"
    if PROTOCOLS[key].regression != (measure.of == "number"):
        wanted, other = ("numbers", "linear or ridge") if measure.of == "number" else ("classes", "linear, knn or svm")
        raise ValueError(f"protocol {key!r} cannot predict {wanted}; take {other}")
    return PROTOCOLS["probe" if key == "linear" and n_train > LINEAR_MAX else key]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores of one subject and seed, and which test examples they come from.

    Args:
        dataset: name of the data.
        subject: whose features were scored.
        seed: its seed.
        records: one number each.
        hits: protocol id to ``(n_test,)``, predicted right or not; or what each test example contributes to the measure
            that decides.
        few_label_hits: labels a class to ``(draws, n_test)``.
        groups: ``(n_test,)``, test examples that are not independent share a group; None where all are.
        measure: what decides.
    """

    dataset: str
    subject: str
    seed: int
    records: tuple[Record, ...]
    hits: dict[str, Hits] = field(default_factory=dict)
    few_label_hits: dict[int, Hits] = field(default_factory=dict)
    groups: npt.NDArray[np.generic] | None = None
    measure: Measure = ACCURACY


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
    measure: Measure = ACCURACY,
) -> Evaluation:
    """Score features with full labels and along the label budget.

    Args:
        train_x: ``(n, D)``.
        train_y: ``(n,)`` codes or names; numbers of a regression.
        test_x: ``(m, D)``.
        test_y: ``(m,)`` likewise; a class that training never saw counts as wrong.
        dataset: name of the data, for the records.
        subject: whose features these are, for the records and for messages.
        seed: seed of the pretraining or of the untrained weights; also seeds the label draws. A subject without
            randomness is evaluated once, with seed 0.
        split: name of the test split, for the records.
        groups: ``(m,)``, for example the entity of every test window.
        protocols: keys of ``PROTOCOLS``; "linear" becomes "probe" above 10,000 training examples.
        draws: label draws for each budget; 0 leaves the curve out.
        ladder: budgets, in labels a class; of a regression, in labels.
        measure: what decides, and so what is predicted.

    Raises:
        ValueError: features that are not finite (subject, row and column named), one class only, mismatched lengths.
    """
    check_features(train_x, f"{subject}: training features")
    check_features(test_x, f"{subject}: test features")
    check_labels(train_y, len(train_x))
    if train_x.shape[1] != test_x.shape[1]:
        raise ValueError(f"{subject}: {train_x.shape[1]} training features but {test_x.shape[1]} test features")
    _check_test(test_y, groups, len(test_x), subject)
    records: list[Record] = []
    hits: dict[str, Hits] = {}
    for key in protocols:
        protocol = protocol_for(key, n_train=len(train_x), measure=measure)
        if protocol.id in hits:  # "linear" and "probe" were both asked for, and are the same here
            continue
        scores = None
        if measure.of == "score" and protocol.probabilities is not None:
            probabilities = protocol.probabilities(train_x, train_y, test_x)
            predictions = np.unique(train_y)[probabilities.argmax(axis=1)]
            scores = probabilities[:, 1]
        else:
            predictions = protocol.predict(train_x, train_y, test_x)
        scored = evaluate_predictions(
            predictions,
            test_y,
            dataset=dataset,
            subject=subject,
            protocol=protocol.id,
            seed=seed,
            split=split,
            n_train=len(train_x),
            groups=groups,
            measure=measure,
            scores=scores,
        )
        hits |= scored.hits
        records += scored.records
    drawn: dict[int, list[Hits]] = {}
    if draws:
        for d in few_labels(train_x, train_y, test_x, draws=draws, seed=seed, ladder=ladder, of=measure.of):
            parts = measure.parts(test_y, d.predictions)
            drawn.setdefault(d.n_labels, []).append(parts)
            value = float(parts.mean())
            records.append(
                Record(
                    dataset,
                    subject,
                    FEW_NUMBERS if measure.of == "number" else FEW_LABELS,
                    measure.id,
                    d.n_labels,
                    seed,
                    split,
                    value,
                    d.n_train,
                    len(test_x),
                    d.draw,
                )
            )
    few = {k: np.stack(rows) for k, rows in drawn.items()}
    return Evaluation(dataset, subject, seed, tuple(records), hits, few, groups, measure)


def evaluate_predictions(
    predictions: npt.NDArray[Any],
    test_y: Labels,
    *,
    dataset: str,
    subject: str,
    protocol: str,
    seed: int,
    split: str,
    n_train: int,
    groups: npt.NDArray[np.generic] | None = None,
    measure: Measure = ACCURACY,
    scores: npt.NDArray[np.floating[Any]] | None = None,
    classes: Labels | None = None,
) -> Evaluation:
    """Score predictions that were made elsewhere, such as those of a fine-tuned model.

    Args:
        predictions: ``(m,)`` codes or names; numbers of a regression.
        test_y: ``(m,)`` likewise.
        protocol: versioned id of how they were made.
        n_train: labelled examples that they were made from.
        dataset, subject, seed, split, groups, measure: see ``evaluate_features``.
        scores: ``(m,)`` of the second of two classes, such as its probability. AUC needs them: without, the predictions
            have an accuracy, but no say in what decides.
        classes: of which macro-F1 is the mean; other predictions, such as free text, are wrong and no classes of their
            own. None: every value of both.

    Raises:
        ValueError: another number of predictions than test examples.
    """
    _check_test(test_y, groups, len(predictions), subject)
    hits: dict[str, Hits] = {}
    if measure.of != "score" or scores is not None:
        hits[protocol] = measure.parts(test_y, predictions if scores is None else scores)
    values = {measure.id: float(hits[protocol].mean())} if hits else {}
    if measure.of == "number":
        values["rmse"] = float(np.sqrt(np.mean(np.square(test_y - predictions))))
    else:
        values |= {
            "accuracy": float(np.mean(predictions == test_y)),
            "macro_f1": _macro_f1(test_y, predictions, classes),
        }
    records = tuple(
        Record(dataset, subject, protocol, metric, "all", seed, split, value, n_train, len(test_y))
        for metric, value in values.items()
    )
    return Evaluation(dataset, subject, seed, records, hits, {}, groups, measure)


def _check_test(test_y: Labels, groups: npt.NDArray[np.generic] | None, n_test: int, subject: str) -> None:
    if test_y.shape != (n_test,) or (groups is not None and groups.shape != (n_test,)):
        got = test_y.shape if groups is None else (test_y.shape, groups.shape)
        raise ValueError(f"{subject}: {n_test} test examples need as many labels (and groups), got shape {got}")


def _macro_f1(truth: Labels, predictions: Labels, classes: Labels | None) -> float:
    from sklearn.metrics import f1_score

    found = np.union1d(truth, predictions)
    labels = found if classes is None else np.intersect1d(found, classes)
    return float(f1_score(truth, predictions, labels=labels, average="macro", zero_division=0))
