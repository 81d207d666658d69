"""Search a folder of images by what they show."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from mmssl.multimodal.embedder import PairEmbedder
from mmssl.multimodal.encode import embed_images, embed_text
from mmssl.vision.images import ImageSet
from mmssl.vision.pictures import thumbnail

COLUMNS = 5  # of the picture
TILE, GAP = 128, 8  # pixels of a hit, and between two


@dataclass(frozen=True)
class Hit:
    """An image that was found.

    Args:
        name: of the image.
        row: its position in the set.
        similarity: cosine with the query.
    """

    name: str
    row: int
    similarity: float


def search(embedder: PairEmbedder, query: str, images: ImageSet, *, k: int = 10) -> list[Hit]:
    """The ``k`` images most like the query, the best first.

    Raises:
        ValueError: the query is empty, or ``k`` is not positive.
    """
    if not query.strip():
        raise ValueError("the query is empty: say in a few words what the image shows")
    if k < 1:
        raise ValueError(f"-k must be at least 1, got {k}")
    z = embed_images(embedder.encoder, images, embedder.preprocessor)
    similarity = z @ embed_text(embedder.encoder, [query], embedder.tokenizer)[0]
    best = np.argsort(-similarity, kind="stable")[:k]
    return [Hit(str(images.names[i]), int(i), float(similarity[i])) for i in best]


def gallery(hits: list[Hit], images: ImageSet) -> str:
    """The hits as a ``<div class="gallery">``, for HTML."""
    figures = [
        f"<figure>{thumbnail(images.fetch(np.array([hit.row]))[0], side=TILE)}"
        f"<figcaption><b>{escape(hit.name)}</b><br>cosine {hit.similarity:.3f}</figcaption></figure>"
        for hit in hits
    ]
    return f'<div class="gallery">{"".join(figures)}</div>'


def write_grid(hits: list[Hit], images: ImageSet, path: str | Path) -> None:
    """The hits as one picture, row by row, in the format that the file's name ends in."""
    rows = -(-len(hits) // COLUMNS)
    columns = min(COLUMNS, len(hits))
    sheet = Image.new("RGB", (columns * (TILE + GAP) + GAP, rows * (TILE + GAP) + GAP), "white")
    for place, hit in enumerate(hits):
        left, top = GAP + place % COLUMNS * (TILE + GAP), GAP + place // COLUMNS * (TILE + GAP)
        sheet.paste(_tile(images, hit.row), (left, top))
    try:
        sheet.save(path)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be written as a picture ({error}): name a .png or a .html") from error


def _tile(images: ImageSet, row: int) -> Image.Image:
    raw = images.fetch(np.array([row]))[0].numpy()  # (C, S, S)
    shown: npt.NDArray[np.uint8] = raw if raw.dtype == np.uint8 else (raw.clip(0, 1) * 255).astype(np.uint8)
    picture = Image.fromarray(shown[:3].transpose(1, 2, 0) if len(shown) >= 3 else shown[0])
    return picture.convert("RGB").resize((TILE, TILE))
