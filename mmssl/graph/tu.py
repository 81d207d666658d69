"""TUDataset's layout (Morris et al., 2020, arXiv 2007.08663): ``<name>_A.txt``, ``<name>_graph_indicator.txt`` …

Read are edges, graphs, labels of graphs, and labels and attributes of nodes; labels and attributes of edges are not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmssl.graph.edges import simple_edges
from mmssl.graph.graphset import GraphSet


def read_tu(folder: Path, *, undirected: bool = False) -> GraphSet:
    """The graphs of a folder with one data set, or with its files in ``raw``.

    Args:
        folder: holds ``<name>_A.txt`` and the others.
        undirected: take every line of it for an undirected edge.

    Raises:
        FileNotFoundError: a file that every data set has is missing.
        ValueError: a file is damaged; the message names the line.
    """
    found = sorted([*folder.glob("*_A.txt"), *folder.glob("raw/*_A.txt")])
    if not found:
        raise FileNotFoundError(f"{folder} holds no <name>_A.txt, the list of edges of a TUDataset")
    edges = found[0]
    prefix = edges.name.removesuffix("_A.txt")

    def file(what: str) -> Path:
        return edges.with_name(f"{prefix}_{what}.txt")

    if not file("graph_indicator").exists():
        raise FileNotFoundError(f"{file('graph_indicator')} is missing: it says which graph each node belongs to")
    indicator = _numbers(file("graph_indicator"), columns=1).astype(np.int64)[:, 0]
    if len(indicator) == 0 or indicator[0] < 1 or (np.diff(indicator) < 0).any():
        line = int((np.diff(indicator) < 0).argmax()) + 2 if len(indicator) > 1 else 1
        raise ValueError(f"line {line} of {file('graph_indicator')}: graphs must be numbered from 1 on, in order")
    graph_labels = _optional(file("graph_labels"))
    count = len(graph_labels) if graph_labels is not None else int(indicator[-1])
    if indicator[-1] > count:
        raise ValueError(
            f"{file('graph_indicator')} has {indicator[-1]:,} graphs and {file('graph_labels')} {count:,} labels"
        )
    ends = _numbers(edges, columns=2).astype(np.int64) - 1
    simple = simple_edges(
        ends[:, 0],
        ends[:, 1],
        len(indicator),
        place=lambda i: f"line {i + 1} of {edges} (which counts nodes from 1)",
        undirected=undirected,
    )
    crossing = indicator[simple.pairs[0]] != indicator[simple.pairs[1]]
    if crossing.any():
        a, b = simple.pairs[:, crossing.argmax()] + 1
        raise ValueError(f"{edges} joins nodes {a} and {b} (counted from 1), which belong to different graphs")
    columns: dict[str, npt.NDArray[Any]] = {}
    for what, singular in (("node_labels", "label"), ("node_attributes", "attribute")):
        table = _optional(file(what))
        if table is None:
            continue
        if len(table) != len(indicator):
            raise ValueError(f"{file(what)} has {len(table):,} lines for {len(indicator):,} nodes")
        for i, values in enumerate(table.T):
            name = singular if table.shape[1] == 1 else f"{singular}_{i}"
            columns[name] = values.astype(np.int64).astype(str) if singular == "label" else values
    classes, codes = (None, None) if graph_labels is None else np.unique(graph_labels[:, 0], return_inverse=True)
    return GraphSet(
        simple.pairs,
        np.searchsorted(indicator, np.arange(1, count + 2)),
        columns,
        "graph",
        np.array([str(i + 1) for i in range(count)], dtype=object),
        None if codes is None else codes.astype(np.float64),
        None if classes is None else tuple(f"{c:g}" for c in classes),
        notes=tuple(simple.notes),
    )


def _optional(file: Path) -> npt.NDArray[np.float64] | None:
    return _numbers(file) if file.exists() else None


def _numbers(file: Path, columns: int | None = None) -> npt.NDArray[np.float64]:
    """``(lines, columns)``."""
    lines = file.read_text().splitlines()
    try:
        flat = np.array(" ".join(lines).replace(",", " ").split(), dtype=np.float64)
    except ValueError:
        flat = None
    width = columns or (len(lines[0].split(",")) if lines else 1)
    if flat is not None and len(flat) == width * len(lines):
        return flat.reshape(len(lines), width)
    for number, line in enumerate(lines, start=1):
        cells = line.split(",")
        if len(cells) != width or not all(_is_number(cell) for cell in cells):
            raise ValueError(f"line {number} of {file} must hold {width} numbers, got {line.strip()!r}")
    raise ValueError(f"{file} cannot be read as {width} numbers a line")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
