"""Image files in a folder, a zip or a tar archive, read in place."""

from __future__ import annotations

import errno
import io
import os
import tarfile
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from lzma import LZMAError
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from mmssl.vision.formats import ARCHIVES, ARRAYS, PHOTOS, is_archive, is_hidden, is_image
from mmssl.vision.images import Index

LOCAL_HEADER = 30  # bytes before the name of a zip member, which end in the lengths of the name and of the extra field


class Blobs(Protocol):
    """Encoded images by number."""

    def __len__(self) -> int: ...

    def open(self, i: int) -> BinaryIO: ...


@dataclass(frozen=True, eq=False)
class Found:
    """The images of a folder or an archive.

    Args:
        paths: below the root, with slashes, sorted.
        blobs: their content.
        others: number of files that are no images by their suffix.
        notes: what a person should know.
    """

    paths: list[str]
    blobs: Blobs
    others: int = 0
    notes: tuple[str, ...] = ()


def find_images(path: Path) -> Found:
    """The images of a folder with all its sub-folders, or of an archive.

    Raises:
        FileNotFoundError: there is nothing at ``path``.
        ValueError: it holds no image, or the archive is damaged.
        OSError: an archive that must be copied to be read finds no room.
    """
    if not path.exists():
        raise FileNotFoundError(f"data.path={path} does not exist: {_beside(path)}")
    if path.is_dir():
        found = _in_folder(path)
    elif is_image(path.name):
        found = Found([path.name], Files([path.name], str(path.parent)))
    elif is_archive(path.name):
        try:
            found = _in_zip(path) if path.suffix.lower() == ".zip" else _in_tar(path)
        except (tarfile.TarError, zipfile.BadZipFile, zlib.error, LZMAError, EOFError, OSError) as error:
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise
            raise ValueError(f"{path} cannot be read as an archive ({error}); copy it again") from error
    else:
        raise ValueError(f"data.path={path} is neither a folder nor an archive ({', '.join(ARCHIVES)})")
    if not found.paths:
        raise ValueError(
            f"data.path={path} holds no image, only {found.others:,} other files; looked for "
            f"{', '.join(PHOTOS + ARRAYS)}"
        )
    return found


@dataclass(frozen=True, eq=False)
class Files:
    """Files of the file system."""

    paths: list[str]
    root: str = ""

    def __len__(self) -> int:
        return len(self.paths)

    def open(self, i: int) -> BinaryIO:
        return open(os.path.join(self.root, self.paths[i]), "rb")  # pathlib takes twice as long


@dataclass(frozen=True, eq=False)
class Stretches:
    """Stretches of one file, such as the members of an archive.

    Args:
        file: its path.
        starts, sizes: ``(n,)`` in bytes.
        deflated: ``(n,)``; None if none is.
        owner: of the file, if it is a temporary one.
    """

    file: str
    starts: Index
    sizes: Index
    deflated: npt.NDArray[np.bool_] | None = None
    owner: Temporary | None = None

    @cached_property
    def content(self) -> npt.NDArray[np.uint8]:
        """The file, mapped: unlike an open file, it has no position that processes would share."""
        return np.memmap(self.file, dtype=np.uint8, mode="r")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "content"}

    def __len__(self) -> int:
        return len(self.starts)

    def open(self, i: int) -> BinaryIO:
        data = self.content[self.starts[i] : self.starts[i] + self.sizes[i]].tobytes()
        if self.deflated is not None and self.deflated[i]:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data)
        return io.BytesIO(data)


class Temporary:
    """A file that goes with this object, if that ends in the process that made it."""

    def __init__(self, name: str) -> None:
        self.name = name
        weakref.finalize(self, _remove, name, os.getpid())

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (self.name,)  # what another process gets does not own the file


