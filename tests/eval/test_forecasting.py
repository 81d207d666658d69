"""Ridge forecasts against scikit-learn and against values worked by hand; the naive forecasts; seasons."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.linear_model import Ridge

from mmssl.eval import forecasting
from mmssl.eval.forecast_results import ForecastResult, compare, forecast_records, forecast_table, forecast_verdict
from mmssl.eval.forecasting import (
    PENALTIES,
    ForecastScore,
    by_channel,
    find_season,
    fit_ridge,
    forward_filled,
    last_value,
    origins,
    past_values,
    score_forecasts,
    seasonal_naive,
)
from mmssl.eval.records import Subjects

Floats = npt.NDArray[np.float32]
TRAIN, VALID, TEST = [(0, 200)], [(200, 280)], [(280, 380)]
SUBJECTS = Subjects("ts2vec", "random-encoder", ("linear",), {"ts2vec": "TS2Vec", "linear": "linear"})


def drawn(rows: int = 380, channels: int = 2, dim: int = 6) -> tuple[Floats, Floats]:
    """Values, and features that know something of the next ones."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(rows, channels)).cumsum(axis=0).astype(np.float32)
    features = np.concatenate([values, rng.normal(size=(rows, dim - channels))], axis=1).astype(np.float32)
    return (values - values.mean(axis=0)) / values.std(axis=0), features


def authors_protocol(z: Floats, values: Floats, horizon: int, skip: int) -> tuple[float, npt.NDArray[np.float64]]:
    """Written from the paper: scikit-learn's Ridge for each penalty, the best by RMSE + MAE on the validation part."""

    def part(first: int, stop: int) -> tuple[Floats, Floats]:
        rows = range(first, stop - horizon)
        return z[list(rows)], np.stack([values[t + 1 : t + 1 + horizon].ravel() for t in rows])

    x, y = part(TRAIN[0][0] + skip, TRAIN[0][1])
    valid_x, valid_y = part(*VALID[0])
    losses = []
    for penalty in PENALTIES:
        error = Ridge(penalty).fit(x.astype(np.float64), y).predict(valid_x) - valid_y
        losses.append(np.sqrt((error**2).mean()) + np.abs(error).mean())
    best = PENALTIES[int(np.argmin(losses))]
    test_x, _ = part(*TEST[0])
    return best, Ridge(best).fit(x.astype(np.float64), y).predict(test_x)


@pytest.mark.parametrize("horizon", [1, 5, 40])
@pytest.mark.parametrize("cells", [2**24, 700])
def test_the_forecasts_are_those_of_the_published_protocol(
    horizon: int, cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecasting, "CELLS", cells)  # few: the leads are worked through in several blocks
    values, z = drawn()
    penalty, expected = authors_protocol(z, values, horizon, skip=10)
    fitted = fit_ridge(
        lambda rows: z[rows], values, origins(TRAIN, horizon, skip=10), origins(VALID, horizon), horizon=horizon
    )
    assert fitted.penalty == penalty
    rows = origins(TEST, horizon)
    np.testing.assert_allclose(fitted(rows).reshape(len(rows), -1), expected, rtol=2e-4, atol=2e-5)
    score = score_forecasts(fitted, values, rows, horizon=horizon)
    truth = np.stack([values[t + 1 : t + 1 + horizon].ravel() for t in rows])
    assert score.mse == pytest.approx(float(((expected - truth) ** 2).mean()), rel=1e-3)
    assert score.mae == pytest.approx(float(np.abs(expected - truth).mean()), rel=1e-3)
    assert score.squared.mean() == pytest.approx(score.mse, rel=1e-6)
    assert score.channel_mse.mean() == pytest.approx(score.mse, rel=1e-6)


@pytest.mark.parametrize("missing", [1, 30])  # fewer than features, and more
def test_a_missing_target_is_left_out_of_its_own_regression_alone(missing: int) -> None:
    values, z = drawn()
    holed = values.copy()
    holed[np.random.default_rng(1).choice(190, missing, replace=False) + 5, 1] = np.nan
    rows = origins(TRAIN, 3)
    fitted = fit_ridge(lambda r: z[r], holed, rows, origins(VALID, 3), horizon=3, penalties=[2.0])
    test = origins(TEST, 3)
    for lead in range(3):
        for channel in range(2):
            y = holed[rows + 1 + lead, channel]
            known = ~np.isnan(y)
            expected = Ridge(2.0).fit(z[rows][known].astype(np.float64), y[known]).predict(z[test])
            np.testing.assert_allclose(fitted(test)[:, lead, channel], expected, rtol=1e-3, atol=1e-5)


