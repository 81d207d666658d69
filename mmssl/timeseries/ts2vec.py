"""TS2Vec: contextual consistency of overlapping crops, at every time scale (Yue et al., AAAI 2022, arXiv 2106.10466).

Two overlapping segments of each series are encoded with independent timestamp masks; the representations of the shared
timestamps are contrasted with other timestamps of the same series and with other series at the same timestamp, then
max-pooled by two and contrasted again, up to a single vector.

Differs from the paper and the authors' code:
- padding of unequal series takes no part in the loss (the authors contrast padding too);
- across ranks the instance term sees the whole batch, and all ranks cut the same segments;
- similarities are never held whole: a temporal term over 3000 steps takes megabytes, not gigabytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmssl.core.distributed import gather, rank, world_size
from mmssl.core.ema import AveragedModel
from mmssl.core.objectives.contrastive import weighted_logsumexp
from mmssl.timeseries.encoder import DilatedConvEncoder, present


class TS2Vec(nn.Module):
    """The method, ready for `mmssl.train.fit`: batches are series ``(B, T, C)`` with NaN for what is missing.

    Args:
        encoder: gives a representation for every timestamp.
        temporal_unit: finest level at which timestamps are contrasted: 2^temporal_unit steps. Larger values save time
            on very long series.
        mask_rate: probability that a timestamp is hidden, drawn apart for both segments.
        max_length: longest stretch of a series that is cut from it for a step (3000 in the paper); None for all of it.
        crop_multiple: round segment lengths to multiples of this many steps; larger than 1 keeps the number of
            different shapes small for `torch.compile` and CUDA graphs. 1 in the paper.
        seed: of the segments; must be the same on all ranks.
    """

    def __init__(
        self,
        encoder: DilatedConvEncoder,
        *,
        temporal_unit: int = 0,
        mask_rate: float = 0.5,
        max_length: int | None = 3000,
        crop_multiple: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0 <= mask_rate < 1:
            raise ValueError(f"mask_rate must lie in [0, 1), got {mask_rate}")
        if crop_multiple < 1:
            raise ValueError(f"crop_multiple must be at least 1 step, got {crop_multiple}")
        self.encoder = encoder
        self.averaged = AveragedModel(encoder)
        self.temporal_unit = temporal_unit
        self.mask_rate = mask_rate
        self.max_length = max_length
        self.crop_multiple = crop_multiple
        self.encode_shared = encoder.shared_timestamps  # compiled, if somebody asks for it
        self.generator = torch.Generator().manual_seed(seed)  # on the CPU: segment lengths are shapes

    @property
    def min_length(self) -> int:
        """Shortest series that two overlapping segments can be cut from."""
        return 2 ** (self.temporal_unit + 1)

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        x = batch  # (B, T, C)
        if self.max_length is not None and x.shape[1] > self.max_length:
            start = self._integer(0, x.shape[1] - self.max_length + 1)
            x = x[:, start : start + self.max_length]
        crops = self.draw_crops(len(x), x.shape[1])
        first, second = crops.cut(x)
        z = self.encode_shared(
            [first, second],
            [self.draw_mask(first), self.draw_mask(second)],
            [slice(crops.left - crops.first, crops.right - crops.first), slice(0, crops.length)],
        )  # (B, 2, L, D)
        valid = present(second)
        if valid is not None:
            valid = valid[:, : crops.length]
        return {
            "loss": hierarchical_contrastive_loss(z, valid, temporal_unit=self.temporal_unit),
            "collapse_loss": torch.tensor(
                collapse_loss(len(x) * world_size(), crops.length, temporal_unit=self.temporal_unit)
            ),
        }

    def after_step(self, progress: float, skipped: Tensor) -> None:
        self.averaged.update(self.encoder, skipped)

    def export(self) -> nn.Module:
        """The encoder with averaged weights, which is the one that the paper evaluates."""
        return self.averaged.module

    def compile_encoder(self) -> None:
        """Compile the encoder's forward pass for training; `crop_multiple` keeps the number of shapes small."""
        self.encode_shared = torch.compile(self.encoder.shared_timestamps, dynamic=True)

    def draw_mask(self, x: Tensor) -> Tensor:
        """``(B, T)`` bool for series ``(B, T, C)``: True where a timestamp is shown."""
        return torch.rand(x.shape[:2], device=x.device) >= self.mask_rate

    def draw_crops(self, batch: int, steps: int) -> Crops:
        """Two overlapping segments of series with ``steps`` timestamps; their overlap has one length for the batch.

        Every rank draws for the whole batch and keeps its own part, so that lengths agree across ranks.
        """
        if steps < self.min_length:
            raise ValueError(
                f"series have {steps} timestamps, temporal_unit={self.temporal_unit} needs at least {self.min_length}"
            )
        unit = self.crop_multiple if steps >= 2 * self.crop_multiple else 1
        length = self._multiple(self.min_length, steps, unit)
        left = self._integer(0, steps - length + 1)
        right = left + length
        first = left - self._multiple(0, left, unit)
        last = right + self._multiple(0, steps - right, unit)
        offsets = torch.randint(-first, steps - last + 1, (batch * world_size(),), generator=self.generator)
        offset = offsets[rank() * batch : (rank() + 1) * batch]
        return Crops(first=first, left=left, right=right, last=last, offset=offset)

    def get_extra_state(self) -> Tensor:
        """State of the segments' generator, so that a resumed run cuts what the uninterrupted one would have."""
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        self.generator.set_state(state.cpu())

    def _integer(self, low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=self.generator))

    def _multiple(self, low: int, high: int, unit: int) -> int:
        """A number in [low, high], and a multiple of ``unit`` if there is one."""
        if unit == 1 or high // unit * unit < low:
            return self._integer(low, high + 1)
        return unit * self._integer(-(-low // unit), high // unit + 1)


@dataclass(frozen=True)
class Crops:
    """Segments [first, right) and [left, last), which share [left, right); each series is moved by its own offset."""

    first: int
    left: int
    right: int
    last: int
    offset: Tensor  # (B,) int64 on the CPU

    @property
    def length(self) -> int:
        return self.right - self.left

    def cut(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, T, C)`` to both segments, ``(B, right - first, C)`` and ``(B, last - left, C)``."""
        offset = self.offset.to(x.device, non_blocking=True)[:, None]
        return self._take(x, self.first, self.right, offset), self._take(x, self.left, self.last, offset)

    @staticmethod
    def _take(x: Tensor, start: int, stop: int, offset: Tensor) -> Tensor:
        steps = torch.arange(start, stop, device=x.device) + offset  # (B, stop - start)
        return x.gather(1, steps[..., None].expand(-1, -1, x.shape[-1]))


def hierarchical_contrastive_loss(
    z: Tensor, valid: Tensor | None = None, *, alpha: float = 0.5, temporal_unit: int = 0
) -> Tensor:
    """Instance and temporal contrast, averaged over all time scales (equations 1–3 and algorithm 1 of the paper).

    Instance: at each timestamp, the other segment of the same series against all other series. Temporal: in each
    series, the same timestamp of the other segment against all other timestamps of both. Dot products without
    normalisation or temperature. With several ranks every rank passes its own series and gets the loss of its own
    anchors against the series of all; the mean over ranks is the loss of the whole batch in one process.

    Args:
        z: ``(B, 2, T, D)`` representations of the shared timestamps in both segments.
        valid: ``(B, T)`` bool, False at padding, which is neither anchor nor positive nor negative; None for
            no padding.
        alpha: weight of the instance term.
        temporal_unit: number of finest levels without the temporal term.

    Returns:
        The loss, 0-dim float32.
    """
    with torch.autocast(z.device.type, enabled=False):
        local = len(z)
        z = gather(z.float())  # (N, 2, T, D), N series on all ranks
        if valid is None and world_size() > 1:  # another rank may have padding, and all must gather the same
            valid = z.new_ones(local, z.shape[2], dtype=torch.bool)
        valid = None if valid is None else gather(valid)
        own = slice(rank() * local, (rank() + 1) * local)
        return _HierarchicalContrast.apply(z, valid, own, alpha, temporal_unit)


class _HierarchicalContrast(torch.autograd.Function):
    """Value and gradient in one pass over the levels: the backward pass only has to scale."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, valid: Tensor | None, own: slice, alpha: float, unit: int) -> Tensor:
        loss = z.new_zeros(())
        levels: list[tuple[Tensor, Tensor]] = []  # of each level: gradient, and which of two timestamps was the larger
        while True:
            value, dz = _contrast(z, valid, own, alpha, alpha if len(levels) < unit or z.shape[2] == 1 else 1.0)
            loss += value
            if z.shape[2] == 1:
                break
            z, valid, first = _halve(z, valid)
            levels.append((dz, first))
        n_levels = len(levels) + 1
        for finer, first in reversed(levels):  # dz is the gradient of the level above
            even = 2 * first.shape[2]
            to_first = first.mul_(dz)
            finer[:, :, 0:even:2].add_(to_first)
            finer[:, :, 1:even:2].add_(dz.sub_(to_first))
            dz = finer
        ctx.save_for_backward(dz.div_(n_levels))
        return loss / n_levels

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        (dz,) = ctx.saved_tensors
        return dz * grad, None, None, None, None


def _contrast(z: Tensor, valid: Tensor | None, own: slice, alpha: float, total: float) -> tuple[Tensor, Tensor]:
    """One level: instance term with weight ``alpha``, temporal term with ``total - alpha``; anchors are series ``own``.

    Returns:
        The value and its gradient ``(N, 2, T, D)``.
    """
    n, _, steps, dim = z.shape
    if n == 1:  # nothing to be told apart from
        alpha, total = 0.0, total - alpha
    anchors = (own.stop - own.start) * steps  # pairs; a mean over segments, series and timestamps
    weight = z.new_full((1, 1), 0.5 / anchors)
    if valid is not None:  # so that the mean over ranks is the mean over all anchors, however unequal the padding
        weight = valid * (n / (own.stop - own.start)) / (2 * valid.sum()).clamp(min=1)
    both = None if valid is None else valid[:, None].expand(n, 2, steps)

    value = z.new_zeros(())
    dz: Tensor | None = None
    if total > alpha:
        group = z[own].reshape(-1, 2 * steps, dim)
        shown = None if both is None else both[own].reshape(-1, 2 * steps)
        w = weight if valid is None else weight[own].repeat(1, 2)
        part, grad = weighted_logsumexp(group, (total - alpha) * w, shown)
        value += part
        dz = grad.view(-1, 2, steps, dim)
    if dz is None or len(dz) < n:  # the temporal term says nothing of other ranks' series
        mine, dz = dz, torch.zeros_like(z)
        if mine is not None:
            dz[own] = mine
    if alpha > 0:
        group = z.reshape(2 * n, steps, dim).transpose(0, 1)  # (T, 2N, D), both segments of a series side by side
        shown = None if both is None else both.reshape(2 * n, steps).t()
        w = weight if valid is None else weight.repeat_interleave(2, dim=0).t()
        part, grad = weighted_logsumexp(group, alpha * w, shown, anchors=slice(2 * own.start, 2 * own.stop))
        value += part
        dz.view(2 * n, steps, dim).add_(grad.transpose(0, 1))
    first, second = z[own, 0], z[own, 1]
    pull = 2 * total * (weight if valid is None else weight[own, :, None])  # of a positive pair; both anchors have it
    value -= (pull * (first * second).sum(dim=-1, keepdim=True)).sum()
    dz[own, 0].addcmul_(pull, second, value=-1)
    dz[own, 1].addcmul_(pull, first, value=-1)
    return value, dz


def _halve(z: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor]:
    """Maximum over pairs of timestamps, an odd last one dropped.

    Returns:
        ``(N, 2, T // 2, D)``, its valid timestamps, and 1.0 where the first of a pair was the larger one, else 0.0.
    """
    even = z.shape[2] // 2 * 2
    a, b = z[:, :, 0:even:2], z[:, :, 1:even:2]
    if valid is None:
        return torch.maximum(a, b), None, torch.ge(a, b, out=z.new_empty(a.shape))
    valid_a, valid_b = valid[:, None, 0:even:2, None], valid[:, None, 1:even:2, None]
    first = valid_a & (~valid_b | (a >= b))
    kept = torch.where(first, a, b).masked_fill(~(valid_a | valid_b), 0.0)
    return kept, valid[:, 0:even:2] | valid[:, 1:even:2], first.to(z.dtype)


def collapse_loss(batch: int, steps: int, *, alpha: float = 0.5, temporal_unit: int = 0) -> float:
    """Value of the loss if all representations are the same vector: ln of the number of candidates, level by level."""
    levels, total = 0, 0.0
    while True:
        total += alpha * math.log(2 * batch - 1) if batch > 1 else 0.0
        if levels >= temporal_unit and steps > 1:
            total += (1 - alpha) * math.log(2 * steps - 1)
        levels += 1
        if steps == 1:
            return total / levels
        steps //= 2
