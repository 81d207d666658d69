"""Which new examples are unlike the training ones? Distances of embeddings, and a threshold from training alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from mmssl.eval.detection import Mask, Scores, knn_distance, mahalanobis_distance
from mmssl.eval.features import Features

Distance = Literal["knn", "mahalanobis"]
Positions = npt.NDArray[np.intp]
SET_ASIDE = 0.2  # of the training examples: the threshold is theirs, and nothing is compared with them


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
    train: Features,
    new: Features,
    *,
    distance: Distance = "knn",
    rate: float = 0.01,
    seed: int = 0,
    groups: npt.NDArray[np.generic] | None = None,
    overlap: int = 0,
) -> Novelty:
    """Score new examples by their distance to training examples.

    Args:
        train: ``(n, D)`` embeddings of training examples, which count as usual.
        new: ``(m, D)``.
        distance: ``"knn"`` to the five nearest, or ``"mahalanobis"``; see `mmssl.eval.detection`.
        rate: share of usual examples that may be called unusual.
        seed: of the training examples that are set aside for the threshold.
        groups: ``(n,)`` the series of which an example is a window, one window after the other; None for examples that
            have nothing to do with each other. Windows of a series are set aside together: they are like each other.
        overlap: how many windows before one have rows in common with it.

    Raises:
        ValueError: too few training examples for the rate.
    """
    if distance not in ("knn", "mahalanobis"):
        raise ValueError(f"distance must be knn or mahalanobis, got {distance!r}")
    rng = np.random.default_rng(seed)
    if groups is None:
        aside, kept = np.split(rng.permutation(len(train)), [int(SET_ASIDE * len(train))])
    else:
        aside, kept = _apart(groups, overlap, rng)
    if not 0 < rate < 1 or rate * len(aside) < 1:
        raise ValueError(
            f"a rate of {rate:g} cannot be told from {len(aside):,} training examples ({SET_ASIDE:.0%} of them all, "
            f"set aside for the threshold): it must lie between {1 / max(len(aside), 1):.2g} and 1"
        )
    measure = knn_distance if distance == "knn" else mahalanobis_distance
    scores = measure(train[kept], np.concatenate([train[aside], new]))
    own, others = np.split(scores, [len(aside)])
    return Novelty(others, float(np.quantile(own, 1 - rate, method="higher")))


def _apart(groups: npt.NDArray[np.generic], overlap: int, rng: np.random.Generator) -> tuple[Positions, Positions]:
    """Positions that are set aside, and those that have no row in common with them.

    A fifth of the series, whole, where there are five or more; else the last fifth of each.
    """
    names, of = np.unique(groups, return_inverse=True)
    if len(names) >= 1 / SET_ASIDE:
        chosen = rng.permutation(len(names))[: int(SET_ASIDE * len(names))]
        taken = np.isin(of, chosen)
        return np.flatnonzero(taken), np.flatnonzero(~taken)
    parts = [np.flatnonzero(of == i) for i in range(len(names))]
    cuts = [len(part) - int(SET_ASIDE * len(part)) for part in parts]
    aside = np.concatenate([part[cut:] for part, cut in zip(parts, cuts, strict=True)])
    return aside, np.concatenate([part[: max(0, cut - overlap)] for part, cut in zip(parts, cuts, strict=True)])
