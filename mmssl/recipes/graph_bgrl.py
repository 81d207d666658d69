"""Pretrain BGRL on the nodes of a graph, and say whether that helped.

python -m mmssl.recipes.graph_bgrl                                       # Zachary's karate club: that it runs, no more
python -m mmssl.recipes.graph_bgrl data.name=cora data.root=<folder of Planetoid>
python -m mmssl.recipes.graph_bgrl data.edges=edges.csv data.nodes=nodes.csv data.label=kind

Measured results stand in recipes/graph_bgrl/README.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmssl.core.methods.joint_embedding import JointEmbedding
from mmssl.graph.bgrl import bgrl
from mmssl.graph.dataset import GraphData
from mmssl.graph.grace import node_views
from mmssl.recipes.command import command_line
from mmssl.recipes.experiment import Sizes
from mmssl.recipes.graph import GraphConfig, GraphRecipe, ModelConfig, run_graph
from mmssl.recipes.graph_grace import pair
from mmssl.recipes.training import TrainConfig


@dataclass
class MethodConfig:
    """BGRL; momentum and predictor of the paper."""

    hidden: int = 512  # width of the predictor
    momentum: float = 0.99  # of the teacher at the start, rising to 1
    drop_edges: list[float] = field(default_factory=lambda: [0.2, 0.4])  # probabilities in either view
    drop_features: list[float] = field(default_factory=lambda: [0.3, 0.4])


@dataclass
class Config(GraphConfig):
    """All of the recipe's settings; every step sees the whole graph."""

    model: ModelConfig = field(
        default_factory=lambda: ModelConfig("GCN", widths=[512, 256], activation="prelu", norm=True)
    )
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            batch_size=1, optimizer="adamw", lr=5e-4, weight_decay=1e-5, schedule="cosine", warmup=0.1
        )
    )
    method: MethodConfig = field(default_factory=MethodConfig)


def main(cfg: Config) -> Path:
    """Pretrain, evaluate, report; returns the run folder."""
    return run_graph(cfg, RECIPE)


def build(encoder: Any, cfg: Config, data: GraphData) -> JointEmbedding:
    method = cfg.method
    views = node_views(pair("drop_edges", method.drop_edges), pair("drop_features", method.drop_features))
    return bgrl(encoder, views, hidden=method.hidden, momentum=method.momentum)


def settle(method: MethodConfig, sizes: Sizes) -> MethodConfig:
    return method


RECIPE = GraphRecipe("graph_bgrl", "BGRL", build=build, settle=settle, level="node", default="karate", steps=300)

if __name__ == "__main__":
    command_line(main, Config, prog=f"python -m mmssl.recipes.{RECIPE.name}")
