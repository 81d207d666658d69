"""Emoji of one vendor with their names: small natural pairs, in the layout of the emoji-data repository."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mmssl.multimodal.pairs import Listing
from mmssl.vision.files import Files

FOLDERS = ("img/google/64", "img-google-64", "img/apple/64", "img-apple-64", "img/twitter/64", "img-twitter-64")


def read_emoji(root: str | None) -> Listing:
    """Every emoji of ``emoji.json`` with the picture of one vendor; its label is its category.

    Its captions are its name, its name with the words of its sub-category and category, and its short names where they
    differ from the name.

    Raises:
        FileNotFoundError: ``root`` is none or holds no emoji.
    """
    if root is None:
        raise ValueError("data.name=emoji needs data.root, a folder with emoji.json and the pictures of a vendor")
    table = Path(root) / "emoji.json"
    folder = next((Path(root) / name for name in FOLDERS if (Path(root) / name).is_dir()), None)
    if not table.exists() or folder is None:
        raise FileNotFoundError(f"data.root={root} holds no emoji.json, or none of the folders {', '.join(FOLDERS)}")
    entries = json.loads(table.read_text(encoding="utf-8"))
    images = [entry["image"] for entry in entries]
    return Listing(
        Files(images, str(folder)),
        images,
        [captions(entry) for entry in entries],
        [f"entry {i + 1} of emoji.json" for i in range(len(entries))],
        labels=[words(entry["category"]) for entry in entries],
    )


def captions(entry: dict[str, Any]) -> list[str]:
    """``tree``; ``tree, plant other, animals nature``; what else it is called."""
    name, part, whole = (words(entry[key]) for key in ("name", "subcategory", "category"))
    return list(dict.fromkeys([name, f"{name}, {part}, {whole}", *map(words, entry["short_names"])]))


def words(text: str) -> str:
    """In lower case, without signs between words."""
    return " ".join(re.sub(r"[-_&:]", " ", text.lower()).split())
