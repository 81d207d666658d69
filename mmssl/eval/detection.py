"""Anomaly detection: distances in an embedding space, thresholds from training scores alone, and honest measures.

A score is larger where a row is less normal. Measures count rows as they are; the adjusted F1 scores of the literature,
which count a whole episode as found if one of its rows is, are apart and named so: with point adjustment random scores
reach state-of-the-art figures (Kim et al., AAAI 2022, arXiv 2109.05257).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mmssl.eval.features import Features, check_features, standardise

Scores = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Threshold = Literal["evt", "quantile", "sigma"]
BANK = 20_000  # training rows that neighbours are looked for in, evenly spaced
BLOCK = 2_000  # rows whose distances to all training rows are held at a time
EXCESSES = 20  # that a tail is fitted to at least
SIGMAS = 4.0  # of the paper's threshold


def knn_distance(train_x: Features, test_x: Features, *, k: int = 5) -> Scores:
    """Mean Euclidean distance to the ``k`` nearest training rows, features standardised: ``(m,)``.

    Args:
        train_x: ``(n, D)``; at most 20,000 of them, evenly spaced, are looked at.
        test_x: ``(m, D)``; not among the training rows, whose distance to themselves is 0.
        k: neighbours.

    Raises:
        ValueError: a value that is not finite, or fewer than ``k`` training rows.
    """
    check_features(train_x, "training features")
    check_features(test_x, "test features")
    if not 1 <= k <= len(train_x):
        raise ValueError(f"k must be between 1 and the {len(train_x)} training rows, got {k}")
    if len(train_x) > BANK:
        train_x = train_x[np.linspace(0, len(train_x) - 1, BANK).astype(np.int64)]
    bank, queries = (part.astype(np.float32) for part in standardise(train_x, test_x))
    squares = np.square(bank).sum(axis=1)
    out = np.empty(len(queries))
    for start in range(0, len(queries), BLOCK):
        block = queries[start : start + BLOCK]
        distance = squares - 2 * (block @ bank.T) + np.square(block).sum(axis=1, keepdims=True)  # (b, n), squared
        nearest = np.partition(distance, k - 1, axis=1)[:, :k]
        out[start : start + BLOCK] = np.sqrt(np.maximum(nearest, 0)).mean(axis=1)
    return out


def mahalanobis_distance(train_x: Features, test_x: Features) -> Scores:
    """Mahalanobis distance to the training rows, with the covariance shrunk as Ledoit and Wolf (2004) say: ``(m,)``.

    Training rows that are all the same, such as those of a flat recording, have no covariance: the distance is then the
    Euclidean one.

    Args:
        train_x: ``(n, D)``, two at least.
        test_x: ``(m, D)``.
    """
    from sklearn.covariance import ledoit_wolf

    check_features(train_x, "training features")
    check_features(test_x, "test features")
    train, test = standardise(train_x, test_x)
    if not train.any():
        return np.linalg.norm(test, axis=1)
    covariance, _ = ledoit_wolf(train, assume_centered=True)
    values, axes = np.linalg.eigh(covariance)
    whitened = test @ axes / np.sqrt(np.maximum(values, 1e-12 * values[-1]))
    distance: Scores = np.sqrt(np.square(whitened).sum(axis=1))
    return distance


def threshold(scores: npt.NDArray[np.floating[Any]], *, how: Threshold = "evt", rate: float = 1e-3) -> float:
    """A score that normal rows exceed with probability ``rate``, from scores of training rows.

    ``evt`` fits a generalised Pareto distribution to the largest tenth of the scores (peaks over threshold, Siffer et
    al., KDD 2017) and reaches beyond the largest of them; ``quantile`` is the empirical quantile; ``sigma`` is mean
    plus four standard deviations, the threshold of TS2Vec, and takes no rate.

    Args:
        scores: ``(n,)``; NaN is left out.
        how: see above.
        rate: of false alarms, a row.

    Raises:
        ValueError: too few scores for the rate, or see `rows_needed`.
    """
    needed = rows_needed(how, rate)
    known = np.sort(scores[np.isfinite(scores)].astype(np.float64))
    if len(known) < needed:
        raise ValueError(
            f"the training part has {len(known):,} rows to take a threshold from, and {how} needs {needed:,} for a "
            f"rate of {rate:g}: use a longer training part, or a larger rate"
            + (" with evaluate.threshold=quantile" if how == "evt" else "")
        )
    if how == "sigma":
        return float(known.mean() + SIGMAS * known.std())
    if how == "quantile":
        return float(np.quantile(known, 1 - rate))
    return _tail_quantile(known, rate)


def rows_needed(how: Threshold, rate: float) -> int:
    """Scores that a threshold is taken from at least.

    Raises:
        ValueError: no such threshold, or no such rate.
    """
    if how not in ("evt", "quantile", "sigma"):
        raise ValueError(f"threshold must be evt, quantile or sigma, got {how!r}")
    if not 0 < rate < 0.1:
        raise ValueError(f"the rate of false alarms must lie between 0 and 0.1 a row, got {rate}")
    return {"evt": 10 * EXCESSES, "quantile": int(np.ceil(1 / rate)), "sigma": 30}[how]


def _tail_quantile(ordered: Scores, rate: float) -> float:
    from scipy.stats import genpareto

    start = float(np.quantile(ordered, 0.9))
    excess = ordered[ordered > start] - start
    if len(excess) == 0 or excess.max() <= 1e-12 * max(1.0, abs(start)):
        return float(ordered[-1])  # a flat top: nothing above it was ever normal
    scale = excess.mean()
    shape, _, width = genpareto.fit(excess / scale, floc=0)
    share = len(excess) / len(ordered)
    return start + scale * float(genpareto.isf(rate / share, shape, loc=0, scale=width))


def moving_z_score(series: npt.NDArray[np.floating[Any]], *, window: int) -> Scores:
    """Largest distance of a channel from its mean over the ``window`` rows before, in their standard deviations.

    Args:
        series: ``(T, C)``, standardised; missing values are left out.
        window: rows that are looked back at.

    Returns:
        ``(T,)``; 0 where fewer than ten values were seen before.
    """
    x = series.astype(np.float64)
    known = ~np.isnan(x)
    filled = np.where(known, x, 0.0)

    def before(values: npt.NDArray[np.floating[Any]]) -> Scores:
        """Sum over the ``window`` rows before each."""
        total = np.concatenate([np.zeros((1, x.shape[1])), np.cumsum(values, axis=0, dtype=np.float64)])
        at = np.arange(len(x))
        summed: Scores = total[at] - total[np.maximum(at - window, 0)]
        return summed

    count = before(known)
    mean = before(filled) / np.maximum(count, 1)
    variance = np.maximum(before(filled**2) / np.maximum(count, 1) - mean**2, 0)
    spread = np.sqrt(variance) + 0.05  # of standardised values: a flat stretch does not make every ripple an alarm
    z = np.where(known & (count >= 10), np.abs(filled - mean) / spread, 0.0)
    largest: Scores = z.max(axis=1)
    return largest


def detection_scores(
    truth: Mask, scores: npt.NDArray[np.floating[Any]], limit: float, *, delay: int
) -> dict[str, float]:
    """Measures of one series: AUROC, average precision and F1 of rows, then F1 with the two usual adjustments.

    Args:
        truth: ``(n,)``, True where anomalous.
        scores: ``(n,)``.
        limit: threshold from training scores.
        delay: rows within which an episode must be found to count with ``f1_delay_adjusted``.

    Raises:
        ValueError: all rows are normal, or all anomalous.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    if truth.all() or not truth.any():
        raise ValueError(f"all {len(truth):,} rows are {'anomalous' if truth.all() else 'normal'}: nothing to score")
    alarm = scores > limit
    return {
        "auroc": float(roc_auc_score(truth, scores)),
        "average_precision": float(average_precision_score(truth, scores)),
        "f1": f1(truth, alarm),
        "f1_point_adjusted": f1(truth, adjusted(truth, alarm)),
        "f1_delay_adjusted": f1(truth, adjusted(truth, alarm, delay=delay)),
    }


