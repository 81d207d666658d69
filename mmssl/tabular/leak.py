"""Does a single column give the label away? Then it most likely is the label, under another name."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from mmssl.tabular.tableset import Floats, TableSet

CHANCE = 1e-6  # probability that any column of a table without a leak looks like one
MATCH = 0.9999  # rank correlation from which on a number is the number to predict


def leaks(table: TableSet) -> list[str]:
    """Names of the columns that tell the label without an error.

    - A category that belongs to one class each, over at least two rows a category on average.
    - A number whose axis falls into one interval a class.
    - For a regression, a number that rises or falls with the label throughout, or a category with one value each.

    Few rows, or few rows of a class, look like that by chance. So it counts only where a random order of the labels
    would give it with a probability below `CHANCE`, over all columns.

    Args:
        table: with labels.
    """
    assert table.labels is not None
    found = []
    for j, column in enumerate(table.columns):
        both = table.labelled & ~np.isnan(table.values[:, j])
        values, labels = table.values[both, j], table.labels[both]
        if len(values) < 2 or np.ptp(labels) == 0:
            continue
        if column.kind == "categorical":
            leaking = _belongs(values, labels)
        elif table.classes is not None:
            leaking = _intervals(values, labels)
        else:
            leaking = _monotone(values, labels)
        if leaking is not None and leaking - _orders(labels) + math.log(len(table.columns)) < math.log(CHANCE):
            found.append(column.name)
    return found


def _orders(labels: npt.NDArray[np.float64]) -> float:
    """Log of how many orders these labels have: n! over the product of n_c!, of each label's count."""
    counts = np.unique(labels, return_counts=True)[1]
    return math.lgamma(len(labels) + 1) - sum(math.lgamma(count + 1) for count in counts.tolist())


def _belongs(values: Floats, labels: npt.NDArray[np.float64]) -> float | None:
    """Does each value go with one label, and do values repeat? Log of how many orders of labels do that, at most."""
    order = np.lexsort((labels, values))
    v, y = values[order], labels[order]
    new = v[1:] != v[:-1]
    if 2 * (new.sum() + 1) > len(v) or not (new | (y[1:] == y[:-1])).all():
        return None
    return float(new.sum() + 1) * math.log(len(np.unique(labels)))


def _intervals(values: Floats, labels: npt.NDArray[np.float64]) -> float | None:
    """Sorted by the value, do labels change as often as they must and no more, and equal values have equal labels?

    Log of how many orders of the labels do that, at most: one for each order of the K classes.
    """
    order = np.lexsort((labels, values))
    v, y = values[order], labels[order]
    changes = y[1:] != y[:-1]
    classes = len(np.unique(labels))
    if changes.sum() != classes - 1 or (changes & (v[1:] == v[:-1])).any():
        return None
    return math.lgamma(classes + 1)


def _monotone(values: Floats, labels: npt.NDArray[np.float64]) -> float | None:
    """Do the labels rise or fall throughout? Log of how many orders of them do that."""
    if len(np.unique(values)) < len(values) / 2:
        return _belongs(values, labels)
    return math.log(2) if abs(float(np.corrcoef(_ranks(values), _ranks(labels))[0, 1])) > MATCH else None


def _ranks(x: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Mean rank of each value, the same for equal ones."""
    _, place, counts = np.unique(x, return_inverse=True, return_counts=True)
    mean: npt.NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return mean
