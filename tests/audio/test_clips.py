from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from mmssl.audio.clips import ClipSet, ClipSource, lengths
from mmssl.audio.files import OnDisk
from mmssl.train.batches import ReadAhead, ShuffledBatches
from tests.audio.recordings import batch, tone, write


def clip_set(sizes: list[int]) -> ClipSet:
    """Clip i counts up from 100 i."""
    return ClipSet.of([100 * i + np.arange(n, dtype=np.float32) for i, n in enumerate(sizes)], 8000)


def test_lengths_count_samples_and_frames_up_to_the_nans() -> None:
    x = batch(0.1, 0.05, 0.001)
    assert lengths(x).tolist() == [800, 400, 8]
    frames = torch.zeros(2, 5, 3)
    frames[1, 2:] = torch.nan
    assert lengths(frames).tolist() == [5, 2]
    with pytest.raises(ValueError, match=r"expected waveforms .* got \(3,\)"):
        lengths(torch.zeros(3))


def test_padded_clips_hold_their_samples_and_then_nan() -> None:
    x = clip_set([3, 1, 5]).padded([2, 0])
    np.testing.assert_array_equal(x, [[200, 201, 202, 203, 204], [0, 1, 2, np.nan, np.nan]])
    np.testing.assert_array_equal(clip_set([3, 1]).padded([0, 1], most=2), [[0, 1], [100, np.nan]])


def test_a_subset_shares_the_samples_and_picks_the_columns() -> None:
    clips = ClipSet.of([tone()] * 3, 8000, labels=np.array(["a", None, "b"], dtype=object))
    part = clips.subset(np.array([True, False, True]))
    assert part.wave is clips.wave
    assert part.labels is not None
    assert part.labels.tolist() == ["a", "b"]
    assert part.names.tolist() == [0, 2]


def test_columns_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="1 labels for 2 clips"):
        ClipSet.of([tone()] * 2, 8000, labels=np.array(["a"], dtype=object))


def test_crops_come_from_anywhere_in_a_clip_and_never_from_its_neighbour() -> None:
    source = ClipSource(clip_set([10, 50, 30]), crop=20)
    seen = set()
    for salt in range(200):
        x = source.fetch(np.array([1, 0, 2, salt % 3]))
        for row, clip in zip(x, (1, 0, 2), strict=False):
            samples = row[~row.isnan()]
            assert ((samples >= 100 * clip) & (samples < 100 * clip + 50)).all()
        seen.add(int(x[0, 0]))
    assert len(x[0]) == 20
    assert len(seen) > 2  # from one of three different batches to the next


def test_a_batch_is_a_function_of_its_positions() -> None:
    source = ClipSource(clip_set([100] * 8), crop=10)
    index = np.array([3, 1, 7])
    torch.testing.assert_close(source.fetch(index), source.fetch(index), equal_nan=True)
    assert not torch.equal(source.fetch(index)[0], source.fetch(np.array([3, 1, 6]))[0])


def test_an_epoch_has_every_clip_once_and_batches_of_similar_length() -> None:
    sizes = np.random.default_rng(0).integers(10, 1000, 512)
    source = ClipSource(clip_set(sizes.tolist()), batch_size=16)
    assert isinstance(source, ReadAhead)
    order = source.order(np.random.default_rng(1), 0, 1)
    assert sorted(order) == list(range(512))
    spread = np.ptp(sizes[order].reshape(-1, 16), axis=1)
    at_random = np.ptp(sizes[np.random.default_rng(2).permutation(512)].reshape(-1, 16), axis=1)
    assert np.median(spread) < 0.3 * np.median(at_random)
    assert not np.array_equal(order, source.order(np.random.default_rng(2), 0, 1))


def test_ranks_share_an_epoch_without_a_clip_in_common() -> None:
    source = ClipSource(clip_set([5] * 50), batch_size=4)
    parts = [source.order(np.random.default_rng(0), part, 2) for part in range(2)]
    assert [len(part) for part in parts] == [25, 25]
    assert not set(parts[0]) & set(parts[1])


def test_threads_give_the_same_batches_in_the_same_order() -> None:
    clips = clip_set([30, 80, 50, 60, 70, 20, 90, 40])

    def some(workers: int, first: int = 0) -> list[torch.Tensor]:
        batches: Iterator[torch.Tensor] = ShuffledBatches(
            ClipSource(clips, crop=25, batch_size=4), batch_size=4, workers=workers
        )(first)
        return [next(batches) for _ in range(5)]

    for here, there in zip(some(0), some(3), strict=True):
        torch.testing.assert_close(here, there, equal_nan=True)
    torch.testing.assert_close(some(0)[3], some(0, first=3)[0], equal_nan=True)  # a resumed run


def test_a_crop_needs_a_sample() -> None:
    with pytest.raises(ValueError, match="at least one sample, got 0"):
        ClipSource(clip_set([5]), crop=0)


def test_a_slice_of_files_is_the_slice_of_their_samples(tmp_path: Path) -> None:
    samples = [tone(0.2), tone(0.3, pitch=300)]
    files = [str(write(tmp_path / f"{i}.wav", x, subtype="FLOAT")) for i, x in enumerate(samples)]
    wave = OnDisk(files, np.array([0, len(samples[0])]), 8000, None, 0.01)
    start = len(samples[0])
    np.testing.assert_allclose(wave[start : start + len(samples[1])], samples[1], atol=1e-6)
    part = samples[1][400:800]
    np.testing.assert_allclose(wave[start + 400 : start + 800], part - part.mean(), atol=1e-6)
