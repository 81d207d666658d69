"""What every vision recipe scores and shows: labelled images, raw pixels as the control, and fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from lightning_fabric import Fabric
from torch import nn

from mmssl.recipes.results import Embedded
from mmssl.recipes.scores import EncoderScores, EvaluateConfig, Task
from mmssl.train.finetune import finetune, predict, strategies
from mmssl.vision.controls import pixels
from mmssl.vision.dataset import ImageData, ImageSource, labelled
from mmssl.vision.embedder import ImageEmbedder
from mmssl.vision.encode import encode_images
from mmssl.vision.pictures import thumbnail

CONTROLS = {"pixels": "raw pixels"}


@dataclass
class VisionEvaluateConfig(EvaluateConfig):
    """How features are scored; only where there are labels."""

    protocols: list[str] = field(default_factory=lambda: ["probe", "knn200"])
    controls: list[str] = field(default_factory=lambda: list(CONTROLS))
    strategy: str = "none"  # fine-tuning: none, auto (by the number of labels), linear, partial, full, or all
    max_images: int = 60_000  # labelled images of each part that are scored; more are drawn from at random


class ImageScores(EncoderScores):
    """Scores on labelled images.

    Args:
        data: its labelled images are scored; without a test part nothing is.
        cfg: protocols, draws, controls and fine-tuning.
        method: subject id of the pretrained encoder.
        title: its readable name.
    """

    def __init__(self, data: ImageData, cfg: VisionEvaluateConfig, *, method: str, title: str) -> None:
        self.data = data
        self.strategy = cfg.strategy
        strategies(cfg.strategy, n_labelled=0)  # complains of an unknown one now, not after the training
        task = self._images(cfg.max_images)
        super().__init__(task, cfg, method=method, title=title, controls=CONTROLS)

    def _images(self, limit: int) -> Task | None:
        """Keep the labelled images; the task that they are."""
        data = self.data
        if data.test is None:
            return None
        self.train, train_y = labelled(data.train, limit=limit, seed=0)
        self.test, test_y = labelled(data.test, limit=limit, seed=0)
        if not len(self.test):
            return None
        return Task(
            data.name,
            data.split,
            np.asarray(train_y.tolist()),  # numbers or text, no longer objects: scikit-learn refuses objects
            np.asarray(test_y.tolist()),
            self.test.groups,
            examples="images",
        )

    def controls(self) -> None:
        """Score what has nothing to do with the encoder."""
        for name in self.cfg.controls if self.labelled else ():
            train, test = (pixels(images, self.data.preprocessor) for images in (self.train, self.test))
            self.add(name, 0, train, test)

    def encoder(self, encoder: nn.Module, *, subject: str, seed: int, fabric: Fabric) -> None:
        """Score the frozen features of an encoder, and what fine-tuning makes of it."""
        task = self.task
        if task is None:
            return
        if fabric.global_rank == 0:
            train, test = (encode_images(encoder, images, self.data.preprocessor) for images in (self.train, self.test))
            self.add(subject, seed, train, test)
        for strategy in strategies(self.strategy, n_labelled=len(task.train_y)):
            tuned = finetune(
                encoder,
                strategy,
                source=ImageSource(self.train, device=fabric.device),
                labels=task.train_codes,
                n_classes=len(task.classes),
                fabric=fabric,
                preprocess=self.data.preprocessor,
                seed=seed,
            )
            if fabric.global_rank == 0:
                codes = predict(tuned, ImageSource(self.test, device=fabric.device), fabric=fabric)
                self.add_predictions(subject, tuned.protocol, seed, task.classes[codes])


def embedded(data: ImageData, embedder: ImageEmbedder) -> Embedded:
    """All images, train first."""
    parts = [("train", data.train)] + ([("test", data.test)] if data.test is not None else [])
    names = np.concatenate([images.names for _, images in parts])
    labels = np.concatenate([
        images.labels if images.labels is not None else np.full(len(images), None) for _, images in parts
    ])  # fmt: skip
    ends = np.cumsum([len(images) for _, images in parts])

    def picture(i: int) -> str:
        part = int(np.searchsorted(ends, i, side="right"))
        images = parts[part][1]
        return thumbnail(images.fetch(np.asarray([i - (ends[part] - len(images))]))[0])

    return Embedded(
        features=np.concatenate([embedder.features(images) for _, images in parts]),
        columns={
            "image": names,
            "split": np.concatenate([np.full(len(images), part) for part, images in parts]),
            "label": labels,
        },
        name=lambda i: str(names[i]),
        picture=picture,
    )
