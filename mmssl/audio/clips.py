"""Clips of audio, each of its own length, with what their owner calls them; and batches of them for training."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Floats = npt.NDArray[np.float32]
Index = npt.NDArray[np.int64]
Objects = npt.NDArray[np.object_]

POOL = 8  # batches whose clips are sorted by length together
AHEAD = 2  # batches that each thread reads ahead


def lengths(x: Tensor) -> Tensor:
    """How long each clip of a padded batch is: ``(B, T)`` samples or ``(B, F, M)`` frames to ``(B,)`` int64.

    What comes after the end of a clip is NaN, and NaN never occurs inside a clip.
    """
    if x.ndim not in (2, 3):
        raise ValueError(f"expected waveforms (B, samples) or mel frames (B, frames, mels), got {tuple(x.shape)}")
    first = x if x.ndim == 2 else x[..., 0]
    return (~first.isnan()).sum(dim=1)


class Wave(Protocol):
    """Samples of all clips one after the other: an array, or files that are decoded when a slice is asked for."""

    def __getitem__(self, at: slice, /) -> Floats: ...


@dataclass(frozen=True, eq=False)
class ClipSet:
    """Mono clips of one sampling rate.

    Args:
        wave: float32 samples, full scale is 1; slices never reach over the end of a clip.
        starts: ``(n,)``, where in ``wave`` each clip starts.
        sizes: ``(n,)``, its samples.
        rate: samples a second.
        names: ``(n,)`` object array: the path below the root, or another name.
        labels: ``(n,)`` object array, None for an unlabelled clip; None altogether without labels.
        groups: ``(n,)`` object array, such as speakers; clips of a group must not be parted by a split.
        parts: ``(n,)`` object array of ``"train"`` and ``"test"``, where the data comes with a split of its own.
        notes: what the reader had to decide, in sentences for the description.
    """

    wave: Wave
    starts: Index
    sizes: Index
    rate: int
    names: Objects
    labels: Objects | None = None
    groups: Objects | None = None
    parts: Objects | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for column in ("starts", "sizes", "labels", "groups", "parts"):
            values = getattr(self, column)
            if values is not None and len(values) != len(self.names):
                raise ValueError(f"{len(values)} {column} for {len(self.names)} clips")

    @classmethod
    def of(cls, clips: Sequence[npt.NDArray[Any]], rate: int, names: Objects | None = None, **columns: Any) -> ClipSet:
        """From arrays ``(samples,)``; names are row numbers if there are none."""
        sizes = np.array([len(clip) for clip in clips], dtype=np.int64)
        wave = np.concatenate([np.asarray(clip, dtype=np.float32) for clip in clips]) if len(clips) else np.empty(0)
        names = as_objects(range(len(clips))) if names is None else names
        return cls(wave.astype(np.float32, copy=False), np.cumsum(sizes) - sizes, sizes, rate, names, **columns)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def in_memory(self) -> bool:
        return isinstance(self.wave, np.ndarray)

    @property
    def seconds(self) -> float:
        """Of all clips together."""
        return float(self.sizes.sum()) / self.rate

    def clip(self, i: int) -> Floats:
        """``(samples,)``."""
        return self.wave[self.starts[i] : self.starts[i] + self.sizes[i]]

    def padded(self, index: npt.ArrayLike, *, most: int | None = None) -> Tensor:
        """The clips at ``index``: ``(B, longest)`` float32, NaN after the end of each.

        Args:
            index: ``(B,)``, positions.
            most: samples from the start of each; None takes whole clips.
        """
        starts, sizes = self.starts[np.asarray(index)], self.sizes[np.asarray(index)]
        if most is not None:
            sizes = np.minimum(sizes, most)
        return pad([self.wave[start : start + size] for start, size in zip(starts, sizes, strict=True)])

    def subset(self, index: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> ClipSet:
        """The clips at ``index``, in this order; samples are not copied."""
        index = np.arange(len(self))[index]
        return replace(
            self,
            starts=self.starts[index],
            sizes=self.sizes[index],
            names=self.names[index],
            labels=picked(self.labels, index),
            groups=picked(self.groups, index),
            parts=picked(self.parts, index),
        )


class ClipSource:
    """Random crops of clips as batches ``(B, longest)``, NaN after the end of each.

    A batch is a function of the positions that it is asked for: where its crops lie is drawn by a generator that is
    seeded with them, so that a resumed run and any number of threads give the same. Orders put clips of similar length
    next to each other, so that there is little padding; which ones these are changes from epoch to epoch.

    Args:
        clips: in memory, or decoded by threads.
        crop: samples of a crop at most; None takes whole clips.
        batch_size: clips of a batch of one process, for the order.
    """

    def __init__(self, clips: ClipSet, *, crop: int | None = None, batch_size: int = 1) -> None:
        if crop is not None and crop < 1:
            raise ValueError(f"a crop needs at least one sample, got {crop}")
        self.clips = clips
        self.crop = crop
        self.batch_size = batch_size

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def sizes(self) -> Index:
        """``(n,)``, samples of a crop of each clip."""
        return self.clips.sizes if self.crop is None else np.minimum(self.clips.sizes, self.crop)

    def begin(self, index: npt.NDArray[np.integer]) -> Index:
        """First sample of each crop, counted within its clip; a function of the batch."""
        return np.random.default_rng(index).integers(0, self.clips.sizes[index] - self.sizes[index], endpoint=True)

    def fetch(self, index: npt.NDArray[np.integer]) -> Any:
        starts = self.clips.starts[index] + self.begin(index)
        return pad([self.clips.wave[start : start + n] for start, n in zip(starts, self.sizes[index], strict=True)])

    def order(self, rng: np.random.Generator, part: int, parts: int) -> Index:
        """One epoch of one rank: at random, but the clips of a batch are of similar length."""
        mine = rng.permutation(len(self))[part::parts][: len(self) // parts]
        pools = [mine[i : i + POOL * self.batch_size] for i in range(0, len(mine), POOL * self.batch_size)]
        batches, rest = list[Index](), list[Index]()
        for pool in pools:
            whole, left = np.split(pool, [len(pool) - len(pool) % self.batch_size])
            ordered = whole[np.argsort(self.sizes[whole], kind="stable")]
            batches += list(ordered.reshape(-1, self.batch_size))
            rest.append(left)
        shuffled = [batches[i] for i in rng.permutation(len(batches))]
        return np.concatenate([*shuffled, *rest]).astype(np.int64)

    def read_ahead(self, order: Iterator[Index], workers: int) -> Iterator[Tensor]:
        """The batches of these clips; decoding releases the interpreter, so threads do it."""
        if workers == 0:
            yield from map(self.fetch, order)
            return
        with ThreadPoolExecutor(workers) as pool:
            waiting: deque[Future[Tensor]] = deque()
            try:
                for index in order:
                    waiting.append(pool.submit(self.fetch, index))
                    if len(waiting) > AHEAD * workers:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)


def pad(clips: Sequence[Floats]) -> Tensor:
    """``(B, longest)`` float32, NaN after the end of each clip."""
    out = np.full((len(clips), max((len(clip) for clip in clips), default=0)), np.nan, dtype=np.float32)
    for row, clip in zip(out, clips, strict=True):
        row[: len(clip)] = clip
    return torch.from_numpy(out)


def as_objects(items: Sequence[object] | npt.NDArray[Any] | range) -> Objects:
    """A one-dimensional object array of plain Python values, whatever the items are."""
    plain = items.tolist() if isinstance(items, np.ndarray) else list(items)
    out = np.empty(len(plain), dtype=object)
    out[:] = plain
    return out


def picked(values: Objects | None, index: npt.NDArray[Any]) -> Objects | None:
    """A part of a column that may not be there."""
    return None if values is None else values[index]
