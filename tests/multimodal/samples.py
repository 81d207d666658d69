"""Coloured shapes with captions: small pairs that a tower can learn in a few steps."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmssl.multimodal.pairs import PairSet
from mmssl.vision.images import ImageSet
from tests.vision.samples import encoded, write

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220)}
SHAPES = ("square", "bar", "frame")
SIDE = 16


def drawn(colour: str, shape: str, seed: int = 0) -> npt.NDArray[np.uint8]:
    """``(16, 16, 3)``: the shape somewhere on noise."""
    rng = np.random.default_rng([seed, SHAPES.index(shape), list(COLOURS).index(colour)])
    image = rng.integers(90, 140, (SIDE, SIDE, 3), dtype=np.uint8)
    top, left = rng.integers(1, 5, 2)
    height, width = (4, 10) if shape == "bar" else (9, 9)
    image[top : top + height, left : left + width] = COLOURS[colour]
    if shape == "frame":
        image[top + 3 : top + 6, left + 3 : left + 6] = 120
    return image


def things(n: int) -> list[tuple[str, str, int]]:
    """Colour, shape and seed of ``n`` images."""
    kinds = [(colour, shape) for colour in COLOURS for shape in SHAPES]
    return [(*kinds[i % len(kinds)], i // len(kinds)) for i in range(n)]


def pairs(n: int = 18) -> PairSet:
    """In memory: two captions an image, the shape is its class."""
    images = np.stack([drawn(*thing) for thing in things(n)]).transpose(0, 3, 1, 2)
    captions = [[f"a {colour} {shape}", f"{shape} number {seed} in {colour}"] for colour, shape, seed in things(n)]
    labels = [shape for _, shape, _ in things(n)]
    return PairSet.of(ImageSet.from_array(images, labels=labels), captions)


def write_table(folder: Path, n: int = 18, kind: str = "csv") -> Path:
    """Images in ``folder/photos`` and a table of their paths, captions and shapes."""
    rows = []
    for i, (colour, shape, seed) in enumerate(things(n)):
        name = f"photos/{i:03d}.png"
        write(folder / name, encoded(drawn(colour, shape, seed)))
        rows.append({"image": name, "caption": f"a {colour} {shape}", "kind": shape})
    path = folder / f"pairs.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        write_rows(path, rows)
    return path


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
