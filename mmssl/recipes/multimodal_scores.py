"""What every image–text recipe scores: retrieval in both directions, zero-shot classification, probes of the images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from lightning_fabric import Fabric
from torch import nn

from mmssl.core.methods.alignment import Towers
from mmssl.eval.features import Labels
from mmssl.eval.retrieval import TEXT_TO_IMAGE, evaluate_retrieval
from mmssl.eval.zeroshot import ensemble, evaluate_zero_shot, prompts
from mmssl.multimodal.controls import NearestPairs, colours, word_counts
from mmssl.multimodal.dataset import PairData
from mmssl.multimodal.encode import Floats, embed_images, embed_text, image_features
from mmssl.multimodal.pairs import PairSet
from mmssl.recipes.scores import UNTRAINED, EncoderScores, EvaluateConfig, Task
from mmssl.text.tokenizer import Tokenizer
from mmssl.vision.controls import pixels
from mmssl.vision.images import ImageSet

NEAREST = "nearest-pairs"
LOOKED_UP = 50_000  # training images that this control has at most
CONTROLS = {
    NEAREST: "nearest training pairs",
    "pixels": "raw pixels",
    "colours": "colour histograms",
    "tfidf": "TF-IDF of the captions",
}

PLAIN = {"pixels": pixels, "colours": colours}  # features of an image that nobody trained
EmbedImages = Callable[[ImageSet], Floats]
EmbedTexts = Callable[[Sequence[str]], Floats]


@dataclass
class PairEvaluateConfig(EvaluateConfig):
    """How towers are scored: text → image R@10 on the test pairs decides. Classes only where there are labels."""

    protocols: list[str] = field(default_factory=lambda: ["probe"])  # of the image tower, before its projection
    draws: int = 0
    controls: list[str] = field(default_factory=lambda: list(CONTROLS))
    prompts: list[str] = field(default_factory=lambda: ["{}"])  # sentences in which {} is the name of a class
    max_images: int = 5_000  # of each part that are scored; more are drawn from at random


class PairScores(EncoderScores):
    """Scores on test pairs, and on labelled images.

    Args:
        data: its test pairs are scored.
        tokenizer: of the captions.
        cfg: protocols, prompts, controls and limits.
        method: subject id of the trained towers.
        title: their readable name.

    Raises:
        ValueError: a control, a protocol or a prompt that cannot be.
    """

    def __init__(
        self, data: PairData, tokenizer: Tokenizer, cfg: PairEvaluateConfig, *, method: str, title: str
    ) -> None:
        self.data = data
        self.tokenizer = tokenizer
        self.parts = {"": some(data.test, cfg.max_images)}
        if data.unseen is not None:
            self.parts["unseen characters"] = some(data.unseen, cfg.max_images)
        self.train, self.test = (labelled(part, cfg.max_images) for part in (data.train, data.test))
        train_y, test_y = (_names(part) for part in (self.train, self.test))
        self.classes = np.unique(train_y)
        self.prompts = prompts(self.classes.tolist(), cfg.prompts)
        task = Task(data.name, data.split, train_y, test_y, examples="images")
        super().__init__(task, cfg, method=method, title=title, controls=CONTROLS)
        names = {**self.subjects.names, UNTRAINED: "same towers, untrained"}
        self.subjects = replace(self.subjects, names=names)

    @property
    def primary(self) -> str:
        return TEXT_TO_IMAGE

    @property
    def has_classes(self) -> bool:
        """Are there labels to score, of two classes at least?"""
        return len(self.classes) > 1 and len(self.test) > 0

    def controls(self) -> None:
        if NEAREST in self.cfg.controls:
            nearest = NearestPairs(some(self.data.train, LOOKED_UP), self.data.preprocessor)
            self._aligned(NEAREST, 0, nearest.embed_images, nearest.embed_text)
        for name in self.cfg.controls if self.has_classes else ():
            if name == "tfidf":
                self.add(name, 0, *word_counts(self.train, self.test))
            elif name != NEAREST:
                of = PLAIN[name]
                self.add(name, 0, *(of(part.images, self.data.preprocessor) for part in (self.train, self.test)))

    def encoder(self, encoder: nn.Module, *, subject: str, seed: int, fabric: Fabric) -> None:
        if fabric.global_rank > 0:
            return
        assert isinstance(encoder, Towers)
        self._aligned(
            subject,
            seed,
            lambda images: embed_images(encoder, images, self.data.preprocessor),
            lambda texts: embed_text(encoder, texts, self.tokenizer),
        )
        if self.has_classes:
            parts = (self.train, self.test)
            self.add(subject, seed, *(image_features(encoder, p.images, self.data.preprocessor) for p in parts))

    def _aligned(self, subject: str, seed: int, images: EmbedImages, texts: EmbedTexts) -> None:
        """Retrieval, and the classes by their names, of what brings images and texts into one space."""
        of: dict[str, Any] = {"dataset": self.data.name, "subject": subject, "seed": seed, "split": self.data.split}
        of["n_train"] = len(self.data.train.captions)
        for part, pairs in self.parts.items():
            captions = texts(pairs.captions.tolist())
            self.evaluations.append(evaluate_retrieval(images(pairs.images), captions, pairs.owners, part=part, **of))
        if self.has_classes:
            classes = ensemble(texts(self.prompts), len(self.classes))
            found = images(self.test.images)
            self.evaluations.append(evaluate_zero_shot(found, classes, self.classes, self._task().test_y, **of))


def some(pairs: PairSet, limit: int) -> PairSet:
    """At most ``limit`` images with their captions, drawn at random, always the same."""
    if len(pairs) <= limit:
        return pairs
    return pairs.subset(np.sort(np.random.default_rng(0).choice(len(pairs), limit, replace=False)))


def labelled(pairs: PairSet, limit: int) -> PairSet:
    """At most ``limit`` images that have a label, with their captions."""
    labels = pairs.images.labels
    known = np.zeros(0) if labels is None else np.flatnonzero([label is not None for label in labels])
    return some(pairs.subset(known.astype(np.int64)), limit)


def _names(pairs: PairSet) -> Labels:
    labels = pairs.images.labels
    return np.asarray([] if labels is None else labels.tolist(), dtype=np.str_)
