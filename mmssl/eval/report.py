"""report.html: the verdict, the scores, the health and the embeddings of a run in one file that needs nothing else."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmssl.eval.charts import PALETTE, SYMBOLS, budget_chart, colour, dot_chart, line_chart, map_chart
from mmssl.eval.evaluate import FEW_LABELS, FEW_NUMBERS, NAMES
from mmssl.eval.interval import Interval
from mmssl.eval.measures import ACCURACY, MEASURES, Measure
from mmssl.eval.projection import neighbours, project
from mmssl.eval.records import Record, Subjects
from mmssl.eval.table import Table, as_html, intervals, tables
from mmssl.eval.verdict import Verdict

MAX_CLASSES = 20  # in the legend of the map


@dataclass(frozen=True, eq=False)
class Embedding:
    """Embeddings to show.

    Args:
        values: ``(n, D)``.
        names: ``(n,)`` what each row is, for example a path, or entity and window.
        labels: ``(n,)`` object array, None for an unlabelled row; None altogether without labels.
        groups: ``(n,)``, for example entities; neighbours are then looked for in other groups.
        entities: what a group is, in the plural.
        picture: draws row ``i`` as an inline SVG or an ``<img>``, which is put into the page as it is.
    """

    values: npt.NDArray[np.floating[Any]]
    names: Sequence[str]
    labels: npt.NDArray[np.object_] | None = None
    groups: npt.NDArray[Any] | None = None
    entities: str = "entities"
    picture: Callable[[int], str] | None = None


@dataclass(frozen=True)
class Section:
    """A part of the report that only some recipes have, such as reconstructions or attention maps.

    Args:
        title: heading.
        html: put into the page as it is: made by the project's own code, all text in it escaped, nothing referred to
            but ``data:`` addresses. Colours are to be ``currentColor`` or the style sheet's variables, and pictures
            ``<figure>``s in a ``<div class="gallery">``, which fits them to the screen.
        caption: what is to be seen, in sentences.
    """

    title: str
    html: str
    caption: str = ""


@dataclass(frozen=True, eq=False)
class Report:
    """Everything that a report shows; all text is escaped, except in sections.

    Args:
        title: name of the recipe and the data.
        dataset: the data in a few words: samples, channels, split.
        verdict: the answer.
        subjects: who was compared.
        records: scores; none without labels.
        curves: rows of ``metrics.csv``: ``step`` with any of ``loss``, ``collapse_loss``, ``effective_rank`` and
            ``spread``, and ``seed`` where there are several.
        health: what the curves mean, in sentences.
        embedding: what the encoder makes of the data.
        sections: shown after the map.
        results: shown below the verdict, where scores are not those of labelled examples.
        config_yaml: the configuration as it ran.
        command: what to type to get this report again.
        versions: package to version.
        notes: further sentences, such as rows that were left out.
    """

    title: str
    dataset: str
    verdict: Verdict
    subjects: Subjects
    records: Sequence[Record] = ()
    curves: Sequence[Mapping[str, Any]] = ()
    health: Sequence[str] = ()
    embedding: Embedding | None = None
    sections: Sequence[Section] = ()
    results: Sequence[Section] = ()
    config_yaml: str = ""
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()


def write_report(path: str | PathLike[str], report: Report) -> None:
    """Write a report as one HTML file without scripts or external resources; equal reports give equal files."""
    sections = [
        _headline(report),
        _scores(report),
        _label_budget(report),
        *(_extra(section) for section in report.results),
        _health(report),
        _embedding_map(report.embedding),
        _neighbours(report.embedding),
        *(_extra(section) for section in report.sections),
        _reproduction(report),
    ]
    Path(path).write_text(page(report.title, "\n".join(s for s in sections if s)), encoding="utf-8")


def page(title: str, body: str) -> str:
    """A self-contained HTML page in the style of the reports.

    Args:
        title: any text.
        body: HTML, put into the page as it is.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"{body}\n</main>\n</body>\n</html>\n"
    )


def _headline(report: Report) -> str:
    details = "".join(f"<p>{escape(d)}</p>" for d in report.verdict.details)
    return (
        f'<header class="{report.verdict.outcome}"><p class="title">{escape(report.title)}</p>'
        f"<h1>{escape(report.verdict.headline)}</h1>{details}"
        f'<p class="data">{escape(report.dataset)}</p></header>'
    )


