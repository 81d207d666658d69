"""wav2vec 2.0: tell the quantised features of a hidden frame from those of others (Baevski et al., 2006.11477).

Spans of frames are masked; of each the encoder predicts, from what it sees around it, which of a few code vectors its
own features choose. Code vectors of other masked frames of the same clip are the wrong answers. What a code stands for
is learnt along with it.

Differs from the authors' code:
- cosines of all pairs of masked frames come from one product, and those of the drawn negatives are picked out of it;
  the authors gather 100 vectors for each frame. The loss is the same;
- clips in a batch may differ in length, and none is cut; see `mmssl.audio.spans` for the masks;
- the Gumbel temperature follows the share of the training that is done, not the number of the step. It ends where the
  authors' does after 400,000;
- features are not dropped out on their way to the quantizer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmssl.audio.masked_frames import FrameMasking, mean_over_ranks
from mmssl.audio.spans import masked_count, masked_frames
from mmssl.audio.wav2vec2_encoder import Wav2Vec2Encoder, init_linear
from mmssl.core.distributed import gather
from mmssl.core.types import Augmentation

COOLED = math.log(0.25) / math.log(0.999995) / 400_000  # share of the authors' training after which it stays at .5


class Wav2Vec2(nn.Module):
    """The method; batches are waveforms ``(B, samples)``, NaN after the end of a clip.

    Args:
        encoder: what is pretrained.
        probability, span: of the masks; see `mmssl.audio.spans.span_masks`.
        groups, entries: code vectors are made of one of ``entries`` parts from each of ``groups``.
        code_dim: of a code vector.
        dim: in which predictions and codes are compared.
        negatives: K, drawn for each masked frame from the others of its clip, the same one perhaps more than once.
        temperature: of the softmax over cosines.
        diversity: weight of the part of the loss that wants all entries used.
        feature_penalty: weight of the mean square of the features.
        gumbel: temperature of the choice of codes at the start and at the end.
        augment: a batch to what the encoder takes.
    """

    def __init__(
        self,
        encoder: Wav2Vec2Encoder,
        *,
        probability: float = 0.65,
        span: int = 10,
        groups: int = 2,
        entries: int = 320,
        code_dim: int = 256,
        dim: int = 256,
        negatives: int = 100,
        temperature: float = 0.1,
        diversity: float = 0.1,
        feature_penalty: float = 10.0,
        gumbel: tuple[float, float] = (2.0, 0.5),
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__()
        if negatives < 1:
            raise ValueError(f"negatives must be at least 1, got {negatives}")
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        self.encoder = encoder
        self.augment = augment
        self.masking = FrameMasking(encoder.token_dim, probability=probability, span=span)
        self.quantizer = GumbelQuantizer(
            encoder.feature_dim, groups=groups, entries=entries, dim=code_dim, temperature=gumbel[0]
        )
        self.predict = init_linear(nn.Linear(encoder.token_dim, dim))
        self.project_codes = init_linear(nn.Linear(code_dim, dim))
        self.negatives = negatives
        self.temperature = temperature
        self.diversity = diversity
        self.feature_penalty = feature_penalty
        self.gumbel = gumbel

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        x = batch if self.augment is None else self.augment(batch)
        frames = self.masking(self.encoder, x)
        masking = self.masking
        most = masked_count(frames.mask.shape[1], probability=masking.probability, span=masking.span)
        index, valid = masked_frames(frames.mask, most)  # (B, M)
        codes = self.quantizer(_take(frames.features, index), valid)
        drawn = draw_negatives(valid, self.negatives)  # (B, M, K)
        predictions = self.predict(_take(frames.context, index))
        contrast = contrastive_loss(
            predictions, self.project_codes(codes.vectors), codes.names, drawn, self.temperature
        )
        size = self.quantizer.groups * self.quantizer.entries
        extra = self.diversity * (size - codes.perplexity) / size + self.feature_penalty * frames.energy
        own = torch.arange(drawn.shape[1], device=drawn.device)[:, None]
        return {
            "loss": mean_over_ranks(contrast.loss, valid) + extra,
            "collapse_loss": (mean_over_ranks(contrast.even, valid) + extra).detach(),
            "accuracy": mean_over_ranks(contrast.found.float(), valid),
            "code_perplexity": codes.used.detach(),
            "code_use": (codes.used.detach() - self.quantizer.groups) / max(size - self.quantizer.groups, 1),
            "feature_energy": frames.energy.detach(),
            "mask_share": frames.share,
            "positives_among_negatives": (drawn == own).float().mean(),
        }

    def after_step(self, progress: float, skipped: Tensor) -> None:
        first, last = self.gumbel
        self.quantizer.temperature.fill_(first * (last / first) ** min(progress / COOLED, 1.0))

    def export(self) -> nn.Module:
        return self.encoder


def _take(x: Tensor, index: Tensor) -> Tensor:
    """``(B, N, D)`` and ``(B, M)`` to ``(B, M, D)``."""
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[-1]))


@dataclass(frozen=True, eq=False)
class Codes:
    """What a quantizer makes of a batch of frames.

    Args:
        vectors: ``(B, M, code_dim)``.
        names: ``(B, M)`` int64, equal where the vectors are.
        perplexity: of the mean distribution over entries, summed over the groups; from 1 a group to G · V.
        used: the same of the choices that were made.
    """

    vectors: Tensor
    names: Tensor
    perplexity: Tensor
    used: Tensor


class GumbelQuantizer(nn.Module):
    """Product quantisation that is learnt: of every group one entry, by a hard Gumbel softmax (Jang et al., ICLR 2017).

    The gradient is that of the soft choice. In evaluation the entry with the largest logit is taken.

    Args:
        features: C, of the input.
        groups: G.
        entries: V, of each group.
        dim: of a code vector, a multiple of G.
        temperature: τ of the Gumbel softmax.
    """

    temperature: Tensor

    def __init__(self, features: int, *, groups: int, entries: int, dim: int, temperature: float) -> None:
        super().__init__()
        if dim % groups:
            raise ValueError(f"the size of a code must be a multiple of groups={groups}, got {dim}")
        if entries < 2:
            raise ValueError(f"entries must be at least 2, got {entries}")
        self.groups = groups
        self.entries = entries
        self.logits = nn.Linear(features, groups * entries)
        nn.init.normal_(self.logits.weight)
        nn.init.zeros_(self.logits.bias)
        self.codebook = nn.Parameter(torch.rand(groups, entries, dim // groups))
        self.register_buffer("temperature", torch.tensor(temperature))

    def forward(self, x: Tensor, valid: Tensor) -> Codes:
        """``(B, M, C)``, of which those ``valid``, ``(B, M)``, make up the perplexities."""
        with torch.autocast(x.device.type, enabled=False):
            logits = self.logits(x.float()).unflatten(-1, (self.groups, self.entries))  # (B, M, G, V)
            soft = logits
            if self.training:
                gumbel = -torch.empty_like(logits).exponential_().log()
                soft = ((logits + gumbel) / self.temperature).softmax(dim=-1)
            chosen = soft.argmax(dim=-1)  # (B, M, G)
            hard = torch.zeros_like(logits).scatter_(-1, chosen[..., None], 1.0)
            choice = hard + (soft - soft.detach()) if self.training else hard
            vectors = torch.einsum("bmgv,gvd->bmgd", choice, self.codebook).flatten(2)
            digits = self.entries ** torch.arange(self.groups, device=x.device)
            perplexity = _perplexity(logits.softmax(dim=-1), valid)
            return Codes(vectors, (chosen * digits).sum(dim=-1), perplexity, _perplexity(hard, valid))


def _perplexity(probabilities: Tensor, valid: Tensor) -> Tensor:
    """Of the mean over valid frames of all ranks: ``(B, M, G, V)`` to the sum over groups."""
    total = torch.einsum("bmgv,bm->gv", probabilities, valid.to(probabilities.dtype))
    count = gather(valid.sum()[None].float()).sum().clamp(min=1)
    mean = gather(total[None]).sum(dim=0) / count  # (G, V)
    return torch.exp(-torch.special.xlogy(mean, mean).sum(dim=-1)).sum()


def draw_negatives(valid: Tensor, negatives: int) -> Tensor:
    """For each masked frame K others of the same clip, with replacement: ``(B, M)`` to positions ``(B, M, K)``.

    Args:
        valid: bool, True at the masked frames of each clip, which come first.
        negatives: K.
    """
    batch, most = valid.shape
    others = (valid.sum(dim=1) - 1).clamp(min=0)[:, None, None]
    drawn = (torch.rand(batch, most, negatives, device=valid.device) * others).long()
    return drawn + (drawn >= torch.arange(most, device=valid.device)[:, None])


@dataclass(frozen=True, eq=False)
class Contrast:
    """The contrastive loss of each masked frame, ``(B, M)`` float32.

    Args:
        loss: cross-entropy of the right code among the negatives.
        even: what it would be if all cosines were equal.
        found: is the right one nearest?
    """

    loss: Tensor
    even: Tensor
    found: Tensor


def contrastive_loss(
    predictions: Tensor, codes: Tensor, names: Tensor, negatives: Tensor, temperature: float = 0.1
) -> Contrast:
    """Cross-entropy over cosines / temperature of each frame's own code and of its negatives (equation 3 of the paper).

    Negatives that are the same code as the positive do not count.

    Args:
        predictions, codes: ``(B, M, D)``.
        names: ``(B, M)``, equal where codes are.
        negatives: ``(B, M, K)``, positions in M.
        temperature: κ.
    """
    with torch.autocast(predictions.device.type, enabled=False):
        unit = F.normalize(codes.float(), dim=-1)
        cosines = F.normalize(predictions.float(), dim=-1) @ unit.mT / temperature  # (B, M, M)
        same = (names[:, :, None] == names[:, None]).gather(2, negatives)
        others = cosines.gather(2, negatives).masked_fill(same, -math.inf)
        positive = cosines.diagonal(dim1=1, dim2=2)
        logits = torch.cat([positive[..., None], others], dim=-1)
        loss = logits.logsumexp(dim=-1) - positive
        even = torch.log1p((~same).sum(dim=-1).float())
        return Contrast(loss, even, positive.detach() > others.detach().amax(dim=-1))
