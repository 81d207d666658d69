"""Glyphs of the DejaVu fonts that matplotlib carries, with their Unicode names: pairs without a download."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

from mmssl.multimodal.pairs import PairSet
from mmssl.vision.images import ImageSet, as_objects

TRAIN = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono")
TEST = "DejaVuSerif"
SIDE, BASELINE, POINTS = 32, 24, 22  # pixels
UNSEEN = 0.1  # share of the characters that no training font shows
SEED = 0  # of their choice, which is always the same
KINDS = (  # words of names that stand for a class, the first that occurs; not scripts, which share shapes
    "braille",
    "box",
    "arrow",
    "combining",
    "modifier",
    "mathematical",
    "numeral",
    "fraction",
    "capital",
    "small",
)


def read_glyphs() -> PairSet:
    """Black glyphs on white, 32 x 32, one caption each; their label is the first of `KINDS` in the name, if one is.

    Parts: ``"train"`` has four fonts, ``"test"`` another one, with the characters of the training, and ``"unseen"``
    the same other font with characters that are not in the training, 10 % of all.
    """
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    fonts = {name: _characters(folder / f"{name}.ttf") for name in (*TRAIN, TEST)}
    known = sorted(set().union(*(fonts[name] for name in TRAIN)))
    unseen = set(np.random.default_rng(SEED).permutation(known)[: round(UNSEEN * len(known))].tolist())
    pixels, names, labels, captions, parts = [], [], [], [], []
    for name, characters in fonts.items():
        font = ImageFont.truetype(str(folder / f"{name}.ttf"), POINTS, layout_engine=ImageFont.Layout.BASIC)
        for code in characters:
            part = "train" if name != TEST else "unseen" if code in unseen else "test"
            if (part == "train" and code in unseen) or (part != "train" and code not in known):
                continue
            drawn = render(chr(code), font)
            if drawn.min() == 255:  # spaces and the like
                continue
            caption = unicodedata.name(chr(code)).lower()
            words = caption.replace("-", " ").split()
            pixels.append(drawn)
            names.append(f"{name}/U+{code:04X}")
            labels.append(next((kind for kind in KINDS if kind in words), None))
            captions.append([caption])
            parts.append(part)
    images = ImageSet.from_array(
        np.stack(pixels)[:, None], names=names, labels=as_objects(labels), parts=as_objects(parts)
    )
    return PairSet.of(images, captions)


def render(character: str, font: ImageFont.FreeTypeFont) -> np.ndarray:
    """``(32, 32)`` uint8, on a common baseline: o and O differ in size."""
    image = Image.new("L", (SIDE, SIDE), 255)
    ImageDraw.Draw(image).text((SIDE / 2, BASELINE), character, font=font, fill=0, anchor="ms")
    return np.asarray(image)


def _characters(font: Path) -> list[int]:
    """Code points with a glyph and a name."""
    return sorted(code for code in FT2Font(str(font)).get_charmap() if unicodedata.name(chr(code), ""))