def _scores(report: Report) -> str:
    full = [t for t in tables(report.records, report.subjects) if t.columns[0] == ""]
    if not full:
        return ""
    scores = intervals(report.records)
    measure = _measure(report)
    chart: dict[str, list[tuple[int, Interval]]] = {}
    for protocol, name in NAMES.items():
        found = [(i, scores.get((s, protocol, measure.id, "all"))) for i, s in enumerate(report.subjects.order)]
        if group := [(i, score) for i, score in found if score is not None]:
            chart[name] = group
    drawn = ""
    if chart:
        drawing = dot_chart(chart, f"{_title(measure)} of every subject and protocol", measure=measure)
        drawn = _figure(drawing, _subject_legend(report))
    return _section("Scores against the controls", f'<div class="side">{_join(full)}{drawn}</div>')


def _label_budget(report: Report) -> str:
    few = [t for t in tables(report.records, report.subjects) if t.columns[0] != ""]
    if not few:
        return ""
    measure = _measure(report)
    curves: dict[int, list[tuple[int, Interval]]] = {}
    order = report.subjects.order
    for (subject, protocol, _, k), score in sorted(intervals(report.records).items(), key=lambda item: str(item[0][3])):
        if protocol in (FEW_LABELS, FEW_NUMBERS) and isinstance(k, int) and subject in order:
            curves.setdefault(order.index(subject), []).append((k, score))
    lines = [(i, sorted(curves[i])) for i in sorted(curves)]
    over = "labels" if measure.of == "number" else "labels a class"
    drawing = budget_chart(lines, f"{_title(measure)} over {over}", measure=measure)
    drawn = _figure(drawing, _subject_legend(report))
    return _section("How many labels does it take?", _join(few) + drawn)


def _measure(report: Report) -> Measure:
    """What decided: the records say, since accuracy is noted beside AUC, too."""
    noted = {record.metric for record in report.records}
    return next((measure for name, measure in MEASURES.items() if name in noted and name != "accuracy"), ACCURACY)


def _title(measure: Measure) -> str:
    return measure.name[0].upper() + measure.name[1:]


def _health(report: Report) -> str:
    charts = []
    for key, title in (("loss", "loss"), ("effective_rank", "effective rank"), ("spread", "spread of the embeddings")):
        lines = _lines(report.curves, key)
        if lines:
            collapsed = _lines(report.curves, "collapse_loss") if key == "loss" else []
            reference = float(collapsed[0][1][-1]) if collapsed else math.nan
            charts.append(_figure(line_chart(lines, title, reference=reference, from_zero=key != "loss")))
    findings = "".join(f"<li>{escape(h)}</li>" for h in report.health)
    if not charts and not findings:
        return ""
    curves = f'<div class="charts">{"".join(charts)}</div>' if charts else "<p>No training curve was logged.</p>"
    return _section("Health of the training", (f"<ul>{findings}</ul>" if findings else "") + curves)


def _lines(
    rows: Sequence[Mapping[str, Any]], key: str
) -> list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    seeds: dict[Any, list[tuple[float, float]]] = {}
    for row in rows:
        step, value = _number(row.get("step")), _number(row.get(key))
        if math.isfinite(step) and math.isfinite(value):
            seeds.setdefault(row.get("seed"), []).append((step, value))
    lines = [np.array(points)[:: math.ceil(len(points) / 1_000)] for points in seeds.values()]
    return [(line[:, 0], line[:, 1]) for line in lines]


def _number(value: Any) -> float:
    """Read a cell of a CSV file, which may be empty."""
    return math.nan if value is None or value == "" else float(value)


