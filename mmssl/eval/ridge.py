"""Ridge regression on frozen features: how much of a number a linear map can read off."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mmssl.eval.features import Features, Labels, check_features, standardise

PENALTIES = tuple(10.0**e for e in range(-3, 7))
FEWEST = 2  # training examples


def ridge(train_x: Features, train_y: Labels, test_x: Features) -> npt.NDArray[np.float64]:
    """Predict with ridge regression on standardised features.

    The penalty is one of 10^-3 … 10^6, the one with the least squared error when each training example is predicted
    from all others (leave-one-out, in closed form).

    Args:
        train_x: ``(n, D)``.
        train_y: ``(n,)`` numbers.
        test_x: ``(m, D)``.

    Returns:
        ``(m,)`` estimates.

    Raises:
        ValueError: a value that is not finite, or a single training example.
    """
    from sklearn.linear_model import RidgeCV

    check_features(train_x, "training features")
    check_features(test_x, "test features")
    check_numbers(train_y, len(train_x))
    train, test = standardise(train_x, test_x)
    estimates: npt.NDArray[np.float64] = RidgeCV(alphas=PENALTIES).fit(train, train_y).predict(test)
    return estimates


def check_numbers(y: npt.NDArray[Any], n: int, name: str = "training labels") -> None:
    """Refuse labels that cannot train a regression.

    Raises:
        ValueError: another number of labels than features, too few, no numbers, or not finite ones.
    """
    if y.shape != (n,) or not np.issubdtype(y.dtype, np.number):
        raise ValueError(f"{n} rows of features need as many numbers as {name}, got {y.dtype} of shape {y.shape}")
    if n < FEWEST:
        raise ValueError(f"a regression needs at least {FEWEST} {name}, got {n}")
    if not np.isfinite(y).all():
        raise ValueError(f"{name} hold {np.count_nonzero(~np.isfinite(y))} values that are NaN or infinite")
