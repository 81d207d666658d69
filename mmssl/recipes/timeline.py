"""What the recipes share that look along one time axis: TS2Vec on the early part of it, and what the rest is told by.

Forecasts and anomalies are both judged on a later time than anything that was learnt from, row by row.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric

import mmssl
from mmssl.core.health import Diagnosis
from mmssl.recipes.training import HealthConfig, TrainConfig, train_seed, work_out
from mmssl.timeseries.calendar import with_calendar
from mmssl.timeseries.dataset import SeriesSource
from mmssl.timeseries.embedder import SeriesEmbedder
from mmssl.timeseries.encode import encode_causal
from mmssl.timeseries.encoder import DilatedConvEncoder
from mmssl.timeseries.preprocess import SeriesPreprocessor
from mmssl.timeseries.series import SeriesSet, Windows, cut_windows
from mmssl.timeseries.ts2vec import TS2Vec
from mmssl.train.pretrain import Probe
from mmssl.train.run import Run

LOOKED_AT = 64  # windows that health looks at
SMALL_DATA = 100_000  # values, up to which the paper takes 200 steps instead of 600
Floats = npt.NDArray[np.float32]
C = TypeVar("C", bound=Any)


@dataclass
class EncoderConfig:
    """The encoder of TS2Vec; the paper's sizes."""

    dim: int = 320
    hidden: int = 64
    depth: int = 10
    missing: str = "auto"  # drop (the paper), indicator, or auto: indicator where single channels are missing


@dataclass
class TS2VecConfig:
    """TS2Vec; the paper's settings but for the length of a stretch."""

    temporal_unit: int = 0
    mask_rate: float = 0.5
    max_length: int | None = None  # rows that a step looks at; None: as many as an embedding sees. 3000 in the paper


@dataclass(frozen=True, eq=False)
class Early:
    """The early part of the time axis, which alone is learnt from.

    Args:
        series: standardised rows of all entities.
        preprocessor: fitted on them.
        options: how the data was read, for the export: see `mmssl.timeseries.options.READING`, and the ``calendar``.
    """

    series: SeriesSet
    preprocessor: SeriesPreprocessor
    options: dict[str, Any]


def settle_training(cfg: C, early: Early) -> C:
    """Every None and "auto" of ``model``, ``method`` and ``train`` replaced by its value."""
    values = early.series.values
    train = work_out(cfg.train, samples=len(early.series), steps=200 if values.size <= SMALL_DATA else 600, seeds=1)
    model, method = cfg.model, cfg.method
    if model.missing == "auto":
        lost = np.isnan(values)
        partly = bool((lost.any(axis=1) & ~lost.all(axis=1)).any())
        model = replace(model, missing="indicator" if partly else "drop")
    if method.max_length is None:
        method = replace(method, max_length=max(cfg.context, 2 ** (method.temporal_unit + 1)))
    return replace(cfg, model=model, method=method, train=train)


