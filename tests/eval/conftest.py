"""Gaussian classes to score, and a complete evaluation of four subjects."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from mmssl.eval.evaluate import Evaluation, evaluate_features
from mmssl.eval.records import Subjects

Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture(scope="session")
def classes() -> Callable[..., Split]:
    def draw(n: int = 60, dim: int = 8, n_classes: int = 3, distance: float = 1.0, seed: int = 0) -> Split:
        rng = np.random.default_rng(seed)
        centres = distance * np.random.default_rng(0).normal(size=(n_classes, dim))
        y = np.arange(2 * n) % n_classes
        x = (centres[y] + rng.normal(size=(2 * n, dim))).astype(np.float32)
        return x[:n], y[:n], x[n:], y[n:]

    return draw


@pytest.fixture(scope="session")
def subjects() -> Subjects:
    names = {"ts2vec": "TS2Vec", "random-encoder": "same encoder, untrained"}
    return Subjects("ts2vec", "random-encoder", ("statistics", "minirocket"), names)


@pytest.fixture(scope="session")
def evaluations(classes: Callable[..., Split], subjects: Subjects) -> list[Evaluation]:
    distances = dict(zip(subjects.order, (1.2, 0.5, 0.4, 1.0), strict=True))
    seeds = {"ts2vec": (0, 1, 2), "random-encoder": (0, 1, 2), "statistics": (0,), "minirocket": (0,)}
    return [
        evaluate_features(
            *classes(distance=distances[subject], seed=seed),
            dataset="demo",
            subject=subject,
            seed=seed,
            split="test",
            groups=np.arange(60) // 2,
            draws=3,
        )
        for subject in subjects.order
        for seed in seeds[subject]
    ]
