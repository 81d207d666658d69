"""From the `data` section of a recipe to model input for training and testing."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmssl.messages import setting
from mmssl.tabular.blocks import Rows, count_cells, filled_rows, only, open_blocks, spread, with_sample
from mmssl.tabular.data import Roles, counts_rows, describe, read_table, read_tables
from mmssl.tabular.leak import leaks
from mmssl.tabular.named import load_named
from mmssl.tabular.preprocess import TablePreprocessor, describe_drift
from mmssl.tabular.split import SplitBy, split_rows
from mmssl.tabular.streamed import TableStream
from mmssl.tabular.tables import MISSING, SAMPLE_ROWS, Table
from mmssl.tabular.tableset import TableSet

HELD_OUT = 0.05  # of the blocks of a table that is larger than memory
SAMPLED, HELD_ROWS, SAMPLED_BLOCKS = 200_000, 60_000, 32  # rows of the others and of these, each of so many blocks
LABELLED, TESTED = 60_000, 1_000  # rows with a label that are wanted of a table with few: to learn from, and to test
LABEL_BLOCKS = 8  # that tell whether there are few


@dataclass
class DataConfig:
    """Where the rows come from: a public table by ``name``, or your own by ``path``."""

    name: str | None = None  # breast_cancer, digits, wine, iris, diabetes; with `root` adult, abalone or one of PMLB
    root: str | None = None  # folder of public tables on disk
    path: str | None = None  # CSV, Parquet, Feather, or a folder of them
    test_path: str | None = None  # the same, never trained on; instead of a split
    label: str | None = None  # column to predict, empty where unlabelled; None: no scores
    task: str = "auto"  # classification, regression, or auto: by the values of the label
    id: str | None = None  # column that names a row in what comes out
    group: str | None = None  # column of rows that belong together, such as a customer; a split keeps them together
    time: str | None = None  # column that puts the rows in order
    numeric: list[str] = field(default_factory=list)  # columns that are numbers, whatever they look like
    categorical: list[str] = field(default_factory=list)  # columns that are categories
    date: list[str] = field(default_factory=list)  # columns that are dates
    ignore: list[str] = field(default_factory=list)  # columns to leave out
    names: list[str] | None = None  # of the columns of a text file without a header
    missing: list[str] = field(default_factory=lambda: list(MISSING))  # texts that stand for an empty cell
    scaling: str = "quantile"  # of numbers, or standard
    max_categories: int = 1000  # of a column; rarer ones count as unseen
    split: str = "auto"  # auto (by time or group, if given), random, group or time
    test_fraction: float = 0.3
    in_memory: bool | None = None  # False streams the rows from the files; None: if the cells exceed `memory`
    memory: str = "1GiB"


@dataclass(frozen=True, eq=False)
class Part:
    """Rows of one side of the split.

    Args:
        x: ``(n, M)`` model input.
        labels: ``(n,)``: class codes, or numbers to predict; NaN is unlabelled. None if there is no label column.
        ids: ``(n,)`` names of the rows, if they have any.
        groups: ``(n,)`` rows with the same code belong together.
        rows: ``(n,)`` positions in what was read, counted from 0.
    """

    x: npt.NDArray[np.float32]
    labels: npt.NDArray[np.float64] | None
    ids: npt.NDArray[np.object_] | None
    groups: npt.NDArray[np.int64] | None
    rows: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.x)

    def select(self, positions: npt.NDArray[np.int64]) -> Part:
        """Some of the rows."""
        return Part(
            self.x[positions],
            None if self.labels is None else self.labels[positions],
            None if self.ids is None else self.ids[positions],
            None if self.groups is None else self.groups[positions],
            self.rows[positions],
        )

    @property
    def labelled(self) -> npt.NDArray[np.int64]:
        """Positions of the rows with a label."""
        return np.flatnonzero(~np.isnan(self.labels)) if self.labels is not None else np.empty(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class TableData:
    """Everything that a recipe needs to know of its data.

    Args:
        name: of the data, for the records.
        train: rows to learn from.
        test: others; None without labels, when all rows are learnt from.
        preprocessor: fitted on the training rows.
        classes: names of the classes; None for a regression, or without labels.
        description: what was read and how it was split, for a person.
        split: name of the test split, for the records.
        fingerprint: how many rows each part has, and a hash of each column and of the label as they were read.
        stream: where the table is larger than memory: all rows to learn from, of which ``train`` is a sample then.
        sample: beside a stream: so many rows at the beginning of ``train`` are drawn at random; those behind them have
            been added for their labels.
        validation: ``(n, M)`` rows that are neither learnt from nor scored, beside a stream.
    """

    name: str
    train: Part
    test: Part | None
    preprocessor: TablePreprocessor
    classes: tuple[str, ...] | None
    description: str
    split: str
    fingerprint: Mapping[str, int | str]
    stream: TableStream | None = None
    sample: int | None = None
    validation: npt.NDArray[np.float32] | None = None


def load_data(cfg: DataConfig, *, seed: int = 0) -> TableData:
    """Read, split, and make model input.

    Args:
        cfg: where the data is and how to read it.
        seed: of the split.

    Raises:
        FileNotFoundError: there is no such data.
        ValueError: it cannot be used as asked; the message says why and what to do.
    """
    if (cfg.name is None) == (cfg.path is None):
        given = f"data.name={cfg.name} and data.path={cfg.path}" if cfg.name else "neither"
        raise ValueError(f"give data.name (a public table) or data.path (your own data), got {given}")
    if cfg.path is not None and _streamed(cfg):
        return _load_streamed(cfg, seed)
    if cfg.name is not None:
        whole, test = load_named(cfg.name, root=cfg.root)
        name = cfg.name
    else:
        assert cfg.path is not None
        whole = read_table(cfg.path, _roles(cfg), names=cfg.names, missing=cfg.missing)
        test = None if cfg.test_path is None else _read_test(cfg, whole)
        name = Path(cfg.path).stem
    lines = [describe(whole)]
    train_rows, test_rows = np.arange(len(whole)), np.arange(0 if test is None else len(test))
    if whole.labels is not None:
        _refuse_leaks(whole, cfg)
        _check_labels(whole)
    if test is not None:
        train, split = whole, "test" if cfg.name is not None else "test-path"
        lines.append(f"split: as published, {len(train):,} rows train, {len(test):,} test" if cfg.name else "")
        if not cfg.name:
            lines[-1] = f"split: train on {cfg.path}, test on {cfg.test_path} ({len(test):,} rows)"
    elif whole.labels is None:
        train, split = whole, "none"
        lines.append("split: no labels: all of it is learnt from, none is held out")
    else:
        _refuse_names(whole)
        parted = split_rows(whole, by=_split_by(cfg.split), test_fraction=cfg.test_fraction, seed=seed)
        train_rows, test_rows = parted.train, parted.test
        train, test = whole.select(train_rows), whole.select(test_rows)
        split = f"{parted.kind}/{cfg.test_fraction:g}"
        lines.append(f"split: {parted.sentence}")
    preprocessor = TablePreprocessor(cfg.scaling, cfg.max_categories).fit(train)  # type: ignore[arg-type]
    lines += _fitted(preprocessor, train, cfg)
    if test is not None:
        lines.append(describe_drift(preprocessor.drift(test), len(test)))
    return TableData(
        name,
        _part(train, preprocessor, train_rows),
        None if test is None else _part(test, preprocessor, test_rows),
        preprocessor,
        whole.classes,
        "\n".join(lines),
        split,
        _fingerprint(train, test),
    )


def _fingerprint(train: TableSet, test: TableSet | None) -> dict[str, int | str]:
    """How many rows each part has, and a hash of each column and of the label as they were read.

    Of raw cells: what scaling makes of them may differ in the last digit from one machine to another.
    """
    parts = [train] if test is None else [train, test]
    out: dict[str, int | str] = {"training rows": len(train), "test rows": 0 if test is None else len(test)}
    for j, column in enumerate(train.columns):
        read = f"{column.kind} {column.origin}"
        cells = [f"{read} {part.categories[j]}".encode() + part.values[:, j].tobytes() for part in parts]
        out[f"column {column.name!r}"] = hashlib.sha256(b"".join(cells)).hexdigest()[:16]
    labels = [str(part.classes).encode() + part.labels.tobytes() for part in parts if part.labels is not None]
    if labels:
        out[f"label {train.label!r}"] = hashlib.sha256(b"".join(labels)).hexdigest()[:16]
    return out


def _fitted(preprocessor: TablePreprocessor, train: TableSet, cfg: DataConfig) -> list[str]:
    """What fitting left out or cut, for a person."""
    lines = []
    new = {name: why for name, why in preprocessor.left_out.items() if name not in train.left_out}
    if new:
        lines.append("left out: " + ", ".join(f"{name} ({why})" for name, why in new.items()))
    cut = [
        f"{f.column.name} ({f.shares[0]:.1%} of its cells)"
        for f in preprocessor.fitted
        if f.column.kind == "categorical" and f.shares[0] > 0
    ]
    if cut:
        lines.append(f"rarer than the {cfg.max_categories:,} most frequent categories, so unseen: {', '.join(cut)}")
    return lines


def _streamed(cfg: DataConfig) -> bool:
    if cfg.in_memory is not None:
        return not cfg.in_memory
    return 4 * count_cells(Path(str(cfg.path)), names=cfg.names) > _bytes(cfg.memory)


def _load_streamed(cfg: DataConfig, seed: int) -> TableData:
    """Scales, vocabularies and scores are of samples from many blocks; whole blocks are held out."""
    sample = _sample(cfg, np.random.default_rng(seed))
    whole, test_rows = sample.table, sample.test
    if whole.labels is not None:
        _refuse_leaks(whole, cfg)
        _check_labels(whole)
        _refuse_names(whole)
    train = whole.select(sample.train)
    drawn = whole.select(sample.train[: sample.drawn])
    preprocessor = TablePreprocessor(cfg.scaling, cfg.max_categories).fit(drawn)  # type: ignore[arg-type]
    stream = TableStream(sample.learnt, preprocessor, missing=cfg.missing)
    lines = [
        f"streamed: {sum(block.rows or 0 for block in sample.blocks):,} rows in {len(sample.blocks):,} blocks, "
        f"{len(sample.blocks) - len(sample.learnt):,} of them held out; {min(stream.pool, len(sample.learnt)):,} at a "
        "time are shuffled",
        f"scales, vocabularies and marginals are of {len(drawn):,} rows all over the others; these, and "
        f"{len(whole) - len(train):,} held-out rows:",
        describe(whole),
    ]
    if sample.searched:
        lines.insert(
            2,
            "few rows have a label, so the files were searched for more than these: "
            f"{len(train) - len(drawn):,} further labelled rows to learn from",
        )
    test, split = None, "none"
    if test_rows is not None:
        test = _part(whole.select(test_rows), preprocessor, test_rows)
        split = f"blocks/{HELD_OUT:g}" if cfg.test_path is None else "test-path"
        where = (
            "at random, block by block" if cfg.test_path is None else f"train on {cfg.path}, test on {cfg.test_path}"
        )
        lines.append(f"split: {where}: {len(test):,} sampled rows test")
    lines += _fitted(preprocessor, train, cfg)
    if test_rows is not None:
        lines.append(describe_drift(preprocessor.drift(whole.select(test_rows)), len(test_rows)))
    return TableData(
        Path(str(cfg.path)).stem,
        _part(train, preprocessor, sample.train),
        test,
        preprocessor,
        whole.classes,
        "\n".join(lines),
        split,
        {"rows to learn from": len(stream)}
        | _fingerprint(train, None if test_rows is None else whole.select(test_rows)),
        stream,
        sample.drawn,
        preprocessor(whole.select(sample.validation)),
    )


class _Sample(NamedTuple):
    """Random rows of a table that is larger than memory.

    Args:
        blocks: all of them.
        learnt: those that are learnt from.
        table: rows of both, and of the test file.
        train: positions in it of rows of ``learnt``, those that are drawn at random before those that have a label.
        drawn: number of the former.
        validation, test: positions of other rows; no test without labels.
        searched: has a pass through the files looked for labels?
    """

    blocks: list[Table]
    learnt: list[Table]
    table: TableSet
    train: npt.NDArray[np.int64]
    drawn: int
    validation: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64] | None
    searched: bool


def _sample(cfg: DataConfig, rng: np.random.Generator) -> _Sample:
    """Rows from all over the files.

    Raises:
        ValueError: the files are too few blocks, or a split needs all rows at once.
    """
    roles = _roles(cfg)
    blocks = open_blocks(Path(str(cfg.path)), names=cfg.names, missing=cfg.missing)
    if len(blocks) < 2:
        raise ValueError(
            f"data.path={cfg.path} is a single block of rows, of which none can be held out: write it with smaller row "
            "groups, or set data.in_memory=true"
        )
    if cfg.label is not None and cfg.test_path is None and (cfg.split in ("group", "time") or cfg.group or cfg.time):
        raise ValueError(
            "a table that is larger than memory is split at random, block by block, and not by data.group or "
            "data.time: give the test rows as data.test_path, or set data.in_memory=true"
        )
    aside = rng.spawn(1)[0]
    labelled = _few_labels(blocks, cfg, aside)
    held = _held_out(blocks, labelled if cfg.test_path is None else None, cfg, rng)
    kept = [i for i in range(len(blocks)) if i not in held]
    learnt = [blocks[i] for i in kept]
    drawn = spread(learnt, SAMPLED, most=SAMPLED_BLOCKS, rng=rng)
    beside = [blocks[i] for i in held]
    parts = [only(learnt, drawn)]
    further = _further(drawn, labelled and [labelled[i] for i in kept], LABELLED, aside)
    drawn = spread(beside, HELD_ROWS, most=SAMPLED_BLOCKS, rng=rng)
    parts.append(only(beside, drawn))
    further_test = _further(drawn, labelled and [labelled[i] for i in held], HELD_ROWS, aside)
    if cfg.test_path is not None:
        beside = open_blocks(Path(cfg.test_path), names=cfg.names, missing=cfg.missing)
        drawn = spread(beside, HELD_ROWS, most=SAMPLED_BLOCKS, rng=rng)
        parts.append(only(beside, drawn))
        further_test = _further(drawn, _few_labels(beside, cfg, aside), HELD_ROWS, aside)
    parts += [only(learnt, further), only(beside, further_test)]
    few = with_sample(only(learnt, spread(learnt, SAMPLE_ROWS, most=SAMPLED_BLOCKS // 8, rng=rng)))[0].sample
    # what counts the rows can be seen in neighbouring ones only, not in rows that are drawn
    counting = [
        name for name in learnt[0].columns if name not in roles.forced() and counts_rows(learnt[0].sample[name])
    ]
    few = few.assign(**{name: np.arange(len(few)) for name in counting})
    table = read_tables([replace(t, sample=few) for part in parts for t in part], roles, missing=cfg.missing)
    ends = np.cumsum([sum(t.rows or 0 for t in part) for part in parts])
    train, validation, *tests, more, more_tests = np.split(np.arange(len(table)), ends[:-1])
    searched = labelled is not None
    if table.labels is None:
        return _Sample(blocks, learnt, table, train, len(train), validation, None, searched)
    if not tests:
        validation, test = (np.sort(half) for half in np.array_split(rng.permutation(validation), 2))
        if searched:  # none of the few is spent on ending the training
            moved = ~np.isnan(table.labels[validation])
            validation, test = validation[~moved], np.concatenate([test, validation[moved]])
        tests = [test]
    return _Sample(
        blocks,
        learnt,
        table,
        np.concatenate([train, more]),
        len(train),
        validation,
        np.concatenate([tests[0], more_tests]),
        searched,
    )


def _few_labels(blocks: Sequence[Table], cfg: DataConfig, rng: np.random.Generator) -> list[Rows] | None:
    """Rows with a label in each block; None if there are enough of them in any sample, or no labels are asked for."""
    if cfg.label is None or any(cfg.label not in block.columns for block in blocks):
        return None
    some = [blocks[i] for i in rng.permutation(len(blocks))[:LABEL_BLOCKS]]
    share = sum(map(len, filled_rows(some, cfg.label, cfg.missing))) / sum(block.rows or 0 for block in some)
    return None if share == 1 or share * SAMPLED >= LABELLED else filled_rows(blocks, cfg.label, cfg.missing)


def _held_out(
    blocks: Sequence[Table], labelled: Sequence[Rows] | None, cfg: DataConfig, rng: np.random.Generator
) -> list[int]:
    """Random blocks, and of those with labels so many more that few labels are enough for a test; never all of them."""
    order = rng.permutation(len(blocks)).tolist()
    count = max(1, round(HELD_OUT * len(blocks)))
    held, rest = order[:count], [] if labelled is None else [i for i in order[count:] if len(labelled[i])]
    if labelled is not None:
        wanted = min(TESTED, cfg.test_fraction * sum(map(len, labelled)))
        while len(rest) > 1 and sum(len(labelled[i]) for i in held) < wanted:  # one is left to learn from
            held.append(rest.pop())
        if not rest and len(filled := [i for i in held if len(labelled[i])]) > 1:
            held.remove(filled[0])
    return held


def _further(
    drawn: Mapping[int, Rows], labelled: Sequence[Rows] | None, wanted: int, rng: np.random.Generator
) -> dict[int, Rows]:
    """Rows of each block with a label that are not drawn already; random ones, if there are more than are wanted."""
    others = [np.setdiff1d(rows, drawn.get(i, [])) for i, rows in enumerate(labelled or [])]
    ends = np.cumsum([0, *map(len, others)])
    spare = wanted - (sum(map(len, labelled or [])) - int(ends[-1]))
    chosen = np.sort(rng.permutation(int(ends[-1]))[: max(0, spare)])
    return {i: rows[chosen[(chosen >= ends[i]) & (chosen < ends[i + 1])] - ends[i]] for i, rows in enumerate(others)}


def _bytes(text: str) -> int:
    """``"1GiB"`` or ``"500MB"`` as a number."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?)(i?)B", text)
    if match is None or float(match[1]) <= 0:
        raise ValueError(f"data.memory must be a size such as 1GiB or 500MB, got {text!r}")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** ("KMGT".find(match[2]) + 1 if match[2] else 0))


