"""The protocol is a plain GridSearchCV, only sooner."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

from mmssl.eval import svm as module
from mmssl.eval.svm import svm


def reference(train_x: np.ndarray, train_y: np.ndarray) -> GridSearchCV:
    grid = {"C": [*(10.0**e for e in range(-4, 5)), np.inf]}
    search = GridSearchCV(SVC(gamma="scale", max_iter=10_000_000), grid, cv=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return search.fit(train_x, train_y)


@pytest.mark.parametrize(("n", "dim", "distance"), [(60, 8, 0.4), (120, 8, 1.0), (150, 40, 0.25), (90, 200, 0.2)])
def test_predictions_and_penalty_are_those_of_a_grid_search(
    classes: Callable, n: int, dim: int, distance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_x, train_y, test_x, _ = classes(n=n, dim=dim, distance=distance)
    expected = reference(train_x, train_y)
    chosen: list[float] = []
    choose = module.choose_penalty

    def listen(*arguments: Any) -> float:
        chosen.append(choose(*arguments))
        return chosen[-1]

    monkeypatch.setattr(module, "choose_penalty", listen)
    np.testing.assert_array_equal(svm(train_x, train_y, test_x), expected.predict(test_x))
    assert chosen == [expected.best_params_["C"]]


def test_a_class_rarer_than_the_folds_is_cross_validated_as_in_a_grid_search(classes: Callable) -> None:
    train_x, train_y, test_x, _ = classes(n=90)
    keep = np.flatnonzero((train_y != 2) | (np.arange(90) < 9))  # 3 examples of class 2
    expected = reference(train_x[keep], train_y[keep]).predict(test_x)
    np.testing.assert_array_equal(svm(train_x[keep], train_y[keep], test_x), expected)


def test_fewer_than_50_examples_take_an_unlimited_penalty(classes: Callable) -> None:
    train_x, train_y, test_x, _ = classes(n=48, distance=0.3)
    expected = SVC(C=np.inf, gamma="scale").fit(train_x, train_y).predict(test_x)
    np.testing.assert_array_equal(svm(train_x, train_y, test_x), expected)


def test_equal_examples_of_different_classes_do_not_keep_the_solver_forever() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    x = rng.normal(size=(60, 4)).astype(np.float32) + 4 * y[:, None].astype(np.float32)
    x[:4] = x[4]
    for n in (60, 40):  # with and without cross-validation
        assert (svm(x[:n], y[:n], x[4:]) == y[4:]).mean() > 0.9


def test_coefficients_that_overflow_are_no_hard_margin() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    x = np.column_stack([rng.normal(size=(120, 4)), 1e6 * rng.normal(size=120) * (1 + y)]).astype(np.float32)
    expected = GridSearchCV(SVC(gamma="scale"), {"C": [10.0**e for e in range(-4, 5)]}, cv=5).fit(x, y).predict(x)
    np.testing.assert_array_equal(svm(x, y, x), expected)


def test_a_fold_left_with_one_class_has_no_say() -> None:
    x = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    y = np.zeros(60, dtype=int)
    y[7] = 1
    assert svm(x, y, x[:20]).tolist() == [0] * 20  # every C is right on the other four folds; the smallest is taken


def test_constant_features_predict_without_a_warning() -> None:
    y = np.arange(60) % 2
    assert set(svm(np.ones((60, 3), np.float32), y, np.ones((5, 3), np.float32))) <= {0, 1}


def test_names_are_as_good_as_codes(classes: Callable) -> None:
    train_x, train_y, test_x, _ = classes()
    names = np.array(["walk", "run", "sit"], dtype=object)
    np.testing.assert_array_equal(svm(train_x, names[train_y], test_x), names[svm(train_x, train_y, test_x)])


def test_a_large_training_set_is_thinned_in_proportion_and_keeps_single_examples() -> None:
    y = np.concatenate([np.zeros(600, int), np.ones(300, int), [2]])
    kept = module._stratified_subset(y, 300)
    assert len(np.unique(kept)) == 300
    assert np.abs(np.bincount(y[kept]) - [200, 100, 1]).max() <= 1
    assert len(module._stratified_subset(np.arange(100) % 5, 99)) == 95  # scikit-learn leaves out 5 at least
