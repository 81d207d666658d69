"""Which examples train and which test: as published, in folds, by scaffold, or at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mmssl.graph.graphset import GraphSet, Ints
from mmssl.graph.molecules import scaffolds

SplitBy = Literal["auto", "published", "folds", "scaffold", "random"]
KINDS = ("auto", "published", "folds", "scaffold", "random")
FOLDS = 10
TRAIN, TEST = 0.8, 0.1  # of the molecules, as MoleculeNet has it; the tenth between them is for choosing settings


@dataclass(frozen=True, eq=False)
class Split:
    """Two parts of the examples.

    Args:
        train, test: positions; both are all of them where ``kind`` is folds.
        kind: for the records.
        sentence: for a person.
    """

    train: Ints
    test: Ints
    kind: str
    sentence: str


def split_examples(data: GraphSet, *, by: str = "auto", test_fraction: float = 0.2, seed: int = 0) -> Split:
    """Hold out examples.

    Args:
        data: all of it.
        by: ``"auto"`` is as published if there are published parts, by scaffold for molecules, in folds for graphs of
            which every class has ten, else at random.
        test_fraction: of a random split.
        seed: of a random split.

    Raises:
        ValueError: the wanted split is impossible for this data.
    """
    if by not in KINDS:
        raise ValueError(f"data.split must be one of {', '.join(KINDS)}, got {by!r}")
    if not 0 < test_fraction < 1:
        raise ValueError(f"data.test_fraction must lie between 0 and 1, got {test_fraction}")
    if by == "auto":
        published, molecules = data.parts is not None, data.smiles is not None
        other = "folds" if data.level == "graph" and _rarest(data)[1] >= FOLDS else "random"
        by = "published" if published else "scaffold" if molecules else other
    if by == "published":
        return _published(data)
    if by == "folds":
        if data.level == "node" or data.classes is None:
            raise ValueError("data.split=folds is for classes of graphs; use data.split=random")
        rarest, count = _rarest(data)
        if count < FOLDS:
            raise ValueError(
                f"data.split=folds needs {FOLDS} graphs of every class, and class {rarest} has {count}; use "
                "data.split=random"
            )
        every = np.arange(len(data))
        return Split(every, every, "10-fold", "ten folds, class by class, each predicted from the other nine")
    return _by_scaffold(data) if by == "scaffold" else _at_random(data, test_fraction, seed)


def _rarest(data: GraphSet) -> tuple[str, int]:
    """The class with the fewest examples, and how many these are; 0 without classes."""
    if data.labels is None or data.classes is None:
        return "", 0
    counts = np.bincount(data.labels[data.labelled].astype(np.int64), minlength=len(data.classes))
    return data.classes[int(counts.argmin())], int(counts.min())


def _published(data: GraphSet) -> Split:
    if data.parts is None:
        raise ValueError("data.split=published: this data has no published parts; use data.split=random")
    train, test = (np.flatnonzero(data.parts == part) for part in ("train", "test"))
    return Split(train, test, "published", f"as published: {len(train):,} train, {len(test):,} test")


def _by_scaffold(data: GraphSet) -> Split:
    """Scaffolds with many molecules train, and rare ones test, as in MoleculeNet and Hu et al. (ICLR 2020)."""
    if data.smiles is None:
        raise ValueError("data.split=scaffold is for molecules, which come from data.path with data.smiles")
    found, owner = np.unique(scaffolds(data.smiles.tolist()), return_inverse=True)
    counts = np.bincount(owner)
    first = np.full(len(found), len(owner))
    np.minimum.at(first, owner, np.arange(len(owner)))
    ordered = np.lexsort((first, counts))[::-1]  # large ones first; of equal ones the one whose first molecule is later
    rank = np.empty(len(found), dtype=np.int64)
    rank[ordered] = np.arange(len(found))
    through = np.cumsum(counts[ordered])  # molecules up to and with each scaffold
    n = len(owner)
    train = through <= TRAIN * n
    test = ~train & (through > (1 - TEST) * n)
    if not train.any() or not test.any():
        raise ValueError(
            f"data.split=scaffold is impossible: {counts.max():,} of {n:,} molecules share a scaffold; use "
            "data.split=random"
        )
    learnt, held = (np.flatnonzero(part[rank[owner]]) for part in (train, test))
    sentence = f"by scaffold: {len(learnt):,} train, {len(held):,} test, of scaffolds not in training"
    return Split(learnt, held, "scaffold", sentence)


def _at_random(data: GraphSet, fraction: float, seed: int) -> Split:
    """Class by class, where there are classes."""
    rng = np.random.default_rng(seed)
    codes = np.zeros(len(data))
    if data.labels is not None and data.classes is not None:
        codes = np.where(np.isnan(data.labels), -1.0, data.labels)
    held = np.zeros(len(data), dtype=bool)
    for code in np.unique(codes):
        members = rng.permutation(np.flatnonzero(codes == code))
        held[members[: min(max(round(fraction * len(members)), 1), len(members) - 1)]] = True
    train, test = np.flatnonzero(~held), np.flatnonzero(held)
    if not len(test):
        raise ValueError(f"{len(data)} examples cannot be split; at least 2 of a class are needed")
    return Split(train, test, f"random/{fraction:g}", f"at random: {len(train):,} train, {len(test):,} test")
