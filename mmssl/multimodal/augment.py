"""What a step sees of a pair: one view of the image, and a part of the caption's words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property

import torch
from torch import Tensor

from mmssl.core.methods.alignment import Pairs
from mmssl.text.tokenizer import PADDING, SPECIAL
from mmssl.vision.augment import RandomResizedCropFlip, Views, standardise
from mmssl.vision.steps import Pipeline


@dataclass(frozen=True)
class PairView(Views):
    """One view of each image, and its caption with some tokens left out.

    CLIP has a crop only; with few pairs colours and words need to vary, too.

    Args:
        size: pixels of a side of the view.
        scale: area of the crop as a share of the image.
        words: largest share of the tokens that a caption loses; each caption draws its own up to that.
    """

    size: int
    _: KW_ONLY
    scale: Sequence[float] = (0.5, 1.0)
    words: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.words < 1:
            raise ValueError(f"views.words is the largest share of tokens left out, in [0, 1), got {self.words}")
        _ = self.crop, self.after

    @cached_property
    def crop(self) -> RandomResizedCropFlip:
        return RandomResizedCropFlip(self.size, self.scale, flip=self.flip)

    @cached_property
    def after(self) -> Pipeline:
        return Pipeline((self._colours(), *standardise(self.mean, self.std)))

    def make(self, x: Tensor) -> list[Tensor]:
        return [self.after.apply(self.crop.views(x, 1))]

    def pairs(self, batch: Pairs) -> Pairs:
        """The batch with its images as views and its captions shortened."""
        return batch._replace(first=self(batch.first)[0], second=drop_tokens(batch.second, self.words))


def drop_tokens(tokens: Tensor, most: float) -> Tensor:
    """A random part of the tokens of each caption becomes padding; start and end stay.

    Args:
        tokens: ``(B, L)``.
        most: largest share; each caption draws its own, uniform up to it.
    """
    if most == 0:
        return tokens
    share = most * torch.rand(len(tokens), 1, device=tokens.device)
    lost = (torch.rand(tokens.shape, device=tokens.device) < share) & (tokens >= SPECIAL)
    return tokens.masked_fill(lost, PADDING)
