from __future__ import annotations

import base64
import io
import re
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from mmssl.vision.pictures import sheet, thumbnail


def shown(html: str) -> Any:
    """``(H, W)`` or ``(H, W, 3)`` of what a browser would draw."""
    found = re.search(r'src="data:image/png;base64,([^"]+)"', html)
    assert found is not None
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(found[1]))))


def test_a_small_image_is_shown_as_it_is() -> None:
    grey = np.arange(30, dtype=np.uint8).reshape(1, 5, 6)
    np.testing.assert_array_equal(shown(thumbnail(grey)), grey[0])
    colour = np.arange(90, dtype=np.uint8).reshape(3, 5, 6)
    np.testing.assert_array_equal(shown(thumbnail(torch.from_numpy(colour))), colour.transpose(1, 2, 0))
    assert 'width="6" height="5"' in thumbnail(colour)
    assert "image-rendering:pixelated" in thumbnail(colour)


def test_floats_are_black_at_0_and_white_at_1_and_cut_off_beyond() -> None:
    x = torch.tensor([-1.0, 0.0, 0.5, 1.0, 7.0, float("nan")]).view(1, 1, 6)
    assert shown(thumbnail(x)).tolist() == [[0, 0, 128, 255, 255, 0]]
    assert shown(thumbnail(x.bfloat16())).tolist() == [[0, 0, 128, 255, 255, 0]]


@pytest.mark.parametrize(("channels", "title"), [(2, "channel 1 of 2"), (7, "channels 1 to 3 of 7")])
def test_other_numbers_of_channels_show_the_first_and_say_so(channels: int, title: str) -> None:
    x = np.random.default_rng(0).integers(0, 256, (channels, 4, 4), dtype=np.uint8)
    html = thumbnail(x)
    assert f'title="{title}"' in html
    expected = x[0] if channels == 2 else x[:3].transpose(1, 2, 0)
    np.testing.assert_array_equal(shown(html), expected)


def test_a_large_image_is_at_most_64_pixels_and_keeps_its_proportions() -> None:
    html = thumbnail(np.zeros((3, 200, 400), np.uint8))
    assert 'width="64" height="32"' in html
    assert "pixelated" not in html
    assert 'alt="image of 400 x 200 pixels"' in html


def test_a_gradient_is_no_obstacle() -> None:
    assert shown(thumbnail(torch.ones(1, 2, 2, requires_grad=True))).tolist() == [[255, 255], [255, 255]]


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be \(C, H, W\), got shape \(4, 4\)"):
        thumbnail(np.zeros((4, 4)))


def test_a_sheet_is_well_formed_self_contained_and_escapes_its_titles() -> None:
    image = np.zeros((3, 4, 4), np.uint8)
    html = sheet([[image, image], [image]], ["<view>", "a & b"])
    table = ElementTree.fromstring(html.replace('">', '"/>').replace('<table class="sheet"/>', '<table class="sheet">'))
    assert [len(row) for row in table.findall("tbody/tr")] == [2, 1]
    assert [cell.text for cell in table.findall("thead/tr/th")] == ["<view>", "a & b"]
    assert "http" not in html
    assert sheet([[image]]).startswith('<table class="sheet"><tbody>')
