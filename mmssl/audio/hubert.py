"""HuBERT: predict the cluster of a hidden frame from what is around it (Hsu et al., 2021, arXiv 2106.07447).

Clusters are those of MFCC in a first iteration, then those of a layer of the encoder that this one has trained
(`mmssl.audio.units`); each iteration trains a new encoder. Masked frames make up the loss. Frames that are seen may,
too, as with an α below 1 in the paper, which teaches convolutions faster.

Differs from the authors' code in that clips of a batch may differ in length, see `mmssl.audio.spans`, and units need
not have the frame rate of the encoder.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmssl.audio.masked_frames import FrameMasking, mean_over_ranks
from mmssl.audio.wav2vec2_encoder import Wav2Vec2Encoder, init_linear
from mmssl.core.distributed import gather
from mmssl.core.types import Augmentation


class HuBERT(nn.Module):
    """The method; batches are waveforms ``(B, samples)``, NaN after the end, and the units of frames ``(B, N)`` int64.

    Args:
        encoder: what is pretrained.
        clusters: K, from which units are.
        probability, span: of the masks; see `mmssl.audio.spans.span_masks`.
        dim: in which frames and units are compared.
        temperature: of the softmax over cosines.
        seen: weight of the loss of frames that are not masked, beside 1 of masked ones; 0 in the paper's own models.
        feature_penalty: weight of the mean square of the features.
        augment: a batch of waveforms to what the encoder takes.
    """

    def __init__(
        self,
        encoder: Wav2Vec2Encoder,
        clusters: int,
        *,
        probability: float = 0.8,
        span: int = 10,
        dim: int = 256,
        temperature: float = 0.1,
        seen: float = 0.0,
        feature_penalty: float = 10.0,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__()
        if clusters < 2:
            raise ValueError(f"one cluster is no task: clusters must be at least 2, got {clusters}")
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        self.encoder = encoder
        self.augment = augment
        self.masking = FrameMasking(encoder.token_dim, probability=probability, span=span)
        self.predict = init_linear(nn.Linear(encoder.token_dim, dim))
        self.embeddings = nn.Parameter(torch.rand(clusters, dim))
        self.temperature = temperature
        self.seen = seen
        self.feature_penalty = feature_penalty

    def forward(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        x, units = batch
        frames = self.masking(self.encoder, x if self.augment is None else self.augment(x))
        with torch.autocast(x.device.type, enabled=False):
            prediction = F.normalize(self.predict(frames.context.float()), dim=-1)
            logits = prediction @ F.normalize(self.embeddings.float(), dim=-1).T / self.temperature  # (B, N, K)
            losses = F.cross_entropy(logits.flatten(0, 1), units.flatten(), reduction="none").view_as(units)
        found = (logits.detach().argmax(dim=-1) == units).float()
        loss, extra = mean_over_ranks(losses, frames.mask), self.feature_penalty * frames.energy
        even = entropy = unit_entropy(units, frames.inside, len(self.embeddings))
        if self.seen:
            loss = loss + self.seen * mean_over_ranks(losses, frames.inside & ~frames.mask)
            even = (1 + self.seen) * entropy
        return {
            "loss": loss + extra,
            "collapse_loss": even + extra.detach(),
            "accuracy": mean_over_ranks(found, frames.mask),
            "unit_perplexity": entropy.exp(),
            "feature_energy": frames.energy.detach(),
            "mask_share": frames.share,
        }

    def after_step(self, progress: float, skipped: Tensor) -> None:
        """Nothing follows the weights."""

    def export(self) -> nn.Module:
        return self.encoder


def unit_entropy(units: Tensor, valid: Tensor, clusters: int) -> Tensor:
    """Of the units that are ``valid``, over all ranks, in nats: the loss of the best guess without looking."""
    count = torch.zeros(clusters, device=units.device).scatter_add_(0, units.flatten(), valid.flatten().float())
    count = gather(count[None]).sum(dim=0)
    share = count / count.sum().clamp(min=1)
    return -torch.special.xlogy(share, share).sum()
