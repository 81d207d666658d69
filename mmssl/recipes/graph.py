"""What the recipes for graphs share: their configuration, and the way from graphs to a report.

A recipe adds the settings of its method, how they follow from the amount of data, and how the method is put together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
from lightning_fabric import Fabric
from torch import nn

from mmssl.graph.dataset import DataConfig, GraphData, load_data
from mmssl.graph.embedder import GraphEmbedder
from mmssl.graph.encoder import ENCODERS, GraphEncoder
from mmssl.graph.gcc import StructuralFeatures
from mmssl.graph.graphset import GraphSource, Level, NodeSource
from mmssl.graph.tables import Roles
from mmssl.recipes.experiment import Experiment, Recipe, Sizes, Training, run_recipe
from mmssl.recipes.graph_scores import GraphEvaluateConfig, GraphScores, embedded_examples
from mmssl.recipes.results import Embedded
from mmssl.recipes.training import HealthConfig, TrainConfig, work_out
from mmssl.train.batches import Source
from mmssl.train.pretrain import Probe

LOOKED_AT = 256  # graphs that health looks at


@dataclass
class ModelConfig:
    """The encoder; None leaves an option at the class's value."""

    name: str = "GIN"  # GCN, GAT
    pool: str | None = None  # of whole graphs: sum over the nodes, or mean; None: sum
    hidden: int | None = None  # of GIN
    depth: int | None = None
    jump: bool | None = None
    widths: list[int] | None = None  # of GCN and GAT
    activation: str | None = None
    norm: bool | None = None  # of GCN
    heads: int | None = None  # of GAT
    dropout: float | None = None
    attention_dropout: float | None = None


