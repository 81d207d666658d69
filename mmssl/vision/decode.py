"""From an encoded image to its values: picture formats through Pillow, TIFF through tifffile, NPY through numpy."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Protocol

import numpy as np
import tifffile
from PIL import Image

from mmssl.vision.files import Blobs
from mmssl.vision.frame import Frame, Header, fit_array, fit_photo, kept, kept_as
from mmssl.vision.images import Index, Values
from mmssl.vision.layout import channels_first

GREY = ("1", "L", "LA", "La", "I", "F")  # modes of one channel, transparency left out; I;16 has variants
FORMATS = ("JPEG", "PNG", "BMP", "DIB", "GIF", "WEBP", "PPM", "TGA")  # what Pillow is asked for; it knows many more
TIFF_STARTS = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
COMPLETE = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}  # what the end of a file must hold
TAIL = 4096  # bytes in which that is looked for: some cameras append something

# a TIFF's orientation as (flip vertically, flip horizontally, then transpose)
TIFF_TURNS = {
    2: (False, True, False),
    3: (True, True, False),
    4: (True, False, False),
    5: (False, False, True),
    6: (True, False, True),
    7: (True, True, True),
    8: (False, True, True),
}


class Undecodable(Exception):
    """The bytes of one image make no image; says why."""


class Items(Protocol):
    """Images that are decoded one by one."""

    def __len__(self) -> int: ...

    def header(self, i: int) -> Header: ...  # raises Undecodable

    def decode(self, i: int, frame: Frame) -> tuple[Header, Values]: ...  # (C, S, S); raises Undecodable


@dataclass(frozen=True, eq=False)
class Decoded:
    """Pixels that are decoded whenever they are asked for.

    Args:
        items: the encoded images.
        frame: what they become.
        rows: which of them.
    """

    items: Items
    frame: Frame
    rows: Index

    in_memory = False

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.frame.channels, self.frame.size, self.frame.size

    @property
    def dtype(self) -> str:
        return self.frame.dtype

    def __len__(self) -> int:
        return len(self.rows)

    def subset(self, index: Index) -> Decoded:
        return replace(self, rows=self.rows[index])

    def read(self, index: Index) -> tuple[Values, dict[int, str]]:
        values, _, errors = self.decode(index)
        return values, errors

    def decode(self, index: Index) -> tuple[Values, dict[int, Header], dict[int, str]]:
        """Values ``(B, C, S, S)``, headers of the images that could be decoded, and what is wrong with the others."""
        values = np.zeros((len(index), *self.shape), dtype=self.dtype)
        headers, errors = dict[int, Header](), dict[int, str]()
        with warnings.catch_warnings():  # libraries warn of what they can live with
            warnings.simplefilter("ignore")
            for place, row in enumerate(self.rows[index]):
                try:
                    headers[place], values[place] = self.items.decode(int(row), self.frame)
                except Undecodable as error:
                    errors[place] = str(error)
        return values, headers, errors


@dataclass(frozen=True, eq=False)
class EncodedImages:
    """Encoded images; the first bytes of each tell its format.

    Args:
        blobs: their bytes.
        layout: of NPY arrays whose shape leaves it open, ``"HWC"`` or ``"CHW"``.
    """

    blobs: Blobs
    layout: str | None = None

    def __len__(self) -> int:
        return len(self.blobs)

    def header(self, i: int) -> Header:
        """What the image is; one that does not end as it should is decoded to make sure."""
        with undecodable(), self.blobs.open(i) as file:
            kind = _format(file)
            if kind == "npy":
                return array_header(self._array(file))
            if kind == "tiff":
                return _tiff_header(file)
            with Image.open(file, formats=FORMATS) as photo:
                header = photo_header(photo)
                if not _is_complete(file, photo.format):
                    photo.load()
                return header

    def decode(self, i: int, frame: Frame) -> tuple[Header, Values]:
        with undecodable(), self.blobs.open(i) as file:
            kind = _format(file)
            if kind == "photo":
                with Image.open(file, formats=FORMATS) as photo:
                    return photo_header(photo), fit_photo(photo, frame)
            values = self._array(file) if kind == "npy" else _tiff(file)
            return array_header(values), array_values(values, frame)

    def _array(self, file: BinaryIO) -> Values:
        return channels_first(np.load(file, allow_pickle=False), self.layout)


@contextmanager
def undecodable() -> Iterator[None]:
    """Whatever a library raises on damaged bytes, which can be anything, is an `Undecodable`."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise Undecodable(" ".join(str(error).split())[:200] or type(error).__name__) from error


