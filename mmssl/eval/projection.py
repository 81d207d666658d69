"""Two views of an embedding table: a flat map, and the nearest neighbours of a few far-apart examples."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

MAX_POINTS = 2_000


class Map(NamedTuple):
    """Points to draw.

    Args:
        points: ``(p, 2)``.
        rows: ``(p,)`` the rows of the embedding table that are drawn.
        method: ``"t-SNE"`` or ``"PCA"``.
    """

    points: npt.NDArray[np.float64]
    rows: npt.NDArray[np.intp]
    method: str


def project(x: npt.NDArray[np.floating[Any]], seed: int = 0) -> Map | None:
    """Lay out at most 2,000 embeddings in the plane: t-SNE, or PCA for fewer than 10; None if all coincide.

    Args:
        x: ``(n, D)``; rows that are not finite are left out.
        seed: seed of the subsample and of t-SNE.
    """
    rows = np.flatnonzero(np.isfinite(x).all(axis=1))
    if len(rows) > MAX_POINTS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MAX_POINTS, replace=False))
    centred = x[rows].astype(np.float64)
    if len(rows) < 2:
        return None
    centred -= centred.mean(axis=0)
    if np.abs(centred).max() <= 1e-6 * np.abs(x[rows]).max():
        return None
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    components = left * singular  # (p, min(p, D))
    if len(rows) < 10:
        flat = np.zeros((len(rows), 2))
        flat[:, : components.shape[1]] = components[:, :2]
        return Map(flat, rows, "PCA")
    return Map(_tsne(components[:, :50], seed), rows, "t-SNE")


def neighbours(
    x: npt.NDArray[np.floating[Any]],
    groups: npt.NDArray[Any] | None = None,
    queries: int = 8,
    k: int = 4,
) -> list[tuple[int, list[tuple[int, float]]]]:
    """Find the nearest examples, by cosine, of a few examples that lie far from each other.

    Args:
        x: ``(n, D)``; rows that are not finite are left out.
        groups: ``(n,)``, for example entities; where there are several, neighbours come from other groups than the
            query, since overlapping windows of one entity are near each other whatever the encoder knows.
        queries: number of queries, by farthest-point sampling from the most central example.
        k: neighbours each.

    Returns:
        (query row, [(neighbour row, cosine similarity), nearest first]) for each query.
    """
    rows = np.flatnonzero(np.isfinite(x).all(axis=1))
    if len(rows) < 2:
        return []
    unit = x[rows].astype(np.float32)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    chosen = [int((unit @ unit.mean(axis=0)).argmax())]
    nearest = unit @ unit[chosen[0]]  # cosine to the nearest query so far
    while len(chosen) < min(queries, len(rows)):
        chosen.append(int(nearest.argmin()))
        nearest = np.maximum(nearest, unit @ unit[chosen[-1]])
    own = None if groups is None or len(np.unique(groups[rows])) < 2 else groups[rows]
    found = []
    for query in chosen:
        cosine = unit @ unit[query]
        allowed = np.arange(len(rows)) != query if own is None else own != own[query]
        candidates = np.flatnonzero(allowed)
        best = candidates[np.argsort(-cosine[candidates], kind="stable")[:k]]
        found.append((int(rows[query]), [(int(rows[i]), float(cosine[i])) for i in best]))
    return found


def _tsne(x: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.float64]:
    from sklearn.manifold import TSNE

    with warnings.catch_warnings():
        # Where embeddings coincide, its scaling of the start divides by rounding errors; the layout remains valid.
        warnings.simplefilter("ignore", RuntimeWarning)
        start = x[:, :2] if x.shape[1] > 1 else np.column_stack([x[:, 0], np.zeros(len(x))])
        start = (1e-4 * start / start[:, 0].std()).astype(np.float32)
        perplexity = min(30.0, (len(x) - 1) / 3)
        model = TSNE(perplexity=perplexity, init=start, learning_rate="auto", random_state=seed, n_jobs=1)
        return model.fit_transform(x.astype(np.float32)).astype(np.float64)
