"""Planetoid's layout (Yang et al., ICML 2016, arXiv 1603.08861): Cora, Citeseer and PubMed as ``ind.<name>.x`` …

These files are Python pickles, which could run any code. They are read by an unpickler that knows NumPy's arrays,
SciPy's sparse matrices and plain containers, and refuses everything else.
"""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmssl.graph.edges import simple_edges
from mmssl.graph.graphset import GraphSet

VALIDATION = 500  # nodes after the training nodes
ALLOWED = {  # names in the files, and where these things are today
    ("numpy.core.multiarray", "_reconstruct"): ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"): ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"): ("numpy", "ndarray"),
    ("numpy", "dtype"): ("numpy", "dtype"),
    ("scipy.sparse.csr", "csr_matrix"): ("scipy.sparse", "csr_matrix"),
    ("scipy.sparse._csr", "csr_matrix"): ("scipy.sparse", "csr_matrix"),
    ("_codecs", "encode"): ("_codecs", "encode"),
    ("collections", "defaultdict"): ("collections", "defaultdict"),
    ("__builtin__", "list"): ("builtins", "list"),
    ("builtins", "list"): ("builtins", "list"),
}


def read_planetoid(folder: Path, name: str) -> GraphSet:
    """One graph with words of its nodes, scaled to a sum of 1 a node, and the public split.

    Args:
        folder: holds ``ind.<name>.x`` and the others, or has them in ``raw``.
        name: ``"cora"``, ``"citeseer"`` or ``"pubmed"``.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, or holds something else than arrays.
    """
    name = name.lower()
    if not (folder / f"ind.{name}.x").exists() and (folder / "raw").is_dir():
        folder = folder / "raw"
    parts = {what: _read(folder / f"ind.{name}.{what}") for what in ("x", "tx", "allx", "y", "ty", "ally", "graph")}
    order = np.loadtxt(folder / f"ind.{name}.test.index", dtype=np.int64)
    dense = {what: _dense(parts[what]) for what in ("tx", "allx", "ty", "ally")}
    first, last = int(order.min()), int(order.max())
    nodes = last + 1
    x = np.zeros((nodes, dense["allx"].shape[1]), dtype=np.float32)  # a node that no file describes stays at 0
    y = np.zeros((nodes, dense["ally"].shape[1]))
    x[:first], y[:first] = dense["allx"][:first], dense["ally"][:first]
    x[order], y[order] = dense["tx"], dense["ty"]
    training = parts["y"].shape[0]
    part = np.full(nodes, "", dtype=object)
    part[:training], part[training : training + VALIDATION], part[order] = "train", "validation", "test"
    source = np.concatenate([np.full(len(ends), node) for node, ends in parts["graph"].items()]).astype(np.int64)
    target = np.concatenate([np.asarray(ends) for ends in parts["graph"].values()]).astype(np.int64)
    edges = simple_edges(  # a link counts both ways, as for GCN (Kipf and Welling, ICLR 2017)
        source, target, nodes, place=lambda i: f"edge {i} of {folder / f'ind.{name}.graph'}", undirected=True
    )
    return GraphSet(
        edges.pairs,
        np.array([0, nodes]),
        {"words": x / np.maximum(x.sum(axis=1, keepdims=True), 1)},
        "node",
        np.array([str(i) for i in range(nodes)], dtype=object),
        np.where(y.any(axis=1), y.argmax(axis=1), np.nan),
        tuple(str(i) for i in range(y.shape[1])),
        part,
        notes=tuple(edges.notes),
    )


class _Arrays(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(*ALLOWED[module, name])


def _read(file: Path) -> Any:
    if not file.exists():
        raise FileNotFoundError(
            f"{file} is missing: a Planetoid data set has x, tx, allx, y, ty, ally, graph, test.index"
        )
    with file.open("rb") as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's, about how these old arrays were written
        try:
            return _Arrays(stream, encoding="latin1").load()
        except (pickle.UnpicklingError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise ValueError(
                f"{file} is not a file of arrays as Planetoid's are ({error}); copy it again from a source "
                "that you trust"
            ) from error


def _dense(matrix: Any) -> npt.NDArray[np.float32]:
    return np.asarray(matrix.todense() if hasattr(matrix, "todense") else matrix, dtype=np.float32)
