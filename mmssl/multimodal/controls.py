"""What aligned towers have to beat: captions that share words, images that share colours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from mmssl.multimodal.pairs import PairSet
from mmssl.vision.controls import pixels
from mmssl.vision.images import ImageSet
from mmssl.vision.preprocess import ImagePreprocessor

Floats = npt.NDArray[np.float32]
BINS = 16  # of a channel
WORDS = 4096  # most that TF-IDF counts
NEAREST = 10  # training pairs that a caption is looked up in


def colours(images: ImageSet, preprocessor: ImagePreprocessor) -> Floats:
    """Histogram of the values of each channel, in sixteen steps: ``(n, 16 C)``, shares of the pixels."""
    images = preprocessor.prepare(images)
    out = np.empty((len(images), images.channels * BINS), dtype=np.float32)
    for i in range(len(images)):
        raw, _ = images.read(np.array([i]))
        x = raw[0].numpy().astype(np.float32) / (255 if raw.dtype == torch.uint8 else 1)
        bins = np.clip(x * BINS, 0, BINS - 1).astype(np.int64).reshape(images.channels, -1)
        bins += BINS * np.arange(images.channels)[:, None]
        out[i] = np.bincount(bins.ravel(), minlength=out.shape[1]) / bins.shape[1]
    return out


class NearestPairs:
    """Search without training: a caption's nearest training captions by TF-IDF, and images like the ones of these.

    Captions and images are compared through the training pairs: a caption is the mean of the images of its ten nearest
    training captions, in standardised pixels and colours.

    Args:
        train: the pairs that the encoder learns from.
        preprocessor: of the images.
    """

    def __init__(self, train: PairSet, preprocessor: ImagePreprocessor) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.train = train
        self.preprocessor = preprocessor
        self.tfidf = TfidfVectorizer(max_features=WORDS, token_pattern=r"\S+", sublinear_tf=True)
        self.known = self.tfidf.fit_transform(train.captions.tolist()).T.tocsr()  # (words, m), sparse
        self.seen = self.embed_images(train.images)

    def embed_images(self, images: ImageSet) -> Floats:
        """``(n, D)`` of length 1: pixels and colours, each of length 1 before they are joined."""
        parts = [pixels(images, self.preprocessor), np.sqrt(colours(images, self.preprocessor))]
        joined = np.concatenate([_unit(part - part.mean(axis=1, keepdims=True)) for part in parts], axis=1)
        return _unit(joined)

    def embed_text(self, captions: Sequence[str]) -> Floats:
        """``(m, D)`` of length 1, among the images; zeros where no word is known."""
        words = self.tfidf.transform(list(captions))
        out = np.zeros((len(captions), self.seen.shape[1]), dtype=np.float32)
        for row in range(len(captions)):
            found = words[row] @ self.known  # (1, m), sparse
            best = np.argsort(-found.data, kind="stable")[:NEAREST]
            if len(best):
                out[row] = found.data[best] @ self.seen[self.train.owners[found.indices[best]]]
        return _unit(out)


def word_counts(train: PairSet, test: PairSet) -> tuple[Floats, Floats]:
    """TF-IDF of the first caption of each image, ``(n, words)`` and ``(m, words)``."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    tfidf = TfidfVectorizer(max_features=WORDS // 4, token_pattern=r"\S+")
    known = tfidf.fit_transform(train.captions[train.first].tolist())
    new = tfidf.transform(test.captions[test.first].tolist())
    return known.toarray().astype(np.float32), new.toarray().astype(np.float32)


def _unit(x: Floats) -> Floats:
    out: Floats = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return out
