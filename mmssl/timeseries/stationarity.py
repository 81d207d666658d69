"""The augmented Dickey–Fuller test for many series at once, and how far a recording stays stationary around a row.

The regressions are those of statsmodels' ``adfuller(x)``: with a constant, with the lag that Akaike's criterion chooses
among 0 … 12 (n / 100)^¼, or with a given lag. All lags of a series come out of one QR decomposition: R is that of every
smaller model as well, and what it leaves of the last column are their residuals.

Dickey and Fuller, JASA 1979; the p-values are MacKinnon's response surface (Journal of Business and Economic Statistics
1994, with the coefficients of 2010), for a constant and one series.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

STATIONARY = 0.01  # p-value below which the authors of TNC take a stretch as stationary
CHUNK = 2**19  # values of the regressors that are held at a time: 4 MiB, for the processor's cache
SMALL = (2.1659, 1.4412, 0.038269)  # of the polynomials in the statistic, lowest power first: up to -1.61 …
LARGE = (1.7339, 0.93202, -0.12745, -0.010368)  # … and beyond
WIDTHS = 3  # half-widths of a neighbourhood, in windows


def neighbourhood_sizes(values: Floats, centres: Rows, begin: Rows, end: Rows, *, window: int) -> Rows:
    """How many windows to either side of a row a recording is stationary: 1, 2 or 3 (the η of TNC, by its authors).

    Stretches of one, two and three windows to either side are tested, the p-values averaged over the channels. The
    first one that a random walk may have made (p of 0.01 or more) is the size; if none may, it is 3. A stretch ends
    with its recording. A channel that is constant there counts as stationary, one with missing values does not count;
    where no channel counts, nothing speaks for a larger neighbourhood.

    Args:
        values: ``(rows, C)``, NaN is missing.
        centres: ``(n,)`` rows.
        begin: ``(n,)``, first row of the recording of each.
        end: ``(n,)``, row after its last.
        window: rows of a window.

    Returns:
        ``(n,)``.
    """
    size = np.full(len(centres), WIDTHS, dtype=np.int64)
    undecided = np.arange(len(centres))
    for width in range(1, WIDTHS):  # the last size needs no test: it is what is left
        low = np.maximum(begin[undecided], centres[undecided] - width * window)
        high = np.minimum(end[undecided], centres[undecided] + width * window)
        wanders = _mean_p(values, low, high - low) >= STATIONARY
        size[undecided[wanders]] = width
        undecided = undecided[~wanders]
    return size


def _mean_p(values: Floats, start: Rows, length: Rows) -> npt.NDArray[np.float64]:
    """Mean over the channels of the p-values of stretches of ``values``: ``(n,)``."""
    out = np.ones(len(start))
    for steps in np.unique(length):
        here = np.flatnonzero(length == steps)
        at_once = max(1, CHUNK // (steps * values.shape[1]))
        for i in range(0, len(here), at_once):
            part = here[i : i + at_once]
            rows = start[part, None] + np.arange(steps)
            out[part] = _mean_p_of(torch.from_numpy(values[rows]).transpose(1, 2)).numpy()
    return out


def _mean_p_of(x: Tensor) -> Tensor:
    """``(n, C, T)`` to ``(n,)``."""
    if longest_lag(x.shape[2]) < 0:  # too short to say anything
        return torch.ones(len(x), dtype=torch.float64)
    p = p_value(adf(x.flatten(0, 1))).view(x.shape[:2])
    p = torch.where(x.amax(dim=2) == x.amin(dim=2), 0.0, p)
    return p.nanmean(dim=1).nan_to_num(1.0)


def adf(x: Tensor, *, lags: int | None = None) -> Tensor:
    """The test statistic of each series: small (very negative) for a stationary one.

    Args:
        x: ``(N, T)`` floats; worked on in float64.
        lags: differences in the regression; None chooses for each series by Akaike's criterion.

    Returns:
        ``(N,)`` float64; NaN for a series that is constant or has a missing value.

    Raises:
        ValueError: T is too short for the regression.
    """
    if x.ndim != 2:
        raise ValueError(f"expected series (N, T), got {tuple(x.shape)}")
    most = longest_lag(x.shape[1])
    if most < 0 or (lags is not None and not 0 <= lags <= most):
        asked = "" if lags is None else f" with {lags} lags"
        raise ValueError(f"a Dickey–Fuller test{asked} needs more than {x.shape[1]} timestamps")
    usable = x.amax(dim=1) > x.amin(dim=1)  # False with a NaN, too
    out = torch.full((len(x),), math.nan, dtype=torch.float64, device=x.device)
    if lags is not None:
        out[usable] = _in_chunks(_t_value, x[usable], lags)
        return out
    chosen = torch.full(out.shape, -1, device=x.device)
    chosen[usable] = _in_chunks(_best_lag, x[usable], most)
    for lag in chosen.unique().tolist():  # those of one lag have the same rows left
        if lag >= 0:
            out[chosen == lag] = _in_chunks(_t_value, x[chosen == lag], lag)
    return out


def longest_lag(steps: int) -> int:
    """The largest lag that is tried for series of so many timestamps (Schwert 1989); negative if they are too short."""
    return min(steps // 2 - 2, math.ceil(12 * (steps / 100) ** 0.25))


def p_value(statistic: Tensor) -> Tensor:
    """How likely such a statistic, or a smaller one, is for a random walk; NaN stays NaN."""
    small = sum(c * statistic**i for i, c in enumerate(SMALL))
    large = sum(c * statistic**i for i, c in enumerate(LARGE))
    p = torch.special.ndtr(torch.where(statistic <= -1.61, small, large))
    p = torch.where(statistic > 2.74, 1.0, torch.where(statistic < -18.83, 0.0, p))
    return p.where(~statistic.isnan(), math.nan)


def _in_chunks(run: Callable[[Tensor, int], Tensor], x: Tensor, lag: int) -> Tensor:
    """``run(x, lag)`` in float64, with so many series at a time that their regressors fit into the cache."""
    parts = x.split(max(1, CHUNK // (x.shape[1] * (lag + 2))))
    return torch.cat([run(part.double(), lag) for part in parts])


def _best_lag(x: Tensor, most: int) -> Tensor:
    """``(N,)`` int64: the lag with the smallest Akaike criterion, all of them on the same rows."""
    change, level, before = _columns(x, most)
    r = _triangle([level, *before, change])
    left = r[:, 1:, -1].square().flip(1).cumsum(dim=1).flip(1)  # (N, most + 1): residual sum of squares of each lag
    parameters = torch.arange(2, most + 3, device=x.device)
    return (change.shape[1] * left.log() + 2 * parameters).argmin(dim=1)


def _t_value(x: Tensor, lag: int) -> Tensor:
    """``(N,)``: the level's coefficient in the regression of the change, over its standard error."""
    change, level, before = _columns(x, lag)
    r = _triangle([*before, level, change])  # the level last: its t-value is two numbers of R
    spread = (r[:, -1, -1].square() / (change.shape[1] - lag - 2)).sqrt()
    return r[:, -2, -1] * r[:, -2, -2].sign() / spread


def _columns(x: Tensor, lag: int) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Change, level before it, and ``lag`` earlier changes: each ``(N, T - 1 - lag)``."""
    change = x.diff(dim=1)
    rows = change.shape[1] - lag
    before = [change[:, lag - i : lag - i + rows] for i in range(1, lag + 1)]
    return change[:, lag:], x[:, lag:-1], before


def _triangle(columns: list[Tensor]) -> Tensor:
    """R of the columns without their means, which stands for a constant in the regression."""
    matrix = torch.stack(columns, dim=1)  # (N, columns, rows), as LAPACK wants it
    matrix -= matrix.mean(dim=2, keepdim=True)
    return torch.linalg.qr(matrix.mT, mode="r").R
