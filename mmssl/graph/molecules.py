"""Molecules as graphs: atoms and bonds of SMILES through RDKit, Morgan fingerprints, and Bemis–Murcko scaffolds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mmssl.graph.graphset import GraphSet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rdkit.Chem import Atom, Mol

ATOM: dict[str, Callable[[Atom], object]] = {  # what is known of an atom, each a category
    "element": lambda atom: atom.GetSymbol(),
    "degree": lambda atom: atom.GetDegree(),
    "hydrogens": lambda atom: atom.GetTotalNumHs(),
    "charge": lambda atom: atom.GetFormalCharge(),
    "hybridisation": lambda atom: str(atom.GetHybridization()),
    "aromatic": lambda atom: atom.GetIsAromatic(),
    "ring": lambda atom: atom.IsInRing(),
}
SHOWN = 3  # rows that do not parse, by name


def read_molecules(smiles: Sequence[Any], *, place: Callable[[int], str]) -> tuple[GraphSet, npt.NDArray[np.int64]]:
    """A graph for every SMILES that RDKit can read; hydrogens are a property of their atom. Others are left out.

    Args:
        smiles: one a row.
        place: where row ``i`` stands, for messages.

    Returns:
        The graphs without labels, and the rows that they come from.

    Raises:
        ValueError: no row can be read.
    """
    from rdkit import Chem

    columns: dict[str, list[str]] = {name: [] for name in ATOM}
    pairs: list[tuple[int, int]] = []
    offsets, rows, failed = [0], [], []
    with _quiet():
        for row, text in enumerate(smiles):
            mol = Chem.MolFromSmiles(text) if isinstance(text, str) and text.strip() else None
            if mol is None or mol.GetNumAtoms() == 0:
                failed.append(row)
                continue
            for name, of in ATOM.items():
                columns[name] += [str(of(atom)) for atom in mol.GetAtoms()]
            ends = [sorted((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())) for bond in mol.GetBonds()]
            pairs += sorted((offsets[-1] + a, offsets[-1] + b) for a, b in ends)
            offsets.append(offsets[-1] + mol.GetNumAtoms())
            rows.append(row)
    said = ", ".join(f"{place(row)} ({_shown(smiles[row])})" for row in failed[:SHOWN])
    said += ", …" if len(failed) > SHOWN else ""
    if not rows:
        raise ValueError(f"none of {len(smiles):,} SMILES can be read: {said or 'there are none'}")
    notes = (f"left out: {len(failed):,} of {len(smiles):,} SMILES, which do not parse: {said}",) if failed else ()
    kept = np.array([str(smiles[row]) for row in rows], dtype=object)
    graphs = GraphSet(
        np.array(pairs, dtype=np.int64).reshape(-1, 2).T.copy(),
        np.array(offsets),
        {name: np.array(values) for name, values in columns.items()},
        "graph",
        kept,
        smiles=kept,
        notes=notes,
    )
    return graphs, np.array(rows)


def _shown(cell: object) -> str:
    return "empty" if cell is None or cell != cell or cell == "" else repr(cell)


def morgan(smiles: Sequence[str], *, radius: int = 2, bits: int = 2048) -> npt.NDArray[np.float32]:
    """Morgan fingerprints ``(n, bits)`` (Rogers and Hahn, 2010): which circular substructures a molecule has."""
    from rdkit.Chem import rdFingerprintGenerator

    generator = rdFingerprintGenerator.GetMorganGenerator(radius=radius, fpSize=bits)
    return np.stack([generator.GetFingerprintAsNumPy(mol) for mol in _parsed(smiles)]).astype(np.float32)


def scaffolds(smiles: Sequence[str]) -> npt.NDArray[np.object_]:
    """``(n,)`` Bemis–Murcko scaffold of each molecule as SMILES: its rings and what links them; empty without rings."""
    from rdkit.Chem.Scaffolds.MurckoScaffold import MurckoScaffoldSmiles

    return np.array([MurckoScaffoldSmiles(mol=mol, includeChirality=False) for mol in _parsed(smiles)], dtype=object)


def _parsed(smiles: Sequence[str]) -> list[Mol]:
    from rdkit import Chem

    with _quiet():
        return [Chem.MolFromSmiles(text) for text in smiles]


@contextmanager
def _quiet() -> Iterator[None]:
    """RDKit writes of every molecule that it finds odd."""
    from rdkit import RDLogger

    RDLogger.DisableLog("rdApp.*")  # type: ignore[attr-defined]
    try:
        yield
    finally:
        RDLogger.EnableLog("rdApp.*")  # type: ignore[attr-defined]
