"""From the `data` section of a recipe to graphs for training and testing."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from mmssl.graph.edges import counted
from mmssl.graph.features import NodeFeatures
from mmssl.graph.gcc import StructuralFeatures
from mmssl.graph.graphs import Graphs
from mmssl.graph.graphset import GraphSet, Ints
from mmssl.graph.named import load_named
from mmssl.graph.split import split_examples
from mmssl.graph.tables import Roles, read_graphs, read_smiles


@dataclass
class DataConfig:
    """Where graphs come from: public ones by ``name``, molecules by ``path``, tables by ``edges`` and ``nodes``."""

    name: str | None = None  # MUTAG, freesolv, karate; with `root` a TUDataset, cora, citeseer, pubmed, bbbp, esol, …
    root: str | None = None  # folder of public data on disk, or a folder of such folders
    path: str | None = None  # table with a column of SMILES: CSV, TSV or Parquet
    smiles: str = "smiles"  # that column
    edges: str | None = None  # table of edges
    nodes: str | None = None  # table of nodes; what is not named below is a feature
    graphs: str | None = None  # table of graphs with their labels
    source: str = "source"  # columns of the edges
    target: str = "target"
    node: str = "node"  # column of the nodes: their names
    graph: str | None = None  # column of the nodes: their graph; None: one graph, and nodes are the examples
    undirected: bool = False  # take every edge for an undirected one
    label: str | None = None  # column to predict, empty where unlabelled; None: no scores
    task: str = "auto"  # classification, regression, or auto: by the values of the label
    ignore: list[str] = field(default_factory=list)  # columns of the nodes to leave out
    split: str = "auto"  # published, folds, scaffold or random; auto: the first of these that the data allows
    test_fraction: float = 0.2  # of a random split


@dataclass(frozen=True, eq=False)
class GraphData:
    """Everything that a recipe needs to know of its data.

    Args:
        name: of the data, for the records.
        examples: as read; their graphs or nodes are labelled.
        graphs: the same with features, on the CPU.
        features: of the nodes, fitted on what is learnt from.
        learnt: graphs that the encoder learns from. Those with nodes to test, or in folds, are among them: it sees no
            labels.
        train, test: positions of the labelled examples; the same ones in folds. ``test`` is None without labels.
        description: what was read and how it was split, for a person.
        split: name of the test split, for the records.
    """

    name: str
    examples: GraphSet
    graphs: Graphs
    features: NodeFeatures | StructuralFeatures
    learnt: Ints
    train: Ints
    test: Ints | None
    description: str
    split: str

    @cached_property
    def known(self) -> NodeFeatures:
        """What the data says of the nodes, whatever the method looks at."""
        if isinstance(self.features, NodeFeatures):
            return self.features
        return NodeFeatures.fit(self.examples, np.isin(self.examples.node_graph, self.learnt))

    @cached_property
    def plain(self) -> Graphs:
        """The graphs with these features."""
        return self.graphs if self.known is self.features else self.known(self.examples)

    @property
    def categories(self) -> Graphs:
        """The graphs with those of them that are categories; of a number, nearly every node has its own."""
        return self.plain.with_features(self.plain.x[:, torch.from_numpy(self.known.one_hot)])

    @property
    def folds(self) -> bool:
        """Is every example tested, in folds?"""
        return self.split == "10-fold"


def load_data(cfg: DataConfig, *, seed: int = 0, features: StructuralFeatures | None = None) -> GraphData:
    """Read, split, and make features.

    Args:
        cfg: where the data is and how to read it.
        seed: of a random split.
        features: of the nodes, for a method that does not look at what the data says of them.

    Raises:
        FileNotFoundError: there is no such data.
        ValueError: it cannot be used as asked; the message says why and what to do.
    """
    given = [f"data.{key}={value}" for key in ("name", "path", "edges") if (value := getattr(cfg, key)) is not None]
    if len(given) != 1:
        raise ValueError(
            "give data.name (public graphs), data.path (a table with SMILES) or data.edges (a table of edges), got "
            + (" and ".join(given) or "none")
        )
    examples, name = _read(cfg)
    every = np.arange(len(examples.offsets) - 1)
    lines = [_describe(examples), *examples.notes]
    if examples.labels is None:
        learnt, train, test, kind = every, np.empty(0, dtype=np.int64), None, "none"
        lines.append("split: no labels: all of it is learnt from, none is held out")
    else:
        split = split_examples(examples, by=cfg.split, test_fraction=cfg.test_fraction, seed=seed)
        held_out = examples.level == "graph" and split.kind != "10-fold"
        learnt = np.setdiff1d(every, split.test) if held_out else every
        train, test = (np.intersect1d(part, examples.labelled) for part in (split.train, split.test))
        kind = split.kind
        unlabelled = not np.isin([*split.train, *split.test], examples.labelled).all()
        known = f" ({len(train):,} and {len(test):,} of them labelled)" if unlabelled and kind != "10-fold" else ""
        lines.append(f"split: {split.sentence}{known}")
        if not len(train) or not len(test):
            raise ValueError(f"no {'training' if not len(train) else 'test'} example has a label: change data.split")
    used = features or NodeFeatures.fit(examples, np.isin(examples.node_graph, learnt))
    lines.append(used.describe())
    return GraphData(name, examples, used(examples), used, learnt, train, test, "\n".join(lines), kind)


def _read(cfg: DataConfig) -> tuple[GraphSet, str]:
    if cfg.name is not None:
        return load_named(cfg.name, root=cfg.root, label=cfg.label, undirected=cfg.undirected), cfg.name
    if cfg.path is not None:
        return read_smiles(cfg.path, smiles=cfg.smiles, label=cfg.label, task=cfg.task), Path(cfg.path).stem
    assert cfg.edges is not None
    roles = Roles(cfg.source, cfg.target, cfg.node, cfg.graph, cfg.label, cfg.task, tuple(cfg.ignore), cfg.undirected)
    return read_graphs(cfg.edges, cfg.nodes, cfg.graphs, roles), Path(cfg.edges).stem


def _describe(data: GraphSet) -> str:
    graphs = len(data.offsets) - 1
    sizes = np.diff(data.offsets)
    edges = np.bincount(data.node_graph[data.pairs[0]], minlength=graphs)
    text = f"{counted(graphs, 'graph')}, {counted(data.nodes, 'node')}, {counted(data.pairs.shape[1], 'edge')}"
    if graphs > 1:
        text += f" ({sizes.mean():.1f} nodes and {edges.mean():.1f} edges a graph)"
    lonely = int((sizes == 1).sum()), int((edges == 0).sum())
    if lonely[1]:
        text += f"\n{counted(lonely[1], 'graph')} without an edge, {lonely[0]:,} of them with a single node"
    if data.labels is not None:
        known = data.labels[data.labelled]
        if data.classes is None:
            text += f"\nto predict: numbers from {known.min():g} to {known.max():g} of {len(known):,} {data.level}s"
        else:
            counts = np.bincount(known.astype(np.int64), minlength=len(data.classes))
            shares = ", ".join(f"{name}: {count:,}" for name, count in zip(data.classes, counts, strict=True))
            text += f"\nclasses of {len(known):,} {data.level}s: {shares}"
    return text
