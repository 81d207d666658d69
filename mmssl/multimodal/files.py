"""Images with their captions beside them: folders of ``a.jpg`` and ``a.txt``, and WebDataset shards."""

from __future__ import annotations

import json
import tarfile
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np

from mmssl.multimodal.pairs import Listing
from mmssl.vision.files import Blobs, Stretches, find_images
from mmssl.vision.formats import is_hidden, is_image
from mmssl.vision.paths import columns_from_paths

TEXT, JSON = ".txt", ".json"
KEYS = ("caption", "captions", "text")  # of a JSON member


def read_folder(path: Path, *, label: str | None = None) -> Listing:
    """Images below a folder, each with a text file of the same name whose lines are its captions.

    Args:
        path: the folder.
        label: see `mmssl.vision.data.read_images`.

    Raises:
        ValueError: there is no image, or no image has a text file.
    """
    found = find_images(path)
    sidecars = [(path / name).with_suffix(TEXT) for name in found.paths]
    captions = [_lines(file.read_text(encoding="utf-8")) if file.exists() else [] for file in sidecars]
    if not any(captions):
        raise ValueError(
            f"{path} holds {len(found.paths):,} images, but none has a caption beside it: {found.paths[0]} needs "
            f"{sidecars[0].name}; captions of a table come by data.path=<table>"
        )
    columns = columns_from_paths(found.paths, label=label)
    return Listing(
        found.blobs,
        found.paths,
        captions,
        [f"file {name}" for name in found.paths],
        labels=None if columns.labels is None else columns.labels.tolist(),
        notes=(*found.notes, *columns.notes),
    )


def read_shards(paths: Sequence[Path]) -> Listing:
    """WebDataset shards: plain tar files in which members of one key are one example.

    The key is the path up to the first dot of the file's name; the image has the ending of a picture, the captions are
    in ``.txt`` (a line each) or ``.json`` (``caption``). Members are found once and then read where they are, in any
    order: no shuffling of shards, and every example has a position.

    Raises:
        ValueError: a shard is compressed or damaged, or no image has a caption.
    """
    names: list[str] = []
    captions: list[list[str]] = []
    parts: list[Stretches] = []
    for path in paths:
        images, texts = _members(path)
        names += [f"{path.name}/{image.name}" for image in images.values()]
        captions += [texts.get(key, []) for key in images]
        places = np.array([(m.offset_data, m.size) for m in images.values()], dtype=np.int64).reshape(-1, 2)
        parts.append(Stretches(str(path), places[:, 0], places[:, 1]))
    if not any(captions):
        raise ValueError(
            f"{paths[0]} and its like hold {len(names):,} images and no caption: an example needs a member "
            "<key>.txt, or <key>.json with a caption"
        )
    return Listing(Joined(parts), names, captions, [f"member {name}" for name in names])


@dataclass(frozen=True, eq=False)
class Joined:
    """Blobs of several files, one after the other."""

    parts: Sequence[Blobs]

    @cached_property
    def ends(self) -> list[int]:
        return list(accumulate(len(part) for part in self.parts))

    def __len__(self) -> int:
        return self.ends[-1] if self.parts else 0

    def open(self, i: int) -> BinaryIO:
        part = bisect_right(self.ends, i)
        return self.parts[part].open(i - (self.ends[part - 1] if part else 0))


def _members(path: Path) -> tuple[dict[str, tarfile.TarInfo], dict[str, list[str]]]:
    """The image and the captions of each key."""
    images: dict[str, tarfile.TarInfo] = {}
    texts: dict[str, list[str]] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if not member.isfile() or is_hidden(member.name.removeprefix("./")):
                    continue
                key = _key(member.name)
                ending = PurePosixPath(member.name).suffix.lower()
                if is_image(member.name.removeprefix("./")):
                    images[key] = member
                elif ending in (TEXT, JSON):
                    file = archive.extractfile(member)
                    assert file is not None
                    said = _said(file.read(), ending, f"{path}, {member.name}")
                    texts[key] = [*texts.get(key, []), *said]
    except tarfile.TarError as error:
        raise ValueError(
            f"{path} cannot be read as a plain tar ({error}): unpack a compressed one, copy a damaged one again"
        ) from error
    return images, texts


def _key(name: str) -> str:
    path = PurePosixPath(name)
    return (path.parent / path.name.split(".", 1)[0]).as_posix()


def _said(content: bytes, ending: str, place: str) -> list[str]:
    try:
        text = content.decode()
        if ending == TEXT:
            return _lines(text)
        entry = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{place} cannot be read as UTF-8 text or JSON ({error}); write it again") from error
    known: dict[str, str | list[str]] = entry if isinstance(entry, dict) else {}
    found = next((known[key] for key in KEYS if key in known), [])
    return [found] if isinstance(found, str) else found


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]
