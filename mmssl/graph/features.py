"""How what is known of a node becomes numbers: fitted on the nodes that an encoder learns from, kept in JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from mmssl.graph.graphs import Graphs
from mmssl.graph.graphset import GraphSet

MAX_DEGREE = 64  # of nodes without features; larger ones share the last place
MAX_CATEGORIES = 256  # of a column


@dataclass(frozen=True)
class Column:
    """One column of the nodes.

    Args:
        name: of the column.
        categories: that it has, each a feature; None for numbers.
        width: numbers of a node; vectors stay as they are, single numbers are standardised.
        mean, std: of single numbers.
    """

    name: str
    categories: tuple[str, ...] | None = None
    width: int = 1
    mean: float = 0.0
    std: float = 1.0

    @property
    def dim(self) -> int:
        return self.width if self.categories is None else len(self.categories)


@dataclass(frozen=True)
class NodeFeatures:
    """Columns of the nodes side by side; degrees, one-hot, where nodes have no columns.

    A category that was not there in fitting has no 1 in any of its places.

    Args:
        columns: in their order.
        max_degree: largest degree with a place of its own; None if there are columns.
    """

    columns: tuple[Column, ...] = ()
    max_degree: int | None = None

    @classmethod
    def fit(cls, data: GraphSet, train: npt.NDArray[np.bool_]) -> Self:
        """Categories, means and deviations of the nodes where ``train`` ``(N,)`` is True.

        Raises:
            ValueError: a column has a missing value, or too many categories.
        """
        if not data.columns:
            return cls(max_degree=int(min(MAX_DEGREE, data.degrees[train].max(initial=0))))
        return cls(tuple(_fitted(name, values, train) for name, values in data.columns.items()))

    @property
    def dim(self) -> int:
        return self.max_degree + 1 if self.max_degree is not None else sum(c.dim for c in self.columns)

    @property
    def one_hot(self) -> npt.NDArray[np.bool_]:
        """``(dim,)``, which features stand for a category or a degree."""
        if self.max_degree is not None:
            return np.ones(self.dim, dtype=bool)
        return np.repeat([c.categories is not None for c in self.columns], [c.dim for c in self.columns])

    def __call__(self, data: GraphSet) -> Graphs:
        """Graphs with features ``(N, dim)``.

        Raises:
            ValueError: the nodes lack a column, or it is of another kind.
        """
        if self.max_degree is not None:
            x = _one_hot(np.minimum(data.degrees, self.max_degree), self.max_degree + 1)
        else:
            x = np.concatenate([_values(c, data) for c in self.columns], axis=1)
        return Graphs(torch.from_numpy(x), torch.from_numpy(data.pairs), torch.from_numpy(data.offsets))

    def describe(self) -> str:
        if self.max_degree is not None:
            return f"nodes have no features: their degree stands in, one-hot up to {self.max_degree}"
        return "node features: " + ", ".join(f"{c.name} ({c.dim})" for c in self.columns)

    def state(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        columns = tuple(
            Column(**{**c, "categories": None if c["categories"] is None else tuple(c["categories"])})
            for c in state["columns"]
        )
        return cls(columns, state["max_degree"])


def _fitted(name: str, values: npt.NDArray[Any], train: npt.NDArray[np.bool_]) -> Column:
    if values.ndim == 2:
        return Column(name, width=values.shape[1])
    if np.issubdtype(values.dtype, np.floating):
        _refuse_missing(name, values)
        known = values[train]
        std = float(known.std())
        return Column(name, mean=float(known.mean()), std=std if std > 0 else 1.0)
    categories = tuple(str(c) for c in np.unique(values[train]))
    if len(categories) > MAX_CATEGORIES:
        raise ValueError(
            f"column {name!r} of the nodes has {len(categories):,} categories, {MAX_CATEGORIES} at most are expected: "
            f"is it a name? Leave it out with data.ignore=[{name}]"
        )
    return Column(name, categories=categories)


def _values(column: Column, data: GraphSet) -> npt.NDArray[np.float32]:
    """``(N, dim)``."""
    if column.name not in data.columns:
        raise ValueError(f"the nodes have no column {column.name!r}; there are {', '.join(data.columns) or 'none'}")
    values = data.columns[column.name]
    if column.categories is not None:
        if values.ndim == 2 or np.issubdtype(values.dtype, np.floating):
            raise ValueError(f"column {column.name!r} of the nodes holds numbers, and held categories in training")
        place = {c: i for i, c in enumerate(column.categories)}
        return _one_hot(np.array([place.get(str(v), -1) for v in values], dtype=np.int64), len(place))
    width = values.shape[1] if values.ndim == 2 else 1
    if width != column.width or not np.issubdtype(values.dtype, np.floating):
        raise ValueError(f"column {column.name!r} of the nodes must hold {column.width} numbers a node")
    if values.ndim == 2:
        return values.astype(np.float32)
    _refuse_missing(column.name, values)
    scaled: npt.NDArray[np.float32] = ((values - column.mean) / column.std).astype(np.float32)[:, None]
    return scaled


def _one_hot(codes: npt.NDArray[np.int64], width: int) -> npt.NDArray[np.float32]:
    """``(N, width)``; a row of zeros for −1."""
    return np.concatenate([np.eye(width, dtype=np.float32), np.zeros((1, width), dtype=np.float32)])[codes]


def _refuse_missing(name: str, values: npt.NDArray[Any]) -> None:
    if not np.isfinite(values).all():
        node = int((~np.isfinite(values)).argmax())
        raise ValueError(
            f"column {name!r} of the nodes has no number for node {node} (counted from 0); fill it, or leave the "
            f"column out with data.ignore=[{name}]"
        )
