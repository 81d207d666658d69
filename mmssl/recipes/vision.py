"""What the vision recipes share: their configuration, and the way from images to a report.

A recipe adds the settings of its method, how they follow from the amount of data, and how the method is put together.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from mmssl.core.distributed import world_size
from mmssl.core.methods import scaling
from mmssl.eval.report import Section
from mmssl.recipes.experiment import Experiment, Recipe, Sizes, Training, filled, run_recipe
from mmssl.recipes.image_scores import ImageScores, VisionEvaluateConfig, embedded
from mmssl.recipes.results import Embedded
from mmssl.recipes.training import HealthConfig, TrainConfig, work_out
from mmssl.train.pretrain import Probe
from mmssl.vision.augment import BYOLViews, MultiCropViews, SimCLRViews
from mmssl.vision.dataset import DataConfig, ImageData, ImageSource, load_data
from mmssl.vision.embedder import ImageEmbedder
from mmssl.vision.encoder import ImageEncoder, build_encoder
from mmssl.vision.images import ImageSet
from mmssl.vision.parallel import processes
from mmssl.vision.pictures import sheet
from mmssl.vision.vit import VisionTransformer

DEFAULT_DATA = "mnist5k"
DIGITS = ("mnist5k", "MNIST", "QMNIST", "SVHN", "USPS")  # a mirrored 2 is no 2
SIZES: dict[str, dict[str, Any]] = {  # of a plain encoder, where the user names none
    "resnet": {"stem": "standard", "layers": [1, 1, 1, 1], "channels": [32, 64, 128, 256]},
    "vit": {
        "stem": "standard",
        "patch": 4,
        "width": 192,
        "depth": 6,
        "heads": 6,
        "positions": "learnt",
        "drop_path": 0.0,
    },
}
LOOKED_AT = 256  # images that health looks at
PREVIEWED = 8  # images whose views the report shows
C = TypeVar("C", bound=Any)


@dataclass
class ModelConfig:
    """The encoder: a plain one in sizes of your own, or a model of torchvision or timm at the library's values.

    By default a ResNet-10 of half the usual width, 1.2 million weights, which two cores can train.
    """

    name: str = "resnet"  # or vit, in sizes of your own; resnet18, torchvision:…, timm:…
    pretrained: bool = False
    weights: str | None = None  # safetensors with the library's names
    stem: str | None = None  # of a ResNet: standard, small (3×3, no pooling), or auto: small up to 64 pixels
    layers: list[int] | None = None  # of "resnet": blocks of the four stages
    channels: list[int] | None = None  # and their widths
    patch: int | None = None  # of "vit"
    width: int | None = None
    depth: int | None = None
    heads: int | None = None
    positions: str | None = None  # learnt or sincos
    pool: str | None = None  # cls or mean
    drop_path: float | None = None


@dataclass
class CropConfig:
    """How an image becomes one view."""

    crop: list[float] = field(default_factory=lambda: [0.2, 1.0])  # area of the full-size views
    flip: float | None = None  # None: 0 for known digits, else 0.5


@dataclass
class ViewsConfig(CropConfig):
    """How an image becomes several views."""

    jitter: list[float] = field(default_factory=lambda: [0.4, 0.4, 0.4, 0.1])  # brightness, contrast, saturation, hue
    jitter_p: float = 0.8
    grayscale: float = 0.2
    blur: list[float] = field(default_factory=lambda: [0.5, 0.5, 0.5])  # probability: first, second, small views
    kernel: int | None = None  # of the blur in pixels
    sigma: list[float] = field(default_factory=lambda: [0.1, 2.0])
    solarize: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])  # likewise
    local: int = 0  # small views beside the two full-size ones
    local_size: int | None = None  # None: half the size
    local_crop: list[float] = field(default_factory=lambda: [0.05, 0.2])


def train_config(**settings: Any) -> TrainConfig:
    """The training section of a vision recipe: learning rate and warm-up from the data, cosine to zero."""
    usual: dict[str, Any] = {"batch_size": 256, "lr": None, "warmup": None, "workers": None}
    usual |= {"schedule": "cosine", "decay_all": False}
    return TrainConfig(**{**usual, **settings})


@dataclass
class VisionConfig:
    """All settings of a vision recipe but those of its method."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    train: TrainConfig = field(default_factory=train_config)
    health: HealthConfig = field(default_factory=HealthConfig)
    evaluate: VisionEvaluateConfig = field(default_factory=VisionEvaluateConfig)
    root: str = "runs"  # folder of all runs
    resume: str | None = None  # a run folder to go on with


@dataclass(frozen=True)
class ImageRecipe(Recipe):
    """What tells one vision recipe from another.

    Args:
        lr: learning rate at 256 images a step.
        build: ``(encoder, cfg, data)`` to the method.
        settle: ``(cfg.method, sizes)`` to the same without a None.
        pictures: further sections of the report, ``(method, encoder, data)``.
        steps: of the optimiser, where the user says nothing.
    """

    lr: float
    build: Callable[[Any, Any, ImageData], nn.Module]
    settle: Callable[[Any, Sizes], Any]
    pictures: Callable[[Any, nn.Module, ImageData], Sequence[Section]] | None = None
    steps: int = 600


