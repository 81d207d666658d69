"""What an encoder is given of a waveform, fitted on the training clips; applies the same to all later data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from mmssl.audio.clips import ClipSet, lengths
from mmssl.audio.spectrum import F_MIN, HOP, WINDOW, log_mel

SAMPLE = 5_000  # clips that the fit looks at
SECONDS = 2.0  # of each
BATCH = 64


class Preprocessor(Protocol):
    """A waveform batch ``(B, samples)`` to the input of an encoder; both NaN after the end of a clip."""

    @property
    def rate(self) -> int: ...

    def fit(self, raw: ClipSet) -> Self: ...

    def __call__(self, raw: Tensor) -> Tensor: ...

    def state(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class MelPreprocessor:
    """Log-mel frames ``(B, frames, mels)``, all with one mean and one deviation, as in BYOL-A (arXiv 2103.06695).

    Args:
        rate: of the waveforms, in Hz.
        mels: bands.
        window, hop: seconds, see `log_mel`.
        f_min, f_max: Hz.
        mean, std: of the values of the training clips.
    """

    rate: int
    mels: int = 64
    window: float = WINDOW
    hop: float = HOP
    f_min: float = F_MIN
    f_max: float | None = None
    mean: float = 0.0
    std: float = 1.0

    def fit(self, raw: ClipSet) -> MelPreprocessor:
        """Fitted on ``raw``, on a sample of it if it is large.

        Raises:
            ValueError: there is no clip, or no sound in any.
        """
        if not len(raw):
            raise ValueError("there is no training clip to fit on")
        rows = np.random.default_rng(0).permutation(len(raw))[:SAMPLE]
        longest = round(SECONDS * raw.rate)
        count, total, square = 0, 0.0, 0.0
        for start in range(0, len(rows), BATCH):
            x = self.frames(raw.padded(rows[start : start + BATCH], most=longest))
            x = x[~x.isnan()].double()
            count, total, square = count + x.numel(), total + float(x.sum()), square + float(x.square().sum())
        mean = total / count
        std = max(square / count - mean**2, 0.0) ** 0.5
        if std < 1e-3:
            raise ValueError("the training clips have the same spectrum everywhere, like silence: nothing to learn")
        return replace(self, mean=mean, std=std)

    def frames(self, raw: Tensor) -> Tensor:
        """Before standardisation."""
        options = {name: getattr(self, name) for name in ("mels", "window", "hop", "f_min", "f_max")}
        return log_mel(raw, self.rate, **options)

    def __call__(self, raw: Tensor) -> Tensor:
        return self.standardise(self.frames(raw))

    def standardise(self, frames: Tensor) -> Tensor:
        """Of log-mel frames."""
        return (frames - self.mean) / self.std

    def state(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class WavePreprocessor:
    """The waveform itself, every clip with mean 0 and variance 1.

    Args:
        rate: in Hz.
    """

    rate: int

    def fit(self, raw: ClipSet) -> WavePreprocessor:
        return self

    def __call__(self, raw: Tensor) -> Tensor:
        with torch.autocast(raw.device.type, enabled=False):
            count = lengths(raw)[:, None].clamp(min=1)
            centred = raw.float() - raw.float().nansum(dim=1, keepdim=True) / count
            variance = centred.square().nansum(dim=1, keepdim=True) / count
            return centred * (variance + 1e-7).rsqrt()

    def state(self) -> dict[str, Any]:
        return asdict(self)


PREPROCESSORS: dict[str, type[MelPreprocessor] | type[WavePreprocessor]] = {
    "mel": MelPreprocessor,
    "wave": WavePreprocessor,
}
