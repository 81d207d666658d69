"""From a user's recordings to anomaly scores: what is read, every detector on every entity, and their thresholds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric

from mmssl.core.methods.deep_svdd import DeepSVDD, svdd_network
from mmssl.eval.detection import knn_distance, mahalanobis_distance, moving_z_score, rows_needed, threshold
from mmssl.eval.features import standardise
from mmssl.eval.forecasting import Features, forward_filled, past_values
from mmssl.recipes.scores import UNTRAINED
from mmssl.recipes.timeline import Early, causal_features, head, ranges, shown_to, stretch_offsets
from mmssl.timeseries.anomaly import adjust_by_moving_average
from mmssl.timeseries.anomaly_data import ANOMALOUS, bundled_set, name_labels, read_nab
from mmssl.timeseries.data import describe, read_series
from mmssl.timeseries.data_config import SourceConfig
from mmssl.timeseries.embedder import SeriesEmbedder
from mmssl.timeseries.options import READING
from mmssl.timeseries.preprocess import SeriesPreprocessor
from mmssl.timeseries.series import SeriesSet, as_objects
from mmssl.train.batches import ShuffledBatches
from mmssl.train.fit import fit

METHOD, MOVING_Z, RAW = "ts2vec", "moving-z-score", "raw-windows"
DETECTORS = {
    "knn": "kNN distance",
    "mahalanobis": "Mahalanobis distance",
    "deep-svdd": "Deep SVDD",
    "masked-last": "masked last",
}
CONTROLS = {MOVING_Z: "moving z-score", RAW: "raw windows, kNN distance"}
RAW_ROWS = 32  # of a raw window
SVDD_EPOCHS, SVDD_BATCH, SVDD_LR, SVDD_ROWS = 150, 200, 1e-3, 2_000  # at most so many rows, evenly spaced
Scores = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Distance = Callable[[Floats, Floats], Scores]  # training rows (n, D) and all rows (m, D) to (m,)


@dataclass
class AnomalyDataConfig(SourceConfig):
    """Where the recordings come from: a set that aeon carries, a copy of NAB, or your own."""

    name: str | None = None  # KDD-TSAD_135 or Daphnet_S06R02E0, from aeon
    root: str | None = None  # folder of the Numenta Anomaly Benchmark
    label: str | None = None  # column that says which rows are anomalous; None: nothing is scored
    normal: list[str] = field(default_factory=lambda: ["0", "false", "normal", "ok"])  # labels of normal rows
    train_fraction: float = 0.5  # of every entity, from its start, to learn what is normal
    standardise: str | None = None  # together, or each entity by itself; None: together, each for NAB


@dataclass(frozen=True, eq=False)
class AnomalyTask:
    """Everything that anomalies are looked for and judged by.

    Args:
        name: of the data.
        description: what was read and how it was split.
        split: of the records.
        raw: rows of all entities; on one scale already, if each is standardised by itself.
        series: the same, standardised by the training part.
        early: what may be learnt from.
        train_rows: ``(entities,)``.
        measured: ``(rows,)`` True where a channel has a value.
        truth: ``(rows,)`` True where anomalous; None without labels.
        scored: ``(rows,)`` True in the test part where something is measured and the label is known.
        notes: further sentences.
    """

    name: str
    description: str
    split: str
    raw: SeriesSet
    series: SeriesSet
    early: Early
    train_rows: npt.NDArray[np.int64]
    measured: npt.NDArray[np.bool_]
    truth: npt.NDArray[np.bool_] | None
    scored: npt.NDArray[np.bool_]
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Detection:
    """Scores of one detector.

    Args:
        subject: whose features.
        detector: one of `DETECTORS`, or the control itself.
        seed: of the subject.
        scores: ``(rows,)`` of all entities, NaN where nothing is measured.
        limits: ``(entities,)`` thresholds, from training rows.
    """

    subject: str
    detector: str
    seed: int
    scores: Scores
    limits: Scores


def load_recordings(cfg: AnomalyDataConfig, *, context: int, how: str, rate: float) -> AnomalyTask:
    """Read, split by time and standardise.

    Args:
        cfg: the data section.
        context: rows that an embedding sees.
        how, rate: of the threshold, which the training part must be long enough for.

    Raises:
        FileNotFoundError: there is no such data.
        ValueError: it cannot be used as asked; the message says why and what to do.
    """
    given = [f"data.{key}={value}" for key in ("name", "root", "path") if (value := getattr(cfg, key)) is not None]
    if len(given) != 1:
        raise ValueError(f"give one of data.name, data.root and data.path, got {' and '.join(given) or 'none'}")
    reading = {name: getattr(cfg, name) for name in READING}
    fixed = None
    if cfg.name is not None:
        bundled = bundled_set(cfg.name)
        series, name, fixed = bundled.series, cfg.name, bundled.train_rows
    elif cfg.root is not None:
        series, name = read_nab(cfg.root), "NAB"
    else:
        assert cfg.path is not None
        series = read_series(cfg.path, channels=cfg.channels, label=cfg.label, units=cfg.units, **reading)
        if cfg.label is not None:
            series = name_labels(series, normal=cfg.normal, label=cfg.label)
        name = Path(cfg.path).stem
    if context < 1:
        raise ValueError(f"context must be at least 1 row, got {context}")
    if not 0 < cfg.train_fraction < 1:
        raise ValueError(f"data.train_fraction must lie between 0 and 1, got {cfg.train_fraction}")
    share = (cfg.train_fraction * series.lengths).astype(np.int64)
    train_rows = share if fixed is None else np.full(len(series), fixed, dtype=np.int64)
    measured: npt.NDArray[np.bool_] = np.any(~np.isnan(series.values), axis=1)
    _check_length(series, measured, train_rows, context, how, rate)
    each = cfg.standardise or ("each" if cfg.root else "together")
    if each not in ("each", "together"):
        raise ValueError(f"data.standardise must be together or each, got {each!r}")
    described = describe(series)
    labels, series = series.labels, replace(series, labels=None)
    scaled = _each_scaled(series, train_rows) if each == "each" else series
    train = head(scaled, train_rows)
    preprocessor = SeriesPreprocessor().fit(train)
    late = np.concatenate([np.arange(n) >= t for n, t in zip(series.lengths, train_rows, strict=True)])
    truth = None if labels is None else labels == ANOMALOUS
    scored = late & measured
    if labels is not None:
        scored &= np.array([label is not None for label in labels])
    notes = []
    if missing := int((~measured).sum()):
        notes.append(f"{missing:,} rows have no value in any channel: no alarm is raised there, and none is counted.")
    if truth is not None and (inside := int((truth & ~late).sum())):
        notes.append(
            f"{inside:,} rows of the training part are labelled anomalous; they were learnt from as the others."
        )
    if each == "each":
        notes.append(
            "Every entity is standardised by its own training part; do the same before you embed further ones with "
            "this run's encoder."
        )
    lines = [
        described,
        f"split by time: {train_rows.sum():,} rows to learn from, the later {late.sum():,} test"
        + (f" ({int((truth & scored).sum()):,} labelled anomalous)" if truth is not None else ""),
    ]
    split = f"time {cfg.train_fraction:g}" if fixed is None else f"after row {fixed}"
    early = Early(preprocessor(train), preprocessor, reading)
    return AnomalyTask(
        name=name,
        description="\n".join(lines),
        split=split,
        raw=scaled,
        series=preprocessor(scaled),
        early=early,
        train_rows=train_rows,
        measured=measured,
        truth=truth,
        scored=scored,
        notes=tuple(notes),
    )


class Detectors:
    """Scores all rows with every detector.

    Args:
        task: the rows.
        names: detectors to use.
        context: rows that an embedding sees.
        how, rate: of the threshold.
        fabric: the device, for Deep SVDD.
    """

    def __init__(
        self, task: AnomalyTask, *, names: list[str], context: int, how: str, rate: float, fabric: Fabric
    ) -> None:
        if not names or (unknown := [name for name in names if name not in DETECTORS]):
            raise ValueError(f"evaluate.detectors must be some of {', '.join(DETECTORS)}, got {unknown or names}")
        self.task = task
        self.names = names
        self.context = context
        self.how = how
        self.rate = rate
        self.fabric = fabric
        self.found: list[Detection] = []
        self._rows = [start + np.flatnonzero(task.measured[start:stop]) for start, stop in ranges(task.series)]
        ends = task.series.offsets[:-1] + task.train_rows
        self._train_rows = [int(np.searchsorted(rows, end)) for rows, end in zip(self._rows, ends, strict=True)]

    def controls(self) -> None:
        """Moving z-score, and distances of the raw rows."""
        series = self.task.series
        bounds = stretch_offsets(series)
        z = [moving_z_score(series.values[a:b], window=self.context) for a, b in pairwise(bounds.tolist())]
        self._score(MOVING_Z, MOVING_Z, 0, np.concatenate(z))
        filled = forward_filled(series.values, bounds)
        windows = [past_values(column, bounds, window=RAW_ROWS) for column in filled.T]
        self._compare(RAW, RAW, 0, lambda rows: np.concatenate([past(rows) for past in windows], axis=1), knn_distance)

    def embedder(self, subject: str, seed: int, embedder: SeriesEmbedder) -> Floats:
        """Every detector on an encoder's embeddings; returns them, ``(rows, dim)``."""
        series = shown_to(embedder, self.task.raw)
        features = causal_features(embedder, series, context=self.context)
        distances: dict[str, Distance] = {
            "knn": knn_distance,
            "mahalanobis": mahalanobis_distance,
            "deep-svdd": partial(svdd_scores, seed=seed, fabric=self.fabric),
        }
        for name in self.names:
            if name == "masked-last":
                hidden = causal_features(embedder, series, context=self.context, mask_last=True)
                surprise = np.abs(features - hidden).sum(axis=1, dtype=np.float64)
                self._score(subject, name, seed, self._adjusted(surprise))
            else:
                self._compare(subject, name, seed, lambda rows: features[rows], distances[name])
        return features

    def of(self, subject: str, detector: str) -> list[Detection]:
        """By seed."""
        return [d for d in self.found if d.subject == subject and d.detector == detector]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Subjects with their detectors, in the order of the table."""
        of_encoders = [(subject, name) for name in self.names for subject in (METHOD, UNTRAINED)]
        return [*of_encoders, (MOVING_Z, MOVING_Z), (RAW, RAW)]

    def _score(self, subject: str, detector: str, seed: int, scores: Scores) -> None:
        """Scores ``(rows,)`` that learn nothing from the training rows, all of which set the threshold."""
        limits = []
        for entity, rows in enumerate(self._rows):
            n = self._train_rows[entity]
            skip, _ = _calibration(n, self.context)
            limits.append(self._limit(scores[rows[skip:n]]))
        scores = np.where(self.task.measured, scores, np.nan)
        self.found.append(Detection(subject, detector, seed, scores, np.array(limits)))

    def _compare(self, subject: str, detector: str, seed: int, features: Features, distance: Distance) -> None:
        """Distances of the features of all rows to those of the earlier training rows; the later set the threshold."""
        scores = np.full(len(self.task.measured), np.nan)
        limits = []
        for entity, rows in enumerate(self._rows):
            n = self._train_rows[entity]
            skip, middle = _calibration(n, self.context)
            x = features(rows)
            scores[rows] = distance(x[skip:middle], x)
            limits.append(self._limit(scores[rows[middle:n]]))
        self.found.append(Detection(subject, detector, seed, scores, np.array(limits)))

    def _adjusted(self, surprise: Scores) -> Scores:
        """Relative to the measured rows before, stretch by stretch: nothing surprises where nothing is measured."""
        out = np.zeros(len(surprise))
        for start, stop in pairwise(stretch_offsets(self.task.series).tolist()):
            rows = start + np.flatnonzero(self.task.measured[start:stop])
            out[rows] = adjust_by_moving_average(surprise[rows])
        return out

    def _limit(self, scores: Scores) -> float:
        return threshold(scores, how=self.how, rate=self.rate)  # type: ignore[arg-type]


def _calibration(n: int, context: int) -> tuple[int, int]:
    """Of a training part of ``n`` rows: where its rows have a past, and where the threshold's half begins.

    Distances to rows that are among the neighbours are too small to tell what a new row's distance will be: the second
    half of the training rows is held against the first.
    """
    skip = min(context - 1, n // 4)
    return skip, skip + (n - skip) // 2


def svdd_scores(train: Floats, features: Floats, *, seed: int, fabric: Fabric) -> Scores:
    """Deep SVDD trained on ``train`` ``(n, D)``, applied to ``features`` ``(m, D)``: ``(m,)``."""
    scaled, every = (part.astype(np.float32) for part in standardise(train, features))
    scaled = scaled[np.linspace(0, len(scaled) - 1, min(len(scaled), SVDD_ROWS)).astype(np.int64)]
    source = _Rows(torch.from_numpy(scaled))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        method = DeepSVDD(svdd_network(scaled.shape[1]).to(fabric.device), source.rows.to(fabric.device))
    batches = ShuffledBatches(source, batch_size=min(SVDD_BATCH, len(scaled)), seed=seed)
    steps = SVDD_EPOCHS * max(1, len(scaled) // batches.batch_size)
    optimizer = torch.optim.Adam(method.parameters(), lr=SVDD_LR, weight_decay=5e-7)
    for _ in fit(method, batches, optimizer=optimizer, steps=steps, fabric=fabric, log_every=steps):
        pass
    found: Scores = method.scores(torch.from_numpy(every).to(fabric.device)).double().cpu().numpy()
    return found


class _Rows:
    """Rows of features as a source of batches."""

    def __init__(self, rows: torch.Tensor) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def fetch(self, index: npt.NDArray[np.int64]) -> torch.Tensor:
        return self.rows[torch.from_numpy(index)]


def _each_scaled(series: SeriesSet, train_rows: npt.NDArray[np.int64]) -> SeriesSet:
    """Every entity standardised by its own training part; a constant channel is only shifted."""
    values = np.empty_like(series.values)
    own_name = as_objects(["entity"])
    for (start, stop), n in zip(ranges(series), train_rows, strict=True):
        own = SeriesPreprocessor().fit(
            SeriesSet(series.values[start : start + n], np.array([0, n]), own_name, series.channels)
        )
        whole = SeriesSet(series.values[start:stop], np.array([0, stop - start]), own_name, series.channels)
        values[start:stop] = own(whole).values
    return replace(series, values=values)


def _check_length(
    series: SeriesSet,
    measured: npt.NDArray[np.bool_],
    train_rows: npt.NDArray[np.int64],
    context: int,
    how: str,
    rate: float,
) -> None:
    needed = rows_needed(how, rate)  # type: ignore[arg-type]
    for (start, stop), rows, name in zip(ranges(series), train_rows.tolist(), series.ids, strict=True):
        n = int(measured[start : start + rows].sum())
        have = n - _calibration(n, context)[1]
        if have < needed:
            raise ValueError(
                f"the training part of {name!r} has {n:,} rows{' with a value' if n < rows else ''}; the last {have:,} "
                f"set the threshold, and {how} needs {needed:,}: give it more with data.train_fraction, leave the "
                "entity out, or take evaluate.threshold=sigma"
            )
        if not measured[start + rows : stop].any():
            raise ValueError(f"data.train_fraction leaves no row of {name!r} to test")
