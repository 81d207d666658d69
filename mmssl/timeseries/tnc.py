"""TNC: windows of one recording tell their neighbours from what is far away (Tonekaboni et al., ICLR 2021, 2106.00750).

Around a window, as far as the recording is stationary, is its neighbourhood. A discriminator is shown the encodings of
two windows and says whether they are neighbours. What lies outside of the neighbourhood may still be of the same state,
so it counts as unlabelled: with a small weight as a neighbour, with the rest as none.

Differs from the paper and the authors' code:
- the neighbourhood is found once for places half a window apart, by as many Dickey–Fuller tests in one go; the authors
  test around every window that they draw, in every epoch;
- a window is encoded once, not once for each of its pairs;
- what is far away comes from both sides of a window; the authors take it from the longer side;
- windows start anywhere in a recording; the authors keep the anchors two windows away from its ends;
- where no part of a recording is far away (ten windows and more, by size of the neighbourhood), the end that is
  furthest stands for it, as the authors' code does, too, though the paper does not say so;
- what is constant counts as stationary, channels with gaps are left out of the tests, and a window without any value
  takes no part; the authors' code takes either for the end of the neighbourhood.
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmssl.core.types import Encoder
from mmssl.timeseries.recordings import Recordings

FAR = 5  # standard deviations of the neighbourhood, from where on a window is far away (the authors' factor)


class TNC(nn.Module):
    """The method, ready for `mmssl.train.fit`: batches are places ``(B, 4)`` of `Recordings`.

    Args:
        encoder: what is pretrained; windows ``(B, T, C)`` to ``(B, dim)``.
        recordings: what the windows are taken from; their values are held on the device.
        pairs: neighbours of each window, and as many others; 40 in the authors' simulation, 10 to 20 elsewhere.
        weight: how likely a window from far away is a neighbour after all; the paper's w, 0.05 by its authors.
    """

    augment = None  # nothing is changed about a window

    def __init__(self, encoder: nn.Module, recordings: Recordings, *, pairs: int = 20, weight: float = 0.05) -> None:
        super().__init__()
        if pairs < 1:
            raise ValueError(f"pairs must be at least 1, got {pairs}")
        if not 0 <= weight < 1:
            raise ValueError(f"weight must lie in [0, 1), got {weight}")
        self.encoder = encoder
        self.discriminator = discriminator(cast(Encoder, encoder).dim)
        self.values = recordings.values  # no buffer: neither checkpoints nor other ranks have a use for it
        self.window = recordings.window
        self.grid = recordings.grid
        self.pairs = pairs
        self.weight = weight

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        start = self.draw(batch)  # (B, 1 + 2 · pairs)
        x = self.cut(start.flatten())
        z = self.encoder(x).unflatten(0, start.shape)  # (B, 1 + 2 · pairs, D)
        seen = (~x.isnan().flatten(1).all(dim=1)).view_as(start)
        logits = self.compare(z[:, :1], z[:, 1:])
        near, far = logits.chunk(2, dim=1)
        with torch.no_grad():
            right = torch.cat([near > 0, far < 0], dim=1).float().mean()
        return {
            "loss": neighbour_loss(near, far, seen[:, :1] & seen[:, 1:], weight=self.weight),
            "accuracy": right,
            "collapse_loss": torch.tensor(collapse_loss(self.weight)),
        }

    def draw(self, places: Tensor) -> Tensor:
        """First rows of the windows: one at each place, then its neighbours, then those from far away.

        Neighbours lie normally about the window, with as many windows as the neighbourhood has for the standard
        deviation; at the end of a recording they stay inside. Those from far away lie anywhere beyond five of it.
        """
        start, first, last, size = places.unsqueeze(-1).unbind(dim=1)  # (B, 1) each
        start = start + torch.randint(self.grid, start.shape, device=start.device)
        start = torch.minimum(start, last)
        shape = len(start), self.pairs
        spread = size * self.window
        near = start + (torch.randn(shape, device=start.device) * spread).round().long()
        near = torch.minimum(torch.maximum(near, first), last)
        before = (start - FAR * spread - first + 1).clamp(min=0)  # starts that are far away, on either side
        after = (last - start - FAR * spread + 1).clamp(min=0)
        nth = (torch.rand(shape, device=start.device) * (before + after)).long()
        far = torch.where(nth < before, first + nth, start + FAR * spread + nth - before)
        furthest = torch.where(start - first > last - start, first, last)
        far = torch.where(before + after > 0, torch.minimum(far, last), furthest)
        return torch.cat([start, near, far], dim=1)

    def cut(self, start: Tensor) -> Tensor:
        """Windows of the recordings by their first rows: ``(N,)`` to ``(N, T, C)``."""
        if self.values.device != start.device:
            self.values = self.values.to(start.device)
        rows, channels = self.values.shape
        every = self.values.as_strided((rows - self.window + 1, self.window * channels), (channels, 1))  # no copy
        return every.index_select(0, start).view(-1, self.window, channels)

    def compare(self, anchor: Tensor, other: Tensor) -> Tensor:
        """How much the discriminator takes others for neighbours: ``(B, 1, D)`` and ``(B, n, D)`` to ``(B, n)``."""
        return self.discriminator(torch.cat([anchor.expand_as(other), other], dim=-1)).squeeze(-1)

    def after_step(self, progress: float, skipped: Tensor) -> None:
        """Nothing follows the weights."""

    def export(self) -> nn.Module:
        return self.encoder


def discriminator(dim: int) -> nn.Sequential:
    """Two encodings side by side ``(…, 2 · dim)`` to a logit ``(…, 1)``; the authors' sizes and initialisation."""
    layers = nn.Sequential(nn.Linear(2 * dim, 4 * dim), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4 * dim, 1))
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
    return layers


def neighbour_loss(near: Tensor, far: Tensor, seen: Tensor, *, weight: float) -> Tensor:
    """Positive-unlabelled cross-entropy (equation 2 of the paper): neighbours are, what is far away may be one.

    Args:
        near: ``(B, n)`` logits of neighbours.
        far: ``(B, n)`` logits of windows from far away.
        seen: ``(B, 2n)`` bool, of both in this order; False where one of the two windows has no value.
        weight: w; a window from far away counts with w as a neighbour and with 1 - w as none.

    Returns:
        Half of the mean over neighbours and that over the others; 0-dim float32.
    """
    with torch.autocast(near.device.type, enabled=False):
        near, far = near.float(), far.float()
        unlabelled = weight * F.softplus(-far) + (1 - weight) * F.softplus(far)
        terms = torch.cat([F.softplus(-near), unlabelled], dim=1)
        return (terms * seen).mean()


def collapse_loss(weight: float) -> float:
    """The loss of the best discriminator if all windows have the same encoding."""
    positive = (1 + weight) / 2  # of the pairs, by their weights
    return -positive * math.log(positive) - (1 - positive) * math.log(1 - positive)
