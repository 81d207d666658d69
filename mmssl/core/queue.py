"""A queue of features of earlier batches (He et al., MoCo, CVPR 2020, arXiv 1911.05722)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmssl.core.distributed import gather


class FeatureQueue(nn.Module):
    """The last ``size`` features; the same on all ranks, and in the checkpoint.

    It starts with random directions, as MoCo's; `filled` tells which have been replaced.

    Args:
        size: features that are kept.
        dim: of each.
    """

    features: Tensor
    total: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        if size < 1 or dim < 1:
            raise ValueError(f"size and dim of a queue must be at least 1, got {size} and {dim}")
        self.register_buffer("features", F.normalize(torch.randn(size, dim), dim=1))
        self.register_buffer("total", torch.zeros((), dtype=torch.int64))  # features ever enqueued

    def filled(self) -> Tensor:
        """``(size,)`` bool: True where a feature of a batch has taken the place of the random one."""
        return torch.arange(len(self.features), device=self.total.device) < self.total

    @torch.no_grad()
    def enqueue(self, x: Tensor, skipped: Tensor) -> None:
        """Put the features of all ranks into the place of the oldest ones, unless ``skipped`` (0-dim bool) is True.

        Args:
            x: ``(B, dim)``, those of this rank. Of more than ``size`` features over all ranks the last ones stay.
        """
        x = gather(x.to(self.features))
        size, n = len(self.features), len(x)
        place = (self.total + torch.arange(n, device=x.device))[-size:] % size
        kept = torch.where(skipped, self.features[place], x[-size:])
        self.features.index_copy_(0, place, kept)
        self.total += n * ~skipped
