"""What the anomaly recipe says: measures of every detector, the verdict, and the episodes that stand out most."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

from mmssl.eval.charts import Line, colour, timeline_chart
from mmssl.eval.detection import change_scores, detection_scores, episodes, groups_of_time, top_episodes
from mmssl.eval.interval import Difference, mean_interval, paired_difference
from mmssl.eval.measures import AUC, auc_parts
from mmssl.eval.records import Record, Subjects
from mmssl.eval.report import Section
from mmssl.eval.table import Table, as_html
from mmssl.eval.verdict import Outcome, Verdict
from mmssl.recipes.detectors import CONTROLS, DETECTORS, METHOD, MOVING_Z, RAW, AnomalyTask, Detection, Detectors
from mmssl.recipes.scores import UNTRAINED
from mmssl.recipes.timeline import ranges, shown_to, stretch_start, times_of
from mmssl.timeseries.anomaly import attribute_to_channels
from mmssl.timeseries.embedder import SeriesEmbedder
from mmssl.timeseries.encoder import DilatedConvEncoder
from mmssl.timeseries.times import time_text

FEWEST = 6  # episodes, or recordings, before a difference can be claimed
DRAWN_ROWS = 3_000  # points of a long line
DRAWN_CHANNELS = 6
CHANGES = 5  # changes of regime that are marked
NAMES = {METHOD: "TS2Vec", UNTRAINED: "same encoder, untrained", **CONTROLS}
SUBJECTS = Subjects(METHOD, UNTRAINED, (MOVING_Z, RAW), NAMES)
MEASURES = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "f1": "F1",
    "f1_point_adjusted": "F1, point-adjusted",
    "f1_delay_adjusted": "F1, delay-adjusted",
}


def scored_entities(task: AnomalyTask) -> list[int]:
    """Entities whose test part has rows of both kinds."""
    if task.truth is None:
        return []
    found = []
    for i, (start, stop) in enumerate(ranges(task.series)):
        truth = task.truth[start:stop][task.scored[start:stop]]
        if truth.any() and not truth.all():
            found.append(i)
    return found


def anomaly_records(task: AnomalyTask, detectors: Detectors, *, delay: int) -> list[Record]:
    """A record for every measure of every detector on every recording that has anomalies to be found."""
    several = len(task.series) > 1
    records = []
    for detection in detectors.found:
        for i in scored_entities(task):
            dataset = f"{task.name}/{task.series.ids[i]}" if several else task.name
            n_test = int(task.scored[slice(*ranges(task.series)[i])].sum())
            for metric, value in _measures(task, detection, i, delay).items():
                records.append(
                    Record(
                        dataset,
                        detection.subject,
                        f"{detection.detector}/1",
                        metric,
                        "all",
                        detection.seed,
                        task.split,
                        value,
                        int(task.train_rows[i]),
                        n_test,
                    )
                )
    return records


def anomaly_tables(task: AnomalyTask, detectors: Detectors, *, delay: int) -> list[Table]:
    """Measures of rows as they are, the adjusted ones apart, and false alarms."""
    entities = scored_entities(task)
    tables = []
    if entities:
        over = f", mean over {len(entities)} recordings" if len(entities) > 1 else ""
        spread = f" (mean ± 95 % interval over seeds{over})"
        tables.append(_table("Rows as they are" + spread, task, detectors, entities, list(MEASURES)[:3], delay))
        caption = (
            "Adjusted: a whole episode counts as found if any of its rows, or one of its first "
            f"{delay + 1}, has an alarm. Such scores are high for random alarms, too, and comparable only with others "
            "of their kind" + spread
        )
        tables.append(_table(caption, task, detectors, entities, list(MEASURES)[3:], delay))
    rows = []
    for subject, detector in detectors.pairs:
        if (share := _alarm_share(task, detectors.of(subject, detector))) is not None:
            rows.append((_name(subject, detector), f"{1e3 * share:.2f}"))
    if rows:
        what = "normal rows" if task.truth is not None else "rows"
        caption = f"Alarms per 1,000 {what} of the test part; the thresholds aim at {1e3 * detectors.rate:g}"
        tables.append(Table(caption, ("", "alarms"), tuple(rows)))
    return tables


def anomaly_verdict(task: AnomalyTask, detectors: Detectors) -> Verdict:
    """Did pretraining help the detector that stands first? Judged by AUROC, in blocks of time or by recording."""
    primary = detectors.names[0]
    nothing = (float("nan"),) * 3
    if task.truth is None:
        return Verdict(
            "no-labels",
            "No labels, so no score: below are the episodes that stand out most, for you to judge.",
            ("Give data.label, a column that says which rows are anomalous, to have the detectors compared.",),
            *nothing,
        )
    entities = scored_entities(task)
    if not entities:
        details: tuple[str, ...] = ()
        if (quiet := _alarm_share(task, detectors.of(METHOD, primary))) is not None:
            details = (
                f"What can be said is how quiet the detectors are: {NAMES[METHOD]} ({DETECTORS[primary]}) raises "
                f"{1e3 * quiet:.2f} alarms per 1,000 normal rows, {1e3 * detectors.rate:g} were aimed at.",
            )
        return Verdict("no-labels", _one_sided(task), details, *nothing)
    gap = compare(task, detectors, (METHOD, primary), (UNTRAINED, primary), entities)
    units = len(entities) if len(entities) > 1 else _episodes(task, entities[0])
    unit = "recordings with anomalies" if len(entities) > 1 else "labelled episodes"
    ours, theirs = (_auroc(task, detectors, (s, primary), entities) for s in (METHOD, UNTRAINED))
    scores = f"AUROC {AUC.show(ours)} against {AUC.show(theirs)} with the same encoder untrained, {DETECTORS[primary]}"
    interval = f"difference {AUC.change(gap.value)}, 95 % interval {AUC.change(gap.low)} to {AUC.change(gap.high)}"
    seeds = len(detectors.of(METHOD, primary))
    size = f"{units} {unit if units > 1 else unit.removesuffix('s')}, {seeds} seed{'s' if seeds > 1 else ''}"
    outcome: Outcome = "no-difference"
    if units < FEWEST:
        headline = f"Too few for a claim ({size}): {scores}."
    elif gap.sign:
        outcome = "helped" if gap.sign > 0 else "hurt"
        headline = f"Pretraining {outcome}: {scores} ({interval}; {size})."
    else:
        headline = f"No difference that this test part can show: {scores} ({interval}; {size})."
    detail = _best(task, detectors, entities, claim=units >= FEWEST)
    return Verdict(outcome, headline, (detail,), gap.value, gap.low, gap.high)


def compare(
    task: AnomalyTask, detectors: Detectors, ours: tuple[str, str], theirs: tuple[str, str], entities: Sequence[int]
) -> Difference:
    """AUROC of ours minus theirs: over recordings, or over the episodes and normal stretches of a single one."""
    if len(entities) > 1:
        parts = [
            np.array([[_auc(task, d, i) for i in entities] for d in detectors.of(*pair)]) for pair in (ours, theirs)
        ]
        return paired_difference(parts[0], parts[1])
    truth, rows = _test(task, entities[0])
    both = [np.array([auc_parts(truth, d.scores[rows]) for d in detectors.of(*pair)]) for pair in (ours, theirs)]
    return paired_difference(both[0], both[1], groups_of_time(truth, block=detectors.context))


def anomaly_sections(
    cfg: Any, task: AnomalyTask, detectors: Detectors, embedder: SeriesEmbedder, features: npt.NDArray[np.float32]
) -> tuple[Section, ...]:
    """Tables, the scores over time, the episodes that stand out, and changes of regime."""
    primary = detectors.names[0]
    detection = detectors.of(METHOD, primary)[0]
    found = _stand_out(task, detection, count=cfg.evaluate.shown, width=cfg.evaluate.width)
    busiest = found[0][0] if found else 0
    several = f" of {task.series.ids[busiest]}" if len(task.series) > 1 else ""
    sections = [
        Section(
            "Detectors",
            "".join(f"<div>{as_html(t)}</div>" for t in anomaly_tables(task, detectors, delay=cfg.evaluate.delay)),
            "Thresholds come from the training part alone.",
        ),
        Section(
            f"Scores over time{several}",
            _score_chart(task, detection, busiest),
            f"TS2Vec: {DETECTORS[primary]}; the dashed line is the threshold"
            + (", shaded is what is labelled anomalous." if task.truth is not None else "."),
        ),
        Section(
            "What stands out most",
            _episode_html(task, detection, found, embedder, width=cfg.evaluate.width, context=cfg.context),
            "The highest scores of the test part. A channel's share says how much of the masked-last score goes away "
            f"when the channel does again what it did {cfg.evaluate.width} rows before; shares are of the channels "
            "that take any away.",
        ),
        Section(
            f"Changes of regime{several}",
            _change_chart(task, features, busiest, span=cfg.context),
            f"Distance between the mean embeddings of the {cfg.context} rows before and after; the marked rows are its "
            f"{CHANGES} highest peaks. A peak says that something changed, not that it was wrong.",
        ),
    ]
    return tuple(section for section in sections if section.html)


def _table(
    caption: str,
    task: AnomalyTask,
    detectors: Detectors,
    entities: Sequence[int],
    metrics: Sequence[str],
    delay: int,
) -> Table:
    rows = []
    for subject, detector in detectors.pairs:
        found = [[_measures(task, d, i, delay) for i in entities] for d in detectors.of(subject, detector)]
        if found:
            cells = [mean_interval([float(np.mean([of[m] for of in seed])) for seed in found]) for m in metrics]
            texts = [f"{c.mean:.3f}" + (f" ± {c.half_width:.3f}" if c.n > 1 else "") for c in cells]
            rows.append((_name(subject, detector), *texts))
    return Table(caption, ("", *(MEASURES[m] for m in metrics)), tuple(rows))


def _best(task: AnomalyTask, detectors: Detectors, entities: Sequence[int], *, claim: bool) -> str:
    """The best detector of the pretrained encoder against the best control."""
    controls = [pair for pair in detectors.pairs if pair[0] in CONTROLS]
    best = max(controls, key=lambda pair: _auroc(task, detectors, pair, entities))
    primary = detectors.names[0]
    theirs, ours = (_auroc(task, detectors, pair, entities) for pair in (best, (METHOD, primary)))
    name = NAMES[best[0]][0].upper() + NAMES[best[0]][1:]
    scores = f"AUROC {AUC.show(theirs)} against {AUC.show(ours)}"
    if not claim:
        return f"{name}, the strongest control, has {scores}."
    gap = compare(task, detectors, (METHOD, primary), best, entities)
    place = {1: "behind TS2Vec", 0: "level with TS2Vec", -1: "ahead of TS2Vec"}[gap.sign]
    return f"{name}, the strongest control, is {place} ({scores})."


def _stand_out(task: AnomalyTask, detection: Detection, *, count: int, width: int) -> list[tuple[int, int]]:
    """(entity, row within it) of the highest scores of the test part, each relative to its entity's threshold."""
    found = []
    for i, (start, stop) in enumerate(ranges(task.series)):
        n = int(task.train_rows[i])
        scores = detection.scores[start + n : stop]
        excess = (scores - detection.limits[i]) / max(abs(detection.limits[i]), 1e-9)
        found += [(float(excess[row]), i, row + n) for row in top_episodes(excess, count=count, width=width)]
    return [(entity, row) for _, entity, row in sorted(found, reverse=True)[:count]]


