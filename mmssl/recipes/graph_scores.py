"""What every recipe for graphs scores and shows: labelled graphs or nodes, and the controls that fit them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from lightning_fabric import Fabric
from torch import nn

from mmssl.eval.features import Features
from mmssl.eval.folds import PROTOCOL, svm_in_folds
from mmssl.eval.measures import ACCURACY, AUC, MEASURES, R2, Measure
from mmssl.graph.controls import histogram, neighbourhoods, weisfeiler_lehman
from mmssl.graph.dataset import GraphData
from mmssl.graph.encode import encode_graphs
from mmssl.graph.graphset import GraphSource, Ints
from mmssl.graph.molecules import morgan
from mmssl.recipes.results import Embedded
from mmssl.recipes.scores import EncoderScores, EvaluateConfig, Task
from mmssl.train.finetune import estimates, finetune, probabilities, strategies

CONTROLS = {
    "histogram": "counts of features and degrees",
    "weisfeiler-lehman": "Weisfeiler–Lehman features",
    "morgan": "Morgan fingerprints",
    "neighbourhood": "features of the neighbourhood",
}


@dataclass
class FineTuneConfig:
    """Fitting encoder and head to the labels of graphs; as many epochs from random weights."""

    strategy: str = "none"  # auto (by the number of labels), linear, partial, full, or all
    epochs: int = 100
    batch_size: int = 128
    lr_encoder: float = 1e-3
    lr_head: float = 1e-3


@dataclass
class GraphEvaluateConfig(EvaluateConfig):
    """How features of graphs or nodes are scored; only where there are labels. In folds, by one protocol of its own."""

    protocols: list[str] = field(default_factory=lambda: ["linear"])  # the first one decides
    controls: list[str] = field(default_factory=lambda: list(CONTROLS))  # those that fit the data are scored
    measure: str = "auto"  # what decides: accuracy, auc for two classes of molecules, r2 for numbers
    labels: float | None = None  # share of the labelled training examples that is used, drawn at random; None: all
    finetune: FineTuneConfig = field(default_factory=FineTuneConfig)


class GraphScores(EncoderScores):
    """Scores on labelled graphs or nodes.

    Args:
        data: its labelled examples are scored.
        cfg: protocols, draws and controls.
        method: subject id of the pretrained encoder.
        title: its readable name.

    Raises:
        ValueError: a setting is impossible for this data.
    """

    def __init__(self, data: GraphData, cfg: GraphEvaluateConfig, *, method: str, title: str) -> None:
        self.data = data
        self.finetune = cfg.finetune
        self.train = _chosen(data, cfg.labels)
        if cfg.finetune.strategy != "none" and (data.folds or data.examples.level == "node"):
            raise ValueError(
                f"evaluate.finetune.strategy={cfg.finetune.strategy} is for graphs that are held out: set "
                "data.split=random, or leave it away for nodes"
            )
        fitting = _fitting(data)
        if not [name for name in cfg.controls if name not in CONTROLS]:  # unknown ones are refused below
            cfg = replace(cfg, controls=[name for name in cfg.controls if name in fitting])
        super().__init__(_task(data, self.train, cfg), cfg, method=method, title=title, controls=CONTROLS)

    @property
    def primary(self) -> str:
        return PROTOCOL if self.data.folds else super().primary

    def controls(self) -> None:
        if self.labelled:
            for name in self.cfg.controls:
                self._add(name, 0, _fitting(self.data)[name]())

    def encoder(self, encoder: nn.Module, *, subject: str, seed: int, fabric: Fabric) -> None:
        if not self.labelled:
            return
        if fabric.global_rank == 0:
            self._add(subject, seed, encode_graphs(encoder, self.data.graphs))
        for protocol, outputs in self._fine_tuned(encoder, fabric, seed):
            if fabric.global_rank == 0:
                self._add_outputs(subject, protocol, seed, outputs)

    def _add(self, subject: str, seed: int, features: Features) -> None:
        """Score features ``(n, D)`` of all examples."""
        if not self.data.folds:
            assert self.data.test is not None
            self.add(subject, seed, features[self.train], features[self.data.test])
            return
        predictions = svm_in_folds(features[self.train], self._task().train_y, seed=seed)
        self.add_predictions(subject, PROTOCOL, seed, predictions)

    def _fine_tuned(self, encoder: nn.Module, fabric: Fabric, seed: int) -> Iterator[tuple[str, Features]]:
        """Protocol ids, and probabilities ``(m, n_classes)`` of the test graphs, or estimates ``(m,)``."""
        settings = asdict(self.finetune)
        task, regression = self._task(), self.data.examples.classes is None
        labels = task.train_y.astype(np.float32) if regression else task.train_codes
        for strategy in strategies(settings.pop("strategy"), n_labelled=len(labels)):
            assert self.data.test is not None
            graphs = self.data.graphs.to(fabric.device)
            tuned = finetune(
                encoder,
                replace(strategy, **settings),
                source=GraphSource(graphs, self.train),
                labels=labels,
                n_classes=None if regression else len(task.classes),
                fabric=fabric,
                seed=seed,
            )
            outputs = estimates if regression else probabilities
            yield tuned.protocol, outputs(tuned, GraphSource(graphs, self.data.test), fabric=fabric)

    def _add_outputs(self, subject: str, protocol: str, seed: int, outputs: Features) -> None:
        task = self._task()
        if self.data.examples.classes is None:
            self.add_predictions(subject, protocol, seed, outputs)
        else:
            scores = outputs[:, 1] if task.measure is AUC else None
            self.add_predictions(subject, protocol, seed, task.classes[outputs.argmax(axis=1)], scores=scores)


def embedded_examples(data: GraphData, features: Features) -> Embedded:
    """All graphs or nodes, in their order."""
    examples = data.examples
    part = np.full(len(examples), "", dtype=object)
    for name, positions in (("test", data.test), ("train", data.train)):
        if positions is not None:
            part[positions] = "folds" if data.folds else name
    key = "smiles" if examples.smiles is not None else examples.level
    columns: dict[str, npt.NDArray[Any]] = {key: examples.names, "split": part}
    if examples.labels is not None and examples.classes is not None:
        known = np.array([*examples.classes, None], dtype=object)
        columns["label"] = known[np.nan_to_num(examples.labels, nan=len(examples.classes)).astype(np.int64)]
    elif examples.labels is not None:
        columns["target"] = examples.labels
    return Embedded(features, columns, name=lambda i: f"{key} {examples.names[i]}")


def _fitting(data: GraphData) -> dict[str, Callable[[], Features]]:
    """The controls that this data allows, each gives ``(n, D)`` for all examples."""
    if data.examples.level == "node":
        return {"neighbourhood": lambda: neighbourhoods(data.plain)}
    found: dict[str, Callable[[], Features]] = {
        "histogram": lambda: histogram(data.plain),
        "weisfeiler-lehman": lambda: weisfeiler_lehman(data.categories),
    }
    smiles = data.examples.smiles
    return found if smiles is None else {**found, "morgan": lambda: morgan(smiles.tolist())}


def _chosen(data: GraphData, share: float | None) -> Ints:
    """Labelled training examples that are used: all, or a random share, of each class one at least."""
    if share is None:
        return data.train
    if not 0 < share <= 1:
        raise ValueError(f"evaluate.labels must be a share of the training labels in (0, 1], got {share}")
    if data.folds:
        raise ValueError(f"evaluate.labels={share} needs graphs that are held out: set data.split=random")
    labels, rng = data.examples.labels, np.random.default_rng(0)
    if labels is None:
        return data.train
    codes = np.zeros(len(data.train)) if data.examples.classes is None else labels[data.train]
    parts = [rng.permutation(data.train[codes == code]) for code in np.unique(codes)]
    return np.sort(np.concatenate([part[: max(1, round(share * len(part)))] for part in parts]))


def _task(data: GraphData, train: Ints, cfg: GraphEvaluateConfig) -> Task | None:
    examples = data.examples
    if data.test is None or examples.labels is None:
        return None
    regression = examples.classes is None
    train_y, test_y = (_labels(data, part) for part in (train, data.test))
    if len(np.unique(train_y)) < 2:
        raise ValueError(
            f"all {len(train_y)} labelled training {examples.level}s have the label {train_y[0]!r}: there is nothing "
            "to learn; split another way (data.split)"
        )
    decides = _measure(cfg.measure, regression, molecules=examples.smiles is not None, train_y=train_y, test_y=test_y)
    if data.folds and decides is not ACCURACY:
        raise ValueError(f"evaluate.measure={cfg.measure} cannot decide in folds; take accuracy, or another data.split")
    split = data.split if cfg.labels is None else f"{data.split}/labels={cfg.labels:g}"
    return Task(data.name, split, train_y, test_y, examples=f"{examples.level}s", measure=decides)


def _labels(data: GraphData, positions: Ints) -> npt.NDArray[Any]:
    """Names of the classes, or numbers."""
    labels, classes = data.examples.labels, data.examples.classes
    assert labels is not None
    return labels[positions] if classes is None else np.array(classes)[labels[positions].astype(np.int64)]


def _measure(
    name: str, regression: bool, *, molecules: bool, train_y: npt.NDArray[Any], test_y: npt.NDArray[Any]
) -> Measure:
    if name != "auto" and name not in MEASURES:
        raise ValueError(f"evaluate.measure must be auto, {', '.join(MEASURES)}, got {name!r}")
    both = len(np.unique(train_y)) == 2 and np.array_equal(np.unique(train_y), np.unique(test_y))
    if name == "auto":
        return R2 if regression else AUC if molecules and both else ACCURACY
    measure = MEASURES[name]
    if (measure is R2) != regression:
        raise ValueError(
            f"evaluate.measure={name} does not fit the label, which is a {'number' if regression else 'class'}"
        )
    if measure is AUC and not both:
        raise ValueError("evaluate.measure=auc needs two classes, both among the training and the test examples")
    return measure
