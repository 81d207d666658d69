"""Nearest neighbours on frozen features: what the embedding space itself knows, with nothing learned on top."""

from __future__ import annotations

from mmssl.eval.features import Features, Labels, check_features, check_labels, few_examples, standardise


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