def _episode_html(
    task: AnomalyTask,
    detection: Detection,
    found: Sequence[tuple[int, int]],
    embedder: SeriesEmbedder,
    *,
    width: int,
    context: int,
) -> str:
    encoder = embedder.encoder
    assert isinstance(encoder, DilatedConvEncoder)
    shown = shown_to(embedder, task.raw).values
    rows, charts = [], []
    for number, (entity, row) in enumerate(found, start=1):
        start = int(task.series.offsets[entity])
        past = shown[stretch_start(task.series, start + row) : start + row + 1]
        change = attribute_to_channels(encoder, past, row=len(past) - 1, width=width, window=context)
        change = np.maximum(change[: len(task.series.channels)], 0)  # the encoder may see the calendar beside them
        order = np.argsort(-change)[:3]
        blame = ", ".join(
            f"{task.series.channels[c]} {change[c] / change.sum():.0%}"
            for c in order
            if change.sum() > 0 and change[c] > 0
        )
        over = detection.scores[start + row] / detection.limits[entity]
        cells = [str(task.series.ids[entity]), _when(task, entity, row), f"{over:.2f}", blame or "–"]
        if task.truth is not None:
            near = slice(max(start, start + row - width), start + row + 1)  # a score looks back
            cells.append("yes" if task.truth[near].any() else "no")
        rows.append((str(number), *cells))
        charts.append(_episode_chart(task, entity, row, order, title=f"{number}: {cells[0]} at {cells[1]}"))
    columns = ["", "entity", "at", "score / threshold", "channels", *(["labelled"] if task.truth is not None else [])]
    return as_html(Table("Episodes, the highest score first", tuple(columns), tuple(rows))) + "".join(charts)


