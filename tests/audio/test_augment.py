"""Augmentations of clips: what all of them hold, then what each does, against references written for the test."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.signal
import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor

from mmssl.audio.augment import (
    FrequencyMask,
    Gain,
    LogMixupExp,
    MelView,
    MelViews,
    Noise,
    Pipeline,
    Pitch,
    Polarity,
    RandomResizeCrop,
    Reverb,
    Speed,
    TimeMask,
    TimeShift,
)
from mmssl.audio.clips import lengths
from mmssl.audio.preprocess import MelPreprocessor
from mmssl.audio.steps import Step
from mmssl.audio.waves import stretched
from tests.audio.recordings import batch, tone

WAVES: list[Step] = [Gain(), Noise(), Polarity(), TimeShift(0.3), Speed(0.2), Pitch(), Reverb(8000)]
MELS: list[Step] = [LogMixupExp(), RandomResizeCrop(), TimeMask(0.5), FrequencyMask(0.5)]
IDENTITIES: list[Step] = [
    *(Gain(0), Noise(p=0), Polarity(0), TimeShift(0), Speed(0), Pitch(0), Reverb(8000, wet=0), Reverb(8000, p=0)),
    *(LogMixupExp(0), RandomResizeCrop((1, 1), (1, 1), (1, 1)), TimeMask(0), FrequencyMask(0)),
]


def example(step: Step, n: int = 6) -> Tensor:
    """A batch that the step takes, of clips of different lengths."""
    x = batch(*np.linspace(0.5, 0.2, n))
    return x if step.ndim == 2 else MelPreprocessor(8000, mels=16, mean=-5, std=3)(x)


def name(step: Step) -> str:
    return type(step).__name__


# ------------------------------------------------------------------------------------------------------ all of them


@pytest.mark.parametrize("step", IDENTITIES, ids=repr)
def test_strength_0_is_the_identity(step: Step) -> None:
    x = example(step)
    torch.testing.assert_close(step(x), x, equal_nan=True, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("step", [*WAVES, *MELS], ids=name)
def test_the_input_is_left_alone_and_changed(step: Step) -> None:
    x = example(step)
    before = x.clone()
    out = step(x)
    torch.testing.assert_close(x, before, rtol=0, atol=0, equal_nan=True)
    assert out.data_ptr() != x.data_ptr()
    width = min(out.shape[1], x.shape[1])
    changed = (out[:, :width] - x[:, :width]).nan_to_num().flatten(1).abs().amax(dim=1) > 1e-6
    assert changed.any()


@pytest.mark.parametrize("step", [*WAVES, *MELS], ids=name)
def test_padding_stays_where_it_is_and_everything_before_is_finite(step: Step) -> None:
    x = example(step)
    out = step(x)
    size = lengths(out)
    for row, n in zip(out, size.tolist(), strict=True):
        assert row[:n].isfinite().all()
        assert row[n:].isnan().all()
    if not isinstance(step, Speed):
        assert size.tolist() == lengths(x).tolist()


@pytest.mark.parametrize("step", [*WAVES, *MELS], ids=name)
def test_a_seed_repeats_it_and_clips_draw_for_themselves(step: Step) -> None:
    x = example(step)[:1].repeat(8, *[1] * (step.ndim - 1)) + 0.0
    torch.manual_seed(3)
    first = step(x)
    torch.manual_seed(3)
    torch.testing.assert_close(step(x), first, rtol=0, atol=0, equal_nan=True)
    if not isinstance(step, LogMixupExp):  # a clip mixed with itself is itself
        assert len({tuple(row.nan_to_num().flatten().tolist()) for row in first}) > 1


@pytest.mark.parametrize("step", [s for s in [*WAVES, *MELS] if not isinstance(s, LogMixupExp | Polarity)], ids=name)
def test_padding_of_the_batch_does_not_change_what_becomes_of_a_clip(step: Step) -> None:
    x = example(step)[:2]
    more = F.pad(x, (0, 0, 0, 7) if step.ndim == 3 else (0, 300), value=torch.nan)
    if isinstance(step, Noise | Reverb):  # draw a number a sample: compare what does not depend on them
        assert lengths(step(more)).tolist() == lengths(step(x)).tolist()
        return
    torch.manual_seed(0)
    short = step(x)
    torch.manual_seed(0)
    long = step(more)
    n = int(lengths(short).max())
    torch.testing.assert_close(long[:, :n], short[:, :n], equal_nan=True, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (Gain, {"decibels": -1}, "decibels must be at least 0, got -1"),
        (Noise, {"snr": (30, 10)}, r"snr must be \(smallest, largest\), got \(30, 10\)"),
        (Polarity, {"p": 2}, r"p must lie in \[0, 1\], got 2"),
        (TimeShift, {"share": 1.5}, r"share must lie in \[0, 1\], got 1.5"),
        (Speed, {"change": 1.0}, r"change must lie in \[0, 1\), got 1.0"),
        (Pitch, {"semitones": 20}, r"semitones must lie in \[0, 12\], got 20"),
        (Reverb, {"rate": 8000, "seconds": (0.0, 1.0)}, r"seconds must be \(smallest, largest\), above 0"),
        (LogMixupExp, {"alpha": -0.1}, "alpha must lie in"),
        (RandomResizeCrop, {"area": (0.5, 1)}, r"area must be two sizes of at least 1.*\(0.5, 1\)"),
        (RandomResizeCrop, {"time": (0, 1)}, r"time must be \(smallest, largest\), above 0"),
    ],
)
def test_impossible_strengths_are_refused(kind: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**options)


def test_steps_say_what_they_take() -> None:
    with pytest.raises(
        ValueError, match=r"expected floats: waveforms \(B, samples\).* got torch.float32 of shape \(1, 2, 3"
    ):
        Gain()(torch.zeros(1, 2, 3))
    with pytest.raises(ValueError, match=r"mel frames \(B, frames, mels\)"):
        TimeMask()(torch.zeros(1, 2))


# ------------------------------------------------------------------------------------------------------- waveforms


def test_gain_is_even_in_decibels() -> None:
    x = torch.ones(2000, 3)
    decibels = 20 * Gain(6)(x)[:, 0].log10()
    np.testing.assert_allclose([decibels.min(), decibels.mean(), decibels.max()], [-6, 0, 6], atol=0.3)


def test_noise_has_the_asked_ratio_to_the_clip() -> None:
    x = batch(1.0, 0.5)
    added = Noise((20, 20))(x) - x
    ratio = 10 * (x.square().nanmean(dim=1) / added.square().nanmean(dim=1)).log10()
    np.testing.assert_allclose(ratio, 20, atol=0.3)


def test_noise_leaves_silence_silent() -> None:
    assert not Noise()(torch.zeros(2, 100)).any()


def test_a_shift_moves_the_clip_and_lets_silence_in() -> None:
    x = torch.arange(1.0, 101).repeat(50, 1)
    for row in TimeShift(0.2)(x):
        shift = int((row[50] - 51).item())
        assert abs(shift) <= 20
        expected = torch.zeros(100)
        source = torch.arange(100) + shift
        kept = (source >= 0) & (source < 100)
        expected[kept] = source[kept] + 1.0
        torch.testing.assert_close(row, expected)


def pitch_of(x: Tensor, rate: int = 8000) -> float:
    spectrum = torch.fft.rfft(x * torch.hann_window(len(x)), 1 << 17).abs()
    return float(spectrum.argmax()) * rate / (1 << 17)


def test_speed_changes_duration_and_pitch_together() -> None:
    x = torch.from_numpy(np.stack([tone(0.5, pitch=500)] * 20))
    for row in Speed(0.2)(x):
        samples = row[~row.isnan()]
        speed = 4000 / len(samples)
        assert 0.8 <= speed <= 1.25
        assert abs(pitch_of(samples) / 500 / speed - 1) < 0.005


def test_pitch_changes_and_duration_does_not() -> None:
    x = torch.from_numpy(np.stack([tone(0.5, pitch=500)] * 20))
    pitches = [pitch_of(row[400:-400]) for row in Pitch(4)(x)]
    semitones = 12 * np.log2(np.array(pitches) / 500)
    assert np.abs(semitones).max() < 4.1
    assert np.ptp(semitones) > 3


def test_stretching_is_that_of_torchaudio() -> None:
    x = batch(0.5)
    window = torch.hann_window(512)
    spectrum = torch.stft(x, 512, 128, window=window, pad_mode="constant", return_complex=True)
    advance = torch.linspace(0, np.pi * 128, 257)[:, None]
    for factor in (0.8, 1.25):
        theirs = torchaudio.functional.phase_vocoder(spectrum, 1 / factor, advance)
        n = round(4000 * factor)
        theirs = torch.istft(theirs, 512, 128, window=window, length=n)
        ours = stretched(x, torch.tensor([factor]), factor)
        torch.testing.assert_close(ours[:, : n - 600], theirs[:, : n - 600], rtol=1e-3, atol=2e-3)


def test_an_echo_is_a_convolution_that_comes_after_the_sound() -> None:
    x = torch.zeros(1, 8000)
    x[0, 1000] = 1.0
    torch.manual_seed(0)
    heard = Reverb(8000, (0.2, 0.2), wet=0.3)(x)[0]
    assert heard[:1000].abs().max() < 1e-6
    impulse = heard[1000:2600]
    assert abs(float(impulse[0]) - 1) < 1e-5
    energy = float(impulse[1:].square().sum())
    assert 0 < energy < 0.3
    late = impulse[800:1600].square().mean() / impulse[1:801].square().mean()
    assert float(10 * late.log10()) < -15  # 60 dB in 0.2 s are 30 dB in this half
    signal = batch(0.5)
    torch.manual_seed(0)
    echoed = Reverb(8000, (0.2, 0.2), wet=0.3)(F.pad(signal, (0, 4000)))[0]
    np.testing.assert_allclose(echoed, scipy.signal.fftconvolve(F.pad(signal, (0, 4000))[0], impulse)[:8000], atol=1e-4)


# ------------------------------------------------------------------------------------------------------- mel frames


def test_mixing_adds_energies_of_another_clip_of_the_batch() -> None:
    a, b = torch.full((1, 4, 3), 2.0), torch.full((1, 4, 3), -1.0)
    mixed = LogMixupExp(0.4)(torch.cat([a, b])).exp()
    share = (np.e**2 - mixed[0, 0, 0]) / (np.e**2 - np.e**-1)  # of the other one in the first
    assert 0 <= share <= 0.4
    torch.testing.assert_close(mixed[0], torch.full((4, 3), float((1 - share) * np.e**2 + share * np.e**-1)))


def test_the_other_clip_is_drawn_for_each_clip() -> None:
    """Two views of a clip must not have a second clip in common: it would tell them from all others."""
    x = torch.full((8, 1, 8), -20.0)
    x[torch.arange(8), 0, torch.arange(8)] = 0.0  # clip i is heard in band i alone
    torch.manual_seed(0)
    mixed = LogMixupExp(0.4)(torch.cat([x, x]))
    mixed[torch.arange(16), 0, torch.arange(16) % 8] = -torch.inf
    first, second = mixed[:, 0].argmax(dim=1).chunk(2)  # whom each view was mixed with
    assert int((first == second).sum()) < 6


def test_a_shorter_clip_adds_nothing_after_its_end() -> None:
    x = torch.zeros(2, 6, 3)
    x[1, 2:] = torch.nan
    torch.manual_seed(0)
    mixed = LogMixupExp(0.4)(x).exp()
    torch.testing.assert_close(mixed[0, :2], torch.ones(2, 3))
    assert (mixed[0, 2:] < 1).all()


def test_a_crop_of_time_and_frequency_is_that_of_interpolate() -> None:
    """A crop of exactly half of both, which must be one of the possible places."""
    x = F.interpolate(torch.randn(1, 1, 10, 8), (40, 32), mode="bicubic")[:, 0]  # smooth
    out = RandomResizeCrop((0.5, 0.5), (0.5, 0.5), (1, 1))(x)[0]
    inner = (slice(2, -2), slice(2, -2))  # at the ends one sees the neighbours, the other does not
    distance = min(
        float(
            (F.interpolate(x[:, None, t : t + 20, f : f + 16], (40, 32), mode="bilinear")[0, 0] - out)[inner]
            .abs()
            .mean()
        )
        for t in range(21)
        for f in range(17)
    )
    assert distance < 0.15 * float(x.std())


def test_outside_of_a_clip_lies_the_mean_level() -> None:
    x = torch.ones(200, 20, 4)
    out = RandomResizeCrop((1.5, 1.5), (1, 1), (1.5, 1))(x)
    np.testing.assert_allclose(out.mean(dim=(1, 2)), 2 / 3, atol=0.03)


@pytest.mark.parametrize(("step", "axis"), [(TimeMask(0.5), 1), (FrequencyMask(0.5), 2)])
def test_a_mask_is_one_stretch_of_at_most_its_share(step: Step, axis: int) -> None:
    x = torch.ones(300, 20, 20)
    hidden = step(x).amin(dim=3 - axis) == 0  # (B, 20)
    runs = (hidden.int().diff(dim=1) == 1).sum(dim=1) + hidden[:, 0]
    assert runs.max() == 1
    share = hidden.sum(dim=1) / 20
    assert share.max() <= 0.5
    assert share.max() > 0.4
    assert share.min() == 0


# ------------------------------------------------------------------------------------------------------------ views


def test_views_are_two_standardised_spectrograms_of_every_clip() -> None:
    preprocessor = MelPreprocessor(8000, mels=16, mean=-5, std=3)
    x = batch(0.3, 0.2, 0.1)
    plain = MelViews(preprocessor, mixup=LogMixupExp(0))
    for view in plain(x):
        torch.testing.assert_close(view, preprocessor(x), equal_nan=True)
    views = MelViews(preprocessor, Pipeline((Gain(),)), mel=Pipeline((RandomResizeCrop(),)))(x)
    assert not torch.equal(views[0].nan_to_num(), views[1].nan_to_num())
    assert views[0].shape == views[1].shape == preprocessor(x).shape


def test_the_view_of_a_masked_autoencoder_has_a_fixed_number_of_frames() -> None:
    preprocessor = MelPreprocessor(8000, mels=16, mean=-5, std=3)
    x = batch(0.3, 0.1)
    short, long = (MelView(preprocessor, frames)(x) for frames in (20, 50))
    assert (short.shape, long.shape) == ((2, 20, 16), (2, 50, 16))
    torch.testing.assert_close(long[:, :31], preprocessor(x), equal_nan=True)
    assert long[:, 31:].isnan().all()
