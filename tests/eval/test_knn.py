"""The weighted vote of the 200 nearest by cosine, against a loop over test examples."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from mmssl.eval import knn as module
from mmssl.eval.knn import weighted_knn


def slow(train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, k: int, temperature: float) -> list[object]:
    """Wu et al. (2018), equation 7, one example and one neighbour at a time."""
    found = []
    for query in test_x.astype(np.float64):
        cosines = [
            float(query @ x) / (math.hypot(*query) * math.hypot(*x)) for x in train_x.astype(np.float64)
        ]  # fmt: skip
        nearest = sorted(range(len(cosines)), key=lambda i: -cosines[i])[:k]
        votes: dict[object, float] = {}
        for i in nearest:
            votes[train_y[i]] = votes.get(train_y[i], 0.0) + math.exp(cosines[i] / temperature)
        found.append(max(sorted(votes), key=lambda label: votes[label]))  # type: ignore[type-var]
    return found


@given(st.integers(0, 2**31), st.sampled_from([1, 3, 20, 500]), st.sampled_from([0.02, 0.1, 5.0]))
def test_it_is_the_weighted_vote_of_the_nearest(seed: int, k: int, temperature: float) -> None:
    rng = np.random.default_rng(seed)
    train_x, test_x = (rng.normal(size=(n, 6)).astype(np.float32) + 0.5 for n in (40, 7))
    train_y = np.array(["b", "a", "c"])[rng.integers(0, 3, 40)]
    train_y[:2] = ["a", "b"]
    assert weighted_knn(train_x, train_y, test_x, k, temperature).tolist() == slow(
        train_x, train_y, test_x, k, temperature
    )


def test_it_is_scikit_learns_classifier_with_these_weights(classes: Callable) -> None:
    train_x, train_y, test_x, _ = classes(n=300, distance=0.5)
    reference = KNeighborsClassifier(200, metric="cosine", weights=lambda d: np.exp((1 - d) / 0.1))
    expected = reference.fit(train_x, train_y).predict(test_x)
    np.testing.assert_array_equal(weighted_knn(train_x, train_y, test_x), expected)


def test_blocks_change_nothing(classes: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    train_x, train_y, test_x, _ = classes(n=300, distance=0.5)
    whole = weighted_knn(train_x, train_y, test_x)
    monkeypatch.setattr(module, "BLOCK_BYTES", 3_000)
    np.testing.assert_array_equal(weighted_knn(train_x, train_y, test_x), whole)


def test_fewer_examples_than_neighbours_vote_as_a_whole(classes: Callable) -> None:
    train_x, train_y, test_x, _ = classes()
    np.testing.assert_array_equal(
        weighted_knn(train_x, train_y, test_x, 10_000), weighted_knn(train_x, train_y, test_x, 60)
    )


def test_lengths_of_features_do_not_matter_however_extreme(classes: Callable) -> None:
    train_x, train_y, test_x, _ = classes(distance=0.5)
    factors = np.logspace(-30, 30, len(train_x), dtype=np.float32)[:, None]
    np.testing.assert_array_equal(
        weighted_knn(train_x * factors, train_y, test_x * 1e25), weighted_knn(train_x, train_y, test_x)
    )


def test_a_feature_of_zeros_votes_for_the_majority() -> None:
    x = np.array([[1, 0], [0, 1], [0, 1]], dtype=np.float32)
    assert weighted_knn(x, np.array([0, 1, 1]), np.zeros((1, 2), np.float32)).tolist() == [1]


@pytest.mark.parametrize(
    ("k", "temperature", "message"),
    [(0, 0.1, "k must be at least 1, got 0"), (5, 0.0, "temperature must be positive, got 0")],
)
def test_impossible_settings_are_refused(classes: Callable, k: int, temperature: float, message: str) -> None:
    train_x, train_y, test_x, _ = classes()
    with pytest.raises(ValueError, match=message):
        weighted_knn(train_x, train_y, test_x, k, temperature)
