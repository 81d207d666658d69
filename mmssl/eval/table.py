"""The tables of scores, made once for the terminal and for the report, from the records alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from mmssl.eval.evaluate import FEW_LABELS, FEW_NUMBERS, NAMES
from mmssl.eval.interval import Interval, mean_interval
from mmssl.eval.measures import ACCURACY, MEASURES
from mmssl.eval.records import Record, Subjects
from mmssl.eval.retrieval import AT
from mmssl.eval.zeroshot import PROTOCOL as ZERO_SHOT

METRICS = {
    "auc": "AUC",
    "r2": "R²",
    "rmse": "RMSE",
    "accuracy": "Accuracy",
    "macro_f1": "Macro-F1",
    "character_error_rate": "Character error rate",
}
SHARES = ("accuracy", "macro_f1", "character_error_rate")  # are shown in percent
OF_CLASSES = ("accuracy", "macro_f1")


@dataclass(frozen=True)
class Table:
    """Text in rows and columns.

    Args:
        caption: what the numbers are.
        columns: headings; the first one is above the row names.
        rows: the name of the row, then one cell a column.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(records: Sequence[Record], subjects: Subjects) -> list[Table]:
    """Tabulate the scores of one data set: those without labels, those with the labels taken, the label-budget curve.

    A cell is the mean (of accuracy and macro-F1 in percent) and half the width of its 95 % t-interval, as ``intervals``
    has them. A single value has no interval. Subjects without a record have no row.

    Raises:
        ValueError: records of several data sets or splits, whose mean would mean nothing.
    """
    scores = intervals(records)
    taken = {r.n_train for r in records if r.n_labels == "all"}  # of the training part; a setting may leave some out
    given = f"{taken.pop():,} labels" if len(taken) == 1 else "all labels"
    parts = (*_retrieval(scores, subjects), _zero_shot(scores, subjects), *_full_label(scores, subjects, given))
    return [table for table in (*parts, _curve(scores, subjects)) if table is not None]


def intervals(records: Iterable[Record]) -> dict[tuple[str, str, str, int | str], Interval]:
    """Average records over seeds, or over the draws of a single seed.

    Draws of one seed share its encoder; where there are several seeds, a seed counts once, by the mean of its draws.

    Returns:
        (subject, protocol, metric, n_labels) to mean and half width.

    Raises:
        ValueError: records of several data sets or splits.
    """
    values: dict[tuple[str, str, str, int | str], dict[int, list[float]]] = {}
    sources = set()
    for r in records:
        sources.add((r.dataset, r.split))
        seeds = values.setdefault((r.subject, r.protocol, r.metric, r.n_labels), {})
        seeds.setdefault(r.seed, []).append(r.value)
    if len(sources) > 1:
        raise ValueError(f"one table cannot hold several data sets or splits, got {sorted(sources)}")
    return {
        key: mean_interval(
            [float(np.mean(v)) for v in seeds.values()] if len(seeds) > 1 else next(iter(seeds.values()))
        )
        for key, seeds in values.items()
    }


def as_text(table: Table) -> str:
    """Align a table for a terminal."""
    lines = [table.columns, *table.rows]
    widths = [max(len(line[c]) for line in lines) for c in range(len(table.columns))]
    rendered = [
        "  ".join([line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    ]
    rule = "─" * len(rendered[0])
    return "\n".join([table.caption, rule, rendered[0], rule, *rendered[1:], rule])


def as_html(table: Table) -> str:
    """Write a table as HTML."""
    head = "".join(f'<th scope="col">{escape(c)}</th>' for c in table.columns)
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(_html_cell(c) for c in cells)}</tr>\n'
        for name, *cells in table.rows
    )
    caption = escape(table.caption)
    return (
        f'<p class="caption">{caption}</p>\n<div class="scroll"><table aria-label="{caption}">\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n"
    )


def _html_cell(text: str) -> str:
    # On a narrow screen a cell may break before "(1 seed)" and nowhere else.
    return "<td>" + escape(text).replace(" ± ", "&nbsp;±&nbsp;").replace("(1 ", "(1&nbsp;") + "</td>"


