"""VIME: tell which cells of a row were replaced, and by what they were (Yoon et al., NeurIPS 2020).

Self-supervised stage: cells are replaced, each with probability p, by the same column's cells of other rows. From the
corrupted row, two heads on the encoder estimate which cells differ (binary cross-entropy) and the original row (squared
error); loss = mask + α · features. Semi-supervised stage: a predictor on the frozen encoder is fitted to labels, and to
agree with itself on several corruptions of unlabelled rows.

Differs from the authors' code in
- corruption: drawn anew for every batch; theirs is drawn once for the whole table (the recipe's
  ``method.reference=authors``);
- categories: they are columns with a cross-entropy each, where the authors corrupt single places of a one-hot vector;
- numbers: standardised and estimated without a sigmoid, where the authors scale them to [0, 1];
- missing cells, which are neither replaced nor scored. An unseen category is no target;
- width of the encoder: that of the input, which has an indicator beside each number, but 1,024 at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmssl.core.distributed import gather, world_size
from mmssl.core.heads import mlp
from mmssl.core.types import Encoder
from mmssl.tabular.augment import permuted, swap_masked
from mmssl.tabular.cells import FlatCells

RATE = 0.3
WIDEST = 1024  # encoder by default; that of a column of 10,000 categories would have 100 million weights


def default_width(cardinalities: Sequence[int]) -> int:
    """Width of the encoder for columns of these cardinalities: that of its input, `WIDEST` at most."""
    return min(FlatCells(cardinalities).dim, WIDEST)


def corrupt(x: Tensor, rate: float = RATE) -> Tensor:
    """Rows ``(B, M)`` with each cell replaced, with probability ``rate``, by another observed one of its column."""
    return swap_masked(x, permuted(x), rate)


class VIME(nn.Module):
    """The self-supervised stage, ready for `mmssl.train.fit`; the paper's values are the defaults.

    A batch is rows ``(B, M)``, or a pair of rows and their corruption where that is fixed.

    Args:
        encoder: what is pretrained; an `mmssl.tabular.encoder.MLP` of depth 1, as wide as its input, in the paper.
        cardinalities: for each column the size of its vocabulary, 0 for a numeric one.
        rate: probability with which a cell is replaced.
        alpha: weight of the features' loss.
    """

    columns: Tensor
    places: Tensor

    def __init__(
        self, encoder: Encoder, cardinalities: Sequence[int], *, rate: float = RATE, alpha: float = 2.0
    ) -> None:
        super().__init__()
        if not 0 < rate < 1:
            raise ValueError(f"rate must lie between 0 and 1, got {rate}")
        assert isinstance(encoder, nn.Module)
        self.encoder = encoder
        self.rate, self.alpha = rate, alpha
        numeric = [j for j, k in enumerate(cardinalities) if k == 0]
        categorical = [j for j, k in enumerate(cardinalities) if k > 0]
        sizes = [cardinalities[j] for j in categorical]
        self.numbers = len(numeric)
        self.register_buffer("columns", torch.tensor(numeric + categorical), persistent=False)
        # where the K logits of each categorical column stand; places beyond K point at a logit of -inf
        starts = torch.tensor([sum(sizes[:i]) for i in range(len(sizes))], dtype=torch.int64)
        place = torch.arange(max(sizes, default=0)).expand(len(sizes), -1)
        size = torch.tensor(sizes, dtype=torch.int64)[:, None]
        self.register_buffer("places", torch.where(place < size, starts[:, None] + place, sum(sizes)), persistent=False)
        self.mask_head = nn.Linear(encoder.dim, len(cardinalities))
        self.feature_head = nn.Linear(encoder.dim, len(numeric) + sum(sizes))

    def forward(self, batch: Any) -> dict[str, Tensor]:
        x, corrupted = batch if isinstance(batch, tuple | list) else (batch, corrupt(batch, self.rate))
        h = self.encoder(corrupted)
        mask_logits, estimate = self.mask_head(h), self.feature_head(h)
        with torch.autocast(h.device.type, enabled=False):
            mask_loss = self.mask_loss(mask_logits.float(), x, corrupted)
            feature_loss = self.feature_loss(estimate.float(), x)
            loss = mask_loss + self.alpha * feature_loss
        return {"loss": loss, "mask_loss": mask_loss.detach(), "feature_loss": feature_loss.detach()}

    def mask_loss(self, logits: Tensor, x: Tensor, corrupted: Tensor) -> Tensor:
        """Cross-entropy of which cells differ: one that was replaced by the same value was not corrupted."""
        differs = (x != corrupted).to(logits.dtype)
        return _mean(F.binary_cross_entropy_with_logits(logits, differs, reduction="none"), ~x.isnan())

    def feature_loss(self, estimate: Tensor, x: Tensor) -> Tensor:
        """Mean over cells of the squared error of numbers and the cross-entropy of categories.

        Args:
            estimate: ``(B, n + ΣK)``: the numeric columns, then the logits of the categorical ones.
            x: ``(B, M)``.
        """
        numbers, logits = estimate.tensor_split([self.numbers], dim=1)
        target = x[:, self.columns]  # (B, M), numeric columns first
        known = ~target.isnan()
        known[:, self.numbers :] &= target[:, self.numbers :] > 0
        target = target.masked_fill(~known, 0.0)
        error = (numbers - target[:, : self.numbers]).square()
        padded = F.pad(logits, (0, 1), value=-torch.inf)[:, self.places]  # (B, C, K)
        code = (target[:, self.numbers :] - 1).clamp(min=0).long()
        surprise = padded.logsumexp(dim=-1) - padded.gather(-1, code[..., None])[..., 0]
        return _mean(torch.cat([error, surprise], dim=1), known)

    def after_step(self, progress: float, skipped: Tensor) -> None:
        """Nothing follows the weights."""

    def export(self) -> nn.Module:
        return self.encoder


class VIMESemi(nn.Module):
    """The semi-supervised stage: a predictor on a frozen encoder; the paper's values are the defaults.

    A batch is labelled rows ``(B, M)``, their targets (class codes ``(B,)`` int64, or numbers ``(B,)`` for a
    regression), and unlabelled rows ``(U, M)``.

    Args:
        encoder: pretrained; it stays as it is.
        outputs: number of classes, or None for a regression.
        hidden: width of the predictor's two layers.
        rate: probability with which a cell is replaced.
        corruptions: K, of each unlabelled row.
        beta: weight of the variance of the predictions over them.
    """

    def __init__(
        self,
        encoder: Encoder,
        outputs: int | None,
        *,
        hidden: int = 100,
        rate: float = RATE,
        corruptions: int = 3,
        beta: float = 1.0,
    ) -> None:
        super().__init__()
        if corruptions < 2:
            raise ValueError(f"a variance needs at least 2 corruptions, got {corruptions}")
        assert isinstance(encoder, nn.Module)
        self.encoder = encoder.requires_grad_(False).eval()
        self.predictor = mlp([encoder.dim, hidden, hidden, outputs or 1], norm=False)
        self.regression = outputs is None
        self.rate, self.corruptions, self.beta = rate, corruptions, beta

    def train(self, mode: bool = True) -> VIMESemi:
        """The encoder stays in evaluation mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, batch: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
        x, y, unlabelled = batch
        views = torch.cat([corrupt(unlabelled, self.rate) for _ in range(self.corruptions)])
        outputs = self.predict(torch.cat([x, views])).float()
        supervised = self.supervised(outputs[: len(x)], y)
        predictions = outputs[len(x) :].unflatten(0, (self.corruptions, -1))  # (K, U, outputs)
        consistency = predictions.var(dim=0, unbiased=False).mean()
        loss = supervised + self.beta * consistency
        return {"loss": loss, "supervised_loss": supervised.detach(), "consistency_loss": consistency.detach()}

    def supervised(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy, or the squared error of a regression, of outputs ``(B, outputs)``."""
        return F.mse_loss(outputs[:, 0], y.float()) if self.regression else F.cross_entropy(outputs, y)

    def predict(self, x: Tensor) -> Tensor:
        """Logits ``(B, outputs)``, or the estimates ``(B, 1)`` of a regression."""
        with torch.no_grad():
            h = self.encoder(x)
        return self.predictor(h)

    def after_step(self, progress: float, skipped: Tensor) -> None:
        """Nothing follows the weights."""

    def export(self) -> nn.Module:
        return self.encoder


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    """This rank's part of the mean over the counted values of all ranks."""
    total = torch.where(counted, values, 0.0).sum()
    everywhere = gather(counted.sum()[None]).sum().clamp(min=1)
    return total * world_size() / everywhere
