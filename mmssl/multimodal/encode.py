"""Embeddings of many images and many texts by two towers, in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from mmssl.core.methods.alignment import Towers
from mmssl.text.tokenizer import Tokenizer
from mmssl.vision.encode import encode_images
from mmssl.vision.images import ImageSet
from mmssl.vision.preprocess import ImagePreprocessor

Floats = npt.NDArray[np.float32]
IMAGE, TEXT = "image", "text"  # the towers
BATCH = 512  # texts at a time


def embed_images(towers: Towers, images: ImageSet, preprocessor: ImagePreprocessor) -> Floats:
    """``(n, D)`` of length 1, in the shared space; see `encode_images`."""
    return encode_images(towers, images, preprocessor)


def image_features(towers: Towers, images: ImageSet, preprocessor: ImagePreprocessor) -> Floats:
    """``(n, dim)`` of the image tower before its projection, for probes."""
    return encode_images(towers.encoders[IMAGE], images, preprocessor)


def embed_text(towers: Towers, texts: Sequence[str], tokenizer: Tokenizer) -> Floats:
    """``(m, D)`` of length 1."""
    device = next(towers.parameters()).device
    out = np.empty((len(texts), towers.dim), dtype=np.float32)
    training = towers.training
    towers.eval()
    try:
        with torch.inference_mode():
            for start in range(0, len(texts), BATCH):
                tokens = tokenizer(texts[start : start + BATCH]).to(device)
                out[start : start + len(tokens)] = towers.embed(TEXT, tokens).float().cpu().numpy()
    finally:
        towers.train(training)
    return out
