"""Pretrain GraphMAE on graphs, or on the nodes of one, and say whether that helped.

python -m mmssl.recipes.graph_graphmae                                   # MUTAG, under a minute on two cores
python -m mmssl.recipes.graph_graphmae data.path=molecules.csv data.smiles=smiles data.label=soluble
python -m mmssl.recipes.graph_graphmae data.name=NCI1 data.root=<folder of TUDataset>

Measured results stand in recipes/graph_graphmae/README.md.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmssl.graph.dataset import GraphData
from mmssl.graph.graphmae import GraphMAE
from mmssl.recipes.command import command_line
from mmssl.recipes.experiment import Sizes
from mmssl.recipes.graph import GraphConfig, GraphRecipe, ModelConfig, run_graph
from mmssl.recipes.training import TrainConfig


@dataclass
class MethodConfig:
    """GraphMAE; the authors' settings for MUTAG."""

    mask: float = 0.75  # share of the nodes
    replace: float = 0.1  # share of these that get the features of another node
    gamma: float = 2.0  # of the scaled cosine error
    reference: str = "paper"  # or authors: the second mask is 0, as in their code


@dataclass
class Config(GraphConfig):
    """All of the recipe's settings."""

    model: ModelConfig = field(default_factory=lambda: ModelConfig(hidden=32, depth=5))
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(batch_size=64, optimizer="adam", lr=5e-4, weight_decay=0.0)
    )
    method: MethodConfig = field(default_factory=MethodConfig)


def main(cfg: Config) -> Path:
    """Pretrain, evaluate, report; returns the run folder."""
    return run_graph(cfg, RECIPE)


def build(encoder: Any, cfg: Config, data: GraphData) -> GraphMAE:
    if not data.examples.columns:
        raise ValueError(
            "GraphMAE restores the features of nodes, and these have none but their degree; give node features, or "
            "take graph_graphcl"
        )
    return GraphMAE(encoder, **asdict(cfg.method))


def settle(method: MethodConfig, sizes: Sizes) -> MethodConfig:
    return method


RECIPE = GraphRecipe("graph_graphmae", "GraphMAE", build=build, settle=settle, level=None)

if __name__ == "__main__":
    command_line(main, Config, prog=f"python -m mmssl.recipes.{RECIPE.name}")
