"""Train and test rows: at random, by group, or by time."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from mmssl.tabular.tableset import TableSet

SplitBy = Literal["auto", "random", "group", "time"]
Rows = npt.NDArray[np.int64]


class Split(NamedTuple):
    """Positions of the rows of two parts that share none, and a sentence that says how they were parted."""

    train: Rows
    test: Rows
    kind: str
    sentence: str


def split_rows(table: TableSet, *, by: SplitBy = "auto", test_fraction: float = 0.3, seed: int = 0) -> Split:
    """Hold out rows, whole groups, or the last rows.

    Rows without a label can be learnt from and not scored. So where some rows have one, it is these that are split:
    at random, all others train; groups without a label train; and past and future part at a time of labelled rows.

    Args:
        table: all of it.
        by: ``"auto"`` is by time if the table has times, else by group if it has groups, else at random: class by
            class, where there are classes.
        test_fraction: share of the rows, or of the groups.
        seed: of the choice.

    Raises:
        ValueError: the wanted split is impossible for this table.
    """
    if not 0 < test_fraction < 1:
        raise ValueError(f"data.test_fraction must lie between 0 and 1, got {test_fraction}")
    if len(table) < 2:
        raise ValueError(f"a table of {len(table)} row cannot be split; at least 2 are needed")
    if by == "auto":
        by = "time" if table.times is not None else "group" if table.groups is not None else "random"
    if by == "time":
        return _by_time(table, test_fraction)
    if by == "group":
        return _by_group(table, test_fraction, seed)
    return _at_random(table, test_fraction, seed)


def _by_time(table: TableSet, fraction: float) -> Split:
    """Rows of the same time stay together, and rows before them all train."""
    if table.times is None:
        raise ValueError("data.split=time needs data.time, the column that puts the rows in order")
    candidates = _candidates(table)
    ordered = np.sort(table.times[candidates])
    first = ordered[min(max(round((1 - fraction) * len(ordered)), 1), len(ordered) - 1)]
    held = table.times >= first
    if held[candidates].all():
        labelled = "labelled " if len(candidates) < len(table) else ""
        raise ValueError(
            f"data.split=time leaves no {labelled}row to train on: "
            f"{len(candidates):,} {labelled}rows have the same time {first}"
        )
    return _split(held, "time", f"by time: the first {(~held).mean():.0%} of the rows train, the later ones test")


def _by_group(table: TableSet, fraction: float, seed: int) -> Split:
    if table.groups is None:
        raise ValueError("data.split=group needs data.group, the column that says which rows belong together")
    groups = np.unique(table.groups[_candidates(table)])
    every = len(np.unique(table.groups))
    if len(groups) < 2:
        labelled = " with a label" if every > 1 else ""
        raise ValueError(f"data.split=group needs at least two groups{labelled}, got one; use data.split=random")
    count = min(max(round(fraction * len(groups)), 1), len(groups) - 1)
    test = np.random.default_rng(seed).permutation(groups)[:count]
    held = np.isin(table.groups, test)
    return _split(held, "group", f"by group: {every - count:,} groups train, {count:,} other groups test")


def _at_random(table: TableSet, fraction: float, seed: int) -> Split:
    rng = np.random.default_rng(seed)
    candidates = _candidates(table)
    classes = np.zeros(len(candidates))
    if table.labels is not None and table.classes is not None:
        classes = table.labels[candidates]
    held = np.zeros(len(table), dtype=bool)
    for code in np.unique(classes):
        members = rng.permutation(candidates[classes == code])
        held[members[: min(round(fraction * len(members)), len(members) - 1)]] = True  # no class without training
    if not held.any():  # small classes that all round to nothing
        held[candidates[rng.integers(len(candidates))]] = True
    stratified = ", class by class" if len(np.unique(classes)) > 1 else ""
    unlabelled = len(table) - len(candidates)
    train = f"{(~held).sum():,} rows" + (f" ({unlabelled:,} of them unlabelled)" if unlabelled else "")
    return _split(held, "random", f"at random{stratified}: {train} train, {held.sum():,} test")


def _candidates(table: TableSet) -> Rows:
    """Positions of the labelled rows; of all rows where none is labelled."""
    return np.flatnonzero(table.labelled if table.labelled.any() else np.ones(len(table), dtype=bool))


def _split(held: npt.NDArray[np.bool_], kind: str, sentence: str) -> Split:
    return Split(np.flatnonzero(~held), np.flatnonzero(held), kind, sentence)
