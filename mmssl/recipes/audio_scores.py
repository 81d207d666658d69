"""What every recipe for audio scores and shows: labelled clips, statistics of spectra as controls, and fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from lightning_fabric import Fabric
from torch import nn

from mmssl.audio.clips import ClipSet, ClipSource
from mmssl.audio.controls import mel_statistics, mfcc_statistics
from mmssl.audio.dataset import AudioData
from mmssl.audio.embedder import ClipEmbedder
from mmssl.audio.encode import LONGEST, encode_clips
from mmssl.audio.preprocess import Preprocessor
from mmssl.recipes.results import Embedded
from mmssl.recipes.scores import EncoderScores, EvaluateConfig, Task
from mmssl.train.finetune import finetune, predict, strategies

CONTROLS = {"mel": "mel statistics", "mfcc": "MFCC statistics"}
STATISTICS = {"mel": mel_statistics, "mfcc": mfcc_statistics}


@dataclass
class AudioEvaluateConfig(EvaluateConfig):
    """How features are scored; only where there are labels."""

    protocols: list[str] = field(default_factory=lambda: ["linear", "knn200"])  # the first one decides
    controls: list[str] = field(default_factory=lambda: list(CONTROLS))
    strategy: str = "none"  # fine-tuning: none, auto (by the number of labels), linear, partial, full, or all
    max_clips: int = 20_000  # labelled clips of each part that are scored; more are drawn from at random


class AudioScores(EncoderScores):
    """Scores on labelled clips.

    Args:
        data: its labelled clips are scored; without a test part nothing is.
        preprocessor: of the encoders.
        cfg: protocols, draws, controls and fine-tuning.
        method: subject id of the pretrained encoder.
        title: its readable name.
    """

    def __init__(
        self, data: AudioData, preprocessor: Preprocessor, cfg: AudioEvaluateConfig, *, method: str, title: str
    ) -> None:
        self.data = data
        self.preprocessor = preprocessor
        self.strategy = cfg.strategy
        strategies(cfg.strategy, n_labelled=0)  # complains of an unknown one now, not after the training
        task = self._clips(cfg.max_clips)
        super().__init__(task, cfg, method=method, title=title, controls=CONTROLS)

    def _clips(self, limit: int) -> Task | None:
        """Keep the labelled clips; the task that they are."""
        data = self.data
        if data.test is None:
            return None
        self.train, train_y = labelled(data.train, limit=limit)
        self.test, test_y = labelled(data.test, limit=limit)
        if not len(self.test):
            return None
        return Task(
            data.name,
            data.split,
            train_y,
            test_y,
            self.test.groups if held_out(self.train, self.test) else None,
            examples="clips",
            entities="speakers or other groups",
        )

    def controls(self) -> None:
        for name in self.cfg.controls if self.labelled else ():
            self.add(name, 0, STATISTICS[name](self.train), STATISTICS[name](self.test))

    def encoder(self, encoder: nn.Module, *, subject: str, seed: int, fabric: Fabric) -> None:
        """Score the frozen features of an encoder, and what fine-tuning makes of it."""
        task = self.task
        if task is None:
            return
        if fabric.global_rank == 0:
            train, test = (encode_clips(encoder, clips, self.preprocessor) for clips in (self.train, self.test))
            self.add(subject, seed, train, test)
        for strategy in strategies(self.strategy, n_labelled=len(task.train_y)):
            tuned = finetune(
                encoder,
                strategy,
                source=self._source(self.train),
                labels=task.train_codes,
                n_classes=len(task.classes),
                fabric=fabric,
                preprocess=self.preprocessor,
                seed=seed,
            )
            if fabric.global_rank == 0:
                codes = predict(tuned, self._source(self.test), fabric=fabric)
                self.add_predictions(subject, tuned.protocol, seed, task.classes[codes])

    def _source(self, clips: ClipSet) -> ClipSource:
        """Clips as whole as memory allows."""
        return ClipSource(clips, crop=round(LONGEST * clips.rate))


def labelled(clips: ClipSet, *, limit: int) -> tuple[ClipSet, npt.NDArray[np.str_]]:
    """The clips with a label, at most ``limit`` of them, and their labels."""
    labels = clips.labels if clips.labels is not None else np.full(len(clips), None, dtype=object)
    index = np.flatnonzero([label is not None for label in labels])
    if len(index) > limit:
        index = np.sort(np.random.default_rng(0).choice(index, limit, replace=False))
    return clips.subset(index), np.array([str(label) for label in labels[index]])


def held_out(train: ClipSet, test: ClipSet) -> bool:
    """Is no group of the test part known from training? Then new groups are what the scores are about."""
    return train.groups is not None and test.groups is not None and not set(train.groups) & set(test.groups)


def embedded_clips(data: AudioData, embedder: ClipEmbedder) -> Embedded:
    """All clips, train first."""
    parts = [("train", data.train)] + ([("test", data.test)] if data.test is not None else [])
    names = np.concatenate([clips.names for _, clips in parts])
    columns = {
        "clip": names,
        "split": np.concatenate([np.full(len(clips), part) for part, clips in parts]),
        "label": np.concatenate([
            clips.labels if clips.labels is not None else np.full(len(clips), None) for _, clips in parts
        ]),
    }  # fmt: skip
    if data.train.groups is not None:
        columns["group"] = np.concatenate([clips.groups for _, clips in parts if clips.groups is not None])
    return Embedded(
        features=np.concatenate([embedder.features(clips) for _, clips in parts]),
        columns=columns,
        name=lambda i: str(names[i]),
    )
