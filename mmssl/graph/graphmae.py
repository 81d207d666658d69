"""GraphMAE: restore the features of masked nodes from their neighbours (Hou et al., KDD 2022, arXiv 2205.10803).

Some nodes get a learnt token for their features, a few the features of another node. The encoder's output at all of
them is masked again before a decoder of one layer of message passing, and the loss is the scaled cosine error.

Differs from the authors' code: the same share is masked of every graph, not of the batch; the second mask is a learnt
token, as in the paper, where ``reference="authors"`` has zeros; and the decoder is a GIN layer for a GIN, a GCN layer
for any other encoder, where theirs has attention for a GAT. The GCN layer has no bias: beside words that are
normalised by row, one that is drawn as usual makes all nodes look alike, and the training stays there.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from mmssl.core.distributed import gather, world_size
from mmssl.core.objectives.inputs import check_positive, check_share, unit
from mmssl.graph.augment import random_share
from mmssl.graph.encoder import GIN, GraphEncoder, smoothed, summed
from mmssl.graph.graphs import Graphs


class GraphMAE(nn.Module):
    """The method, ready for `mmssl.train.fit`.

    Args:
        encoder: what is pretrained; with a pool or without.
        mask: share of the nodes that is masked: 0.75 of small molecules, 0.5 for Cora in the paper.
        replace: share of the masked nodes that get the features of another node instead of the token.
        gamma: of the scaled cosine error: 1 to 3.
        reference: ``"paper"``, or ``"authors"`` for zeros as the second mask.
    """

    def __init__(
        self,
        encoder: GraphEncoder,
        *,
        mask: float = 0.5,
        replace: float = 0.1,
        gamma: float = 2.0,
        reference: Literal["paper", "authors"] = "paper",
    ) -> None:
        super().__init__()
        if not 0 < mask < 1:
            raise ValueError(f"mask must lie between 0 and 1, got {mask}: it is the share of nodes that is masked")
        check_share("replace", replace)
        check_positive("gamma", gamma)
        if reference not in ("paper", "authors"):
            raise ValueError(f"reference must be 'paper' or 'authors', got {reference!r}")
        self.encoder = encoder
        self.mask, self.replace, self.gamma = mask, replace, gamma
        features = encoder.in_dim
        self.mask_token = nn.Parameter(torch.zeros(features))
        token = torch.zeros(encoder.dim)
        self.second_token = nn.Parameter(token) if reference == "paper" else nn.Buffer(token, persistent=False)
        self.bridge = nn.Linear(encoder.dim, encoder.dim, bias=False)
        self.decoder: nn.Module
        if isinstance(encoder, GIN):
            first, last = nn.Linear(encoder.dim, encoder.dim), nn.Linear(encoder.dim, features)
            self.decoder, self.spread = nn.Sequential(first, nn.PReLU(), last), summed
        else:
            self.decoder, self.spread = nn.Linear(encoder.dim, features, bias=False), smoothed
            for weight in (self.bridge.weight, self.decoder.weight):
                nn.init.xavier_uniform_(weight)

    def forward(self, graphs: Graphs) -> dict[str, Tensor]:
        masked = random_share(graphs, self.mask)  # (N,)
        h = self.encoder.nodes(graphs.with_features(self._hidden(graphs.x, masked)))  # (N, dim)
        h = torch.where(masked[:, None], self.second_token.to(h), self.bridge(h))
        restored = self.decoder(self.spread(h, graphs))  # (N, F)
        return {"loss": scaled_cosine_error(restored, graphs.x, masked, gamma=self.gamma)}

    def after_step(self, progress: float, skipped: Tensor) -> None:
        """Nothing follows the weights."""

    def export(self) -> nn.Module:
        return self.encoder

    def _hidden(self, x: Tensor, masked: Tensor) -> Tensor:
        """``(N, F)`` as the encoder sees it."""
        other = torch.randint(len(x), (len(x),), device=x.device)
        replaced = torch.rand(len(x), device=x.device) < self.replace
        instead = torch.where(replaced[:, None], x[other], self.mask_token)
        return torch.where(masked[:, None], instead, x)


def scaled_cosine_error(restored: Tensor, features: Tensor, masked: Tensor, *, gamma: float) -> Tensor:
    """(1 − cos)^γ, the mean over masked nodes of all ranks; 0 without any.

    Args:
        restored: ``(N, F)``.
        features: ``(N, F)``.
        masked: ``(N,)`` bool.
        gamma: above 1, nodes that are restored well weigh less.
    """
    with torch.autocast(restored.device.type, enabled=False):
        cosine = (unit(restored) * unit(features)).sum(dim=1).clamp(max=1.0)
        total = torch.where(masked, (1 - cosine) ** gamma, 0.0).sum()
        everywhere = gather(masked.sum()[None]).sum()
        return total * world_size() / everywhere.clamp(min=1)
