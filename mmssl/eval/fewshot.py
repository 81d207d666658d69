"""The label-budget curve: accuracy from a few labels a class, over several random draws of the labelled examples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from mmssl.eval.features import Features, Labels, check_features, check_labels, standardise
from mmssl.eval.linear import fit_logistic, row_space
from mmssl.eval.ridge import check_numbers, ridge

LADDER = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
FEWEST_NUMBERS = 10  # labels that a regression starts with


class Draw(NamedTuple):
    """One draw of labelled examples and what was predicted from it.

    Args:
        n_labels: labels a class; of a regression, labels.
        draw: number of the draw.
        n_train: labelled examples used; fewer than ``n_labels`` times classes where a class has fewer.
        predictions: ``(m,)`` predicted classes of the test examples, scores of the second of two classes, or numbers.
    """

    n_labels: int
    draw: int
    n_train: int
    predictions: npt.NDArray[Any]


def few_labels(
    train_x: Features,
    train_y: Labels,
    test_x: Features,
    *,
    draws: int = 5,
    seed: int = 0,
    ladder: tuple[int, ...] = LADDER,
    of: Literal["class", "score", "number"] = "class",
) -> Iterator[Draw]:
    """Predict from ``k`` labels a class, for every ``k`` of ``ladder`` up to the size of the largest class.

    Logistic regression with C = 1. Features are standardised with the whole training set, whose features are at hand
    without labels. A draw depends on the labels, ``seed``, ``k`` and its number alone, so every encoder sees the same
    draws. A class with fewer than ``k`` examples contributes all; where every class does there is only one draw.

    A regression is by `ridge`, from ``k`` labels in all, 10 at least.

    Args:
        train_x: ``(n, D)``.
        train_y: ``(n,)`` codes or names.
        test_x: ``(m, D)``.
        draws: draws for each ``k``.
        seed: seed of the draws.
        ladder: labels a class, rising.
        of: what is predicted; see `mmssl.eval.measures.Measure`.

    Raises:
        ValueError: a value that is not finite, or one class only.
    """
    check_features(train_x, "training features")
    check_features(test_x, "test features")
    if of == "number":
        yield from _few_numbers(train_x, train_y, test_x, draws=draws, seed=seed, ladder=ladder)
        return
    check_labels(train_y, len(train_x))
    train, test = standardise(train_x, test_x)
    _, codes, counts = np.unique(train_y, return_inverse=True, return_counts=True)
    members = [np.flatnonzero(codes == c) for c in range(len(counts))]
    for k in ladder:
        if k > counts.max():
            return
        for draw in range(draws if k < counts.max() else 1):
            chosen = _draw(members, k, np.random.default_rng((seed, k, draw)))
            x = train[chosen]
            basis = row_space(x)
            small, seen = (x, test) if basis is None else (x @ basis, test @ basis)
            model = fit_logistic(small, train_y[chosen], 1.0)
            predictions = model.predict(seen) if of == "class" else model.predict_proba(seen)[:, 1]
            yield Draw(k, draw, len(chosen), predictions)


def _few_numbers(
    train_x: Features, train_y: Labels, test_x: Features, *, draws: int, seed: int, ladder: tuple[int, ...]
) -> Iterator[Draw]:
    check_numbers(train_y, len(train_x))
    for k in (k for k in ladder if FEWEST_NUMBERS <= k <= len(train_y)):
        for draw in range(draws if k < len(train_y) else 1):
            chosen = np.random.default_rng((seed, k, draw)).permutation(len(train_y))[:k]
            yield Draw(k, draw, k, ridge(train_x[chosen], train_y[chosen], test_x))


def _draw(members: list[npt.NDArray[np.intp]], k: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    return np.concatenate([rng.permutation(rows)[:k] for rows in members])
