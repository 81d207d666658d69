"""Results as flat records: one number each, with everything that is needed to know what it means."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from os import PathLike
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Record:
    """One score.

    Args:
        dataset: name of the data.
        subject: whose features were scored, for example ``"ts2vec"`` or ``"random-encoder"``.
        protocol: versioned id, for example ``"svm-rbf/1"``; a protocol that changes its numbers gets a new version.
        metric: ``"accuracy"``, ``"macro_f1"`` or ``"auc"``, between 0 and 1; ``"r2"`` or ``"rmse"`` of a regression;
            ``"character_error_rate"`` of a transcription; ``"recall@1"`` (5, 10) of a retrieval.
        n_labels: labels a class (of a regression, labels), or ``"all"``.
        seed: seed of the pretraining, of the untrained weights and of the label draws.
        split: what the test examples are, for example ``"test"``.
        value: the score.
        n_train: labelled training examples used.
        n_test: test examples.
        draw: number of the draw of labelled examples; None where all labels are used.
    """

    dataset: str
    subject: str
    protocol: str
    metric: str
    n_labels: int | Literal["all"]
    seed: int
    split: str
    value: float
    n_train: int
    n_test: int
    draw: int | None = None


@dataclass(frozen=True)
class Subjects:
    """Who is compared with whom.

    Args:
        pretrained: subject id of the pretrained encoder.
        untrained: subject id of the same encoder at random initialisation.
        controls: ids of the other subjects, in the order of the table.
        names: readable name of an id; an id without one is shown as it is.
    """

    pretrained: str
    untrained: str
    controls: tuple[str, ...] = ()
    names: dict[str, str] = field(default_factory=dict)

    @property
    def order(self) -> tuple[str, ...]:
        return (self.pretrained, self.untrained, *self.controls)

    def name(self, subject: str) -> str:
        return self.names.get(subject, subject)


def to_json(records: Iterable[Record]) -> str:
    """Write records as the text of ``results.json``: a list of objects, one a line."""
    lines = [json.dumps(asdict(record), ensure_ascii=False, allow_nan=False) for record in records]
    return "[\n" + ",\n".join(lines) + "\n]\n"


def read_results(path: str | PathLike[str]) -> list[Record]:
    """Read ``results.json``.

    Raises:
        ValueError: not a list of records; the first entry and the fields that are missing or unknown are named.
    """
    entries = json.loads(Path(path).read_text(encoding="utf-8"))
    if not isinstance(entries, list):
        raise ValueError(f"{path} should hold a list of records, got {type(entries).__name__}")
    return [_record(entry, f"{path}, entry {i}") for i, entry in enumerate(entries)]


def _record(entry: dict[str, Any], where: str) -> Record:
    known = {f.name for f in fields(Record)}
    required = known - {"draw"}
    if missing := required - entry.keys():
        raise ValueError(f"{where}: missing {', '.join(sorted(missing))}")
    if unknown := entry.keys() - known:
        raise ValueError(f"{where}: unknown {', '.join(sorted(unknown))}")
    return Record(**entry)
