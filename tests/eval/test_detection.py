"""Distances against scikit-learn, thresholds against known tails, and measures worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import expon
from sklearn.covariance import LedoitWolf
from sklearn.metrics import f1_score
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from mmssl.eval import detection
from mmssl.eval.detection import (
    adjusted,
    change_scores,
    detection_scores,
    episodes,
    f1,
    groups_of_time,
    knn_distance,
    mahalanobis_distance,
    moving_z_score,
    threshold,
    top_episodes,
)


def features(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, 5)) @ np.diag([1.0, 2.0, 0.5, 10.0, 1.0]) + 3).astype(np.float32)


def test_knn_distances_are_those_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection, "BLOCK", 7)
    train, test = features(60), features(20, seed=1)
    scaler = StandardScaler().fit(train)
    expected = NearestNeighbors(n_neighbors=4).fit(scaler.transform(train)).kneighbors(scaler.transform(test))[0]
    np.testing.assert_allclose(knn_distance(train, test, k=4), expected.mean(axis=1), rtol=1e-4)


def test_mahalanobis_distances_are_those_of_scikit_learn() -> None:
    train, test = features(60), features(20, seed=1)
    scaler = StandardScaler().fit(train)
    model = LedoitWolf(assume_centered=True).fit(scaler.transform(train))
    expected = np.sqrt(model.mahalanobis(scaler.transform(test)))
    np.testing.assert_allclose(mahalanobis_distance(train, test), expected, rtol=1e-5)


def test_a_flat_recording_has_plain_distances_and_a_threshold() -> None:
    flat, new = np.full((300, 5), 2.5, dtype=np.float32), features(20)
    distance = mahalanobis_distance(flat, np.concatenate([flat, new]))
    np.testing.assert_allclose(distance[:300], 0, atol=1e-6)
    np.testing.assert_allclose(distance[300:], np.linalg.norm(new - 2.5, axis=1), rtol=1e-5)
    assert threshold(distance[:300]) == pytest.approx(0, abs=1e-6)


def test_more_neighbours_than_training_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="k must be between 1 and the 3 training rows, got 5"):
        knn_distance(features(3), features(2))


@pytest.mark.parametrize("rate", [1e-2, 1e-3, 1e-4])
def test_extreme_values_reach_beyond_the_data_as_far_as_the_tail_does(rate: float) -> None:
    limits = [threshold(np.random.default_rng(s).exponential(size=4000), rate=rate) for s in range(10)]
    assert np.mean(limits) == pytest.approx(float(expon.isf(rate)), rel=0.15)


def test_quantile_and_sigma_are_what_they_say() -> None:
    scores = np.arange(1001.0)
    assert threshold(scores, how="quantile", rate=0.01) == pytest.approx(990)
    assert threshold(scores, how="sigma") == pytest.approx(500 + 4 * scores.std())
    assert threshold(np.append(scores, np.nan), how="quantile", rate=0.01) == pytest.approx(990)


def test_a_flat_top_gives_the_largest_training_score() -> None:
    assert threshold(np.zeros(500)) == 0.0


@pytest.mark.parametrize(
    ("how", "rate", "message"),
    [
        ("evt", 1e-3, "50 rows to take a threshold from, and evt needs 200"),
        ("quantile", 1e-3, "quantile needs 1,000 for a rate of 0.001"),
        ("sigma", 0.5, "rate of false alarms must lie between 0 and 0.1 a row, got 0.5"),
        ("guess", 1e-3, "threshold must be evt, quantile or sigma, got 'guess'"),
    ],
)
def test_a_threshold_that_cannot_be_had_is_refused(how: str, rate: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        threshold(np.arange(50.0), how=how, rate=rate)  # type: ignore[arg-type]


def test_the_moving_z_score_looks_at_the_rows_before_only() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 2)).astype(np.float32)
    x[40, 0] = np.nan
    score = moving_z_score(x, window=20)
    past = x[50 - 20 : 50].astype(np.float64)
    expected = np.abs(x[50] - np.nanmean(past, axis=0)) / (np.nanstd(past, axis=0) + 0.05)
    assert score[50] == pytest.approx(expected.max(), rel=1e-5)
    later = x.copy()
    later[51:] += 100
    np.testing.assert_array_equal(moving_z_score(later, window=20)[:51], score[:51])
    assert (score[:10] == 0).all()


def test_measures_by_hand() -> None:
    truth = np.array([0, 0, 1, 1, 1, 0, 0, 1, 0, 0], dtype=bool)
    scores = np.array([0.1, 0.2, 0.3, 0.9, 0.2, 0.8, 0.1, 0.4, 0.0, 0.2])
    found = detection_scores(truth, scores, 0.5, delay=0)
    # alarms at rows 3 and 5: one of four anomalous rows, and one false one
    assert found["f1"] == pytest.approx(2 * 0.5 * 0.25 / 0.75)
    # the first episode counts as found: three of four rows, one false alarm
    assert found["f1_point_adjusted"] == pytest.approx(2 * 0.75 * 0.75 / 1.5)
    # not at its first row: nothing is found
    assert found["f1_delay_adjusted"] == 0.0
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[truth] for b in scores[~truth]]
    assert found["auroc"] == pytest.approx(np.mean(pairs))


def test_f1_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth, alarm = rng.random((2, 50)) > 0.7
    assert f1(truth, alarm) == pytest.approx(f1_score(truth, alarm))
    assert f1(truth, np.zeros(50, dtype=bool)) == 0.0


def delay_adjusted(predict: list[int], label: list[int], delay: int) -> list[int]:
    """Ren et al. (KDD 2019), row by row."""
    out, row = list(predict), 0
    while row < len(label):
        stop = row
        while stop < len(label) and label[stop] == label[row]:
            stop += 1
        if label[row]:
            out[row:stop] = [int(1 in predict[row : min(row + delay + 1, stop)])] * (stop - row)
        row = stop
    return out


@pytest.mark.parametrize("delay", [0, 2, 7])
def test_delay_adjustment_is_the_published_one(delay: int) -> None:
    rng = np.random.default_rng(delay)
    truth = np.repeat(rng.random(30) > 0.6, 5)
    alarm = rng.random(150) > 0.85
    expected = delay_adjusted(alarm.astype(int).tolist(), truth.astype(int).tolist(), delay)
    assert adjusted(truth, alarm, delay=delay).astype(int).tolist() == expected


def test_random_alarms_look_good_once_adjusted() -> None:
    rng = np.random.default_rng(0)
    truth = np.zeros(5000, dtype=bool)
    truth[1000:1300] = truth[3000:3300] = True
    found = detection_scores(truth, rng.random(5000), 0.98, delay=7)
    assert found["f1"] < 0.1
    assert found["f1_point_adjusted"] > 0.8


@pytest.mark.parametrize(("truth", "word"), [([False] * 4, "normal"), ([True] * 4, "anomalous")])
def test_a_part_of_one_kind_is_not_scored(truth: list[bool], word: str) -> None:
    with pytest.raises(ValueError, match=f"all 4 rows are {word}"):
        detection_scores(np.array(truth), np.arange(4.0), 1.0, delay=1)


def test_episodes_and_their_peaks() -> None:
    truth = np.array([1, 1, 0, 0, 1, 0, 0, 0, 1], dtype=bool)
    assert episodes(truth) == [(0, 2), (4, 5), (8, 9)]
    assert episodes(truth, join=2) == [(0, 5), (8, 9)]
    scores = np.array([0, 5, 4, 0, 3, np.nan, 0, 2, 0])
    assert top_episodes(scores, count=3, width=2) == [1, 4, 7]
    assert top_episodes(np.full(3, np.nan), count=2, width=1) == []


def test_a_change_of_regime_is_where_the_embeddings_move() -> None:
    x = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    x[120:] += 3
    change = change_scores(x, span=20)
    assert int(np.nanargmax(change)) == pytest.approx(120, abs=1)
    assert np.isnan(change[:20]).all()
    assert np.isnan(change[-19:]).all()
    assert np.isnan(change_scores(x[:30], span=20)).all()


def test_an_episode_is_one_group_and_normal_rows_are_dealt_into_blocks() -> None:
    truth = np.array([0, 0, 0, 0, 0, 1, 1, 1, 0, 0], dtype=bool)
    assert groups_of_time(truth, block=2).tolist() == [0, 0, 1, 1, 2, 3, 3, 3, 4, 4]
