"""One evaluation: its records, its hits, and what it refuses; and results.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from mmssl.eval.evaluate import (
    FINE_TUNED,
    PROTOCOLS,
    Evaluation,
    evaluate_features,
    evaluate_predictions,
    protocol_for,
)
from mmssl.eval.knn import knn
from mmssl.eval.records import Record, read_results, to_json


def evaluate(data: tuple[np.ndarray, ...], **options: object) -> Evaluation:
    train_x, train_y, test_x, test_y = data
    known: dict = {"dataset": "demo", "subject": "ts2vec", "seed": 3, "split": "test", "draws": 2, **options}
    return evaluate_features(train_x, train_y, test_x, test_y, **known)


def test_every_record_is_the_mean_of_its_hits(evaluations: list[Evaluation]) -> None:
    for e in evaluations:
        for r in e.records:
            if r.metric == "accuracy":
                hits = e.hits[r.protocol] if r.n_labels == "all" else e.few_label_hits[r.n_labels][r.draw or 0]
                assert r.value == hits.mean()
            assert (r.dataset, r.subject, r.seed, r.split, r.n_test) == ("demo", e.subject, e.seed, "test", 60)


def test_full_label_protocols_carry_accuracy_and_macro_f1(classes: Callable) -> None:
    data = classes(distance=0.6)
    records = {(r.protocol, r.metric): r for r in evaluate(data, draws=0).records}
    assert {p for p, _ in records} == {"svm-rbf/1", "knn-1/1", "logistic/1"}
    predictions = knn(*data[:3])
    assert records["knn-1/1", "accuracy"].value == np.mean(predictions == data[3])
    assert records["knn-1/1", "macro_f1"].value == pytest.approx(f1_score(data[3], predictions, average="macro"))


def test_many_examples_are_scored_by_a_held_out_part_under_an_id_of_its_own(
    classes: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert protocol_for("linear", n_train=10_000).id == "logistic/1"
    assert protocol_for("linear", n_train=10_001).id == "logistic-holdout/1"
    assert protocol_for("knn", n_train=10_001).id == "knn-1/1"
    monkeypatch.setattr("mmssl.eval.evaluate.LINEAR_MAX", 59)
    scored = evaluate(classes(), draws=0, protocols=("linear", "probe"))
    assert [r.protocol for r in scored.records] == ["logistic-holdout/1"] * 2  # once, in accuracy and macro-F1


def test_every_protocol_has_an_id_of_its_own() -> None:
    ids = [p.id for p in PROTOCOLS.values()] + list(FINE_TUNED)
    assert len(set(ids)) == len(ids)


def test_predictions_are_scored_as_features_are(classes: Callable) -> None:
    data = classes(distance=0.6)
    by_features = evaluate(data, draws=0, protocols=("knn",))
    known: dict = {"dataset": "demo", "subject": "ts2vec", "seed": 3, "split": "test", "protocol": "knn-1/1"}
    by_predictions = evaluate_predictions(knn(*data[:3]), data[3], n_train=60, **known)
    assert by_predictions.records == by_features.records
    np.testing.assert_array_equal(by_predictions.hits["knn-1/1"], by_features.hits["knn-1/1"])
    with pytest.raises(ValueError, match="59 test examples need as many labels"):
        evaluate_predictions(data[3][1:], data[3], n_train=60, **known)


def test_free_text_is_wrong_and_no_class_of_its_own() -> None:
    truth = np.array(["one", "two", "one", "two"])
    known: dict = {"dataset": "demo", "subject": "a", "seed": 0, "split": "test", "protocol": "ctc/1", "n_train": 4}
    said = np.array(["one", "two", "ohne", "tow"])
    scored = evaluate_predictions(said, truth, classes=np.array(["one", "three", "two"]), **known)
    values = {record.metric: record.value for record in scored.records}
    assert values["accuracy"] == 0.5
    assert values["macro_f1"] == pytest.approx(2 / 3)  # of either class one found of two, and none that is not of it


def test_the_same_features_give_the_same_records(classes: Callable) -> None:
    assert evaluate(classes()).records == evaluate(classes()).records


def test_features_that_are_not_finite_name_the_subject(classes: Callable) -> None:
    data = [a.copy() for a in classes()]
    data[0][2, 1] = np.nan
    with pytest.raises(ValueError, match=r"ts2vec: training features hold 1 NaN .* row 2, column 1"):
        evaluate(tuple(data))


def test_one_class_only_is_said_before_anything_is_fitted(classes: Callable) -> None:
    data = classes()
    with pytest.raises(ValueError, match="only one class \\('0'\\)"):
        evaluate((data[0], np.zeros_like(data[1]), *data[2:]))


def test_lengths_that_do_not_match_are_refused(classes: Callable) -> None:
    train_x, train_y, test_x, test_y = classes()
    with pytest.raises(ValueError, match="need as many labels"):
        evaluate((train_x, train_y, test_x, test_y[1:]))
    with pytest.raises(ValueError, match="need as many labels"):
        evaluate((train_x, train_y, test_x, test_y), groups=np.arange(3))
    with pytest.raises(ValueError, match="8 training features but 7 test features"):
        evaluate((train_x, train_y, test_x[:, 1:], test_y))


def test_a_class_that_training_never_saw_counts_as_wrong(classes: Callable) -> None:
    train_x, train_y, test_x, test_y = classes(distance=6)
    test_y = test_y.copy()
    test_y[:15] = 9
    assert not evaluate((train_x, train_y, test_x, test_y), draws=0).hits["svm-rbf/1"][:15].any()


def test_results_survive_the_file(evaluations: list[Evaluation], tmp_path: Path) -> None:
    records = [r for e in evaluations for r in e.records]
    path = tmp_path / "results.json"
    path.write_text(to_json(records), encoding="utf-8")
    assert read_results(path) == records
    required = {"dataset", "subject", "protocol", "metric", "n_labels", "seed", "split", "value"}
    assert all(required <= entry.keys() for entry in json.loads(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"dataset": "demo"}]', "entry 0: missing metric, n_labels"),
        ('{"a": 1}', "list of records, got dict"),
    ],
)
def test_a_file_of_something_else_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_results(path)


def test_a_number_that_is_none_does_not_reach_the_file(evaluations: list[Evaluation]) -> None:
    record: Record = replace(evaluations[0].records[0], value=float("nan"))
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json([record])
