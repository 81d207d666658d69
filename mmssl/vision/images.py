"""Images of one size with what their owner calls them: in memory, or decoded when they are asked for."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Values = npt.NDArray[Any]
Index = npt.NDArray[np.int64]
Labels = npt.NDArray[np.object_]
Span = tuple[float, float]

DTYPES = ("uint8", "uint16", "float32")  # of pixels; anything else is brought into one of these
SPANS: dict[str, Span] = {"uint8": (0.0, 255.0), "uint16": (0.0, 65535.0)}  # black and white


class Pixels(Protocol):
    """Where an `ImageSet` has its values from."""

    @property
    def shape(self) -> tuple[int, int, int]: ...  # (C, S, S)

    @property
    def dtype(self) -> str: ...  # one of DTYPES

    @property
    def in_memory(self) -> bool: ...

    def __len__(self) -> int: ...

    def subset(self, index: Index) -> Self: ...

    def read(self, index: Index) -> tuple[Values, dict[int, str]]:
        """Values ``(B, C, S, S)``, and why the images at some of the B places could not be decoded (zeros there)."""


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one size.

    Args:
        pixels: the values of n images ``(C, S, S)``.
        names: ``(n,)`` object array: the path below the root, the row number or the id of each image.
        labels: ``(n,)`` object array, None for an unlabelled image; None altogether without labels.
        groups: ``(n,)`` object array; images of one group must not be parted by a split. None if each is on its own.
        parts: ``(n,)`` object array, where the data comes with a split of its own: ``"train"``, ``"test"``, or
            ``"validation"`` beside a test part.
        span: values that stand for 0 and 1. None for floats as they were read, before a preprocessor has set it.
        notes: what the reader had to decide, in sentences for the description.
        max_bad: share of images that may fail to decode before `fetch` gives up.
    """

    pixels: Pixels
    names: npt.NDArray[np.object_]
    labels: Labels | None = None
    groups: npt.NDArray[np.object_] | None = None
    parts: npt.NDArray[np.object_] | None = None
    span: Span | None = None
    notes: tuple[str, ...] = ()
    max_bad: float = 0.01
    _failed: set[object] = field(default_factory=set, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.span is None and self.dtype in SPANS:
            object.__setattr__(self, "span", SPANS[self.dtype])
        for column in ("names", "labels", "groups", "parts"):
            values = getattr(self, column)
            if values is not None and len(values) != len(self.pixels):
                raise ValueError(f"{len(values)} {column} for {len(self.pixels)} images")

    @classmethod
    def from_array(
        cls,
        values: Values,
        *,
        names: Sequence[object] | npt.NDArray[Any] | None = None,
        labels: Sequence[object] | npt.NDArray[Any] | None = None,
        **columns: Any,
    ) -> ImageSet:
        """From square images ``(N, C, S, S)``; names are row numbers if there are none."""
        return cls(
            InMemory(values),
            names=as_objects(range(len(values)) if names is None else names),
            labels=None if labels is None else as_objects(labels),
            **columns,
        )

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def channels(self) -> int:
        return self.pixels.shape[0]

    @property
    def size(self) -> int:
        """Pixels of a side."""
        return self.pixels.shape[1]

    @property
    def dtype(self) -> str:
        return self.pixels.dtype

    @property
    def in_memory(self) -> bool:
        return self.pixels.in_memory

    def subset(self, index: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> ImageSet:
        """The images at ``index``, in this order; pixels are not copied."""
        index = np.arange(len(self))[index]
        return replace(
            self,
            pixels=self.pixels.subset(index),
            names=self.names[index],
            labels=picked(self.labels, index),
            groups=picked(self.groups, index),
            parts=picked(self.parts, index),
        )

    def read(self, index: npt.NDArray[np.integer]) -> tuple[Tensor, npt.NDArray[np.bool_]]:
        """The images at ``index``, and which of them could be decoded; zeros where not, with a warning that names them.

        Args:
            index: ``(B,)`` positions in this set.

        Returns:
            ``(B, C, S, S)``: uint8, or float32 in which 0 and 1 are the ends of ``span``; and ``(B,)``.

        Raises:
            ValueError: more images than ``max_bad`` allows could not be decoded so far.
        """
        values, errors = self.pixels.read(np.asarray(index, dtype=np.int64))
        if errors:
            self._report({self.names[index[place]]: error for place, error in errors.items()})
        readable = np.ones(len(index), dtype=bool)
        readable[list(errors)] = False
        return self._scaled(values), readable

    def fetch(self, index: npt.NDArray[np.integer]) -> Tensor:
        """As `read`, for training: an image that cannot be decoded is replaced by the next of the batch that can.

        Raises:
            ValueError: none of the batch can be decoded, or too many so far.
        """
        values, readable = self.read(index)
        if readable.all():
            return values
        good = np.flatnonzero(readable)
        if not len(good):
            raise ValueError(f"none of {_some([repr(self.names[i]) for i in index])} can be decoded")
        following = good[np.searchsorted(good, np.arange(len(readable))) % len(good)]
        return values[torch.from_numpy(following)]

    def _scaled(self, values: Values) -> Tensor:
        if self.dtype == "uint8":
            return torch.from_numpy(values)
        x = values.astype(np.float32)
        if self.span is not None and self.span != (0.0, 1.0):
            low, high = self.span
            x = (x - np.float32(low)) / np.float32(high - low)
        return torch.from_numpy(x)

    def _report(self, errors: dict[object, str]) -> None:
        """Each image once in each process; it is these that count towards the limit."""
        new = {name: error for name, error in errors.items() if name not in self._failed}
        self._failed.update(new)
        listed = _some([f"{name} ({error})" for name, error in new.items()])
        if len(self._failed) > self.max_bad * len(self):
            raise ValueError(
                f"{len(self._failed):,} of {len(self):,} images could not be decoded, more than "
                f"data.max_bad={self.max_bad:g} allows; the last: {listed or _some([*map(str, errors)])}"
            )
        if new:
            warnings.warn(f"could not be decoded: {listed}", UserWarning, stacklevel=4)


@dataclass(frozen=True, eq=False)
class InMemory:
    """Images that lie in an array.

    Args:
        values: ``(M, C, S, S)`` of a dtype in `DTYPES`.
        rows: which of the M; None for all.
    """

    values: Values
    rows: Index | None = None

    in_memory = True

    def __post_init__(self) -> None:
        shape = self.values.shape
        if len(shape) != 4 or shape[2] != shape[3] or 0 in shape[1:] or self.dtype not in DTYPES:
            raise ValueError(
                f"images must be square, (N, C, S, S) of dtype {', '.join(DTYPES)}; got {self.dtype} of shape {shape}"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.values.shape[1:]

    @property
    def dtype(self) -> str:
        return str(self.values.dtype)

    def __len__(self) -> int:
        return len(self.values) if self.rows is None else len(self.rows)

    def subset(self, index: Index) -> InMemory:
        return replace(self, rows=index if self.rows is None else self.rows[index])

    def read(self, index: Index) -> tuple[Values, dict[int, str]]:
        return np.take(self.values, index if self.rows is None else self.rows[index], axis=0), {}


def as_objects(items: Sequence[object] | npt.NDArray[Any] | range) -> npt.NDArray[np.object_]:
    """A one-dimensional object array of plain Python values, whatever the items are."""
    plain = items.tolist() if isinstance(items, np.ndarray) else list(items)
    out = np.empty(len(plain), dtype=object)
    out[:] = plain
    return out


def picked(values: npt.NDArray[np.object_] | None, index: Index) -> npt.NDArray[np.object_] | None:
    """A part of a column that may not be there."""
    return None if values is None else values[index]


def _some(texts: list[str]) -> str:
    return ", ".join(texts[:5]) + (f" and {len(texts) - 5:,} more" if len(texts) > 5 else "")