class TableSource:
    """Rows as batches ``(B, M)``, one gather each on the device that holds them.

    Args:
        x: ``(N, M)`` model input.
    """

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def fetch(self, index: npt.NDArray[np.int64]) -> Tensor:
        return self.x.index_select(0, torch.from_numpy(index).to(self.x.device, non_blocking=True))


def _roles(cfg: DataConfig) -> Roles:
    if cfg.task not in ("auto", "classification", "regression"):
        raise ValueError(f"data.task must be auto, classification or regression, got {cfg.task!r}")
    return Roles(
        cfg.label, cfg.task, cfg.id, cfg.group, cfg.time, cfg.numeric, cfg.categorical, cfg.date, cfg.ignore  # type: ignore[arg-type]
    )  # fmt: skip


def _read_test(cfg: DataConfig, train: TableSet) -> TableSet:
    assert cfg.test_path is not None
    roles = _roles(cfg)
    if train.labels is not None:
        roles = replace(roles, task="regression" if train.classes is None else "classification")
    test = read_table(cfg.test_path, roles, names=cfg.names, missing=cfg.missing, columns=train.columns)
    return test if test.labels is None or train.classes is None else test.with_classes(train.classes)


def _refuse_leaks(table: TableSet, cfg: DataConfig) -> None:
    named = {*cfg.numeric, *cfg.categorical, *cfg.date}
    leaking = leaks(table)
    found = [c.source for c in table.columns if c.name in leaking and c.source not in named]
    if found:
        raise ValueError(
            f"column {found[0]!r} alone tells {table.label!r} without an error in all labelled rows where it has a "
            "value: it looks like the label itself. Leave it out with "
            f"{setting('data.ignore', [*cfg.ignore, *found])}; to keep it, name it in data.numeric or data.categorical"
        )


