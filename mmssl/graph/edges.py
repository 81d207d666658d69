"""From lists of edges as files have them to simple undirected edges; what is wrong with a list is said by row."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


class Edges(NamedTuple):
    """Edges of simple undirected graphs.

    Args:
        pairs: ``(2, E)``, each edge once, the smaller node first, in order.
        notes: what was left out, in words.
    """

    pairs: Ints
    notes: list[str]


def simple_edges(
    source: Ints,
    target: Ints,
    nodes: int,
    *,
    place: Callable[[int], str],
    once: bool = False,
    undirected: bool = False,
) -> Edges:
    """Each edge once, without loops.

    Args:
        source, target: ``(M,)`` nodes that the rows join.
        nodes: N; nodes are counted from 0.
        place: where row ``i`` stands, for messages.
        once: may the list name every edge in one direction only? It then may not do both.
        undirected: take every row for an undirected edge, whatever the others say.

    Raises:
        ValueError: a node that does not exist, or a directed graph; the message names the row.
    """
    outside = (source < 0) | (source >= nodes) | (target < 0) | (target >= nodes)
    if outside.any():
        row = int(outside.argmax())
        raise ValueError(
            f"{place(row)} joins nodes {source[row]} and {target[row]}, but there are {nodes:,} nodes, counted from 0"
        )
    loops = source == target
    rows = np.flatnonzero(~loops)
    low, high = np.minimum(source, target)[rows], np.maximum(source, target)[rows]
    code = low * nodes + high
    forward = source[rows] < target[rows]
    there, back = np.unique(code[forward]), np.unique(code[~forward])
    kept = np.union1d(there, back)
    one_way = np.setxor1d(there, back, assume_unique=True)
    if len(one_way) and not undirected and not (once and len(one_way) == len(kept)):
        row = int(rows[np.isin(code, one_way).argmax()])
        raise ValueError(
            f"the graph is directed: {place(row)} has no edge back ({len(one_way):,} of {len(kept):,} edges have "
            "none). Undirected graphs are expected; data.undirected=true takes every edge for an undirected one"
        )
    notes = []
    if loops.any():
        notes.append(f"left out: {counted(loops.sum(), 'edge')} from a node to itself")
    ways = len(there) + len(back)
    if repeated := len(rows) - ways:
        notes.append(f"left out: {counted(repeated, 'repeated edge')}")
    return Edges(np.stack([kept // nodes, kept % nodes]) if nodes else np.empty((2, 0), dtype=np.int64), notes)


def counted(number: int, what: str) -> str:
    """``1 edge``, ``3,000 edges``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
