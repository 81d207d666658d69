"""From a user's series to scored forecasts: the parts of the time axis, the controls, and pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmssl.eval.charts import Line, colour, timeline_chart
from mmssl.eval.forecast_results import ForecastResult
from mmssl.eval.forecasting import (
    Features,
    Forecaster,
    RidgeForecaster,
    Span,
    by_channel,
    find_season,
    fit_ridge,
    forward_filled,
    last_value,
    origins,
    past_values,
    score_forecasts,
    seasonal_naive,
)
from mmssl.recipes.scores import UNTRAINED
from mmssl.recipes.timeline import Early, head, stretch_offsets, stretch_start, times_of
from mmssl.timeseries.anomaly_data import bundled_set
from mmssl.timeseries.calendar import calendar_parts, with_calendar
from mmssl.timeseries.data import describe, read_series
from mmssl.timeseries.data_config import SourceConfig
from mmssl.timeseries.options import READING
from mmssl.timeseries.preprocess import SeriesPreprocessor
from mmssl.timeseries.series import SeriesSet

DEFAULT_DATA = "KDD-TSAD_135"  # without its labels
METHOD = "ts2vec"
LINEAR, SEASONAL, LAST = "linear", "seasonal-naive", "last-value"
PARTS = ("training", "validation", "test")
EXAMPLES = 2  # forecasts drawn for the shortest and for the longest horizon
HISTORY = 300  # rows before a forecast that are drawn, at most
Floats = npt.NDArray[np.float32]


@dataclass
class ForecastDataConfig(SourceConfig):
    """Where the series come from, and what is forecast; None: a recording that aeon carries."""

    target: list[str] | None = None  # those of the channels that are forecast; None: all
    calendar: bool = True  # hour, day of the week and so on as further inputs, where times are dates
    fractions: list[float] = field(default_factory=lambda: [0.6, 0.2, 0.2])  # of each entity: train, validate, test
    rows: list[int] | None = None  # the same in rows, instead of fractions; what comes after is not used


@dataclass(frozen=True, eq=False)
class ForecastTask:
    """Everything that forecasts are made and judged by.

    Args:
        name: of the data.
        description: what was read and how it was split.
        split: of the records.
        series: raw rows, up to the end of the test part of every entity.
        early: what may be learnt from.
        values: ``(rows, C)`` targets, standardised by the training part.
        std: ``(C,)`` by which they were divided.
        channels: names of the targets.
        known: ``(rows, K)`` calendar of every row, standardised; None without.
        train, valid, test: spans, none of which holds a break.
        season: rows; None where there is none.
        notes: further sentences.
    """

    name: str
    description: str
    split: str
    series: SeriesSet
    early: Early
    values: Floats
    std: npt.NDArray[np.float64]
    channels: tuple[str, ...]
    known: Floats | None
    train: list[Span]
    valid: list[Span]
    test: list[Span]
    season: int | None
    notes: tuple[str, ...]


def load_task(cfg: ForecastDataConfig, *, horizons: Sequence[int], context: int, season: int | None) -> ForecastTask:
    """Read, split by time and standardise.

    Args:
        cfg: the data section.
        horizons: rows ahead that must fit.
        context: rows that a forecast looks back at.
        season: rows, if the user knows; None: it is looked for in the training part.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be used as asked; the message says why and what to do.
    """
    if context < 1:
        raise ValueError(f"context must be at least 1 row, got {context}")
    if not horizons or min(horizons) < 1:
        raise ValueError(f"horizons must be rows ahead, at least 1 each, got {list(horizons)}")
    reading = {name: getattr(cfg, name) for name in READING}
    if cfg.path is None:
        series, name = replace(bundled_set(DEFAULT_DATA).series, labels=None), DEFAULT_DATA
    else:
        series = read_series(cfg.path, channels=cfg.channels, units=cfg.units, **reading)
        name = Path(cfg.path).stem
    sizes = _sizes(cfg, series)  # (entities, 3)
    described = describe(series)
    series = head(series, sizes.sum(axis=1))
    ends = series.offsets[:-1, None] + np.cumsum(sizes, axis=1)  # (entities, 3)
    bounds = np.concatenate([series.offsets[:-1, None], ends], axis=1)
    whole = [[(int(b[i]), int(b[i + 1])) for b in bounds] for i in range(3)]
    spans = [_unbroken(part, series) for part in whole]
    _check_horizons(horizons, spans, context)
    parts = calendar_parts(head(series, sizes[:, 0])) if cfg.calendar else ()
    train = head(series, sizes[:, 0])
    chosen = _targets(cfg, train)
    _check_measured(series, chosen, whole)
    preprocessor = SeriesPreprocessor().fit(with_calendar(train, parts))
    standardised = preprocessor(with_calendar(series, parts)).values
    values = np.ascontiguousarray(standardised[:, chosen])
    found = season or find_season(values, [max(_unbroken([span], series), key=_rows) for span in whole[0]])
    if season is not None and not 1 <= season <= min(map(_rows, whole[0])):
        raise ValueError(f"season={season} must be at least 1 row and fit into the training part")
    shares = "/".join(f"{share:g}" for share in cfg.rows or cfg.fractions)
    lines = [
        described,
        f"split by time: {sizes[:, 0].sum():,} rows to learn from, the next {sizes[:, 1].sum():,} choose the penalty, "
        f"the next {sizes[:, 2].sum():,} test",
        f"forecast: {', '.join(series.channels[i] for i in chosen)}"
        + (f"; known in advance: {', '.join(parts)}" if parts else ""),
        f"season: {found:,} rows" + ("" if season else ", found in the training part")
        if found
        else "season: none found",
    ]
    notes = ["Standardised by mean and standard deviation of the training part; errors are of standardised values."]
    if series.times is not None and series.step is None:
        notes.append("The rows are at irregular times, and horizons count rows; data.resample puts them on a grid.")
    return ForecastTask(
        name=name,
        description="\n".join(lines),
        split=f"time {shares}",
        series=series,
        early=Early(preprocessor(with_calendar(train, parts)), preprocessor, {**reading, "calendar": parts}),
        values=values,
        std=np.array(preprocessor.std)[chosen],
        channels=tuple(series.channels[i] for i in chosen),
        known=standardised[:, -len(parts) :] if parts else None,
        train=spans[0],
        valid=spans[1],
        test=spans[2],
        season=found,
        notes=tuple(notes),
    )


class Forecasts:
    """Fits and scores forecasters, and remembers what the pictures need.

    Args:
        task: what is forecast.
        horizons: rows ahead.
        context: rows that a forecast looks back at.
    """

    def __init__(self, task: ForecastTask, *, horizons: Sequence[int], context: int) -> None:
        self.task = task
        self.horizons = sorted(set(horizons))
        self.context = context
        self.results: list[ForecastResult] = []
        self.drawn: dict[tuple[str, int], npt.NDArray[np.floating[Any]]] = {}
        self._stretches = stretch_offsets(task.series)
        self._filled = forward_filled(task.values, self._stretches)

    def controls(self) -> None:
        """Last value, last season, and ridge regression on the past values of each channel."""
        for h in self.horizons:
            self._add(LAST, 0, h, last_value(self._filled, horizon=h))
            if self.task.season is not None:
                seasonal = seasonal_naive(self._filled, self._stretches, horizon=h, season=self.task.season)
                self._add(SEASONAL, 0, h, seasonal)
            columns = []
            for c in range(self.task.values.shape[1]):
                past = past_values(self._filled[:, c], self._stretches, window=self.context, extra=self.task.known)
                columns.append(self._ridge(past, self.task.values[:, [c]], h))
            valid_mse = float(np.mean([column.valid_mse for column in columns]))
            self._add(LINEAR, 0, h, by_channel(columns), len(self._train(h)), valid_mse)

    def features(self, subject: str, seed: int, z: Floats) -> None:
        """Ridge regression on the embeddings of all rows, ``(rows, D)``."""
        for h in self.horizons:
            forecast = self._ridge(lambda rows: z[rows], self.task.values, h)
            self._add(subject, seed, h, forecast, len(self._train(h)), forecast.valid_mse)

    def _ridge(self, features: Features, values: Floats, horizon: int) -> RidgeForecaster:
        valid = origins(self.task.valid, horizon)
        return fit_ridge(features, values, self._train(horizon), valid, horizon=horizon)

    def _train(self, horizon: int) -> npt.NDArray[np.int64]:
        return origins(self.task.train, horizon, skip=self.context - 1)

    def _add(
        self,
        subject: str,
        seed: int,
        horizon: int,
        forecast: Forecaster,
        n_train: int = 0,
        valid_mse: float = math.nan,
    ) -> None:
        rows = origins(self.task.test, horizon)
        score = score_forecasts(forecast, self.task.values, rows, horizon=horizon)
        self.results.append(ForecastResult(subject, seed, n_train, score, valid_mse))
        if (subject, horizon) not in self.drawn and subject in (METHOD, LINEAR):
            self.drawn[subject, horizon] = forecast(self.examples(rows))

    @staticmethod
    def examples(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """From where the forecasts of the pictures are made."""
        return rows[np.linspace(0, len(rows) - 1, EXAMPLES + 2).astype(np.int64)[1:-1]]

    def pictures(self, names: dict[str, str]) -> str:
        """HTML: forecasts of the first channel, in its own unit."""
        task, charts = self.task, []
        mean = task.early.preprocessor.mean[task.early.preprocessor.channels.index(task.channels[0])]
        for h in dict.fromkeys((self.horizons[0], self.horizons[-1])):
            for i, row in enumerate(self.examples(origins(task.test, h)).tolist()):
                first = max(stretch_start(task.series, row), row - min(HISTORY, 3 * h))
                shown, ahead = np.arange(first, row + h + 1), np.arange(row + 1, row + h + 1)
                lines = [Line(times_of(task.series, shown), task.values[shown, 0] * task.std[0] + mean, None)]
                for c, subject in ((1, LINEAR), (0, METHOD)):
                    values = self.drawn[subject, h][i, :, 0] * task.std[0] + mean
                    lines.append(Line(times_of(task.series, ahead), values, c, dashed=subject == LINEAR))
                title = f"{task.channels[0]}, {h:,} rows ahead"
                charts.append(f'<figure class="wide">{timeline_chart(lines, title, title=title)}</figure>')
        legend = [("var(--grey)", "measured"), (colour(0), names[METHOD]), (colour(1), names[LINEAR])]
        items = "".join(f'<li><span style="color:{c}">▬</span> {escape(text)}</li>' for c, text in legend)
        return f'<ul class="legend">{items}</ul>{"".join(charts)}'


def subject_names(task: ForecastTask, context: int) -> dict[str, str]:
    """Readable names of all subjects."""
    return {
        METHOD: "TS2Vec",
        UNTRAINED: "same encoder, untrained",
        LINEAR: f"linear on the last {context} values",
        SEASONAL: f"last season ({task.season:,} rows)" if task.season else "last season",
        LAST: "last value",
    }


def _sizes(cfg: ForecastDataConfig, series: SeriesSet) -> npt.NDArray[np.int64]:
    """Rows of the three parts of every entity: ``(entities, 3)``."""
    if cfg.rows is not None:
        if len(cfg.rows) != 3 or min(cfg.rows) < 1:
            raise ValueError(f"data.rows must be rows of training, validation and test, got {cfg.rows}")
        if (short := int(np.argmin(series.lengths))) >= 0 and series.lengths[short] < sum(cfg.rows):
            raise ValueError(
                f"data.rows asks for {sum(cfg.rows):,} rows, and {series.ids[short]!r} has {series.lengths[short]:,}"
            )
        return np.tile(np.array(cfg.rows, dtype=np.int64), (len(series), 1))
    if len(cfg.fractions) != 3 or min(cfg.fractions) <= 0 or abs(sum(cfg.fractions) - 1) > 1e-6:
        raise ValueError(f"data.fractions must be three positive shares that add up to 1, got {cfg.fractions}")
    ends = (np.cumsum(cfg.fractions)[None] * series.lengths[:, None] + 1e-6).astype(np.int64)
    ends[:, 2] = series.lengths
    return np.diff(ends, axis=1, prepend=0)


def _unbroken(spans: Sequence[Span], series: SeriesSet) -> list[Span]:
    """The spans cut at every break: no forecast looks across one."""
    starts = series.stretches()[0]
    return [piece for a, b in spans for piece in pairwise([a, *starts[(starts > a) & (starts < b)].tolist(), b])]


def _rows(span: Span) -> int:
    return span[1] - span[0]


def _check_horizons(horizons: Sequence[int], spans: Sequence[Sequence[Span]], context: int) -> None:
    """Raise a ValueError where a horizon is longer than a part of the time axis."""
    for part, found in zip(PARTS, spans, strict=True):
        longest = max(map(_rows, found))
        past = context - 1 if part == "training" else 0
        for horizon in horizons:
            if horizon + past >= longest:
                behind = f" beside the {past} that the first forecast looks back at" if past else ""
                raise ValueError(
                    f"a horizon of {horizon:,} rows does not fit into the {part} part, which has {longest:,} rows "
                    f"at a stretch and needs {horizon + past + 1:,}{behind}: leave it out of horizons, give the part a "
                    "larger share (data.fractions)" + (", or set a smaller context" if past else "")
                )


def _check_measured(series: SeriesSet, chosen: Sequence[int], spans: Sequence[Sequence[Span]]) -> None:
    """Raise a ValueError where a channel that is forecast was not measured in a later part of the time axis."""
    for part, found in zip(PARTS[1:], spans[1:], strict=True):
        known = np.any([(~np.isnan(series.values[a:b, chosen])).any(axis=0) for a, b in found], axis=0)
        for i, measured in zip(chosen, known, strict=True):
            if not measured:
                raise ValueError(
                    f"channel {series.channels[i]!r} has no value in the {part} part: forecast others (data.target), "
                    "or give the part a larger share (data.fractions)"
                )


def _targets(cfg: ForecastDataConfig, train: SeriesSet) -> list[int]:
    """Positions of the channels that are forecast."""
    names = train.channels if cfg.target is None else tuple(cfg.target)
    if unknown := [name for name in names if name not in train.channels]:
        raise ValueError(f"data.target={unknown} is not among the channels {', '.join(train.channels)}")
    if not names:
        raise ValueError("data.target is empty: name at least one channel, or leave it out to forecast all")
    found = [train.channels.index(name) for name in names]
    for i in found:
        column = train.values[:, i]
        known = column[~np.isnan(column)]
        if len(known) == 0:
            raise ValueError(f"channel {train.channels[i]!r} has no value in the training part; leave it out")
        if known.min() == known.max():
            raise ValueError(
                f"channel {train.channels[i]!r} is {known[0]:g} throughout the training part: there is nothing to "
                "learn a forecast from. Name the others in data.target"
            )
    return found
