"""From the `data` section of a recipe to train and test images on one scale."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmssl.vision.data import describe, read_images
from mmssl.vision.formats import stem
from mmssl.vision.images import ImageSet, Index
from mmssl.vision.load import Options
from mmssl.vision.named import MNIST, load_named
from mmssl.vision.preprocess import ImagePreprocessor
from mmssl.vision.split import split_images


@dataclass
class DataConfig:
    """Where the images come from: a known set by ``name``, or your own by ``path``; MNIST digits without either."""

    name: str | None = None  # mnist5k, or torchvision:<class> with `root`; torchvision:STL10/split=train+unlabeled
    root: str | None = None  # folder of a torchvision set
    download: bool = False  # let torchvision download it to `root`
    path: str | None = None  # folder, .zip, .tar.*, Parquet, NPZ or NPY
    test_path: str | None = None  # the same, never trained on; instead of a split
    label: str | None = (
        None  # folder, parent, path, none, or a column; None: one level of folders, or the column `label`
    )
    id: str | None = None  # column of a table that names the images; None: row numbers
    group: str | None = None  # folder, parent, path, or a column: no split goes through a group
    image: str | None = None  # column of a table with the images, where several could be meant
    size: int | None = None  # pixels of a side; None: their own if all are equal and at most 256, else at most 224
    channels: int | None = None  # 1, 3 or 4 for photographs; None: their own, or 3 if they differ
    fit: str = "crop"  # the middle square; stretch or pad
    layout: str | None = None  # NHW, NHWC or NCHW, for arrays whose shape leaves it open
    cache: float = 2.0  # GiB of decoded images that are kept in memory; more are decoded whenever they are needed
    max_bad: float = 0.01  # share of images that may be damaged; they are left out
    test_fraction: float = 0.3  # where the data has no test part


@dataclass(frozen=True, eq=False)
class ImageData:
    """Everything that a recipe needs to know of its data.

    Args:
        name: of the data, for the records.
        train: images to learn from, on the scale of the preprocessor.
        test: others; None without labels, when all data is learnt from.
        preprocessor: fitted on the training images.
        description: what was read and how it was split, for a person.
        split: name of the test split, for the records.
    """

    name: str
    train: ImageSet
    test: ImageSet | None
    preprocessor: ImagePreprocessor
    description: str
    split: str


def load_data(cfg: DataConfig, *, seed: int = 0) -> ImageData:
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
    if cfg.path is None:
        name = cfg.name or MNIST
        whole = load_named(name, _options(cfg), root=cfg.root, download=cfg.download)
        name = name.rpartition(":")[2].replace("/", " ")
    else:
        name, whole = stem(Path(cfg.path).name), _read(cfg, cfg.path)
    train, test, split, how = _parted(cfg, whole, seed)
    if len(train) < 2:
        raise ValueError(f"the training part has {len(train)} image; choose another split")
    preprocessor = ImagePreprocessor().fit(train)
    count = 0 if test is None else len(test)
    lines = [describe(whole), f"split: {how}", f"{len(train):,} images train, {count:,} test"]
    if test is not None:
        _check_labels(train)
        test = preprocessor.prepare(test)
    return ImageData(name, preprocessor.prepare(train), test, preprocessor, "\n".join(lines), split)


class ImageSource:
    """Raw images as batches ``(B, C, S, S)``: uint8, or float32 on the scale 0 to 1.

    On a GPU, images that are in memory lie there as one tensor, so that a step copies nothing but positions; batches
    are then fetched in the process that trains, without workers. Images that are decoded as they are needed are best
    fetched by workers.

    Args:
        images: prepared, as `load_data` gives them.
        device: that trains.
    """

    def __init__(self, images: ImageSet, *, device: str | torch.device = "cpu") -> None:
        self.images = images
        self.resident: Tensor | None = None
        if images.in_memory and torch.device(device).type != "cpu":
            self.resident = images.fetch(np.arange(len(images))).to(device)

    def __len__(self) -> int:
        return len(self.images)

    def fetch(self, index: Index) -> Tensor:
        if self.resident is None:
            return self.images.fetch(index)
        at = torch.from_numpy(index)
        at = at.pin_memory() if self.resident.is_cuda else at  # from other memory, the copy would wait for the device
        return self.resident.index_select(0, at.to(self.resident.device, non_blocking=True))


def labelled(images: ImageSet, *, limit: int, seed: int) -> tuple[ImageSet, npt.NDArray[np.object_]]:
    """The images with a label, at most ``limit`` of them, and their labels."""
    labels = images.labels if images.labels is not None else np.full(len(images), None, dtype=object)
    index = np.flatnonzero([label is not None for label in labels])
    if len(index) > limit:
        index = np.sort(np.random.default_rng(seed).choice(index, limit, replace=False))
    return images.subset(index), labels[index]


def _parted(cfg: DataConfig, whole: ImageSet, seed: int) -> tuple[ImageSet, ImageSet | None, str, str]:
    if whole.labels is None:
        train = whole if whole.parts is None else whole.subset(whole.parts == "train")
        return train, None, "none", "no labels: all training images are learnt from, nothing is scored"
    if cfg.test_path is not None:
        test = _read(cfg, cfg.test_path, like=whole)
        return whole, test, "test-path", f"train on {cfg.path or cfg.name}, test on {cfg.test_path}"
    if whole.parts is not None:
        train, test = whole.subset(whole.parts == "train"), whole.subset(whole.parts == "test")
        return train, test, "test", "as the data comes"
    parted = split_images(whole, test_fraction=cfg.test_fraction, seed=seed)
    return parted.train, parted.test, f"{parted.kind}/{cfg.test_fraction:g}", parted.sentence


def _options(cfg: DataConfig) -> Options:
    names = ("size", "channels", "fit", "layout", "cache", "max_bad")
    return Options(**{name: getattr(cfg, name) for name in names})


def _read(cfg: DataConfig, path: str, like: ImageSet | None = None) -> ImageSet:
    names = ("fit", "label", "id", "group", "image", "layout", "cache", "max_bad")
    options = {name: getattr(cfg, name) for name in names}
    size = cfg.size if like is None else like.size
    channels = cfg.channels if like is None else like.channels
    return read_images(path, size=size, channels=channels, **options)


def _check_labels(train: ImageSet) -> None:
    known = set() if train.labels is None else {label for label in train.labels if label is not None}
    if len(known) < 2:
        what = f"all training images have the label {known.pop()!r}" if known else "no training image has a label"
        raise ValueError(f"{what}: there is nothing to tell apart. Set data.label=none, or choose another split")