def _embedding_map(embedding: Embedding | None) -> str:
    if embedding is None:
        return ""
    title = "Map of the embeddings"
    drawing = project(embedding.values)
    n = len(embedding.values)
    if drawing is None:
        return _section(title, "<p>All embeddings are the same point: there is nothing to draw.</p>")
    labels = np.full(n, None, dtype=object) if embedding.labels is None else embedding.labels
    shown = [str(label) if label is not None else None for label in labels[drawing.rows]]
    counts = Counter(label for label in shown if label is not None)
    # The most frequent classes get a colour; in order of their names, so that a class keeps it from run to run.
    coloured = sorted(sorted(counts, key=lambda c: (-counts[c], _natural(c)))[:MAX_CLASSES], key=_natural)
    codes = np.array([coloured.index(label) if label in coloured else -1 for label in shown])
    legend = [(colour(i), SYMBOLS[i // PALETTE % len(SYMBOLS)], c) for i, c in enumerate(coloured)]
    if len(counts) > len(coloured):
        legend.append(("var(--grey)", "●", f"{len(counts) - len(coloured)} other classes"))
    if None in shown and counts:
        legend.append(("var(--grey)", "●", "unlabelled"))
    count = f"{len(drawing.rows):,} of {n:,} embeddings" if len(drawing.rows) < n else f"All {n:,} embeddings"
    caution = {
        "t-SNE": "t-SNE keeps near things near; distances between clusters, their sizes and their shapes mean little.",
        "PCA": "PCA shows the two directions of most variance; what differs in the others is not seen.",
    }[drawing.method]
    chart = _figure(map_chart(drawing.points, codes, f"{drawing.method} map of the embeddings"), _legend(legend))
    return _section(title, f'<p>{count}, projected by {drawing.method}. {caution}</p><div class="map">{chart}</div>')


def _neighbours(embedding: Embedding | None) -> str:
    if embedding is None or (embedding.labels is not None and any(label is not None for label in embedding.labels)):
        return ""
    cards = []
    for query, nearest in neighbours(embedding.values, embedding.groups):
        cells = [_example(embedding, query, "query")]
        cells += [_example(embedding, row, f"cosine {cosine:.2f}") for row, cosine in nearest]
        cards.append(f'<div class="neighbours">{"".join(cells)}</div>')
    if not cards:
        return ""
    several = embedding.groups is not None and len(np.unique(embedding.groups)) > 1
    text = "Examples that lie far apart, each with its four nearest by cosine similarity"
    text += f", taken from other {embedding.entities} than its own" if several else ""
    return _section("Nearest neighbours", f"<p>{text}. Do they belong together?</p>{''.join(cards)}")


def _example(embedding: Embedding, row: int, caption: str) -> str:
    picture = embedding.picture(row) if embedding.picture is not None else ""
    name = escape(str(embedding.names[row]))
    return f"<figure>{picture}<figcaption><b>{name}</b><br>{caption}</figcaption></figure>"


def _extra(section: Section) -> str:
    return _section(section.title, (f"<p>{escape(section.caption)}</p>" if section.caption else "") + section.html)


def _reproduction(report: Report) -> str:
    parts = []
    if report.notes:
        parts.append("<ul>" + "".join(f"<li>{escape(n)}</li>" for n in report.notes) + "</ul>")
    if report.command:
        parts.append(f"<h3>Command</h3><pre>{escape(report.command)}</pre>")
    if report.config_yaml:
        parts.append(f"<h3>Configuration</h3><pre>{escape(report.config_yaml.strip())}</pre>")
    if report.versions:
        versions = " · ".join(f"{escape(name)} {escape(version)}" for name, version in report.versions.items())
        parts.append(f"<h3>Versions</h3><p>{versions}</p>")
    return _section("To get this again", "".join(parts)) if parts else ""


def _subject_legend(report: Report) -> str:
    present = {r.subject for r in report.records}
    order = report.subjects.order
    return _legend(
        (colour(i), SYMBOLS[i % len(SYMBOLS)], report.subjects.name(s)) for i, s in enumerate(order) if s in present
    )


def _legend(entries: Iterable[tuple[str, str, str]]) -> str:
    items = "".join(f'<li><span style="color:{c}">{symbol}</span> {escape(name)}</li>' for c, symbol, name in entries)
    return f'<ul class="legend">{items}</ul>' if items else ""


def _figure(svg: str, legend: str = "") -> str:
    return f"<figure>{svg}{legend}</figure>"


def _join(parts: Iterable[Table]) -> str:
    return f"<div>{''.join(as_html(t) for t in parts)}</div>"


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>\n{body}\n</section>"


def _natural(name: str) -> list[str | int]:
    """Order class names as people do: class 2 before class 10."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", name))]


STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1b1f24; --soft: #57606a; --line: #d0d7de; --panel: #f6f8fa;
  --grey: #8b949e; --good: #1a7f37; --bad: #b3261e; --even: #57606a;
  --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #b0568f; --c4: #b58900; --c5: #3fa0d8; --c6: #444c56; }
@media (prefers-color-scheme: dark) { :root { --back: #0d1117; --text: #e6edf3; --soft: #9aa4af; --line: #353c45;
  --panel: #161b22; --grey: #8b949e; --good: #3fb950; --bad: #ff7b72; --even: #9aa4af;
  --c0: #58b0f0; --c1: #ff8a3d; --c2: #2ec79a; --c3: #e39ac9; --c4: #e5c454; --c5: #a5d8ff; --c6: #c9d1d9; } }
@media print { :root { color-scheme: light; --back: #fff; --text: #000; --soft: #444; --line: #ccc; --panel: #fff;
  --grey: #888; --good: #1a7f37; --bad: #b3261e; --even: #444;
  --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #b0568f; --c4: #b58900; --c5: #3fa0d8; --c6: #444c56; }
  section, figure { break-inside: avoid; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 1rem; }
header { border-left: 6px solid var(--even); padding: .25rem 0 .25rem 1rem; margin-bottom: 2rem; }
header.helped { border-color: var(--good); } header.hurt { border-color: var(--bad); }
header p { margin: .4rem 0; max-width: 75ch; } .title, .data { color: var(--soft); } .data { white-space: pre-line; }
h1 { font-size: clamp(1.25rem, 1rem + 1.6vw, 1.9rem); line-height: 1.3; margin: .3rem 0 .8rem; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem; padding-top: .9rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
.side { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 1rem 2rem;
  align-items: start; }
.side > * { min-width: 0; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 320px), 1fr)); gap: 1rem; }
figure { margin: 0; max-width: 560px; } .map figure { max-width: 760px; }
figure.wide { max-width: none; margin: .6rem 0 1.1rem; }
figure svg { display: block; width: 100%; height: auto; overflow: visible; }
.scroll { overflow-x: auto; margin-bottom: 1.2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .88rem; }
.caption { margin: 0 0 .2rem; font-size: .88rem; color: var(--soft); }
th, td { padding: .3rem 0 .3rem .8rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:first-child { padding-left: 0; text-align: left; white-space: normal; min-width: 6rem; font-weight: 500; }
thead th { font-weight: 600; }
tbody tr:first-child > * { font-weight: 700; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .1rem 1rem; margin: .4rem 0; padding: 0;
  font-size: .88rem; }
.sheet { display: block; overflow-x: auto; }
.sheet tr > * { padding: .15rem .6rem .15rem 0; border: 0; text-align: left; font-weight: 400; min-width: 0;
  white-space: nowrap; }
.sheet img { display: block; width: 4.5rem; height: auto; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 140px), 1fr)); gap: .6rem; }
.gallery figure { background: var(--panel); border: 1px solid var(--line); border-radius: 4px; padding: .4rem; }
.gallery img, .neighbours img { display: block; width: 100%; height: auto; }
.neighbours { display: grid; grid-template-columns: repeat(5, minmax(0, 1fr)); gap: .5rem; margin-bottom: .9rem; }
.neighbours figure { background: var(--panel); border: 1px solid var(--line); border-radius: 4px; padding: .4rem; }
.neighbours figure:first-child { border-color: var(--c0); border-width: 2px; }
figcaption { font-size: .78rem; line-height: 1.35; overflow-wrap: anywhere; }
pre { background: var(--panel); border: 1px solid var(--line); padding: .7rem; overflow-x: auto; font-size: .85rem;
  white-space: pre-wrap; overflow-wrap: anywhere; }
@media (max-width: 600px) { .neighbours { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .neighbours figure:first-child { grid-column: 1 / -1; } th, td { padding-left: .5rem; }
  table { font-size: .82rem; } td { white-space: normal; } }
"""
