"""Pretrain HuBERT on recordings, and say whether that helped: all of its iterations by one command.

    python -m mmssl.recipes.audio_hubert                                  # synthetic spoken words, two cores
    python -m mmssl.recipes.audio_hubert data.path=recordings data.rate=16000
    python -m mmssl.recipes.audio_hubert data.path=recordings data.rate=16000 method.clusters=[100,500]
    python -m mmssl.recipes.audio_hubert --config-dir recipes/audio_hubert --config-name fsdd data.root=<folder>

HuBERT (Hsu et al., 2021, arXiv 2106.07447). Each number of clusters is an iteration: the first finds units by k-means
on MFCC, each other one on a layer of the encoder that the one before has trained. A run that was stopped goes on where
it was, in whichever iteration. Measured results stand in recipes/audio_hubert/README.md.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmssl.audio.hubert import HuBERT
from mmssl.audio.preprocess import Preprocessor
from mmssl.audio.units import FrameFeatures, Units, UnitSource, cepstra, find_units, hidden
from mmssl.audio.wav2vec2_encoder import Wav2Vec2Encoder
from mmssl.core.health import Diagnosis
from mmssl.recipes.audio import train_config
from mmssl.recipes.audio_speech import SpeechConfig, SpeechExperiment, SpeechRecipe, run_speech, usual_span
from mmssl.recipes.command import command_line
from mmssl.recipes.experiment import Sizes, Training, filled
from mmssl.recipes.training import TrainConfig
from mmssl.train.run import Run


@dataclass
class MethodConfig:
    """HuBERT; None is worked out from the length of the clips. Without a comment: the paper's."""

    clusters: list[int] = field(default_factory=lambda: [100, 100])  # of each iteration; 100 and 500 in the paper
    layer: int | None = None  # whose outputs are clustered, counted from 1; None: the middle one, 6 of 12 in the paper
    restart: bool = False  # every iteration starts with random weights, as in the paper, not with those of the last one
    probability: float = 0.8
    span: int | None = None  # frames; None: a tenth of a usual clip, from 3 to 10, the paper's
    dim: int = 64  # 256 in the paper
    temperature: float = 0.1
    seen: float = 1.0  # weight of frames that are not masked; 0 in the paper's own models
    feature_penalty: float = 1.0  # 10 in the paper


@dataclass
class Config(SpeechConfig):
    """All of the recipe's settings; ``train.steps`` are those of each iteration."""

    train: TrainConfig = field(
        default_factory=lambda: train_config(
            seeds=1, batch_size=32, lr=2e-3, betas=[0.9, 0.98], weight_decay=0.01, warmup=0.1
        )
    )
    method: MethodConfig = field(default_factory=MethodConfig)


def main(cfg: Config) -> Path:
    """Pretrain, evaluate, report; returns the run folder."""
    return run_speech(cfg, RECIPE, kind=HuBERTExperiment)


def build(encoder: Any, cfg: Config, preprocessor: Preprocessor, *, iteration: int = 1) -> HuBERT:
    """The method of one iteration, counted from 1."""
    if not cfg.method.clusters:
        raise ValueError("method.clusters is empty: give the number of clusters of each iteration, such as [100,500]")
    settings = {k: v for k, v in vars(cfg.method).items() if k not in ("clusters", "layer", "restart")}
    return HuBERT(encoder, cfg.method.clusters[iteration - 1], augment=preprocessor, **settings)


def settle(method: MethodConfig, sizes: Sizes, *, frames: int) -> MethodConfig:
    return filled(method, span=usual_span(frames))


class HuBERTExperiment(SpeechExperiment):
    """One seed is several trainings, each with units of its own; see `Experiment`."""

    iteration = 1
    units: Units

    def pretrained(self, encoder: nn.Module, run: Run, seed: int) -> tuple[nn.Module, Diagnosis]:
        """All iterations, the last one with ``encoder``; the others in folders of their own inside that of the run."""
        last = len(self.cfg.method.clusters)
        first = copy.deepcopy(encoder)
        method: Any = None
        for self.iteration in range(1, last + 1):
            self.units = self._found(None if method is None else method.export(), run, seed)
            folder = run if self.iteration == last else self._inside(run)
            torch.manual_seed(seed + self.iteration)  # so that one that was finished before changes nothing
            again = self.cfg.method.restart and self.iteration < last
            student = copy.deepcopy(first) if again else encoder
            method, diagnosis = super().pretrained(student, folder, seed)
        return method, diagnosis

    def training(self, encoder: nn.Module, seed: int) -> Training:
        assert isinstance(encoder, Wav2Vec2Encoder)
        method = build(encoder, self.cfg, self.preprocessor, iteration=self.iteration)
        plain = self.source()
        source = UnitSource(plain.clips, self.units, encoder, crop=plain.crop, batch_size=plain.batch_size)
        return replace(super().training(encoder, seed), method=method, source=source)

    def _inside(self, run: Run) -> Run:
        """The folder of this iteration, made by rank 0."""
        folder = run.path / f"iteration-{self.iteration}"
        if self.fabric.global_rank == 0:
            Run.at(folder)
        self.fabric.barrier()
        return Run(folder)

    def _found(self, teacher: Wav2Vec2Encoder | None, run: Run, seed: int) -> Units:
        """Units of this iteration, of rank 0 for all; those of a run that was stopped are read."""
        clusters, file = self.cfg.method.clusters[self.iteration - 1], run.path / f"units-{seed}-{self.iteration}.npz"
        if self.fabric.global_rank == 0 and not file.exists():
            found = find_units(self.data.train, self._features(teacher), clusters=clusters, seed=seed)
            found.save(part := file.with_suffix(".part.npz"))
            part.replace(file)
        self.fabric.barrier()
        units = Units.load(file)
        if self.fabric.global_rank == 0:
            what = "MFCC" if teacher is None else f"layer {self._layer(teacher)}"
            line = f"{clusters} clusters of {what}, perplexity {units.perplexity:.1f}"
            print(f"seed {seed}, iteration {self.iteration}: {line}", flush=True)
        return units

    def _features(self, teacher: Wav2Vec2Encoder | None) -> FrameFeatures:
        if teacher is None:
            return cepstra(self.data.rate)
        return hidden(teacher, self._layer(teacher), self.preprocessor)

    def _layer(self, teacher: Wav2Vec2Encoder) -> int:
        return self.cfg.method.layer or (teacher.arguments["depth"] + 1) // 2


RECIPE = SpeechRecipe("audio_hubert", "HuBERT", build=build, settle=settle, steps=200)

if __name__ == "__main__":
    command_line(main, Config, prog=f"python -m mmssl.recipes.{RECIPE.name}")
