from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torchaudio
from torch import Tensor

from mmssl.audio.clips import lengths
from mmssl.audio.spectrum import deltas, log_mel, mfcc
from tests.audio.recordings import batch, tone


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
def test_log_mel_is_that_of_torchaudio_with_silence_around_the_clip(rate: int) -> None:
    x = batch(0.3, rate=rate)
    size = round(0.064 * rate)
    theirs = torchaudio.transforms.MelSpectrogram(
        rate,
        n_fft=1 << math.ceil(math.log2(size)),
        win_length=size,
        hop_length=rate // 100,
        f_min=60,
        f_max=0.4875 * rate,
        n_mels=64,
        pad_mode="constant",
    )(x)
    torch.testing.assert_close(log_mel(x, rate), (theirs + 1e-6).log().transpose(1, 2), rtol=1e-4, atol=1e-4)


def test_a_tone_is_loudest_in_the_band_of_its_pitch() -> None:
    x = torch.from_numpy(tone(0.5, 16_000, pitch=1000))[None]
    band = int(log_mel(x, 16_000)[0].mean(dim=0).argmax())

    def mel(f: float) -> float:
        return 2595 * math.log10(1 + f / 700)

    place = (mel(1000) - mel(60)) / (mel(7800) - mel(60)) * 65 - 1
    assert abs(band - place) < 1


@pytest.mark.parametrize("features", [log_mel, mfcc])
def test_padding_changes_no_frame(features: object) -> None:
    assert callable(features)
    x = batch(0.31, 0.2, 0.007, 0.0001)
    whole: Tensor = features(x, 8000)
    assert lengths(whole).tolist() == [1 + n // 80 for n in lengths(x).tolist()]
    for row, clip in zip(whole, x, strict=True):
        alone = features(clip[~clip.isnan()][None], 8000)[0]
        torch.testing.assert_close(row[: len(alone)], alone, rtol=1e-5, atol=1e-5)
        assert row[len(alone) :].isnan().all()


def test_cepstra_are_39_numbers_100_times_a_second() -> None:
    out = mfcc(batch(1.0), 8000)
    assert out.shape == (1, 101, 39)
    theirs = torchaudio.transforms.ComputeDeltas(win_length=5, mode="replicate")(out[..., :13].transpose(1, 2))
    torch.testing.assert_close(out[..., 13:26], theirs.transpose(1, 2), rtol=1e-4, atol=1e-4)


def test_the_derivative_of_a_line_is_its_slope() -> None:
    x = 3 * torch.arange(10.0)[None, :, None]
    np.testing.assert_allclose(deltas(x)[0, 2:-2, 0], 3)


def test_silence_has_finite_energy() -> None:
    assert log_mel(torch.zeros(1, 800), 8000).isfinite().all()


def test_impossible_bands_are_refused() -> None:
    with pytest.raises(ValueError, match=r"60 to 5000 Hz do not exist at 8,000 Hz: at most 4000"):
        log_mel(batch(0.1), 8000, f_max=5000)
    with pytest.raises(ValueError, match=r"mel bands .* are narrower .* take fewer mels or a longer window"):
        log_mel(batch(0.1), 8000, mels=200, window=0.01)
