"""Masks of wav2vec 2.0 against a simulation of the authors' draws, row by row; and what every mask must be."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mmssl.audio.spans import least_frames, masked_count, masked_frames, span_masks


def drawn(rng: np.random.Generator, frames: int, probability: float, span: int) -> npt.NDArray[np.bool_]:
    """One row as the paper's code draws it."""
    mask = np.zeros(frames, dtype=bool)
    number = max(2, int(probability * frames / span + rng.random()))
    for start in rng.choice(frames - span, number, replace=False):
        mask[start : start + span] = True
    return mask


def runs(row: Tensor) -> int:
    """Stretches of neighbours that are masked."""
    padded = torch.nn.functional.pad(row.int(), (1, 1))
    return int((padded.diff() == 1).sum())


@pytest.mark.parametrize(("frames", "share"), [(19, 0.70), (49, 0.51), (99, 0.49), (499, 0.49), (800, 0.49)])
def test_the_share_is_what_the_authors_draws_come_to(frames: int, share: float) -> None:
    rng = np.random.default_rng(0)
    simulated = np.mean([drawn(rng, frames, 0.65, 10).mean() for _ in range(400)])
    mask = span_masks(torch.full((64,), frames), frames)
    realised = float(mask.float().mean())
    assert realised == pytest.approx(share, abs=0.02)
    assert realised == pytest.approx(simulated, abs=0.02)
    assert set(mask.sum(dim=1).tolist()) == {masked_count(frames)}  # the same number in every row


@pytest.mark.parametrize(("probability", "span"), [(0.8, 10), (0.65, 3), (0.65, 5), (0.3, 4)])
def test_other_settings_are_simulated_as_well(probability: float, span: int) -> None:
    rng = np.random.default_rng(1)
    for frames in (20, 43, 150):
        simulated = np.mean([drawn(rng, frames, probability, span).sum() for _ in range(400)])
        assert masked_count(frames, probability=probability, span=span) == pytest.approx(
            simulated, abs=0.5 + 0.02 * frames
        )


@pytest.mark.parametrize(("probability", "span"), [(0.65, 5), (0.9, 5), (0.5, 1), (0.9, 1)])
def test_every_place_is_masked_about_as_often_as_by_the_authors(probability: float, span: int) -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    ours = span_masks(torch.full((4000,), 60), 60, probability=probability, span=span).double().mean(dim=0).numpy()
    theirs = np.mean([drawn(rng, 60, probability, span) for _ in range(4000)], axis=0)
    assert np.abs(ours - theirs).max() < 0.06


def test_more_spans_than_small_numbers_can_count_have_the_same_share() -> None:
    torch.manual_seed(0)
    frames = torch.tensor([40_000, 300])
    mask = span_masks(frames, 40_000, span=1)
    assert mask.sum(dim=1).tolist() == [masked_count(int(n), span=1) for n in frames]


@given(
    frames=st.lists(st.integers(1, 90), min_size=1, max_size=6),
    span=st.integers(1, 12),
    probability=st.floats(0.05, 0.95),
    seed=st.integers(0, 99),
)
def test_padding_is_never_masked_and_every_clip_has_its_own_number(
    frames: list[int], span: int, probability: float, seed: int
) -> None:
    torch.manual_seed(seed)
    width = max(frames)
    mask = span_masks(torch.tensor(frames), width, probability=probability, span=span)
    most = masked_count(width, probability=probability, span=span)
    index, valid = masked_frames(mask, most)
    assert mask.shape == (len(frames), width)
    for row, n, where, filled in zip(mask, frames, index, valid, strict=True):
        count = masked_count(n, probability=probability, span=span)
        assert int(row.sum()) == count
        assert not row[n:].any()
        assert where[filled].tolist() == row.nonzero()[:, 0].tolist()
        assert not where[~filled].any()
        if n >= least_frames(span):
            assert span < count < n  # two spans at least, and something to see
        else:
            assert count == 0


def test_masked_frames_come_in_spans() -> None:
    torch.manual_seed(0)
    mask = span_masks(torch.full((200,), 200), 200)
    mean_run = float(mask.sum()) / sum(runs(row) for row in mask)
    assert 13 < mean_run < 17  # 14.7 frames in the paper


def test_a_seed_repeats_a_mask_and_rows_differ() -> None:
    torch.manual_seed(3)
    first = span_masks(torch.full((8,), 99), 99)
    torch.manual_seed(3)
    assert torch.equal(first, span_masks(torch.full((8,), 99), 99))
    assert len(torch.unique(first, dim=0)) == 8


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"probability": 1.0}, "probability of a mask must lie between 0 and 1, got 1.0"),
        ({"span": 0}, "a span must be at least one frame, got 0"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        masked_count(50, **settings)