def test_missing_test_targets_do_not_count() -> None:
    values = np.arange(20, dtype=np.float32)[:, None]
    values[15] = np.nan
    score = score_forecasts(
        last_value(forward_filled(values, np.array([0, 20])), horizon=2), values, origins([(10, 20)], 2), horizon=2
    )
    # one and two rows ahead of rows 10 to 17; row 15 is missing: forecasts from it repeat the value of row 14
    assert score.squared.tolist() == [2.5, 2.5, 2.5, 1.0, 4.0, 6.5, 2.5, 2.5]
    assert score.mse == pytest.approx((3 * 5 + 1 + 4 + 13 + 2 * 5) / 14)


def test_origins_stay_within_their_span() -> None:
    assert origins([(0, 10), (10, 14)], 3, skip=2).tolist() == [2, 3, 4, 5, 6]
    assert origins([(0, 10), (10, 15)], 3).tolist() == [0, 1, 2, 3, 4, 5, 6, 10, 11]


def test_a_horizon_longer_than_the_series_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a horizon of 24 rows needs at least 35 rows after the 10 .* has 30"):
        origins([(0, 30), (30, 50)], 24, skip=10)


def test_features_that_are_not_finite_are_refused() -> None:
    values, z = drawn()
    z[50] = np.nan
    with pytest.raises(ValueError, match="did training diverge"):
        fit_ridge(lambda rows: z[rows], values, origins(TRAIN, 3), origins(VALID, 3), horizon=3)


def test_naive_forecasts_are_what_their_names_say() -> None:
    values = np.arange(30, dtype=np.float32)[:, None]
    rows = np.array([14, 20])
    assert last_value(values, horizon=3)(rows)[..., 0].tolist() == [[14, 14, 14], [20, 20, 20]]
    ahead = seasonal_naive(values, np.array([0, len(values)]), horizon=5, season=2)(rows)[..., 0]
    assert ahead.tolist() == [[13, 14, 13, 14, 13], [19, 20, 19, 20, 19]]
    both = by_channel([last_value(values, horizon=3), last_value(-values, horizon=3)])(rows)
    assert both.shape == (2, 3, 2)
    assert both[0].tolist() == [[14, -14]] * 3


def test_no_season_reaches_across_a_break() -> None:
    values = np.arange(10, 20, dtype=np.float32)[:, None]
    ahead = seasonal_naive(values, np.array([0, 4, 10]), horizon=3, season=3)(np.array([5, 6, 3]))[..., 0]
    # 13 belongs to the stretch before the break; a season before row 6 its stretch has begun
    assert ahead.tolist() == [[15, 14, 15], [14, 15, 16], [11, 12, 13]]


def test_a_gap_is_filled_from_the_past_of_the_same_entity() -> None:
    nan = np.nan
    values = np.array([[nan, 1.0], [2.0, nan], [nan, nan], [nan, 5.0], [7.0, nan]], dtype=np.float32)
    filled = forward_filled(values, np.array([0, 3, 5]))
    assert filled.tolist() == [[0, 1], [2, 1], [2, 1], [0, 5], [7, 5]]


def test_past_values_end_where_the_entity_begins() -> None:
    filled = np.arange(1, 9, dtype=np.float32)
    features = past_values(filled, np.array([0, 5, 8]), window=3, extra=-filled[:, None])
    assert features(np.array([1, 4, 5, 7])).tolist() == [[2, 1, 0, -2], [5, 4, 3, -5], [6, 0, 0, -6], [8, 7, 6, -8]]


@pytest.mark.parametrize("season", [7, 24])
def test_the_season_of_a_noisy_periodic_series_is_found(season: int) -> None:
    rng = np.random.default_rng(0)
    t = np.arange(600)
    x = np.sin(2 * np.pi * t / season) + 0.01 * t + 0.5 * rng.normal(size=600)
    x[rng.choice(600, 60, replace=False)] = np.nan
    assert find_season(x[:, None].astype(np.float32), [(0, 600)]) == season


