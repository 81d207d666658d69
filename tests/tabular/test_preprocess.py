"""Scales and vocabularies against scikit-learn and pandas, what is left out, and drift."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import QuantileTransformer

from mmssl.tabular.data import Roles, read_table
from mmssl.tabular.preprocess import KNOTS, TablePreprocessor, describe_drift


def drawn(rows: int = 500, *, seed: int = 0, shift: float = 0.0, towns: str = "abc") -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "income": np.exp(rng.standard_normal(rows) + shift),
            "age": rng.integers(18, 90, rows) + 1000.0,
            "town": rng.choice(list(towns), rows, p=np.arange(1, len(towns) + 1) / sum(range(1, len(towns) + 1))),
        }
    )
    frame.loc[frame.sample(frac=0.2, random_state=1).index, ["income", "town"]] = None
    return frame


def fitted(frame: pd.DataFrame, **options: Any) -> TablePreprocessor:
    return TablePreprocessor(**options).fit(read_table(frame))


def applied(preprocessor: TablePreprocessor, frame: pd.DataFrame) -> npt.NDArray[np.float32]:
    return preprocessor(read_table(frame, columns=preprocessor.columns))


def test_standard_scaling_has_the_mean_and_deviation_of_the_training_rows_and_of_no_other() -> None:
    train, new = drawn(), drawn(seed=1, shift=1)
    values = applied(fitted(train, scaling="standard"), new)
    want = (new["income"] - train["income"].mean()) / train["income"].std(ddof=0)
    np.testing.assert_allclose(values[:, 0], want, rtol=1e-4, atol=1e-5)


def test_quantile_scaling_agrees_with_scikit_learn_where_no_value_repeats() -> None:
    train, new = drawn(), drawn(seed=1)
    values = applied(fitted(train), new)[:, 0]
    reference = QuantileTransformer(n_quantiles=KNOTS, output_distribution="normal").fit(train[["income"]])
    want = reference.transform(new[["income"]])[:, 0]
    inside = np.abs(want) < 2  # they differ in the outermost ranks, which ours keep apart from infinity
    np.testing.assert_allclose(values[inside], want[inside], atol=0.05)
    assert inside.sum() > 300
    np.testing.assert_array_equal(np.isnan(values), new["income"].isna())


def test_quantile_scaling_makes_any_column_standard_normal_and_bounds_what_lies_beyond() -> None:
    train = drawn(5000)
    values = applied(fitted(train), train)[:, 0]
    known = values[~np.isnan(values)]
    np.testing.assert_allclose([known.mean(), known.std()], [0, 1], atol=0.02)
    new = train.head(3).assign(income=[1e9, -1e9, train["income"].max()])
    bounded = applied(fitted(train), new)[:, 0]
    assert bounded[0] == bounded[2] == -bounded[1] == pytest.approx(2.886, abs=0.01)


def test_a_value_that_many_rows_share_has_the_middle_of_their_ranks() -> None:
    frame = pd.DataFrame({"gain": [0.0] * 90 + list(range(1, 11))})
    values = applied(fitted(frame), frame)[:, 0]
    assert values[0] == pytest.approx(-0.1257, abs=1e-3)  # the normal quantile of .45
    assert (np.diff(values[89:]) > 0).all()


def test_codes_follow_frequency_and_rare_categories_are_cut() -> None:
    frame = drawn(2000, towns="abcdef")
    counts = frame["town"].value_counts()
    whole, cut = fitted(frame), fitted(frame, max_categories=3)
    assert whole.cardinalities == (0, 0, 6)
    assert cut.cardinalities == (0, 0, 3)
    code = {name: k for k, name in enumerate(counts.index, start=1)}
    for preprocessor, most in ((whole, 6), (cut, 3)):
        want = [np.nan if pd.isna(t) else code[t] if code[t] <= most else 0 for t in frame["town"]]
        np.testing.assert_array_equal(applied(preprocessor, frame)[:, 2], want)


def test_a_column_of_a_hundred_thousand_categories_keeps_the_most_frequent() -> None:
    common = ["x"] * 50_000 + ["y"] * 20_000
    frame = pd.DataFrame({"id": common + [f"c{i}" for i in range(100_000)]})
    preprocessor = fitted(frame)
    assert preprocessor.cardinalities == (1000,)
    values = applied(preprocessor, frame)[:, 0]
    assert values[[0, 50_000]].tolist() == [1, 2]
    assert (values == 0).sum() == 99_002


def test_an_unseen_category_is_zero_and_a_missing_cell_nan_whatever_the_new_vocabulary() -> None:
    values = applied(fitted(drawn()), pd.DataFrame({"income": [1.0] * 3, "age": [1.0] * 3, "town": ["z", None, "c"]}))
    np.testing.assert_array_equal(values[:, 2], [0, np.nan, 1])


def test_columns_that_say_nothing_are_left_out_and_named() -> None:
    frame = drawn().assign(empty=np.nan, same=3.0, one="a", known=[1.0, np.nan] * 250)
    preprocessor = fitted(frame)
    assert [c.name for c in preprocessor.columns] == ["income", "age", "town", "known"]
    assert preprocessor.left_out == {
        "empty": "no value in any training row",
        "same": "the same value in all training rows",
        "one": "the same value in all training rows",
    }
    assert set(applied(preprocessor, frame)[::2, 3]) == {0.0}  # that it is missing elsewhere is all it says


def test_what_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(ValueError, match=r"1 row tells nothing.*at least 2 samples"):
        fitted(drawn(1))
    with pytest.raises(ValueError, match=r"no column is left to learn from: x \(the same value"):
        fitted(pd.DataFrame({"x": [1.0, 1.0]}))
    with pytest.raises(ValueError, match="scaling must be 'quantile' or 'standard', got 'minmax'"):
        fitted(drawn(), scaling="minmax")
    with pytest.raises(ValueError, match="max_categories must be at least 1, got 0"):
        fitted(drawn(), max_categories=0)


def test_a_table_that_was_read_in_another_way_is_refused() -> None:
    preprocessor = fitted(drawn())
    with pytest.raises(ValueError, match="column 'age' of the training data is missing; there is income, town"):
        preprocessor(read_table(drawn().drop(columns="age")))
    with pytest.raises(ValueError, match=r"'age' was read as .*categorical.*columns=preprocessor\.columns"):
        preprocessor(read_table(drawn().assign(age="old")))


@pytest.mark.parametrize("scaling", ["quantile", "standard"])
def test_its_state_is_json_and_comes_back(scaling: str) -> None:
    preprocessor = fitted(drawn(), scaling=scaling)
    state = json.loads(json.dumps(preprocessor.state(), allow_nan=False))
    assert TablePreprocessor.from_state(state) == preprocessor
    assert state["unseen"] == 0
    assert state["columns"][2]["vocabulary"] == ["c", "b", "a"]


def test_quantiles_of_a_long_table_are_taken_from_evenly_spread_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmssl.tabular.preprocess.FIT_ROWS", 1000)
    monkeypatch.setattr("mmssl.tabular.preprocess.CHUNK", 300)
    frame = drawn(4000)
    whole, thinned = applied(fitted(drawn(4000).iloc[::4]), frame), applied(fitted(frame), frame)
    np.testing.assert_allclose(whole[:, 0], thinned[:, 0], atol=1e-5)


# ------------------------------------------------------------------------------------------------ drift


def test_rows_of_the_same_distribution_have_not_drifted() -> None:
    preprocessor = fitted(drawn(4000))
    for rows in (60, 500):
        new = read_table(drawn(rows, seed=5), columns=preprocessor.columns)
        assert not any(d.notable for d in preprocessor.drift(new)), rows
        assert describe_drift(preprocessor.drift(new), rows).startswith("drift: none of 3 columns differs")


def test_the_distance_is_half_the_sum_of_differences_of_shares() -> None:
    train = pd.DataFrame({"town": ["a"] * 60 + ["b"] * 40, "x": np.arange(100.0)})
    new = pd.DataFrame({"town": ["a"] * 20 + ["b"] * 60 + ["z"] * 20, "x": np.arange(100.0) + 50})
    town, x = fitted(train).drift(read_table(new, columns=fitted(train).columns))
    assert town.distance == pytest.approx(0.4)
    assert town.outside == pytest.approx(0.2)
    assert x.distance == pytest.approx(0.5)
    assert x.outside == pytest.approx(0.5)


@pytest.mark.parametrize("most", [100_000, 500])
@pytest.mark.parametrize(("categories", "rows"), [(3000, 7000), (3000, 1000), (20, 1000)])
def test_rows_of_the_same_distribution_have_as_many_new_categories_as_chance_has_it(
    categories: int, rows: int, most: int
) -> None:
    rng = np.random.default_rng(0)
    weights = 1 / np.arange(1, categories + 1)
    town = [f"t{i}" for i in rng.choice(categories, 2 * rows, p=weights / weights.sum())]
    table = read_table(pd.DataFrame({"town": town}), Roles(categorical=["town"]))
    fitted = TablePreprocessor(max_categories=most).fit(table.select(slice(rows)))
    (drift,) = fitted.drift(table.select(slice(rows, None)))
    assert drift.outside == pytest.approx(drift.outside_expected, abs=0.05)
    assert not drift.notable
    (drift,) = fitted.drift(read_table(pd.DataFrame({"town": ["t0", "new"] * 500}), columns=fitted.columns))
    assert drift.notable


def test_drift_is_told_by_column_the_most_changed_first() -> None:
    preprocessor = fitted(drawn(2000))
    new = drawn(2000, seed=3, shift=2, towns="abz")
    new.loc[:1000, "age"] = None
    text = describe_drift(preprocessor.drift(read_table(new, columns=preprocessor.columns)), len(new)).splitlines()
    assert text[0] == "drift: 3 of 3 columns differ from the training rows"
    assert [line.split(":")[0].strip() for line in text[1:]][2] == "age"
    assert any("town" in line and "new values" in line for line in text)
    assert "missing 50.0%, 0.0% before" in text[3]


def test_what_is_expected_by_chance_is_what_repeated_draws_show() -> None:
    preprocessor = fitted(drawn(20_000))
    runs = [
        preprocessor.drift(read_table(drawn(300, seed=s), columns=preprocessor.columns))[0] for s in range(100, 160)
    ]
    assert np.mean([d.distance for d in runs]) == pytest.approx(runs[0].expected, rel=0.15)


# ------------------------------------------------------------------------------------------------ odd columns

numbers = st.lists(st.one_of(st.none(), st.floats(width=32, allow_infinity=False)), min_size=2, max_size=40)


@settings(max_examples=80, deadline=None)
@given(numbers, st.sampled_from(["quantile", "standard"]))
def test_scaled_numbers_are_finite_keep_their_order_and_come_back_from_json(cells: list[Any], scaling: str) -> None:
    frame = pd.DataFrame({"x": pd.Series(cells, dtype=float), "y": np.arange(len(cells), dtype=float)})
    preprocessor = fitted(frame, scaling=scaling)
    values = applied(preprocessor, frame)
    assert not np.isinf(values).any()
    x = frame["x"].to_numpy()
    if "x" in [c.name for c in preprocessor.columns]:
        known = ~np.isnan(x)
        np.testing.assert_array_equal(np.isnan(values[:, 0]), ~known)
        order = np.argsort(x[known], kind="stable")
        assert (np.diff(values[known, 0][order]) >= 0).all()
    again = TablePreprocessor.from_state(json.loads(json.dumps(preprocessor.state(), allow_nan=False)))
    np.testing.assert_array_equal(applied(again, frame), values)
