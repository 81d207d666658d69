"""What forecasts say: records for results.json, a table, and whether pretraining helped to make them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmssl.eval.forecasting import ForecastScore
from mmssl.eval.interval import Difference, mean_interval, paired_difference
from mmssl.eval.records import Record, Subjects
from mmssl.eval.table import Table
from mmssl.eval.verdict import Outcome, Verdict


@dataclass(frozen=True, eq=False)
class ForecastResult:
    """One forecaster's score.

    Args:
        subject: whose.
        seed: of the pretraining or of the untrained weights; 0 for a control.
        n_train: rows that it was fitted on.
        score: on the test rows.
        valid_mse: on the validation rows; NaN where nothing was chosen on them.
    """

    subject: str
    seed: int
    n_train: int
    score: ForecastScore
    valid_mse: float = math.nan


def forecast_records(
    results: Sequence[ForecastResult],
    *,
    dataset: str,
    split: str,
    channels: Sequence[str],
    std: npt.NDArray[np.float64],
) -> list[Record]:
    """MSE and MAE of standardised values, the MSE on validation rows, and the errors of every channel in its own unit.

    Args:
        results: of all subjects, seeds and horizons.
        dataset, split: for the records.
        channels: names of the C forecast channels.
        std: ``(C,)`` by which they were divided.
    """
    found = []
    for result in results:
        score = result.score
        values = {"mse": score.mse, "mae": score.mae}
        if not math.isnan(result.valid_mse):
            values["validation mse"] = result.valid_mse
        for c, name in enumerate(channels):
            values[f"mse in units of {name}"] = float(score.channel_mse[c] * std[c] ** 2)
            values[f"mae in units of {name}"] = float(score.channel_mae[c] * std[c])
        found += [
            Record(
                dataset,
                result.subject,
                f"forecast-{score.horizon}/1",
                metric,
                "all",
                result.seed,
                split,
                value,
                result.n_train,
                len(score.rows),
            )
            for metric, value in values.items()
        ]
    return found


def forecast_table(results: Sequence[ForecastResult], subjects: Subjects) -> Table:
    """MSE and MAE of every subject, a column a horizon: mean and half the 95 % interval over seeds."""
    horizons = sorted({result.score.horizon for result in results})
    rows = []
    for subject in subjects.order:
        cells = []
        for horizon in horizons:
            scores = [r.score for r in results if r.subject == subject and r.score.horizon == horizon]
            cells.append(f"{_mean([s.mse for s in scores])} / {_mean([s.mae for s in scores])}" if scores else "–")
        if any(cell != "–" for cell in cells):
            rows.append((subjects.name(subject), *cells))
    caption = "MSE / MAE of standardised values, by rows ahead (mean ± 95 % interval over seeds)"
    return Table(caption, ("", *(f"{horizon:,} rows" for horizon in horizons)), tuple(rows))


def unit_table(
    results: Sequence[ForecastResult], subjects: Subjects, channels: Sequence[str], std: npt.NDArray[np.float64]
) -> Table:
    """Mean absolute error of every channel in its own unit, of the pretrained encoder and of the best control."""
    horizons = sorted({result.score.horizon for result in results})
    rows = []
    for c, name in enumerate(channels):
        cells = []
        for horizon in horizons:
            means = {
                subject: std[c] * float(np.mean([r.score.channel_mae[c] for r in found]))
                for subject in subjects.order
                if (found := [r for r in results if r.subject == subject and r.score.horizon == horizon])
            }
            best = min((s for s in means if s in subjects.controls), key=lambda s: means[s])
            cells.append(f"{means[subjects.pretrained]:.4g} ({means[best]:.4g} {subjects.name(best)})")
        rows.append((name, *cells))
    caption = "Mean absolute error in each channel's own unit (in brackets the best control)"
    return Table(caption, ("", *(f"{horizon:,} rows" for horizon in horizons)), tuple(rows))


def forecast_verdict(results: Sequence[ForecastResult], subjects: Subjects, *, season: int | None) -> Verdict:
    """Judge by the squared error of each forecast, in blocks of time; forecasts that overlap are no two witnesses.

    A horizon counts where the 95 % interval of the difference, from a bootstrap over blocks and seeds, excludes 0.

    Args:
        results: of all subjects, seeds and horizons.
        subjects: who is who.
        season: rows of a season, where one is known: no block is shorter.
    """
    horizons = sorted({result.score.horizon for result in results})
    gaps = {
        h: compare(results, subjects.pretrained, subjects.untrained, horizon=h, block=max(h, season or 1))
        for h in horizons
    }
    parts = []
    for h in horizons:
        ours, theirs = _mse(results, subjects.pretrained, h), _mse(results, subjects.untrained, h)
        parts.append(f"{h:,} rows ahead {ours:.3f} against {theirs:.3f} {_told(gaps[h])}")
    scores = f"MSE {', '.join(parts)} with the same encoder untrained."
    signs = {gap.sign for gap in gaps.values()}
    outcome: Outcome = "no-difference"
    if signs <= {0}:
        answer = "No difference that this test part can show"
    elif -1 not in signs:
        outcome, answer = "helped", "Pretraining helped"
    elif 1 not in signs:
        outcome, answer = "hurt", "Pretraining hurt"
    else:
        answer = "It depends on the horizon"
    short = len(horizons) <= 2
    details = [
        "" if short else scores,
        _against_controls(results, subjects, horizons, season),
        _size(results, subjects, gaps),
    ]
    headline = f"{answer}: {scores if short else _by_outcome(gaps)}"
    first = gaps[horizons[0]]
    return Verdict(outcome, headline, tuple(d for d in details if d), first.value, first.low, first.high)


def compare(results: Sequence[ForecastResult], ours: str, theirs: str, *, horizon: int, block: int) -> Difference:
    """Mean squared error of theirs minus ours (positive: ours is better), resampled by blocks of test rows.

    Args:
        results: of all subjects, seeds and horizons.
        ours, theirs: subjects; one seed of theirs serves for all of ours.
        horizon: rows ahead.
        block: rows that are resampled together.
    """
    a, b = (
        {r.seed: r.score for r in results if r.subject == subject and r.score.horizon == horizon}
        for subject in (ours, theirs)
    )
    seeds = sorted(a)
    rows = a[seeds[0]].rows
    left = np.stack([a[seed].squared for seed in seeds])
    right = np.stack([b[seed].squared for seed in (seeds if len(b) > 1 else sorted(b))])
    known = ~np.isnan(left[0])
    breaks = np.diff(rows, prepend=rows[0]) > block  # another entity
    blocks = (rows - rows[0]) // block + np.cumsum(breaks) * (len(rows) + 1)
    return paired_difference(right[:, known] if len(right) == len(left) else np.repeat(right, len(left), 0)[:, known],
                             left[:, known], blocks[known])  # fmt: skip


def _against_controls(
    results: Sequence[ForecastResult], subjects: Subjects, horizons: Sequence[int], season: int | None
) -> str:
    """Where the best control stands, at every horizon."""
    words: dict[tuple[str, int], list[str]] = {}
    for h in horizons:
        value = {c: _mse(results, c, h) for c in subjects.controls if any(r.subject == c for r in results)}
        best = min(value, key=lambda c: value[c])
        gap = compare(results, subjects.pretrained, best, horizon=h, block=max(h, season or 1))
        ours = _mse(results, subjects.pretrained, h)
        words.setdefault((best, gap.sign), []).append(f"{h:,} rows ahead {value[best]:.3f} against {ours:.3f}")
    said = []
    for (best, sign), parts in words.items():
        place = {
            1: f"behind {subjects.name(subjects.pretrained)}",
            0: f"level with {subjects.name(subjects.pretrained)}",
            -1: f"ahead of {subjects.name(subjects.pretrained)}: for forecasts of this data take that",
        }[sign]
        said.append(f"{_capital(subjects.name(best))}, the strongest control, is {place} (MSE {', '.join(parts)}).")
    return " ".join(said)


def _size(results: Sequence[ForecastResult], subjects: Subjects, gaps: dict[int, Difference]) -> str:
    seeds = len({r.seed for r in results if r.subject == subjects.pretrained})
    counts = [f"{gap.groups:,} {h:,} rows ahead" for h, gap in gaps.items()]
    few = [f"{h:,}" for h, gap in gaps.items() if gap.groups < 6]
    text = f"Judged by blocks of test rows: {', '.join(counts)}; {seeds} {'seed' if seeds == 1 else 'seeds'}."
    if few:
        text += f" Fewer than 6 independent blocks cannot show a difference: {', '.join(few)} rows ahead."
    return text


def _by_outcome(gaps: dict[int, Difference]) -> str:
    """At which horizons which, for more of them than a headline can hold figures."""
    said = []
    for sign, words in ((1, "better"), (-1, "worse"), (0, "no difference shows")):
        if horizons := [f"{h:,}" for h, gap in gaps.items() if gap.sign == sign]:
            listed = horizons[0] if len(horizons) == 1 else f"{', '.join(horizons[:-1])} and {horizons[-1]}"
            said.append(f"{words} {listed} rows ahead")
    return f"{'; '.join(said)}, against the same encoder untrained."


def _told(gap: Difference) -> str:
    return {1: "(better)", 0: "(no difference shows)", -1: "(worse)"}[gap.sign]


def _mse(results: Sequence[ForecastResult], subject: str, horizon: int) -> float:
    return float(np.mean([r.score.mse for r in results if r.subject == subject and r.score.horizon == horizon]))


def _mean(values: Sequence[float]) -> str:
    score = mean_interval(values)
    return f"{score.mean:.3f}" + ("" if math.isnan(score.half_width) else f" ± {score.half_width:.3f}")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