@pytest.mark.parametrize("kind", ["noise", "walk", "constant", "short"])
def test_what_has_no_season_gets_none(kind: str) -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(1000, 1)).astype(np.float32)
    values = {"noise": noise, "walk": noise.cumsum(axis=0), "constant": np.ones_like(noise), "short": noise[:5]}[kind]
    assert find_season(values, [(0, len(values))]) is None


def result(subject: str, seed: int, error: float, horizon: int = 10, rows: int = 400) -> ForecastResult:
    squared = error + 0.01 * np.random.default_rng(seed).normal(size=rows)
    score = ForecastScore(
        horizon, error, error, np.array([error]), np.array([error]), squared, np.arange(rows, dtype=np.int64)
    )
    return ForecastResult(subject, seed, 100, score)


def test_the_verdict_says_who_is_better_and_when_a_control_is() -> None:
    results = [result("ts2vec", s, 0.5) for s in (0, 1)] + [result("random-encoder", s, 0.7) for s in (0, 1)]
    results.append(result("linear", 0, 0.3))
    verdict = forecast_verdict(results, SUBJECTS, season=None)
    assert verdict.outcome == "helped"
    assert verdict.headline.startswith(
        "Pretraining helped: MSE 10 rows ahead 0.500 against 0.700 (better) with the same"
    )
    assert "Linear, the strongest control, is ahead of TS2Vec" in verdict.details[0]
    assert verdict.difference == pytest.approx(0.2, abs=0.01)


def test_a_headline_over_many_horizons_says_at_which_it_helped_and_leaves_figures_to_the_text() -> None:
    errors = {10: (0.5, 0.7), 20: (0.9, 0.7), 30: (0.7, 0.7), 40: (0.5, 0.7)}
    results = []
    for horizon, (ours, theirs) in errors.items():
        results += [result("ts2vec", 0, ours, horizon), result("random-encoder", 0, theirs, horizon)]
        results.append(result("linear", 0, 0.3, horizon))
    verdict = forecast_verdict(results, SUBJECTS, season=None)
    assert verdict.headline == (
        "It depends on the horizon: better 10 and 40 rows ahead; worse 20 rows ahead; no difference shows 30 rows "
        "ahead, against the same encoder untrained."
    )
    assert verdict.details[0].startswith("MSE 10 rows ahead 0.500 against 0.700 (better), 20 rows ahead")


def test_too_few_independent_blocks_show_no_difference() -> None:
    results = [result("ts2vec", 0, 0.5), result("random-encoder", 0, 0.7), result("linear", 0, 0.9)]
    verdict = forecast_verdict(results, SUBJECTS, season=100)  # 400 rows are 4 blocks
    assert verdict.outcome == "no-difference"
    assert "Fewer than 6 independent blocks" in verdict.details[-1]


def test_rows_of_two_entities_share_no_block() -> None:
    results = [result("ts2vec", 0, 0.5), result("random-encoder", 0, 0.7)]
    assert compare(results, "ts2vec", "random-encoder", horizon=10, block=100).groups == 4
    for each in results:
        each.score.rows[250:] += 1000
    assert compare(results, "ts2vec", "random-encoder", horizon=10, block=100).groups == 5


def test_records_have_standardised_errors_and_those_in_the_channels_unit() -> None:
    records = forecast_records(
        [result("ts2vec", 0, 0.5)], dataset="d", split="time", channels=["OT"], std=np.array([3.0])
    )
    values = {r.metric: r.value for r in records}
    assert values == pytest.approx({"mse": 0.5, "mae": 0.5, "mse in units of OT": 4.5, "mae in units of OT": 1.5})
    assert {r.protocol for r in records} == {"forecast-10/1"}


def test_the_table_has_a_column_a_horizon() -> None:
    table = forecast_table([result("ts2vec", s, 0.5 + s / 10, h) for s in (0, 1) for h in (10, 50)], SUBJECTS)
    assert table.columns == ("", "10 rows", "50 rows")
    assert table.rows[0][0] == "TS2Vec"
    assert table.rows[0][1].startswith("0.550 ± 0.635 / 0.550")
