"""Images as inline HTML, for reports: PNG data, no file and no script."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

SIDE = 64  # pixels of a thumbnail at most

Picture = Tensor | npt.NDArray[Any]  # (C, H, W): uint8, or floats of which 0 is black and 1 is white


def thumbnail(image: Picture, *, side: int = SIDE) -> str:
    """An ``<img>`` of ``(C, H, W)``, the longer side at most ``side`` pixels; small ones are not blurred if enlarged.

    One channel is grey, three are RGB; of any other number the first three are shown as RGB (the first alone of two),
    which the tooltip says.

    Args:
        image: uint8, or floats on the scale 0 to 1; what lies outside is cut off.
        side: in pixels.
    """
    values = image.detach().float().cpu().numpy() if isinstance(image, Tensor) and image.is_floating_point() else image
    values = np.asarray(values)
    if values.ndim != 3:
        raise ValueError(f"a picture must be (C, H, W), got shape {tuple(values.shape)}")
    if values.dtype != np.uint8:
        values = np.rint(np.nan_to_num(values.astype(np.float32)).clip(0, 1) * 255).astype(np.uint8)
    channels, height, width = values.shape
    shown = 3 if channels >= 3 else 1
    pixels = values[:shown].transpose(1, 2, 0)
    photo = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if shown == 1 else pixels))
    photo.thumbnail((side, side), Image.Resampling.BOX)
    file = io.BytesIO()
    photo.save(file, "PNG", optimize=True)
    data = base64.b64encode(file.getvalue()).decode()
    style = ' style="image-rendering:pixelated"' if (photo.width, photo.height) == (width, height) else ""
    title = "" if channels in (1, 3) else f' title="{"channels 1 to 3" if shown == 3 else "channel 1"} of {channels}"'
    return (
        f'<img src="data:image/png;base64,{data}" width="{photo.width}" height="{photo.height}" '
        f'alt="image of {width} x {height} pixels"{title}{style}>'
    )


def sheet(rows: Sequence[Sequence[Picture]], titles: Sequence[str] = (), *, side: int = SIDE) -> str:
    """A table of thumbnails.

    Args:
        rows: images of each row; rows may be of different length.
        titles: of the columns, such as ``("image", "masked", "reconstruction")``; any text.
        side: pixels of a thumbnail at most.
    """
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join(f"<tr>{''.join(f'<td>{thumbnail(image, side=side)}</td>' for image in row)}</tr>" for row in rows)
    return f'<table class="sheet">{f"<thead><tr>{head}</tr></thead>" if head else ""}<tbody>{body}</tbody></table>'
