"""Spread and effective rank against numpy, and what `diagnose` makes of a history."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from mmssl.core.health import diagnose, distinct_share, embedding_health

Row = dict[str, float]


def history(n: int = 6, **columns: Callable[[float], float] | float) -> list[Row]:
    """``n`` logging steps; a column is a number or a function of the share of the training that is done."""
    return [
        {"step": 10.0 * i} | {name: v(i / (n - 1)) if callable(v) else v for name, v in columns.items()}
        for i in range(n)
    ]


HEALTHY: dict[str, Any] = {
    "loss": lambda p: 3 - 2 * p,
    "collapse_loss": 3.5,
    "spread": 0.5,
    "effective_rank": lambda p: 10 + 10 * p,
    "skipped": 0.0,
    "lr": 1e-3,
}


def test_spread_and_effective_rank_are_those_of_numpy() -> None:
    z = np.random.default_rng(0).normal(size=(40, 12)) * np.arange(1, 13) + 2
    out = embedding_health(torch.from_numpy(z))
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    share = np.linalg.svd(z - z.mean(axis=0), compute_uv=False)
    share = share / share.sum()
    assert float(out["spread"]) == pytest.approx(unit.std(axis=0).mean() * math.sqrt(12), rel=1e-5)
    assert float(out["effective_rank"]) == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-4)


def test_identical_embeddings_have_no_spread_and_rank_one() -> None:
    out = embedding_health(torch.full((20, 8), 3.0))
    assert float(out["spread"]) == pytest.approx(0, abs=1e-6)
    assert 1 <= float(out["effective_rank"]) < 8
    assert math.isfinite(float(embedding_health(torch.zeros(5, 4))["effective_rank"]))


def test_an_even_sphere_has_spread_one_and_full_rank() -> None:
    z = torch.cat([torch.eye(16), -torch.eye(16)])
    out = embedding_health(z)
    assert float(out["spread"]) == pytest.approx(1, rel=1e-5)
    assert float(out["effective_rank"]) == pytest.approx(16, rel=1e-4)


def test_one_direction_has_effective_rank_one() -> None:
    z = torch.outer(torch.linspace(-1, 1, 30), torch.arange(1.0, 7.0))
    assert float(embedding_health(z)["effective_rank"]) == pytest.approx(1, abs=1e-3)


def test_health_asks_no_gradient_and_takes_half_precision() -> None:
    z = torch.randn(10, 4, dtype=torch.bfloat16, requires_grad=True)
    out = embedding_health(z)
    assert not out["spread"].requires_grad
    assert out["spread"].dtype == torch.float32


def test_copies_are_counted_with_missing_values_as_equal() -> None:
    x = torch.randn(6, 5, 2, generator=torch.Generator().manual_seed(0))
    x[1] = x[0]
    x[2, 1, 1] = float("nan")
    x[3] = x[2]
    assert distinct_share(x) == pytest.approx(4 / 6)


def test_a_learning_run_is_healthy_and_says_where_it_stands() -> None:
    said = diagnose(history(**HEALTHY))
    assert said.status == "healthy"
    assert said.findings == (
        "No sign of collapse: the spread of the embeddings is 0.50 (1 would be even), their effective rank 20.0, "
        "the loss is at 29% of its collapse value.",
    )


def test_a_loss_that_grows_with_the_crops_alone_is_healthy() -> None:
    said = diagnose(history(**HEALTHY | {"loss": lambda p: 2 + 0.5 * p, "collapse_loss": lambda p: 2.1 + p}))
    assert said.status == "healthy"


def test_a_loss_above_its_collapse_value_in_the_first_steps_is_usual() -> None:
    assert diagnose(history(**HEALTHY | {"loss": lambda p: 7 - 5 * p})).status == "healthy"


def test_no_history_is_no_reason_to_worry() -> None:
    assert diagnose([]).status == "healthy"


def test_identical_embeddings_after_spread_ones_blame_the_learning_rate() -> None:
    said = diagnose(history(**HEALTHY | {"spread": lambda p: 0.5 - 0.495 * p, "lr": lambda p: 0.1 * (1 - p)}))
    assert said.status == "collapsed"
    assert said.findings[0].startswith("Collapse: all embeddings are nearly the same vector (spread 0.005")
    assert "learning rate that is too high (0.1 at its highest); try a tenth" in said.findings[0]


def test_a_loss_at_its_collapse_value_is_a_collapse_even_where_the_spread_is_not_logged() -> None:
    rows = history(loss=3.501, collapse_loss=3.5, step=1.0)
    said = diagnose(rows)
    assert said.status == "collapsed"
    assert "the loss stays at 3.501" in said.findings[0]
    assert diagnose(rows[:2]).status == "healthy"  # one or two rows are too few to say so


def test_embeddings_that_never_differed_blame_the_inputs() -> None:
    said = diagnose(history(**HEALTHY | {"spread": 0.005}))
    assert said.status == "collapsed"
    assert "hardly differed before training" in said.findings[0]


def test_copied_inputs_are_blamed_first() -> None:
    said = diagnose(history(**HEALTHY | {"spread": lambda p: 0.5 - 0.495 * p, "skipped": 3.0}), distinct=0.1)
    assert "Likely cause: the data. Only 10% of the inputs differ" in said.findings[0]


def test_skipped_steps_are_blamed_before_the_learning_rate() -> None:
    said = diagnose(history(**HEALTHY | {"spread": lambda p: 0.5 - 0.495 * p, "skipped": 3.0}))
    assert "Likely cause: the training diverged" in said.findings[0]
    assert "3 of 50 steps were skipped" in said.findings[1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"loss": 3.0}, "The loss has not fallen (86% of its collapse value at the start, 86% now)"),
        ({"loss": 3.0, "collapse_loss": 0.0}, "The loss has not fallen (3 at the start, 3 now)"),
        ({"loss": lambda p: 2 + p}, "The loss has not fallen (57% of its collapse value at the start, 86% now)"),
        ({"loss": lambda p: 90 - 50 * p}, "The loss (40) is above the value that it has when all embeddings are the"),
        ({"effective_rank": lambda p: 10 - 8.5 * p}, "hardly more than one direction (effective rank 1.5, 10.0 at"),
        ({"skipped": 2.0}, "2 of 50 steps were skipped"),
    ],
)
def test_what_is_no_collapse_but_wrong_is_a_warning(change: Row, words: str) -> None:
    said = diagnose(history(**HEALTHY | change))
    assert said.status == "warning"
    assert words in said.findings[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scale": lambda p: 14 * 0.01**p}, "fell to 0.14 (a temperature of 7.1)"),
        ({"scale": 100.0, "loss": lambda p: 3 - p}, "rose to its limit, 100, with the loss still at 57% of"),
    ],
)
def test_a_scale_that_went_to_an_end_is_a_warning(change: Row, words: str) -> None:
    said = diagnose(history(n=9, **HEALTHY | change))
    assert said.status == "warning"
    assert words in said.findings[0]
    assert "train.lr" in said.findings[0]


@pytest.mark.parametrize("scale", [14.0, 100.0, lambda p: 20 if p > 0.9 else 0.5])
def test_a_scale_at_its_limit_with_pairs_that_are_told_apart_is_healthy(scale: Any) -> None:
    assert diagnose(history(**HEALTHY | {"scale": scale})).status == "healthy"


def test_codebooks_with_one_entry_in_use_are_a_collapse_although_the_loss_falls() -> None:
    said = diagnose(history(**HEALTHY | {"code_use": lambda p: 0.3 * (p < 0.5)}))
    assert said.status == "collapsed"
    assert "the same code vector" in said.findings[0]
    assert "method.diversity" in said.findings[0]
    assert diagnose(history(**HEALTHY | {"code_use": lambda p: 0.3 - 0.2 * p})).status == "healthy"


def test_clusters_of_which_one_has_nearly_all_frames_are_worth_a_warning() -> None:
    said = diagnose(history(**HEALTHY | {"unit_perplexity": 1.2}))
    assert said.status == "warning"
    assert "one cluster (perplexity 1.20)" in said.findings[0]
    assert diagnose(history(**HEALTHY | {"unit_perplexity": 40.0})).status == "healthy"


def test_mostly_copied_inputs_are_worth_a_warning_on_their_own() -> None:
    said = diagnose(history(**HEALTHY), distinct=0.3)
    assert (said.status, said.findings) == ("warning", ("Only 30% of the inputs looked at differ from each other.",))


def test_a_nan_loss_in_the_history_does_not_hide_the_rest() -> None:
    rows = history(**HEALTHY | {"spread": 0.001})
    rows[2]["loss"] = math.nan
    assert diagnose(rows).status == "collapsed"


LN_K = math.log(512)


def distilled(n: int = 6, **columns: Callable[[float], float] | float) -> list[Row]:
    """A run of self-distillation with 512 prototypes."""
    return history(n, **{**HEALTHY, "collapse_loss": LN_K, "teacher_entropy": 3.0, **columns})


def test_a_teacher_that_spreads_samples_over_all_prototypes_has_collapsed() -> None:
    said = diagnose(distilled(teacher_entropy=lambda p: LN_K * (1 - 0.5 * (1 - p) ** 6), loss=LN_K))
    assert said.status == "collapsed"
    assert "evenly over all prototypes (entropy 6.238 of ln K = 6.238)" in said.findings[0]
    assert "higher learning rate" in said.findings[0]
    assert "too high" not in said.findings[0]


def test_a_teacher_that_assigns_all_samples_to_one_prototype_has_collapsed() -> None:
    said = diagnose(distilled(teacher_entropy=0.01, loss=0.05))
    assert said.status == "collapsed"
    assert "all samples to one prototype (entropy 0.01, loss 0.05, ln K = 6.238)" in said.findings[0]


def test_a_sure_teacher_whose_samples_differ_is_healthy() -> None:
    assert diagnose(distilled(teacher_entropy=0.01, loss=lambda p: 6 - 4 * p)).status == "healthy"


def test_self_distillation_starts_at_its_collapse_value_without_a_collapse() -> None:
    rows = distilled(loss=lambda p: LN_K * (1 - 0.0009 * p), teacher_entropy=5.0)
    assert diagnose(rows).status == "healthy"
    for row in rows:
        del row["teacher_entropy"]
    assert diagnose(rows).status == "collapsed"  # what the loss alone would say


def test_one_look_at_a_collapsed_teacher_is_too_early() -> None:
    rows = distilled(teacher_entropy=3.0)
    rows[-1]["teacher_entropy"] = LN_K
    assert diagnose(rows).status == "healthy"


def test_a_collapse_value_that_is_known_late_is_no_error() -> None:
    rows = history(**HEALTHY)
    del rows[0]["collapse_loss"]
    assert diagnose(rows).status == "healthy"


def test_what_is_said_fits_every_modality() -> None:
    bad: list[dict[str, Any]] = [
        {"loss": 3.0},
        {"effective_rank": lambda p: 10 - 8.5 * p},
        {"spread": 0.001},
        {"loss": lambda p: 90 - p},
    ]
    said = [f for change in bad for f in diagnose(history(**HEALTHY | change), distinct=0.1).findings]
    assert len(said) >= 8
    assert not [text for text in said if "window" in text or "entit" in text]


def test_embeddings_that_are_not_finite_have_no_numbers_and_raise_nothing() -> None:
    z = torch.randn(16, 4)
    z[3, 1] = float("inf")
    assert all(math.isnan(value) for value in embedding_health(z).values())
