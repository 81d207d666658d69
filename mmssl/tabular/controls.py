"""What a pretrained encoder has to beat: the scaled columns themselves, and gradient-boosted trees on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from mmssl.tabular.cells import FlatCells

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

Floats = npt.NDArray[np.float32]
TREE_CATEGORIES = 255  # that scikit-learn's boosting takes as categories; columns with more are numbers to it


def columns(x: Floats, cardinalities: Sequence[int]) -> Floats:
    """Model input as a linear model takes it, ``(n, M)`` to ``(n, F)``: numbers, indicators, one-hot categories."""
    flat: Floats = FlatCells(cardinalities)(torch.from_numpy(x)).numpy()
    return flat


def boosting(
    train_x: Floats,
    train_y: npt.NDArray[np.generic],
    test_x: Floats,
    cardinalities: Sequence[int],
    *,
    train_z: Floats | None = None,
    test_z: Floats | None = None,
    regression: bool = False,
    seed: int = 0,
) -> npt.NDArray[np.float64]:
    """Scikit-learn's histogram gradient boosting, with embeddings appended to the columns or without.

    At its defaults from 400 rows on. With fewer its least leaf of 20 rows would leave stumps, and below 40 rows a
    constant: a leaf is a twentieth of the rows then.

    Args:
        train_x: ``(n, M)`` model input.
        train_y: ``(n,)`` class codes or names, or numbers.
        test_x: ``(m, M)``.
        cardinalities: for each column the size of its vocabulary, 0 for a numeric one.
        train_z, test_z: ``(n, D)`` and ``(m, D)``, embeddings to append.
        regression: is ``train_y`` numbers to predict?
        seed: of the rows that early stopping holds out, above 10,000.

    Returns:
        Probabilities ``(m, n_classes)``, classes in their sorted order; or estimates ``(m,)``.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    categorical = [0 < k < TREE_CATEGORIES for k in cardinalities]
    if train_z is not None and test_z is not None:
        train_x, test_x = np.concatenate([train_x, train_z], axis=1), np.concatenate([test_x, test_z], axis=1)
        categorical += [False] * train_z.shape[1]
    leaf = min(20, max(1, len(train_x) // 20))
    options: dict[str, Any] = {"categorical_features": categorical, "random_state": seed, "min_samples_leaf": leaf}
    if regression:
        trees: HistGradientBoostingRegressor = HistGradientBoostingRegressor(**options).fit(train_x, train_y)
        estimates: npt.NDArray[np.float64] = trees.predict(test_x)
        return estimates
    forest: HistGradientBoostingClassifier = HistGradientBoostingClassifier(**options).fit(train_x, train_y)
    probabilities: npt.NDArray[np.float64] = forest.predict_proba(test_x)
    return probabilities