def _episode_chart(task: AnomalyTask, entity: int, row: int, order: npt.NDArray[np.intp], *, title: str) -> str:
    start, stop = ranges(task.series)[entity]
    low, high = max(start, start + row - 200), min(stop, start + row + 100)
    times = times_of(task.series, np.arange(low, high))
    channels = order[:DRAWN_CHANNELS]
    lines = [Line(times, task.series.values[low:high, c], i) for i, c in enumerate(channels)]
    spans = [(times[a], times[b - 1]) for a, b in _labelled(task, low, high)]
    chart = timeline_chart([*lines], title, spans=spans, marks=[times[start + row - low]], title=title)
    items = "".join(
        f'<li><span style="color:{colour(i)}">▬</span> {escape(task.series.channels[c])}</li>'
        for i, c in enumerate(channels)
    )
    return f'<figure class="wide">{chart}<ul class="legend">{items}</ul></figure>'


def _score_chart(task: AnomalyTask, detection: Detection, entity: int) -> str:
    start, stop = ranges(task.series)[entity]
    low = start + int(task.train_rows[entity])
    every = times_of(task.series, np.arange(low, stop))
    times, scores = _thinned(every, detection.scores[low:stop])
    spans = [(every[a], every[b - 1]) for a, b in _labelled(task, low, stop)]
    chart = timeline_chart(
        [Line(times, scores, 0)], "anomaly score over time", spans=spans, threshold=detection.limits[entity]
    )
    return f'<figure class="wide">{chart}</figure>'