def photo_header(photo: Image.Image) -> Header:
    grey = photo.mode in GREY or photo.mode.startswith("I;16")
    dtype = "uint16" if photo.mode.startswith("I;16") else "float32" if photo.mode in ("I", "F") else "uint8"
    return Header(1 if grey else 3, dtype, photo.height, photo.width)


def array_header(values: Values) -> Header:
    """Of ``(C, H, W)``."""
    if values.dtype.kind not in "fiub" or 0 in values.shape:
        raise ValueError(f"it holds {values.dtype} of shape {values.shape}, not numbers")
    channels, height, width = values.shape
    return Header(channels, kept_as(values.dtype), height, width, photo=False)


def array_values(values: Values, frame: Frame) -> Values:
    """``(C, H, W)`` brought into the frame.

    Raises:
        ValueError: it has another number of channels, or values that are not finite.
    """
    if len(values) != frame.channels:
        raise ValueError(f"it has {len(values)} channels, not {frame.channels}")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError(f"it holds {np.count_nonzero(~np.isfinite(values)):,} values that are NaN or infinite")
    return fit_array(kept(values), frame)


def _format(file: BinaryIO) -> str:
    start = file.read(6)
    file.seek(0)
    if not start:
        raise ValueError("0 bytes")
    if start == b"\x93NUMPY":
        return "npy"
    return "tiff" if start[:4] in TIFF_STARTS else "photo"


def _is_complete(file: BinaryIO, kind: str | None) -> bool:
    end = COMPLETE.get(kind or "")
    if end is None:
        return True
    here = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - TAIL))
    complete = end in file.read()
    file.seek(here)
    return complete


def _tiff_header(file: BinaryIO) -> Header:
    with tifffile.TiffFile(file) as tiff:
        series, colours = tiff.series[0], _palette(tiff)
        shape = [series.shape[axis] for axis in _tiff_axes(series)]
        turned = _turn(tiff)[2]
        c, h, w = shape if len(shape) == 3 else (1, *shape)
        dtype = "uint8" if colours is not None else kept_as(series.dtype)
        h, w = (w, h) if turned else (h, w)
        return Header(3 if colours is not None else c, dtype, h, w, photo=False)


def _tiff(file: BinaryIO) -> Values:
    """``(C, H, W)``; pages of one size are channels."""
    with tifffile.TiffFile(file) as tiff:
        series, colours = tiff.series[0], _palette(tiff)
        values = series.asarray().transpose(_tiff_axes(series))
        values = values if values.ndim == 3 else values[None]
        if colours is not None:
            values = (colours[:, values[0]] >> 8).astype(np.uint8)
        down, across, turned = _turn(tiff)
        values = values[:, :: -1 if down else 1, :: -1 if across else 1]
        return values.transpose(0, 2, 1) if turned else values


def _tiff_axes(series: Any) -> list[int]:
    """Which axes are (channels), height and width."""
    if series.ndim not in (2, 3) or not {"Y", "X"} <= set(series.axes):
        raise ValueError(f"its axes are {series.axes} of shape {series.shape}; an image has two, and one of channels")
    spatial = [series.axes.index("Y"), series.axes.index("X")]
    return [axis for axis in range(series.ndim) if axis not in spatial] + spatial


def _palette(tiff: Any) -> Values | None:
    page = tiff.pages.first
    return page.colormap if page.photometric == tifffile.PHOTOMETRIC.PALETTE else None


def _turn(tiff: Any) -> tuple[bool, bool, bool]:
    tag = tiff.pages.first.tags.get("Orientation")
    return TIFF_TURNS.get(0 if tag is None else int(tag.value), (False, False, False))
