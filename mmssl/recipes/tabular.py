"""What the recipes for tables share: their configuration, and the way from rows to a report.

A recipe adds the settings of its method, the encoder that its paper has, and how the method is put together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from mmssl.core.distributed import rank, world_size
from mmssl.recipes.experiment import Experiment, Recipe, Sizes, Training, run_recipe
from mmssl.recipes.results import Embedded
from mmssl.recipes.table_scores import RowScores, Semi, TabularEvaluateConfig
from mmssl.recipes.training import HealthConfig, TrainConfig, work_out
from mmssl.tabular.augment import Marginals, ScarfViews, corrupted_columns
from mmssl.tabular.dataset import DataConfig, TableData, TableSource, load_data
from mmssl.tabular.embedder import TableEmbedder
from mmssl.tabular.encoder import ENCODERS
from mmssl.tabular.stopping import Patience, fixed_loss
from mmssl.train.batches import Source
from mmssl.train.pretrain import Probe

DEFAULT_DATA = "breast_cancer"
LOOKED_AT = 256  # rows that health looks at
EPOCHS = 100  # at most, unless train.steps or train.epochs says otherwise; one of a table that is streamed
FEWEST_STEPS = 1_000  # of it, for small tables
LOOK_EVERY = 25  # steps at least from one look at the validation rows to the next
LOOK_WITHIN = 2_000  # steps at most
SIZES = {"ResNet": (256, 3), "FTTransformer": (64, 3)}  # hidden, depth; those of an MLP are the method's


@dataclass
class ModelConfig:
    """The encoder; None stands for the method's value."""

    name: str = "MLP"  # ResNet, or FTTransformer, whose tokens are cells
    hidden: int | None = None  # width of the layers, or of a token: the size of an embedding
    depth: int | None = None  # layers or blocks
    numeric: str | None = None  # numbers as linear, periodic or piecewise embeddings; None: as they are
    cell_dim: int = 16  # of these embeddings, in an MLP or ResNet
    heads: int = 4  # of a transformer
    dropout: float = 0.0


@dataclass
class StoppingConfig:
    """Rows that the encoder does not learn from, whose loss under fixed corruptions ends the training."""

    fraction: float = 0.1  # of the training rows, or whole blocks of a table that is streamed; 0 trains all steps
    patience: int | None = 3  # looks (an epoch, 25 to 2,000 steps apart) without a new minimum; None trains all steps


def train_config() -> TrainConfig:
    """The training section of a recipe for tables: Adam 1e-3 and batches of 128, as in both papers."""
    return TrainConfig(batch_size=128, optimizer="adam", lr=1e-3, weight_decay=0.0)


