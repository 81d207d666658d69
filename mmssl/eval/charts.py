"""The report's charts, inline SVG whose colours are CSS variables: one drawing serves light, dark and paper."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mmssl.eval.interval import Interval
from mmssl.eval.measures import ACCURACY, Measure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# matplotlib knows no CSS: it draws in these unlikely colours, which are replaced in the finished SVG.
TEXT, LINE, GREY = "#010203", "#010204", "#010205"
PALETTE = 7  # colours of the style sheet, safe for the colour-blind; cycled
MARKERS = ("o", "^", "s")
SYMBOLS = ("●", "▲", "■")  # the same, for legends in HTML
LOWEST = {"r2": -0.5}  # where an axis starts at the latest, if not at 0


@dataclass(frozen=True, eq=False)
class Line:
    """A line of a `timeline_chart`.

    Args:
        times: ``(n,)``.
        values: ``(n,)``.
        colour: number of a colour; None is grey.
        dashed: drawn with gaps.
    """

    times: npt.NDArray[Any]
    values: npt.NDArray[np.floating[Any]]
    colour: int | None = 0
    dashed: bool = False


def colour(i: int) -> str:
    """Name the ``i``-th colour of the style sheet."""
    return f"var(--c{i % PALETTE})"


def dot_chart(scores: Mapping[str, Sequence[tuple[int, Interval]]], label: str, *, measure: Measure = ACCURACY) -> str:
    """Draw scores as dots with their intervals, grouped by protocol.

    Args:
        scores: name of a protocol to (number of the subject, score of 1 at most) pairs, top to bottom.
        label: what the chart shows, for readers that do not see it.
        measure: of the scores.
    """
    top = _top(measure)
    floor = top * LOWEST.get(measure.id, 0.0)
    lines = sum(len(group) + 1 for group in scores.values()) - 1
    figure, axes = _figure(height=0.55 + 0.26 * lines)
    ends = [top * (s.mean - _half(s)) for group in scores.values() for _, s in group]
    low = max(floor, min(ends) - 0.02 * top)
    span = 1.015 * top - low
    y, ticks = 0.0, []
    for group in scores.values():
        ticks.append(y + (len(group) - 1) / 2)
        for c, score in group:
            mean, half = top * score.mean, top * _half(score)
            axes.hlines(y, max(mean - half, floor), min(mean + half, top), color=_sentinel(c), lw=2)
            axes.plot([mean], [y], MARKERS[c % len(MARKERS)], color=_sentinel(c), ms=7, mew=0)
            axes.text(1.02, y, measure.figure(score.mean), va="center", ha="left", transform=axes.get_yaxis_transform())
            y += 1
        y += 1
    axes.set_ylim(y - 1.4, -0.6)
    axes.set_xlim(low - 0.02 * span, 1.015 * top)
    axes.set_yticks(ticks, list(scores))
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.set_xlabel(_axis(measure))
    return _svg(figure, label)


def budget_chart(
    curves: Sequence[tuple[int, Sequence[tuple[int, Interval]]]], label: str, *, measure: Measure = ACCURACY
) -> str:
    """Draw scores over labels a class (of a regression, over labels), one line a subject, with intervals.

    Args:
        curves: (number of the subject, [(labels, score of 1 at most)]) for each subject.
        label: what the chart shows, for readers that do not see it.
        measure: of the scores.
    """
    top = _top(measure)
    floor = top * LOWEST.get(measure.id, 0.0)
    figure, axes = _figure(height=3.1)
    budgets = sorted({k for _, curve in curves for k, _ in curve})
    for i, (c, curve) in enumerate(curves):
        shift = 1.02 ** (2 * i - len(curves) + 1)  # intervals side by side, not on top of each other
        x = [k * shift for k, _ in curve]
        mean = np.array([top * s.mean for _, s in curve])
        half = np.array([top * _half(s) for _, s in curve])
        axes.vlines(x, np.maximum(mean - half, floor), np.minimum(mean + half, top), color=_sentinel(c), lw=1.6)
        axes.plot(x, mean, color=_sentinel(c), lw=1.6, marker=MARKERS[c % len(MARKERS)], ms=5, mew=0)
    axes.set_xscale("log")
    axes.set_xticks(budgets, [str(k) for k in budgets])
    axes.minorticks_off()
    axes.set_xlim(budgets[0] / 1.15, budgets[-1] * 1.15)
    axes.set_ylim(bottom=max(floor, axes.get_ylim()[0]) if floor else None, top=1.015 * top)
    axes.grid(axis="y")
    axes.set_xlabel("labels" if measure.of == "number" else "labels a class")
    axes.set_ylabel(_axis(measure))
    return _svg(figure, label)


def line_chart(
    lines: Sequence[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]],
    title: str,
    *,
    reference: float = math.nan,
    from_zero: bool = False,
) -> str:
    """Draw a quantity over training steps.

    Args:
        lines: (steps, values) for each seed.
        title: what it is.
        reference: a value to mark with a dashed line, such as the loss of a collapsed encoder; NaN for none.
        from_zero: whether the axis starts at 0.
    """
    from matplotlib.ticker import MaxNLocator

    figure, axes = _figure(height=2.5)
    for steps, values in lines:
        axes.plot(steps, values, color=_sentinel(0), lw=1.3, marker="o" if len(values) < 3 else "", ms=4)
    if math.isfinite(reference):
        axes.axhline(reference, color=_sentinel(1), lw=1.3, ls=(0, (5, 3)))
        axes.text(0.99, reference, "collapsed", color=_sentinel(1), ha="right", va="bottom",
                  transform=axes.get_yaxis_transform())  # fmt: skip
        axes.margins(y=0.12)
    if from_zero:
        axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(axis="y")
    axes.set_xlabel("step")
    axes.set_title(title, loc="left", color=TEXT, fontsize=10.5)
    return _svg(figure, title)


def timeline_chart(
    lines: Sequence[Line],
    label: str,
    *,
    spans: Sequence[tuple[Any, Any]] = (),
    marks: Sequence[Any] = (),
    threshold: float = math.nan,
    height: float = 2.2,
    title: str = "",
) -> str:
    """Draw values over time, with stretches of it shaded.

    Args:
        lines: bottom to top; NaN is a gap. Times are numbers, or datetimes of NumPy.
        label: what the chart shows, for readers that do not see it.
        spans: first and last time of each stretch.
        marks: times with a vertical line.
        threshold: a value to mark with a dashed line; NaN for none.
        height: in inches, at a width of 9.
        title: above the chart.
    """
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    figure, axes = _figure(height=height, width=9)
    for start, stop in spans:
        axes.axvspan(start, stop, color=GREY, alpha=0.3, lw=1)
    for mark in marks:
        axes.axvline(mark, color=GREY, lw=1.2, ls=(0, (2, 2)))
    for line in lines:
        colour_ = GREY if line.colour is None else _sentinel(line.colour)
        dashes = (0, (4, 2)) if line.dashed else "-"
        axes.plot(line.times, line.values, color=colour_, lw=1.2, ls=dashes)
    if math.isfinite(threshold):
        axes.axhline(threshold, color=_sentinel(1), lw=1.1, ls=(0, (5, 3)))
    if lines and np.issubdtype(np.asarray(lines[0].times).dtype, np.datetime64):
        locator = AutoDateLocator(minticks=3, maxticks=8)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        axes.xaxis.get_offset_text().set_color(TEXT)
    axes.margins(x=0.005)
    axes.grid(axis="y")
    axes.set_title(title, loc="left", color=TEXT, fontsize=10.5, parse_math=False)
    return _svg(figure, label)


def map_chart(points: npt.NDArray[np.float64], classes: npt.NDArray[np.int64], label: str) -> str:
    """Draw points in the plane, coloured by class.

    Args:
        points: ``(p, 2)``.
        classes: ``(p,)``: colour and marker of a class below 20, -1 for a point in grey.
        label: what the chart shows, for readers that do not see it.
    """
    figure, axes = _figure(height=5.4, width=5.8)
    size = 3.6 if len(points) > 500 else 5.0
    for c in np.unique(classes):
        x, y = points[classes == c].T
        known, marker = c >= 0, MARKERS[max(int(c), 0) // PALETTE % len(MARKERS)]
        ink = _sentinel(int(c)) if known else GREY
        axes.plot(x, y, ls="", ms=size, mew=0, color=ink, marker=marker, alpha=0.85 if known else 0.45)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(True)
    return _svg(figure, label)


def _figure(height: float, width: float = 4.7) -> tuple[Figure, Axes]:
    """Start a figure in inches of 72 units; fonts stay legible when it is scaled to a telephone's width."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[:].set_color(LINE)
    axes.tick_params(color=LINE, labelcolor=TEXT, labelsize=10.5)
    for text in (axes.xaxis.label, axes.yaxis.label):
        text.set_color(TEXT)
        text.set_fontsize(10.5)
    return figure, axes


