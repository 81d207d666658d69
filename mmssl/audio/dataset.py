"""From the `data` section of a recipe to train and test clips."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mmssl.audio.clips import ClipSet
from mmssl.audio.data import describe, read_clips
from mmssl.audio.files import Options
from mmssl.audio.named import SPOKEN, load_named
from mmssl.audio.split import split_clips


@dataclass
class DataConfig:
    """Where the recordings come from: a known set by ``name``, or your own by ``path``; spoken words without either."""

    name: str | None = None  # spoken (synthetic words); with `root`: fsdd, speechcommands
    root: str | None = None  # folder of a known set
    path: str | None = None  # folder of wav, flac, ogg or mp3; or a CSV, TSV or Parquet table with a column of paths
    file: str | None = None  # that column; None: path, file, filename or audio
    label: str | None = None  # folder, parent or none; a named group of the pattern; or a column of the table
    group: str | None = None  # the same: speakers or recordings that no split may part
    pattern: str | None = None  # regular expression with named groups that is searched for in every path
    rate: int | None = None  # Hz to resample to; None: that of the files, if they all have the same
    mix: str | None = None  # of several channels: mean, or first; None: one channel is asked for
    crop: float = 1.0  # seconds of a clip that training sees at a time, from anywhere in it
    shortest: float = 0.05  # seconds; shorter clips are left out
    cache: float = 2.0  # GiB of decoded clips that are kept in memory; more are decoded whenever they are needed
    max_bad: float = 0.01  # share of clips that may be damaged, silent or too short; they are left out
    split: str = "auto"  # given, speaker or random; auto: the first of these that the data allows
    test_fraction: float = 0.3  # of speakers, or of clips


@dataclass(frozen=True, eq=False)
class AudioData:
    """Everything that a recipe needs to know of its data.

    Args:
        name: of the data, for the records.
        train: clips to learn from.
        test: others; None without labels, when all data is learnt from.
        description: what was read and how it was split, for a person.
        split: name of the test split, for the records.
    """

    name: str
    train: ClipSet
    test: ClipSet | None
    description: str
    split: str

    @property
    def rate(self) -> int:
        """Samples a second."""
        return self.train.rate


def options(cfg: DataConfig) -> Options:
    """How files are read."""
    return Options(rate=cfg.rate, mix=cfg.mix, shortest=cfg.shortest, cache=cfg.cache, max_bad=cfg.max_bad)


def load_data(cfg: DataConfig, *, seed: int = 0) -> AudioData:
    """Read and split.

    Args:
        cfg: where the data is and how to read it.
        seed: of the split, where the data has none of its own.

    Raises:
        FileNotFoundError: there is no such data.
        ValueError: it cannot be used as asked; the message says why and what to do.
    """
    _check_source(cfg)
    if not cfg.crop > 0:
        raise ValueError(f"data.crop must be seconds, got {cfg.crop}")
    if cfg.name is not None:
        name = f"{cfg.name} (synthetic)" if cfg.name == SPOKEN else cfg.name
        whole = load_named(cfg.name, options(cfg), root=cfg.root)
    else:
        assert cfg.path is not None
        name = Path(cfg.path).stem
        whole = read_clips(cfg.path, options(cfg), file=cfg.file, label=cfg.label, group=cfg.group, pattern=cfg.pattern)
    lines = [describe(whole)]
    if whole.labels is None:
        train = whole if whole.parts is None else whole.subset(whole.parts == "train")
        test, kind = None, "none"
        lines.append("split: no labels: all training clips are learnt from, nothing is scored")
    else:
        split = split_clips(whole, by=cfg.split, test_fraction=cfg.test_fraction, seed=seed)
        train, test, kind = split.train, split.test, split.kind
        _check_labels(train)
        lines.append(f"split: {split.sentence}")
    if len(train) < 2:
        raise ValueError(f"the training part has {len(train)} clip; choose another data.split, or bring more clips")
    lines.append(f"{len(train):,} clips train, {0 if test is None else len(test):,} test")
    return AudioData(name, train, test, "\n".join(lines), kind)


def _check_source(cfg: DataConfig) -> None:
    if (cfg.name is None) == (cfg.path is None):
        given = "neither" if cfg.name is None else f"{cfg.name} and {cfg.path}"
        raise ValueError(f"give data.name (a known set) or data.path (your own), got {given}")
    unused = ("root",) if cfg.name is None else ("file", "label", "group", "pattern")
    if stray := [f"data.{option}={value}" for option in unused if (value := getattr(cfg, option)) is not None]:
        kind = f"data.path={cfg.path}, your own data" if cfg.name is None else f"data.name={cfg.name}, a known set"
        raise ValueError(f"{', '.join(stray)} says nothing about {kind}: leave it out")


def _check_labels(train: ClipSet) -> None:
    assert train.labels is not None
    known = {label for label in train.labels if label is not None}
    if len(known) < 2:
        what = f"all training clips have the label {known.pop()!r}" if known else "no training clip has a label"
        raise ValueError(f"{what}: there is nothing to tell apart. Set data.label=none, or choose another data.split")