@dataclass
class TabularConfig:
    """All settings of a recipe for tables but those of its method."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=train_config)
    stopping: StoppingConfig = field(default_factory=StoppingConfig)
    health: HealthConfig = field(default_factory=HealthConfig)
    evaluate: TabularEvaluateConfig = field(default_factory=TabularEvaluateConfig)
    root: str = "runs"  # folder of all runs
    resume: str | None = None  # a run folder to go on with


@dataclass(frozen=True)
class TableRecipe(Recipe):
    """What tells one recipe for tables from another.

    Args:
        sizes: width and depth of the paper's MLP for columns of these cardinalities.
        build: ``(encoder, cfg, rows, cardinalities)`` to the method; rows ``(n, M)`` are what it learns from.
        settle: ``(cfg.method, sizes)`` to the same without a None.
        source: ``(cfg, source, seed)`` to what gives the batches of the training, of a source of rows.
        semi: fits labels with the help of unlabelled rows, if the method has a way of its own; see `RowScores`.
    """

    sizes: Callable[[Sequence[int]], tuple[int, int]]
    build: Callable[[Any, Any, Tensor, Sequence[int]], nn.Module]
    settle: Callable[[Any, Sizes], Any] = lambda method, sizes: method
    source: Callable[[Any, Source, int], Source] = lambda cfg, source, seed: source
    semi: Callable[[Any], Semi | None] | None = None


def run_tabular(cfg: TabularConfig, recipe: TableRecipe) -> Path:
    """Pretrain, evaluate, report; returns the run folder."""
    return run_recipe(cfg, recipe, prepare)


def prepare(cfg: Any, recipe: TableRecipe, fabric: Fabric) -> TableExperiment:
    """Open the data and work out the settings."""
    if cfg.data.name is None and cfg.data.path is None:
        cfg = replace(cfg, data=replace(cfg.data, name=DEFAULT_DATA))
    data = load_data(cfg.data, seed=cfg.train.seed)
    return experiment(cfg, recipe, data, fabric)


def experiment(cfg: Any, recipe: TableRecipe, data: TableData, fabric: Fabric) -> TableExperiment:
    """Work out the settings for ``data``."""
    semi = None if recipe.semi is None else recipe.semi(cfg)
    scores = RowScores(data, cfg.evaluate, method=recipe.subject, title=recipe.title, semi=semi)
    return TableExperiment(settle(cfg, recipe, data, labelled=scores.labelled), recipe, data, scores, fabric)


class TableExperiment(Experiment):
    """A configuration and its table; see `Experiment`."""

    recipe: TableRecipe

    def __init__(self, cfg: Any, recipe: TableRecipe, data: TableData, scores: RowScores, fabric: Fabric) -> None:
        super().__init__(cfg, recipe, data, scores, fabric)
        self.data = data

    def fingerprint(self) -> Mapping[str, int | str]:
        return self.data.fingerprint

    def make_encoder(self) -> nn.Module:
        return make_encoder(self.cfg.model, self.data.preprocessor.cardinalities)

    def source(self) -> TableSource:
        return TableSource(self._rows())

    def training(self, encoder: nn.Module, seed: int) -> Training:
        """Part of the rows is held out, and its loss under fixed corruptions ends the training."""
        cfg, x, stream = self.cfg, self._rows(), self.data.stream
        if stream is None:
            held, learnt = hold_out(len(x), cfg.stopping.fraction, seed=seed)
            rows, validation = x[learnt.to(x.device)], x[held.to(x.device)]
        else:  # the rows in memory are some of those that are learnt from
            assert self.data.validation is not None
            held_rows = self.data.validation if cfg.stopping.fraction else self.data.validation[:0]
            rows, validation = x, torch.from_numpy(held_rows).to(x.device)
        return Training(
            self.recipe.build(encoder, cfg, rows, self.data.preprocessor.cardinalities),
            self.recipe.source(cfg, stream or TableSource(rows), seed),
            Probe(rows[:LOOKED_AT].cpu(), encoder, _validation_loss(validation, cfg.train.batch_size)),
            None if cfg.stopping.patience is None else _stop(cfg.stopping.patience),
        )

    def embedder(self, encoder: nn.Module) -> TableEmbedder:
        cfg = self.cfg.data
        names = None if cfg.names is None else tuple(cfg.names)
        return TableEmbedder(encoder, self.data.preprocessor, cfg.id, names, tuple(cfg.missing))

    def embedded(self, embedder: TableEmbedder) -> Embedded:
        return embedded(self.data, embedder)

    def _rows(self) -> Tensor:
        return torch.from_numpy(self.data.train.x[: self.data.sample]).to(self.fabric.device)


def make_encoder(model: ModelConfig, cardinalities: Sequence[int]) -> nn.Module:
    """The encoder of ``cfg.model``, all values worked out."""
    options: dict[str, Any] = {"depth": model.depth}
    if model.name == "FTTransformer":
        options |= {"dim": model.hidden, "heads": model.heads, "numeric": model.numeric or "linear"}
    else:
        options |= {
            "hidden": model.hidden,
            "numeric": model.numeric,
            "cell_dim": model.cell_dim,
            "dropout": model.dropout,
        }
    return ENCODERS[model.name](cardinalities, **options)


def make_views(corruption: float, rows: Tensor) -> ScarfViews:
    """SCARF's views: a row as it is, and with cells drawn anew from the marginals of ``rows`` ``(n, M)``.

    Raises:
        ValueError: ``corruption`` is so small that both views are the same.
    """
    if corrupted_columns(corruption, rows.shape[1]) == 0:
        raise ValueError(
            f"method.corruption={corruption} of {rows.shape[1]} columns changes no cell, and both views of a row would "
            "be the same; raise it"
        )
    return ScarfViews(Marginals(rows), corruption)


def hold_out(n: int, fraction: float, *, seed: int) -> tuple[Tensor, Tensor]:
    """Positions of the validation rows, and of those that are learnt from; both in random order.

    Raises:
        ValueError: the fraction is impossible.
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"stopping.fraction must lie in [0, 1), got {fraction}")
    order = torch.from_numpy(np.random.default_rng(seed).permutation(n))
    count = int(fraction * n)
    count = count if count >= 2 * world_size() else 0  # a row alone has nothing to be told from
    return order[:count], order[count:]


