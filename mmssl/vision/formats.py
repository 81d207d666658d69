"""Which files hold images, by their suffix."""

from __future__ import annotations

from pathlib import PurePosixPath

PHOTOS = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".pbm", ".tga")  # Pillow's
TIFFS = (".tif", ".tiff")
ARRAYS = (".npy", *TIFFS)  # any number of channels and any type of values
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".txz", ".zip")
TABLES = (".parquet", ".pq")
STACKS = (".npy", ".npz")  # all images in one array

_JUNK = ("__MACOSX", "@eaDir")  # folders that systems leave behind


def suffix(path: str) -> str:
    """In lower case, with the dot."""
    return PurePosixPath(path).suffix.lower()


def is_image(path: str) -> bool:
    return suffix(path) in PHOTOS + ARRAYS and not is_hidden(path)


def is_hidden(path: str) -> bool:
    """A part of the path is none of the owner's: ``._a.jpg``, ``.cache``."""
    return any(part.startswith(".") or part in _JUNK for part in PurePosixPath(path).parts)


def is_archive(path: str) -> bool:
    return path.lower().endswith(ARCHIVES)


def stem(name: str) -> str:
    """A file name without the suffix, ``.tar.xz`` being one."""
    known = [end for end in ARCHIVES if name.lower().endswith(end)] or [PurePosixPath(name).suffix]
    return name[: len(name) - max(map(len, known))]
