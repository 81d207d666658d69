"""From the `data` section of a recipe to training and test pairs, and batches of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from mmssl.core.methods.alignment import Pairs
from mmssl.multimodal.emoji import read_emoji
from mmssl.multimodal.files import read_folder, read_shards
from mmssl.multimodal.glyphs import read_glyphs
from mmssl.multimodal.pairs import PairSet, describe_captions, pair_set
from mmssl.multimodal.tables import TABLES, read_table
from mmssl.text.tokenizer import Tokenizer
from mmssl.vision.data import describe
from mmssl.vision.dataset import ImageData, ImageSource
from mmssl.vision.formats import stem, suffix
from mmssl.vision.images import Index, as_objects
from mmssl.vision.load import Options
from mmssl.vision.preprocess import ImagePreprocessor
from mmssl.vision.split import split_images

GLYPHS, EMOJI = "glyphs", "emoji"
SHARD = ".tar"


@dataclass
class DataConfig:
    """Where the pairs come from: a known set by ``name``, or your own by ``path``; glyphs without either."""

    name: str | None = None  # glyphs, or emoji with `root`
    path: str | None = None  # a table (CSV, TSV, Parquet, JSONL), a folder with a .txt beside each image, .tar shards
    test_path: str | None = None  # the same, never trained on; instead of a split
    root: str | None = None  # folder of the emoji; of a table: where its image paths begin, None: its own folder
    image: str | None = None  # column of a table with the paths; None: one of a usual name
    caption: str | None = None  # column with the captions, text or lists of it; None: one of a usual name
    label: str | None = None  # column with names of classes; of a folder: folder, parent, path or none. For scores only
    size: int | None = None  # pixels of a side; None: their own if all are equal and at most 256, else at most 224
    channels: int | None = None  # 1, 3 or 4; None: their own, or 3 if they differ
    fit: str = "crop"  # the middle square; stretch or pad
    cache: float = 2.0  # GiB of decoded images that are kept in memory; more are decoded whenever they are needed
    max_bad: float = 0.01  # share of images that may be damaged or missing, and share that may have no caption
    test_fraction: float = 0.2  # of the images, where the data has no test part


@dataclass(frozen=True, eq=False)
class PairData:
    """Everything that a recipe needs to know of its data.

    Args:
        name: of the data, for the records.
        train: to learn from, on the scale of the preprocessor.
        test: others.
        preprocessor: of images, fitted on the training part.
        description: what was read and how it was split, for a person.
        split: name of the test split, for the records.
        unseen: a second test part, such as glyphs of characters that no training font shows; None: there is none.
    """

    name: str
    train: PairSet
    test: PairSet
    preprocessor: ImagePreprocessor
    description: str
    split: str
    unseen: PairSet | None = None

    @property
    def images(self) -> ImageData:
        """The same without the captions."""
        train, test = self.train.images, self.test.images
        return ImageData(self.name, train, test, self.preprocessor, self.description, self.split)


def load_data(cfg: DataConfig, *, seed: int = 0) -> PairData:
    """Read, split, and fit the preprocessor.

    Args:
        cfg: where the data is and how to read it.
        seed: of the split, where the data has none of its own.

    Raises:
        FileNotFoundError: there is no such data.
        ValueError: it cannot be used as asked; the message says why and what to do.
    """
    if cfg.name is not None and cfg.path is not None:
        raise ValueError(f"give data.name (a known set) or data.path (your own), got {cfg.name} and {cfg.path}")
    whole = read_pairs(cfg)
    name = cfg.name or stem(Path(str(cfg.path)).name)
    train, test, split, how = _parted(cfg, whole, seed)
    if len(train) < 2 or not len(test):
        raise ValueError(
            f"{len(train)} images to train on and {len(test)} to test on: there must be two and one at least; choose "
            "another data.test_fraction, or give data.test_path"
        )
    preprocessor = ImagePreprocessor().fit(train.images)
    unseen = _part(whole, "unseen")
    lines = [describe(whole.images), describe_captions(whole), f"split: {how}"]
    counts = f"{len(train):,} images train, {len(test):,} test"
    lines.append(counts + (f", {len(unseen):,} of unseen characters" if unseen is not None else ""))
    return PairData(
        name,
        _prepared(train, preprocessor),
        _prepared(test, preprocessor),
        preprocessor,
        "\n".join(lines),
        split,
        None if unseen is None else _prepared(unseen, preprocessor),
    )


def read_pairs(cfg: DataConfig, path: str | None = None, like: PairSet | None = None) -> PairSet:
    """The pairs of ``cfg``, or of ``path`` read in the same way and at the size of ``like``."""
    size = cfg.size if like is None else like.images.size
    channels = cfg.channels if like is None else like.images.channels
    options = Options(size=size, channels=channels, fit=cfg.fit, cache=cfg.cache, max_bad=cfg.max_bad)
    where = path or cfg.path
    if where is None:
        if cfg.name == GLYPHS:
            return read_glyphs()
        if cfg.name == EMOJI:
            return pair_set(read_emoji(cfg.root), options)
        raise ValueError(f"data.name={cfg.name}: there is {GLYPHS} and {EMOJI}; your own pairs come by data.path")
    source = Path(where)
    if not source.exists():
        raise FileNotFoundError(f"data.path={source} does not exist: give a table, a folder or .tar shards")
    if source.is_file() and suffix(source.name) in TABLES:
        table = read_table(source, root=cfg.root, image=cfg.image, caption=cfg.caption, label=cfg.label)
        return pair_set(table, options)
    shards = sorted(source.glob(f"*{SHARD}")) if source.is_dir() else [source] if source.suffix == SHARD else []
    if shards:
        return pair_set(read_shards(shards), options)
    if source.is_dir():
        return pair_set(read_folder(source, label=cfg.label), options)
    raise ValueError(
        f"data.path={source} is neither a table ({', '.join(TABLES)}) nor a folder nor a shard (a plain {SHARD})"
    )


class PairSource:
    """Pairs as batches: raw images, tokens, and the numbers of both; each caption of an image is a pair of its own.

    On a GPU, images that are in memory lie there, as the tokens do, so that a step copies nothing but positions.

    Args:
        pairs: prepared, as `load_data` gives them.
        tokenizer: of the captions.
        device: that trains.
    """

    def __init__(self, pairs: PairSet, tokenizer: Tokenizer, *, device: str | torch.device = "cpu") -> None:
        self.pairs = pairs
        self.images = ImageSource(pairs.images, device=device)
        resident = "cpu" if self.images.resident is None else self.images.resident.device
        self.tokens = tokenizer(pairs.captions.tolist()).to(resident)
        self.ids = torch.from_numpy(np.stack([pairs.owners, pairs.texts], axis=1)).to(resident)

    def __len__(self) -> int:
        return len(self.pairs.captions)

    def fetch(self, index: Index) -> Pairs:
        rows = self.pairs.owners[index]
        if self.images.resident is not None:
            at = torch.from_numpy(index)
            at = at.pin_memory() if self.tokens.is_cuda else at  # from other memory, the copy would wait for the device
            at = at.to(self.tokens.device, non_blocking=True)
            return Pairs(self.images.fetch(rows), self.tokens[at], self.ids[at])
        x, readable = self.pairs.images.read(rows)
        if not readable.all():  # the pair goes as a whole, and the next that can be read comes twice
            good = np.flatnonzero(readable)
            if not len(good):
                raise ValueError(f"none of the {len(index)} images of a batch can be decoded, {rows[:5]} among them")
            following = good[np.searchsorted(good, np.arange(len(index))) % len(good)]
            x, index = x[torch.from_numpy(following)], index[following]
        at = torch.from_numpy(index)
        return Pairs(x, self.tokens[at], self.ids[at])


def _parted(cfg: DataConfig, whole: PairSet, seed: int) -> tuple[PairSet, PairSet, str, str]:
    """Training and test part, the name of the split, and how it was made."""
    if cfg.test_path is not None:
        test = read_pairs(cfg, cfg.test_path, like=whole)
        return whole, test, "test-path", f"train on {cfg.path or cfg.name}, test on {cfg.test_path}"
    own = _part(whole, "train"), _part(whole, "test")
    if own[0] is not None and own[1] is not None:
        return own[0], own[1], "test", "as the data comes"
    images = whole.images
    labels = images.labels if images.labels is not None else as_objects(["pair"] * len(images))
    numbered = replace(images, names=as_objects(range(len(images))), labels=labels)
    parted = split_images(numbered, test_fraction=cfg.test_fraction, seed=seed)
    rows = [part.names.astype(np.int64) for part in (parted.train, parted.test)]
    return whole.subset(rows[0]), whole.subset(rows[1]), f"{parted.kind}/{cfg.test_fraction:g}", parted.sentence


def _part(whole: PairSet, name: str) -> PairSet | None:
    """The images of one part, if the data comes with parts and has this one."""
    parts = whole.images.parts
    chosen = None if parts is None else np.flatnonzero(parts == name)
    return None if chosen is None or not len(chosen) else whole.subset(chosen)


def _prepared(pairs: PairSet, preprocessor: ImagePreprocessor) -> PairSet:
    return replace(pairs, images=preprocessor.prepare(pairs.images))