def training_pieces(series: SeriesSet, *, max_length: int) -> Windows:
    """What a step draws from: every stretch in equal pieces of ``max_length`` to twice as many rows.

    That is what the authors train on; without breaks, a stretch is an entity. A single one that is shorter comes in two
    pieces: one alone would have no other to be told apart from.
    """
    stretches = [(first, int(rows), i) for first, rows, i in zip(*series.stretches(), strict=True) if rows > 0]
    fewest = 2 if len(stretches) == 1 else 1
    starts, lengths, entity = [], [], []
    for first, rows, i in stretches:
        pieces = max(fewest, rows // max_length)
        size = -(-rows // pieces)
        for start in range(0, rows, size):
            starts.append(first + start)
            lengths.append(min(size, rows - start))
            entity.append(i)
    found = [np.array(column, dtype=np.int64) for column in (starts, lengths, entity)]
    return Windows(series, found[0], found[1], found[2])


def pretrain_early(
    model: EncoderConfig,
    method: TS2VecConfig,
    train: TrainConfig,
    health: HealthConfig,
    early: Early,
    *,
    context: int,
    seed: int,
    run: Run,
    fabric: Fabric,
) -> tuple[SeriesEmbedder, SeriesEmbedder, Diagnosis]:
    """One seed of TS2Vec on the early part.

    Args:
        model, method, train, health: from the configuration, settled.
        early: what is learnt from.
        context: rows that an embedding sees.
        seed: of everything.
        run: takes metrics and checkpoints.
        fabric: the device.

    Returns:
        The encoder as it was drawn, the trained one, and how healthy that is.

    Raises:
        ValueError: the early part is shorter than two crops.
    """
    shortest = 2 ** (method.temporal_unit + 1)
    assert method.max_length is not None
    windows = training_pieces(early.series, max_length=method.max_length)
    windows = windows.subset(windows.lengths >= shortest)
    if len(windows) == 0:
        raise ValueError(
            f"the training part is too short: its entities have {early.series.lengths.max()} rows at most, and TS2Vec "
            f"needs {shortest} in each of two pieces; more rows, or a larger share for training"
        )
    torch.manual_seed(seed)
    arguments = {"in_channels": len(early.preprocessor.channels), **asdict(model)}
    encoder = DilatedConvEncoder(**arguments)
    untrained = DilatedConvEncoder(**arguments)
    untrained.load_state_dict(encoder.state_dict())
    source = SeriesSource(windows)
    looked_at = cut_windows(early.series, length=context)
    chosen = np.random.default_rng(0).permutation(len(looked_at))[:LOOKED_AT]
    ts2vec = TS2Vec(encoder, seed=seed, **asdict(method))
    if train.compile:
        ts2vec.compile_encoder()
    diagnosis = train_seed(
        ts2vec,
        source,
        probe=Probe(torch.from_numpy(looked_at.fetch(chosen)), lambda x: encoder.timestamps(x)[:, -1]),
        train=train,
        health=health,
        run=run,
        fabric=fabric,
        seed=seed,
    )
    final = ts2vec.export()
    assert isinstance(final, DilatedConvEncoder)
    device = next(final.parameters()).device

    def embedder(weights: DilatedConvEncoder) -> SeriesEmbedder:
        return SeriesEmbedder(weights.to(device).eval(), arguments, early.preprocessor, window=context, **early.options)

    return embedder(untrained), embedder(final), diagnosis


def taken_from(folder: str, raw: SeriesSet, *, device: str, seed: int) -> tuple[SeriesEmbedder, SeriesEmbedder]:
    """The encoder of a finished run for these rows, and the same with random weights.

    Returns:
        The one with random weights, and the trained one.

    Raises:
        FileNotFoundError: no such run.
        ValueError: its encoder has no vector for single rows, or was trained on other data than ``raw``.
    """
    trained = mmssl.load(folder, device=device)
    if not isinstance(trained, SeriesEmbedder) or not isinstance(trained.encoder, DilatedConvEncoder):
        raise ValueError(
            f"run={folder} has no vectors for single rows; take a run of timeseries_ts2vec, timeseries_forecast or "
            "timeseries_anomaly"
        )
    shown_to(trained, raw)
    torch.manual_seed(seed)
    fresh = DilatedConvEncoder(**trained.arguments).to(device).eval()
    return replace(trained, encoder=fresh), trained


def shown_to(embedder: SeriesEmbedder, raw: SeriesSet) -> SeriesSet:
    """Raw rows as the encoder of ``embedder`` learnt to see them: its calendar beside them, its standardisation.

    Raises:
        ValueError: the encoder was trained on other channels, units or another rate.
    """
    return embedder.preprocessor(with_calendar(raw, embedder.calendar))


def causal_features(embedder: SeriesEmbedder, series: SeriesSet, *, context: int, mask_last: bool = False) -> Floats:
    """A vector for every row from the last ``context`` rows of its stretch: ``(rows, dim)``.

    Args:
        embedder: its encoder is used as it is.
        series: from `shown_to`.
        context: rows that a vector may see, its own included.
        mask_last: hide the row itself.
    """
    encoder = embedder.encoder
    assert isinstance(encoder, DilatedConvEncoder)
    parts = [
        encode_causal(encoder, series.values[a:b], window=context, mask_last=mask_last)
        for a, b in pairwise(stretch_offsets(series).tolist())
    ]
    return np.concatenate(parts)


def head(series: SeriesSet, rows: npt.NDArray[np.integer]) -> SeriesSet:
    """The first ``rows[i]`` rows of entity i."""
    keep = np.concatenate([np.arange(start, start + n) for start, n in zip(series.offsets[:-1], rows, strict=True)])
    labels = series.labels
    return replace(
        series,
        values=series.values[keep],
        offsets=np.concatenate([[0], np.cumsum(rows)]).astype(np.int64),
        times=None if series.times is None else series.times[keep],
        labels=labels[keep] if labels is not None and series.labels_by_row else labels,
        breaks=series.breaks_of(keep),
    )


def ranges(series: SeriesSet) -> list[tuple[int, int]]:
    """First row, and the row after the last, of every entity."""
    return list(pairwise(series.offsets.tolist()))


def stretch_offsets(series: SeriesSet) -> npt.NDArray[np.int64]:
    """``(s + 1,)``: the first row of every stretch without a break, and the row after the last one."""
    return np.append(series.stretches()[0], len(series.values))


def stretch_start(series: SeriesSet, row: int) -> int:
    """The first row of the stretch without a break that ``row`` is in."""
    starts = series.stretches()[0]
    return int(starts[np.searchsorted(starts, row, side="right") - 1])


def times_of(series: SeriesSet, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """When rows of one entity were measured, for a chart: times, or row numbers within the entity."""
    if series.times is None:
        return rows - series.offsets[np.searchsorted(series.offsets, rows[0], side="right") - 1]
    times = series.times[rows]
    return times.astype("datetime64[ns]") if series.time_kind == "datetime" else times
