"""Pretrain GRACE on the nodes of a graph, and say whether that helped.

python -m mmssl.recipes.graph_grace                                      # Zachary's karate club: that it runs, no more
python -m mmssl.recipes.graph_grace data.name=cora data.root=<folder of Planetoid>
python -m mmssl.recipes.graph_grace data.edges=edges.csv data.nodes=nodes.csv data.label=kind

Measured results stand in recipes/graph_grace/README.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmssl.core.methods.joint_embedding import JointEmbedding
from mmssl.graph.dataset import GraphData
from mmssl.graph.grace import grace, node_views
from mmssl.recipes.command import command_line
from mmssl.recipes.experiment import Sizes
from mmssl.recipes.graph import GraphConfig, GraphRecipe, ModelConfig, run_graph
from mmssl.recipes.training import TrainConfig


@dataclass
class MethodConfig:
    """GRACE; the authors' settings for Cora."""

    hidden: int = 128  # width of the projector
    temperature: float = 0.4
    drop_edges: list[float] = field(default_factory=lambda: [0.2, 0.4])  # probabilities in either view
    drop_features: list[float] = field(default_factory=lambda: [0.3, 0.4])


@dataclass
class Config(GraphConfig):
    """All of the recipe's settings; every step sees the whole graph."""

    model: ModelConfig = field(default_factory=lambda: ModelConfig("GCN", widths=[256, 128], activation="relu"))
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(batch_size=1, optimizer="adam", lr=5e-4, weight_decay=1e-5)
    )
    method: MethodConfig = field(default_factory=MethodConfig)


def main(cfg: Config) -> Path:
    """Pretrain, evaluate, report; returns the run folder."""
    return run_graph(cfg, RECIPE)


def build(encoder: Any, cfg: Config, data: GraphData) -> JointEmbedding:
    method = cfg.method
    views = node_views(pair("drop_edges", method.drop_edges), pair("drop_features", method.drop_features))
    return grace(encoder, views, hidden=method.hidden, temperature=method.temperature)


def pair(name: str, values: list[float]) -> tuple[float, float]:
    """One value for either view."""
    if len(values) != 2:
        raise ValueError(f"method.{name} must be two numbers, one for either view, got {values}")
    return values[0], values[1]


def settle(method: MethodConfig, sizes: Sizes) -> MethodConfig:
    return method


RECIPE = GraphRecipe("graph_grace", "GRACE", build=build, settle=settle, level="node", default="karate", steps=200)

if __name__ == "__main__":
    command_line(main, Config, prog=f"python -m mmssl.recipes.{RECIPE.name}")