def _change_chart(task: AnomalyTask, features: npt.NDArray[np.float32], entity: int, *, span: int) -> str:
    start, stop = ranges(task.series)[entity]
    change = change_scores(features[start:stop], span=span)
    if not np.isfinite(change).any():
        return ""
    times = times_of(task.series, np.arange(start, stop))
    marks = [times[row] for row in top_episodes(change, count=CHANGES, width=span)]
    charts = []
    for c in range(min(2, task.series.values.shape[1])):
        t, values = _thinned(times, task.series.values[start:stop, c].astype(np.float64))
        title = f"{task.series.channels[c]} (standardised)"
        charts.append(timeline_chart([Line(t, values, None)], title, marks=marks, title=title, height=1.5))
    t, values = _thinned(times, change)
    charts.append(timeline_chart([Line(t, values, 0)], "distance", marks=marks, title="distance before and after"))
    return "".join(f'<figure class="wide">{chart}</figure>' for chart in charts)


def _thinned(
    times: npt.NDArray[Any], values: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    """The most extreme value of every stretch, so that no peak is lost in a picture."""
    size = -(-len(values) // DRAWN_ROWS)
    if size == 1:
        return times, values
    whole = len(values) // size * size
    blocks = np.nan_to_num(values[:whole].reshape(-1, size), nan=-np.inf)
    centre = float(np.nanmedian(values))
    at = np.argmax(np.abs(np.where(np.isfinite(blocks), blocks - centre, -1)), axis=1)
    rows = np.arange(len(blocks)) * size + at
    return times[rows], values[rows]


def _measures(task: AnomalyTask, detection: Detection, entity: int, delay: int) -> dict[str, float]:
    truth, rows = _test(task, entity)
    return detection_scores(truth, detection.scores[rows], detection.limits[entity], delay=delay)


def _auc(task: AnomalyTask, detection: Detection, entity: int) -> float:
    truth, rows = _test(task, entity)
    return float(auc_parts(truth, detection.scores[rows]).mean())


def _auroc(task: AnomalyTask, detectors: Detectors, pair: tuple[str, str], entities: Sequence[int]) -> float:
    """Mean over recordings and seeds."""
    return float(np.mean([_auc(task, d, i) for d in detectors.of(*pair) for i in entities]))


def _test(task: AnomalyTask, entity: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Truth and position of the scored rows of an entity."""
    assert task.truth is not None
    start, stop = ranges(task.series)[entity]
    rows = start + np.flatnonzero(task.scored[start:stop])
    return task.truth[rows], rows


def _one_sided(task: AnomalyTask) -> str:
    """Why nothing is scored: no recording has normal and anomalous rows in its test part."""
    assert task.truth is not None
    truth = task.truth[task.scored]
    if not len(truth):
        return "No row of the test part is labelled, so nothing is scored: choose another data.train_fraction."
    if not truth.any():
        return "The test part has no labelled anomaly, so nothing can be found: no AUROC, no F1."
    lack = "The test part has no normal row" if truth.all() else "No recording has normal and anomalous rows to test"
    return f"{lack}, so nothing can be told apart: choose another data.train_fraction."


def _alarm_share(task: AnomalyTask, detections: Sequence[Detection]) -> float | None:
    """Share of the normal test rows with an alarm, mean over seeds; None if there is no such row.

    Of all test rows where nobody says which are normal.
    """
    rows = task.scored if task.truth is None else task.scored & ~task.truth
    if not detections or not rows.any():
        return None
    limits = [np.repeat(d.limits, task.series.lengths)[rows] for d in detections]
    return float(np.mean([(d.scores[rows] > limit).mean() for d, limit in zip(detections, limits, strict=True)]))


def _episodes(task: AnomalyTask, entity: int) -> int:
    return len(episodes(_test(task, entity)[0]))


def _labelled(task: AnomalyTask, low: int, high: int) -> list[tuple[int, int]]:
    return [] if task.truth is None else episodes(task.truth[low:high])


def _name(subject: str, detector: str) -> str:
    return NAMES[subject] if subject in CONTROLS else f"{NAMES[subject]}: {DETECTORS[detector]}"


def _when(task: AnomalyTask, entity: int, row: int) -> str:
    series = task.series
    if series.times is None:
        return f"row {row:,}"
    return time_text(series.times[series.offsets[entity] + row], series.time_kind)
