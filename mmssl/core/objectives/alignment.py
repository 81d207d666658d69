"""What the losses of image–text pretraining share: pairs, a learnable scale, and the tiles they are worked out in.

Pair i is (a_i, b_i), and every a is compared with every b of the whole batch, on all ranks. Copies matter here more
than elsewhere: a caption that occurs twice in a batch would have to be near its image and far from it. Given ``ids``,
pairs that share their a or their b are positives of each other; where nothing occurs twice, that is the published loss.
Without ``ids`` they are negatives, as in the published code.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mmssl.core.distributed import gather, rank, world_size
from mmssl.core.objectives.inputs import check_batch, check_temperature, check_views

MAX_SCALE = 100.0  # of the cosines, that is a temperature of 0.01 (Radford et al., section 2.5)


class PairObjective(nn.Module):
    """A loss over pairs of embeddings with a learnable scale of their cosines; subclasses define `forward`.

    Args:
        temperature: 1 / scale at the start.
    """

    def __init__(self, temperature: float) -> None:
        super().__init__()
        check_temperature(temperature)
        if temperature * MAX_SCALE < 1:
            raise ValueError(f"temperature must be at least {1 / MAX_SCALE:g}, where it is clamped, got {temperature}")
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    def forward(self, a: Tensor, b: Tensor, ids: Tensor | None = None) -> Tensor:
        """A scalar in float32, the mean over this rank's pairs of a loss that sees the pairs of all ranks.

        Args:
            a: ``(B, D)``, the one side of each pair; need not be normalised.
            b: ``(B, D)``, the other.
            ids: ``(B, 2)`` integers, on all ranks or on none: the number of each a and of each b among all there are.
                Pairs that agree in either are positives of each other.
        """
        raise NotImplementedError

    @torch.no_grad()
    def after_step(self, progress: float, skipped: Tensor) -> None:
        """Clamp the scale; see `mmssl.core.types.Method.after_step`."""
        clamped = self.log_scale.clamp(max=math.log(MAX_SCALE))
        self.log_scale.copy_(torch.where(skipped, self.log_scale, clamped))

    def collapse_loss(self, batch: int) -> Tensor:
        """The least value that the loss of the last `forward` could have if all embeddings were the same; 0-dim.

        Args:
            batch: pairs over all ranks.
        """
        raise NotImplementedError

    def health(self) -> dict[str, Tensor]:
        """The scale, detached."""
        return {"scale": self.log_scale.detach().exp()}


def check_pairs(a: Tensor, b: Tensor, ids: Tensor | None, *, name: str) -> None:
    check_views([a, b], name=name)
    check_batch(len(a), name=name, why="which leaves nothing to tell it from")
    if ids is not None and ids.shape != (len(a), 2):
        raise ValueError(f"{name} needs ids of shape ({len(a)}, 2), two for each pair, got {tuple(ids.shape)}")


class Positives:
    """Which of all pairs are positives of each other; nothing asks the device for a size.

    Args:
        a: ``(B, D)`` of this rank.
        ids: see `PairObjective.forward`; with None every pair is its own only positive.
    """

    def __init__(self, a: Tensor, ids: Tensor | None) -> None:
        self.groups: list[tuple[Tensor, int]] = []
        if ids is not None:
            of_a, of_b = (_number(column) for column in gather(ids).T.contiguous())
            both = _number(of_a * len(of_a) + of_b)
            self.groups = [(of_a, 1), (of_b, 1), (both, -1)]  # who shares both was counted twice
        self.counts = self.total(a.new_ones(len(a) * world_size(), 1))  # (N, 1)

    def total(self, x: Tensor) -> Tensor:
        """For each pair the sum over its positives: ``(N, D)`` to ``(N, D)``."""
        if not self.groups:
            return x
        out = torch.zeros_like(x)
        for number, sign in self.groups:
            out.add_(torch.zeros_like(x).index_add_(0, number, x)[number], alpha=sign)
        return out


def _number(ids: Tensor) -> Tensor:
    """The same numbers for the same ids ``(N,)``, below N."""
    return torch.searchsorted(ids.sort().values, ids)


SIDE = 512  # of a tile, on a CPU: 1 MiB of similarities stay in its cache
SIDE_ON_GPU = 4096  # 64 MiB, so that few kernels have much to do


def own_rows(pairs: int) -> slice:
    """Where this rank's pairs lie among those of all ranks."""
    return slice(rank() * pairs, (rank() + 1) * pairs)


def tiles(own: slice, n: int, device: torch.device) -> Iterator[tuple[slice, slice, bool, bool]]:
    """Cut the n × n similarities of all a with all b into tiles, and give those that this rank has a part in.

    A rank needs the rows of its a and the columns of its b: with both it knows the gradients of its own embeddings, and
    ranks exchange embeddings but no gradients.

    Yields:
        Rows, columns, whether the rows are this rank's, and whether the columns are.
    """
    side = SIDE if device.type == "cpu" else SIDE_ON_GPU
    parts = ((0, own.start, False), (own.start, own.stop, True), (own.stop, n, False))
    cuts = [(slice(k, min(k + side, stop)), mine) for start, stop, mine in parts for k in range(start, stop, side)]
    for i, of_rows in cuts:
        for j, of_columns in cuts:
            if of_rows or of_columns:
                yield i, j, of_rows, of_columns
