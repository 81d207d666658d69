"""From a table as it was read to model input, fitted on training rows only; and how far new rows have drifted.

Model input is one float32 matrix ``(N, M)``. Numeric cells are scaled; categorical cells are codes: 0 for a category
that was not in the training rows (UNSEEN), k for the k-th most frequent one. NaN is MISSING in both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import NormalDist
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from mmssl.tabular.tableset import Column, Floats, TableSet

Scaling = Literal["quantile", "standard"]
UNSEEN = 0
KNOTS = 255  # quantiles of a numeric column that are kept
FIT_ROWS = 1_000_000  # rows that quantiles are taken from; more are thinned out evenly
BINS = 10  # of a numeric column, equally full in training, when distributions are compared
DRIFTED = 0.1  # total variation between two distributions that is worth a word, beyond chance
CHUNK = 2**18  # rows that are held in float64 at a time


@dataclass(frozen=True)
class Numbers:
    """A numeric column of the training rows.

    Args:
        column: how it is read.
        knots: rising values of the column, and what each becomes; between two of them the map is linear, beyond the
            outer ones constant. Empty if the scaling is by mean and deviation.
        scaled: likewise.
        mean, std: of the values.
        bins: inner borders of equally full bins.
        shares: of the rows that have a value, in each bin.
        low, high: the range of the values.
        missing: share of the rows without a value.
    """

    column: Column
    knots: tuple[float, ...]
    scaled: tuple[float, ...]
    mean: float
    std: float
    bins: tuple[float, ...]
    shares: tuple[float, ...]
    low: float
    high: float
    missing: float


@dataclass(frozen=True)
class Categories:
    """A categorical column of the training rows.

    Args:
        column: how it is read.
        vocabulary: categories by falling frequency; code k is the k-th, counted from 1.
        shares: of the rows that have a value: UNSEEN (the categories that were cut), then the vocabulary's.
        missing: share of the rows without a value.
        lone: share of the rows that have a value which share it with no other.
    """

    column: Column
    vocabulary: tuple[str, ...]
    shares: tuple[float, ...]
    missing: float
    lone: float = 0.0


Fitted = Numbers | Categories


@dataclass(frozen=True)
class Drift:
    """How a column of new rows differs from the training rows.

    Args:
        name: of the column.
        distance: total variation between the distributions of the cells that have a value, 0 to 1.
        expected: what it comes to by chance, for so many rows and training rows of one distribution.
        missing: share of new rows without a value.
        missing_before: the same of the training rows.
        outside: share of the values that are new: unseen categories, or numbers beyond the range.
        outside_expected: what it comes to by chance.
    """

    name: str
    distance: float
    expected: float
    missing: float
    missing_before: float
    outside: float
    outside_expected: float

    @property
    def notable(self) -> bool:
        changed = abs(self.missing - self.missing_before) > DRIFTED
        new = self.outside - self.outside_expected
        return self.distance > DRIFTED + self.expected or changed or new > DRIFTED


@dataclass(frozen=True)
class TablePreprocessor:
    """Scales and vocabularies of a table; applies the same to all later rows.

    Args:
        scaling: ``"quantile"`` maps every numeric column onto a standard normal distribution and bounds what lies
            beyond the training range; ``"standard"`` subtracts the mean and divides by the deviation.
        max_categories: rarer categories of a column are cut: they count as UNSEEN.
        fitted: the columns of the model input, once fitted.
        left_out: name of each column that is not among them, and why.
        rows: how many it was fitted on.
    """

    scaling: Scaling = "quantile"
    max_categories: int = 1000
    fitted: tuple[Fitted, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    rows: int = 0

    def fit(self, raw: TableSet) -> TablePreprocessor:
        """Fitted on ``raw``; columns without a value, or with one value only, are left out.

        Raises:
            ValueError: a single row, or nothing left to learn from.
        """
        if self.scaling not in ("quantile", "standard"):
            raise ValueError(f"scaling must be 'quantile' or 'standard', got {self.scaling!r}")
        if self.max_categories < 1:
            raise ValueError(f"max_categories must be at least 1, got {self.max_categories}")
        if len(raw) < 2:
            raise ValueError(f"a table of {len(raw)} row tells nothing of its columns: at least 2 samples are needed")
        thin = slice(0, None, max(1, -(-len(raw) // FIT_ROWS)))
        fitted: list[Fitted] = []
        left_out = dict(raw.left_out)
        for j, column in enumerate(raw.columns):
            values = raw.values[:, j]
            known = values[~np.isnan(values)]
            missing = 1 - len(known) / len(raw)
            if not len(known):
                left_out[column.name] = "no value in any training row"
            elif known.min() == known.max() and not 0 < missing < 1:
                left_out[column.name] = "the same value in all training rows"
            elif column.kind == "categorical":
                fitted.append(_fit_categories(column, known, raw.categories[j], missing, self.max_categories))
            else:
                some = raw.values[thin, j]
                fitted.append(_fit_numbers(column, known, some[~np.isnan(some)], missing, self.scaling))
        if not fitted:
            reasons = ", ".join(f"{name} ({why})" for name, why in left_out.items())
            raise ValueError(f"no column is left to learn from: {reasons}")
        return replace(self, fitted=tuple(fitted), left_out=left_out, rows=len(raw))

    @property
    def columns(self) -> tuple[Column, ...]:
        """Of the model input, as new data is to be read."""
        return tuple(fitted.column for fitted in self.fitted)

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """For each column of the model input the size of its vocabulary; 0 for a numeric one."""
        return tuple(len(f.vocabulary) if isinstance(f, Categories) else 0 for f in self.fitted)

    def __call__(self, raw: TableSet) -> Floats:
        """Model input ``(N, M)``.

        Raises:
            ValueError: ``raw`` lacks a column of the training data, or has it as another kind.
        """
        out = np.empty((len(raw), len(self.fitted)), dtype=np.float32)
        for j, (fitted, values, names) in enumerate(self._columns_of(raw)):
            if isinstance(fitted, Categories):
                out[:, j] = _codes(fitted, values, names)
            else:
                for i in range(0, len(raw), CHUNK):
                    out[i : i + CHUNK, j] = _scale(fitted, values[i : i + CHUNK])
        return out

    def drift(self, raw: TableSet) -> list[Drift]:
        """How the columns of new rows differ from those of the training rows."""
        return [_drift(fitted, values, names, self.rows) for fitted, values, names in self._columns_of(raw)]

    def state(self) -> dict[str, Any]:
        return {
            "scaling": self.scaling,
            "max_categories": self.max_categories,
            "dtype": "float32",
            "missing": "NaN",
            "unseen": UNSEEN,
            "rows": self.rows,
            "columns": [asdict(fitted) for fitted in self.fitted],
            "left_out": self.left_out,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        fitted = []
        for saved in state["columns"]:
            kind: type[Any] = Categories if saved["column"]["kind"] == "categorical" else Numbers
            values = {name: tuple(value) if isinstance(value, list) else value for name, value in saved.items()}
            fitted.append(kind(**(values | {"column": Column(**saved["column"])})))
        return cls(state["scaling"], state["max_categories"], tuple(fitted), dict(state["left_out"]), state["rows"])

    def _columns_of(self, raw: TableSet) -> Iterator[tuple[Fitted, Floats, tuple[str, ...]]]:
        """Each fitted column with its values in ``raw`` and their categories."""
        place = {column.name: j for j, column in enumerate(raw.columns)}
        for fitted in self.fitted:
            name = fitted.column.name
            if name not in place:
                raise ValueError(f"column {name!r} of the training data is missing; there is {', '.join(place)}")
            j = place[name]
            if raw.columns[j] != fitted.column:
                raise ValueError(
                    f"column {name!r} was read as {raw.columns[j]}, the training data had {fitted.column}; read new "
                    "data with read_table(…, columns=preprocessor.columns)"
                )
            yield fitted, raw.values[:, j], raw.categories[j]


def describe_drift(drifts: Sequence[Drift], rows: int) -> str:
    """The columns that are worth a word, the most changed first."""
    notable = sorted((d for d in drifts if d.notable), key=lambda d: -max(d.distance, d.outside))
    if not notable:
        return f"drift: none of {len(drifts)} columns differs from the training rows in these {rows:,}"
    lines = [f"drift: {len(notable)} of {len(drifts)} columns differ from the training rows"]
    for d in notable:
        parts = [f"distribution moved by {d.distance:.0%} ({d.expected:.0%} by chance)"]
        if abs(d.missing - d.missing_before) > DRIFTED:
            parts.append(f"missing {d.missing:.1%}, {d.missing_before:.1%} before")
        if d.outside > 0:
            chance = f" ({d.outside_expected:.1%} by chance)" if d.outside_expected else ""
            parts.append(f"{d.outside:.1%} new values{chance}")
        lines.append(f"  {d.name}: {', '.join(parts)}")
    return "\n".join(lines)


def _fit_numbers(column: Column, known: Floats, some: Floats, missing: float, scaling: Scaling) -> Numbers:
    """Args:
    known: all values.
    some: those that quantiles are taken from.
    """
    mean = float(known.mean(dtype=np.float64))
    chunks = (known[i : i + CHUNK].astype(np.float64) for i in range(0, len(known), CHUNK))
    std = float(np.sqrt(sum(float(np.square(chunk - mean).sum()) for chunk in chunks) / len(known)))
    ordered = np.sort(some if len(some) else known).astype(np.float64)
    knots, scaled = _quantile_map(ordered) if scaling == "quantile" else ((), ())
    bins = np.unique(np.quantile(ordered, np.arange(1, BINS) / BINS, method="inverted_cdf"))
    shares = np.bincount(np.searchsorted(bins, ordered, side="left"), minlength=len(bins) + 1) / len(ordered)
    return Numbers(
        column,
        knots,
        scaled,
        mean,
        std if std > 1e-6 * abs(mean) else 1.0,
        tuple(bins.tolist()),
        tuple(shares.tolist()),
        float(known.min()),
        float(known.max()),
        missing,
    )


def _quantile_map(ordered: npt.NDArray[np.float64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Values and what a standard normal distribution has at the same rank.

    A value that many rows share has the middle of its ranks, so that the map does not depend on the order of rows.
    """
    values = np.unique(np.quantile(ordered, np.linspace(0, 1, KNOTS), method="inverted_cdf"))
    below = np.searchsorted(ordered, values, side="left")
    upto = np.searchsorted(ordered, values, side="right")
    rank = (below + upto) / (2 * len(ordered))
    edge = 0.5 / KNOTS  # the outermost of KNOTS equal shares: single extreme values stay within ±2.9
    normal = NormalDist()
    scaled = [normal.inv_cdf(min(max(float(p), edge), 1 - edge)) for p in rank]
    return tuple(values.tolist()), tuple(scaled)


