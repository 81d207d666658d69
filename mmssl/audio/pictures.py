"""Mel spectrograms as inline HTML, for reports: PNG data, no file and no script."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

SIDE = 2  # pixels of a frame and of a band
RANGE = (-2.0, 2.5)  # standard deviations from black to white


def spectrogram(frames: Tensor, *, alt: str = "mel spectrogram") -> str:
    """An ``<img>`` of standardised frames ``(F, M)``: time to the right, frequency upwards, white is loud.

    Args:
        frames: NaN after the end of the clip, which is left out.
        alt: text for those who do not see it.
    """
    values = frames[~frames[:, 0].isnan()].float().cpu().numpy().T[::-1]  # (M, F)
    low, high = RANGE
    grey: npt.NDArray[np.uint8] = np.rint((values.clip(low, high) - low) / (high - low) * 255).astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(grey))
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    data = base64.b64encode(file.getvalue()).decode()
    return (
        f'<img src="data:image/png;base64,{data}" alt="{escape(alt)}" style="image-rendering:pixelated;'
        f'width:{SIDE * picture.width}px;height:{SIDE * picture.height}px;min-width:0;max-width:none">'
    )


def sheet(rows: Sequence[Sequence[Tensor]], names: Sequence[str], titles: Sequence[str]) -> str:
    """A table of spectrograms.

    Args:
        rows: frames ``(F, M)``, standardised, of each row.
        names: of the rows.
        titles: of the columns.
    """
    head = "".join(f"<th>{escape(title)}</th>" for title in ("", *titles))
    body = "".join(
        f"<tr><td>{escape(name)}</td>{''.join(f'<td>{spectrogram(frames)}</td>' for frames in row)}</tr>"
        for name, row in zip(names, rows, strict=True)
    )
    return f'<table class="sheet"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
