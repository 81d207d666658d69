"""What all images of a set are brought to: one size, one number of channels, one kind of values."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps

from mmssl.vision.images import SPANS, Values

LARGE = 224  # side that large or differing images are brought to, unless data.size says otherwise
MAX_OWN_SIZE = 256  # images of one size keep it up to here
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # channels that photographs can be converted to
FITS = ("crop", "stretch", "pad")
Names = Sequence[object] | npt.NDArray[np.object_]
WHITE = 255  # behind transparent pixels
ORIENTATION = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")  # where a file may say how it was held


class Header(NamedTuple):
    """What a file says of its image before it is decoded; a tuple, because there are as many as images.

    Args:
        channels: 1 or 3 for photographs (transparency left out), any number for arrays.
        dtype: uint8, uint16 or float32, what the values are kept as.
        height, width: pixels.
        photo: a picture format, which can be converted to another number of channels; arrays are taken as they are.
    """

    channels: int
    dtype: str
    height: int
    width: int
    photo: bool = True

    @property
    def side(self) -> int:
        return min(self.height, self.width)


@dataclass(frozen=True)
class Frame:
    """What every image of the set becomes.

    Args:
        channels: C.
        size: S; images are squares of S pixels.
        dtype: uint8, uint16 or float32.
        fit: ``"crop"`` resizes the shorter side to S and takes the middle, ``"stretch"`` resizes both sides,
            ``"pad"`` resizes the longer side and fills up with zeros.
    """

    channels: int
    size: int
    dtype: str = "uint8"
    fit: str = "crop"

    @property
    def bytes(self) -> int:
        return self.channels * self.size**2 * np.dtype(self.dtype).itemsize


def plan(
    headers: Sequence[Header], names: Names, *, size: int | None, channels: int | None, fit: str
) -> tuple[Frame, list[str]]:
    """The frame for images of these headers, and what a person should know about it.

    Args:
        headers: at least one.
        names: of the same images.
        size: wanted; None keeps a common size of at most 256 pixels, and takes one of at most 224 otherwise.
        channels: wanted; None keeps a common number, and takes RGB for photographs that differ.
        fit: see `Frame`.

    Raises:
        ValueError: a wanted value is impossible, or arrays differ; the message names two files.
    """
    if size is not None and size < 1:
        raise ValueError(f"data.size must be at least 1 pixel, got {size}")
    if fit not in FITS:
        raise ValueError(f"data.fit must be {', '.join(FITS)}, got {fit!r}")
    dtype, notes = _plan_dtype(headers, names)
    count, more = _plan_channels(headers, names, channels)
    side, most = _plan_size(headers, size, fit)
    return Frame(count, side, dtype, fit), [*notes, *more, *most]


def _plan_dtype(headers: Sequence[Header], names: Names) -> tuple[str, list[str]]:
    kinds = Counter(header.dtype for header in headers)
    if len(kinds) == 1:
        return headers[0].dtype, []
    if set(kinds) == {"uint8", "uint16"} and all(header.photo for header in headers):
        return "uint8", [f"{kinds['uint16']:,} images of 16 bits are taken as 8 bits, like the others"]
    first, other = _two([header.dtype for header in headers])
    raise ValueError(
        f"{names[first]} holds {headers[first].dtype} and {names[other]} {headers[other].dtype}: bring all images to "
        "one scale and write them alike"
    )


def _plan_channels(headers: Sequence[Header], names: Names, wanted: int | None) -> tuple[int, list[str]]:
    counts = Counter(header.channels for header in headers)
    arrays = [i for i, header in enumerate(headers) if not header.photo]
    fixed = {headers[i].channels for i in arrays}
    if len(fixed) > 1:
        first, other = (arrays[i] for i in _two([headers[i].channels for i in arrays]))
        raise ValueError(
            f"{names[first]} has {headers[first].channels} channels and {names[other]} {headers[other].channels}: all "
            "arrays need the same; move one kind elsewhere"
        )
    if fixed and wanted not in (None, *fixed):
        raise ValueError(
            f"data.channels={wanted}, but {names[arrays[0]]} is an array of {headers[arrays[0]].channels} channels: "
            "only photographs are converted; leave data.channels out"
        )
    target = wanted if wanted is not None else fixed.pop() if fixed else max(counts)
    if target not in MODES and len(arrays) < len(headers):
        photo = next(i for i, header in enumerate(headers) if header.photo)
        raise ValueError(f"{names[photo]} is a photograph, which cannot have {target} channels: take 1, 3 or 4 (RGBA)")
    notes = []
    if len(counts) > 1 and wanted is None:
        notes.append(
            f"{counts[1]:,} grey and {counts[3]:,} colour images: all are taken as RGB (data.channels=1 takes grey)"
            if target == 3
            else f"photographs among arrays are taken with {target} channels"
        )
    return target, notes


def _plan_size(headers: Sequence[Header], wanted: int | None, fit: str) -> tuple[int, list[str]]:
    sizes = {(header.height, header.width) for header in headers}
    sides = np.array([max(h.height, h.width) if fit == "pad" else h.side for h in headers])
    size = wanted
    if size is None:
        size = int(np.median(sides))
        if size > MAX_OWN_SIZE:
            size = LARGE
        elif len(sizes) > 1 and size > 16:
            size = min(size // 16 * 16, LARGE)
    if sizes == {(size, size)}:
        return size, []
    low, high = min(sizes, key=lambda s: s[0] * s[1]), max(sizes, key=lambda s: s[0] * s[1])
    were = f"{low[1]} x {low[0]}" + ("" if low == high else f" to {high[1]} x {high[0]}")
    how = {"crop": "the middle square is taken", "stretch": "sides are stretched", "pad": "padded with zeros"}[fit]
    chosen = "" if wanted is not None else f"; data.size chooses another size than {size}"
    notes = [f"sizes were {were}: resized to {size} x {size}, {how}{chosen}"]
    if small := int((sides < size).sum()):
        notes.append(f"{small:,} images are smaller than that and are scaled up")
    return size, notes


def _two(values: Sequence[object]) -> tuple[int, int]:
    """Positions of the first value and of the first one that differs from it."""
    return 0, next(i for i, value in enumerate(values) if value != values[0])


def fit_photo(photo: Image.Image, frame: Frame) -> Values:
    """A photograph, upright, as ``(C, S, S)``."""
    if photo.mode.startswith(("I", "F")):  # 16 bits, integers, floats: one channel
        return fit_array(upright(photo)[None], frame)
    _draft(photo, frame)
    photo = _converted(photo, MODES[frame.channels])
    if photo.size != (frame.size, frame.size):
        photo = _resized(photo, frame)
    values = np.asarray(_turned(photo))  # (S, S) or (S, S, C); a square turns into a square
    values = values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
    return values if frame.dtype == "uint8" else _recast(values, frame.dtype)


def upright(photo: Image.Image) -> npt.NDArray[np.generic]:
    """``(H, W)`` of a photograph of one channel."""
    return kept(np.asarray(_turned(photo)))


def _turned(photo: Image.Image) -> Image.Image:
    """As the camera was held; looking for an orientation where none can be takes as long as decoding a small image."""
    return ImageOps.exif_transpose(photo) if any(place in photo.info for place in ORIENTATION) else photo


def _draft(photo: Image.Image, frame: Frame) -> None:
    """Have a JPEG decoded at 1/2, 1/4 or 1/8 of its size where that leaves twice what is wanted."""
    side = max(photo.size) if frame.fit == "pad" else min(photo.size)
    if photo.format in ("JPEG", "MPO") and side >= 4 * frame.size:
        ratio = 2 * frame.size / side
        photo.draft(None, (math.ceil(ratio * photo.width), math.ceil(ratio * photo.height)))


def _converted(photo: Image.Image, mode: str) -> Image.Image:
    if photo.mode == mode:
        return photo
    if mode != "RGBA" and (photo.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in photo.info):
        clear = photo.convert("RGBA")
        flat = Image.new("RGBA", clear.size, (WHITE, WHITE, WHITE, WHITE))
        flat.alpha_composite(clear)
        flat.info = {key: value for key, value in photo.info.items() if key != "transparency"}
        photo = flat
    return photo.convert(mode)


def _resized(photo: Image.Image, frame: Frame) -> Image.Image:
    """Cropping and resizing in one go, with antialiasing."""
    (w, h), s = photo.size, frame.size
    bilinear = Image.Resampling.BILINEAR
    if frame.fit == "stretch":
        return photo.resize((s, s), bilinear, reducing_gap=3.0)
    if frame.fit == "crop":
        side = min(w, h)
        left, top = (w - side) / 2, (h - side) / 2
        return photo.resize((s, s), bilinear, box=(left, top, left + side, top + side), reducing_gap=3.0)
    info, ratio = photo.info, s / max(w, h)
    small = photo.resize((max(1, round(w * ratio)), max(1, round(h * ratio))), bilinear, reducing_gap=3.0)
    padded = Image.new(photo.mode, (s, s))
    padded.paste(small, ((s - small.width) // 2, (s - small.height) // 2))
    padded.info = info
    return padded


def fit_array(values: Values, frame: Frame) -> Values:
    """Arrays ``(…, H, W)`` as ``(…, S, S)``; the number of channels is what it is."""
    h, w, s = *values.shape[-2:], frame.size
    if (h, w) != (s, s):
        if frame.fit == "crop":
            side = min(h, w)
            top, left = (h - side) // 2, (w - side) // 2
            values = values[..., top : top + side, left : left + side]
            h = w = side
        ratio = s / max(h, w)
        target = (s, s) if frame.fit == "stretch" else (max(1, round(h * ratio)), max(1, round(w * ratio)))
        values = _interpolated(values, target)
        if target != (s, s):
            top, left = (s - target[0]) // 2, (s - target[1]) // 2
            around = ((top, s - target[0] - top), (left, s - target[1] - left))
            values = np.pad(values, [(0, 0)] * (values.ndim - 2) + list(around))
    return _recast(values, frame.dtype)


def _interpolated(values: Values, size: tuple[int, int]) -> Values:
    """Bilinear with antialiasing; integers are rounded."""
    if values.shape[-2:] == size:
        return values
    flat = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).reshape(-1, 1, *values.shape[-2:])
    out = F.interpolate(flat, size, mode="bilinear", antialias=True, align_corners=False).numpy()
    out = out.reshape(*values.shape[:-2], *size)
    if values.dtype.kind == "f":
        return out
    return np.rint(out).clip(0, np.iinfo(values.dtype).max).astype(values.dtype)


def _recast(values: Values, dtype: str) -> Values:
    """Between 8 and 16 bits black stays black and white stays white."""
    if values.dtype == dtype:
        return values
    if values.dtype == np.uint16 and dtype == "uint8":
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if values.dtype == np.uint8 and dtype == "uint16":
        return values.astype(np.uint16) * np.uint16(257)
    return values.astype(dtype)


def kept(values: npt.NDArray[np.generic]) -> Values:
    """In the dtype that values of this one are kept as: see `kept_as`."""
    return values.astype(np.uint8) * np.uint8(255) if values.dtype == bool else values.astype(kept_as(values.dtype))


def kept_as(dtype: np.dtype[np.generic]) -> str:
    """uint8 and uint16 stay, booleans become black and white, all else becomes float32."""
    if dtype.kind == "b":
        return "uint8"
    return dtype.name if dtype.name in SPANS else "float32"
