"""What is computed in pieces equals what would have been computed at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from mmssl.timeseries.encode import encode_causal, encode_timestamps, encode_windows
from mmssl.timeseries.encoder import DilatedConvEncoder
from mmssl.timeseries.encoders.build import build_encoder
from mmssl.timeseries.series import SeriesSet, cut_windows

Floats = npt.NDArray[np.float32]


def built(missing: str = "drop", depth: int = 3) -> DilatedConvEncoder:
    torch.manual_seed(0)
    return DilatedConvEncoder(2, dim=7, hidden=5, depth=depth, missing=missing)  # type: ignore[arg-type]


def drawn(steps: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=(steps, 2)).astype(np.float32)


def ragged(lengths: list[int]) -> SeriesSet:
    return SeriesSet(
        np.concatenate([drawn(n, i) for i, n in enumerate(lengths)]),
        np.concatenate([[0], np.cumsum(lengths)]),
        np.array([f"e{i}" for i in range(len(lengths))], dtype=object),
        ("a", "b"),
    )


def close(a: Floats, b: Floats) -> None:
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def one_by_one(encoder: DilatedConvEncoder, series: Floats, window: int) -> Floats:
    """The definition: the last timestamp of one window a timestamp, from its first value on."""
    rows = np.zeros((len(series), encoder.dim), dtype=np.float32)
    with torch.no_grad():
        for t in range(len(series)):
            past = series[max(0, t - window + 1) : t + 1]
            measured = np.flatnonzero(~np.isnan(past).all(axis=1))
            if len(measured):
                tokens = encoder.tokenize(torch.from_numpy(past[None, measured[0] :]))
                rows[t] = encoder.encode(tokens)[0, -1].numpy()
    return rows


@pytest.mark.parametrize("steps", [1, 7, 30, 2**15])
@pytest.mark.parametrize("missing", ["drop", "indicator"])
def test_windows_of_mixed_lengths_are_encoded_as_each_on_its_own(steps: int, missing: str) -> None:
    encoder = built(missing)
    series = ragged([9, 3, 40, 1, 9, 26])
    series.values[12:14] = np.nan  # inside the third
    series.values[20, 1] = np.nan
    series.values[53:55] = np.nan  # the fifth begins after two missing rows
    windows = cut_windows(series)
    z = encode_windows(encoder, windows, steps=steps)
    assert z.shape == (6, 7)
    assert z.dtype == np.float32
    assert not encoder.training
    for i in range(6):
        with torch.no_grad():
            close(z[i], encoder(torch.from_numpy(windows.fetch(np.array([i]))))[0].numpy())


@pytest.mark.parametrize("steps", [4, 100])
def test_a_window_without_any_value_is_zero(steps: int) -> None:
    series = ragged([12, 9])
    series.values[:12] = np.nan
    z = encode_windows(built(), cut_windows(series), steps=steps)
    assert (z[0] == 0).all()
    assert np.isfinite(z).all()
    assert (z[1] != 0).any()


@pytest.mark.parametrize("steps", [1, 3, 17, 64, 2**15])
@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("depth", [0, 3])
def test_timestamps_in_chunks_are_those_of_the_whole_series(steps: int, holes: bool, depth: int) -> None:
    encoder, series = built(depth=depth).eval(), 30 * drawn(64)  # so that the far end of the reach is felt
    if holes:
        series[:5] = series[20:24] = series[60:] = np.nan
    with torch.no_grad():
        whole = encoder.timestamps(torch.from_numpy(series)[None])[0].numpy()
    close(encode_timestamps(encoder, series, steps=steps), whole)


@pytest.mark.parametrize("window", [1, 2, 3, 8, 15, 16, 17, 40, 100])
@pytest.mark.parametrize("steps", [1, 33, 2**15])
def test_causal_is_one_window_a_timestamp(window: int, steps: int) -> None:
    encoder, series = built().eval(), drawn(30)
    close(encode_causal(encoder, series, window=window, steps=steps), one_by_one(encoder, series, window))


@pytest.mark.parametrize("missing", ["drop", "indicator"])
@pytest.mark.parametrize("window", [5, 12])
def test_causal_treats_missing_values_as_each_window_would(missing: str, window: int) -> None:
    encoder, series = built(missing).eval(), drawn(40)
    series[:3] = series[10:18] = series[37:] = np.nan
    series[5, 0] = series[25, 1] = np.nan
    z = encode_causal(encoder, series, window=window)
    close(z, one_by_one(encoder, series, window))
    assert np.isfinite(z).all()


@pytest.mark.parametrize("missing", ["drop", "indicator"])
def test_a_missing_row_is_what_the_past_lets_expect(missing: str) -> None:
    encoder, series = built(missing), drawn(40)
    expected = encode_causal(encoder, series, window=12, mask_last=True)
    series[20] = series[35:] = np.nan
    z = encode_causal(encoder, series, window=12)
    close(z[[20, 35]], expected[[20, 35]])
    assert (np.abs(z[35:]).max(axis=1) > 0.01).all()
    series[:] = np.nan
    assert (encode_causal(encoder, series, window=12) == 0).all()


@pytest.mark.parametrize("depth", [0, 1, 6])
def test_causal_holds_for_any_depth(depth: int) -> None:
    encoder, series = built(depth=depth).eval(), drawn(20)
    close(encode_causal(encoder, series, window=11), one_by_one(encoder, series, 11))


def test_causal_does_not_see_the_future() -> None:
    encoder, series = built(), drawn(30)
    z = encode_causal(encoder, series, window=9)
    series[20:] = 50
    later = encode_causal(encoder, series, window=9)
    close(later[:20], z[:20])
    assert (later[20:] != z[20:]).any(axis=1).all()


def test_a_window_without_a_step_is_refused() -> None:
    with pytest.raises(ValueError, match="window must be at least 1 step, got 0"):
        encode_causal(built(), drawn(5), window=0)


def test_the_series_is_left_untouched() -> None:
    series = drawn(20)
    series[4] = np.nan
    before = series.copy()
    encode_causal(built(), series, window=5)
    encode_timestamps(built(), series)
    np.testing.assert_array_equal(series, before)


@pytest.mark.parametrize("name", ["resnet1d", "patch", "tstcc"])
def test_any_encoder_gives_windows_of_mixed_lengths_what_it_gives_each_on_its_own(name: str) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(name, in_channels=2)
    series = ragged([3, 20, 31, 20, 8])
    windows = cut_windows(series)
    found = encode_windows(encoder, windows, steps=45)
    with torch.no_grad():
        for i in range(5):
            own = torch.from_numpy(series.values[series.offsets[i] : series.offsets[i + 1]])
            close(found[i : i + 1], encoder(own[None]).numpy())
