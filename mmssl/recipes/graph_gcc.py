"""Pretrain GCC on graphs, and say whether that helped.

python -m mmssl.recipes.graph_gcc                                        # MUTAG, under two minutes on two cores
python -m mmssl.recipes.graph_gcc data.name=IMDB-BINARY data.root=<folder of TUDataset>
python -m mmssl.recipes.graph_gcc data.edges=edges.csv data.nodes=nodes.csv data.graph=person data.label=role

Measured results stand in recipes/graph_gcc/README.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmssl.core.methods import scaling
from mmssl.core.methods.joint_embedding import JointEmbedding
from mmssl.graph.dataset import GraphData
from mmssl.graph.gcc import SeedSource, StructuralFeatures, WalkViews, gcc
from mmssl.graph.graphs import Graphs
from mmssl.graph.graphset import GraphSource
from mmssl.graph.walks import Adjacency
from mmssl.recipes.command import command_line
from mmssl.recipes.experiment import Sizes, filled, run_recipe
from mmssl.recipes.graph import GraphConfig, GraphExperiment, GraphRecipe, ModelConfig, prepare
from mmssl.recipes.training import TrainConfig


@dataclass
class MethodConfig:
    """GCC; queue and momentum belong to its 9 million nodes, and follow from yours where they are None."""

    steps: int = 256  # of a walk
    restart: float = 0.8
    queue: int | None = None  # keys, as negatives; 16,384 in the paper
    momentum: float | None = None  # of the teacher; 0.999 in the paper
    temperature: float = 0.07


@dataclass
class Config(GraphConfig):
    """All of the recipe's settings; Adam 0.005 with a warm-up and clipped gradients, as in the paper."""

    model: ModelConfig = field(default_factory=lambda: ModelConfig("StructureGIN", hidden=64, depth=5))
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            batch_size=32, optimizer="adam", lr=0.005, weight_decay=1e-5, schedule="cosine", warmup=0.1, clip_norm=1.0
        )
    )
    method: MethodConfig = field(default_factory=MethodConfig)


def main(cfg: Config) -> Path:
    """Pretrain, evaluate, report; returns the run folder."""
    return run_recipe(cfg, RECIPE, partial(prepare, kind=GCCExperiment))


class GCCExperiment(GraphExperiment):
    """Batches are seeds, and the encoder sees the subgraphs around them; see `Experiment`."""

    features = StructuralFeatures()

    @staticmethod
    def samples(data: GraphData) -> int:
        return len(learnt(data).x)

    def source(self) -> SeedSource:
        return SeedSource(learnt(self.data).degrees, self.fabric.device)

    def inputs(self, batch: Tensor) -> Graphs:
        return make_views(self.cfg, self.data, self.fabric.device).view(batch)


def build(encoder: Any, cfg: Config, data: GraphData) -> JointEmbedding:
    method = cfg.method
    assert method.queue is not None
    assert method.momentum is not None
    views = make_views(cfg, data, next(encoder.parameters()).device)
    return gcc(encoder, views, queue=method.queue, momentum=method.momentum, temperature=method.temperature)


def make_views(cfg: Config, data: GraphData, device: torch.device) -> WalkViews:
    """Walks in the graphs that are learnt from."""
    adjacency = Adjacency.of(learnt(data).to(device))
    return WalkViews(adjacency, cfg.method.steps, cfg.method.restart)


def learnt(data: GraphData) -> Graphs:
    """The graphs that are walked in."""
    return GraphSource(data.graphs).fetch(data.learnt)


def settle(method: MethodConfig, sizes: Sizes) -> MethodConfig:
    return filled(
        method,
        queue=min(16_384, scaling.queue_size(sizes.samples, sizes.batch)),
        momentum=scaling.teacher_momentum(sizes.samples, sizes.batch),
    )


RECIPE = GraphRecipe("graph_gcc", "GCC", build=build, settle=settle, epochs=2)

if __name__ == "__main__":
    command_line(main, Config, prog=f"python -m mmssl.recipes.{RECIPE.name}")
