"""Public tables by name: what scikit-learn carries, and Adult, Abalone and PMLB from a folder on disk."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from mmssl.tabular.data import Roles, read_table
from mmssl.tabular.tables import suggest
from mmssl.tabular.tableset import TableSet

BUNDLED = ("breast_cancer", "digits", "wine", "iris", "diabetes")
ADULT = (
    "age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship", "race",
    "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country", "income",
)  # fmt: skip
ABALONE = ("sex", "length", "diameter", "height", "whole", "shucked", "viscera", "shell", "rings")


class Named(NamedTuple):
    """A public table; ``test`` is its own test part, if it has one."""

    train: TableSet
    test: TableSet | None


def load_named(name: str, *, root: str | None = None) -> Named:
    """A public table with its label.

    Args:
        name: one of `BUNDLED`; or, below ``root``, ``adult``, ``abalone``, or the folder of a PMLB table.
        root: folder that holds ``adult/adult.data``, ``abalone/abalone.csv`` or ``<name>/<name>.tsv.gz``.

    Raises:
        FileNotFoundError: there is no such table.
    """
    if root is None:
        if name not in BUNDLED:
            raise FileNotFoundError(
                f"scikit-learn carries no table data.name={name}: {suggest(name, BUNDLED)} Set data.root to the folder "
                "of adult, abalone or PMLB, or data.path to a file of your own"
            )
        from sklearn import datasets

        load: Callable[..., Any] = getattr(datasets, f"load_{name}")
        return Named(read_table(load(as_frame=True).frame, Roles(label="target")), None)
    folder = Path(root) / name
    for file, read in (
        ("adult.data", _adult),
        ("abalone.csv", _abalone),
        (f"{name}.tsv.gz", _pmlb),
    ):
        if (folder / file).exists():
            return read(folder / file)
    beside = [entry.name for entry in Path(root).iterdir()] if Path(root).is_dir() else []
    raise FileNotFoundError(f"data.root={root} has no table data.name={name}: {suggest(name, beside)}")


def _adult(file: Path) -> Named:
    roles = Roles(label="income")
    train = read_table(file, roles, names=ADULT)
    test = file.with_name("adult.test")
    if not test.exists():
        return Named(train, None)
    read = read_table(test, roles, names=ADULT, columns=train.columns)
    assert read.classes is not None
    assert train.classes is not None
    named = replace(read, classes=tuple(name.removesuffix(".") for name in read.classes))  # as in the other file
    return Named(train, named.with_classes(train.classes))


def _abalone(file: Path) -> Named:
    return Named(read_table(file, Roles(label="rings"), names=ABALONE), None)


def _pmlb(file: Path) -> Named:
    """The types are those of metadata.yaml: discrete columns are categories, binary ones stay numbers."""
    metadata = file.with_name("metadata.yaml").read_text()
    discrete = re.findall(r"^  - name: (.+)\n    type: (?:discrete|categorical|nominal)$", metadata, re.MULTILINE)
    regression = re.search(r"^task: regression", metadata, re.MULTILINE) is not None
    task = "regression" if regression else "classification"
    return Named(read_table(file, Roles(label="target", task=task, categorical=discrete)), None)  # type: ignore[arg-type]
