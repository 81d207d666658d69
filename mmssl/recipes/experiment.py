"""The way from a configuration to a report, the same for every recipe; a modality says what its data needs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from lightning_fabric import Fabric
from torch import nn

from mmssl.core.health import Diagnosis
from mmssl.core.statistics import estimate_statistics
from mmssl.eval.report import Section
from mmssl.recipes import session
from mmssl.recipes.results import Embedded, write_results
from mmssl.recipes.scores import UNTRAINED, EncoderScores
from mmssl.recipes.sweep import sweep
from mmssl.recipes.training import train_seed
from mmssl.train.batches import ShuffledBatches, Source
from mmssl.train.export import Exportable, save_embedder
from mmssl.train.fit import setup_fabric
from mmssl.train.pretrain import Probe
from mmssl.train.run import Run

ESTIMATED = 10  # batches for the statistics of batch normalisation before training
C = TypeVar("C", bound=Any)


@dataclass(frozen=True)
class Recipe:
    """What tells one recipe from another; a modality adds to it.

    Args:
        name: of its module, ``<modality>_<method>``.
        title: of its method.
    """

    name: str
    title: str

    @property
    def subject(self) -> str:
        """The method's id in results.json."""
        return self.name.split("_", 1)[1].replace("_", "-")


@dataclass(frozen=True)
class Sizes:
    """What settings are worked out from.

    Args:
        samples: to train on.
        batch: of a step, over all processes.
        steps: of the training.
        dim: of the encoder.
    """

    samples: int
    batch: int
    steps: int
    dim: int

    @property
    def epoch(self) -> float:
        """Share of the training that one epoch is; a tenth at most, as a short training may end before."""
        return min(0.1, self.samples / self.batch / self.steps)


@dataclass(frozen=True, eq=False)
class Training:
    """What one seed trains.

    Args:
        method: a `Method`.
        source: gives its batches.
        probe, stop: see `mmssl.train.pretrain.pretrain`.
    """

    method: nn.Module
    source: Source
    probe: Probe
    stop: Callable[[Sequence[Mapping[str, float]]], bool] | None = None


class Data(Protocol):
    """What every modality's data has."""

    @property
    def name(self) -> str: ...

    @property
    def description(self) -> str: ...  # some lines, for the terminal and the report


class Experiment(ABC):
    """A configuration and its data.

    Args:
        cfg: the recipe's, all values worked out.
        recipe: whose.
        data: of ``cfg.data``.
        scores: of encoders on that data.
        fabric: device and processes.
    """

    def __init__(self, cfg: Any, recipe: Recipe, data: Data, scores: EncoderScores, fabric: Fabric) -> None:
        self.cfg = cfg
        self.recipe = recipe
        self.scores = scores
        self.fabric = fabric
        self.name, self.description = data.name, data.description

    @abstractmethod
    def make_encoder(self) -> nn.Module:
        """With random weights."""

    @abstractmethod
    def source(self) -> Source:
        """All training examples."""

    def inputs(self, batch: Any) -> Any:
        """What the encoder takes of a batch of the source."""
        return batch

    def fingerprint(self) -> Mapping[str, int | str]:
        """What tells the data from other data, by the name of each part; a run is not resumed with other data."""
        return {}

    @abstractmethod
    def training(self, encoder: nn.Module, seed: int) -> Training:
        """The method that trains ``encoder``."""

    def compile(self, method: nn.Module, encoder: nn.Module) -> None:
        """Compile what a step spends its time in."""
        encoder.compile()

    @abstractmethod
    def embedder(self, encoder: nn.Module) -> Exportable:
        """What leaves the run."""

    @abstractmethod
    def embedded(self, embedder: Any) -> Embedded:
        """All examples, train first."""

    def sections(self, method: nn.Module, encoder: nn.Module) -> list[Section]:
        """Further parts of the report, such as views; by the first seed's method and its encoder."""
        return []

    def new_encoder(self, seed: int) -> nn.Module:
        """An encoder with random weights, and the statistics that its batch normalisation has on training examples."""
        torch.manual_seed(seed)
        encoder = self.make_encoder().to(self.fabric.device)
        seen = ShuffledBatches(self.source(), batch_size=self.cfg.train.batch_size, seed=seed)
        estimate_statistics(encoder, (self.inputs(batch) for batch in islice(seen(), ESTIMATED)))
        return encoder

    def pretrained(self, encoder: nn.Module, run: Run, seed: int) -> tuple[nn.Module, Diagnosis]:
        """The training of one seed into ``run``, or what is left of it there; the method, and its health."""
        training = self.training(encoder, seed)
        method = training.method
        if self.fabric.device.type == "cuda" and self.fabric.world_size > 1:  # torch has none for CPUs
            method = nn.SyncBatchNorm.convert_sync_batchnorm(method)
        if self.cfg.train.compile:
            self.compile(method, encoder)
        diagnosis = train_seed(
            method,
            training.source,
            probe=training.probe,
            stop=training.stop,
            train=self.cfg.train,
            health=self.cfg.health,
            run=run,
            fabric=self.fabric,
            seed=seed,
        )
        return method, diagnosis


