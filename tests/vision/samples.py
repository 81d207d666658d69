"""Small image files for the tests, with contents that can be told apart."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image


def picture(seed: int = 0, *, height: int = 12, width: int = 12, channels: int = 3) -> npt.NDArray[np.uint8]:
    """``(H, W, C)``, or ``(H, W)`` for one channel."""
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def smooth(seed: int = 0, *, height: int = 12, width: int = 12) -> npt.NDArray[np.uint8]:
    """``(H, W, 3)`` without fine detail, which JPEG keeps."""
    coarse = Image.fromarray(picture(seed, height=4, width=4))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def encoded(values: npt.NDArray[Any] | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of an image file."""
    file = io.BytesIO()
    (values if isinstance(values, Image.Image) else Image.fromarray(values)).save(file, kind, **options)
    return file.getvalue()


def write(path: Path, data: bytes) -> Path:
    """With the folders that it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def write_folder(root: Path, names: list[str], **shape: int) -> Path:
    """A PNG for each name, the n-th with ``picture(n)``."""
    for seed, name in enumerate(names):
        write(root / name, encoded(picture(seed, **shape)))
    return root
