"""From settings to model input: splits that share nothing, labels that leak, and public tables."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser

from mmssl.tabular.data import Roles, read_table
from mmssl.tabular.dataset import DataConfig, TableSource, load_data
from mmssl.tabular.leak import _belongs, _intervals, _monotone, _orders, leaks
from mmssl.tabular.named import BUNDLED, load_named
from mmssl.tabular.split import split_rows

SHARED = Path(os.environ.get("MMSSL_DATA", Path(__file__).parents[3] / "shared" / "data"))
needs_data = pytest.mark.skipif(not (SHARED / "tabular").is_dir(), reason="the real data sets are not here")


def shop(rows: int = 200, *, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "visits": rng.integers(0, 50, rows),
            "spent": rng.lognormal(3, 1, rows),
            "town": rng.choice(["Gent", "Aalst", "Lier"], rows),
            "customer": rng.integers(0, 30, rows),
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 300, rows), unit="D"),
            "churned": np.array(["yes", "no", None])[rng.choice(3, rows, p=[0.2, 0.7, 0.1])],
        }
    )


@pytest.fixture
def path(tmp_path: Path) -> str:
    shop().to_csv(tmp_path / "shop.csv", index=False)
    return str(tmp_path / "shop.csv")


# ------------------------------------------------------------------------------------------------ splits


def test_a_random_split_keeps_the_shares_of_the_classes_and_every_row_once() -> None:
    table = read_table(shop(1000), Roles(label="churned"))
    split = split_rows(table, test_fraction=0.3)
    assert sorted([*split.train, *split.test]) == list(range(1000))
    assert table.labels is not None
    for code in (0, 1):
        share = np.isin(np.flatnonzero(table.labels == code), split.test).mean()
        assert share == pytest.approx(0.3, abs=0.01)
    assert not np.array_equal(split.test, split_rows(table, test_fraction=0.3, seed=1).test)


def test_a_split_by_group_goes_through_no_group() -> None:
    table = read_table(shop(), Roles(label="churned", group="customer"))
    split = split_rows(table)
    assert split.kind == "group"
    assert table.groups is not None
    assert not set(table.groups[split.train]) & set(table.groups[split.test])


def test_a_split_by_time_trains_on_the_past_only() -> None:
    table = read_table(shop(), Roles(label="churned", time="day"))
    split = split_rows(table)
    assert split.kind == "time"
    assert table.times is not None
    assert table.times[split.train].max() < table.times[split.test].min()
    assert len(split.test) == pytest.approx(60, abs=5)


def few_labels(rows: int = 1000, labelled: int = 40) -> pd.DataFrame:
    """The first rows of a shop are labelled; each customer buys once a block of 100 rows, and days go by."""
    frame = shop(rows).assign(day=np.arange(rows) // 5, customer=np.arange(rows) // 10)
    frame["churned"] = [("yes" if i % 4 == 0 else "no") if i < labelled else None for i in range(rows)]
    return frame


@pytest.mark.parametrize("label", ["churned", "spent"])
def test_unlabelled_rows_train_where_a_split_at_random_can_only_score_the_others(label: str) -> None:
    frame = few_labels()
    frame["spent"] = frame["spent"].where(frame["churned"].notna())
    table = read_table(frame, Roles(label=label))
    split = split_rows(table, by="random")
    assert len(split.test) == 12
    assert table.labelled[split.test].all()
    assert sorted([*split.train, *split.test]) == list(range(1000))
    assert "988 rows (960 of them unlabelled) train, 12 test" in split.sentence


def test_the_time_that_parts_past_and_future_is_that_of_labelled_rows() -> None:
    table = read_table(few_labels(), Roles(label="churned", time="day"))
    split = split_rows(table)
    assert table.times is not None
    assert table.times[split.train].max() < table.times[split.test].min()
    assert table.labelled[split.train].sum() == 25  # days of five rows
    assert table.labelled[split.test].sum() == 15


def test_groups_without_a_label_train() -> None:
    table = read_table(few_labels(), Roles(label="churned", group="customer"))
    split = split_rows(table)
    assert table.labelled[split.test].all()
    assert len(split.test) == 10
    assert split.sentence == "by group: 99 groups train, 1 other groups test"


def test_labels_of_one_group_or_one_time_cannot_be_split() -> None:
    frame = few_labels(labelled=5)
    with pytest.raises(ValueError, match="at least two groups with a label, got one"):
        split_rows(read_table(frame, Roles(label="churned", group="customer")))
    with pytest.raises(ValueError, match=r"no labelled row to train on: 5 labelled rows have the same time 0\.0"):
        split_rows(read_table(frame, Roles(label="churned", time="day")))


def test_a_class_of_one_row_is_trained_on() -> None:
    table = read_table(pd.DataFrame({"x": np.arange(11.5), "y": ["a"] * 11 + ["b"]}), Roles(label="y"))
    assert 11 in split_rows(table, test_fraction=0.5).train


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"test_fraction": 1.0}, r"data\.test_fraction must lie between 0 and 1, got 1\.0"),
        ({"by": "time"}, r"needs data\.time"),
        ({"by": "group"}, r"needs data\.group"),
    ],
)
def test_an_impossible_split_is_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        split_rows(read_table(shop()), **options)


def test_one_group_or_one_time_cannot_be_split() -> None:
    frame = shop().assign(customer=1, day=7)
    with pytest.raises(ValueError, match="at least two groups, got one"):
        split_rows(read_table(frame, Roles(group="customer")))
    with pytest.raises(ValueError, match="200 rows have the same time"):
        split_rows(read_table(frame, Roles(time="day")))


# ------------------------------------------------------------------------------------------------ labels that leak


def test_a_copy_of_the_label_in_any_clothes_is_found() -> None:
    frame = shop(300).dropna()
    frame["code"] = frame["churned"].map({"yes": 3, "no": 1})
    frame["words"] = frame["churned"].map({"yes": "left us", "no": "stayed"})
    frame["score"] = frame["code"] + np.random.default_rng(0).uniform(0, 0.5, len(frame))
    frame["gappy"] = frame["code"].where(np.arange(len(frame)) % 3 > 0)
    table = read_table(frame, Roles(label="churned"))
    assert leaks(table) == ["code", "words", "score", "gappy"]


def test_a_number_that_follows_the_label_of_a_regression_is_found() -> None:
    frame = shop(300).drop(columns="churned")
    frame["euros"] = frame["spent"] * 1.1 + 3
    frame["log"] = np.log(frame["spent"])
    frame["close"] = frame["spent"] + np.random.default_rng(0).normal(0, 3, len(frame))
    assert leaks(read_table(frame, Roles(label="spent"))) == ["euros", "log"]


def test_good_predictors_and_names_of_rows_are_no_leaks() -> None:
    frame = shop(300).dropna()
    label = frame["churned"] == "yes"
    rng = np.random.default_rng(0)
    frame["good"] = label + rng.normal(0, 0.4, len(frame))
    frame["name"] = [f"n{i}" for i in range(len(frame))]
    table = read_table(frame, Roles(label="churned", categorical=["name"]))
    assert leaks(table) == []


@pytest.mark.parametrize(("rows", "of_one"), [(15, 7), (60, 1), (30, 3), (40, 3)])
@pytest.mark.parametrize("kind", ["numeric", "categorical"])
def test_few_rows_of_a_class_prove_nothing(rows: int, of_one: int, kind: str) -> None:
    rng = np.random.default_rng(0)
    noise = pd.DataFrame(rng.standard_normal((rows, 50)), columns=[f"x{i}" for i in range(50)])
    if kind == "categorical":
        noise = (noise > 1).map({True: "high", False: "low"}.get)
    frame = noise.assign(y=np.where(np.arange(rows) < of_one, "a", "b"), copy=np.arange(rows) < of_one)
    assert leaks(read_table(frame, Roles(label="y"))) == []


@pytest.mark.parametrize(("rows", "of_one"), [(40, 20), (400, 5), (100_000, 3)])
def test_a_copy_of_a_rare_class_is_found_where_chance_cannot_be_the_reason(rows: int, of_one: int) -> None:
    label = np.random.default_rng(0).permutation(rows) < of_one
    frame = pd.DataFrame({"y": np.where(label, "a", "b"), "copy": np.where(label, "yes", "no"), "code": label * 1.5})
    assert leaks(read_table(frame.assign(x=np.arange(rows) % 7), Roles(label="y"))) == ["copy", "code"]


@pytest.mark.parametrize("labels", [3, 7])
def test_few_numbers_prove_nothing(labels: int) -> None:
    frame = pd.DataFrame({"x": np.arange(100.0), "y": np.where(np.arange(100) < labels, np.arange(100) ** 1.5, np.nan)})
    assert leaks(read_table(frame, Roles(label="y", task="regression"))) == []


def test_the_orders_of_labels_that_look_like_a_leak_are_counted() -> None:
    def share(looks: Callable[[Any, Any], float | None], values: list[int], labels: list[int]) -> tuple[float, float]:
        orders = set(permutations(labels))
        found = [looks(np.array(values, np.float32), np.array(order, np.float64)) for order in orders]
        leaking = [log for log in found if log is not None]
        assert len(orders) == round(np.exp(_orders(np.array(labels, np.float64))))
        return len(leaking), np.exp(leaking[0])

    assert share(_intervals, [1, 2, 3, 4, 5, 6, 7], [0, 0, 0, 1, 1, 2, 2]) == pytest.approx((6, 6))
    assert share(_monotone, [1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 5, 6, 7]) == pytest.approx((2, 2))
    counted, most = share(_belongs, [1, 1, 2, 2, 3, 3, 3], [0, 0, 0, 0, 1, 1, 1])
    assert counted == 1
    assert most == pytest.approx(8)


def test_the_setting_that_leaves_a_leaking_column_out_can_be_typed_as_it_stands(tmp_path: Path) -> None:
    frame = shop().assign(note="n")
    frame["it's left, EUR"] = frame["churned"].map({"yes": 1, "no": 0})
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(ValueError, match="looks like the label itself") as error:
        load_data(DataConfig(path=str(tmp_path / "t.csv"), label="churned", ignore=["note"]))
    typed = shlex.split(str(error.value).split("Leave it out with ")[1].split("; to keep it")[0])
    parsed = OverridesParser.create().parse_overrides(typed)[0]
    assert (parsed.key_or_group, parsed.value()) == ("data.ignore", ["note", "it's left, EUR"])


def test_a_leaking_column_stops_the_run_until_the_user_decides(tmp_path: Path) -> None:
    frame = shop()
    frame["left"] = frame["churned"].map({"yes": 1, "no": 0})
    frame.to_csv(tmp_path / "t.csv", index=False)
    options: dict[str, Any] = {"path": str(tmp_path / "t.csv"), "label": "churned"}
    with pytest.raises(ValueError, match=r"column 'left' alone tells 'churned' .*data\.ignore=\[left\]"):
        load_data(DataConfig(**options))
    without = load_data(DataConfig(**options, ignore=["left"]))
    assert "left" not in [c.name for c in without.preprocessor.columns]
    kept = load_data(DataConfig(**options, numeric=["left"]))
    assert "left" in [c.name for c in kept.preprocessor.columns]


# ------------------------------------------------------------------------------------------------ load_data


def test_scales_are_fitted_on_the_training_rows_only(path: str) -> None:
    data = load_data(DataConfig(path=path, label="churned", scaling="standard"))
    assert data.test is not None
    np.testing.assert_allclose(data.train.x[:, 1].mean(), 0, atol=1e-5)
    assert abs(data.test.x[:, 1].mean()) > 1e-3
    assert len(data.train) + len(data.test) == 200
    assert data.split == "random/0.3"


def test_unlabelled_rows_are_learnt_from_and_not_scored(path: str) -> None:
    data = load_data(DataConfig(path=path, label="churned"))
    assert data.classes == ("no", "yes")
    assert 0 < len(data.train.labelled) < len(data.train)
    assert load_data(DataConfig(path=path, ignore=["churned"])).test is None


def test_a_test_file_is_read_as_the_training_file_was(path: str, tmp_path: Path) -> None:
    new = shop(50, seed=1).assign(town="Brugge")
    new["churned"] = new["churned"].where(new["churned"] == "yes")  # one class only
    new.to_parquet(tmp_path / "new.parquet")
    data = load_data(DataConfig(path=path, test_path=str(tmp_path / "new.parquet"), label="churned"))
    assert data.test is not None
    assert (data.test.x[:, 2] == 0).all()
    assert set(data.test.labels[data.test.labelled]) == {1.0}  # type: ignore[index]
    assert "town: distribution moved by 100%" in data.description
    new.assign(churned="maybe").to_parquet(tmp_path / "new.parquet")
    with pytest.raises(ValueError, match="label churned: 'maybe' is not among the classes of the training data: 'no'"):
        load_data(DataConfig(path=path, test_path=str(tmp_path / "new.parquet"), label="churned"))


def test_the_description_says_what_was_left_out_and_cut(tmp_path: Path) -> None:
    frame = shop().assign(same=1, empty=None, code=[f"k{i % 40}" for i in range(200)])
    frame.to_csv(tmp_path / "t.csv", index=False)
    text = load_data(DataConfig(path=str(tmp_path / "t.csv"), label="churned", max_categories=10)).description
    assert "same (the same value in all training rows), empty (no value in any training row)" in text
    assert "rarer than the 10 most frequent categories, so unseen: code (" in text
    assert "split: at random, class by class: 146 rows (20 of them unlabelled) train, 54 test" in text


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "give data.name .* or data.path .*, got neither"),
        ({"path": "x.csv", "name": "iris"}, r"got data\.name=iris and data\.path=x\.csv"),
        ({"name": "boston"}, "scikit-learn carries no table data.name=boston"),
        ({"name": "adlt", "root": "."}, r"data\.root=\. has no table data\.name=adlt"),
    ],
)
def test_data_that_is_not_there_is_named(options: dict[str, Any], problem: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=problem):
        load_data(DataConfig(**options))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"label": "churned", "split": "shuffle"}, r"data\.split must be auto, random, group or time, got 'shuffle'"),
        ({"label": "churned", "task": "ranking"}, r"data\.task must be .*, got 'ranking'"),
        ({"label": "same"}, r"all labels in data\.label=same are '1': there is nothing to predict"),
        ({"label": "empty"}, r"no row has a label in data\.label=empty"),
        ({"label": "own"}, r"each of the \d+ labels in data\.label=own is a class of its own, .* set data\.id=own"),
    ],
)
def test_settings_that_fit_no_table_are_refused(tmp_path: Path, options: dict[str, Any], problem: str) -> None:
    shop().assign(same=1, empty=None, own=[f"customer {i}" for i in range(len(shop()))]).to_csv(
        tmp_path / "t.csv", index=False
    )
    with pytest.raises(ValueError, match=problem):
        load_data(DataConfig(path=str(tmp_path / "t.csv"), **options))


def test_one_label_a_class_is_enough_beside_a_test_table(tmp_path: Path) -> None:
    table = shop()
    few = [f"kind {i}" if i < 4 else None for i in range(len(table))]
    table.assign(kind=pd.Series(few)).to_csv(tmp_path / "t.csv", index=False)
    table.assign(kind=[f"kind {i % 4}" for i in range(len(table))]).to_csv(tmp_path / "new.csv", index=False)
    alone = DataConfig(path=str(tmp_path / "t.csv"), label="kind")
    assert len(load_data(replace(alone, test_path=str(tmp_path / "new.csv"))).train.labelled) == 4
    with pytest.raises(ValueError, match=r"each of the 4 labels .* needs a test table \(data\.test_path\)"):
        load_data(alone)


def test_batches_are_the_rows_asked_for() -> None:
    x = torch.randn(10, 3)
    source = TableSource(x)
    assert len(source) == 10
    torch.testing.assert_close(source.fetch(np.array([3, 1, 3])), x[[3, 1, 3]])


# ------------------------------------------------------------------------------------------------ public tables


@pytest.mark.parametrize("name", BUNDLED)
def test_tables_that_scikit_learn_carries_are_at_hand(name: str) -> None:
    data = load_data(DataConfig(name=name))
    assert data.test is not None
    assert (data.classes is None) == (name == "diabetes")
    assert np.isfinite(data.train.x).all()


@pytest.mark.data
@needs_data
def test_adult_is_read_as_published() -> None:
    train, test = load_named("adult", root=str(SHARED / "tabular"))
    assert test is not None
    assert (len(train), len(test)) == (32_561, 16_281)
    assert train.classes == test.classes == ("<=50K", ">50K")
    assert train.labels is not None
    assert train.labels.mean() == pytest.approx(0.24081, abs=1e-4)
    assert test.names()[:4].tolist() == ["<=50K", "<=50K", ">50K", ">50K"]
    sizes = {c.name: len(names) for c, names in zip(train.columns, train.categories, strict=True)}
    assert (sizes["native-country"], sizes["workclass"], sizes["age"]) == (41, 8, 0)
    assert np.isnan(train.values[:, 1]).sum() == 1836


@pytest.mark.data
@needs_data
@pytest.mark.parametrize(("name", "classes"), [("nursery", 4), ("splice", 3), ("wdbc", 2), ("537_houses", None)])
def test_pmlb_tables_have_the_types_of_their_metadata(name: str, classes: int | None) -> None:
    data = load_data(DataConfig(name=name, root=str(SHARED / "tabular/pmlb")))
    assert (None if data.classes is None else len(data.classes)) == classes
    assert all(data.preprocessor.cardinalities) == (name == "splice")
