"""A pretrained encoder with the features of its nodes: from a user's graphs to a table of embeddings."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from mmssl.graph.encode import encode_graphs
from mmssl.graph.encoder import ENCODERS, GraphEncoder
from mmssl.graph.features import NodeFeatures
from mmssl.graph.gcc import StructuralFeatures
from mmssl.graph.graphset import GraphSet
from mmssl.graph.tables import Roles, embedding_frame, read_graphs, read_smiles
from mmssl.graph.tu import read_tu

if TYPE_CHECKING:
    import pandas as pd

FEATURES: dict[str, type[NodeFeatures] | type[StructuralFeatures]] = {
    "NodeFeatures": NodeFeatures,
    "StructuralFeatures": StructuralFeatures,
}


@dataclass(frozen=True, eq=False)
class GraphEmbedder:
    """What `mmssl.load` returns for a run on graphs.

    Args:
        encoder: one of `mmssl.graph.encoder.ENCODERS`, with its final weights, on the device that computes.
        features: fitted on the nodes that it learnt from.
        roles: of the columns of the training tables.
        smiles: the column of the training table that holds molecules; None for other graphs.
    """

    encoder: GraphEncoder
    features: NodeFeatures | StructuralFeatures
    roles: Roles
    smiles: str | None = None

    @property
    def dim(self) -> int:
        return self.encoder.dim

    def embed(
        self, data: str | Path | pd.DataFrame | GraphSet, nodes: str | Path | pd.DataFrame | None = None
    ) -> pd.DataFrame:
        """One row of features a graph, or a node, as in training.

        Args:
            data: a table of edges, or with SMILES; a folder with ``edges`` and ``nodes``, or of a TUDataset; or what a
                reader returned.
            nodes: the table of nodes that belongs to a table of edges.

        Raises:
            ValueError: the graphs are of another kind than those of the training, or there is no table of their nodes;
                the message says how.
        """
        examples = self.read(data, nodes)
        return embedding_frame(self.encode(examples), examples)

    def encode(self, examples: GraphSet) -> npt.NDArray[np.float32]:
        """``(n, dim)``.

        Raises:
            ValueError: examples are nodes, and the encoder is one of whole graphs, or the other way round.
        """
        level = "node" if self.encoder.pool is None else "graph"
        if examples.level != level:
            raise ValueError(
                f"this encoder embeds {level}s, and the examples of this data are {examples.level}s; "
                "mmssl.graph.tables.read_graphs(edges, nodes, roles=Roles(graph=…)) reads tables with a graph for each "
                "node, and without `graph` as the nodes of one"
            )
        return encode_graphs(self.encoder, self.features(examples))

    def read(
        self, data: str | Path | pd.DataFrame | GraphSet, nodes: str | Path | pd.DataFrame | None = None
    ) -> GraphSet:
        """New data as the training data was read; labels are not looked for."""
        if isinstance(data, GraphSet):
            return data
        if isinstance(data, str | Path) and Path(data).is_dir():
            tables = {file.name.split(".")[0]: file for file in sorted(Path(data).iterdir())}
            if "edges" not in tables:
                return read_tu(Path(data), undirected=self.roles.undirected)
            data, nodes = tables["edges"], tables.get("nodes", nodes)
        if self.smiles is not None:
            return read_smiles(data, smiles=self.smiles)
        columns = self.features.columns if isinstance(self.features, NodeFeatures) else ()
        if nodes is None and (columns or self.roles.graph is not None):
            raise ValueError(
                "this encoder needs a table of nodes, too, as in training: embed(edges, nodes), or a folder with the "
                "tables edges and nodes"
            )
        unlabelled = replace(self.roles, label=None, ignore=(*self.roles.ignore, self.roles.label or ""))
        return read_graphs(data, nodes, None, unlabelled)

    def state(self) -> dict[str, Any]:
        return {
            "encoder": {"builder": type(self.encoder).__name__, "arguments": self.encoder.arguments},
            "features": {"builder": type(self.features).__name__, "state": self.features.state()},
            "roles": {**asdict(self.roles), "ignore": list(self.roles.ignore)},
            "smiles": self.smiles,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any], weights: dict[str, Tensor], device: str) -> GraphEmbedder:
        encoder = ENCODERS[state["encoder"]["builder"]](**state["encoder"]["arguments"])
        encoder.load_state_dict(weights)
        roles = Roles(**{**state["roles"], "ignore": tuple(state["roles"]["ignore"])})
        features = FEATURES[state["features"]["builder"]].from_state(state["features"]["state"])
        return cls(encoder.to(device).eval(), features, roles, state["smiles"])
