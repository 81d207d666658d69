"""Views of clips for self-supervised learning, and the augmentations that they are made of.

    views = MelViews(preprocessor, wave=Pipeline((Gain(6), Speed(0.1))), mel=Pipeline((RandomResizeCrop(),)))
    first, second = views(x)  # (B, samples) with NaN after the end, to twice (B, frames, mels)

Everything works on whole batches, on the device where they are, with random numbers of each clip's own. Which
augmentation is right depends on what must not get lost; each says what it can destroy.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from mmssl.audio.mels import FrequencyMask, LogMixupExp, RandomResizeCrop, TimeMask
from mmssl.audio.preprocess import MelPreprocessor
from mmssl.audio.spectrum import in_pieces
from mmssl.audio.steps import Pipeline, Step, exact
from mmssl.audio.waves import Gain, Noise, Pitch, Polarity, Reverb, Speed, TimeShift

__all__ = [
    "FrequencyMask",
    "Gain",
    "LogMixupExp",
    "MelView",
    "MelViews",
    "Noise",
    "Pipeline",
    "Pitch",
    "Polarity",
    "RandomResizeCrop",
    "Reverb",
    "Speed",
    "Step",
    "TimeMask",
    "TimeShift",
]


@dataclass(frozen=True)
class MelViews:
    """Two views of each clip as standardised log-mel frames, for a joint embedding.

    Args:
        preprocessor: fitted.
        wave: what happens to the waveform.
        mixup: what happens to the log-mel energies, before they are standardised.
        mel: what happens to the standardised frames.
    """

    preprocessor: MelPreprocessor
    wave: Pipeline = field(default_factory=Pipeline)
    mixup: LogMixupExp = field(default_factory=LogMixupExp)
    mel: Pipeline = field(default_factory=Pipeline)

    def __call__(self, x: Tensor) -> list[Tensor]:
        """``(B, samples)``, NaN after the end of a clip, to two of ``(B, frames, mels)``."""
        with exact(x):
            frames = in_pieces(torch.cat([x, x]), lambda part: self.preprocessor.frames(self.wave(part)))
            frames = self.preprocessor.standardise(self.mixup(frames))
            return list(self.mel(frames).chunk(2))


@dataclass(frozen=True)
class MelView:
    """The one view of a masked autoencoder: all clips with the same number of frames, NaN after their end.

    Args:
        preprocessor: fitted.
        frames: of every clip; what is longer is cut off.
    """

    preprocessor: MelPreprocessor
    frames: int

    def __call__(self, x: Tensor) -> Tensor:
        """``(B, samples)``, NaN after the end of a clip, to ``(B, frames, mels)``."""
        with exact(x):
            frames = self.preprocessor(x)[:, : self.frames]
            return F.pad(frames, (0, 0, 0, self.frames - frames.shape[1]), value=torch.nan)
