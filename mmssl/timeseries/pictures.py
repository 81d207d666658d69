"""Small drawings of series, as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
import numpy.typing as npt

WIDTH, HEIGHT = 160, 48
MAX_POINTS, MAX_CHANNELS = 120, 6


def sparkline(series: npt.NDArray[np.float32]) -> str:
    """One line a channel of ``(T, C)``, at most six, all on one scale; a gap where values are missing."""
    x = series[:: max(1, len(series) // MAX_POINTS), :MAX_CHANNELS]
    known = x[~np.isnan(x)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    scale = (HEIGHT - 4) / (high - low) if high > low else 0.0
    lines = []
    for c in range(x.shape[1]):
        path, drawing = [], False
        for t, value in enumerate(x[:, c]):
            if np.isnan(value):
                drawing = False
                continue
            at = f"{t * WIDTH / max(1, len(x) - 1):.1f},{HEIGHT - 2 - (value - low) * scale:.1f}"
            path.append(("L" if drawing else "M") + at)
            drawing = True
        if path:
            opacity = 1 - 0.6 * c / MAX_CHANNELS
            lines.append(f'<path d="{"".join(path)}" fill="none" stroke="currentColor" opacity="{opacity:.2f}"/>')
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" '
        f'aria-label="series of {len(series)} rows">{"".join(lines)}</svg>'
    )


def sheet(rows: Sequence[Sequence[npt.NDArray[np.float32]]], titles: Sequence[str]) -> str:
    """A table of series.

    Args:
        rows: series ``(T, C)`` of each row.
        titles: of the columns, any text.
    """
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join("<tr>" + "".join(f"<td>{sparkline(series)}</td>" for series in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