def spool(images: Iterable[bytes]) -> tuple[Stretches, str]:
    """Encoded images that cannot be read one by one where they are, in a temporary file; and a note that says so."""
    try:
        with tempfile.NamedTemporaryFile(prefix="mmssl-images-", delete=False) as file:
            owner = Temporary(file.name)
            sizes = np.array([file.write(image) for image in images], dtype=np.int64)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            error.strerror = (
                f"{tempfile.gettempdir()} is full, where images are copied that cannot be read one by one; "
                "make room there, or name another folder in the environment variable TMPDIR"
            )
        raise
    note = f"{sizes.sum() / 2**20:,.1f} MiB of encoded images are copied to a temporary file"
    return Stretches(owner.name, np.cumsum(sizes) - sizes, sizes, owner=owner), note


def _remove(name: str, process: int) -> None:
    if os.getpid() == process:  # a forked process has the object, too
        Path(name).unlink(missing_ok=True)


def _in_folder(root: Path) -> Found:
    paths, others = [], 0
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not is_hidden(name)]
        below = Path(folder).relative_to(root)
        shown = [name for name in names if not is_hidden(name)]
        images = [(below / name).as_posix() for name in shown if is_image(name)]
        others += len(shown) - len(images)
        paths += images
    paths.sort()
    return Found(paths, Files(paths, str(root)), others)


def _in_zip(path: Path) -> Found:
    with zipfile.ZipFile(path) as archive:
        files = [member for member in archive.infolist() if not member.is_dir() and not is_hidden(member.filename)]
    members = sorted((m for m in files if is_image(m.filename)), key=lambda m: m.filename)
    for member in members:
        if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            how = "encrypted" if member.flag_bits & 1 else "compressed by another method than deflate"
            raise ValueError(f"{member.filename} in {path} is {how}: unpack the archive into a folder")
    starts = []
    with path.open("rb") as file:
        for member in members:
            file.seek(member.header_offset)
            header = file.read(LOCAL_HEADER)
            lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
            starts.append(member.header_offset + LOCAL_HEADER + lengths)
    stretches = Stretches(
        str(path),
        np.array(starts, dtype=np.int64),
        np.array([member.compress_size for member in members], dtype=np.int64),
        np.array([member.compress_type == zipfile.ZIP_DEFLATED for member in members], dtype=bool),
    )
    return Found([member.filename for member in members], stretches, len(files) - len(members))


def _in_tar(path: Path) -> Found:
    """Members of a plain tar stay where they are; a compressed one can only be read from front to back."""
    names: list[str] = []
    others = 0

    def images(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
        nonlocal others
        for member in archive:
            if not member.isfile() or is_hidden(member.name.removeprefix("./")):
                continue
            if is_image(member.name):
                names.append(member.name.removeprefix("./"))
                yield member
            else:
                others += 1

    def contents(archive: tarfile.TarFile) -> Iterator[bytes]:
        for member in images(archive):
            file = archive.extractfile(member)
            assert file is not None
            yield file.read()

    notes: tuple[str, ...] = ()
    try:
        with tarfile.open(path, "r:") as archive:
            places = np.array([(m.offset_data, m.size) for m in images(archive)], dtype=np.int64).reshape(-1, 2)
        blobs = Stretches(str(path), places[:, 0], places[:, 1])
    except tarfile.ReadError:
        with tarfile.open(path, "r|*") as archive:
            blobs, note = spool(contents(archive))
        notes = (note,)
    order = sorted(range(len(names)), key=names.__getitem__)
    ordered = Stretches(blobs.file, blobs.starts[order], blobs.sizes[order], owner=blobs.owner)
    return Found([names[i] for i in order], ordered, others, notes)


def _beside(path: Path) -> str:
    beside = sorted(entry.name for entry in path.parent.iterdir()) if path.parent.is_dir() else []
    close = get_close_matches(path.name, beside, n=3, cutoff=0.5) or beside[:10]
    return f"beside it there is {', '.join(map(repr, close))}" if close else "there is nothing beside it"
