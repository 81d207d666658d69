"""What every protocol asks of features and labels before it trusts them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

Features = npt.NDArray[np.floating[Any]]  # (n, D)
Labels = npt.NDArray[Any]  # (n,) class codes or names


def check_features(x: Features, name: str = "features") -> None:
    """Refuse features that no classifier can use.

    Args:
        x: ``(n, D)``.
        name: whose features they are, as the message should say it.

    Raises:
        ValueError: not two-dimensional, empty, or a NaN or infinite value; the first such row and column are named.
    """
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"{name} must be a table (n, D) with at least one row and column, got shape {x.shape}")
    finite = np.isfinite(x)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise ValueError(
            f"{name} hold {np.count_nonzero(~finite)} NaN or infinite values, the first in row {row}, column {column}; "
            "did training diverge, or does a channel hold no value at all?"
        )


def check_labels(y: Labels, n: int, name: str = "training labels") -> None:
    """Refuse labels that cannot train a classifier.

    Raises:
        ValueError: another number of labels than features, or one class only.
    """
    if y.shape != (n,):
        raise ValueError(f"{n} rows of features but {name} of shape {y.shape}")
    classes = np.unique(y)
    if len(classes) < 2:
        raise ValueError(f"only one class ('{classes[0]}') in the {name}: a classifier needs at least two")


@contextmanager
def few_examples() -> Iterator[None]:
    """Silence what scikit-learn says of classes with few examples: here they are asked for, not an oversight."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The number of unique classes is greater than 50%")
        warnings.filterwarnings("ignore", message="The least populated class in y")
        yield


def standardise(x: Features, *others: Features) -> tuple[npt.NDArray[np.float64], ...]:
    """Shift and scale by the mean and standard deviation of ``x``; a feature that is constant in it is only shifted.

    Args:
        x: ``(n, D)``, what mean and standard deviation are taken from.
        others: ``(m, D)`` each, brought to the same scale.

    Returns:
        ``x`` and ``others`` in float64.
    """
    reference = x.astype(np.float64)
    mean, std = reference.mean(axis=0), reference.std(axis=0)
    # A constant column has a standard deviation of rounding errors, not of 0; dividing by it would make noise of it.
    std[std <= 10 * np.finfo(x.dtype).eps * np.abs(mean)] = 1.0
    std[std == 0] = 1.0
    return tuple((part - mean) / std for part in (reference, *others))
