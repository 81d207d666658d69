"""Views of series for self-supervised learning, and the augmentations that they are made of.

    views = SeriesViews(Pipeline((CropResize((0.5, 1)), Scaling(0.2), Jitter(0.05))))
    first, second = views(x)  # (B, T, C) with NaN for what is missing, to twice the same shape

Everything works on whole batches, on the device where they are, with random numbers of each series' own. Which
augmentation is right depends on what must not get lost; each says what it can destroy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from mmssl.timeseries.magnitude import ChannelDropout, Jitter, MagnitudeWarp, Rotation, Scaling, TimeMask
from mmssl.timeseries.spectrum import FrequencyMask, FrequencyMix
from mmssl.timeseries.steps import Pipeline, Step
from mmssl.timeseries.timing import CropResize, Permutation, TimeWarp

__all__ = [
    "ChannelDropout",
    "CropResize",
    "FrequencyMask",
    "FrequencyMix",
    "Jitter",
    "MagnitudeWarp",
    "Permutation",
    "Pipeline",
    "Rotation",
    "Scaling",
    "SeriesViews",
    "Step",
    "StrongView",
    "TimeMask",
    "TimeWarp",
    "WeakView",
]


@dataclass(frozen=True)
class WeakView(Step):
    """The weak view of TS-TCC: scaled, with noise (Eldele et al., IJCAI 2021, arXiv 2106.14112).

    Destroys what `Scaling` and `Jitter` do.

    Args:
        scaling: see `Scaling`.
        jitter: see `Jitter`.
    """

    scaling: float = 0.2
    jitter: float = 0.05

    def __post_init__(self) -> None:
        _ = self.steps  # complain of bad values now

    @cached_property
    def steps(self) -> Pipeline:
        return Pipeline((Scaling(self.scaling), Jitter(self.jitter)))

    def run(self, x: Tensor) -> Tensor:
        return self.steps.run(x)


@dataclass(frozen=True)
class StrongView(Step):
    """The strong view of TS-TCC: segments in another order, with noise (Eldele et al., IJCAI 2021, arXiv 2106.14112).

    Destroys what `Permutation` and `Jitter` do.

    Args:
        max_segments: see `Permutation`; 5 to 12 in the paper.
        jitter: see `Jitter`; 0.001 to 2 in the paper.
    """

    max_segments: int = 8
    jitter: float = 0.2

    def __post_init__(self) -> None:
        _ = self.steps  # complain of bad values now

    @cached_property
    def steps(self) -> Pipeline:
        return Pipeline((Permutation(self.max_segments), Jitter(self.jitter)))

    def run(self, x: Tensor) -> Tensor:
        return self.steps.run(x)


@dataclass(frozen=True)
class SeriesViews:
    """Two views of each series, for a joint embedding.

    Args:
        first: makes the first view.
        second: makes the second one; ``first`` with other random numbers if None.
    """

    first: Step
    second: Step | None = None

    def __call__(self, x: Tensor) -> list[Tensor]:
        """``(B, T, C)`` floats to two float32 tensors of the same shape."""
        return [self.first(x), (self.second or self.first)(x)]
