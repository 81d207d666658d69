from __future__ import annotations

import base64
import io
import re

import numpy as np
import torch
from PIL import Image

from mmssl.audio.pictures import RANGE, sheet, spectrogram


def pixels(html: str) -> np.ndarray:
    found = re.search(r"base64,([^\"]+)", html)
    assert found is not None
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(found[1]))))


def test_time_goes_to_the_right_frequency_upwards_and_loud_is_white() -> None:
    frames = torch.full((5, 3), RANGE[0])
    frames[1, 2] = RANGE[1] + 1  # the second frame, the highest band
    frames[4:] = torch.nan
    drawn = pixels(spectrogram(frames))
    assert drawn.shape == (3, 4)
    assert drawn[0, 1] == 255
    assert drawn.sum() == 255


def test_a_sheet_escapes_names_and_has_a_picture_for_every_view() -> None:
    html = sheet([[torch.zeros(2, 2)] * 3] * 2, ["<a>", "b"], ["clip", "view 1", "view 2"])
    assert html.count("<img") == 6
    assert "&lt;a&gt;" in html
    assert "<a>" not in html
