"""Audio files become clips of one sampling rate: mono, without an offset, in memory if they fit in."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import soundfile
import soxr
from tqdm import tqdm

from mmssl.audio.clips import ClipSet, Floats, Index, Objects, Wave, picked
from mmssl.audio.columns import Columns

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
MIXES = ("mean", "first")
GIB = 2**30
SILENCE = 2.0**-15  # one step of 16 bits: a clip that never leaves it has nothing in it
OFFSET = 0.01  # of full scale, from which on an offset is worth a word
CUT_OFF = 0.9  # share of the samples that a header promises; it may only estimate those of an MP3
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Options:
    """How audio files are read; see `mmssl.audio.dataset.DataConfig`."""

    rate: int | None = None
    mix: str | None = None
    shortest: float = 0.05
    cache: float = 2.0
    max_bad: float = 0.01

    def __post_init__(self) -> None:
        if self.rate is not None and self.rate < 1:
            raise ValueError(f"data.rate must be samples a second, got {self.rate}")
        if self.mix not in (None, *MIXES):
            raise ValueError(f"data.mix must be one of {', '.join(MIXES)}, got {self.mix!r}")


def find_audio(root: Path, *, option: str = "data.path") -> list[str]:
    """Paths below a folder and all its sub-folders, with slashes, sorted.

    Args:
        root: the folder.
        option: by which it was given, for errors.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it holds no audio.
    """
    if not root.exists():
        raise FileNotFoundError(f"{option}={root} does not exist")
    paths, others = list[str](), 0
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        for name in names:
            if is_audio(name):
                paths.append((Path(folder) / name).relative_to(root).as_posix())
            else:
                others += not name.startswith(".")
    if not paths:
        instead = f"only {others:,} other files" if others else "it is empty"
        raise ValueError(f"{option}={root} holds no audio, {instead}; looked for {', '.join(SUFFIXES)}")
    return sorted(paths)


def is_audio(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def read_files(files: Sequence[str], names: Objects, columns: Columns, options: Options) -> ClipSet:
    """The clips of ``files``; those that cannot be used are left out.

    They are in memory if they take at most ``options.cache`` GiB there, else decoded when they are asked for.

    Args:
        files: their paths.
        names: ``(n,)``, what to call them.
        columns: of each.
        options: the rate and the channel that are wanted, and the limits.

    Raises:
        ValueError: rates or channels differ and nothing says what to do, or too many files cannot be used.
    """
    found = _in_threads(_header, files, "looking at audio")
    bad = {i: header for i, header in enumerate(found) if isinstance(header, str)}
    headers = [header for header in found if not isinstance(header, str)]
    rows = np.setdiff1d(np.arange(len(files)), list(bad)).astype(np.int64)
    refuse_many_bad(bad, names, options.max_bad)
    rate = _rate(headers, names[rows], options.rate)
    _check_channels(headers, names[rows], options.mix)
    sizes = np.array([round(h.frames * rate / h.rate) for h in headers], dtype=np.int64)
    notes = _notes(headers, rate, options.mix)
    wave: Wave
    if sizes.sum() * 4 <= options.cache * GIB:
        read = _in_threads(_Reader(rate, options.mix), [files[i] for i in rows], "decoding")
        offsets = [name for name, clip in zip(names[rows], read, strict=True) if clip.offset > OFFSET]
        reasons = [clip.error or unusable(clip.samples, rate, options.shortest) for clip in read]
        notes += _cut_off(read, names[rows], sizes, rate)
        sizes = np.array([len(clip.samples) for clip in read], dtype=np.int64)
        wave = np.concatenate([clip.samples for clip in read])
    else:
        offsets = []
        reasons = ["" if n >= options.shortest * rate else _short(n / rate, options.shortest) for n in sizes]
        wave = OnDisk([files[i] for i in rows], np.cumsum(sizes) - sizes, rate, options.mix, options.max_bad)
        notes.append(
            f"decoded whenever they are needed: they would take {sizes.sum() * 4 / GIB:.1f} GiB, more than "
            f"data.cache={options.cache:g}"
        )
    notes.append("the mean of every clip is subtracted" + (f": {some(offsets)} had an offset" if offsets else ""))
    bad |= {int(rows[i]): reason for i, reason in enumerate(reasons) if reason}
    notes += refuse_many_bad(bad, names, options.max_bad, warn=True)
    good = np.flatnonzero([not reason for reason in reasons])
    kept = rows[good]
    return ClipSet(
        wave,
        (np.cumsum(sizes) - sizes)[good],
        sizes[good],
        rate,
        names[kept],
        labels=picked(columns.labels, kept),
        groups=picked(columns.groups, kept),
        parts=picked(columns.parts, kept),
        notes=(*columns.notes, *notes),
    )


def centred(samples: Floats) -> Floats:
    """Without the offset that a cheap converter adds: the mean is subtracted."""
    return samples - samples.mean() if len(samples) else samples


def unusable(samples: Floats, rate: int, shortest: float) -> str:
    """Why a clip is of no use; empty if it is of use."""
    if len(samples) < shortest * rate:
        return _short(len(samples) / rate, shortest)
    return "silent" if np.abs(samples).max() < SILENCE else ""


def refuse_many_bad(bad: dict[int, str], names: Objects, limit: float, *, warn: bool = False) -> list[str]:
    """A note on the clips that are left out.

    Raises:
        ValueError: there are more than ``limit`` allows, or nothing is left.
    """
    if not bad:
        return []
    listed = some([f"{names[i]} ({bad[i]})" for i in sorted(bad)])
    if len(bad) == len(names):
        raise ValueError(f"none of {len(names):,} clips can be used: {listed}")
    if len(bad) > limit * len(names):
        raise ValueError(
            f"{len(bad):,} of {len(names):,} clips cannot be used, more than data.max_bad={limit:g} allows: {listed}. "
            "Remove or replace them, or raise data.max_bad"
        )
    note = f"{len(bad):,} of {len(names):,} clips cannot be used and are left out: {listed}"
    if warn:
        warnings.warn(note, UserWarning, stacklevel=3)
    return [note]


def some(texts: Sequence[object], limit: int = 5) -> str:
    """The first ones, and how many more there are."""
    more = f" and {len(texts) - limit:,} more" if len(texts) > limit else ""
    return ", ".join(map(str, texts[:limit])) + more


@dataclass(frozen=True, eq=False)
class OnDisk:
    """The samples of all files one after the other, decoded when a slice is asked for.

    A slice is resampled on its own, so its ends differ a little from those of the whole clip, and it is its own mean
    that is subtracted. A file that cannot be decoded, or has NaN in it, is silent there, with a warning.

    Args:
        files: their paths.
        starts: ``(n,)``, the first sample of each.
        rate: samples a second.
        mix: see `DataConfig`.
        max_bad: share of the files that may fail.
    """

    files: Sequence[str]
    starts: Index
    rate: int
    mix: str | None
    max_bad: float
    _failed: set[str] = field(default_factory=set, init=False, repr=False)

    def __getitem__(self, at: slice, /) -> Floats:
        i = int(np.searchsorted(self.starts, at.start, side="right")) - 1
        out = np.zeros(at.stop - at.start, dtype=np.float32)
        found = _decoded(self.files[i], self.rate, self.mix, first=int(at.start - self.starts[i]), size=len(out))
        if isinstance(found, str):
            self._report(self.files[i], found)
            return out
        samples = centred(found)[: len(out)]
        out[: len(samples)] = samples  # resampling may come out a sample short
        return out

    def _report(self, file: str, reason: str) -> None:
        """Each file once."""
        if file in self._failed:
            return
        self._failed.add(file)
        if len(self._failed) > self.max_bad * len(self.files):
            raise ValueError(
                f"{len(self._failed):,} of {len(self.files):,} files cannot be used, more than "
                f"data.max_bad={self.max_bad:g} allows; the last: {file} ({reason})"
            )
        warnings.warn(f"{file} cannot be used and is taken for silence: {reason}", UserWarning, stacklevel=3)


def decode(file: str, rate: int, mix: str | None, *, first: int = 0, size: int | None = None) -> Floats:
    """Samples of a file at ``rate``, one channel: ``size`` of them from ``first`` on, or all."""
    with soundfile.SoundFile(file) as sound:
        factor = sound.samplerate / rate
        sound.seek(min(int(first * factor), sound.frames))
        x = sound.read(-1 if size is None else int(np.ceil(size * factor)) + 1, dtype="float32", always_2d=True)
        x = x.mean(axis=1) if mix == "mean" else x[:, 0]
        return soxr.resample(x, sound.samplerate, rate) if sound.samplerate != rate else np.ascontiguousarray(x)


def _decoded(file: str, rate: int, mix: str | None, *, first: int = 0, size: int | None = None) -> Floats | str:
    """As `decode`, or why that is of no use."""
    try:
        x = decode(file, rate, mix, first=first, size=size)
    except soundfile.LibsndfileError as error:
        return _reason(file, error)
    return x if np.isfinite(x).all() else "NaN or infinite samples"  # of a file of floats


@dataclass(frozen=True)
class _Header:
    rate: int
    channels: int
    frames: int


def _header(file: str) -> _Header | str:
    """Or why there is none."""
    try:
        info = soundfile.info(file)
    except soundfile.LibsndfileError as error:
        return _reason(file, error)
    return _Header(info.samplerate, info.channels, info.frames) if info.frames > 0 else "no samples"


@dataclass(frozen=True, eq=False)
class _Read:
    """A clip and its offset; or an error, and no samples."""

    samples: Floats
    offset: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class _Reader:
    rate: int
    mix: str | None

    def __call__(self, file: str) -> _Read:
        x = _decoded(file, self.rate, self.mix)
        if isinstance(x, str):
            return _Read(np.empty(0, dtype=np.float32), error=x)
        return _Read(centred(x), offset=float(abs(x.mean())) if len(x) else 0.0)


def _reason(file: str, error: soundfile.LibsndfileError) -> str:
    """What libsndfile says, unless that is nothing, or that a damaged file does not exist."""
    if not os.path.exists(file):
        return "does not exist"
    said = str(error.error_string).rstrip(".")
    return "cannot be decoded" if not said or "does not exist" in said else said


def _short(seconds: float, shortest: float) -> str:
    return f"{seconds:.3g} s is shorter than data.shortest={shortest:g}"


def _rate(headers: Sequence[_Header], names: Objects, wanted: int | None) -> int:
    """The one that is wanted, or that all files have."""
    counts = Counter(header.rate for header in headers)
    if wanted is not None:
        return wanted
    if len(counts) > 1:
        first = {rate: next(n for h, n in zip(headers, names, strict=True) if h.rate == rate) for rate in counts}
        listed = ", ".join(f"{rate:,} Hz ({n:,} clips, such as {first[rate]})" for rate, n in counts.most_common(5))
        raise ValueError(
            f"clips have different sampling rates: {listed}. Set data.rate={min(counts)} to resample all to the "
            "lowest, or another rate"
        )
    return next(iter(counts))


def _check_channels(headers: Sequence[_Header], names: Objects, mix: str | None) -> None:
    several = [name for header, name in zip(headers, names, strict=True) if header.channels > 1]
    if several and mix is None:
        most = max(header.channels for header in headers)
        raise ValueError(
            f"{len(several):,} of {len(names):,} clips have up to {most} channels, and encoders take one: "
            f"{some(several)}. Set data.mix=mean to average the channels, or data.mix=first to take the first"
        )


def _notes(headers: Sequence[_Header], rate: int, mix: str | None) -> list[str]:
    resampled = Counter(header.rate for header in headers if header.rate != rate)
    notes = [f"{n:,} clips resampled from {old:,} Hz" for old, n in resampled.most_common()]
    if mixed := sum(header.channels > 1 for header in headers):
        how = "averaged" if mix == "mean" else "dropped but the first"
        notes.append(f"channels of {mixed:,} clips are {how}")
    return notes


def _cut_off(read: Sequence[_Read], names: Objects, sizes: Index, rate: int) -> list[str]:
    """What is said of files that end long before their headers say, as a download does that was broken off."""
    cut = [
        f"{name} ({len(clip.samples) / rate:.3g} of {size / rate:.3g} s)"
        for clip, name, size in zip(read, names, sizes, strict=True)
        if not clip.error and len(clip.samples) < CUT_OFF * size
    ]
    return [f"{len(cut):,} clips are cut off, and what is there is used: {some(cut)}"] if cut else []


def _in_threads(work: Callable[[T], R], items: Sequence[T], title: str) -> list[R]:
    """libsndfile and soxr release the interpreter."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done: Iterable[Any] = pool.map(work, items)
        return list(tqdm(done, title, len(items), unit="clip", leave=False, delay=1, dynamic_ncols=True))
