"""Does a single column give the label away? Then it most likely is the label, under another name."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mmssl.tabular.tableset import Floats, TableSet

FEWEST = 20  # labelled rows that have a value; fewer prove nothing
MATCH = 0.9999  # rank correlation from which on a number is the number to predict


def leaks(table: TableSet) -> list[str]:
    """Names of the columns that tell the label without an error.

    - A category that belongs to one class each, over at least two rows a category on average.
    - A number whose axis falls into one interval a class.
    - For a regression, a number that rises or falls with the label throughout, or a category with one value each.

    Args:
        table: with labels.
    """
    assert table.labels is not None
    found = []
    for j, column in enumerate(table.columns):
        both = table.labelled & ~np.isnan(table.values[:, j])
        values, labels = table.values[both, j], table.labels[both]
        if len(values) < FEWEST or np.ptp(labels) == 0:
            continue
        if column.kind == "categorical":
            leak = _belongs(values, labels)
        elif table.classes is not None:
            leak = _intervals(values, labels)
        else:
            leak = _monotone(values, labels)
        if leak:
            found.append(column.name)
    return found


def _belongs(values: Floats, labels: npt.NDArray[np.float64]) -> bool:
    """Each value goes with one label, and values repeat."""
    order = np.lexsort((labels, values))
    v, y = values[order], labels[order]
    new = v[1:] != v[:-1]
    return bool(2 * (new.sum() + 1) <= len(v) and (new | (y[1:] == y[:-1])).all())


def _intervals(values: Floats, labels: npt.NDArray[np.float64]) -> bool:
    """Sorted by the value, the labels change as often as they must and no more; equal values have equal labels."""
    order = np.lexsort((labels, values))
    v, y = values[order], labels[order]
    changes = y[1:] != y[:-1]
    return bool(changes.sum() == len(np.unique(labels)) - 1 and not (changes & (v[1:] == v[:-1])).any())


def _monotone(values: Floats, labels: npt.NDArray[np.float64]) -> bool:
    if len(np.unique(values)) < len(values) / 2:
        return _belongs(values, labels)
    return abs(float(np.corrcoef(_ranks(values), _ranks(labels))[0, 1])) > MATCH


def _ranks(x: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Mean rank of each value, the same for equal ones."""
    _, place, counts = np.unique(x, return_inverse=True, return_counts=True)
    mean: npt.NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return mean
