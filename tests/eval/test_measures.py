"""What decides: each measure is the mean of its parts, its interval is right, and it is shown as people write it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import r2_score, roc_auc_score

from mmssl.eval.evaluate import BOOSTED, FEW_NUMBERS, Evaluation, evaluate_features, evaluate_predictions, protocol_for
from mmssl.eval.interval import paired_difference
from mmssl.eval.measures import ACCURACY, AUC, R2, auc_parts, r2_parts, right
from mmssl.eval.records import Subjects
from mmssl.eval.report import Report, write_report
from mmssl.eval.ridge import PENALTIES, ridge
from mmssl.eval.table import as_text, tables
from mmssl.eval.verdict import verdict


def noisy(n: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two classes, one of them rare, and two scores of which the first is better; with ties."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.2).astype(int)
    return y, np.round(y + rng.normal(size=n), 1), np.round(0.7 * y + rng.normal(size=n), 1)


def numbers(n: int = 300, noise: float = 0.5, seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2 * n, 5)).astype(np.float32)
    y = x @ np.arange(5.0) + noise * rng.normal(size=2 * n)
    return x[:n], y[:n], x[n:], y[n:]


def test_the_mean_of_the_parts_is_the_measure() -> None:
    y, a, b = noisy()
    for scores in (a, b):
        assert auc_parts(y, scores).mean() == pytest.approx(roc_auc_score(y, scores), abs=1e-12)
    *_, test_y = numbers()
    estimate = test_y + np.random.default_rng(1).normal(size=len(test_y))
    assert r2_parts(test_y, estimate).mean() == pytest.approx(r2_score(test_y, estimate))
    assert right(y, (a > 0.5).astype(int)).mean() == np.mean(y == (a > 0.5))


def test_the_interval_of_two_aucs_is_that_of_delong() -> None:
    y, a, b = noisy(1_000)
    gap = paired_difference(auc_parts(y, a)[None], auc_parts(y, b)[None])

    def components(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        compared = np.sign(scores[y == 1][:, None] - scores[y == 0]) / 2 + 0.5
        return compared.mean(axis=1), compared.mean(axis=0)

    (a1, a0), (b1, b0) = components(a), components(b)
    deviation = np.sqrt(np.var(a1 - b1, ddof=1) / len(a1) + np.var(a0 - b0, ddof=1) / len(a0))
    half = norm.ppf(0.975) * deviation
    assert gap.value == pytest.approx(a1.mean() - b1.mean())
    assert (gap.low, gap.high) == pytest.approx((gap.value - half, gap.value + half), abs=0.15 * half)


def test_what_has_no_value_says_why() -> None:
    with pytest.raises(ValueError, match="AUC is of two classes, and the test examples have 3"):
        auc_parts(np.array([0, 1, 2]), np.zeros(3))
    with pytest.raises(ValueError, match=r"all 3 test examples have the label 1\.0"):
        r2_parts(np.ones(3), np.zeros(3))


def test_numbers_are_written_as_people_write_them() -> None:
    assert [ACCURACY.show(v) for v in (0.975, 1.0, 0.9674999999999999)] == ["97.5 %", "100.0 %", "96.8 %"]
    assert [ACCURACY.change(v) for v in (0.054, -0.02, -0.0001, 0.0)] == ["+5.4", "−2.0", "0.0", "0.0"]
    assert (AUC.show(0.91051), AUC.change(-0.00124), AUC.size(-0.00124)) == ("0.9105", "−0.0012", "0.0012")
    assert (R2.show(-0.25), R2.change(0.0001), ACCURACY.size(-0.02)) == ("-0.250", "0.000", "2.0 points")


def test_auc_is_a_row_beside_the_usual_ones_and_decides(classes: Callable) -> None:
    data = classes(n_classes=2, distance=0.3)
    known: dict = {"dataset": "demo", "subject": "scarf", "seed": 0, "split": "test", "draws": 2, "ladder": (1, 5)}
    usual = evaluate_features(*data, **known, protocols=("linear", "probe", "knn"))
    found = evaluate_features(*data, **known, protocols=("linear", "probe", "knn"), measure=AUC)
    full = {(r.protocol, r.metric): r.value for r in found.records if r.n_labels == "all"}
    assert {(r.protocol, r.metric): r.value for r in usual.records if r.n_labels == "all"}.items() <= full.items()
    assert {protocol for protocol, metric in full if metric == "auc"} == {"logistic/1", "logistic-holdout/1"}
    assert set(found.hits) == {"logistic/1", "logistic-holdout/1"}  # neighbours give no scores
    for protocol, parts in found.hits.items():
        assert full[protocol, "auc"] == parts.mean() > full[protocol, "accuracy"]
    assert {r.metric for r in found.records if r.n_labels != "all"} == {"auc"}


def test_a_regression_is_scored_by_ridge_with_all_labels_and_with_few() -> None:
    known: dict = {"dataset": "demo", "subject": "scarf", "seed": 0, "split": "test", "measure": R2, "draws": 3}
    found = evaluate_features(*numbers(), **known, protocols=("linear",), ladder=(5, 10, 300))
    full = {r.metric: r.value for r in found.records if r.n_labels == "all"}
    estimate = ridge(*numbers()[:3])
    assert full["r2"] == pytest.approx(r2_score(numbers()[3], estimate))
    assert full["rmse"] == pytest.approx(np.sqrt(np.mean((numbers()[3] - estimate) ** 2)))
    assert 0.97 < full["r2"] < 1
    few = [r for r in found.records if r.n_labels != "all"]
    assert {(r.protocol, r.metric) for r in few} == {(FEW_NUMBERS, "r2")}
    assert [(r.n_labels, r.n_train, r.draw) for r in few] == [(10, 10, 0), (10, 10, 1), (10, 10, 2), (300, 300, 0)]
    assert few[-1].value == pytest.approx(full["r2"])


def test_ridge_chooses_the_penalty_by_leaving_one_out() -> None:
    train_x, train_y, test_x, _ = numbers(25, noise=8.0)
    mean, std = train_x.astype(float).mean(axis=0), train_x.astype(float).std(axis=0)
    x, seen = (train_x - mean) / std, (test_x - mean) / std

    def fitted(x: np.ndarray, y: np.ndarray, penalty: float, new: np.ndarray) -> np.ndarray:
        centre = x.mean(axis=0)
        weights = np.linalg.solve((x - centre).T @ (x - centre) + penalty * np.eye(5), (x - centre).T @ (y - y.mean()))
        return (new - centre) @ weights + y.mean()

    errors = []
    for penalty in PENALTIES:
        left = [np.delete(np.arange(25), i) for i in range(25)]
        out = [fitted(x[rows], train_y[rows], penalty, x[i : i + 1])[0] for i, rows in enumerate(left)]
        errors.append(np.mean((out - train_y) ** 2))
    best = PENALTIES[int(np.argmin(errors))]
    assert PENALTIES[0] < best < PENALTIES[-1]
    np.testing.assert_allclose(ridge(train_x, train_y, test_x), fitted(x, train_y, best, seen), rtol=1e-6)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array(["a", "b", "c"]), "need as many numbers as training labels"),
        (np.array([1.0, 2.0]), "need as many numbers as training labels"),
        (np.array([1.0, np.nan, 2.0]), "hold 1 values that are NaN"),
    ],
)
def test_labels_that_are_no_numbers_are_refused(labels: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ridge(np.eye(3, dtype=np.float32), labels, np.eye(3, dtype=np.float32))


def test_protocols_stand_in_for_each_other_by_the_task_alone() -> None:
    assert protocol_for("linear", n_train=50, measure=R2).id == "ridge/1"
    assert protocol_for("probe", n_train=50_000, measure=R2).id == "ridge/1"
    assert protocol_for("linear", n_train=50, measure=AUC).id == "logistic/1"
    with pytest.raises(ValueError, match="protocol 'knn' cannot predict numbers; take linear or ridge"):
        protocol_for("knn", n_train=50, measure=R2)
    with pytest.raises(ValueError, match="protocol 'ridge' cannot predict classes"):
        protocol_for("ridge", n_train=50)


SUBJECTS = Subjects("scarf", "random-encoder", ("columns", "boosting"), {"boosting": "boosted trees on the columns"})


def regression(subject: str, noise: float, protocol: str = "ridge/1", seed: int = 0) -> Evaluation:
    truth = np.random.default_rng(0).normal(size=400)
    estimate = truth + noise * np.random.default_rng(seed + 1).normal(size=400)
    known: dict = {"dataset": "demo", "seed": seed, "split": "test", "n_train": 100, "measure": R2}
    return evaluate_predictions(estimate, truth, subject=subject, protocol=protocol, **known)


def test_a_regression_gets_the_same_sentences_in_its_own_unit(tmp_path: Path) -> None:
    runs = [regression("scarf", 0.4), regression("random-encoder", 0.7), regression("columns", 0.9)]
    runs += [regression("boosting", 0.3, BOOSTED), regression("scarf", 0.2, BOOSTED)]
    answer = verdict(runs, SUBJECTS, primary="ridge/1", examples="rows")
    assert answer.outcome == "helped"
    assert answer.headline.startswith("Pretraining helped: R² 0.86")
    assert "with the same encoder untrained, +0.278 (95 % interval +0" in answer.headline
    assert "%" not in answer.headline.replace("95 % interval", "")
    assert answer.details[0].startswith("boosted trees on the columns, the strongest control, remains ahead by 0.0")
    assert answer.details[1].startswith("Adding the embedding to the columns helps boosted trees: R² 0.96")
    records = [r for run in runs for r in run.records]
    text = "\n".join(as_text(table) for table in tables(records, SUBJECTS))
    assert "R² with 100 labels (mean" in text
    assert "RMSE with 100 labels (mean" in text
    report = Report("SCARF on demo", "400 rows", answer, SUBJECTS, records)
    write_report(tmp_path / "report.html", report)
    assert "R² of every subject and protocol" in (tmp_path / "report.html").read_text()


def test_trees_without_an_embedding_to_append_say_nothing_of_it() -> None:
    runs = [regression("scarf", 0.4), regression("random-encoder", 0.7), regression("boosting", 0.3, BOOSTED)]
    assert not any("Adding" in detail for detail in verdict(runs, SUBJECTS, primary="ridge/1").details)
