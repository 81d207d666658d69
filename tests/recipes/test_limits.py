"""Impossible numbers are refused by the name of their setting; every number of every recipe has its limits."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from mmssl.recipes.limits import KINDS, LIMITS, MAY_BE_EMPTY, NAMES, check_limits
from mmssl.recipes.tabular_scarf import Config as ScarfConfig
from mmssl.recipes.timeseries_simclr import Config as SeriesConfig

RECIPES = sorted(
    path.stem
    for path in (Path(__file__).parents[2] / "mmssl" / "recipes").glob("*.py")
    if "\nclass Config" in path.read_text()
)


def config_of(recipe: str) -> type:
    config: type = importlib.import_module(f"mmssl.recipes.{recipe}").Config
    return config


def numeric(kind: Any) -> bool:
    return kind in (int, float) or any(numeric(part) for part in get_args(kind))


def numbers(config: type) -> Iterator[str]:
    """Names of the settings that take numbers."""
    hints = get_type_hints(config)
    for f in fields(config):
        if is_dataclass(hints[f.name]):
            yield from numbers(hints[f.name])
        elif numeric(hints[f.name]):
            yield f.name


def changed(cfg: Any, key: str, value: Any) -> Any:
    *path, name = key.split(".")
    node = cfg
    for part in path:
        node = getattr(node, part)
    setattr(node, name, value)
    return cfg


def test_there_are_recipes_to_look_at() -> None:
    assert len(RECIPES) > 40


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_number_has_a_limit_and_every_default_keeps_it(recipe: str) -> None:
    config = config_of(recipe)
    assert sorted(set(numbers(config)) - set(LIMITS)) == []
    check_limits(config())


def test_the_table_names_nothing_twice_and_nothing_that_no_recipe_has() -> None:
    listed = [name for names in NAMES.values() for name in names.split()]
    assert len(listed) == len(set(listed))
    assert set(NAMES) == set(KINDS)
    assert set(listed) == {name for recipe in RECIPES for name in numbers(config_of(recipe))}
    assert set(MAY_BE_EMPTY) <= set(listed)


@pytest.mark.parametrize(
    ("cfg", "key", "value", "message"),
    [
        (ScarfConfig(), "train.batch_size", 0, "train.batch_size must be at least 1, got 0"),
        (ScarfConfig(), "model.hidden", -5, "model.hidden must be at least 1 or null, got -5"),
        (ScarfConfig(), "model.dropout", 1.5, "model.dropout must be between 0 and 1, got 1.5"),
        (ScarfConfig(), "train.weight_decay", -1.0, "train.weight_decay must be at least 0, got -1.0"),
        (ScarfConfig(), "train.clip_norm", -1.0, "train.clip_norm must be positive or null, got -1"),
        (ScarfConfig(), "train.lr", float("nan"), "train.lr must be a finite number or null, got nan"),
        (ScarfConfig(), "train.lr", float("inf"), "train.lr must be a finite number or null, got inf"),
        (
            ScarfConfig(),
            "evaluate.finetune.head",
            [64, 0],
            r"each number of evaluate.finetune.head must be at least 1, got \[64, 0\]",
        ),
        (SeriesConfig(), "model.widths", [], "model.widths is an empty list; it takes at least one number or null"),
        (SeriesConfig(), "model.stride", 0, "model.stride must be at least 1"),
    ],
)
def test_an_impossible_number_is_named(cfg: Any, key: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_limits(changed(cfg, key, value))


def test_what_is_possible_passes() -> None:
    check_limits(changed(ScarfConfig(), "evaluate.finetune.head", []))  # no hidden layer
    check_limits(changed(ScarfConfig(), "train.lr", None))
    check_limits(changed(ScarfConfig(), "train.lr", 0.0))  # nothing is learnt: a control


def test_lists_of_lists_and_switches() -> None:
    @dataclass
    class Nested:
        convs: list[list[int]] = field(default_factory=lambda: [[512, 10, 5], [512, 3, 2]])
        depth: bool = False  # no number

    check_limits(Nested())
    with pytest.raises(ValueError, match="each number of convs must be at least 1"):
        check_limits(Nested([[512, 10, 0]]))


def test_the_command_line_says_so_before_it_reads_any_data(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mmssl.recipes.tabular_scarf", "data.path=nowhere.csv", "model.hidden=-5"]
    done = subprocess.run([*command, f"root={tmp_path / 'runs'}"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: model.hidden must be at least 1 or null, got -5\n")
    assert not (tmp_path / "runs").exists()
