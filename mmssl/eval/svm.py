"""Support vector machine on frozen features: the classification protocol of TS2Vec (Yue et al., arXiv 2106.10466).

Features are not standardised and C is chosen by cross-validation on the training set: the published protocol.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mmssl.eval.features import Features, Labels, check_features, check_labels, few_examples

if TYPE_CHECKING:
    from sklearn.svm import SVC

PENALTIES = (*(10.0**e for e in range(-4, 5)), np.inf)
FOLDS = 5
MAX_TRAIN = 10_000


def svm(train_x: Features, train_y: Labels, test_x: Features) -> Labels:
    """Predict with an RBF support vector machine whose C is chosen by 5-fold cross-validation.

    As in the authors' code, gamma is "scale", C is one of 10^-4 … 10^4 and infinity, a training set with fewer than 50
    examples (or fewer than 5 a class on average) takes C = infinity unseen, and of more than 10,000 examples a
    stratified 10,000 are used. The choice is that of scikit-learn's ``GridSearchCV``, only sooner: distances are
    computed once instead of once a fit (about 2 GB in all for 10,000 examples). Where no hard margin exists the solver
    never ends; C = infinity is then no candidate.

    Args:
        train_x: ``(n, D)``.
        train_y: ``(n,)`` codes or names.
        test_x: ``(m, D)``.

    Returns:
        ``(m,)`` predicted classes.

    Raises:
        ValueError: a value that is not finite, or one class only.
    """
    check_features(train_x, "training features")
    check_features(test_x, "test features")
    check_labels(train_y, len(train_x))
    x, y, penalty = train_x.astype(np.float64), train_y, np.inf
    n_classes = len(np.unique(y))
    if len(y) // n_classes < 5 or len(y) < 50:
        distances = squared_distances(x, x)
    else:
        if len(y) > MAX_TRAIN:
            keep = _stratified_subset(y, MAX_TRAIN)
            x, y = x[keep], y[keep]
        distances = squared_distances(x, x)
        penalty = choose_penalty(x, y, distances)
    gamma = gamma_of(x)
    kernel = kernel_of(distances, gamma)
    del distances
    machine = fit(kernel, y, penalty) or fit(kernel, y, PENALTIES[-2])
    assert machine is not None  # a finite C always has a solution
    blocks = np.array_split(test_x, max(1, len(test_x) // 2_000))  # bounds the (m, n) kernel
    return np.concatenate([machine.predict(kernel_of(squared_distances(block, x), gamma)) for block in blocks])


def choose_penalty(
    x: Features, y: Labels, distances: npt.NDArray[np.float64], penalties: Sequence[float] = PENALTIES
) -> float:
    """The C that predicts best in 5-fold cross-validation.

    Args:
        x: ``(n, D)``.
        y: ``(n,)``.
        distances: ``(n, n)``, squared, of ``x``.
        penalties: candidates, in rising order.
    """
    from sklearn.model_selection import StratifiedKFold

    with few_examples():  # the protocol cross-validates even where a class has fewer examples than there are folds
        folds = list(StratifiedKFold(FOLDS).split(x, y))
    # With a rare class a fold may be left with one class to train on, and then has nothing to say about C.
    folds = [(train, valid) for train, valid in folds if len(np.unique(y[train])) > 1]
    scores = np.zeros((len(penalties), len(folds)))
    for f, (train, valid) in enumerate(folds):
        gamma = gamma_of(x[train])
        fitting = kernel_of(distances[np.ix_(train, train)], gamma)
        scoring = kernel_of(distances[np.ix_(valid, train)], gamma)
        for c, penalty in enumerate(penalties):
            if scores[c, f] == -np.inf:
                continue
            machine = fit(fitting, y[train], penalty)
            if machine is None:
                scores[c] = -np.inf
                continue
            scores[c, f] = np.mean(machine.predict(scoring) == y[valid])
            if np.abs(machine.dual_coef_).max() < penalty:  # no example is at the bound: a larger C changes nothing
                scores[c + 1 :, f] = np.where(scores[c + 1 :, f] == -np.inf, -np.inf, scores[c, f])
                break
    return float(penalties[scores.mean(axis=1).argmax()]) if folds else penalties[-1]


def fit(kernel: npt.NDArray[np.float64], y: Labels, penalty: float) -> SVC | None:
    """A machine for a precomputed kernel; None where C is infinite and no hard margin is found."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import SVC

    # The authors allow 10 million steps. A hard margin that exists is found in a hundredth of that; where none exists,
    # ten million steps a pair of classes take minutes and end nowhere, or in infinite coefficients.
    hard = bool(np.isinf(penalty))
    machine = SVC(C=penalty, kernel="precomputed", max_iter=1_000_000 if hard else 10_000_000)
    with few_examples(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fit_status_ says the same
        try:
            machine.fit(kernel, y)
        except ValueError as error:
            if hard and "not finite" in str(error):
                return None
            raise
    return None if hard and machine.fit_status_ else machine


def gamma_of(x: Features) -> float:
    """Scikit-learn's ``gamma="scale"``."""
    variance = float(x.var())
    return 1.0 / (x.shape[1] * variance) if variance else 1.0


def squared_distances(a: Features, b: Features) -> npt.NDArray[np.float64]:
    """``(n, m)`` between the rows of ``(n, D)`` and ``(m, D)``."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    distances = a @ b.T
    distances *= -2.0
    distances += (a * a).sum(axis=1)[:, None]
    distances += (b * b).sum(axis=1)[None]
    return np.maximum(distances, 0.0, out=distances)


def kernel_of(distances: npt.NDArray[np.float64], gamma: float) -> npt.NDArray[np.float64]:
    """The RBF kernel of squared distances."""
    kernel = distances * -gamma
    return np.exp(kernel, out=kernel)


def _stratified_subset(y: Labels, size: int) -> npt.NDArray[np.intp]:
    from sklearn.model_selection import train_test_split

    _, codes, counts = np.unique(y, return_inverse=True, return_counts=True)
    single = counts[codes] == 1  # nothing to stratify: kept whole
    rest = np.flatnonzero(~single)
    # scikit-learn wants at least one example a class in the part that is left out
    size = min(size - int(single.sum()), len(rest) - int((counts > 1).sum()))
    kept, _ = train_test_split(rest, train_size=size, random_state=0, stratify=codes[rest])
    return np.concatenate([kept, np.flatnonzero(single)])