def f1(truth: Mask, alarm: Mask) -> float:
    """Harmonic mean of precision and recall, 0 without a hit."""
    return float(2 * (truth & alarm).sum() / max(1, truth.sum() + alarm.sum()))


def adjusted(truth: Mask, alarm: Mask, *, delay: int | None = None) -> Mask:
    """Alarms with every row of a found episode set, and with no row of the others.

    Args:
        truth: ``(n,)``, True where anomalous.
        alarm: ``(n,)``.
        delay: an episode counts as found if one of its first ``delay + 1`` rows has an alarm (Ren et al., KDD 2019);
            None: any of its rows (point adjustment).
    """
    out = alarm.copy()
    for start, stop in episodes(truth):
        end = stop if delay is None else min(start + delay + 1, stop)
        out[start:stop] = alarm[start:end].any()
    return out


def episodes(truth: Mask, *, join: int = 0) -> list[tuple[int, int]]:
    """First row, and the row after the last, of every run of True; runs at most ``join`` rows apart are one."""
    padded = np.concatenate([[False], truth, [False]])
    starts, stops = np.flatnonzero(padded[1:] & ~padded[:-1]), np.flatnonzero(padded[:-1] & ~padded[1:])
    found: list[tuple[int, int]] = []
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        if found and start - found[-1][1] <= join:
            found[-1] = (found[-1][0], stop)
        else:
            found.append((start, stop))
    return found


