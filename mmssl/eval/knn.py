"""Nearest neighbours on frozen features: what the embedding space itself knows, with nothing learned on top."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mmssl.eval.features import Features, Labels, check_features, check_labels, few_examples, standardise

BLOCK_BYTES = 2**26  # of a block of similarities


def knn(train_x: Features, train_y: Labels, test_x: Features, k: int = 1) -> Labels:
    """Predict the majority class of the ``k`` nearest training examples, Euclidean on standardised features.

    Args:
        train_x: ``(n, D)``.
        train_y: ``(n,)`` codes or names.
        test_x: ``(m, D)``.
        k: number of neighbours.

    Returns:
        ``(m,)`` predicted classes.

    Raises:
        ValueError: a value that is not finite, one class only, or ``k`` outside 1 … n.
    """
    from sklearn.neighbors import KNeighborsClassifier

    check_features(train_x, "training features")
    check_features(test_x, "test features")
    check_labels(train_y, len(train_x))
    if not 1 <= k <= len(train_x):
        raise ValueError(f"k must be between 1 and the {len(train_x)} training examples, got {k}")
    train, test = standardise(train_x, test_x)
    with few_examples():
        return KNeighborsClassifier(n_neighbors=k).fit(train, train_y).predict(test)


def weighted_knn(
    train_x: Features, train_y: Labels, test_x: Features, k: int = 200, temperature: float = 0.1
) -> Labels:
    """Predict the class with the largest sum of exp(cosine / temperature) over the ``k`` nearest training examples.

    The protocol of Wu et al. (CVPR 2018) in which joint-embedding methods are compared (DINO and others): cosine
    similarity of the features as they are, not standardised. A training set of fewer than ``k`` votes as a whole. Among
    classes with the same sum the first wins.

    Args:
        train_x: ``(n, D)``.
        train_y: ``(n,)`` codes or names.
        test_x: ``(m, D)``.
        k: number of neighbours.
        temperature: of the weights; small ones let the nearest decide.

    Returns:
        ``(m,)`` predicted classes.

    Raises:
        ValueError: a value that is not finite, one class only, ``k`` below 1, or a temperature that is not positive.
    """
    check_features(train_x, "training features")
    check_features(test_x, "test features")
    check_labels(train_y, len(train_x))
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    k = min(k, len(train_x))
    classes, codes = np.unique(train_y, return_inverse=True)
    bank, queries = _unit(train_x), _unit(test_x)
    blocks = np.array_split(queries, max(1, len(queries) * len(bank) * 4 // BLOCK_BYTES + 1))
    return classes[np.concatenate([_vote(block, bank, codes, len(classes), k, temperature) for block in blocks])]


def _vote(
    queries: npt.NDArray[np.float32],
    bank: npt.NDArray[np.float32],
    codes: npt.NDArray[np.intp],
    n_classes: int,
    k: int,
    temperature: float,
) -> npt.NDArray[np.intp]:
    """Class codes ``(m,)`` for unit vectors ``(m, D)`` against ``(n, D)``."""
    similarity = queries @ bank.T  # (m, n)
    nearest = np.argpartition(similarity, -k, axis=1)[:, -k:] if k < len(bank) else np.arange(k)[None]  # (m, k)
    weights = np.exp((np.take_along_axis(similarity, nearest, axis=1).astype(np.float64) - 1) / temperature)
    row = np.arange(len(queries))[:, None]
    votes = np.bincount((row * n_classes + codes[nearest]).ravel(), weights.ravel(), len(queries) * n_classes)
    return votes.reshape(-1, n_classes).argmax(axis=1)


def _unit(x: Features) -> npt.NDArray[np.float32]:
    """Rows of length 1; a row of zeros stays one."""
    scaled = x / np.maximum(np.abs(x).max(axis=1, keepdims=True), np.finfo(x.dtype).tiny)  # squares cannot overflow
    norm = np.linalg.norm(scaled, axis=1, keepdims=True)
    return (scaled / np.where(norm > 0, norm, 1)).astype(np.float32)
