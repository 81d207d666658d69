"""Two towers and one space: CLIP, SigLIP and locked-image tuning, for any two modalities.

CLIP (Radford et al., ICML 2021, arXiv 2103.00020) and SigLIP (Zhai et al., ICCV 2023, arXiv 2303.15343) differ in the
objective only. With a frozen tower it is LiT (Zhai et al., CVPR 2022, arXiv 2111.07991).

A contrastive loss needs the embeddings of the whole batch at once, but not what led to them. With ``chunks`` the
towers see a part of the batch at a time, keep nothing but its embeddings, and work the rest out again when the gradient
comes: the gradient caching of Gao et al. (RepL4NLP 2021, arXiv 2101.06983), by torch's checkpointing. Memory is that
of one chunk, time that of a second forward pass, the gradient that of the whole batch.

Differs from the papers:
- a frozen encoder still has a trained projection into the shared space, since its size need not be that of the space;
- batch normalisation normalises within a chunk, as it would with smaller batches; the gradient is then that of the
  chunks. Running statistics move once a chunk, and not again in the second pass.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmssl.core.distributed import world_size
from mmssl.core.objectives.alignment import PairObjective
from mmssl.core.objectives.inputs import unit


class Pairs(NamedTuple):
    """A batch of pairs.

    Args:
        first: what the first tower takes, ``(B, …)``.
        second: what the second takes.
        ids: ``(B, 2)`` integers, the numbers of both in the whole data. Pairs that agree in either are positives of
            each other, such as two images with one caption. None makes all other pairs negatives.
    """

    first: Any
    second: Any
    ids: Tensor | None = None


class Towers(nn.Module):
    """An encoder for each of two modalities, and the projections of both into a shared space; what is exported.

    Args:
        encoders: by the name of the modality, in the order of `Pairs`; each has a ``dim``.
        dim: D, of the shared space; 512 in CLIP's smallest model.
    """

    def __init__(self, encoders: Mapping[str, nn.Module], *, dim: int) -> None:
        super().__init__()
        if len(encoders) != 2:
            raise ValueError(f"a pair has two towers, got {len(encoders)}: {', '.join(encoders)}")
        if dim < 1:
            raise ValueError(f"dim must be at least 1, got {dim}")
        self.dim = dim
        self.encoders = nn.ModuleDict(encoders)
        self.projections = nn.ModuleDict()
        for name, encoder in encoders.items():
            width = cast(int, encoder.dim)
            self.projections[name] = nn.Linear(width, dim, bias=False)
            nn.init.normal_(cast(Tensor, self.projections[name].weight), std=width**-0.5)  # as CLIP

    def forward(self, x: Any) -> Tensor:
        """The embedding of the first modality, which makes this an `Encoder` of it."""
        return self.embed(next(iter(self.encoders)), x)

    def embed(self, name: str, x: Any) -> Tensor:
        """``(B, D)`` of length 1, in float32.

        Args:
            name: of the modality.
            x: ``(B, …)`` of it.
        """
        return unit(self.projections[name](self.encoders[name](x)))


class Alignment(nn.Module):
    """The method; a batch is `Pairs`, or a plain tuple of the same.

    Args:
        towers: what is trained.
        objective: `CLIP` or `SigLIP`.
        augment: a batch to a batch, such as ``lambda pairs: pairs._replace(first=views(pairs.first))``.
        chunks: parts in which the towers see a rank's batch.
        frozen: names of the towers whose encoder is not trained: it stays in evaluation mode, gets no gradient, and has
            no state in the optimiser.
    """

    def __init__(
        self,
        towers: Towers,
        objective: PairObjective,
        *,
        augment: Callable[[Pairs], Pairs] | None = None,
        chunks: int = 1,
        frozen: Collection[str] = (),
    ) -> None:
        super().__init__()
        if chunks < 1:
            raise ValueError(f"chunks must be at least 1, got {chunks}")
        if unknown := set(frozen) - set(towers.encoders):
            raise ValueError(f"frozen names towers: {', '.join(towers.encoders)}, got {', '.join(sorted(unknown))}")
        self.towers = towers
        self.objective = objective
        self.augment = augment
        self.chunks = chunks
        self.frozen = tuple(frozen)
        for name in self.frozen:
            towers.encoders[name].requires_grad_(False)
        self.train()

    @property
    def encoder(self) -> Towers:
        return self.towers

    def forward(self, batch: Any) -> dict[str, Tensor]:
        pairs = Pairs(*batch)
        if self.augment is not None:
            with torch.no_grad():
                pairs = self.augment(pairs)
        a, b = (self._embed(name, x) for name, x in zip(self.towers.encoders, pairs[:2], strict=True))  # (B, D)
        out = {"loss": self.objective(a, b, pairs.ids), **self.objective.health()}
        out["collapse_loss"] = self.objective.collapse_loss(len(a) * world_size())
        return out

    def after_step(self, progress: float, skipped: Tensor) -> None:
        self.objective.after_step(progress, skipped)

    def export(self) -> nn.Module:
        """Both towers."""
        return self.towers

    def train(self, mode: bool = True) -> Alignment:
        """Frozen encoders stay in evaluation mode."""
        super().train(mode)
        for name in self.frozen:
            self.towers.encoders[name].eval()
        return self

    def _embed(self, name: str, x: Any) -> Tensor:
        embed: Callable[..., Tensor] = self.towers.embed
        if self.chunks == 1:
            return embed(name, x)
        if name not in self.frozen:  # whose activations nobody keeps anyway
            again = partial(_without_statistics, self.towers.encoders[name])
            embed = partial(checkpoint, embed, use_reentrant=False, context_fn=lambda: (nullcontext(), again()))
        return torch.cat([embed(name, part) for part in x.chunk(self.chunks)])


@contextmanager
def _without_statistics(module: nn.Module) -> Iterator[None]:
    """Batch normalisation goes by the batch but leaves its running statistics alone."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._NormBase) and m.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    counts = [cast(Tensor, norm.num_batches_tracked).clone() for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, count in zip(norms, momenta, counts, strict=True):
            norm.momentum = momentum
            cast(Tensor, norm.num_batches_tracked).copy_(count)
