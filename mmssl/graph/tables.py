"""Graphs from tables: edges and nodes of one's own, or a column of SMILES; CSV (also .gz), TSV or Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mmssl.graph.edges import counted, simple_edges
from mmssl.graph.graphset import GraphSet
from mmssl.graph.molecules import read_molecules

TEXTS = {".csv": ",", ".tsv": "\t", ".txt": ","}


@dataclass(frozen=True)
class Roles:
    """What the columns of the tables are.

    Args:
        source, target: of the edges, the nodes that they join.
        node: of the nodes, their names.
        graph: in the table of nodes, the graph that each belongs to; None: all are one graph, and nodes the examples.
        label: to predict, of the graphs, if there are several, else of the nodes; or of molecules.
        task: "classification", "regression", or "auto": by the values of the label.
        ignore: columns to leave out.
        undirected: take every edge for an undirected one.
    """

    source: str = "source"
    target: str = "target"
    node: str = "node"
    graph: str | None = None
    label: str | None = None
    task: str = "auto"
    ignore: Sequence[str] = field(default_factory=tuple)
    undirected: bool = False


def read_graphs(
    edges: str | Path | pd.DataFrame,
    nodes: str | Path | pd.DataFrame | None = None,
    graphs: str | Path | pd.DataFrame | None = None,
    roles: Roles | None = None,
) -> GraphSet:
    """Graphs from a table of edges, one of nodes, and one of graphs.

    Args:
        edges: a row for every edge, once or in both directions.
        nodes: a row for every node; all columns that are not named in ``roles`` are features. Without it nodes are what
            the edges name.
        graphs: a row for every graph, with its label. Without it the label of a graph stands with each of its nodes.
        roles: what the columns are.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the tables do not fit together; the message names file and row.
    """
    roles = roles or Roles()
    edge_table = _open(edges, "data.edges")
    ends = [
        edge_table.column(name, f"data.{role}") for role, name in (("source", roles.source), ("target", roles.target))
    ]
    if nodes is None:
        if roles.graph is not None or roles.label is not None or graphs is not None:
            raise ValueError(
                "data.graph, data.label and data.graphs need data.nodes, a table with a row for every node"
            )
        named = pd.concat(ends, ignore_index=True).dropna()
        node_table = _Table(pd.DataFrame({roles.node: pd.unique(named)}), edge_table.name)
    else:
        node_table = _open(nodes, "data.nodes")
    ids = node_table.column(roles.node, "data.node")
    if not len(ids):
        raise ValueError(f"{node_table.name} names no node")
    if ids.isna().any():
        row = int(ids.isna().to_numpy().argmax())
        raise ValueError(f"{node_table.place(row)} has no name in column {roles.node!r}")
    if (twice := ids.duplicated()).any():
        row = int(np.argmax(twice.to_numpy()))
        raise ValueError(f"{node_table.place(row)} names node {_shown(ids[row])} again; names of nodes must differ")
    if graphs is not None and roles.graph is None:
        raise ValueError("data.graphs needs data.graph, the column of the nodes that says which graph each belongs to")
    frame = node_table.frame
    if roles.graph is not None:  # the nodes of a graph side by side
        owner = node_table.column(roles.graph, "data.graph")
        if owner.isna().any():
            row = int(owner.isna().to_numpy().argmax())
            raise ValueError(f"{node_table.place(row)} does not say which graph node {_shown(ids[row])} belongs to")
        names, codes = np.unique(owner.astype(str).to_numpy(dtype=object), return_inverse=True)
        order = np.argsort(codes, kind="stable")
        frame, codes = frame.iloc[order], codes[order]
    else:
        names, codes = np.array(["graph"], dtype=object), np.zeros(len(frame), dtype=np.int64)
    position = pd.Series(np.arange(len(frame)), index=frame[roles.node].to_numpy())
    source, target = (_positions(column, position, edge_table, node_table.name) for column in ends)
    simple = simple_edges(source, target, len(frame), place=edge_table.place, once=True, undirected=roles.undirected)
    crossing = codes[simple.pairs[0]] != codes[simple.pairs[1]]
    if crossing.any():
        a, b = (frame[roles.node].iloc[i] for i in simple.pairs[:, crossing.argmax()])
        raise ValueError(
            f"{edge_table.name} joins {_shown(a)} and {_shown(b)}, which {node_table.name} has in different graphs"
        )
    used = {roles.node, roles.graph, *roles.ignore} | ({roles.label} if graphs is None else set())
    columns = {str(name): _feature(frame[name]) for name in frame.columns if name not in used}
    found = GraphSet(
        simple.pairs,
        np.searchsorted(codes, np.arange(len(names) + 1)),
        columns,
        "node" if roles.graph is None else "graph",
        names if roles.graph is not None else frame[roles.node].to_numpy(dtype=object).astype(str).astype(object),
        notes=tuple(simple.notes),
    )
    if roles.label is None:
        return found
    if graphs is not None:
        labels, notes = _labels_of_graphs(_open(graphs, "data.graphs"), roles, names)
        found = replace(found, notes=(*found.notes, *notes))
    else:
        node_table.column(roles.label, "data.label")
        labels = frame[roles.label].reset_index(drop=True)
        if roles.graph is not None:
            labels = _one_label_each(labels, codes, names, roles.label)
    return with_labels(found, labels, roles.task)


def read_smiles(
    source: str | Path | pd.DataFrame,
    *,
    smiles: str = "smiles",
    label: str | None = None,
    task: str = "auto",
) -> GraphSet:
    """Molecules from a table with a column of SMILES; rows that do not parse are left out, and named in its notes.

    Args:
        source: CSV, TSV, Parquet, or a DataFrame.
        smiles: the column.
        label: the column to predict, if there is one; empty cells are unlabelled.
        task: see `Roles`.
    """
    table = _open(source, "data.path")
    graphs, rows = read_molecules(table.column(smiles, "data.smiles").tolist(), place=table.place)
    if label is None:
        return graphs
    return with_labels(graphs, table.column(label, "data.label").iloc[rows].reset_index(drop=True), task)


def with_labels(graphs: GraphSet, values: pd.Series, task: str = "auto") -> GraphSet:
    """Labels of the examples; numbers with fractions, or with more than 20 values, are a regression.

    Raises:
        ValueError: none is filled in, or they are no numbers and a regression was asked for.
    """
    if task not in ("auto", "classification", "regression"):
        raise ValueError(f"data.task must be auto, classification or regression, got {task!r}")
    known = values.notna().to_numpy()
    if not known.any():
        raise ValueError(f"no label is filled in in data.label={values.name}: fill some in, or leave data.label out")
    if pd.api.types.is_bool_dtype(values):
        values = values.astype(str)
    numeric = pd.api.types.is_numeric_dtype(values)
    if task == "auto":
        filled = values[known]
        fractions = numeric and bool((filled % 1 != 0).any())
        task = "regression" if numeric and (fractions or filled.nunique() > 20) else "classification"
    missing = int((~known).sum())
    notes = (*graphs.notes, *([f"{missing:,} of {len(values):,} examples have no label"] if missing else []))
    if task == "regression":
        if not numeric:
            raise ValueError(
                f"data.task=regression needs numbers in data.label={values.name}, got {values[known].iloc[0]!r}"
            )
        return replace(graphs, labels=values.to_numpy(dtype=np.float64), classes=None, notes=notes)
    names, codes = np.unique(values[known].map(_class_name).to_numpy(dtype=object), return_inverse=True)
    labels = np.full(len(values), np.nan)
    labels[known] = codes
    return replace(graphs, labels=labels, classes=tuple(str(name) for name in names), notes=notes)


@dataclass(frozen=True)
class _Table:
    """A table and what messages call it."""

    frame: pd.DataFrame
    name: str

    def column(self, name: str, setting: str) -> pd.Series:
        if name not in self.frame.columns:
            close = get_close_matches(name, [str(c) for c in self.frame.columns], n=1, cutoff=0.4)
            hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(map(repr, self.frame.columns))}"
            raise ValueError(f"{self.name} has no column {setting}={name}; {hint}")
        return self.frame[name]

    def place(self, row: int) -> str:
        """Lines of a text file are counted with its header, from 1."""
        is_text = any(self.name.lower().removesuffix(".gz").endswith(suffix) for suffix in TEXTS)
        return f"line {row + 2} of {self.name}" if is_text else f"row {row} (counted from 0) of {self.name}"


def _open(source: str | Path | pd.DataFrame, setting: str) -> _Table:
    if isinstance(source, pd.DataFrame):
        return _Table(source.reset_index(drop=True), "the DataFrame")
    path = Path(source)
    if not path.exists():
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        close = get_close_matches(path.name, beside, n=1)
        raise FileNotFoundError(f"{setting}={path} does not exist" + (f"; did you mean {close[0]!r}?" if close else ""))
    inner = Path(path.name.lower().removesuffix(".gz")).suffix
    try:
        if inner in TEXTS:
            return _Table(pd.read_csv(path, sep=TEXTS[inner]), str(path))
        if inner in (".parquet", ".pq"):
            return _Table(pd.read_parquet(path), str(path))
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, OSError) as error:
        raise ValueError(f"{path} cannot be read as a table: {error}") from error
    raise ValueError(
        f"{setting}={path} has a suffix that cannot be read; supported are .csv, .tsv, .txt (also as .gz), .parquet"
    )


def _positions(ends: pd.Series, position: pd.Series, edges: _Table, nodes: str) -> npt.NDArray[np.int64]:
    """``(M,)`` the nodes that one column of the edges names."""
    found = ends.map(position)
    if found.isna().any():
        row = int(found.isna().to_numpy().argmax())
        if pd.isna(ends[row]):
            raise ValueError(f"{edges.place(row)} names no node in column {ends.name!r}")
        kinds = ["numbers" if pd.api.types.is_numeric_dtype(names) else "text" for names in (ends, position.index)]
        other = f" (its nodes are {kinds[1]}, and the column holds {kinds[0]})" if kinds[0] != kinds[1] else ""
        raise ValueError(
            f"{edges.place(row)} names node {_shown(ends[row])} in column {ends.name!r}, which {nodes} does not "
            f"have{other}"
        )
    return found.to_numpy(dtype=np.int64)


def _feature(values: pd.Series) -> npt.NDArray[Any]:
    """Numbers, or names of categories with an empty cell as one of them."""
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        return values.to_numpy(dtype=np.float64)
    return values.astype(object).where(values.notna(), "").astype(str).to_numpy(dtype=object)


def _labels_of_graphs(table: _Table, roles: Roles, names: npt.NDArray[Any]) -> tuple[pd.Series, list[str]]:
    """The label of each graph, and what was left out."""
    assert roles.graph is not None
    assert roles.label is not None
    owner = table.column(roles.graph, "data.graph").astype(str)
    if owner.duplicated().any():
        row = int(np.argmax(owner.duplicated().to_numpy()))
        raise ValueError(f"{table.place(row)} names graph {_shown(owner[row])} again; a graph has one row")
    labels = pd.Series(table.column(roles.label, "data.label").to_numpy(), index=owner, name=roles.label)
    strange = ~np.isin(owner.to_numpy(dtype=object), names)
    if strange.all():
        raise ValueError(f"no node belongs to any graph of {table.name}, whose first is {_shown(owner.get(0))}")
    left_out = f"left out: {counted(strange.sum(), 'row')} of {table.name}, of graphs without a node"
    return labels.reindex(names).reset_index(drop=True), [left_out] if strange.any() else []


def _one_label_each(values: pd.Series, codes: npt.NDArray[np.int64], names: npt.NDArray[Any], label: str) -> pd.Series:
    """The label of each graph, where each of its nodes has it or none."""
    grouped = values.groupby(codes)
    mixed = grouped.nunique() > 1
    if mixed.any():
        raise ValueError(
            f"the nodes of graph {names[int(mixed.to_numpy().argmax())]!r} have several labels in data.label={label}; "
            "a graph has one. Without data.graph, nodes are what is labelled"
        )
    return grouped.first().rename(label)


def _shown(name: Any) -> str:
    """As it stands in the table, and not as NumPy's number."""
    return repr(name.item() if isinstance(name, np.generic) else name)


def _class_name(value: Any) -> str:
    """1.0 and 1 are the same class."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def embedding_frame(values: npt.NDArray[np.floating[Any]], examples: GraphSet) -> pd.DataFrame:
    """Embeddings ``(n, D)`` as a table with columns ``e000``…, indexed by the names of graphs, nodes or molecules."""
    rows = pd.Index(examples.names, name="smiles" if examples.smiles is not None else examples.level)
    return pd.DataFrame(values, index=rows, columns=[f"e{i:03d}" for i in range(values.shape[1])])