def _retrieval(scores: dict[tuple[str, str, str, int | str], Interval], subjects: Subjects) -> Iterable[Table]:
    """One for each set of test pairs."""
    protocols = {protocol for _, protocol, metric, _ in scores if metric.startswith("recall@")}
    for protocol in sorted((p for p in protocols if p.startswith("text-to-image")), key=len):
        columns = [
            (each, direction, k)
            for each, direction in (
                (protocol, "text → image"),
                (protocol.replace("text-to-image", "image-to-text"), "image → text"),
            )
            for k in AT
        ]
        rows = []
        for subject in subjects.order:
            found = [scores.get((subject, each, f"recall@{k}", 0)) for each, _, k in columns]
            if any(found):
                rows.append((subjects.name(subject), *(_cell(score, "seed", "recall") for score in found)))
        part = protocol.partition("(")[2].partition(")")[0]
        caption = f"Retrieval{f' of {part}' if part else ''}, R@k, % (mean ± 95 % interval over seeds)"
        yield Table(caption, ("", *(f"{direction} {k}" for _, direction, k in columns)), tuple(rows))


def _zero_shot(scores: dict[tuple[str, str, str, int | str], Interval], subjects: Subjects) -> Table | None:
    rows = []
    for subject in subjects.order:
        found = [scores.get((subject, ZERO_SHOT, metric, 0)) for metric in OF_CLASSES]
        if any(found):
            rows.append((subjects.name(subject), *(_cell(score, "seed", "accuracy") for score in found)))
    caption = "Zero-shot classification, % (mean ± 95 % interval over seeds)"
    return Table(caption, ("", *(METRICS[metric] for metric in OF_CLASSES)), tuple(rows)) if rows else None


def _full_label(
    scores: dict[tuple[str, str, str, int | str], Interval], subjects: Subjects, given: str
) -> Iterable[Table | None]:
    present = {protocol for _, protocol, _, n_labels in scores if n_labels == "all"}
    protocols = [p for p in NAMES if p in present] + sorted(present - NAMES.keys())
    for metric, label in METRICS.items():
        rows = []
        for subject in subjects.order:
            found = [scores.get((subject, protocol, metric, "all")) for protocol in protocols]
            if any(found):
                rows.append((subjects.name(subject), *(_cell(s, "seed", metric) for s in found)))
        if rows:
            unit = ", %" if metric in SHARES else ""
            caption = f"{label} with {given}{unit} (mean ± 95 % interval over seeds)"
            yield Table(caption, ("", *(NAMES.get(p, p) for p in protocols)), tuple(rows))


def _curve(scores: dict[tuple[str, str, str, int | str], Interval], subjects: Subjects) -> Table | None:
    curves = {(protocol, metric) for _, protocol, metric, _ in scores if protocol in (FEW_LABELS, FEW_NUMBERS)}
    if not curves:
        return None
    ((protocol, metric),) = curves
    budgets = sorted({n for _, p, _, n in scores if p == protocol and isinstance(n, int)})
    rows = []
    for subject in subjects.order:
        found = [scores.get((subject, protocol, metric, k)) for k in budgets]
        if any(found):
            rows.append((subjects.name(subject), *(_cell(s, "draw", metric) for s in found)))
    if not rows:
        return None
    model = "ridge" if protocol == FEW_NUMBERS else "logistic"
    unit = ", %" if metric in SHARES else ""
    caption = (
        f"{METRICS[metric]} with few labels, {model} regression{unit} "
        "(mean ± 95 % interval over seeds, over draws of one seed)"
    )
    return Table(caption, ("labels" if protocol == FEW_NUMBERS else "labels a class", *map(str, budgets)), tuple(rows))


def _cell(score: Interval | None, unit: str, metric: str) -> str:
    if score is None:
        return "–"
    spread = f"(1 {unit})" if math.isnan(score.half_width) else f"± {_figure(score.half_width, metric)}"
    return f"{_figure(score.mean, metric)} {spread}"


def _figure(value: float, metric: str) -> str:
    return f"{value:.4g}" if metric == "rmse" else MEASURES.get(metric, ACCURACY).figure(value)
