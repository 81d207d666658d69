"""Embeddings of many graphs, or of all nodes of one, a bounded number at a time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from mmssl.graph.graphs import Graphs
from mmssl.graph.graphset import GraphSource

GRAPHS = 512  # that are encoded at a time


@torch.inference_mode()
def encode_graphs(encoder: nn.Module, graphs: Graphs) -> npt.NDArray[np.float32]:
    """``(G, dim)``, or ``(N, dim)`` of an encoder that does not pool.

    Args:
        encoder: set to evaluation mode by this.
        graphs: on any device.
    """
    encoder.eval()
    device = next(encoder.parameters()).device
    source = GraphSource(graphs)
    out = [
        encoder(source.fetch(np.arange(i, min(i + GRAPHS, len(graphs)))).to(device)).float().cpu().numpy()
        for i in range(0, len(graphs), GRAPHS)
    ]
    return np.concatenate(out)