def run_vision(cfg: VisionConfig, recipe: ImageRecipe) -> Path:
    """Pretrain, evaluate, report; returns the run folder."""
    return run_recipe(cfg, recipe, prepare)


def prepare(cfg: Any, recipe: ImageRecipe, fabric: Fabric) -> ImageExperiment:
    """Open the data and work out the settings; what cannot work is said now."""
    if cfg.data.name is None and cfg.data.path is None:
        cfg = replace(cfg, data=replace(cfg.data, name=DEFAULT_DATA))
    data = load_data(cfg.data, seed=cfg.train.seed)
    scores = ImageScores(data, cfg.evaluate, method=recipe.subject, title=recipe.title)
    cfg, encoder = settle(cfg, recipe, data)
    try_out(cfg, recipe, data, encoder.to(fabric.device))
    return ImageExperiment(cfg, recipe, data, scores, fabric)


class ImageExperiment(Experiment):
    """A configuration and its images; see `Experiment`."""

    recipe: ImageRecipe

    def __init__(self, cfg: Any, recipe: ImageRecipe, data: ImageData, scores: ImageScores, fabric: Fabric) -> None:
        super().__init__(cfg, recipe, data, scores, fabric)
        self.data = data

    def make_encoder(self) -> ImageEncoder | VisionTransformer:
        return make_encoder(self.cfg, self.data)

    def source(self) -> ImageSource:
        return ImageSource(self.data.train, device=self.fabric.device)

    def inputs(self, batch: torch.Tensor) -> torch.Tensor:
        return self.data.preprocessor(batch)

    def training(self, encoder: nn.Module, seed: int) -> Training:
        train = self.data.train
        looked_at = np.random.default_rng(0).permutation(len(train))[:LOOKED_AT]
        method = self.recipe.build(encoder, self.cfg, self.data)
        probe = Probe(train.fetch(looked_at), lambda x: encoder(self.inputs(x)))
        return Training(method.to(memory_format=torch.channels_last), self.source(), probe)

    def compile(self, method: nn.Module, encoder: nn.Module) -> None:
        """The blocks of a transformer, which masked methods enter without calling the encoder; any other as a whole."""
        (encoder.model.blocks if isinstance(encoder, VisionTransformer) else encoder).compile()

    def embedder(self, encoder: nn.Module) -> ImageEmbedder:
        assert isinstance(encoder, ImageEncoder | VisionTransformer)
        reading = {name: getattr(self.cfg.data, name) for name in ("fit", "layout", "id", "image")}
        return ImageEmbedder(encoder, encoder.arguments, self.data.preprocessor, **reading)

    def embedded(self, embedder: ImageEmbedder) -> Embedded:
        return embedded(self.data, embedder)

    def sections(self, method: nn.Module, encoder: nn.Module) -> list[Section]:
        pictures = () if self.recipe.pictures is None else self.recipe.pictures(method, encoder, self.data)
        return [*previews(method, self.data), *pictures]


def make_encoder(cfg: Any, data: ImageData) -> ImageEncoder | VisionTransformer:
    """The encoder of ``cfg.model`` for the images of ``data``."""
    model = cfg.model
    names = ("layers", "channels", "patch", "width", "depth", "heads", "positions", "pool", "drop_path")
    options = {name: getattr(model, name) for name in names if getattr(model, name) is not None}
    try:
        return build_encoder(
            model.name,
            in_channels=data.preprocessor.channels,
            size=data.preprocessor.size,
            pretrained=model.pretrained,
            weights=model.weights,
            stem=model.stem,
            **options,
        )
    except TypeError as error:  # of the library's constructor
        given = ", ".join(f"model.{name}" for name in options)
        raise ValueError(f"model.name={model.name} does not take all of {given}: {error}") from error


def make_views(cfg: Any, data: ImageData) -> Callable[[Any], list[torch.Tensor]]:
    """The views of ``cfg.views`` for the images of ``data``."""
    views: ViewsConfig = cfg.views
    size = data.preprocessor.size
    assert views.flip is not None
    look: dict[str, Any] = {
        "flip": views.flip,
        "jitter": views.jitter,
        "jitter_p": views.jitter_p,
        "grayscale": views.grayscale,
        "sigma": views.sigma,
        "kernel": views.kernel,
        "mean": data.preprocessor.mean,
        "std": data.preprocessor.std,
    }
    for name in ("blur", "solarize"):
        if len(values := getattr(views, name)) != 3:
            raise ValueError(f"views.{name} must be three probabilities: first, second and small views; got {values}")
    if views.local:
        assert views.local_size is not None
        return MultiCropViews(
            size,
            views.local_size,
            local=views.local,
            global_scale=views.crop,
            local_scale=views.local_crop,
            blur=views.blur,
            solarize=views.solarize,
            **look,
        )
    if views.blur[0] == views.blur[1] and views.solarize[:2] == [0.0, 0.0]:
        return SimCLRViews(size, scale=views.crop, blur=views.blur[0], **look)
    return BYOLViews(size, scale=views.crop, blur=views.blur[:2], solarize=views.solarize[:2], **look)


