"""The machine in ten folds against scikit-learn's grid search, which the published protocol calls."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.svm import SVC

from mmssl.eval.folds import PENALTIES, svm_in_folds


def blobs(n: int = 50, *, apart: float = 1.2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, n)
    return rng.standard_normal((n, 4)) + apart * y[:, None], np.array(["a", "b"])[y]


def test_predictions_are_those_of_a_grid_search_in_every_fold() -> None:
    x, y = blobs()
    expected = np.empty_like(y)
    for train, test in StratifiedKFold(10, shuffle=True, random_state=3).split(x, y):
        search = GridSearchCV(SVC(), {"C": list(PENALTIES)}, cv=5).fit(x[train], y[train])
        expected[test] = search.predict(x[test])
    assert (svm_in_folds(x, y, seed=3) == expected).all()


def test_a_seed_makes_the_folds() -> None:
    x, y = blobs(40, apart=0.0)
    one, two, other = (svm_in_folds(x, y, seed=seed) for seed in (1, 1, 2))
    assert (one == two).all()
    assert (one != other).any()


def test_what_cannot_be_folded_is_refused() -> None:
    x, y = blobs(60)
    with pytest.raises(ValueError, match=r"class b has 9 examples, fewer than 10 folds.*data.split=random"):
        svm_in_folds(x[:40], np.array(["a"] * 31 + ["b"] * 9))
    with pytest.raises(ValueError, match="only one class"):
        svm_in_folds(x, np.full(60, "a"))
    with pytest.raises(ValueError, match="NaN or infinite"):
        svm_in_folds(np.full((60, 2), np.nan), y)
