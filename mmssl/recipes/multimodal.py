"""What the image–text recipes share: their configuration, and the way from pairs to a report.

A recipe adds its loss and how that follows from the batch.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from mmssl.core.methods import scaling
from mmssl.core.methods.alignment import Alignment, Pairs, Towers
from mmssl.core.objectives.alignment import PairObjective
from mmssl.eval.report import Section
from mmssl.multimodal.augment import PairView
from mmssl.multimodal.dataset import GLYPHS, DataConfig, PairData, PairSource, load_data
from mmssl.multimodal.embedder import PairEmbedder
from mmssl.multimodal.encode import IMAGE, TEXT
from mmssl.recipes import vision
from mmssl.recipes.experiment import Experiment, Recipe, Sizes, Training, filled, run_recipe
from mmssl.recipes.image_scores import embedded
from mmssl.recipes.multimodal_report import sections
from mmssl.recipes.multimodal_scores import PairEvaluateConfig, PairScores
from mmssl.recipes.results import Embedded
from mmssl.recipes.training import HealthConfig, TrainConfig, work_out
from mmssl.text.encoder import TextTransformer
from mmssl.text.tokenizer import Tokenizer
from mmssl.train.export import load_embedder
from mmssl.train.pretrain import Probe
from mmssl.vision.embedder import ImageEmbedder
from mmssl.vision.parallel import processes

LOOKED_AT = 256  # images that health looks at
DUPLICATES = ("positive", "negative")


@dataclass
class ModelConfig(vision.ModelConfig):
    """The image tower, as in the vision recipes, and the shared space."""

    image_run: str | None = None  # run folder of a vision recipe: its encoder, at its size and scale of pixels
    frozen: list[str] = field(default_factory=list)  # image, text: not trained; [image] is locked-image tuning
    dim: int = 128  # of the shared space


@dataclass
class TextConfig:
    """The text tower, a transformer, and its tokens."""

    run: str | None = None  # of an image–text recipe: its text tower with its tokenizer, instead of a new one
    tokenizer: str | None = None  # tokenizer.json of the tokenizers library; None: learnt from the training captions
    vocabulary: int | None = None  # tokens that are learnt; None: from the number of words
    context: int | None = None  # tokens of a caption, longer ones are cut; None: the longest caption, 77 at most
    width: int = 128
    depth: int = 1
    heads: int = 4
    dropout: float = 0.1


@dataclass
class ViewsConfig:
    """How a pair is varied from step to step."""

    crop: list[float] = field(default_factory=lambda: [0.8, 1.0])  # area
    flip: float = 0.0  # probability; a mirrored arrow points elsewhere than its caption says
    jitter: list[float] = field(default_factory=lambda: [0.4, 0.4, 0.4, 0.05])  # brightness, contrast, saturation, hue
    jitter_p: float = 0.8
    grayscale: float = 0.0
    words: float = 0.5  # largest share of a caption's tokens that is left out


@dataclass
class PairMethodConfig:
    """What is common to both losses."""

    temperature: float = 0.07  # at the start; learnt
    duplicates: str = "positive"  # pairs of one image or one caption in a batch: positive, or negative like all others
    chunks: int = 1  # parts in which the towers see a batch, for batches larger than memory


def train_config(**settings: Any) -> TrainConfig:
    """The training section: cosine to zero, weight decay as strong as CLIP's, not on biases, norms and the scale."""
    return vision.train_config(**{"batch_size": 128, "weight_decay": 0.2, "betas": [0.9, 0.98], **settings})


