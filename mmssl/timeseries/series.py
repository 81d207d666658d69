"""Series as they come: several entities, unequal lengths, missing values; and windows over them that copy nothing.

A `SeriesSet` is one flat array with a row range for every entity. `Windows` is an index into it: a window becomes an
array only when a batch asks for it, so overlapping windows of a long recording cost a few bytes each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.object_]  # a class name for every entity or row, None where nobody labelled it
LabelPolicy = Literal["drop", "majority", "last"]


@dataclass(frozen=True, eq=False)
class SeriesSet:
    """A ragged set of multichannel series.

    Args:
        values: ``(rows, C)`` float32, the series of all entities one after the other; NaN is missing.
        offsets: ``(entities + 1,)`` int64; entity ``i`` is ``values[offsets[i]:offsets[i + 1]]``.
        ids: ``(entities,)`` object, the name of every entity as the user wrote it.
        channels: names of the ``C`` columns.
        times: ``(rows,)`` int64 nanoseconds since 1970 (``time_kind="datetime"``) or float64 in the user's own unit
            (``"number"``); None where rows are only counted.
        time_kind: ``"datetime"``, ``"number"`` or ``"rows"``.
        labels: ``(entities,)`` or ``(rows,)`` object array, None for an unlabelled one; None altogether without labels.
        step: the regular distance of two rows, in seconds for datetimes, else in the unit of ``times``; None if unknown
            or irregular.
        breaks: ``(k,)`` int64, rows within an entity at which something new begins, in order: after a gap that is too
            long, or where its clock was reset. No window holds rows of both sides. None: there are none.
        static: name to ``(entities,)`` object array, what is known of each entity once and for all.
        units: of the channels, None where unknown; None altogether if no unit is known.
        label_policy: the label of a window whose rows have several: none (``"drop"``), the one of most rows
            (``"majority"``, unlabelled rows counting like a class, and of equally many the first by name) or that of
            its last row (``"last"``).
        time_format: how the times were written, where they are text that is not ISO 8601; else None.
    """

    values: npt.NDArray[np.float32]
    offsets: npt.NDArray[np.int64]
    ids: npt.NDArray[np.object_]
    channels: tuple[str, ...]
    times: npt.NDArray[np.int64] | npt.NDArray[np.float64] | None = None
    time_kind: str = "rows"
    labels: Labels | None = None
    step: float | None = None
    breaks: npt.NDArray[np.int64] | None = None
    static: Mapping[str, Labels] = field(default_factory=dict)
    units: tuple[str | None, ...] | None = None
    label_policy: LabelPolicy = "drop"
    time_format: str | None = None

    def __post_init__(self) -> None:
        rows, channels = self.values.shape
        if len(self.channels) != channels:
            raise ValueError(f"{len(self.channels)} channel names for values of shape {self.values.shape}")
        if self.offsets[0] != 0 or self.offsets[-1] != rows or len(self.offsets) != len(self.ids) + 1:
            raise ValueError(
                f"offsets {self.offsets[:3]}…{self.offsets[-1]} do not cover {rows} rows of {len(self.ids)} entities"
            )
        if self.labels is not None and len(self.labels) not in (rows, len(self.ids)):
            raise ValueError(f"{len(self.labels)} labels for {len(self.ids)} entities with {rows} rows")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        return np.diff(self.offsets)

    def stretches(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Rows without a break: where each stretch starts, how long it is and its entity, ``(s,)`` int64 each."""
        entity = np.arange(len(self))
        if self.breaks is None:
            return self.offsets[:-1], self.lengths, entity
        starts = np.concatenate([self.offsets[:-1], self.breaks])
        entity = np.concatenate([entity, np.searchsorted(self.offsets[1:], self.breaks, side="right")])
        order = np.lexsort((starts, entity))
        starts = starts[order]
        return starts, np.diff(starts, append=self.offsets[-1]), entity[order]

    @property
    def labels_by_row(self) -> bool:
        """True where the labels change along a series (an activity stream), False where an entity has one label."""
        return self.labels is not None and len(self.labels) != len(self.ids)

    @classmethod
    def from_array(
        cls,
        values: npt.NDArray[np.floating],
        *,
        labels: Sequence[object] | None = None,
        channels: Sequence[str] | None = None,
        ids: Sequence[object] | None = None,
    ) -> SeriesSet:
        """From ``(N, T, C)`` or ``(N, T)``; all-NaN steps at the end of a series are padding and are cut off."""
        if values.ndim == 2:
            values = values[..., None]
        if values.ndim != 3 or 0 in values.shape:
            raise ValueError(f"series must have shape (N, T, C) or (N, T) without an empty axis, got {values.shape}")
        n, t, c = values.shape
        seen = ~np.isnan(values).all(axis=-1)  # (N, T)
        lengths = np.where(seen.any(axis=1), t - np.argmax(seen[:, ::-1], axis=1), 0)
        flat = values.reshape(n * t, c)[(np.arange(t) < lengths[:, None]).ravel()]
        return cls(
            values=np.ascontiguousarray(flat, dtype=np.float32),
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            ids=as_objects(range(n) if ids is None else ids),
            channels=tuple(channels) if channels is not None else tuple(f"channel_{i}" for i in range(c)),
            labels=None if labels is None else as_objects(labels),
        )

    def select(self, entities: npt.NDArray[np.integer]) -> SeriesSet:
        """Copy of the given entities, in the given order."""
        rows = np.concatenate(
            [np.arange(self.offsets[i], self.offsets[i + 1]) for i in entities] or [np.zeros(0, np.int64)]
        )
        labels = self.labels
        if labels is not None:
            labels = labels[rows] if self.labels_by_row else labels[entities]
        return replace(
            self,
            values=self.values[rows],
            offsets=np.concatenate([[0], np.cumsum(self.lengths[entities])]).astype(np.int64),
            ids=self.ids[entities],
            times=None if self.times is None else self.times[rows],
            labels=labels,
            breaks=self.breaks_of(rows),
            static={name: known[entities] for name, known in self.static.items()},
        )

    def breaks_of(self, rows: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> npt.NDArray[np.int64] | None:
        """The breaks among the chosen rows."""
        if self.breaks is None:
            return None
        begins = np.zeros(len(self.values), dtype=bool)
        begins[self.breaks] = True
        return np.flatnonzero(begins[rows])


class WindowSet(Protocol):
    """Windows, wherever their rows are: in memory (`Windows`) or in files (`mmssl.timeseries.streamed`)."""

    @property
    def series(self) -> SeriesSet: ...  # all that is known beside the rows: entities, channels, rate

    @property
    def lengths(self) -> npt.NDArray[np.int64]: ...  # (n,) rows

    @property
    def entity(self) -> npt.NDArray[np.int64]: ...  # (n,) positions in series.ids

    @property
    def length(self) -> int: ...  # rows of the longest

    def __len__(self) -> int: ...

    def fetch(self, index: npt.NDArray[np.integer], length: int | None = None) -> npt.NDArray[np.float32]: ...

    def subset(self, index: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> WindowSet: ...

    def labels(self) -> Labels: ...

    def names(self) -> tuple[npt.NDArray[np.object_], npt.NDArray[Any]]: ...


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows over a `SeriesSet`: where each starts, how long it is and which entity it belongs to.

    Args:
        series: the rows that the windows look at.
        starts: ``(n,)`` int64, first row of each window in ``series.values``.
        lengths: ``(n,)`` int64, at least 1.
        entity: ``(n,)`` int64, position in ``series.ids``.
    """

    series: SeriesSet
    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    entity: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def length(self) -> int:
        """Rows of the longest window; shorter ones are padded to it with NaN."""
        return int(self.lengths.max())

    def fetch(self, index: npt.NDArray[np.integer], length: int | None = None) -> npt.NDArray[np.float32]:
        """The windows at ``index`` as ``(n, T, C)`` float32, NaN after the end of a shorter one.

        Args:
            index: positions in this object.
            length: T; the longest of the chosen windows if None.
        """
        length = int(self.lengths[index].max()) if length is None else length
        return cut_out(self.series.values, self.starts[index], self.lengths[index], length)

    def subset(self, index: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> Windows:
        return replace(self, starts=self.starts[index], lengths=self.lengths[index], entity=self.entity[index])

    def labels(self) -> Labels:
        """One label a window ``(n,)`` by ``series.label_policy``, None where it is unlabelled or its rows disagree."""
        series = self.series
        if series.labels is None:
            return np.full(len(self), None, dtype=object)
        if not series.labels_by_row:
            return series.labels[self.entity]
        codes, names = encode_labels(series.labels)
        if series.label_policy == "last":
            return names[codes[self.starts + self.lengths - 1]]
        if series.label_policy == "majority":
            return names[self._majority(codes, len(names))]
        changes = np.concatenate([[0], np.cumsum(np.diff(codes) != 0)])  # equal at both ends: nothing changed between
        last = self.starts + self.lengths - 1
        out = names[codes[self.starts]]
        out[changes[self.starts] != changes[last]] = None
        return out

    def _majority(self, codes: npt.NDArray[np.int64], classes: int) -> npt.NDArray[np.int64]:
        """The class that most rows of each window have: ``(rows,)`` codes to ``(n,)``."""
        counts = np.empty((classes, len(self)), dtype=np.int64)
        for code in range(classes):
            seen = np.concatenate([[0], np.cumsum(codes == code)])
            counts[code] = seen[self.starts + self.lengths] - seen[self.starts]
        return counts.argmax(axis=0)

    def names(self) -> tuple[npt.NDArray[np.object_], npt.NDArray[Any]]:
        """What identifies each window to its owner: the entity's name and where the window starts.

        The start is a time where the series have times, else the row number within the entity.
        """
        series = self.series
        return series.ids[self.entity], as_times(self.places(), series.time_kind)

    def places(self) -> npt.NDArray[np.int64] | npt.NDArray[np.float64]:
        """Where each window starts: the time, or the row number within the entity where there are no times."""
        series = self.series
        return self.starts - series.offsets[self.entity] if series.times is None else series.times[self.starts]


def cut_out(
    values: npt.NDArray[np.float32], starts: npt.NDArray[np.integer], lengths: npt.NDArray[np.integer], length: int
) -> npt.NDArray[np.float32]:
    """Rows of ``values`` from each start on: ``(n, length, C)``, NaN after the end of a window that is shorter."""
    steps = np.arange(length)
    out = values[np.minimum(starts[:, None] + steps, len(values) - 1)]
    if (lengths < length).any():
        out[steps >= lengths[:, None]] = np.nan
    return out


def cut_windows(series: SeriesSet, *, length: int | None = None, stride: int | None = None) -> Windows:
    """Windows of ``length`` rows every ``stride`` rows of every stretch without a break; mostly, that is every entity.

    Args:
        series: what to cut.
        length: rows of a window; None takes every stretch whole. A stretch shorter than a window is one short window,
            and the rows after the last full window belong to one more window that ends with the stretch, so that no row
            is lost.
        stride: rows from one start to the next; half a window if None.

    Raises:
        ValueError: ``length`` or ``stride`` is not positive.
    """
    first, lengths, entity = series.stretches()
    if length is None:
        keep = np.flatnonzero(lengths > 0)
        return Windows(series, first[keep], lengths[keep], entity[keep].astype(np.int64))
    stride = max(1, length // 2) if stride is None else stride
    if length < 1 or stride < 1:
        raise ValueError(f"window length and stride must be at least 1 row, got {length} and {stride}")
    full = np.maximum((lengths - length) // stride + 1, 0)  # windows that fit, per stretch
    short = (lengths > 0) & (lengths < length)
    tail = (lengths >= length) & ((lengths - length) % stride != 0)
    counts = full + short + tail
    owner = np.repeat(np.arange(len(first)), counts)
    nth = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    start = np.minimum(nth * stride, np.maximum(lengths[owner] - length, 0))
    return Windows(
        series,
        starts=(first[owner] + start).astype(np.int64),
        lengths=np.minimum(lengths[owner], length).astype(np.int64),
        entity=entity[owner].astype(np.int64),
    )


def encode_labels(labels: Labels) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.object_]]:
    """Codes and names, sorted by name; unlabelled is the last name, None. ``names[codes]`` gives the labels back."""
    known = [label for label in set(labels.tolist()) if label is not None]
    names = as_objects([*sorted(known, key=_label_order), None])
    code = {name: i for i, name in enumerate(names)}
    return np.fromiter((code[label] for label in labels), dtype=np.int64, count=len(labels)), names


def as_objects(items: Sequence[object] | npt.NDArray[np.generic] | range) -> npt.NDArray[np.object_]:
    """A one-dimensional object array of plain Python values, whatever the items are."""
    plain = items.tolist() if isinstance(items, np.ndarray) else list(items)
    out = np.empty(len(plain), dtype=object)
    out[:] = plain
    return out


def as_times(places: npt.NDArray[Any], kind: str) -> npt.NDArray[Any]:
    """Nanoseconds as datetimes, if that is what they are; else the numbers as they are."""
    return places.astype("datetime64[ns]") if kind == "datetime" else places


def _label_order(label: object) -> tuple[int, float, str]:
    """Numbers by value, then everything else by its text."""
    return (0, float(label), "") if isinstance(label, int | float) else (1, 0.0, str(label))