def settle(cfg: C, recipe: ImageRecipe, data: ImageData) -> tuple[C, ImageEncoder | VisionTransformer]:
    """Every None that stands for a value is replaced by it, so that config.yaml hides nothing; and the encoder.

    Raises:
        ValueError: a value is impossible, or does not go with another or with the data.
    """
    size = data.preprocessor.size
    train = fitted(cfg.train, samples=len(data.train))
    train = work_out(
        train,
        samples=len(data.train),
        steps=recipe.steps,
        seeds=1,
        lr=recipe.lr * train.batch_size / 256,
        workers=max(1, processes() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))),
    )
    if data.train.in_memory:  # lies on the device, where other processes have no business
        train = replace(train, workers=0)
    model = filled(cfg.model, **SIZES.get(cfg.model.name, {"stem": "auto"}))
    encoder = make_encoder(replace(cfg, model=model), data)
    model = replace(model, stem=encoder.arguments["stem"])
    patch = 1
    if isinstance(encoder, VisionTransformer):
        patch = encoder.patch[0]
        model = filled(model, pool=encoder.pool)
    views = filled(cfg.views, flip=0.0 if data.name in DIGITS else 0.5)
    if isinstance(views, ViewsConfig):
        views = filled(views, local_size=max(1, size // 2 // patch) * patch)
        check_views(views, train, patch)
    assert train.steps is not None
    sizes = Sizes(len(data.train), train.batch_size, train.steps, encoder.dim)
    if cfg.train.warmup is None:
        train = replace(train, warmup=scaling.warmup(sizes.samples, sizes.batch, sizes.steps))
    cfg = replace(
        cfg,
        data=replace(cfg.data, size=size, channels=data.preprocessor.channels),
        model=model,
        views=views,
        train=train,
        method=recipe.settle(cfg.method, sizes),
    )
    return cfg, encoder


def fitted(train: TrainConfig, *, samples: int) -> TrainConfig:
    """With a batch that is no larger than the data, and that processes and accumulated batches share out evenly."""
    if train.batch_size <= samples:
        return train
    unit = max(1, train.accumulate) * world_size()
    return replace(train, batch_size=max(unit, samples // unit * unit))


def check_views(views: ViewsConfig, train: TrainConfig, patch: int) -> None:
    """Raise a ValueError unless views of this size and number can be compared."""
    assert views.local_size is not None
    if views.local and views.local_size % patch:
        raise ValueError(
            f"views.local_size={views.local_size} is not a multiple of the encoder's patch of {patch} pixels: take "
            f"{max(1, views.local_size // patch) * patch}"
        )
    if train.batch_size // train.accumulate < 2:
        parts = f" in train.accumulate={train.accumulate} parts" if train.accumulate > 1 else ""
        raise ValueError(
            f"train.batch_size={train.batch_size}{parts} is one image at a time, and there is nothing to tell it "
            f"from: take at least {2 * train.accumulate}"
        )


def try_out(cfg: Any, recipe: ImageRecipe, data: ImageData, encoder: nn.Module) -> None:
    """Put the method together and show it two images: what cannot work is said now, not after minutes of scoring.

    Raises:
        ValueError: it cannot work; the message says why.
    """
    method = recipe.build(encoder, cfg, data)
    images = data.train.fetch(np.arange(2)).to(next(encoder.parameters()).device)
    try:
        method.to(images.device)(images)
    except RuntimeError as error:  # torch speaks of kernels and strides
        size = data.preprocessor.size
        raise ValueError(
            f"{recipe.title} with model.name={cfg.model.name} does not run on images of {size} x {size} pixels: "
            f"{error}\nTry another data.size or another model.name"
        ) from error


def previews(method: Any, data: ImageData) -> list[Section]:
    """What the method sees of a few training images."""
    images = some(data.train)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        views = method.augment(images)
    caption = "Each is one step's view of the image; the next step draws another."
    if isinstance(views, torch.Tensor):
        views = [views]
    else:
        caption = "What the views of an image have in common is what the encoder is asked to keep."
    rows = [[images[i], *(on_screen(view[i], data) for view in views)] for i in range(len(images))]
    small = [view.shape != views[0].shape for view in views]
    titles = ["image", *(f"{'small ' if is_small else ''}view {i + 1}" for i, is_small in enumerate(small))]
    return [Section("Views", sheet(rows, titles), caption)]


def some(images: ImageSet) -> torch.Tensor:
    """A few raw images, always the same ones, drawn from all: neighbours in a data set are often of one class."""
    chosen = np.random.default_rng(0).permutation(len(images))[:PREVIEWED]
    return images.fetch(np.sort(chosen))


def on_screen(x: torch.Tensor, data: ImageData) -> torch.Tensor:
    """A standardised image ``(C, H, W)`` back on the scale 0 to 1."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (data.preprocessor.mean, data.preprocessor.std))
    return (x.cpu() * std + mean).clamp(0, 1)