def _fit_categories(column: Column, known: Floats, names: tuple[str, ...], missing: float, most: int) -> Categories:
    counts = np.bincount(known.astype(np.int64), minlength=len(names))
    order = sorted(np.flatnonzero(counts).tolist(), key=lambda code: (-counts[code], names[code]))
    kept, cut = order[:most], order[most:]
    shares = [float(counts[cut].sum()), *(float(counts[code]) for code in kept)]
    return Categories(
        column,
        tuple(names[code] for code in kept),
        tuple(share / len(known) for share in shares),
        missing,
        lone=float((counts == 1).sum()) / len(known),
    )


def _scale(fitted: Numbers, values: Floats) -> npt.NDArray[np.float64]:
    exact = values.astype(np.float64)
    if fitted.knots:
        scaled = np.interp(exact, fitted.knots, fitted.scaled)
        return np.where(np.isnan(exact), np.nan, scaled)  # a single knot would give its value to NaN, too
    return (exact - fitted.mean) / fitted.std


def _codes(fitted: Categories, values: Floats, names: tuple[str, ...]) -> Floats:
    """From positions in ``names`` to codes of the vocabulary."""
    code = {name: k for k, name in enumerate(fitted.vocabulary, start=1)}
    table = np.array([*(code.get(name, UNSEEN) for name in names), np.nan], dtype=np.float32)
    return table[np.where(np.isnan(values), len(names), values).astype(np.int64)]