def _check_labels(table: TableSet) -> None:
    assert table.labels is not None
    known = table.labels[table.labelled]
    if not len(known):
        raise ValueError(f"no row has a label in data.label={table.label}: fill some in, or leave data.label out")
    if known.min() == known.max():
        shown = table.classes[int(known[0])] if table.classes is not None else known[0]
        raise ValueError(
            f"all labels in data.label={table.label} are {shown!r}: there is nothing to predict. Leave data.label out"
        )


def _refuse_names(table: TableSet) -> None:
    """Raise a ValueError where every label is a class of its own: of rows held out, none could be told."""
    assert table.labels is not None
    known = table.labels[table.labelled]
    if table.classes is not None and len(known) > 2 and len(np.unique(known)) == len(known):
        raise ValueError(
            f"each of the {len(known):,} labels in data.label={table.label} is a class of its own, so rows held out to "
            f"test can't be told. If the column names the rows, set data.id={table.label}; one label a class to learn "
            "from needs a test table (data.test_path)"
        )


def _split_by(text: str) -> SplitBy:
    if text not in ("auto", "random", "group", "time"):
        raise ValueError(f"data.split must be auto, random, group or time, got {text!r}")
    return text  # type: ignore[return-value]


def _part(table: TableSet, preprocessor: TablePreprocessor, rows: npt.NDArray[np.int64]) -> Part:
    return Part(preprocessor(table), table.labels, table.ids, table.groups, rows)
