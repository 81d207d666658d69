"""TS-TCC: temporal and contextual contrasting of a weak and a strong view (Eldele et al., IJCAI 2021, 2106.14112).

Convolutions make features over time. A transformer sums up the features of one view up to a random moment, and from
that summary the next features of the other view are predicted, to be told from those of other series; the summaries of
both views are contrasted as in SimCLR.

Differs from the paper and the authors' code:
- views are drawn afresh in every step, where the authors make them once before the training;
- both views go through the encoder together, so that batch normalisation sees them together;
- features that are padding are neither predicted nor candidates;
- across ranks, the candidates are those of all ranks;
- both directions of the temporal contrast start from the same moment;
- with ``reference=None``, the summary knows the order of the features through fixed positions, of which the authors
  have none; views are those of `WeakView` and `StrongView`; and a prediction is told from the true features of other
  series, as the paper's equation says.

With ``reference="paper"``, a step is the one of the authors' code: no positions, and blocks of attention as in
`PaperBlock`; their views (`PaperWeakView`, `PaperStrongView`); the softmax the other way round, so that a true feature
has to find its prediction among those of other series; each view by itself through batch normalisation; a moment of
its own for each direction. Still unlike theirs: views are drawn in every step, series are standardised, and where a
recipe says nothing else, AdamW with a cosine takes the place of Adam at a constant 3e-4 with 3e-4 of L2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmssl.core.distributed import gather, rank, world_size
from mmssl.core.heads import mlp
from mmssl.core.objectives.contrastive import LEFT_OUT
from mmssl.core.objectives.ntxent import nt_xent
from mmssl.core.transformer import Block, sincos_1d
from mmssl.timeseries.augment import SeriesViews, StrongView, WeakView
from mmssl.timeseries.encoders.tstcc import ConvEncoder
from mmssl.timeseries.tstcc_paper import PaperBlock, PaperStrongView, PaperWeakView

Reference = Literal["paper"] | None


class TSTCC(nn.Module):
    """The method, ready for `mmssl.train.fit`: batches are series ``(B, T, C)`` with NaN for what is missing.

    Args:
        encoder: what is pretrained.
        augment: a batch to its weak and its strong view; see `tstcc_views`.
        future: K, features that are predicted: 6 of 18 for human activity, 10 of 24 for epilepsy, 50 of 127 for sleep.
        width: of the summary; 64 for sleep.
        depth: transformer blocks of the summary.
        heads: of its attention.
        hidden: of its MLPs.
        temperature: of the contextual contrast.
        contextual: weight of the contextual contrast; that of the temporal ones is 1.
        reference: ``"paper"`` for what the authors ran, see above.
        seed: of the moments; must be the same on all ranks.
    """

    def __init__(
        self,
        encoder: ConvEncoder,
        augment: Callable[[Tensor], Sequence[Tensor]],
        *,
        future: int = 6,
        width: int = 100,
        depth: int = 4,
        heads: int = 4,
        hidden: int = 64,
        temperature: float = 0.2,
        contextual: float = 0.7,
        reference: Reference = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if future < 1:
            raise ValueError(f"future must be at least 1 feature, got {future}")
        check_reference(reference)
        self.encoder = encoder
        self.augment = augment
        self.summary = Summary(encoder.dim, width, depth, heads, hidden, reference=reference)
        self.predictor = nn.Linear(width, future * encoder.dim)
        self.projector = mlp([width, encoder.dim // 2, encoder.dim // 4])
        self.future = future
        self.temperature = temperature
        self.contextual = contextual
        self.reference = reference
        self.generator = torch.Generator().manual_seed(seed)  # on the CPU: the length of the past is a shape

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        (weak, valid_weak), (strong, valid_strong) = self.features(self.augment(batch))
        now = self.draw_moment(weak.shape[1])
        first, context = self.cross(weak, valid_weak, strong, valid_strong, now)
        if self.reference == "paper":
            now = self.draw_moment(weak.shape[1])
        second, other = self.cross(strong, valid_strong, weak, valid_weak, now)
        temporal = first + second
        contextual = nt_xent(*self.project(context, other), temperature=self.temperature)
        n = len(batch) * world_size()
        return {
            "loss": temporal + self.contextual * contextual,
            "temporal_loss": temporal.detach(),
            "contextual_loss": contextual.detach(),
            "collapse_loss": torch.tensor(2 * math.log(n) + self.contextual * math.log(2 * n - 1)),
        }

    def features(self, views: Sequence[Tensor]) -> list[tuple[Tensor, Tensor | None]]:
        """Of each view, normalised ``(B, T', D)``, and which are no padding ``(B, T')``."""
        if self.reference == "paper":
            both = [self.encoder.features(view) for view in views]
        else:
            h, valid = self.encoder.features(torch.cat(list(views)))
            both = list(zip(h.chunk(2), (None, None) if valid is None else valid.chunk(2), strict=True))
        return [(F.normalize(h, dim=-1), valid) for h, valid in both]

    def cross(
        self, seen: Tensor, valid: Tensor | None, other: Tensor, valid_other: Tensor | None, now: int
    ) -> tuple[Tensor, Tensor]:
        """The past of one view against the future of the other: `temporal_contrast`, and the summary ``(B, width)``.

        Args:
            seen: ``(B, T', D)``, the view whose past is summed up.
            valid: ``(B, T')`` bool, False at its padding; None for none.
            other: the view whose future is predicted.
            valid_other: likewise.
            now: the last feature of the past.
        """
        past, future = slice(0, now + 1), slice(now + 1, now + 1 + self.future)
        context = self.summary(seen[:, past], None if valid is None else valid[:, past])
        predicted = self.predictor(context).unflatten(1, (self.future, -1))  # (B, K, D)
        anchors, candidates = predicted, other[:, future]
        if self.reference == "paper":
            anchors, candidates = candidates, anchors
        return temporal_contrast(anchors, candidates, None if valid_other is None else valid_other[:, future]), context

    def project(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Summaries of both views to what the contextual contrast compares, ``(B, dim / 4)`` each."""
        if self.reference == "paper":
            return self.projector(first), self.projector(second)
        return self.projector(torch.cat([first, second])).chunk(2)

    def draw_moment(self, steps: int) -> int:
        """The last feature of the past, of so many in all."""
        if steps <= self.future:
            raise ValueError(
                f"series have {steps} features over time, and future={self.future} of them cannot be predicted: take a "
                "smaller future (method.future), or longer series (data.window)"
            )
        return int(torch.randint(steps - self.future, (), generator=self.generator))

    def get_extra_state(self) -> Tensor:
        """State of the moments' generator, so that a resumed run draws what the uninterrupted one would have."""
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        self.generator.set_state(state.cpu())

    def after_step(self, progress: float, skipped: Tensor) -> None:
        """Nothing follows the weights."""

    def export(self) -> nn.Module:
        return self.encoder


class Summary(nn.Module):
    """What a transformer makes of the past: ``(B, T, D)`` to ``(B, width)``, the output of a token of its own."""

    def __init__(self, dim: int, width: int, depth: int, heads: int, hidden: int, *, reference: Reference) -> None:
        super().__init__()
        self.embed = nn.Linear(dim, width)
        self.token = nn.Parameter(torch.randn(width))
        self.blocks = nn.ModuleList(
            PaperBlock(width, heads, hidden) if reference == "paper" else Block(width, heads, mlp_ratio=hidden / width)
            for _ in range(depth)
        )
        self.width = width
        self.positions = reference is None

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """``valid`` is ``(B, T)`` bool, False at padding."""
        h = self.embed(x)
        if self.positions:
            h = h + sincos_1d(h.shape[1], self.width).to(h.device, non_blocking=True)
        h = torch.cat([self.token.expand(len(h), 1, -1), h], dim=1)
        if valid is not None:
            valid = F.pad(valid, (1, 0), value=True)
        for block in self.blocks:
            h = block(h, valid)
        return h[:, 0]


def temporal_contrast(anchors: Tensor, candidates: Tensor, valid: Tensor | None = None) -> Tensor:
    """InfoNCE over the series of the batch, for each future feature on its own (equations 2 and 3 of the paper).

    Args:
        anchors: ``(B, K, D)``.
        candidates: ``(B, K, D)``, those of the same series are the positives; dot products, no temperature.
        valid: ``(B, K)`` bool, False where the true feature is padding, which takes no part.

    Returns:
        The mean over series and features, held against the candidates of all ranks; 0-dim float32.
    """
    with torch.autocast(anchors.device.type, enabled=False):
        anchors, everybody = anchors.float(), gather(candidates.float())
        logits = anchors.transpose(0, 1) @ everybody.permute(1, 2, 0)  # (K, B, N)
        target = torch.arange(len(anchors), device=anchors.device) + rank() * len(anchors)
        if valid is None:
            valid = torch.ones(anchors.shape[:2], dtype=torch.bool, device=anchors.device)
        shown = gather(valid)  # on every rank, as another one may have padding
        logits = logits.masked_fill(~shown.t()[:, None], LEFT_OUT)
        loss = F.cross_entropy(logits.flatten(0, 1), target.repeat(len(logits)), reduction="none")  # (K · B,)
        return (loss * valid.t().flatten()).sum() * world_size() / shown.sum().clamp(min=1)


def tstcc_views(
    *, scaling: float | None = None, jitter: float | None = None, max_segments: int = 8, reference: Reference = None
) -> SeriesViews:
    """The weak and the strong view.

    Args:
        scaling: of the weak view; None: 0.2, or 1.1 in the paper for human activity.
        jitter: of the strong view, a quarter of it in the weak one; None: 0.2, or 0.8 in the paper for human activity.
        max_segments: of the strong view.
        reference: ``"paper"`` for the views of the authors' code.
    """
    check_reference(reference)
    if reference == "paper":
        strong = PaperStrongView(max_segments, 0.8 if jitter is None else jitter)
        return SeriesViews(PaperWeakView(1.1 if scaling is None else scaling), strong)
    jitter = 0.2 if jitter is None else jitter
    return SeriesViews(WeakView(0.2 if scaling is None else scaling, jitter / 4), StrongView(max_segments, jitter))


def check_reference(reference: object) -> None:
    """Raise a ValueError unless it is one that there is."""
    if reference not in (None, "paper"):
        raise ValueError(f"reference must be None or 'paper', got {reference!r}")
