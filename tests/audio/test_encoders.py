"""The encoders of mel frames, what encodes whole sets with them, and the embedder around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mmssl
from mmssl.audio.clips import ClipSet, lengths
from mmssl.audio.controls import mel_statistics, mfcc_statistics
from mmssl.audio.embedder import ClipEmbedder
from mmssl.audio.encode import LONGEST, encode_clips
from mmssl.audio.encoder import ENCODERS, MEL_ENCODERS, MelConv, MelTransformer
from mmssl.audio.preprocess import MelPreprocessor, WavePreprocessor
from mmssl.audio.spectrum import log_mel
from mmssl.core.types import LayeredTokenEncoder
from mmssl.train.export import load_embedder, save_embedder
from tests.audio.recordings import batch, tone, write, write_folder

SMALL: dict[str, dict[str, Any]] = {
    "MelConv": {"mels": 24, "widths": [4, 8], "dim": 12},
    "MelTransformer": {"mels": 24, "patch": [4, 8], "dim": 16, "depth": 2, "heads": 2},
}


def frames(*seconds: float, mels: int = 24, seed: int = 0) -> Tensor:
    return log_mel(batch(*seconds, seed=seed), 8000, mels=mels) / 4


def encoder(name: str, seed: int = 0) -> nn.Module:
    """In evaluation mode, with statistics of batch normalisation that are not 0 and 1."""
    torch.manual_seed(seed)
    made = MEL_ENCODERS[name](**SMALL[name])
    for _ in range(3):
        made(frames(0.3, 0.3, seed=seed))
    return made.eval()


@pytest.mark.parametrize("name", MEL_ENCODERS)
def test_an_output_does_not_depend_on_padding(name: str) -> None:
    x = frames(*np.linspace(0.011, 0.5, 16))
    with torch.no_grad():
        together = encoder(name)(x)
        for row, clip in zip(together, x, strict=True):
            alone = encoder(name)(clip[None, : lengths(clip[None])[0]])[0]
            torch.testing.assert_close(row, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MEL_ENCODERS)
def test_gradients_do_not_come_from_padding_and_reach_every_parameter(name: str) -> None:
    model = encoder(name).train()
    x = frames(0.4, 0.1)
    x.requires_grad_()
    model(x).square().sum().backward()
    assert x.grad is not None
    assert not x.grad[1, int(lengths(x)[1]) :].any()
    unused = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert unused == []


@pytest.mark.parametrize("name", MEL_ENCODERS)
def test_layers_hold_every_parameter_once(name: str) -> None:
    model = encoder(name)
    assert callable(model.layers)
    grouped = [id(p) for group in model.layers() for p in group]
    assert len(grouped) == len(set(grouped))
    missing = {n for n, p in model.named_parameters() if id(p) not in grouped}
    assert missing == set()


def test_the_convolutional_network_takes_maximum_plus_mean_over_time() -> None:
    model = encoder("MelConv")
    assert isinstance(model, MelConv)
    x = frames(0.2)
    h = x[:, None]
    with torch.no_grad():
        for convolution, norm in zip(model.convolutions, model.norms, strict=True):
            h = norm(convolution(h)).relu()
        per_frame = model.mlp(h.permute(0, 2, 1, 3).reshape(1, h.shape[2], -1))[0]
        torch.testing.assert_close(model(x)[0], per_frame.max(dim=0).values + per_frame.mean(dim=0))


def test_the_transformer_is_a_token_encoder_whose_patches_can_be_put_back() -> None:
    model = encoder("MelTransformer")
    assert isinstance(model, MelTransformer)
    assert isinstance(model, LayeredTokenEncoder)
    x = frames(0.31, 0.1)
    targets = model.targets(x)
    count = -(-x.shape[1] // 4)
    assert targets.shape == (2, count * 3, 32)
    torch.testing.assert_close(model.spectrograms(targets)[:, : x.shape[1]], x, equal_nan=True)
    torch.testing.assert_close(targets[0, 4], x[0, 4:8, 8:16].flatten())  # second in time, second in frequency
    valid = model.valid(x)
    assert valid.shape == (2, count * 3)
    assert valid[1].sum() == -(-int(lengths(x)[1]) // 4) * 3
    with torch.no_grad():
        h = model.encode(model.tokenize(x), valid)
        torch.testing.assert_close(model.norm(model.encode_layers(model.tokenize(x), valid)[-1]), h)
    assert h.shape == (2, 1 + count * 3, 16)


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="3 convolutions need at least 8 mels, got 4"):
        MelConv(4)
    with pytest.raises(ValueError, match=r"patch must be frames and a divisor of the 64 mels, got \[4, 15\]"):
        MelTransformer(patch=[4, 15])


@pytest.mark.parametrize("name", MEL_ENCODERS)
def test_silence_and_a_single_sample_have_a_finite_embedding(name: str) -> None:
    preprocessor = MelPreprocessor(8000, mels=24, mean=-5.0, std=3.0)
    x = torch.zeros(2, 800)
    x[1, 1:] = torch.nan
    with torch.no_grad():
        assert encoder(name)(preprocessor(x)).isfinite().all()


# ------------------------------------------------------------------------------------------------------ whole sets


def clip_set(*seconds: float) -> ClipSet:
    x = batch(*seconds)
    return ClipSet.of([row[~row.isnan()].numpy() for row in x], 8000)


PREPROCESSOR = MelPreprocessor(8000, mels=24, mean=-5.0, std=3.0)


def test_a_set_is_encoded_in_its_order() -> None:
    clips, model = clip_set(0.5, 0.1, 0.3, 0.2), encoder("MelConv")
    z = encode_clips(model, clips, PREPROCESSOR)
    with torch.no_grad():
        for i in range(4):
            alone = model(PREPROCESSOR(clips.padded([i])))[0]
            np.testing.assert_allclose(z[i], alone, rtol=1e-5, atol=1e-5)


def test_a_long_clip_is_the_mean_of_its_pieces() -> None:
    clips, model = clip_set(2 * LONGEST - 1, 0.1), encoder("MelConv")
    z = encode_clips(model, clips, PREPROCESSOR)
    whole = clips.clip(0)
    half = len(whole) // 2
    pieces = [torch.from_numpy(part)[None] for part in (whole[:half], whole[half:])]
    with torch.no_grad():
        mean = torch.stack([model(PREPROCESSOR(piece))[0] for piece in pieces]).mean(dim=0)
    np.testing.assert_allclose(z[0], mean, rtol=1e-4, atol=1e-4)


def test_waveforms_get_mean_0_and_variance_1_without_their_padding() -> None:
    x = batch(0.2, 0.1) * 3 + 1
    z = WavePreprocessor(8000)(x)
    for row, n in zip(z, lengths(x).tolist(), strict=True):
        assert abs(float(row[:n].mean())) < 1e-5
        assert abs(float(row[:n].var(correction=0)) - 1) < 1e-4
        assert row[n:].isnan().all()
    assert WavePreprocessor(8000)(torch.zeros(1, 10)).isfinite().all()


def test_controls_are_statistics_over_time() -> None:
    clips = clip_set(0.3, 0.1)
    mel = log_mel(clips.padded([1]), 8000)[0]
    ours = mel_statistics(clips)
    assert ours.shape == (2, 128)
    np.testing.assert_allclose(ours[1], [*mel.mean(dim=0), *mel.std(dim=0, correction=0)], rtol=1e-4, atol=1e-4)
    assert mfcc_statistics(clips).shape == (2, 78)
    shuffled = np.array([1, 0])  # the order of the clips is kept, whichever is longer
    np.testing.assert_allclose(mel_statistics(clips.subset(shuffled)), ours[shuffled], rtol=1e-5)


# ------------------------------------------------------------------------------------------------------- embedder


@pytest.mark.parametrize("name", MEL_ENCODERS)
def test_an_exported_encoder_embeds_folders_lists_and_arrays_alike(tmp_path: Path, name: str) -> None:
    recordings = write_folder(tmp_path / "new", ["a.wav", "b/c.wav"])
    embedder = ClipEmbedder(encoder(name), name, PREPROCESSOR)
    save_embedder(tmp_path, embedder)
    loaded: Any = mmssl.load(tmp_path)
    frame = loaded.embed(recordings)
    assert list(frame.index) == ["a.wav", "b/c.wav"]
    np.testing.assert_array_equal(frame, embedder.embed(recordings))
    files = [recordings / "a.wav", recordings / "b" / "c.wav"]
    np.testing.assert_allclose(loaded.embed(files), frame, atol=1e-5)
    arrays = [loaded.read(recordings).clip(i) for i in range(2)]
    np.testing.assert_allclose(loaded.embed(arrays), frame, atol=1e-4)


def test_new_recordings_are_resampled_to_the_rate_of_the_training(tmp_path: Path) -> None:
    embedder = ClipEmbedder(encoder("MelConv"), "MelConv", PREPROCESSOR)
    write_folder(tmp_path, ["a.wav"], rate=16_000)
    assert embedder.read(tmp_path).rate == 8000
    with pytest.raises(ValueError, match=r"clips of 16,000 Hz, trained on 8,000 Hz: resample them"):
        embedder.embed(ClipSet.of([tone(0.1, 16_000)], 16_000))


def test_new_recordings_may_be_stereo_and_partly_damaged(tmp_path: Path) -> None:
    embedder = ClipEmbedder(encoder("MelConv"), "MelConv", PREPROCESSOR)
    write(tmp_path / "mono.wav", tone())
    write(tmp_path / "stereo.wav", np.stack([tone(), tone()], axis=1))
    (tmp_path / "damaged.wav").write_bytes(b"RIFF no audio at all")
    with pytest.warns(UserWarning, match=r"1 of 3 clips cannot be used and are left out: damaged.wav"):
        frame = embedder.embed(tmp_path)
    assert list(frame.index) == ["mono.wav", "stereo.wav"]
    np.testing.assert_allclose(frame.loc["stereo.wav"], frame.loc["mono.wav"], atol=1e-5)


def test_the_registry_knows_every_encoder_that_can_be_exported(tmp_path: Path) -> None:
    assert set(MEL_ENCODERS) < set(ENCODERS)
    save_embedder(tmp_path, ClipEmbedder(encoder("MelConv"), "MelConv", PREPROCESSOR))
    assert load_embedder(tmp_path).dim == 12
