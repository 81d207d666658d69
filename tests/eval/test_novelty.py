"""How unlike the training examples new ones are: thresholds hold what they promise, and come from training alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from mmssl.eval.embeddings import read_embeddings, write_embeddings
from mmssl.eval.novelty import novelty

RNG = np.random.default_rng(0)
USUAL, FAR = RNG.standard_normal((3000, 6)), RNG.standard_normal((50, 6)) + 6


@pytest.mark.parametrize("distance", ["knn", "mahalanobis"])
def test_usual_examples_exceed_the_threshold_at_the_rate_and_others_all(distance: Any) -> None:
    found = novelty(USUAL, np.concatenate([RNG.standard_normal((4000, 6)), FAR]), distance=distance, rate=0.05)
    assert found.unusual[:4000].mean() == pytest.approx(0.05, abs=0.025)
    assert found.unusual[4000:].all()
    assert found.scores[4000:].min() > np.median(found.scores[:4000])


def process(n: int, seed: int) -> npt.NDArray[np.float64]:
    """Windows of a slow process, nine tenths of whose rows are those of the window before."""
    steps = np.random.default_rng(seed).standard_normal((n + 100, 6))
    return np.array([np.convolve(column, np.ones(100) / 10, mode="valid")[:n] for column in steps.T]).T


@pytest.mark.parametrize("series", [1, 12])
def test_windows_that_overlap_are_set_aside_together(series: int) -> None:
    train = np.concatenate([process(2400 // series, seed) for seed in range(series)])
    groups = np.repeat([f"pump {i}" for i in range(series)], 2400 // series)
    new = np.concatenate([process(200, 100 + i) for i in range(20)])
    naive = novelty(train, new, rate=0.05).unusual.mean()
    found = novelty(train, new, rate=0.05, groups=groups, overlap=99).unusual.mean()
    assert naive > 0.3
    assert found < 0.15


def test_the_threshold_does_not_look_at_the_new_examples() -> None:
    alone = novelty(USUAL, USUAL[:1])
    assert novelty(USUAL, FAR).threshold == pytest.approx(alone.threshold, rel=1e-6)
    assert novelty(USUAL, USUAL[:1], seed=1).threshold != alone.threshold


def test_impossible_wishes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a rate of 0\.001 cannot be told from 20 training examples .* 0\.05 and 1"):
        novelty(USUAL[:100], FAR, rate=0.001)
    with pytest.raises(ValueError, match="distance must be knn or mahalanobis, got 'cosine'"):
        novelty(USUAL, FAR, distance="cosine")  # type: ignore[arg-type]


def test_the_training_part_of_a_run_is_read_back(tmp_path: Path) -> None:
    split = np.array(["train", "test"] * 10, dtype=object)
    features = USUAL[:20].astype(np.float32)
    write_embeddings(tmp_path / "e.parquet", features, {"split": split})
    train, known = read_embeddings(tmp_path / "e.parquet", split="train")
    np.testing.assert_array_equal(train, features[::2])
    assert list(known.columns) == ["split"]
    pd.DataFrame({"e000": [1.0]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="has no rows of split 'train'"):
        read_embeddings(tmp_path / "other.parquet", split="train")
