"""What a pretrained encoder has to beat: the pixels themselves."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from mmssl.vision.images import ImageSet
from mmssl.vision.parallel import in_order, processes
from mmssl.vision.preprocess import ImagePreprocessor

Floats = npt.NDArray[np.float32]
SMALL = 32  # images of at most so many pixels a side are taken as they are
SIDE = 16  # larger ones are averaged in blocks to so many
CHUNK = 2**22  # values at a time


def pixels(images: ImageSet, preprocessor: ImagePreprocessor) -> Floats:
    """Standardised pixels ``(n, C S S)``; above 32 pixels a side the means of 16 x 16 blocks, ``(n, 256 C)``."""
    images = preprocessor.prepare(images)
    side = images.size if images.size <= SMALL else SIDE
    out = np.empty((len(images), images.channels * side**2), dtype=np.float32)
    step = max(1, CHUNK // (images.channels * images.size**2))
    start = 0
    for raw, _ in in_order(images.read, len(images), step, workers=0 if images.in_memory else processes()):
        x = preprocessor(raw)
        if side < images.size:
            x = F.adaptive_avg_pool2d(x, side)
        out[start : start + len(x)] = torch.flatten(x, 1).numpy()
        start += len(x)
    return out
