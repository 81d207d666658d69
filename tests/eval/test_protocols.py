"""kNN, logistic regression and the label-budget curve."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mmssl.eval import fewshot
from mmssl.eval.features import standardise
from mmssl.eval.fewshot import few_labels
from mmssl.eval.knn import knn, weighted_knn
from mmssl.eval.linear import PENALTIES, _hold_out, linear, probe
from mmssl.eval.svm import svm

PROTOCOLS = [
    svm,
    knn,
    weighted_knn,
    linear,
    probe,
    lambda a, b, c: [d.predictions for d in few_labels(a, b, c, draws=1)][-1],
]


@pytest.mark.parametrize("predict", PROTOCOLS)
def test_separable_classes_are_found_whatever_a_constant_feature_holds(classes: Callable, predict: Callable) -> None:
    train_x, train_y, test_x, test_y = classes(distance=6)
    train_x[:, 0] = test_x[:, 0] = 0.1
    assert (predict(train_x, train_y, test_x) == test_y).mean() > 0.98


@pytest.mark.parametrize("predict", PROTOCOLS)
@pytest.mark.parametrize("which", [0, 2])
def test_a_value_that_is_not_finite_is_named_by_row_and_column(
    classes: Callable, predict: Callable, which: int
) -> None:
    data = [a.copy() for a in classes()[:3]]
    data[which][4, 5] = np.inf
    name = "training features" if which == 0 else "test features"
    with pytest.raises(ValueError, match=f"{name} hold 1 NaN or infinite values, the first in row 4, column 5"):
        predict(*data)


@pytest.mark.parametrize("predict", PROTOCOLS)
def test_one_class_only_is_refused_by_name(classes: Callable, predict: Callable) -> None:
    train_x, train_y, test_x, _ = classes()
    with pytest.raises(ValueError, match="only one class \\('walk'\\)"):
        predict(train_x, np.full(len(train_y), "walk"), test_x)


@pytest.mark.parametrize("predict", PROTOCOLS)
def test_more_classes_than_half_the_examples_are_no_reason_to_warn(classes: Callable, predict: Callable) -> None:
    train_x, train_y, test_x, _ = classes(n=30, n_classes=20)
    assert set(predict(train_x, train_y, test_x)) <= set(train_y)


@pytest.mark.parametrize("k", [1, 5])
def test_knn_is_scaling_and_neighbours(classes: Callable, k: int) -> None:
    train_x, train_y, test_x, _ = classes(distance=0.5)
    reference = make_pipeline(StandardScaler(), KNeighborsClassifier(k)).fit(train_x, train_y)
    np.testing.assert_array_equal(knn(train_x, train_y, test_x, k), reference.predict(test_x))


def test_knn_refuses_more_neighbours_than_examples(classes: Callable) -> None:
    train_x, train_y, test_x, _ = classes()
    with pytest.raises(ValueError, match="between 1 and the 60 training examples, got 61"):
        knn(train_x, train_y, test_x, 61)


@pytest.mark.parametrize("dim", [8, 300])
def test_linear_is_scaling_and_logistic_regression_also_where_features_outnumber_examples(
    classes: Callable, dim: int
) -> None:
    train_x, train_y, test_x, _ = classes(n=45, dim=dim, distance=0.3)  # below 50 examples C is 1
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=10_000, tol=1e-8))
    expected = pipeline.fit(train_x.astype(np.float64), train_y).predict(test_x)
    np.testing.assert_array_equal(linear(train_x, train_y, test_x), expected)


def test_linear_chooses_a_strong_penalty_where_labels_are_noise() -> None:
    rng = np.random.default_rng(0)
    x, signal = rng.normal(size=(400, 40)).astype(np.float32), rng.normal(size=400)
    y = (x[:, 0] + 2 * signal > 0).astype(int)
    free = LogisticRegression(C=1e4, max_iter=10_000).fit(x[:100], y[:100]).predict(x[100:])
    chosen = linear(x[:100], y[:100], x[100:])
    assert (chosen == y[100:]).mean() > (free == y[100:]).mean()


def test_the_probe_is_logistic_regression_with_the_penalty_that_a_held_out_fifth_prefers(classes: Callable) -> None:
    train_x, train_y, test_x, _ = classes(n=1200, dim=20, distance=0.3)
    scaler = StandardScaler().fit(train_x)
    train, test = scaler.transform(train_x), scaler.transform(test_x)
    fit, valid = _hold_out(train_y)

    def logistic(c: float) -> LogisticRegression:
        return LogisticRegression(C=c, max_iter=10_000)

    accuracy = [logistic(c).fit(train[fit], train_y[fit]).score(train[valid], train_y[valid]) for c in PENALTIES]
    best = PENALTIES[int(np.argmax(accuracy))]
    assert PENALTIES[0] < best < PENALTIES[-1]
    expected = logistic(best).fit(train, train_y).predict(test)
    assert (probe(train_x, train_y, test_x) == expected).mean() > 0.995  # float32


def test_the_probe_validates_on_a_fifth_of_every_class() -> None:
    y = np.repeat(["a", "b", "c"], [50, 10, 4])
    fitted, valid = _hold_out(y)
    assert sorted([*fitted, *valid]) == list(range(64))
    assert {c: int((y[valid] == c).sum()) for c in "abc"} == {"a": 10, "b": 2, "c": 0}


def test_a_constant_column_of_rounding_errors_is_not_blown_up() -> None:
    x = np.full((50, 1), 0.1, np.float32)
    x[::2] = np.nextafter(np.float32(0.1), np.float32(1))
    assert np.abs(standardise(x)[0]).max() < 1e-6


def test_the_curve_climbs_the_ladder_up_to_the_largest_class(classes: Callable) -> None:
    train_x, train_y, test_x, _ = classes(n=60)  # 20 a class
    curve = list(few_labels(train_x, train_y, test_x, draws=3))
    assert {k: len(list(g)) for k, g in groupby(curve, key=lambda d: d.n_labels)} == {1: 3, 2: 3, 5: 3, 10: 3, 20: 1}
    assert all(d.n_train == 3 * d.n_labels for d in curve)


def test_a_small_class_contributes_all_it_has(classes: Callable) -> None:
    train_x, train_y, test_x, _ = classes(n=60)
    keep = np.flatnonzero((train_y != 2) | (np.arange(60) < 9))  # 3 examples of class 2
    curve = few_labels(train_x[keep], train_y[keep], test_x, draws=1)
    assert [d.n_train for d in curve] == [3, 6, 13, 23, 43]


def test_every_subject_sees_the_same_draws(classes: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    draw = fewshot._draw

    def listen(*arguments: Any) -> np.ndarray:
        chosen = draw(*arguments)
        seen.append(tuple(chosen))
        return chosen

    monkeypatch.setattr(fewshot, "_draw", listen)
    train_x, train_y, test_x, _ = classes()

    def rows(x: np.ndarray, y: np.ndarray, seed: int) -> list[tuple[int, ...]]:
        seen.clear()
        list(few_labels(x, y, test_x[:, : x.shape[1]], draws=2, seed=seed))
        return list(seen)

    first = rows(train_x, train_y, 0)
    assert len(set(first)) == len(first)
    assert rows(train_x[:, :3] ** 2, train_y, 0) == first
    assert rows(train_x, train_y, 1) != first


def test_more_labels_are_better(classes: Callable) -> None:
    train_x, train_y, test_x, test_y = classes(n=150, distance=0.7)
    curve = list(few_labels(train_x, train_y, test_x))
    accuracy = {k: np.mean([d.predictions == test_y for d in g]) for k, g in groupby(curve, key=lambda d: d.n_labels)}
    assert accuracy[50] > accuracy[1] + 0.1