def _svg(figure: Figure, label: str) -> str:
    import matplotlib

    axes = figure.axes[0]
    for grid in (*axes.get_xgridlines(), *axes.get_ygridlines()):
        grid.set_color(LINE)
        grid.set_linewidth(0.6)
    axes.set_axisbelow(True)
    for text in axes.texts:
        text.set_fontsize(10.5)
        if text.get_color() == "black":
            text.set_color(TEXT)
        text.set_parse_math(False)
    for tick in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        tick.set_parse_math(False)
    buffer = io.StringIO()
    style: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "mmssl", "path.simplify": True}
    with matplotlib.rc_context(style), warnings.catch_warnings():
        # The browser draws the letters, with its own fonts; whether matplotlib's font knows them does not matter.
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    return _inline(buffer.getvalue(), label)


def _inline(svg: str, label: str) -> str:
    """Turn matplotlib's document into an element that inherits fonts and colours from the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    view = re.search(r'viewBox="[^"]*"', svg)
    assert view is not None
    svg = f'<svg role="img" aria-label="{escape(label)}" {view[0]}>' + svg[svg.index(">") + 1 :]
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # ids that nothing refers to, and that would repeat in every chart
    svg = re.sub(r"font: ([\d.]+px) [^;\"]+", r"font-size: \1", svg)
    for sentinel, name in ((TEXT, "currentColor"), (LINE, "var(--line)"), (GREY, "var(--grey)")):
        svg = svg.replace(sentinel, name)
    svg = re.sub(r"#0301([0-9a-f]{2})", lambda m: colour(int(m[1], 16)), svg)
    return re.sub(r"\n\s*", "\n", svg).strip()


def _top(measure: Measure) -> int:
    """What a perfect score is shown as."""
    return 100 if measure.decimals is None else 1


def _axis(measure: Measure) -> str:
    return measure.name + (", %" if measure.decimals is None else "")


def _sentinel(i: int) -> str:
    return f"#0301{i % PALETTE:02x}"


def _half(score: Interval) -> float:
    return 0.0 if math.isnan(score.half_width) else score.half_width