def _drift(fitted: Fitted, values: Floats, names: tuple[str, ...], trained_on: int) -> Drift:
    known = values[~np.isnan(values)]
    new = 0.0
    if isinstance(fitted, Categories):
        new = fitted.lone  # Good and Turing: as many cells have a category that was not seen as have one seen once
        place = _codes(fitted, known, names).astype(np.int64)
        outside = float((place == UNSEEN).mean()) - fitted.shares[UNSEEN] if len(known) else 0.0
    else:
        place = np.searchsorted(fitted.bins, known, side="left")
        outside = float(((known < fitted.low) | (known > fitted.high)).mean()) if len(known) else 0.0
    before = np.array(fitted.shares)
    now = np.bincount(place, minlength=len(before)) / max(len(known), 1)
    distance = 0.5 * float(np.abs(now - before).sum()) if len(known) else 0.0
    # two draws of n and N rows have shares that differ by √(2 p (1 − p) (1 / n + 1 / N) / π) on average
    chance = 1 / max(len(known), 1) + 1 / max(trained_on * (1 - fitted.missing), 1)
    expected = 0.5 * (float(np.sqrt(2 * before * (1 - before) * chance / np.pi).sum()) + new)
    missing = 1 - len(known) / max(len(values), 1)
    return Drift(fitted.column.name, distance, expected, missing, fitted.missing, max(outside, 0.0), new)
