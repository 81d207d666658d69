"""Representations of all images of a set, in bounded memory."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mmssl.vision.images import ImageSet
from mmssl.vision.parallel import in_order, processes
from mmssl.vision.preprocess import ImagePreprocessor

Floats = npt.NDArray[np.float32]
VALUES = 2**24  # of a batch of large images: 111 photographs of 3 x 224 x 224


def encode_images(
    encoder: nn.Module, images: ImageSet, preprocessor: ImagePreprocessor, *, batch_size: int = 512
) -> Floats:
    """One vector an image, ``(n, dim)``, in float32.

    Images that are not in memory are decoded by other processes while the encoder works. One that cannot be decoded
    (a warning names it) is encoded as an evenly grey image, so that rows stay in step with the names.

    Args:
        encoder: ``(B, C, S, S)`` standardised to ``(B, dim)``; is in evaluation mode meanwhile.
        images: raw, as read.
        preprocessor: of the training.
        batch_size: images at a time, fewer if they are large.
    """
    images = preprocessor.prepare(images)
    device = next(encoder.parameters()).device
    step = max(1, min(batch_size, VALUES // (images.channels * images.size**2)))
    dim: int = encoder.dim  # type: ignore[assignment]
    out = np.empty((len(images), dim), dtype=np.float32)
    training = encoder.training
    encoder.eval()
    start = 0
    try:
        with torch.inference_mode():
            for x, readable in in_order(images.read, len(images), step, workers=0 if images.in_memory else processes()):
                z = encoder(_standardised(preprocessor, x.to(device), torch.from_numpy(readable)))
                out[start : start + len(z)] = z.float().cpu().numpy()
                start += len(z)
    finally:
        encoder.train(training)
    return out


def _standardised(preprocessor: ImagePreprocessor, x: Tensor, readable: Tensor) -> Tensor:
    x = preprocessor(x)
    return x if readable.all() else x * readable.to(x.device).view(-1, 1, 1, 1)  # 0 is the mean of each channel
