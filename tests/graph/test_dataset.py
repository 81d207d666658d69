"""From a configuration to graphs with features and a split; features that are fitted once; the embedder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mmssl.graph.dataset import DataConfig, load_data
from mmssl.graph.embedder import GraphEmbedder
from mmssl.graph.encoder import GIN
from mmssl.graph.features import MAX_DEGREE, NodeFeatures
from mmssl.graph.graphset import GraphSet
from mmssl.graph.split import split_examples
from mmssl.graph.tables import Roles, read_graphs, read_smiles

SMILES = ["CCO", "CCN", "c1ccccc1", "c1ccccc1O", "c1ccccc1C", "C1CCCC1", "C1CCCC1O", "O", "CCCC", "c1ccncc1"]


def graphs(count: int = 12, *, columns: bool = True) -> GraphSet:
    """Paths of 2 to 4 nodes."""
    sizes = [2 + i % 3 for i in range(count)]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    pairs = np.array(
        [[a, a + 1] for first, n in zip(offsets, sizes, strict=False) for a in range(first, first + n - 1)]
    )
    nodes = int(offsets[-1])
    known: dict[str, Any] = {
        "kind": np.array(["abc"[i % 3] for i in range(nodes)]),
        "weight": np.arange(nodes, dtype=np.float64),
        "vector": np.ones((nodes, 2)),
    }
    labels = np.array([float(i % 2) for i in range(count)])
    names = np.array([f"g{i}" for i in range(count)], dtype=object)
    return GraphSet(pairs.T, offsets, known if columns else {}, "graph", names, labels, ("a", "b"))


def test_categories_are_one_hot_numbers_standardised_and_vectors_left_as_they_are() -> None:
    data = graphs()
    train = np.arange(data.nodes) < 10
    features = NodeFeatures.fit(data, train)
    x = features(data).x.numpy()
    assert x.shape == (data.nodes, 3 + 1 + 2)
    assert x[:, :3].argmax(axis=1).tolist() == [i % 3 for i in range(data.nodes)]
    np.testing.assert_allclose(x[:10, 3].mean(), 0, atol=1e-6)
    np.testing.assert_allclose(x[:10, 3].std(), 1, rtol=1e-6)
    assert (x[:, 4:] == 1).all()


def test_a_category_that_training_did_not_have_is_zero_everywhere() -> None:
    data = graphs()
    features = NodeFeatures.fit(data, np.isin(data.columns["kind"], ["a", "b"]))
    x = features(data).x.numpy()
    assert (x[data.columns["kind"] == "c", :2] == 0).all()
    assert x[data.columns["kind"] != "c", :2].sum(axis=1).min() == 1


def test_nodes_without_features_get_their_degree_and_that_is_said() -> None:
    data = graphs(columns=False)
    features = NodeFeatures.fit(data, np.ones(data.nodes, dtype=bool))
    assert features.describe() == "nodes have no features: their degree stands in, one-hot up to 2"
    x = features(data).x
    assert x.argmax(dim=1).tolist() == data.degrees.tolist()
    star = read_graphs(pd.DataFrame({"source": [0] * 100, "target": range(1, 101)}))
    capped = NodeFeatures.fit(star, np.ones(101, dtype=bool))
    assert capped.max_degree == MAX_DEGREE
    assert capped(star).x[0].argmax() == MAX_DEGREE


def test_features_come_back_from_json() -> None:
    data = graphs()
    features = NodeFeatures.fit(data, np.ones(data.nodes, dtype=bool))
    again = NodeFeatures.from_state(features.state())
    assert torch.equal(again(data).x, features(data).x)


def test_a_number_that_is_missing_is_named() -> None:
    data = graphs()
    weight = np.where(np.arange(data.nodes) == 4, np.nan, 1.0)
    with pytest.raises(ValueError, match=r"'weight' of the nodes has no number for node 4 .*data.ignore=\[weight\]"):
        NodeFeatures.fit(replace(data, columns={"weight": weight}), np.ones(data.nodes, dtype=bool))


def test_new_nodes_of_another_kind_are_refused() -> None:
    data = graphs()
    features = NodeFeatures.fit(data, np.ones(data.nodes, dtype=bool))
    for changed, message in (
        ({"kind": data.columns["kind"]}, "no column 'weight'; there are kind"),
        ({**data.columns, "kind": np.ones(data.nodes)}, "'kind' of the nodes holds numbers, and held categories"),
        ({**data.columns, "vector": np.ones((data.nodes, 3))}, "'vector' of the nodes must hold 2 numbers a node"),
    ):
        with pytest.raises(ValueError, match=message):
            features(replace(data, columns=changed))


def test_names_as_a_feature_are_refused() -> None:
    edges = pd.DataFrame({"source": range(300), "target": range(1, 301)})
    nodes = pd.DataFrame({"node": range(301), "name": [f"n{i}" for i in range(301)]})
    data = read_graphs(edges, nodes)
    with pytest.raises(ValueError, match=r"column 'name' of the nodes has 301 categories.*data.ignore=\[name\]"):
        NodeFeatures.fit(data, np.ones(301, dtype=bool))


# ------------------------------------------------------------------------------------------------------- splits


def test_graphs_are_split_in_folds_molecules_by_scaffold_and_nodes_as_published() -> None:
    assert split_examples(graphs(20)).kind == "10-fold"
    assert split_examples(graphs(19)).kind == "random/0.2"  # nine of a class cannot be in ten folds
    molecules = read_smiles(pd.DataFrame({"smiles": SMILES, "y": [0, 1] * 5}), label="y")
    assert split_examples(molecules).kind == "scaffold"
    nodes = replace(graphs(), level="node", parts=np.array(["train"] * 20 + ["test"] * 16))
    split = split_examples(nodes)
    assert (split.kind, len(split.train), len(split.test)) == ("published", 20, 16)
    assert split_examples(replace(graphs(), classes=None)).kind == "random/0.2"


def test_no_scaffold_is_on_both_sides_and_common_ones_train() -> None:
    split = split_examples(read_smiles(pd.DataFrame({"smiles": SMILES, "y": [0, 1] * 5}), label="y"))
    # scaffolds: none (4 molecules), benzene (3), cyclopentane (2), pyridine (1)
    assert {SMILES[i] for i in split.train} == {"CCO", "CCN", "O", "CCCC", "c1ccccc1", "c1ccccc1O", "c1ccccc1C"}
    assert [SMILES[i] for i in split.test] == ["c1ccncc1"]


def test_a_random_split_is_class_by_class_and_repeatable() -> None:
    data = graphs(40)
    one, two, other = (split_examples(data, by="random", test_fraction=0.25, seed=s) for s in (0, 0, 1))
    assert np.array_equal(one.test, two.test)
    assert not np.array_equal(one.test, other.test)
    assert data.labels is not None
    assert np.bincount(data.labels[one.test].astype(int)).tolist() == [5, 5]
    assert sorted([*one.train, *one.test]) == list(range(40))


@pytest.mark.parametrize(
    ("by", "data", "message"),
    [
        ("folds", replace(graphs(), level="node"), "data.split=folds is for classes of graphs"),
        ("folds", graphs(19), "data.split=folds needs 10 graphs of every class, and class b has 9; use"),
        ("scaffold", graphs(), "data.split=scaffold is for molecules"),
        ("published", graphs(), "has no published parts"),
        ("time", graphs(), "data.split must be one of auto, published, folds, scaffold, random, got 'time'"),
    ],
)
def test_an_impossible_split_is_refused(by: str, data: GraphSet, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_examples(data, by=by)


# ------------------------------------------------------------------------------------------------------- all of it


@pytest.fixture
def molecules(tmp_path: Path) -> str:
    table = pd.DataFrame({"smiles": [*SMILES, "C(C"], "y": ["no", "yes"] * 5 + ["no"]})
    table.loc[0, "y"] = None
    table.to_csv(tmp_path / "m.csv", index=False)
    return str(tmp_path / "m.csv")


def test_molecules_are_read_split_and_described(molecules: str) -> None:
    data = load_data(DataConfig(path=molecules, label="y"))
    assert "10 graphs, 48 nodes" in data.description
    assert "1 graph without an edge, 1 of them with a single node" in data.description
    assert "left out: 1 of 11 SMILES" in data.description
    assert "1 of 10 examples have no label" in data.description
    assert "7 train, 1 test, of scaffolds not in training (6 and 1 of them labelled)" in data.description
    assert "node features: element (3)" in data.description  # pyridine, the test molecule, has no element of its own
    assert data.test is not None
    assert 0 not in data.train  # it has no label
    assert 0 in data.learnt  # and is learnt from
    assert not set(data.learnt) & set(data.test)


def test_categories_of_nodes_are_known_apart_from_their_numbers(tmp_path: Path) -> None:
    pd.DataFrame({"source": [0, 1], "target": [1, 2]}).to_csv(tmp_path / "edges.csv", index=False)
    nodes = pd.DataFrame({"node": range(3), "weight": [0.5, 1.5, 2.5], "kind": list("aba")})
    for columns, expected in ((["kind", "weight"], [[1, 0], [0, 1], [1, 0]]), (["weight"], [[], [], []])):
        nodes[["node", *columns]].to_csv(tmp_path / "nodes.csv", index=False)
        data = load_data(DataConfig(edges=str(tmp_path / "edges.csv"), nodes=str(tmp_path / "nodes.csv")))
        assert data.categories.x.tolist() == expected
        assert data.plain.x.shape[1] == len(expected[0]) + 1


def test_without_labels_all_of_it_is_learnt_from(molecules: str) -> None:
    data = load_data(DataConfig(path=molecules))
    assert data.test is None
    assert len(data.learnt) == 10
    assert "no labels: all of it is learnt from" in data.description


def test_data_has_to_be_named_once(molecules: str) -> None:
    with pytest.raises(ValueError, match="got none"):
        load_data(DataConfig())
    with pytest.raises(ValueError, match=r"got data\.name=MUTAG and data\.path="):
        load_data(DataConfig(name="MUTAG", path=molecules))


def test_an_embedder_embeds_new_graphs_and_comes_back_from_its_state(molecules: str) -> None:
    torch.manual_seed(0)
    data = load_data(DataConfig(path=molecules, label="y"))
    embedder = GraphEmbedder(GIN(data.features.dim, hidden=4).eval(), data.features, Roles(label="y"), "smiles")
    table = embedder.embed(pd.DataFrame({"smiles": ["CCO", "CBr"]}))
    assert table.index.tolist() == ["CCO", "CBr"]
    assert table.shape == (2, embedder.dim)
    np.testing.assert_allclose(table.loc["CCO"], embedder.encode(data.examples)[0], rtol=1e-4, atol=1e-6)
    again = GraphEmbedder.from_state(embedder.state(), embedder.encoder.state_dict(), "cpu")
    pd.testing.assert_frame_equal(again.embed(pd.DataFrame({"smiles": ["CCO", "CBr"]})), table)


def test_an_embedder_of_nodes_refuses_whole_graphs_and_the_other_way_round() -> None:
    data = graphs()
    features = NodeFeatures.fit(data, np.ones(data.nodes, dtype=bool))
    nodes = GraphEmbedder(GIN(features.dim, hidden=4, pool=None).eval(), features, Roles())
    with pytest.raises(ValueError, match=r"embeds nodes, and the examples of this data are graphs; .*read_graphs"):
        nodes.embed(data)
    whole = GraphEmbedder(GIN(features.dim, hidden=4).eval(), features, Roles())
    with pytest.raises(ValueError, match="embeds graphs, and the examples of this data are nodes"):
        whole.embed(replace(data, level="node"))


def test_an_embedder_of_tables_looks_for_no_label() -> None:
    edges = pd.DataFrame({"source": ["a", "b"], "target": ["b", "c"]})
    nodes = pd.DataFrame({"node": list("abc"), "weight": [1.0, 2, 3], "kind": ["x", "y", "x"]})
    roles = Roles(label="kind")
    data = read_graphs(edges, nodes, roles=roles)
    features = NodeFeatures.fit(data, np.ones(3, dtype=bool))
    embedder = GraphEmbedder(GIN(1, hidden=4, pool=None).eval(), features, roles)
    assert embedder.embed(edges, nodes.drop(columns="kind")).index.tolist() == ["a", "b", "c"]
    assert embedder.embed(edges, nodes).shape == (3, embedder.dim)
    with pytest.raises(ValueError, match=r"needs a table of nodes, too, .* embed\(edges, nodes\)"):
        embedder.embed(edges)
