"""Which axis of an array holds the channels."""

from __future__ import annotations

import numpy as np

from mmssl.vision.images import Values

LAYOUTS = ("NHW", "NHWC", "NCHW")  # N is left out for single images
FEW = 4  # channels that an axis of so many entries surely is
SOME = 16  # channels that it may be, if the others are longer


def channels_first(values: Values, layout: str | None = None) -> Values:
    """One image ``(C, H, W)`` from ``(H, W)``, ``(H, W, C)`` or ``(C, H, W)``; a view.

    Raises:
        ValueError: it has other axes, or the channels could be either of two.
    """
    if values.ndim == 2:
        return values[None]
    if values.ndim != 3:
        raise ValueError(f"an image must be (H, W), (H, W, C) or (C, H, W), got shape {values.shape}")
    return np.moveaxis(values, _channel_axis(values.shape, layout), 0)


def stack_channels_first(values: Values, layout: str | None = None) -> Values:
    """Images ``(N, C, H, W)`` from ``(N, H, W)``, ``(N, H, W, C)`` or ``(N, C, H, W)``; a view.

    Raises:
        ValueError: there are other axes, or the channels could be either of two.
    """
    if values.ndim == 3 and (values.shape[-1] > FEW or _given(layout) == "HW"):
        return values[:, None]
    if values.ndim != 4:
        raise ValueError(
            f"images must be (N, H, W), (N, H, W, C) or (N, C, H, W), got shape {values.shape}"
            + ("; data.layout=NHW says that these are grey images" if values.ndim == 3 else "")
        )
    return np.moveaxis(values, 1 + _channel_axis(values.shape[1:], layout), 1)


def _channel_axis(shape: tuple[int, ...], layout: str | None) -> int:
    """0 or 2: the end that alone has at most 4 entries; or that alone has at most 16 and fewer than the others."""
    axes = _given(layout)
    if axes is not None:
        if len(axes) != len(shape):
            raise ValueError(f"data.layout={layout} does not fit images of shape {shape}")
        return axes.index("C")
    first, middle, last = shape
    few = first <= FEW, last <= FEW
    some = first <= SOME and first < min(middle, last), last <= SOME and last < min(first, middle)
    for ends in (few, some):
        if ends[0] != ends[1]:
            return 0 if ends[0] else 2
    raise ValueError(
        f"images of shape {shape}: the channels could be the first or the last axis; say it with data.layout=NCHW or "
        "data.layout=NHWC"
    )


def _given(layout: str | None) -> str | None:
    """HW, HWC or CHW."""
    if layout is not None and layout.upper() not in (*LAYOUTS, *(axes[1:] for axes in LAYOUTS)):
        raise ValueError(f"data.layout must be {', '.join(LAYOUTS)}, got {layout!r}")
    return None if layout is None else layout.upper().removeprefix("N")
