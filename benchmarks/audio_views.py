"""Two BYOL-A views of 128 clips, batched, against one clip after the other.

The one-by-one implementation is what a data set's `__getitem__` would do: NumPy on the samples (gain, speed by
`numpy.interp`, noise), torchaudio's MelSpectrogram on the clip, mixup with a clip of a list, and a crop resized by
`torch.nn.functional.interpolate`, as in the authors' code; then the views are stacked.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from mmssl.audio.augment import Gain, LogMixupExp, MelViews, Noise, Pipeline, RandomResizeCrop, Speed
from mmssl.audio.preprocess import MelPreprocessor

BATCH, PASSES = 128, 5
CLIPS = ((0.4, 8000), (1.0, 16_000))  # seconds, and samples a second
MEAN, STD = -5.0, 4.0
RNG = np.random.default_rng(0)


def measure() -> list[dict[str, Any]]:
    """One row a kind of clip."""
    torch.manual_seed(0)
    return [_one(seconds, rate) for seconds, rate in CLIPS]


def _one(seconds: float, rate: int) -> dict[str, Any]:
    x = 0.2 * torch.randn(BATCH, round(seconds * rate))
    views = MelViews(
        MelPreprocessor(rate, mean=MEAN, std=STD),
        Pipeline((Gain(6.0), Speed(0.1), Noise((15.0, 40.0)))),
        LogMixupExp(0.4),
        Pipeline((RandomResizeCrop(),)),
    )
    theirs = OneByOne(rate)
    sides: tuple[Callable[[], Any], ...] = (lambda: views(x), lambda: theirs(x.numpy()))
    best = [float("inf")] * 2
    for _ in range(PASSES):
        for i, side in enumerate(sides):
            start = time.perf_counter()
            side()
            best[i] = min(best[i], time.perf_counter() - start)
    return {
        "what": f"two BYOL-A views of {BATCH} clips of {seconds:g} s at {rate // 1000} kHz, from samples to log-mels",
        "peer": "NumPy and torchaudio, one clip at a time",
        "peer_ms": 1e3 * best[1],
        "mmssl_ms": 1e3 * best[0],
        "ratio": best[1] / best[0],
    }


class OneByOne:
    """The same views, clip by clip."""

    def __init__(self, rate: int) -> None:
        from torchaudio.transforms import MelSpectrogram

        self.hop = rate // 100
        self.mel = MelSpectrogram(
            rate, n_fft=64 * rate // 1000, hop_length=self.hop, f_min=60, f_max=0.4875 * rate, n_mels=64
        )
        self.memory: list[Tensor] = []

    def __call__(self, clips: npt.NDArray[np.float32]) -> list[Tensor]:
        frames = clips.shape[1] // self.hop + 1
        return [torch.stack([self.view(clip, frames) for clip in clips]) for _ in range(2)]

    def view(self, clip: npt.NDArray[np.float32], frames: int) -> Tensor:
        clip = clip * 10 ** (RNG.uniform(-6, 6) / 20)
        speed = RNG.uniform(0.9, 1.1)
        clip = np.interp(np.arange(0, len(clip), speed), np.arange(len(clip)), clip).astype(np.float32)
        level = np.sqrt(np.square(clip).mean() / 10 ** (RNG.uniform(15, 40) / 10))
        clip = clip + level.astype(np.float32) * RNG.standard_normal(len(clip), dtype=np.float32)
        x = (self.mel(torch.from_numpy(clip)) + 1e-6).log()  # (M, F)
        x = F.pad(x, (0, max(0, frames - x.shape[1])))[:, :frames]
        self.memory = [*self.memory[-2047:], x]
        other, share = self.memory[RNG.integers(len(self.memory))], RNG.uniform(0, 0.4)
        x = (((1 - share) * x.exp() + share * other.exp()).log() - MEAN) / STD
        return self.crop(x)

    def crop(self, x: Tensor) -> Tensor:
        mels, frames = x.shape
        wide = int(1.5 * frames)
        area = torch.zeros(mels, wide)
        area[:, (wide - frames) // 2 : (wide - frames) // 2 + frames] = x
        h = min(mels, int(RNG.uniform(0.6, 1.5) * mels))
        w = min(wide, int(RNG.uniform(0.6, 1.5) * frames))
        i, j = RNG.integers(mels - h + 1), RNG.integers(wide - w + 1)
        cut = area[None, None, i : i + h, j : j + w]
        return F.interpolate(cut, (mels, frames), mode="bicubic", align_corners=True)[0, 0]


if __name__ == "__main__":
    for row in measure():
        print(row)
