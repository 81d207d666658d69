"""One pass over the pieces of a Parquet folder: which windows there are, and the statistics of the channels."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mmssl.timeseries.pieces import Pieces
from mmssl.timeseries.preprocess import Moments
from mmssl.timeseries.rows import REGULAR
from mmssl.timeseries.series import SeriesSet, Windows, as_objects, cut_windows
from mmssl.timeseries.streamed import Index, StreamedWindows
from mmssl.timeseries.times import time_text

READERS = 2  # threads


@dataclass(frozen=True, eq=False)
class Survey:
    """What one pass over the files finds out.

    Args:
        windows: all of them, of raw values.
        rows: ``(entities,)`` of each entity.
        moments: of each entity.
        span: earliest and latest time; None without times.
        partly_missing: some rows miss some of their channels, but not all.
        left_out: windows that were too short because a piece ended.
    """

    windows: StreamedWindows
    rows: Index
    moments: list[Moments]
    span: tuple[float, float] | None
    partly_missing: bool
    left_out: int


def survey(pieces: Pieces, *, length: int, stride: int | None) -> Survey:
    """Read all pieces once.

    Args:
        pieces: to read.
        length: rows of a window.
        stride: rows from one to the next; half a window if None.

    Raises:
        ValueError: rows that cannot be used; or an entity's rows are not in order of time from piece to piece, or so
            scattered that they make no windows.
    """
    log = _Log(pieces)
    with ThreadPoolExecutor(READERS) as readers:
        ahead = [readers.submit(pieces.read, piece) for piece in range(min(READERS, len(pieces)))]
        for piece in range(len(pieces)):
            series, as_it_is = ahead.pop(0).result()
            if piece + READERS < len(pieces):
                ahead.append(readers.submit(pieces.read, piece + READERS))
            log.add(series, cut_windows(series, length=length, stride=stride), as_it_is)
    return log.finish(length)


class _Log:
    """What is kept of each piece."""

    def __init__(self, pieces: Pieces) -> None:
        self.pieces = pieces
        self.ids: dict[object, int] = {}
        self.label_names: dict[object, int] = {}
        self.static: dict[str, dict[int, object]] = {}
        self.runs: list[tuple[int, int, int, float, float]] = []  # piece, entity, rows, first and last time
        self.found: list[tuple[npt.NDArray[np.generic], ...]] = []
        self.moments: dict[int, Moments] = {}
        self.steps: list[float | None] = []
        self.as_they_are: list[bool] = []
        self.partly_missing = False
        self.last: SeriesSet | None = None

    def add(self, series: SeriesSet, windows: Windows, as_it_is: bool) -> None:
        piece = len(self.found)
        self.as_they_are.append(as_it_is)
        entity = np.array([self.ids.setdefault(name, len(self.ids)) for name in series.ids.tolist()])
        for i, code in enumerate(entity.tolist()):
            begin, end = series.offsets[i], series.offsets[i + 1]
            moments = Moments.of([series.values[begin:end]])
            self.moments[code] = self.moments[code].joined(moments) if code in self.moments else moments
            first, last = (0, 0) if series.times is None else (series.times[begin], series.times[end - 1])
            self.runs.append((piece, code, int(end - begin), first, last))
        for name, values in series.static.items():
            self._add_static(name, dict(zip(entity.tolist(), values.tolist(), strict=True)))
        missing = np.isnan(series.values)
        self.partly_missing |= bool((missing.any(axis=1) & ~missing.all(axis=1)).any())
        if series.times is not None and (series.lengths > 1).any():
            self.steps.append(series.step)
        names, known = windows.labels().tolist(), self.label_names
        labels = [-1 if name is None else known.setdefault(name, len(known)) for name in names]
        row = windows.starts - series.offsets[windows.entity]
        self.found.append((
            np.full(len(windows), piece, dtype=np.int32),
            windows.starts,
            windows.lengths,
            entity[windows.entity],
            row,
            windows.places(),
            np.array(labels, dtype=np.int32),
        ))  # fmt: skip
        self.last = series

    def finish(self, length: int) -> Survey:
        assert self.last is not None
        piece, starts, lengths, entity, row, places, codes = (
            np.concatenate(column) for column in zip(*self.found, strict=True)
        )
        rows = np.zeros(len(self.ids), dtype=np.int64)
        row += self._rows_before(rows, piece, entity)
        cut_off = (lengths < length) & (rows[entity] > lengths)  # the rest of the entity is in other pieces
        self._refuse_scattered(cut_off, length)
        windows = StreamedWindows(
            self.pieces,
            np.array(self.as_they_are),
            self._outline(),
            piece,
            starts,
            lengths,
            entity,
            row,
            places,
            codes,
            list(self.label_names),
        )
        times = [(first, last) for *_, first, last in self.runs]
        return Survey(
            windows=windows.subset(~cut_off),
            rows=rows,
            moments=[self.moments[code] for code in range(len(self.ids))],
            span=None if self.last.times is None else (min(t for t, _ in times), max(t for _, t in times)),
            partly_missing=self.partly_missing,
            left_out=int(cut_off.sum()),
        )

    def _outline(self) -> SeriesSet:
        """All that is known beside the rows."""
        assert self.last is not None
        return replace(
            self.last,
            values=np.empty((0, len(self.last.channels)), dtype=np.float32),
            offsets=np.zeros(len(self.ids) + 1, dtype=np.int64),
            ids=as_objects(list(self.ids)),
            times=None,
            labels=None,
            breaks=None,
            step=_common_step(self.steps),
            static={n: as_objects([v.get(e) for e in range(len(self.ids))]) for n, v in self.static.items()},
        )

    def _refuse_scattered(self, cut_off: npt.NDArray[np.bool_], length: int) -> None:
        if cut_off.sum() * 2 > len(cut_off):
            raise ValueError(
                f"most entities have less than data.window={length} rows in a piece of {self.pieces.name}, of "
                f"{max(self.pieces.rows):,} rows each: rows of many entities lie between each other. Sort the files by "
                "entity, then time, and write them again"
            )

    def _rows_before(self, rows: Index, piece: npt.NDArray[np.int32], entity: Index) -> Index:
        """Rows that the entity of each window has in earlier pieces; ``rows`` become those that it has in all."""
        timed = self.last is not None and self.last.times is not None
        runs = sorted(self.runs, key=lambda run: (run[1], run[3], run[0]) if timed else (run[1], run[0]))
        before = np.empty(len(runs), dtype=np.int64)
        for i, (_, owner, count, first, _) in enumerate(runs):
            if timed and i and runs[i - 1][1] == owner and runs[i - 1][4] >= first:
                self._refuse_overlap(owner, runs[i - 1][4], first)
            before[i] = rows[owner]
            rows[owner] += count
        key = np.array([run[0] * len(rows) + run[1] for run in runs], dtype=np.int64)
        order = np.argsort(key)
        return before[order[np.searchsorted(key[order], piece.astype(np.int64) * len(rows) + entity)]]

    def _refuse_overlap(self, entity: int, last: float, first: float) -> None:
        assert self.last is not None
        name, kind = list(self.ids)[entity], self.last.time_kind
        raise ValueError(
            f"entity {name!r} has rows in one piece of {self.pieces.name} up to {time_text(last, kind)}, and in "
            f"another from {time_text(first, kind)} on: data that is streamed must be in order of time, entity by "
            "entity. Sort the files by time, or by entity and time, and write them again; or set data.in_memory=true"
        )

    def _add_static(self, name: str, values: dict[int, object]) -> None:
        known = self.static.setdefault(name, {})
        for code, value in values.items():
            if value is not None and known.setdefault(code, value) != value:
                raise ValueError(
                    f"static column {name!r} of entity {list(self.ids)[code]!r} is {known[code]!r} in one place and "
                    f"{value!r} in another; static columns have one value an entity"
                )


def _common_step(steps: list[float | None]) -> float | None:
    """The distance of rows that all pieces agree upon."""
    known = [step for step in steps if step is not None]
    if not known or len(known) < len(steps):
        return None
    step = float(np.median(known))
    return step if max(abs(other - step) for other in known) <= REGULAR * step else None
