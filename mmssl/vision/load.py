"""Encoded images become an `ImageSet`: one frame for all, and the values in memory if they fit in."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from mmssl.vision.decode import Decoded, Items, Undecodable
from mmssl.vision.frame import Frame, Header, plan
from mmssl.vision.images import ImageSet, Index, InMemory, Pixels, Values, picked
from mmssl.vision.parallel import in_order, processes
from mmssl.vision.paths import Columns

MANY = 512  # images from which on other processes help
SAMPLE = 64  # headers that the frame is guessed from, so that most sets are read once
PIECE = 256  # images to a piece of work,
VALUES = 2**22  # fewer if they have more values than this
GIB = 2**30


@dataclass(frozen=True)
class Options:
    """How images are read; see `mmssl.vision.data.read_images`."""

    size: int | None = None
    channels: int | None = None
    fit: str = "crop"
    layout: str | None = None
    cache: float = 2.0
    max_bad: float = 0.01


def image_set(
    items: Items,
    names: npt.NDArray[np.object_],
    columns: Columns,
    options: Options,
    *,
    all_headers: bool = True,
    workers: int | None = None,
) -> ImageSet:
    """All images that can be decoded, in memory if they take at most ``options.cache`` GiB.

    Args:
        items: the images.
        names: of each.
        columns: of each.
        options: the frame that is wanted, and the limits.
        all_headers: look at every header of images that do not fit into memory, else at some; for items that have to
            be decoded for a header.
        workers: processes that decode; None for as many as can run at once, if there are many images.

    Raises:
        ValueError: too many are damaged, or no frame fits them all.
    """
    workers = processes() if workers is None and len(items) >= MANY else workers or 0
    every = np.arange(len(items))
    values = guess = None
    headers, bad = _headers(items, every[:: max(1, len(items) // SAMPLE)], 0)
    if headers:
        guess, _ = _plan(headers, names, options)
    if guess is not None and _fits(guess, items, options):
        values, headers, bad = _decoded(items, guess, workers)
    elif all_headers or not headers:
        headers, bad = _headers(items, every, workers)
    refuse_many_bad(bad, names, options.max_bad)
    frame, notes = _plan(headers, names, options)
    if not _fits(frame, items, options):
        values = None
        notes.append(
            f"decoded whenever they are needed: they would take {frame.bytes * len(items) / GIB:.1f} GiB, more than "
            f"data.cache={options.cache:g}"
        )
    elif values is None or frame != guess:  # the first ones were not like the others
        values, headers, bad = _decoded(items, frame, workers)
    notes += refuse_many_bad(bad, names, options.max_bad, warn=True)
    rows = np.setdiff1d(every, list(bad)).astype(np.int64)
    pixels: Pixels = Decoded(items, frame, rows) if values is None else InMemory(values, rows if bad else None)
    return ImageSet(
        pixels,
        names[rows],
        labels=picked(columns.labels, rows),
        groups=picked(columns.groups, rows),
        parts=picked(columns.parts, rows),
        notes=(*columns.notes, *notes),
        max_bad=options.max_bad,
    )


def refuse_many_bad(
    bad: Mapping[int, str], names: Sequence[object] | npt.NDArray[Any], limit: float, *, warn: bool = False
) -> list[str]:
    """A note on the images that are left out because they are damaged.

    Raises:
        ValueError: there are more than ``limit`` allows.
    """
    if not bad:
        return []
    listed = ", ".join(f"{names[i]} ({bad[i]})" for i in sorted(bad)[:5]) + (", …" if len(bad) > 5 else "")
    if len(bad) == len(names):
        raise ValueError(f"none of {len(names):,} images can be decoded: {listed}")
    if len(bad) > limit * len(names):
        raise ValueError(
            f"{len(bad):,} of {len(names):,} images cannot be decoded, more than data.max_bad={limit:g} allows: "
            f"{listed}. Remove or replace them, or raise data.max_bad"
        )
    note = f"{len(bad):,} of {len(names):,} images cannot be decoded and are left out: {listed}"
    if warn:
        warnings.warn(note, UserWarning, stacklevel=3)
    return [note]


def _plan(headers: Mapping[int, Header], names: npt.NDArray[np.object_], options: Options) -> tuple[Frame, list[str]]:
    order = sorted(headers)
    known = [headers[i] for i in order]
    return plan(known, names[order], size=options.size, channels=options.channels, fit=options.fit)


def _fits(frame: Frame, items: Items, options: Options) -> bool:
    return frame.bytes * len(items) <= options.cache * GIB


def _decoded(items: Items, frame: Frame, workers: int) -> tuple[Values, dict[int, Header], dict[int, str]]:
    """Values ``(n, C, S, S)``, the headers of the images that could be decoded, and what is wrong with the others."""
    n = len(items)
    pixels = Decoded(items, frame, np.arange(n))
    values = np.empty((n, *pixels.shape), dtype=pixels.dtype)
    headers, bad = dict[int, Header](), dict[int, str]()
    step = max(1, min(PIECE, VALUES // int(np.prod(pixels.shape))))
    start = 0
    with _bar(n, "decoding") as bar:
        for x, found, errors in in_order(_Decode(pixels), n, step, workers=workers):
            values[start : start + len(x)] = x.numpy()
            headers |= {start + place: header for place, header in found.items()}
            bad |= {start + place: error for place, error in errors.items()}
            start += len(x)
            bar.update(len(x))
    others, _ = _headers(items, np.array(sorted(bad), dtype=np.int64), 0)
    for i, header in others.items():
        if not header.photo and header.channels != frame.channels:  # sound, but not of this frame
            headers[i] = header
            del bad[i]
    return values, headers, bad


def _headers(items: Items, rows: Index, workers: int) -> tuple[dict[int, Header], dict[int, str]]:
    """The headers of the images at ``rows``, and what is wrong with those that have none."""
    headers, bad = dict[int, Header](), dict[int, str]()
    start = 0
    with _bar(len(rows), "looking at images") as bar:
        for part in in_order(_ReadHeaders(items, rows), len(rows), PIECE, workers=workers):
            for row, header in zip(rows[start : start + len(part)].tolist(), part, strict=True):
                if isinstance(header, str):
                    bad[row] = header
                else:
                    headers[row] = header
            start += len(part)
            bar.update(len(part))
    return headers, bad


class _Decode:
    """With the values as a tensor, which goes from process to process without a copy."""

    def __init__(self, pixels: Decoded) -> None:
        self.pixels = pixels

    def __call__(self, index: Index) -> tuple[torch.Tensor, dict[int, Header], dict[int, str]]:
        values, headers, errors = self.pixels.decode(index)
        return torch.from_numpy(values), headers, errors


class _ReadHeaders:
    def __init__(self, items: Items, rows: Index) -> None:
        self.items, self.rows = items, rows

    def __call__(self, index: Index) -> list[Header | str]:
        found: list[Header | str] = []
        with warnings.catch_warnings():  # libraries warn of what they can live with
            warnings.simplefilter("ignore")
            for row in self.rows[index]:
                try:
                    found.append(self.items.header(int(row)))
                except Undecodable as error:
                    found.append(str(error))
        return found


def _bar(total: int, title: str) -> tqdm[Any]:
    """Shown if it takes more than a few seconds."""
    return tqdm(total=total, desc=title, unit=" images", delay=3, mininterval=0.5, leave=False, dynamic_ncols=True)