# opens the data of a configuration and works out its settings
Prepare = Callable[[Any, Any, Fabric], Experiment]


def run_recipe(cfg: Any, recipe: Recipe, prepare: Prepare) -> Path:
    """Pretrain, evaluate, report, for the data of ``cfg.data``; returns the run folder.

    A configuration that has ``names`` and some in it goes through these data sets instead, one after the other.
    """
    fabric = setup_fabric(device=cfg.train.device, precision=cfg.train.precision)
    cfg = session.configuration(cfg)
    if not getattr(cfg, "names", None):
        return run_one(cfg, recipe, prepare, fabric).path
    run = session.open_run(cfg, recipe=recipe.name, fabric=fabric)

    def one(name: str, folder: Path) -> None:
        run_one(replace(cfg, names=[], data=replace(cfg.data, name=name)), recipe, prepare, fabric, folder)

    sweep(run.path, cfg.names, one)
    return run.path


def run_one(cfg: Any, recipe: Recipe, prepare: Prepare, fabric: Fabric, folder: Path | None = None) -> Run:
    """One data set, all seeds.

    Args:
        cfg: as the user gave it.
        recipe: its own part.
        prepare: its modality's.
        fabric: device and processes.
        folder: of this data set in a sweep; None for a run of its own.
    """
    experiment = prepare(cfg, recipe, fabric)
    run = session.open_run(experiment.cfg, recipe=recipe.name, fabric=fabric, folder=folder)
    session.check_data(run, experiment.fingerprint(), resumed=cfg.resume is not None, fabric=fabric)
    whole = run if folder is None else Run(folder.parent)
    with session.resume_hint(whole, recipe.name, show=fabric.global_rank == 0):
        pretrain_and_score(experiment, run)
    return run


def pretrain_and_score(experiment: Experiment, run: Run) -> None:
    """All seeds into ``run``, then the report."""
    cfg, recipe, scores, fabric = experiment.cfg, experiment.recipe, experiment.scores, experiment.fabric
    main_rank = fabric.global_rank == 0
    if main_rank:
        print(f"{experiment.name}\n{experiment.description}\nrun: {run.path}", flush=True)
        if scores.labelled and scores.cfg.controls:
            print("scoring the controls first", flush=True)
        scores.controls()
    first: Exportable | None = None
    sections: list[Section] = []
    diagnoses = []
    for seed in range(cfg.train.seed, cfg.train.seed + cfg.train.seeds):
        encoder = experiment.new_encoder(seed)
        scores.encoder(encoder, subject=UNTRAINED, seed=seed, fabric=fabric)
        method, diagnosis = experiment.pretrained(encoder, run, seed)
        diagnoses.append(diagnosis)
        final = method.export()  # type: ignore[operator]
        scores.encoder(final, subject=recipe.subject, seed=seed, fabric=fabric)
        if first is None:
            first = experiment.embedder(final)
            if main_rank:
                save_embedder(run.path, first)
                sections = experiment.sections(method, final)
    assert first is not None
    if main_rank:
        write_results(
            run,
            cfg,
            scores,
            diagnoses,
            experiment.embedded(first),
            recipe=recipe.name,
            dataset=experiment.name,
            description=experiment.description,
            sections=sections,
        )
    fabric.barrier()


def filled(settings: C, **values: Any) -> C:
    """``settings`` with ``values`` where they are None."""
    return replace(settings, **{name: value for name, value in values.items() if getattr(settings, name) is None})