def _validation_loss(validation: Tensor, batch_size: int) -> Callable[[nn.Module], Mapping[str, float]] | None:
    """Measures the loss of held-out rows, of which each rank has its own, as many as the others."""
    if not len(validation):
        return None
    own = validation[rank() :: world_size()][: len(validation) // world_size()]
    return lambda method: {"validation_loss": fixed_loss(method, own, batch_size=batch_size // world_size())}


def _stop(patience: int) -> Callable[[Sequence[Mapping[str, float]]], bool]:
    """Has the validation loss not reached a new minimum for so many looks?"""

    def stop(rows: Sequence[Mapping[str, float]]) -> bool:
        waiting = Patience(patience)
        return any(waiting.exhausted(row["validation_loss"]) for row in rows if "validation_loss" in row)

    return stop


def settle(cfg: Any, recipe: TableRecipe, data: TableData, *, labelled: bool) -> Any:
    """Every None that stands for a value is replaced by it, so that config.yaml hides nothing."""
    if cfg.model.name not in ENCODERS:
        raise ValueError(f"model.name must be one of {', '.join(ENCODERS)}, got {cfg.model.name!r}")
    if cfg.stopping.patience is not None and cfg.stopping.patience < 1:
        raise ValueError(f"stopping.patience must be at least 1, or null for none, got {cfg.stopping.patience}")
    sizes = recipe.sizes(data.preprocessor.cardinalities) if cfg.model.name == "MLP" else SIZES[cfg.model.name]
    hidden, depth = cfg.model.hidden or sizes[0], cfg.model.depth or sizes[1]
    learnt = len(data.stream or hold_out(len(data.train), cfg.stopping.fraction, seed=cfg.train.seed)[1])
    epoch = max(1, learnt // min(cfg.train.batch_size, learnt))
    look = min(max(epoch, LOOK_EVERY), LOOK_WITHIN)
    train = replace(cfg.train, log_every=cfg.train.log_every or look)
    steps = max((EPOCHS if data.stream is None else 1) * epoch, FEWEST_STEPS)
    train = work_out(train, samples=learnt, steps=steps, seeds=3 if labelled else 1)
    assert train.steps is not None
    method = recipe.settle(cfg.method, Sizes(learnt, train.batch_size, train.steps, hidden))
    return replace(cfg, train=train, method=method, model=replace(cfg.model, hidden=hidden, depth=depth))


def embedded(data: TableData, embedder: TableEmbedder) -> Embedded:
    """All rows, train first."""
    parts = [("train", data.train)] + ([("test", data.test)] if data.test is not None else [])
    rows = np.concatenate([part.rows for _, part in parts])
    ids = [part.ids for _, part in parts]
    names = None if any(column is None for column in ids) else np.concatenate([i for i in ids if i is not None])
    columns: dict[str, Any] = {} if names is None else {"id": names}
    columns |= {"row": rows, "split": np.concatenate([np.full(len(part), name) for name, part in parts])}
    labels = [part.labels for _, part in parts if part.labels is not None]
    if labels and data.classes is not None:
        known = np.array([*data.classes, None], dtype=object)
        columns["label"] = known[np.nan_to_num(np.concatenate(labels), nan=len(data.classes)).astype(np.int64)]
    elif labels:
        columns["target"] = np.concatenate(labels)
    return Embedded(
        features=np.concatenate([embedder.encode(part.x) for _, part in parts]),
        columns=columns,
        name=lambda i: f"row {rows[i]}" if names is None else str(names[i]),
    )
