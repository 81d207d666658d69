"""Pretrain GraphCL on graphs, and say whether that helped.

python -m mmssl.recipes.graph_graphcl                                    # MUTAG, under a minute on two cores
python -m mmssl.recipes.graph_graphcl data.path=molecules.csv data.smiles=smiles data.label=soluble
python -m mmssl.recipes.graph_graphcl data.edges=edges.csv data.nodes=nodes.csv data.graph=molecule data.label=active
python -m mmssl.recipes.graph_graphcl data.name=NCI1 data.root=<folder of TUDataset>

Measured results stand in recipes/graph_graphcl/README.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmssl.core.methods.joint_embedding import JointEmbedding
from mmssl.graph.dataset import GraphData
from mmssl.graph.graphcl import authors_views, graphcl, paper_views
from mmssl.recipes.command import command_line
from mmssl.recipes.experiment import Sizes, filled
from mmssl.recipes.graph import GraphConfig, GraphRecipe, run_graph
from mmssl.recipes.training import TrainConfig


@dataclass
class MethodConfig:
    """GraphCL; the paper's settings."""

    strength: float | None = None  # share of nodes or edges that changes; None: 0.2, or 0.1 of the authors
    original: bool = False  # the first view is the graph itself, as always with the authors
    temperature: float = 0.2
    reference: str = "paper"  # or authors: loss and views as in their code


@dataclass
class Config(GraphConfig):
    """All of the recipe's settings; Adam 0.01 and batches of 128 for 20 epochs, as in the paper."""

    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(batch_size=128, optimizer="adam", lr=0.01, weight_decay=0.0)
    )
    method: MethodConfig = field(default_factory=MethodConfig)


def main(cfg: Config) -> Path:
    """Pretrain, evaluate, report; returns the run folder."""
    return run_graph(cfg, RECIPE)


def build(encoder: Any, cfg: Config, data: GraphData) -> JointEmbedding:
    method = cfg.method
    assert method.strength is not None
    authors = method.reference == "authors"
    views = authors_views(method.strength) if authors else paper_views(method.strength, original=method.original)
    return graphcl(encoder, views, temperature=method.temperature, reference=method.reference)  # type: ignore[arg-type]


def settle(method: MethodConfig, sizes: Sizes) -> MethodConfig:
    return filled(method, strength=0.1 if method.reference == "authors" else 0.2)


RECIPE = GraphRecipe("graph_graphcl", "GraphCL", build=build, settle=settle)

if __name__ == "__main__":
    command_line(main, Config, prog=f"python -m mmssl.recipes.{RECIPE.name}")
