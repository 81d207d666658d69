"""Intervals against values worked by hand and against what they promise."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from mmssl.eval.interval import Difference, mean_interval, paired_difference


def test_the_interval_of_three_seeds_is_the_one_of_the_t_table() -> None:
    score = mean_interval([0.9, 0.92, 0.97])
    assert score.mean == pytest.approx(0.93)
    assert score.half_width == pytest.approx(4.302653 * 0.0360555 / math.sqrt(3), rel=1e-4)  # t of 2 degrees, std of 3


def test_one_seed_has_no_interval() -> None:
    assert math.isnan(mean_interval([0.9]).half_width)
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])


def test_the_bootstrap_of_four_examples_is_the_enumerated_one() -> None:
    ours, theirs = np.array([[1, 1, 0, 1]], bool), np.array([[0, 1, 1, 0]], bool)
    gains = np.array([1, 0, -1, 1])
    means = [np.mean(gains[list(i)]) for i in product(range(4), repeat=3)]  # one fewer than there are
    gap = paired_difference(ours, theirs, resamples=20_000)
    assert gap.value == 0.25
    assert (gap.low, gap.high) == pytest.approx(tuple(np.quantile(means, (0.025, 0.975))))
    assert (gap.differing, gap.groups) == (3, 4)


def test_a_group_is_resampled_as_a_whole() -> None:
    ours = np.repeat(np.random.default_rng(0).random(20) < 0.6, 10)[None]
    theirs = np.repeat(np.random.default_rng(1).random(20) < 0.5, 10)[None]
    groups = np.repeat([f"machine {i}" for i in range(20)], 10)
    whole, apart = paired_difference(ours, theirs, groups), paired_difference(ours, theirs)
    assert whole.groups == 20
    assert whole.high - whole.low > 2.5 * (apart.high - apart.low)  # √10 times as wide


def test_groups_of_unequal_size_weigh_by_their_examples() -> None:
    ours = np.array([[1, 1, 1, 0]], bool)
    gap = paired_difference(ours, np.zeros((1, 4), bool), np.array([0, 0, 0, 1]))
    assert gap.value == 0.75
    assert (gap.low, gap.high) == (0.0, 1.0)


def test_seeds_that_disagree_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    theirs = np.zeros((3, 400), bool)
    steady = rng.random((3, 400)) < 0.5
    moody = rng.random((3, 400)) < np.array([[0.2], [0.5], [0.8]])
    width = [g.high - g.low for g in (paired_difference(a, theirs) for a in (steady, moody))]
    assert width[1] > 3 * width[0]


def test_one_seed_of_theirs_serves_for_all_of_ours() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.random((3, 50)) < 0.7, rng.random((1, 50)) < 0.5
    assert paired_difference(ours, theirs) == paired_difference(ours, np.repeat(theirs, 3, axis=0))


def test_draws_of_one_seed_are_resampled_and_of_several_are_averaged() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.random((1, 5, 80)) < 0.7, rng.random((1, 5, 80)) < 0.5
    assert paired_difference(ours, theirs) == paired_difference(ours[0], theirs[0])
    same = np.repeat(ours, 2, axis=0), np.repeat(theirs, 2, axis=0)
    assert paired_difference(*same).value == pytest.approx(paired_difference(ours, theirs).value)


def test_very_many_groups_are_merged_without_moving_the_interval() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.random((1, 30_000)) < 0.8, rng.random((1, 30_000)) < 0.75
    gap = paired_difference(ours, theirs)
    half = 1.96 * (ours[0].astype(float) - theirs[0]).std() / math.sqrt(30_000)
    assert (gap.low, gap.high) == pytest.approx((gap.value - half, gap.value + half), abs=0.15 * half)
    assert gap.groups == 30_000


def test_hits_of_different_tests_are_not_paired() -> None:
    with pytest.raises(ValueError, match=r"cannot pair hits of shape \(1, 4\) with hits of shape \(1, 5\)"):
        paired_difference(np.ones((1, 4), bool), np.ones((1, 5), bool))
    with pytest.raises(ValueError, match="groups of shape"):
        paired_difference(np.ones((1, 4), bool), np.ones((1, 4), bool), np.zeros(3))


@pytest.mark.parametrize(("seeds", "groups", "size"), [(1, 40, 1), (1, 12, 10), (3, 20, 5)])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(seeds: int, groups: int, size: int) -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(150):
        level = rng.uniform(0.3, 0.9, (1, groups, 1)) + rng.normal(0, 0.03, (seeds, 1, 1))
        shift = rng.uniform(-0.1, 0.1, (1, groups, 1))  # some groups gain, others lose: the true difference is 0
        draws = rng.random((2, seeds, groups, size))
        ours, theirs = draws[0] < level + shift, draws[1] < level - shift
        gap = paired_difference(
            ours.reshape(seeds, -1), theirs.reshape(seeds, -1), np.repeat(np.arange(groups), size), resamples=400
        )
        covered += gap.low <= 0 <= gap.high
    assert covered >= 0.9 * 150


def test_five_groups_cannot_rule_out_chance_and_six_can() -> None:
    assert Difference(0.2, 0.1, 0.3, differing=5, groups=40).sign == 0
    assert Difference(0.2, 0.1, 0.3, differing=6, groups=40).sign == 1
    assert Difference(-0.2, -0.3, -0.1, differing=6, groups=40).sign == -1
    assert Difference(0.2, 0.0, 0.3, differing=9, groups=40).sign == 0