@dataclass
class GraphConfig:
    """All settings of a recipe for graphs but those of its method."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    health: HealthConfig = field(default_factory=HealthConfig)
    evaluate: GraphEvaluateConfig = field(default_factory=GraphEvaluateConfig)
    names: list[str] = field(default_factory=list)  # several public data sets, one after the other
    root: str = "runs"  # folder of all runs
    resume: str | None = None  # a run folder to go on with


@dataclass(frozen=True)
class GraphRecipe(Recipe):
    """What tells one recipe for graphs from another.

    Args:
        build: ``(encoder, cfg, data)`` to the method.
        settle: ``(cfg.method, sizes)`` to the same without a None.
        level: what it embeds, graphs or nodes; None: either, as the data has it.
        default: name of the data where the user gives none.
        epochs: of whole graphs, where the user says nothing.
        steps: of nodes, likewise: each sees the whole graph.
    """

    build: Callable[[Any, Any, GraphData], nn.Module]
    settle: Callable[[Any, Sizes], Any]
    level: Level | None = "graph"
    default: str = "MUTAG"
    epochs: int = 20
    steps: int = 200


def run_graph(cfg: GraphConfig, recipe: GraphRecipe) -> Path:
    """Pretrain, evaluate, report; returns the run folder."""
    return run_recipe(cfg, recipe, prepare)


def prepare(
    cfg: Any, recipe: GraphRecipe, fabric: Fabric, *, kind: type[GraphExperiment] | None = None
) -> GraphExperiment:
    """Open the data and work out the settings; what cannot work is said now.

    Args:
        cfg: as the user gave it.
        recipe: its own part.
        fabric: device and processes.
        kind: of the experiment, where batches are no graphs.
    """
    kind = kind or GraphExperiment
    if cfg.data.name is None and cfg.data.path is None and cfg.data.edges is None:
        cfg = replace(cfg, data=replace(cfg.data, name=recipe.default))
    data = load_data(cfg.data, seed=cfg.train.seed, features=kind.features)
    if recipe.level not in (None, data.examples.level):
        other = "name the graph of each node with data.graph" if recipe.level == "graph" else "leave data.graph out"
        raise ValueError(
            f"{recipe.title} embeds {recipe.level}s, and data {data.name} has {data.examples.level}s: take a recipe "
            f"for these, or, with tables of your own, {other}"
        )
    scores = GraphScores(data, cfg.evaluate, method=recipe.subject, title=recipe.title)
    cfg = settle(cfg, recipe, data, samples=kind.samples(data), labelled=scores.labelled)
    return kind(cfg, recipe, data, scores, fabric)


class GraphExperiment(Experiment):
    """A configuration and its graphs; see `Experiment`."""

    recipe: GraphRecipe
    features: ClassVar[StructuralFeatures | None] = None  # of the nodes; None: as the data has them

    @staticmethod
    def samples(data: GraphData) -> int:
        """That an epoch goes through: graphs, or a single one with all of its nodes."""
        return 1 if data.examples.level == "node" else len(data.learnt)

    def __init__(self, cfg: Any, recipe: Recipe, data: GraphData, scores: GraphScores, fabric: Fabric) -> None:
        super().__init__(cfg, recipe, data, scores, fabric)
        self.data = data
        self.graphs = data.graphs.to(fabric.device)

    def make_encoder(self) -> GraphEncoder:
        return make_encoder(self.cfg.model, self.data)

    def source(self) -> Source:
        return (
            NodeSource(self.graphs)
            if self.data.examples.level == "node"
            else GraphSource(self.graphs, self.data.learnt)
        )

    def training(self, encoder: nn.Module, seed: int) -> Training:
        source = self.source()
        looked_at = source.fetch(np.random.default_rng(0).permutation(len(source))[:LOOKED_AT])
        method = self.recipe.build(encoder, self.cfg, self.data)
        return Training(method, source, Probe(self.inputs(looked_at), encoder))

    def embedder(self, encoder: nn.Module) -> GraphEmbedder:
        cfg = self.cfg.data
        roles = Roles(
            cfg.source, cfg.target, cfg.node, cfg.graph, cfg.label, cfg.task, tuple(cfg.ignore), cfg.undirected
        )
        smiles = None if self.data.examples.smiles is None else cfg.smiles
        return GraphEmbedder(cast(GraphEncoder, encoder), self.data.features, roles, smiles)

    def embedded(self, embedder: GraphEmbedder) -> Embedded:
        return embedded_examples(self.data, embedder.encode(self.data.examples))


def make_encoder(model: ModelConfig, data: GraphData) -> GraphEncoder:
    """The encoder of ``cfg.model``; it pools where examples are whole graphs.

    Raises:
        ValueError: there is no such encoder, or it does not know an option.
    """
    known = [name for name in ENCODERS if name != "StructureGIN" or isinstance(data.features, StructuralFeatures)]
    if model.name not in known:
        raise ValueError(f"model.name must be one of {', '.join(known)}, got {model.name!r}")
    options = {n: value for n, value in vars(model).items() if n not in ("name", "pool") and value is not None}
    pool = model.pool or "sum"
    kind: Callable[..., GraphEncoder] = ENCODERS[model.name]
    try:
        return kind(data.features.dim, **options, pool=pool if data.examples.level == "graph" else None)
    except TypeError as error:
        raise ValueError(f"model.name={model.name} does not take all of {', '.join(options)}: {error}") from error


def settle(cfg: Any, recipe: GraphRecipe, data: GraphData, *, samples: int, labelled: bool) -> Any:
    """Every None that stands for a value is replaced by it, so that config.yaml hides nothing."""
    batch = min(cfg.train.batch_size, samples)
    train = work_out(
        replace(cfg.train, batch_size=max(1, batch // cfg.train.accumulate) * cfg.train.accumulate),
        samples=samples,
        steps=recipe.steps if samples == 1 else recipe.epochs * -(-samples // batch),
        seeds=3 if labelled else 1,
    )
    assert train.steps is not None
    sizes = Sizes(samples, train.batch_size, train.steps, make_encoder(cfg.model, data).dim)
    return replace(cfg, train=train, method=recipe.settle(cfg.method, sizes))
