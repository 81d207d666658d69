"""A table in memory: one float32 matrix whose cells are numbers or codes of categories, and NaN where nothing is known.

One matrix for both kinds of columns keeps everything that follows a plain tensor operation: a batch of rows, a
corruption and a transfer to a device are one gather each. Codes are exact in float32 up to 2²⁴ categories.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Kind = Literal["numeric", "categorical"]
Part = Literal["", "days", "month", "weekday", "hour"]


@dataclass(frozen=True)
class Column:
    """A column that is learnt from.

    Args:
        name: of the column here; the parts of a date have names of their own.
        kind: what its cells are.
        source: name of the column in the file.
        part: of a date that it is, empty for all else.
        origin: what is subtracted from numbers in float64 before they become float32: identifiers of seconds, years
            or kelvins differ in digits that float32 does not have.
        form: how a text is read: the format of a date, ``","`` for decimal commas, else empty.
    """

    name: str
    kind: Kind
    source: str
    part: Part = ""
    origin: float = 0.0
    form: str = ""


@dataclass(frozen=True, eq=False)
class TableSet:
    """N rows of M columns, and what is known beside them.

    Args:
        values: ``(N, M)`` float32: numbers less their column's origin, or positions in ``categories``; NaN is missing.
        columns: M of them.
        categories: for each column its categories in order of appearance; empty for numeric ones.
        labels: ``(N,)`` float64: positions in ``classes``, or what a regression predicts; NaN is unlabelled.
        classes: names of the classes; None for a regression.
        label: name of the column that the labels are from.
        ids: ``(N,)`` names of the rows, if a column has them.
        groups: ``(N,)`` rows with the same code belong together.
        times: ``(N,)`` what puts the rows in order.
        left_out: name of each column of the file that is not learnt from, and why.
    """

    values: Floats
    columns: tuple[Column, ...]
    categories: tuple[tuple[str, ...], ...]
    labels: npt.NDArray[np.float64] | None = None
    classes: tuple[str, ...] | None = None
    label: str | None = None
    ids: npt.NDArray[np.object_] | None = None
    groups: npt.NDArray[np.int64] | None = None
    times: npt.NDArray[np.float64] | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values)

    def __post_init__(self) -> None:
        assert self.values.shape[1:] == (len(self.columns),) == (len(self.categories),)
        for array in (self.labels, self.ids, self.groups, self.times):
            assert array is None or array.shape == (len(self),)

    @property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """``(N,)``: which rows have a label."""
        if self.labels is None:
            return np.zeros(len(self), dtype=bool)
        return ~np.isnan(self.labels)

    def select(self, rows: npt.NDArray[np.int64] | npt.NDArray[np.bool_] | slice) -> TableSet:
        """Some of the rows."""
        return replace(
            self,
            values=self.values[rows],
            labels=None if self.labels is None else self.labels[rows],
            ids=None if self.ids is None else self.ids[rows],
            groups=None if self.groups is None else self.groups[rows],
            times=None if self.times is None else self.times[rows],
        )

    def names(self) -> npt.NDArray[np.object_]:
        """Readable labels of the rows; None where unlabelled."""
        out = np.full(len(self), None, dtype=object)
        if self.labels is not None:
            known = self.labelled
            if self.classes is None:
                out[known] = self.labels[known]
            else:
                out[known] = np.array(self.classes, dtype=object)[self.labels[known].astype(np.int64)]
        return out

    def with_classes(self, classes: tuple[str, ...]) -> TableSet:
        """The labels as positions in ``classes``.

        Raises:
            ValueError: a label that is not among them.
        """
        assert self.labels is not None
        assert self.classes is not None
        new = [name for name in self.classes if name not in classes]
        if new:
            known = ", ".join(map(repr, classes[:12]))
            raise ValueError(f"label {self.label}: {new[0]!r} is not among the classes of the training data: {known}")
        code = np.array([*(classes.index(name) for name in self.classes), np.nan])
        position = np.where(np.isnan(self.labels), len(self.classes), self.labels).astype(np.int64)
        return replace(self, labels=code[position], classes=classes)