@dataclass
class PairConfig:
    """All settings of an image–text recipe but those of its loss."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    text: TextConfig = field(default_factory=TextConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    train: TrainConfig = field(default_factory=train_config)
    health: HealthConfig = field(default_factory=HealthConfig)
    evaluate: PairEvaluateConfig = field(default_factory=PairEvaluateConfig)
    root: str = "runs"  # folder of all runs
    resume: str | None = None  # a run folder to go on with


@dataclass(frozen=True)
class PairRecipe(Recipe):
    """What tells one image–text recipe from another.

    Args:
        objective: of ``cfg.method``.
        settle: ``(cfg.method, sizes)`` to the same without a None.
        lr: learning rate at 128 pairs a step.
        steps: of the optimiser, where the user says nothing.
    """

    objective: Callable[[Any], PairObjective]
    settle: Callable[[Any, Sizes], Any]
    lr: float = 2e-3
    steps: int = 1000


def run_pairs(cfg: PairConfig, recipe: PairRecipe) -> Path:
    """Train, evaluate, report; returns the run folder."""
    return run_recipe(cfg, recipe, prepare)


def prepare(cfg: Any, recipe: PairRecipe, fabric: Fabric) -> PairExperiment:
    """Open the data and work out the settings; what cannot work is said now."""
    if cfg.data.name is None and cfg.data.path is None:
        cfg = replace(cfg, data=replace(cfg.data, name=GLYPHS))
    given = None if cfg.model.image_run is None else image_tower(cfg.model.image_run)
    if given is not None:
        pixels = given.preprocessor
        cfg = replace(cfg, data=filled(cfg.data, size=pixels.size, channels=pixels.channels))
    data = load_data(cfg.data, seed=cfg.train.seed)
    if given is not None:
        data = replace(data, preprocessor=replace(data.preprocessor, mean=pixels.mean, std=pixels.std))
    pretrained = None if cfg.text.run is None else text_tower(cfg.text)
    tokenizer = make_tokenizer(cfg.text, data) if pretrained is None else pretrained.tokenizer
    data = replace(data, description="\n".join([data.description, describe_tokens(tokenizer, data)]))
    scores = PairScores(data, tokenizer, cfg.evaluate, method=recipe.subject, title=recipe.title)
    text = None if pretrained is None else pretrained.encoder.encoders[TEXT]
    if isinstance(text, TextTransformer):
        sizes = {key: text.arguments[key] for key in ("depth", "heads", "dropout")}
        cfg = replace(cfg, text=replace(cfg.text, width=text.dim, **sizes))
    cfg = settle(cfg, recipe, data, tokenizer)
    experiment = PairExperiment(cfg, recipe, data, scores, fabric, tokenizer, given, text)
    experiment.try_out()
    return experiment


class PairExperiment(Experiment):
    """A configuration and its pairs; see `Experiment`.

    Args:
        tokenizer: of the captions.
        given: the run whose encoder is the image tower; None: a new one.
        text: a pretrained text tower; None: a new one.
    """

    recipe: PairRecipe
    scores: PairScores

    def __init__(
        self,
        cfg: Any,
        recipe: PairRecipe,
        data: PairData,
        scores: PairScores,
        fabric: Fabric,
        tokenizer: Tokenizer,
        given: ImageEmbedder | None = None,
        text: nn.Module | None = None,
    ) -> None:
        super().__init__(cfg, recipe, data, scores, fabric)
        self.data = data
        self.tokenizer = tokenizer
        self.given = given
        self.text = text

    def make_encoder(self) -> Towers:
        image = vision.make_encoder(self.cfg, self.data.images) if self.given is None else deepcopy(self.given.encoder)
        text = self.new_text_tower() if self.text is None else deepcopy(self.text)
        return Towers({IMAGE: image, TEXT: text}, dim=self.cfg.model.dim)

    def new_text_tower(self) -> TextTransformer:
        """With random weights."""
        cfg = self.cfg.text
        return TextTransformer(
            self.tokenizer.vocabulary,
            self.tokenizer.context,
            dim=cfg.width,
            depth=cfg.depth,
            heads=cfg.heads,
            dropout=cfg.dropout,
        )

    def new_encoder(self, seed: int) -> nn.Module:
        """A given image tower keeps the statistics that it was trained to."""
        if self.given is None:
            return super().new_encoder(seed)
        torch.manual_seed(seed)
        return self.make_encoder().to(self.fabric.device)

    def source(self) -> PairSource:
        return self._source

    @cached_property
    def _source(self) -> PairSource:  # every seed sees the same tokens
        return PairSource(self.data.train, self.tokenizer, device=self.fabric.device)

    def inputs(self, batch: Pairs) -> torch.Tensor:
        return self.data.preprocessor(batch.first.to(self.fabric.device))

    def method(self, towers: Towers) -> Alignment:
        views, same = make_view(self.cfg, self.data), self.cfg.method.duplicates == "positive"

        def augment(batch: Pairs) -> Pairs:
            batch = views.pairs(batch)
            return batch if same else batch._replace(ids=None)

        objective = self.recipe.objective(self.cfg.method)
        frozen, chunks = self.cfg.model.frozen, self.cfg.method.chunks
        return Alignment(towers, objective, augment=augment, chunks=chunks, frozen=frozen)

    def training(self, encoder: nn.Module, seed: int) -> Training:
        assert isinstance(encoder, Towers)
        images = self.data.train.images
        looked_at = np.random.default_rng(0).permutation(len(images))[:LOOKED_AT]
        probe = Probe(images.fetch(looked_at), lambda x: encoder(self.data.preprocessor(x)))
        return Training(self.method(encoder).to(memory_format=torch.channels_last), self.source(), probe)

    def compile(self, method: nn.Module, encoder: nn.Module) -> None:
        assert isinstance(encoder, Towers)
        for tower in encoder.encoders.values():
            tower.compile()

    def embedder(self, encoder: nn.Module) -> PairEmbedder:
        assert isinstance(encoder, Towers)
        return PairEmbedder(encoder, self.data.preprocessor, self.tokenizer, self.cfg.data.fit)

    def embedded(self, embedder: PairEmbedder) -> Embedded:
        parts = (self.data.train, self.data.test)
        captions = np.concatenate([part.captions[part.first] for part in parts])
        whole = embedded(self.data.images, embedder)  # type: ignore[arg-type]  # of which it asks for `features` only
        return replace(whole, columns={**whole.columns, "caption": captions}, name=lambda i: str(captions[i]))

    def sections(self, method: nn.Module, encoder: nn.Module) -> list[Section]:
        assert isinstance(encoder, Towers)
        return sections(encoder, self.scores)

    def try_out(self) -> None:
        """Show two pairs to the method: what cannot work is said now, not after minutes of scoring.

        Raises:
            ValueError: it cannot work; the message says why.
        """
        source = PairSource(self.data.train.subset(np.arange(2)), self.tokenizer)
        method = self.method(self.make_encoder())
        try:
            method(source.fetch(np.arange(2)))
        except RuntimeError as error:  # torch speaks of kernels and strides
            size = self.data.preprocessor.size
            raise ValueError(
                f"{self.recipe.title} with model.name={self.cfg.model.name} does not run on images of {size} x {size} "
                f"pixels: {error}\nTry another data.size or another model.name"
            ) from error


def image_tower(run: str) -> ImageEmbedder:
    """The encoder of a vision run with its preprocessing.

    Raises:
        FileNotFoundError: it is no finished run.
        ValueError: it is the run of another kind of recipe.
    """
    embedder = load_embedder(run)
    if not isinstance(embedder, ImageEmbedder):
        raise ValueError(
            f"model.image_run={run} holds a {type(embedder).__name__}, not the encoder of images: give the run folder "
            "of a vision recipe"
        )
    return embedder


def text_tower(cfg: TextConfig) -> PairEmbedder:
    """The run that the text tower and its tokenizer are taken from.

    Raises:
        FileNotFoundError: it is no finished run.
        ValueError: it is the run of another kind of recipe, or the tokens were to be others.
    """
    assert cfg.run is not None
    if own := [name for name in ("tokenizer", "vocabulary", "context") if getattr(cfg, name) is not None]:
        raise ValueError(
            f"text.run={cfg.run} brings its tokenizer along: leave out {', '.join(f'text.{n}' for n in own)}"
        )
    embedder = load_embedder(cfg.run)
    if not isinstance(embedder, PairEmbedder):
        raise ValueError(
            f"text.run={cfg.run} holds a {type(embedder).__name__}, which has no text tower: give the run folder of an "
            "image–text recipe"
        )
    return embedder


def make_tokenizer(cfg: TextConfig, data: PairData) -> Tokenizer:
    """The one of ``cfg``, or one that is learnt from the training captions."""
    if cfg.tokenizer is None:
        return Tokenizer.train(data.train.captions.tolist(), vocabulary=cfg.vocabulary, context=cfg.context)
    if cfg.vocabulary is not None:
        raise ValueError(
            f"text.vocabulary={cfg.vocabulary} is for a tokenizer that is learnt, and text.tokenizer={cfg.tokenizer} "
            "has its own: leave one of them out"
        )
    return Tokenizer.load(cfg.tokenizer, **({} if cfg.context is None else {"context": cfg.context}))


def describe_tokens(tokenizer: Tokenizer, data: PairData) -> str:
    """How captions become tokens, and how many are too long."""
    captions = data.train.captions.tolist()
    cut = tokenizer.count_cut(captions)
    text = f"tokens: {tokenizer.vocabulary:,} different, {tokenizer.context} a caption"
    more = f"; {cut:,} of {len(captions):,} training captions are longer and are cut: text.context takes more"
    return text + (more if cut else "")


def make_view(cfg: Any, data: PairData) -> PairView:
    """The view of ``cfg.views`` for the images of ``data``."""
    views: ViewsConfig = cfg.views
    return PairView(
        data.preprocessor.size,
        scale=views.crop,
        flip=views.flip,
        jitter=views.jitter,
        jitter_p=views.jitter_p,
        grayscale=views.grayscale,
        words=views.words,
        mean=data.preprocessor.mean,
        std=data.preprocessor.std,
    )


def settle(cfg: Any, recipe: PairRecipe, data: PairData, tokenizer: Tokenizer) -> Any:
    """Every None that stands for a value is replaced by it, so that config.yaml hides nothing.

    Raises:
        ValueError: a value is impossible, or does not go with another or with the data.
    """
    samples = len(data.train.captions)
    train = vision.fitted(cfg.train, samples=samples)
    train = work_out(
        train,
        samples=samples,
        steps=recipe.steps,
        seeds=1,
        lr=recipe.lr * train.batch_size / 128,
        workers=max(1, processes() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))),
    )
    if data.train.images.in_memory:
        train = replace(train, workers=0)
    check(cfg, train)
    model = cfg.model
    if model.image_run is None:
        model = filled(model, **vision.SIZES.get(model.name, {"stem": "auto"}))
        encoder = vision.make_encoder(replace(cfg, model=model), data.images)
        model = replace(model, stem=encoder.arguments["stem"])
    assert train.steps is not None
    sizes = Sizes(samples, train.batch_size, train.steps, model.dim)
    text = cfg.text
    if text.run is None:
        text = filled(text, context=tokenizer.context)
    if text.run is None and text.tokenizer is None:
        text = filled(text, vocabulary=tokenizer.vocabulary)
    if cfg.train.warmup is None:
        train = replace(train, warmup=scaling.warmup(sizes.samples, sizes.batch, sizes.steps))
    compared = replace(sizes, batch=train.batch_size // train.accumulate)  # a loss sees one part of the batch
    return replace(
        cfg,
        data=replace(cfg.data, size=data.preprocessor.size, channels=data.preprocessor.channels),
        model=model,
        text=text,
        train=train,
        method=recipe.settle(cfg.method, compared),
    )


def check(cfg: Any, train: TrainConfig) -> None:
    """Raise a ValueError where pairs cannot be compared."""
    if cfg.method.duplicates not in DUPLICATES:
        raise ValueError(f"method.duplicates must be {' or '.join(DUPLICATES)}, got {cfg.method.duplicates!r}")
    if train.batch_size // train.accumulate < 2:
        parts = f" in train.accumulate={train.accumulate} parts" if train.accumulate > 1 else ""
        raise ValueError(
            f"train.batch_size={train.batch_size}{parts} is one pair at a time, and there is no other to tell it from: "
            f"take at least {2 * train.accumulate}"
        )
    if cfg.model.image_run is not None and cfg.model.pretrained:
        raise ValueError("model.image_run and model.pretrained=true both give weights of the image tower: take one")
