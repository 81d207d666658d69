"""The recipes for graphs from end to end, on small data of one's own; and what they say of data that does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest

import mmssl
from mmssl.eval.folds import PROTOCOL
from mmssl.eval.records import Record, read_results
from mmssl.graph.dataset import DataConfig
from mmssl.recipes import graph_bgrl, graph_gcc, graph_grace, graph_graphcl, graph_graphmae
from mmssl.recipes.graph import ModelConfig
from mmssl.recipes.graph_scores import FineTuneConfig, GraphEvaluateConfig
from mmssl.recipes.training import TrainConfig

GIN = ModelConfig(hidden=6, depth=2)
GCN = ModelConfig("GCN", widths=[8, 6], activation="relu")
RECIPES: dict[str, tuple[Any, ModelConfig]] = {
    "graphcl": (graph_graphcl, GIN),
    "graphmae": (graph_graphmae, GIN),
    "gcc": (graph_gcc, ModelConfig("StructureGIN", hidden=6, depth=2)),
    "grace": (graph_grace, GCN),
    "bgrl": (graph_bgrl, replace(GCN, norm=True, activation="prelu")),
}
SMILES = ["CCO", "CCN", "c1ccccc1", "c1ccccc1O", "c1ccccc1C", "C1CCCC1", "C1CCCC1O", "O", "CCCC", "c1ccncc1", "C1CC1"]


def quick(name: str, root: Path, data: DataConfig, **changes: Any) -> Any:
    """A few steps of a small encoder."""
    module, model = RECIPES[name]
    train = TrainConfig(steps=4, seeds=1, batch_size=8, optimizer="adam", lr=1e-3, log_every=2, device="cpu")
    known = {"model": model, "train": train, "evaluate": GraphEvaluateConfig(draws=0)}
    return module.Config(data=data, root=str(root), **(known | changes))


@pytest.fixture
def tables(tmp_path: Path) -> Mapping[str, Any]:
    """24 rings and paths of 5 to 8 nodes, with features of nodes and labels of graphs, one of which is missing."""
    edges, nodes, graphs = [], [], []
    rng = np.random.default_rng(0)
    for g in range(24):
        n = 5 + g % 4
        names = [f"{g}-{i}" for i in range(n)]
        ring = g % 2 == 0
        edges += [(names[i], names[(i + 1) % n]) for i in range(n if ring else n - 1)]
        nodes += [(name, g, rng.standard_normal(), "xy"[rng.integers(2)]) for name in names]
        graphs.append((g, "ring" if ring else "path"))
    frames = {
        "edges": pd.DataFrame(edges, columns=["source", "target"]),
        "nodes": pd.DataFrame(nodes, columns=["node", "graph", "weight", "kind"]),
        "graphs": pd.DataFrame(graphs, columns=["graph", "form"]),
    }
    frames["graphs"].loc[3, "form"] = None
    for name, frame in frames.items():
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    return {name: str(tmp_path / f"{name}.csv") for name in frames}


def accuracies(run: Path) -> dict[tuple[str, str], Record]:
    found = read_results(run / "results.json")
    return {(r.subject, r.protocol): r for r in found if r.metric == "accuracy" and r.n_labels == "all"}


@pytest.mark.parametrize("name", ["graphcl", "graphmae", "gcc"])
def test_graphs_of_ones_own_are_scored_in_folds_beside_their_controls(
    name: str, tables: Mapping[str, Any], tmp_path: Path
) -> None:
    data = DataConfig(**tables, graph="graph", label="form")
    run = RECIPES[name][0].main(quick(name, tmp_path / "runs", data))
    found = accuracies(run)
    assert set(found) == {(subject, PROTOCOL) for subject in (name, "random-encoder", "histogram", "weisfeiler-lehman")}
    assert all(record.split == "10-fold" and record.n_test == 23 for record in found.values())
    assert found["histogram", PROTOCOL].value > 0.9  # a ring has no node of degree 1
    assert (run / "report.html").exists()
    table = pyarrow.parquet.read_table(run / "embeddings.parquet").to_pandas()
    assert len(table) == 24
    assert table["label"].isna().sum() == 1
    again = mmssl.load(run).embed(tables["edges"], tables["nodes"])  # type: ignore[call-arg]
    pd.testing.assert_frame_equal(mmssl.load(run).embed(Path(tables["edges"]).parent), again)
    features = [column for column in table if column.startswith("e0")]
    order = table["graph"].tolist()
    np.testing.assert_allclose(again.loc[order].to_numpy(), table[features].to_numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["grace", "bgrl", "graphmae"])
def test_nodes_of_ones_own_are_scored_on_a_split(name: str, tables: Mapping[str, Any], tmp_path: Path) -> None:
    data = DataConfig(edges=tables["edges"], nodes=tables["nodes"], label="kind", ignore=["graph"])
    cfg = quick(name, tmp_path / "runs", data)
    cfg = replace(cfg, train=replace(cfg.train, batch_size=1), model=replace(GCN, norm=name == "bgrl"))
    run = RECIPES[name][0].main(cfg)
    found = accuracies(run)
    assert {subject for subject, _ in found} == {name, "random-encoder", "neighbourhood"}
    assert {record.split for record in found.values()} == {"random/0.2"}
    assert len(pyarrow.parquet.read_table(run / "embeddings.parquet")) == sum(5 + g % 4 for g in range(24))


def test_graphs_that_are_held_out_are_fine_tuned_on_a_share_of_the_labels(
    tables: Mapping[str, Any], tmp_path: Path
) -> None:
    data = DataConfig(**tables, graph="graph", label="form", split="random", test_fraction=0.4)
    tuning = FineTuneConfig("full", epochs=2, batch_size=4)
    evaluate = GraphEvaluateConfig(draws=0, labels=0.5, finetune=tuning)
    run = graph_graphcl.main(quick("graphcl", tmp_path / "runs", data, evaluate=evaluate))
    found = accuracies(run)
    protocol = "finetune-full(epochs=2,batch_size=4,lr_encoder=0.001)/1"
    assert {(s, protocol) for s in ("graphcl", "random-encoder")} <= set(found)
    assert {record.n_train for record in found.values()} == {8}  # half of 7 rings and of 7 paths, rounded
    assert {record.n_test for record in found.values()} == {9}
    assert {record.split for record in found.values()} == {"random/0.4/labels=0.5"}


def test_molecules_are_split_by_scaffold_and_held_against_fingerprints(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"smiles": [s for s in SMILES for _ in range(3)]})
    table["solubility"] = [len(s) + rng.standard_normal() for s in table["smiles"]]
    table = pd.concat([table, pd.DataFrame({"smiles": ["C(C"], "solubility": [1.0]})])
    table.to_csv(tmp_path / "m.csv", index=False)
    data = DataConfig(path=str(tmp_path / "m.csv"), label="solubility")
    run = graph_graphcl.main(quick("graphcl", tmp_path / "runs", data))
    found = {(r.subject, r.metric) for r in read_results(run / "results.json")}
    assert {subject for subject, _ in found} >= {"graphcl", "random-encoder", "morgan"}
    assert {metric for _, metric in found} == {"r2", "rmse"}
    assert "left out: 1 of 34 SMILES" in (run / "report.html").read_text()
    assert mmssl.load(run).embed(tmp_path / "m.csv").index.name == "smiles"


def test_a_run_without_labels_ends_without_scores(tables: Mapping[str, Any], tmp_path: Path) -> None:
    data = DataConfig(edges=tables["edges"], nodes=tables["nodes"], graph="graph")
    run = graph_graphcl.main(quick("graphcl", tmp_path / "runs", data))
    assert read_results(run / "results.json") == []


def test_what_does_not_fit_is_said_before_anything_is_trained(tables: Mapping[str, Any], tmp_path: Path) -> None:
    nodes = DataConfig(edges=tables["edges"], nodes=tables["nodes"], label="kind")
    with pytest.raises(ValueError, match=r"GraphCL embeds graphs, and data edges has nodes.*data\.graph"):
        graph_graphcl.main(quick("graphcl", tmp_path, nodes))
    graphs = DataConfig(**tables, graph="graph", label="form")
    with pytest.raises(ValueError, match="GRACE embeds nodes, and data edges has graphs"):
        graph_grace.main(quick("grace", tmp_path, graphs))
    with pytest.raises(ValueError, match=r"model\.name must be one of GIN, GCN, GAT, got 'SAGE'"):
        graph_graphcl.main(quick("graphcl", tmp_path, graphs, model=ModelConfig("SAGE")))
    with pytest.raises(ValueError, match=r"GIN, GCN, GAT, got 'StructureGIN'"):
        graph_graphcl.main(quick("graphcl", tmp_path, graphs, model=ModelConfig("StructureGIN")))
    with pytest.raises(ValueError, match=r"model\.name=GIN does not take all of heads"):
        graph_graphcl.main(quick("graphcl", tmp_path, graphs, model=ModelConfig("GIN", heads=2)))
    with pytest.raises(ValueError, match="pool must be 'sum', 'mean' or None, got 'max'"):
        graph_graphcl.main(quick("graphcl", tmp_path, graphs, model=ModelConfig(pool="max")))
    with pytest.raises(ValueError, match=r"unknown evaluate\.controls \['wl'\]"):
        graph_graphcl.main(quick("graphcl", tmp_path, graphs, evaluate=GraphEvaluateConfig(controls=["wl"])))
    with pytest.raises(ValueError, match=r"evaluate\.measure=r2 does not fit the label, which is a class"):
        graph_graphcl.main(quick("graphcl", tmp_path, graphs, evaluate=GraphEvaluateConfig(measure="r2")))
    for evaluate, message in (
        (GraphEvaluateConfig(labels=0.1), r"evaluate\.labels=0.1 needs graphs that are held out"),
        (GraphEvaluateConfig(labels=1.5), r"evaluate\.labels must be a share .* got 1.5"),
        (
            GraphEvaluateConfig(finetune=FineTuneConfig("full")),
            r"finetune\.strategy=full is for graphs that are held out",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            graph_graphcl.main(quick("graphcl", tmp_path, graphs, evaluate=evaluate))
    bare = DataConfig(edges=tables["edges"])
    with pytest.raises(ValueError, match="GraphMAE restores the features of nodes, and these have none"):
        graph_graphmae.main(quick("graphmae", tmp_path, bare))
    method = graph_grace.MethodConfig(drop_edges=[0.1])
    with pytest.raises(ValueError, match=r"method\.drop_edges must be two numbers"):
        graph_grace.main(quick("grace", tmp_path, nodes, method=method))


def test_a_run_is_repeated_to_the_last_digit(tables: Mapping[str, Any], tmp_path: Path) -> None:
    data = DataConfig(**tables, graph="graph", label="form")
    runs = [graph_graphcl.main(quick("graphcl", tmp_path / str(i), data)) for i in range(2)]
    assert (runs[0] / "encoder.safetensors").read_bytes() == (runs[1] / "encoder.safetensors").read_bytes()
