"""Recordings with labelled anomalies: those that aeon bundles, and the folder of the Numenta benchmark (NAB).

Never downloads.
"""

from __future__ import annotations

import importlib.util
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mmssl.timeseries.data import read_series
from mmssl.timeseries.series import Labels, SeriesSet, as_objects

NORMAL, ANOMALOUS = "0", "1"  # labels of rows
LABEL, TIME = "is_anomaly", "timestamp"  # columns of aeon's files


@dataclass(frozen=True, eq=False)
class BundledSet:
    """A set that aeon bundles.

    Args:
        series: every row is labelled `NORMAL` or `ANOMALOUS`.
        train_rows: rows from the start that the set says to learn from; None where it says nothing.
    """

    series: SeriesSet
    train_rows: int | None


def bundled_set(name: str) -> BundledSet:
    """``KDD-TSAD_135`` (arterial pressure) or ``Daphnet_S06R02E0`` (accelerometers), or what else aeon bundles.

    Raises:
        FileNotFoundError: no such set there; the message lists what is.
        ModuleNotFoundError: aeon is not installed.
    """
    # the folder is found without importing aeon, whose loaders would try to download what they do not find
    spec = importlib.util.find_spec("aeon")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            f'{name} comes with aeon, which is not installed: pip install "mmssl[timeseries]", or bring your own '
            "recording with data.path"
        )
    folder = Path(spec.origin).parent / "datasets" / "data"
    names = sorted(f.name for f in folder.iterdir() if any(LABEL in _header(file) for file in f.glob("*.csv")))
    if name not in names:
        raise FileNotFoundError(
            f"data.name={name} is not among the anomaly sets that aeon bundles ({', '.join(names)}); bring your own "
            "with data.path"
        )
    files = sorted((folder / name).glob("*.csv"))
    train = next((file for file in files if file.stem.endswith("_TRAIN")), None)
    whole = next(file for file in files if file != train)  # a test file repeats the training rows at its start
    channels = [c for c in _header(whole) if c not in (LABEL, TIME)]  # the times are row numbers, or rounded ones
    series = read_series(whole, channels=channels, label=LABEL)
    labels = as_objects([str(label) for label in row_labels(series)])
    series = replace(series, ids=as_objects([name]), labels=labels)
    return BundledSet(series, None if train is None else len(read_series(train, channels=channels).values))


def read_nab(root: str | os.PathLike[str]) -> SeriesSet:
    """All series of the Numenta Anomaly Benchmark, an entity each; rows within a labelled window are `ANOMALOUS`.

    Args:
        root: folder with ``data/<group>/<name>.csv`` and ``labels/combined_windows.json``.

    Raises:
        FileNotFoundError: the folder has no labels, or a labelled series is missing.
    """
    root = Path(root)
    file = root / "labels" / "combined_windows.json"
    if not file.is_file():
        raise FileNotFoundError(
            f"data.root={root} has no labels/combined_windows.json; it must be a copy of the Numenta Anomaly Benchmark "
            "(data/<group>/<name>.csv and labels/)"
        )
    windows: dict[str, list[list[str]]] = json.loads(file.read_text())
    names, values, labels = [], [], []
    for name, spans in windows.items():
        path = root / "data" / name
        if not path.is_file():
            raise FileNotFoundError(f"{file} labels {name}, and there is no {path}; get the benchmark again")
        # Some series repeat an hour, and some skip rows: they are taken in their order, times only place the labels.
        rows = np.loadtxt(path, delimiter=",", skiprows=1, dtype=[("time", "datetime64[s]"), ("value", np.float32)])
        label = np.full(len(rows), NORMAL, dtype=object)
        for start, stop in spans:
            label[(rows["time"] >= np.datetime64(start, "s")) & (rows["time"] <= np.datetime64(stop, "s"))] = ANOMALOUS
        names.append(name.removesuffix(".csv"))
        values.append(rows["value"])
        labels.append(label)
    return SeriesSet(
        values=np.concatenate(values)[:, None],
        offsets=np.cumsum([0, *map(len, values)]).astype(np.int64),
        ids=as_objects(names),
        channels=("value",),
        labels=np.concatenate(labels),
    )


def name_labels(series: SeriesSet, *, normal: list[str], label: str) -> SeriesSet:
    """``series`` with the labels `NORMAL` and `ANOMALOUS` in every row, None where there was none.

    Args:
        series: with labels.
        normal: those of normal rows; case does not count.
        label: name of the column, for the message.

    Raises:
        ValueError: no row is normal.
    """
    labels = row_labels(series)
    texts = [None if x is None else str(x).lower().removesuffix(".0") for x in labels]
    known = {text.lower() for text in normal}
    if not any(text in known for text in texts):
        found = ", ".join(sorted({str(x) for x in labels if x is not None})[:8])
        raise ValueError(
            f"data.label={label} has no normal row: none of {found} is in data.normal=[{','.join(normal)}]; name the "
            "labels of normal rows there"
        )
    named = [None if text is None else NORMAL if text in known else ANOMALOUS for text in texts]
    return replace(series, labels=as_objects(named))


def row_labels(series: SeriesSet) -> Labels:
    """A label a row, where `read_series` gives one an entity because none changes."""
    assert series.labels is not None
    return series.labels if series.labels_by_row else np.repeat(series.labels, series.lengths)


def _header(file: Path) -> list[str]:
    with file.open(encoding="utf-8", errors="replace") as lines:
        return lines.readline().strip().split(",")
