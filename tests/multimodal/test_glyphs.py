"""The default: fonts and characters that the training never saw are apart."""

from __future__ import annotations

from functools import cache

import numpy as np

from mmssl.multimodal.glyphs import KINDS, TEST, TRAIN, read_glyphs
from mmssl.multimodal.pairs import PairSet


@cache
def glyphs() -> PairSet:
    return read_glyphs()


def split(part: str) -> tuple[set[str], set[str]]:
    """Fonts and characters."""
    images = glyphs().images
    assert images.parts is not None
    names = [str(name).split("/") for name in images.names[images.parts == part]]
    return {font for font, _ in names}, {code for _, code in names}


def test_the_test_font_is_in_no_training_part_and_the_unseen_characters_in_no_training_font() -> None:
    (train_fonts, train), (test_fonts, test), (unseen_fonts, unseen) = map(split, ("train", "test", "unseen"))
    assert train_fonts == set(TRAIN)
    assert test_fonts == unseen_fonts == {TEST}
    assert not unseen & train
    assert test <= train
    assert len(train) > 4_500
    assert len(unseen) > 200


def test_a_glyph_is_black_on_white_with_its_unicode_name() -> None:
    at = glyphs().images.names.tolist().index("DejaVuSans/U+265E")
    assert glyphs().captions[at] == "black chess knight"
    image = glyphs().images.fetch(np.array([at]))[0]
    assert image.shape == (1, 32, 32)
    assert image[0, 0, 0] == 255
    assert image.min() == 0


def test_a_label_is_a_word_of_the_name_that_says_what_kind_of_sign_it_is() -> None:
    labels, names = glyphs().images.labels, glyphs().images.names.tolist()
    assert labels is not None
    assert {label for label in labels if label is not None} == set(KINDS)
    assert labels[names.index("DejaVuSans/U+0041")] == "capital"  # latin capital letter a
    assert labels[names.index("DejaVuSans/U+1D53")] == "modifier"  # modifier letter small open o
    assert labels[names.index("DejaVuSans/U+265E")] is None
