"""Which new examples are unlike the training ones? Distances of embeddings, and a threshold from training alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mmssl.eval.detection import Mask, Scores, knn_distance, mahalanobis_distance
from mmssl.eval.features import Features

Distance = Literal["knn", "mahalanobis"]
SET_ASIDE = (
    0.2  # of the training examples: the threshold is theirs, and they are not among those that are compared with
)


@dataclass(frozen=True)
class Novelty:
    """How unlike the training examples each new one is.

    Args:
        scores: ``(m,)``, larger is less usual.
        threshold: that training examples which were set aside exceed at the chosen rate.
    """

    scores: Scores
    threshold: float

    @property
    def unusual(self) -> Mask:
        """``(m,)``, True for those beyond the threshold."""
        return self.scores > self.threshold


def novelty(
    train: Features, new: Features, *, distance: Distance = "knn", rate: float = 0.01, seed: int = 0
) -> Novelty:
    """Score new examples by their distance to training examples.

    Args:
        train: ``(n, D)`` embeddings of training examples, which count as usual.
        new: ``(m, D)``.
        distance: ``"knn"`` to the five nearest, or ``"mahalanobis"``; see `mmssl.eval.detection`.
        rate: share of usual examples that may be called unusual.
        seed: of the training examples that are set aside for the threshold.

    Raises:
        ValueError: too few training examples for the rate.
    """
    if distance not in ("knn", "mahalanobis"):
        raise ValueError(f"distance must be knn or mahalanobis, got {distance!r}")
    order = np.random.default_rng(seed).permutation(len(train))
    aside, kept = np.split(order, [int(SET_ASIDE * len(train))])
    if not 0 < rate < 1 or rate * len(aside) < 1:
        raise ValueError(
            f"a rate of {rate:g} cannot be told from {len(aside):,} training examples ({SET_ASIDE:.0%} of them all, "
            f"set aside for the threshold): it must lie between {1 / max(len(aside), 1):.2g} and 1"
        )
    measure = knn_distance if distance == "knn" else mahalanobis_distance
    scores = measure(train[kept], np.concatenate([train[aside], new]))
    own, others = np.split(scores, [len(aside)])
    return Novelty(others, float(np.quantile(own, 1 - rate, method="higher")))