def top_episodes(scores: npt.NDArray[np.floating[Any]], *, count: int, width: int) -> list[int]:
    """Rows of the highest scores, none nearer than ``width`` rows to a higher one.

    Args:
        scores: ``(n,)``; NaN is never chosen.
        count: rows to find, at most.
        width: rows that belong to one episode.
    """
    left = np.where(np.isfinite(scores), scores, -np.inf).astype(np.float64)
    found: list[int] = []
    while len(found) < count and np.isfinite(left).any():
        peak = int(np.argmax(left))
        found.append(peak)
        left[max(0, peak - width) : peak + width + 1] = -np.inf
    return found


def change_scores(features: Features, *, span: int) -> Scores:
    """How far the embeddings after each row are from those before it: a peak is a change of regime.

    Distance of the means over ``span`` rows on either side, features standardised; NaN where a side is incomplete.

    Args:
        features: ``(T, D)``, a row each.
        span: rows of a side.

    Returns:
        ``(T,)``.
    """
    (x,) = standardise(features)
    out = np.full(len(x), np.nan)
    if len(x) < 2 * span:
        return out
    total = np.concatenate([np.zeros((1, x.shape[1])), np.cumsum(x, axis=0)])
    at = np.arange(span, len(x) - span + 1)
    gap = (total[at + span] - 2 * total[at] + total[at - span]) / span
    out[at[at < len(x)]] = np.sqrt(np.square(gap).mean(axis=1))[at < len(x)]
    return out


def groups_of_time(truth: Sequence[bool] | Mask, *, block: int) -> npt.NDArray[np.int64]:
    """Rows that are resampled together: an episode as a whole, and stretches of ``block`` normal rows."""
    mask = np.asarray(truth, dtype=bool)
    edge = np.concatenate([[True], mask[1:] != mask[:-1]])
    run = np.cumsum(edge) - 1
    first = np.flatnonzero(edge)[run]
    within = np.where(mask, 0, (np.arange(len(mask)) - first) // block)
    new = edge | np.concatenate([[True], within[1:] != within[:-1]])
    return np.cumsum(new) - 1
