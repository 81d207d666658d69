"""The `data` section of the recipes, and what becomes of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from mmssl.timeseries.ahead import StreamedSource
from mmssl.timeseries.batches import SeriesSource
from mmssl.timeseries.options import READING
from mmssl.timeseries.preprocess import SeriesPreprocessor
from mmssl.timeseries.series import Windows, WindowSet
from mmssl.timeseries.streamed import StreamedWindows

BYTES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


@dataclass
class SourceConfig:
    """Files of one's own, and how they are read; what is not set is not done (docs/sensors.md)."""

    path: str | None = None  # CSV, Parquet, Feather, NPY, NPZ, or a folder of them
    id: str | None = None  # column that names the entity; None: one entity, or one a file of a folder
    time: str | None = None  # column with datetimes or numbers; None: rows as they come
    channels: list[str] | None = None  # columns to look at; None: every numeric one that is nothing else
    resample: str | None = None  # regular grid, "1s" or a number; bins without a row are missing
    hold: str | None = None  # last value stands for missing ones up to this age, for sensors logged on change
    max_gap: str | None = None  # no window holds rows from both sides of a longer gap
    clock_reset: str = "sort"  # where time goes back: sort, split into two stretches, or error
    time_zone: str | None = None  # of clocks that show local time, such as Europe/Berlin
    units: dict[str, str] = field(default_factory=dict)  # of channels; a finished run refuses others
    static: list[str] = field(default_factory=list)  # columns with one value an entity, joined to the embeddings


@dataclass
class DataConfig(SourceConfig):
    """Where the series come from: a set of the UCR or UEA archive by ``name``, or your own by ``path``."""

    name: str | None = None  # what aeon bundles, or with `root` any set of an archive on disk
    root: str | None = None  # folder of the archive, one folder a set, .ts or .tsv
    test_path: str | None = None  # as `path`, never trained on; instead of a split
    label: str | None = None  # column with a class, empty where unlabelled; None: no scores
    label_policy: str = "drop"  # of a window with several labels: drop it from the scores, majority or last
    window: int | None = None  # rows of a window; None: every entity whole
    stride: int | None = None  # rows from one window to the next; None: half a window
    split: str = "auto"  # auto, entity or time
    group: str | None = None  # column with one value an entity; whole groups are held out
    split_gap: str | None = None  # left out between the earlier and the later part, with split=time
    test_fraction: float = 0.3
    in_memory: bool | None = None  # False streams a Parquet folder; None: if its values exceed `memory`
    memory: str = "2GiB"


@dataclass(frozen=True, eq=False)
class SeriesData:
    """Everything that a recipe needs to know of its data.

    Args:
        name: of the data, for the records.
        train: standardised windows to learn from.
        test: windows of other entities or of a later time; None without labels, when all data is learnt from.
        preprocessor: fitted on the training rows.
        description: what was read and how it was split, for a person.
        split: name of the test split, for the records.
        partly_missing: some training rows miss some of their channels, but not all.
    """

    name: str
    train: WindowSet
    test: WindowSet | None
    preprocessor: SeriesPreprocessor
    description: str
    split: str
    partly_missing: bool

    def source(self) -> SeriesSource | StreamedSource:
        """The training windows as batches."""
        if isinstance(self.train, StreamedWindows):
            return StreamedSource(self.train)
        assert isinstance(self.train, Windows)
        return SeriesSource(self.train)


def reading(cfg: DataConfig) -> dict[str, Any]:
    """How an embedder reads new data: like the training data."""
    return {name: getattr(cfg, name) for name in (*READING, "window", "stride")}


def number_of_bytes(text: str) -> int:
    """``"2GiB"`` or ``"500MB"`` as a number.

    Raises:
        ValueError: it is something else.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]i?)?B?", text)
    if match is None or float(match[1]) <= 0:
        raise ValueError(f"data.memory must be a size such as 2GiB or 500MB, got {text!r}")
    return int(float(match[1]) * BYTES[match[2] or ""])
