"""Episodes like this one: the windows of a user's data that an encoder holds for most similar to one of them."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import numpy.typing as npt

from mmssl.timeseries.embedder import SeriesEmbedder
from mmssl.timeseries.pictures import sparkline
from mmssl.timeseries.series import SeriesSet, Windows, cut_windows
from mmssl.timeseries.times import clock_from_utc, time_text, utc_from_clock

STRIDES = 8  # windows begin every eighth of a window


@dataclass(frozen=True, eq=False)
class Episode:
    """A window of the data.

    Args:
        entity: its name.
        start: time or row of its first row, as text; the time is what the clock of the data showed.
        similarity: to the episode that was asked for: cosine, 1 at most.
        values: ``(T, C)`` as they were measured.
    """

    entity: str
    start: str
    similarity: float
    values: npt.NDArray[np.float32]


def similar_episodes(
    embedder: SeriesEmbedder, series: SeriesSet, *, at: str, k: int = 5, length: int | None = None
) -> tuple[Episode, list[Episode]]:
    """The window around a moment, and the ``k`` windows most like it, none of which overlap.

    Similarity is the cosine of embeddings, each feature standardised over all windows.

    Args:
        embedder: of a finished run.
        series: raw, with the channels of the training data; see `SeriesEmbedder.read`.
        at: ``entity/time``, or the time alone where there is one entity; a row number where there are no times.
        k: windows to find.
        length: rows of a window; None: those of the training. A run on whole entities compares whole entities, and
            ``at`` is an entity.

    A time is one of the clock that the data was read by, see `Reading.time_zone`; UTC with a ``Z`` at its end.

    Raises:
        ValueError: no such entity or moment, or nothing else to compare with.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    length = embedder.window if length is None else length
    zone = embedder.time_zone
    entity, row = find_moment(series, at, whole=length is None, time_zone=zone)
    standardised = embedder.preprocessor(series)
    windows = cut_windows(standardised, length=length, stride=None if length is None else max(1, length // STRIDES))
    starts, lengths, _ = series.stretches()
    stretch = int(np.searchsorted(starts, row, side="right")) - 1
    begin, end = int(starts[stretch]), int(starts[stretch] + lengths[stretch])
    rows = end - begin if length is None else min(length, end - begin)
    start = int(np.clip(row - rows // 2, begin, end - rows))
    query = Windows(standardised, np.array([start]), np.array([rows]), np.array([entity]))
    if len(windows) < 3:
        raise ValueError(
            f"the data has {len(windows)} {'series' if length is None else f'windows of {length} rows'}: "
            "too few to look for similar ones"
        )
    every = np.concatenate([embedder.features(query), embedder.features(windows)]).astype(np.float64)
    spread = every.std(axis=0)
    every = (every - every.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    every /= np.maximum(np.linalg.norm(every, axis=1, keepdims=True), 1e-12)
    similarity = every[1:] @ every[0]
    taken = [(start, start + rows)]
    found = []
    for i in np.argsort(-similarity, kind="stable").tolist():
        first, last = int(windows.starts[i]), int(windows.starts[i] + windows.lengths[i])
        if all(last <= a or first >= b for a, b in taken):
            taken.append((first, last))
            found.append(_episode(series, int(windows.entity[i]), first, last, float(similarity[i]), zone))
        if len(found) == k:
            break
    return _episode(series, entity, start, start + rows, 1.0, zone), found


def find_moment(series: SeriesSet, at: str, *, whole: bool = False, time_zone: str | None = None) -> tuple[int, int]:
    """Entity and row, as positions in ``series``, of ``entity/time``.

    Args:
        series: that has it.
        at: see `similar_episodes`.
        whole: an entity without a time is its first row.
        time_zone: of the time, unless that ends with a ``Z``.

    Raises:
        ValueError: no such entity, or the moment is no time or lies outside of the entity.
    """
    names = [str(name) for name in series.ids]
    if at in names:  # an entity may have a slash in its name
        name, moment = at, None
    elif "/" in at:
        name, moment = at.rsplit("/", 1)
    elif len(names) == 1:
        name, moment = names[0], at
    else:
        name, moment = at, None
    if name not in names:
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
        hint = f"did you mean {', '.join(close)}?" if close else f"there are {', '.join(names[:8])}"
        raise ValueError(f"--at {at}: there is no entity {name!r}; {hint}")
    entity = names.index(name)
    begin, end = int(series.offsets[entity]), int(series.offsets[entity + 1])
    if moment is None:
        if whole:
            return entity, begin
        raise ValueError(f"--at {at}: which moment? Write {name}/<{'time' if series.times is not None else 'row'}>")
    if series.times is None:
        if not moment.isdigit() or int(moment) >= end - begin:
            raise ValueError(f"--at {at}: {moment!r} is no row of {name!r}, which has rows 0 to {end - begin - 1:,}")
        return entity, begin + int(moment)
    return entity, _row_at(series, entity, moment, f"--at {at}", time_zone)


def gallery(query: Episode, found: Sequence[Episode]) -> str:
    """HTML: the episode that was asked for, and those like it."""
    cells = [_figure(query, "this one")]
    cells += [_figure(episode, f"cosine {episode.similarity:.2f}") for episode in found]
    return f'<div class="neighbours">{"".join(cells)}</div>'


def _row_at(series: SeriesSet, entity: int, moment: str, option: str, time_zone: str | None) -> int:
    """The row of an entity that is nearest to a moment, of the first stretch that has the moment."""
    times, kind, name = series.times, series.time_kind, str(series.ids[entity])
    assert times is not None
    try:
        wanted = _instant(moment, time_zone) if kind == "datetime" else float(moment)
    except ValueError:
        expected = "a date such as 2026-01-31T12:00" if kind == "datetime" else "a number"
        raise ValueError(f"{option}: {moment!r} is not {expected}") from None
    begin, end = int(series.offsets[entity]), int(series.offsets[entity + 1])
    low, high = times[begin:end].min(), times[begin:end].max()
    if not low <= wanted <= high:
        first, last = (_shown(time, kind, time_zone) for time in (low, high))
        raise ValueError(f"{option}: {name!r} has rows from {first} to {last}")
    starts, lengths, owner = series.stretches()
    starts, ends = starts[owner == entity], (starts + lengths)[owner == entity]
    inside = np.flatnonzero((times[starts] <= wanted) & (wanted <= times[ends - 1]))
    if len(inside) > 1:
        warnings.warn(
            f"{option}: the clock of {name!r} went back and showed this time {len(inside)} times; the first is taken",
            UserWarning,
            stacklevel=4,
        )
    if len(inside):
        begin, end = int(starts[inside[0]]), int(ends[inside[0]])
    return begin + int(np.argmin(np.abs(times[begin:end] - wanted)))


def _instant(moment: str, time_zone: str | None) -> int:
    """Nanoseconds since 1970, UTC, of a date as text; without a ``Z`` it is one of the clock of the data.

    Raises:
        ValueError: it is no date.
    """
    date = np.datetime64(moment.removesuffix("Z"), "ns")
    if np.isnat(date):
        raise ValueError(f"{moment} is no date")
    return utc_from_clock(int(date.astype(np.int64)), None if moment.endswith("Z") else time_zone)


def _shown(time: np.int64 | np.float64, kind: str, time_zone: str | None) -> str:
    """A time as the clock of the data showed it."""
    return time_text(clock_from_utc(int(time), time_zone) if kind == "datetime" else time, kind)


def _episode(
    series: SeriesSet, entity: int, first: int, last: int, similarity: float, time_zone: str | None
) -> Episode:
    start = (
        f"row {first - series.offsets[entity]}"
        if series.times is None
        else _shown(series.times[first], series.time_kind, time_zone)
    )
    return Episode(str(series.ids[entity]), start, similarity, series.values[first:last])


def _figure(episode: Episode, caption: str) -> str:
    name = escape(f"{episode.entity} from {episode.start}")
    return f"<figure>{sparkline(_scaled(episode.values))}<figcaption><b>{name}</b><br>{caption}</figcaption></figure>"


def _scaled(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Channels of different units on one scale, each from 0 to 1 of its own range."""
    known = ~np.isnan(values)
    low = np.where(known, values, np.inf).min(axis=0)
    high = np.where(known, values, -np.inf).max(axis=0)
    scaled: npt.NDArray[np.float32] = (values - low) / np.where(high > low, high - low, 1.0).astype(np.float32)
    return scaled
