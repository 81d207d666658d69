"""What the encoder is worth as a starting point: a linear probe, and partial or full fine-tuning, on labelled data.

    strategy = STRATEGIES["full"]
    tuned = finetune(encoder, strategy, source=images, labels=codes, n_classes=10, fabric=fabric)
    codes = predict(tuned, test_images, fabric=fabric)

The weights after the last epoch are what counts: no test or validation example chooses among epochs.
"""

from __future__ import annotations

import copy
import inspect
import itertools
import math
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from mmssl.core.distributed import rank, world_size
from mmssl.core.heads import mlp
from mmssl.core.schedules import warmup_cosine
from mmssl.core.types import Augmentation
from mmssl.train.batches import Index, ShuffledBatches, Source
from mmssl.train.fit import Diverged, fit

Codes = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.floating[Any]]
Preprocess = Callable[[Tensor], Tensor]

LINEAR_UP_TO, PARTIAL_UP_TO = 1_000, 10_000  # labelled examples


@dataclass(frozen=True)
class Strategy:
    """How an encoder is fitted to labels.

    Args:
        name: in the protocol id.
        freeze: groups of layers, counted from the input, that keep their weights and their batch-norm statistics:
            a number, ``"half"`` (rounded down), or ``"all"`` (a linear probe).
        epochs: over the labelled examples.
        least_steps: of the optimiser, and so many more epochs where there are few examples: one of thirty is one step.
        batch_size: over all processes; smaller where there are fewer examples.
        lr_encoder: of the last group of layers.
        layer_decay: factor of the learning rate from one group to the one before it.
        head: widths of the hidden layers of the head, with ReLU; none is a linear layer on top.
        lr_head: of the head.
        optimizer: ``"adam"`` or ``"adamw"``.
        weight_decay: of weights; biases and norms have none.
        label_smoothing: share of the target that is spread evenly over the classes.
        warmup: share of the training in which the learning rate rises; then it falls as a cosine.
        clip_norm: largest norm of the gradient; None for no limit.
    """

    name: str
    freeze: int | Literal["half", "all"] = 0
    epochs: int = 30
    batch_size: int = 256
    lr_encoder: float = 1e-4
    layer_decay: float = 1.0
    head: tuple[int, ...] = ()
    lr_head: float = 1e-3
    optimizer: Literal["adam", "adamw"] = "adam"
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    warmup: float = 0.0
    clip_norm: float | None = None
    least_steps: int = 0

    def __post_init__(self) -> None:
        if self.optimizer not in ("adam", "adamw"):
            raise ValueError(f"optimizer must be 'adam' or 'adamw', got {self.optimizer!r}")
        if not (self.freeze in ("half", "all") or (isinstance(self.freeze, int) and self.freeze >= 0)):
            raise ValueError(f"freeze must be a number of groups of layers, 'half' or 'all', got {self.freeze!r}")
        for name in ("epochs", "batch_size"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.head and min(self.head) < 1:
            raise ValueError(f"head must be the widths of its hidden layers, all positive, got {list(self.head)}")

    @property
    def protocol(self) -> str:
        """Versioned id, with every setting that is not the one of the strategy of that name."""
        usual = STRATEGIES.get(self.name)
        changed = [
            f"{f.name}={_shown(getattr(self, f.name))}"
            for f in fields(self)
            if usual is not None and getattr(self, f.name) != getattr(usual, f.name)
        ]
        return f"finetune-{self.name}" + (f"({','.join(changed)})" if changed else "") + "/1"


def _shown(value: object) -> str:
    """As it stands in an id, which has no spaces: 256-256 for two layers."""
    return "-".join(map(str, value)) if isinstance(value, tuple) else str(value)


STRATEGIES = {
    strategy.name: strategy
    for strategy in (
        Strategy("linear", freeze="all", epochs=50),
        Strategy("partial", freeze="half"),
        Strategy("full"),
    )
}


def strategy_for(n_labelled: int) -> str:
    """The strategy for so many labelled examples: few of them support few weights."""
    if n_labelled <= LINEAR_UP_TO:
        return "linear"
    return "partial" if n_labelled <= PARTIAL_UP_TO else "full"


def strategies(name: str, *, n_labelled: int) -> list[Strategy]:
    """What a recipe's ``evaluate.strategy`` stands for.

    Args:
        name: ``"auto"`` (by ``n_labelled``), ``"all"``, ``"none"``, or one of ``STRATEGIES``.
        n_labelled: labelled training examples.
    """
    if name == "auto":
        return [STRATEGIES[strategy_for(n_labelled)]]
    if name == "all":
        return list(STRATEGIES.values())
    if name == "none":
        return []
    if name not in STRATEGIES:
        raise ValueError(f"strategy must be one of {['auto', 'all', 'none', *STRATEGIES]}, got {name!r}")
    return [STRATEGIES[name]]


@dataclass(frozen=True, eq=False)
class FineTuned:
    """An encoder with a head on top, in evaluation mode, on the device that trained it.

    Args:
        encoder: standardised input to ``(B, D)``.
        head: ``(B, D)`` to logits ``(B, n_classes)``, or to the estimates ``(B, 1)`` of a regression.
        preprocess: raw input to standardised input.
        protocol: versioned id of how they were made.
    """

    encoder: nn.Module
    head: nn.Sequential
    preprocess: Preprocess
    protocol: str


def finetune(
    encoder: nn.Module,
    strategy: Strategy,
    *,
    source: Source,
    labels: Codes | Numbers,
    n_classes: int | None,
    fabric: Fabric,
    preprocess: Preprocess | None = None,
    augment: Augmentation | None = None,
    seed: int = 0,
    workers: int = 0,
) -> FineTuned:
    """Fit a copy of ``encoder`` and a head to labels; the encoder itself is left as it is.

    Groups of layers come from ``encoder.layers()``, a list of lists of parameters from input to output; an encoder
    without it is a single group. Group i of G has the learning rate ``lr_encoder * layer_decay ** (G - 1 - i)``.

    Where all layers are frozen, every example is encoded once, without augmentation, and the head is trained on
    standardised features; the standardisation is then folded into its weights.

    A regression has a single output, which is fitted to standardised numbers by squared error; mean and deviation are
    then folded into the head, too.

    Several processes call this together, and share the batches.

    Args:
        encoder: gives ``(B, dim)``.
        strategy: one of ``STRATEGIES``, or your own.
        source: the labelled examples, raw.
        labels: ``(n,)`` codes from 0 to ``n_classes - 1``, or numbers.
        n_classes: outputs of the head; None for a regression.
        fabric: device, precision and processes.
        preprocess: raw batch to standardised batch, on the device; None: they are the same.
        augment: of raw batches, on the device, in training alone.
        seed: of the head, the order of the examples, augmentation and dropout.
        workers: processes that fetch batches.

    Raises:
        ValueError: labels that do not fit; or nothing is left to train.
        Diverged: gradients were never finite.
    """
    regression = n_classes is None
    if n_classes is None:
        labels = _checked_numbers(labels, n=len(source))
        mean, std = float(labels.mean()), float(labels.std())
        labels = ((labels - mean) / std).astype(np.float32)
    else:
        labels = _checked(labels, n=len(source), n_classes=n_classes)
    encoder = copy.deepcopy(encoder).to(fabric.device)
    preprocess = nn.Identity() if preprocess is None else _own(preprocess, fabric)
    augment = None if augment is None else _own(augment, fabric)
    devices = [fabric.device] if fabric.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        head = mlp([encoder.dim, *strategy.head, n_classes or 1], norm=False).to(fabric.device)  # type: ignore[list-item]
        torch.manual_seed(seed + 7919 * rank())  # processes draw different augmentations and dropout
        if strategy.freeze == "all":
            augment = None
            _probe(encoder, head, preprocess, source, labels, strategy, fabric, seed)
        else:
            groups = _trained(encoder, strategy)
            examples = _Labelled(source, labels)
            classifier = _Classifier(encoder, head, preprocess, augment, strategy.label_smoothing)
            _train(classifier, groups, examples, strategy, fabric, seed, workers)
    if regression:
        last = head[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.weight.mul_(std)
            last.bias.mul_(std).add_(mean)
    protocol = strategy.protocol if augment is None else strategy.protocol.replace("/", "+augment/")
    return FineTuned(encoder.eval(), head, preprocess, protocol)


def predict(tuned: FineTuned, source: Source, *, fabric: Fabric, batch_size: int = 512) -> Codes:
    """Predicted codes ``(m,)`` of all samples of ``source``, by this process alone."""
    return _outputs(tuned, source, fabric, batch_size).argmax(dim=1).cpu().numpy()


def probabilities(tuned: FineTuned, source: Source, *, fabric: Fabric, batch_size: int = 512) -> Numbers:
    """Probabilities ``(m, n_classes)`` of all samples of ``source``, by this process alone."""
    return _outputs(tuned, source, fabric, batch_size).softmax(dim=1).cpu().numpy()


def estimates(tuned: FineTuned, source: Source, *, fabric: Fabric, batch_size: int = 512) -> Numbers:
    """What a regression predicts ``(m,)`` for all samples of ``source``, by this process alone."""
    return _outputs(tuned, source, fabric, batch_size)[:, 0].cpu().numpy()


def _outputs(tuned: FineTuned, source: Source, fabric: Fabric, batch_size: int) -> Tensor:
    def head(x: Tensor) -> Tensor:
        h = tuned.encoder(x)  # (B, D)
        with torch.autocast(h.device.type, enabled=False):
            return tuned.head(h.float())

    return _over(source, head, tuned.preprocess, fabric, batch_size)


def layer_groups(encoder: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters that fine-tuning may change, in groups from input to output.

    Where some parameters ask for a gradient, the others are fixed on purpose (sine positions) and in no group; where
    none does (a teacher, an averaged encoder), all are.

    Raises:
        ValueError: ``encoder.layers()`` names a parameter twice, or leaves one out.
    """
    layers = getattr(encoder, "layers", None)
    groups = [list(group) for group in layers()] if inspect.ismethod(layers) else [list(encoder.parameters())]
    times = Counter(id(p) for group in groups for p in group)
    if wrong := [f"{name} ({times[id(p)]} times)" for name, p in encoder.named_parameters() if times[id(p)] != 1]:
        raise ValueError(f"{type(encoder).__name__}.layers() must name every parameter once, not {', '.join(wrong)}")
    fixed = any(p.requires_grad for p in encoder.parameters())
    return [[p for p in group if p.requires_grad or not fixed] for group in groups]


def _checked(labels: npt.NDArray[Any], *, n: int, n_classes: int) -> Codes:
    labels = np.asarray(labels)
    if labels.shape != (n,) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"{n} examples need {n} integer codes, got {labels.dtype} of shape {labels.shape}")
    outside = np.flatnonzero((labels < 0) | (labels >= n_classes))
    if len(outside):
        raise ValueError(
            f"labels must be codes from 0 to n_classes - 1 = {n_classes - 1}, got {labels[outside[0]]} at position "
            f"{outside[0]} ({len(outside)} such labels)"
        )
    if len(np.unique(labels)) < 2:
        raise ValueError(
            f"all {n} examples have the label {labels[0] if n else 'none'}: there is nothing to tell apart"
        )
    return labels.astype(np.int64)


def _checked_numbers(labels: Numbers | Codes, *, n: int) -> npt.NDArray[np.float64]:
    if labels.shape != (n,) or not np.issubdtype(labels.dtype, np.number):
        raise ValueError(f"{n} examples need {n} numbers to predict, got {labels.dtype} of shape {labels.shape}")
    if not np.isfinite(labels).all() or np.ptp(labels) == 0:
        raise ValueError(
            f"numbers to predict must be finite and not all the same, got {labels.min()} to {labels.max()}"
        )
    return labels.astype(np.float64)


def _own(function: Callable[[Any], Any], fabric: Fabric) -> Callable[[Any], Any]:
    """A module is copied to the device, and stays in evaluation mode."""
    if not isinstance(function, nn.Module):
        return function
    return copy.deepcopy(function).to(fabric.device).eval()


def _trained(encoder: nn.Module, strategy: Strategy) -> list[tuple[list[nn.Parameter], float]]:
    """Groups that are trained and their learning rates; the others are frozen."""
    groups = layer_groups(encoder)
    n = len(groups)
    frozen = n // 2 if strategy.freeze == "half" else int(strategy.freeze)
    if strategy.freeze == "half" and frozen == 0:
        raise ValueError(
            f"{type(encoder).__name__} is a single group of layers, half of which cannot be frozen: give it a method "
            "layers(), or take the strategy linear or full"
        )
    if frozen >= n:
        raise ValueError(
            f"freeze={strategy.freeze} leaves none of {n} groups of layers to train; a linear probe is freeze='all'"
        )
    encoder.requires_grad_(False)
    for p in itertools.chain(*groups[frozen:]):
        p.requires_grad_(True)
    return [(groups[i], strategy.lr_encoder * strategy.layer_decay ** (n - 1 - i)) for i in range(frozen, n)]


class _Labelled:
    """Samples with their labels."""

    def __init__(self, source: Source, labels: Codes | Numbers) -> None:
        self.source = source
        self.labels = torch.from_numpy(labels)

    def __len__(self) -> int:
        return len(self.source)

    def fetch(self, index: Index) -> tuple[Any, Tensor]:
        return self.source.fetch(index), self.labels[index]


class _Rows:
    """Features as a source."""

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def fetch(self, index: Index) -> Tensor:
        return self.x[torch.from_numpy(index)]


class _Classifier(nn.Module):
    """Encoder, head and cross-entropy (squared error for numbers), as a `Method`."""

    def __init__(
        self,
        encoder: nn.Module,
        head: nn.Sequential,
        preprocess: Preprocess,
        augment: Augmentation | None,
        label_smoothing: float,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.preprocess = preprocess
        self.augment = augment
        self.label_smoothing = label_smoothing

    def forward(self, batch: tuple[Any, Tensor]) -> dict[str, Tensor]:
        x, y = batch
        with torch.no_grad(), torch.autocast(y.device.type, enabled=False):
            x = self.preprocess(x if self.augment is None else self.augment(x))
        h = self.encoder(x)  # (B, D)
        with torch.autocast(y.device.type, enabled=False):
            if y.is_floating_point():
                return {"loss": F.mse_loss(self.head(h.float())[:, 0], y)}
            return {"loss": F.cross_entropy(self.head(h.float()), y, label_smoothing=self.label_smoothing)}

    def train(self, mode: bool = True) -> _Classifier:
        """Frozen layers stay in evaluation mode: their batch-norm statistics are frozen, too."""
        super().train(mode)
        if mode:
            for module in _still(self.encoder):
                module.training = False
            for part in (self.preprocess, self.augment):
                if isinstance(part, nn.Module):
                    part.eval()
        return self

    def after_step(self, progress: float, skipped: Tensor) -> None:
        """There is no state besides the weights."""

    def export(self) -> nn.Module:
        return self.encoder


def _still(encoder: nn.Module) -> list[nn.Module]:
    """The modules that belong to frozen layers.

    A module without parameters, such as dropout or a norm without weights, belongs to the layer before it.
    """
    found = []
    before = False  # was the last module with weights of its own frozen?
    for module in encoder.modules():
        params = list(module.parameters())
        frozen = not any(p.requires_grad for p in params) if params else before
        if own := list(module.parameters(recurse=False)):
            before = not any(p.requires_grad for p in own)
        if frozen:
            found.append(module)
    return found


def _probe(
    encoder: nn.Module,
    head: nn.Sequential,
    preprocess: Preprocess,
    source: Source,
    labels: Codes | Numbers,
    strategy: Strategy,
    fabric: Fabric,
    seed: int,
) -> None:
    """Train the head on features that are computed once."""
    encoder.eval().requires_grad_(False)
    x = _over(source, lambda batch: encoder(batch).float(), preprocess, fabric, strategy.batch_size)  # (n, D)
    std, mean = torch.std_mean(x, dim=0, correction=0)
    std = torch.where(std > 1e-6 * mean.abs(), std, torch.ones_like(std))  # a constant feature is only shifted
    classifier = _Classifier(nn.Identity(), head, nn.Identity(), None, strategy.label_smoothing)
    _train(classifier, [], _Labelled(_Rows((x - mean) / std), labels), strategy, fabric, seed, workers=0)
    first = head[0]
    assert isinstance(first, nn.Linear)
    with torch.no_grad():
        first.weight.div_(std)
        first.bias.sub_(first.weight @ mean)


def _train(
    classifier: _Classifier,
    groups: list[tuple[list[nn.Parameter], float]],
    examples: _Labelled,
    strategy: Strategy,
    fabric: Fabric,
    seed: int,
    workers: int,
) -> None:
    batches = ShuffledBatches(
        examples,
        batch_size=_even(len(examples), strategy.batch_size),
        seed=seed,
        workers=workers,
        pin_memory=fabric.device.type == "cuda",
    )
    per_epoch = len(examples) // batches.batch_size
    steps = max(strategy.epochs * per_epoch, strategy.least_steps)
    title = f"fine-tuning ({strategy.name})"
    skipped = 0.0
    with tqdm(total=steps, desc=title, unit="step", disable=fabric.global_rank > 0, dynamic_ncols=True) as bar:
        for state in fit(
            classifier,
            batches,
            optimizer=_optimizer([*groups, (list(classifier.head.parameters()), strategy.lr_head)], strategy),
            steps=steps,
            fabric=fabric,
            schedule=partial(warmup_cosine, warmup=strategy.warmup),
            clip_norm=strategy.clip_norm,
            log_every=per_epoch,
            patience=steps + 1,  # below
        ):
            if state.metrics:
                skipped = state.metrics["skipped"]
                bar.set_postfix(loss=f"{state.metrics['loss']:.3f}", refresh=False)
            bar.update()
    if skipped == steps:
        raise Diverged(
            f"{title}: no gradient was finite in {steps} steps; lower the learning rates, or look for NaN in the inputs"
        )
    if skipped and fabric.global_rank == 0:
        warnings.warn(
            f"{title}: {skipped:.0f} of {steps} steps were skipped because a gradient was not finite", stacklevel=3
        )


def _even(n: int, batch_size: int) -> int:
    """The batch size, at most ``batch_size``, that leaves the fewest of ``n`` examples out of an epoch."""
    world = world_size()
    size = n // math.ceil(n / batch_size)
    return max(size - size % world, world, min(2, n))  # batch norm needs two


def _optimizer(groups: list[tuple[list[nn.Parameter], float]], strategy: Strategy) -> torch.optim.Optimizer:
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[strategy.optimizer]
    split = [
        {"params": [p for p in group if (p.ndim > 1) == decayed], "lr": lr, "weight_decay": decay}
        for group, lr in groups
        for decayed, decay in ((True, strategy.weight_decay), (False, 0.0))
    ]
    return kind([entry for entry in split if entry["params"]], fused=True)


@torch.no_grad()
def _over(
    source: Source, function: Callable[[Tensor], Tensor], preprocess: Preprocess, fabric: Fabric, batch_size: int
) -> Tensor:
    """``function`` of all samples in order, batch after batch, on the device."""
    out = []
    for start in range(0, len(source), batch_size):
        index = np.arange(start, min(start + batch_size, len(source)))
        x = preprocess(fabric.to_device(source.fetch(index)))
        with fabric.autocast():
            out.append(function(x))
    return torch.cat(out)
