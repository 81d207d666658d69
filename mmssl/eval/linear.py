"""Logistic regression on frozen features: how much of the label a linear map can read off."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mmssl.eval.features import Features, Labels, check_features, check_labels, few_examples, standardise

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import ThreadpoolController

PENALTIES = (0.001, 0.01, 0.1, 1.0, 10.0)
FOLDS = 5
HELD_OUT = 0.2  # of the training examples, on which `probe` chooses its penalty
PROBE_ITERATIONS = 1_000
SMALL = 1 << 22  # values of the features; the products of a smaller fit take one thread less time than several


def linear(train_x: Features, train_y: Labels, test_x: Features) -> Labels:
    """Predict with multinomial logistic regression on standardised features.

    C is one of 0.001 … 10, the most accurate in 5-fold cross-validation (the smallest on a tie), where the training set
    has at least 50 examples and 5 a class on average; else C = 1.

    Args:
        train_x: ``(n, D)``.
        train_y: ``(n,)`` codes or names.
        test_x: ``(m, D)``.

    Returns:
        ``(m,)`` predicted classes.

    Raises:
        ValueError: a value that is not finite, or one class only.
    """
    model, test = _linear(train_x, train_y, test_x)
    return model.predict(test)


def linear_probabilities(train_x: Features, train_y: Labels, test_x: Features) -> npt.NDArray[np.floating[Any]]:
    """Probabilities ``(m, n_classes)`` of the classes in their sorted order; see `linear`."""
    model, test = _linear(train_x, train_y, test_x)
    return model.predict_proba(test)


def probe(train_x: Features, train_y: Labels, test_x: Features) -> Labels:
    """Predict with multinomial logistic regression whose penalty is chosen on a held-out fifth of the training set.

    For training sets on which the cross-validation of `linear` takes too long. C is one of 0.001 … 10, the most
    accurate on the held-out fifth (stratified, the same for all subjects; the smallest on a tie); C = 1 where no class
    has five examples. C rises, each fit starts from the one before, and two in a row that are no better end the search.
    The last fit takes all training examples. Computed in float32, with at most 1,000 steps of L-BFGS a fit.

    Args:
        train_x: ``(n, D)``.
        train_y: ``(n,)`` codes or names.
        test_x: ``(m, D)``.

    Returns:
        ``(m,)`` predicted classes.

    Raises:
        ValueError: a value that is not finite, or one class only.
    """
    model, test = _probe(train_x, train_y, test_x)
    return model.predict(test)


def probe_probabilities(train_x: Features, train_y: Labels, test_x: Features) -> npt.NDArray[np.floating[Any]]:
    """Probabilities ``(m, n_classes)`` of the classes in their sorted order; see `probe`."""
    model, test = _probe(train_x, train_y, test_x)
    return model.predict_proba(test)


def _linear(train_x: Features, train_y: Labels, test_x: Features) -> tuple[LogisticRegression, npt.NDArray[np.float64]]:
    """The model of `linear`, and the test features as it takes them."""
    check_features(train_x, "training features")
    check_features(test_x, "test features")
    check_labels(train_y, len(train_x))
    train, test = standardise(train_x, test_x)
    basis = row_space(train)
    if basis is not None:
        train, test = train @ basis, test @ basis
    return fit_logistic(train, train_y, _choose_penalty(train, train_y)), test


def _probe(train_x: Features, train_y: Labels, test_x: Features) -> tuple[LogisticRegression, npt.NDArray[np.float32]]:
    """The model of `probe`, and the test features as it takes them."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    check_features(train_x, "training features")
    check_features(test_x, "test features")
    check_labels(train_y, len(train_x))
    train, test = (part.astype(np.float32) for part in standardise(train_x, test_x))
    fitted, valid = _hold_out(train_y)
    model = LogisticRegression(warm_start=True, max_iter=PROBE_ITERATIONS)
    best, chosen, worse = -1.0, 1.0, 0
    with few_examples(), _threads(train), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for penalty in PENALTIES if len(valid) else ():
            model.set_params(C=penalty).fit(train[fitted], train_y[fitted])
            accuracy = float((model.predict(train[valid]) == train_y[valid]).mean())
            if accuracy > best:
                best, chosen, worse = accuracy, penalty, 0
            elif (worse := worse + 1) == 2:
                break
        return model.set_params(C=chosen).fit(train, train_y), test


def _hold_out(y: Labels) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Rows to fit and to validate on: a fifth of every class, rounded down, so that no class is validated on alone."""
    rng = np.random.default_rng(0)
    _, codes = np.unique(y, return_inverse=True)
    valid = np.zeros(len(y), dtype=bool)
    for code in range(codes.max() + 1):
        rows = rng.permutation(np.flatnonzero(codes == code))
        valid[rows[: int(HELD_OUT * len(rows))]] = True
    return np.flatnonzero(~valid), np.flatnonzero(valid)


def row_space(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
    """Find the orthonormal directions in which fewer examples than features differ; None where there are more examples.

    The weights of an L2-penalised linear model lie in the span of its training examples, so a model on ``x @ basis`` is
    the same model, only smaller: 500 columns for the 10,000 features of MiniRocket on 500 windows.

    Args:
        x: ``(n, D)``.

    Returns:
        ``(D, r)`` with ``r <= n``, or None.
    """
    n, d = x.shape
    if d <= n:
        return None
    return np.linalg.qr(x.T)[0]


def fit_logistic(x: npt.NDArray[np.float64], y: Labels, penalty: float) -> LogisticRegression:
    """Fit logistic regression to convergence.

    Args:
        x: ``(n, D)``, standardised.
        y: ``(n,)`` codes or names of at least two classes.
        penalty: scikit-learn's C, the inverse weight of the L2 term.
    """
    from sklearn.linear_model import LogisticRegression

    with few_examples(), _threads(x):
        # Status 2: the line search can no longer tell two losses apart, which is as converged as it gets.
        warnings.filterwarnings("ignore", message=r"lbfgs failed to converge.*status=2")
        return LogisticRegression(C=penalty, max_iter=100_000).fit(x, y)


def _threads(x: Features) -> AbstractContextManager[object]:
    """One thread for the products of a small fit: five times as fast as two, which mostly wait for each other."""
    return _pools().limit(limits=1, user_api="blas") if x.size < SMALL else nullcontext()


@cache
def _pools() -> ThreadpoolController:
    """The thread pools of the process, which take longer to find than a small fit."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _choose_penalty(x: npt.NDArray[np.float64], y: Labels) -> float:
    from sklearn.model_selection import StratifiedKFold

    if len(y) < 50 or len(y) // len(np.unique(y)) < 5:
        return 1.0
    with few_examples():
        folds = [(train, valid) for train, valid in StratifiedKFold(FOLDS).split(x, y) if len(np.unique(y[train])) > 1]
    if not folds:
        return 1.0
    right = [
        sum(float((fit_logistic(x[fit], y[fit], c).predict(x[valid]) == y[valid]).sum()) for fit, valid in folds)
        for c in PENALTIES
    ]
    return PENALTIES[int(np.argmax(right))]
