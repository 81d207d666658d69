"""Probing and fine-tuning: what is trained, what is not, and that both learn."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from mmssl.core.ema import AveragedModel
from mmssl.eval.evaluate import FINE_TUNED
from mmssl.train.batches import Index
from mmssl.train.finetune import (
    STRATEGIES,
    FineTuned,
    Strategy,
    estimates,
    finetune,
    layer_groups,
    predict,
    probabilities,
    strategies,
)
from mmssl.train.fit import Diverged, setup_fabric

QUICK = Strategy("quick", epochs=20, batch_size=32, lr_encoder=3e-3, lr_head=3e-2)
PROBE = replace(QUICK, freeze="all", epochs=60)


class Rows:
    """`(n, 6)` as a source that counts what is fetched."""

    def __init__(self, x: Tensor) -> None:
        self.x = x
        self.fetched = 0

    def __len__(self) -> int:
        return len(self.x)

    def fetch(self, index: Index) -> Tensor:
        self.fetched += len(index)
        return self.x[torch.from_numpy(index)]


class Blocks(nn.Module):
    """Four groups: a stem, two blocks with batch norm, a norm without weights and dropout, and an outlet."""

    def __init__(self, dim: int = 8) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.dim = dim
        self.stem = nn.Linear(6, 16)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.BatchNorm1d(16, affine=False))
            for _ in range(2)
        )
        self.dropout = nn.Dropout(0.1)
        self.out = nn.Linear(16, dim)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        for block in self.blocks:
            h = h + block(h)
        return self.out(self.dropout(h))

    def layers(self) -> list[list[nn.Parameter]]:
        return [list(part.parameters()) for part in (self.stem, *self.blocks, self.out)]


class Bare(nn.Module):
    """One linear layer, without groups."""

    dim = 4

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


@pytest.fixture(scope="module")
def fabric() -> Fabric:
    return setup_fabric(device="cpu")


def moons(n: int = 200, seed: int = 0) -> tuple[Rows, np.ndarray]:
    """Three classes that no linear map of the inputs tells apart: rings, seen through six mixed channels."""
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 3
    angle = 6.2832 * torch.rand(n, generator=g)
    ring = (1 + y)[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)
    mix = torch.randn(2, 6, generator=torch.Generator().manual_seed(9))
    return Rows(ring @ mix + 0.1 * torch.randn(n, 6, generator=g)), y.numpy()


def tune(encoder: nn.Module, strategy: Strategy, fabric: Fabric, **options: Any) -> FineTuned:
    source, labels = moons()
    known: dict[str, Any] = {"source": source, "labels": labels, "n_classes": 3, "fabric": fabric, **options}
    return finetune(encoder, strategy, **known)


def accuracy(tuned: FineTuned, fabric: Fabric) -> float:
    source, labels = moons(seed=1)
    return float((predict(tuned, source, fabric=fabric, batch_size=64) == labels).mean())


def moved(before: nn.Module, after: nn.Module) -> set[str]:
    """Names of parameters and buffers that differ."""
    old, new = before.state_dict(), after.state_dict()
    return {name for name in old if not torch.equal(old[name], new[name])}


def test_full_fine_tuning_learns_what_a_probe_cannot(fabric: Fabric) -> None:
    encoder = Bare()
    assert accuracy(tune(encoder, PROBE, fabric), fabric) < 0.6
    assert accuracy(tune(Blocks(), QUICK, fabric), fabric) > 0.9


@pytest.mark.parametrize("strategy", [QUICK, PROBE, replace(QUICK, freeze="half")], ids=lambda s: str(s.freeze))
@pytest.mark.parametrize("training", [True, False])
def test_the_callers_encoder_is_untouched(strategy: Strategy, training: bool, fabric: Fabric) -> None:
    encoder = Blocks().train(training)
    before = copy.deepcopy(encoder)
    tuned = tune(encoder, replace(strategy, epochs=1), fabric)
    assert not moved(before, encoder)
    assert encoder.training is training
    assert all(p.requires_grad and p.grad is None for p in encoder.parameters())
    assert not tuned.encoder.training
    assert not {id(p) for p in tuned.encoder.parameters()} & {id(p) for p in encoder.parameters()}


@pytest.mark.parametrize(
    ("freeze", "still"),
    [(0, ()), (1, ("stem",)), ("half", ("stem", "blocks.0")), (3, ("stem", "blocks.0", "blocks.1"))],
)
def test_frozen_groups_keep_weights_and_statistics_and_all_others_move(
    freeze: Any, still: tuple[str, ...], fabric: Fabric
) -> None:
    encoder = Blocks()
    changed = moved(encoder, tune(encoder, replace(QUICK, freeze=freeze, epochs=1), fabric).encoder)
    expected = {name for name in encoder.state_dict() if not name.startswith(still or "none")}
    assert changed == expected


def test_a_probe_changes_nothing_of_the_encoder_and_encodes_each_example_once(fabric: Fabric) -> None:
    encoder = Blocks()
    source, labels = moons()
    tuned = finetune(encoder, PROBE, source=source, labels=labels, n_classes=3, fabric=fabric, augment=_forbidden)
    assert not moved(encoder, tuned.encoder)
    assert source.fetched == len(source)
    assert tuned.protocol == "finetune-quick/1"


def test_a_probe_is_logistic_regression_on_standardised_features(fabric: Fabric) -> None:
    encoder = Blocks().eval()
    source, labels = moons()
    with torch.no_grad():  # features that no single learning rate fits as they are
        encoder.out.weight.mul_(torch.logspace(-2, 2, 8)[:, None])
        encoder.out.bias.add_(torch.arange(8.0))
        features = encoder(source.x).numpy()
    logistic = LogisticRegression(C=1 / (200 * 0.05), max_iter=10_000, tol=1e-8)
    reference = make_pipeline(StandardScaler(), logistic).fit(features, labels)
    strategy = replace(PROBE, epochs=300, batch_size=200, lr_head=0.05, weight_decay=0.05)
    found = tune(encoder, strategy, fabric).head(torch.from_numpy(features)).softmax(dim=1)
    np.testing.assert_allclose(found.detach(), reference.predict_proba(features), atol=2e-3)


def test_learning_rates_fall_by_a_factor_from_group_to_group(fabric: Fabric) -> None:
    encoder = Blocks()
    strategy = replace(QUICK, epochs=1, batch_size=200, lr_encoder=1e-3, layer_decay=0.5)  # a single step
    tuned = tune(encoder, strategy, fabric)
    # Adam's first step is the learning rate, in the direction of the gradient's sign.
    steps = [
        max(float((a - b).detach().abs().max()) for a, b in zip(before, after, strict=True))
        for before, after in zip(encoder.layers(), tuned.encoder.layers(), strict=True)  # type: ignore[operator]
    ]
    assert steps == pytest.approx([1.25e-4, 2.5e-4, 5e-4, 1e-3], rel=0.01)


def test_probabilities_are_those_of_the_predicted_classes(fabric: Fabric) -> None:
    tuned, (source, _) = tune(Blocks(), QUICK, fabric), moons(seed=1)
    shares = probabilities(tuned, source, fabric=fabric, batch_size=64)
    assert shares.shape == (200, 3)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(shares.argmax(axis=1), predict(tuned, source, fabric=fabric))
    with torch.no_grad():
        logits = tuned.head(tuned.encoder(source.x)).double().numpy()
    np.testing.assert_allclose(shares, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), rtol=1e-5)


def radius(seed: int = 0) -> tuple[Rows, np.ndarray]:
    """What `moons` has as classes, as a number far from 0."""
    source, ring = moons(300, seed)
    return source, 1_000.0 + 50.0 * ring


@pytest.mark.parametrize(("strategy", "least"), [(QUICK, 0.9), (PROBE, 0.8)], ids=["full", "probe"])
def test_numbers_are_predicted_in_their_own_unit(strategy: Strategy, least: float, fabric: Fabric) -> None:
    encoder: nn.Module = Blocks()
    if strategy is PROBE:  # what fine-tuning to classes has learnt, a linear map can read off
        encoder = tune(encoder, replace(QUICK, epochs=40), fabric).encoder
    source, y = radius()
    tuned = finetune(encoder, strategy, source=source, labels=y, n_classes=None, fabric=fabric)
    test, truth = radius(1)
    predicted = estimates(tuned, test, fabric=fabric)
    assert predicted.shape == truth.shape
    assert 1 - np.mean((predicted - truth) ** 2) / np.var(truth) > least


@pytest.mark.parametrize("freeze", [0, "all"])
def test_the_head_may_have_hidden_layers_and_predicts_numbers_in_their_unit_then_too(
    freeze: Any, fabric: Fabric
) -> None:
    strategy = replace(QUICK, name="full", head=(32, 16), freeze=freeze, epochs=60, lr_head=1e-2)
    source, y = radius()
    tuned = finetune(Blocks(), strategy, source=source, labels=y, n_classes=None, fabric=fabric)
    assert [layer.out_features for layer in tuned.head if isinstance(layer, nn.Linear)] == [32, 16, 1]
    assert "head=32-16" in tuned.protocol
    guess = estimates(tuned, source, fabric=fabric)
    assert np.corrcoef(guess, y)[0, 1] > 0.9
    assert abs(guess.mean() - y.mean()) < 10
    with pytest.raises(ValueError, match=r"head must be the widths of its hidden layers, all positive, got \[32, 0\]"):
        replace(strategy, head=(32, 0))


@pytest.mark.parametrize("labels", [np.ones(200), np.array([0.0, np.nan] * 100), np.array(["a", "b"] * 100)])
def test_numbers_that_cannot_be_predicted_are_refused(labels: np.ndarray, fabric: Fabric) -> None:
    with pytest.raises(ValueError, match=r"numbers to predict"):
        tune(Blocks(), QUICK, fabric, labels=labels, n_classes=None)


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_generator_alone(fabric: Fabric) -> None:
    strategy = replace(QUICK, epochs=2)
    encoder = Blocks()
    torch.manual_seed(5)
    first = tune(encoder, strategy, fabric, augment=_noise)
    assert torch.equal(torch.get_rng_state(), torch.Generator().manual_seed(5).get_state())
    torch.manual_seed(6)
    second = tune(encoder, strategy, fabric, augment=_noise)
    other = tune(encoder, strategy, fabric, augment=_noise, seed=1)
    assert not moved(first.encoder, second.encoder) | moved(first.head, second.head)
    assert moved(first.head, other.head)


def test_raw_inputs_are_augmented_in_training_alone_and_then_standardised(fabric: Fabric) -> None:
    seen: list[tuple[str, bool]] = []

    def augment(x: Tensor) -> Tensor:
        seen.append(("augment", bool(x.dtype == torch.uint8)))
        return x

    def preprocess(x: Tensor) -> Tensor:
        seen.append(("preprocess", bool(x.dtype == torch.uint8)))
        return x.float() / 64 - 2

    source, labels = moons()
    raw = Rows(((source.x + 4) * 30).clamp(0, 255).to(torch.uint8))
    strategy = replace(QUICK, epochs=1, batch_size=100)
    known: dict[str, Any] = {"source": raw, "labels": labels, "n_classes": 3, "fabric": fabric}
    tuned = finetune(Blocks(), strategy, preprocess=preprocess, augment=augment, **known)
    assert seen == [("augment", True), ("preprocess", True)] * 2
    assert tuned.protocol == "finetune-quick+augment/1"
    seen.clear()
    predict(tuned, raw, fabric=fabric)
    assert seen == [("preprocess", True)]


def test_a_preprocessing_module_is_copied_and_keeps_its_statistics(fabric: Fabric) -> None:
    norm = nn.BatchNorm1d(6, affine=False)
    tuned = tune(Blocks(), replace(QUICK, epochs=1), fabric, preprocess=norm)
    assert isinstance(tuned.preprocess, nn.Module)
    assert tuned.preprocess is not norm
    assert norm.training
    assert not tuned.preprocess.training
    assert not moved(norm, tuned.preprocess)


def test_an_encoder_without_layers_is_one_group_which_has_no_half(fabric: Fabric) -> None:
    assert [len(group) for group in layer_groups(Bare())] == [2]
    assert moved(Bare(), tune(Bare(), replace(QUICK, epochs=1), fabric).encoder) == {"linear.weight", "linear.bias"}
    with pytest.raises(ValueError, match="Bare is a single group of layers, half of which cannot be frozen"):
        tune(Bare(), STRATEGIES["partial"], fabric)


def test_an_averaged_encoder_is_trained_although_it_asks_for_no_gradient(fabric: Fabric) -> None:
    averaged = AveragedModel(Blocks()).module
    assert not any(p.requires_grad for p in averaged.parameters())
    assert len(moved(averaged, tune(averaged, replace(QUICK, epochs=1), fabric).encoder)) == len(averaged.state_dict())


def test_a_weight_that_is_fixed_on_purpose_stays(fabric: Fabric) -> None:
    encoder = Blocks()
    encoder.stem.bias.requires_grad_(False)
    assert "stem.bias" not in moved(encoder, tune(encoder, replace(QUICK, epochs=1), fabric).encoder)


def test_layers_that_leave_a_parameter_out_or_name_one_twice_are_refused(fabric: Fabric) -> None:
    encoder = Blocks()
    groups = encoder.layers()
    encoder.layers = type(encoder).layers.__get__(encoder)  # type: ignore[method-assign]
    assert layer_groups(encoder) == groups

    class Wrong(Blocks):
        def layers(self) -> list[list[nn.Parameter]]:
            return [*super().layers()[1:], [self.out.bias]]

    with pytest.raises(ValueError, match=r"Wrong.layers\(\) must name every .* stem.weight \(0 .* out.bias \(2 times"):
        tune(Wrong(), QUICK, fabric)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"labels": np.zeros(200, dtype=np.int64)},
            "all 200 examples have the label 0: there is nothing to tell apart",
        ),
        ({"n_classes": 2}, r"codes from 0 to n_classes - 1 = 1, got 2 at position 2 \(66 such labels\)"),
        ({"labels": np.arange(200) % 3 - 1}, "got -1 at position 0"),
        (
            {"labels": np.zeros(199, dtype=np.int64)},
            r"200 examples need 200 integer codes, got int64 of shape \(199,\)",
        ),
        ({"labels": np.arange(200) / 3}, "got float64"),
    ],
)
def test_labels_that_do_not_fit_are_refused(change: dict[str, Any], message: str, fabric: Fabric) -> None:
    with pytest.raises(ValueError, match=message):
        tune(Blocks(), QUICK, fabric, **change)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Strategy("x", optimizer="sgd"), "optimizer must be 'adam' or 'adamw', got 'sgd'"),  # type: ignore[arg-type]
        (lambda: Strategy("x", freeze=-1), "freeze must be a number of groups of layers, 'half' or 'all', got -1"),
        (lambda: Strategy("x", epochs=0), "epochs must be at least 1, got 0"),
        (lambda: strategies("best", n_labelled=5), "got 'best'"),
    ],
)
def test_impossible_strategies_are_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_freezing_every_group_by_number_points_to_the_probe(fabric: Fabric) -> None:
    with pytest.raises(ValueError, match="freeze=4 leaves none of 4 groups of layers to train"):
        tune(Blocks(), replace(QUICK, freeze=4), fabric)


@pytest.mark.parametrize("n", [2, 3, 5, 33])
def test_few_examples_are_a_smaller_batch(n: int, fabric: Fabric) -> None:
    source, labels = moons(n)
    strategy = replace(QUICK, epochs=2, batch_size=32)
    for kind in (strategy, replace(strategy, freeze="all")):
        tuned = finetune(Blocks(), kind, source=source, labels=labels, n_classes=3, fabric=fabric)
        assert predict(tuned, source, fabric=fabric).shape == (n,)


def test_an_epoch_leaves_as_few_examples_out_as_can_be(fabric: Fabric) -> None:
    source, labels = moons(66)
    finetune(
        Blocks(), replace(QUICK, epochs=1, batch_size=64), source=source, labels=labels, n_classes=3, fabric=fabric
    )
    assert source.fetched == 66  # two batches of 33, not one of 64


def test_inputs_that_are_never_finite_are_an_error_and_single_ones_a_warning(fabric: Fabric) -> None:
    source, _ = moons()
    source.x[3] = torch.nan
    with pytest.warns(UserWarning, match=r"3 of 21 steps were skipped"):
        tuned = tune(Blocks(), replace(QUICK, epochs=3), fabric, source=source)
    assert all(torch.isfinite(value).all() for value in tuned.encoder.state_dict().values())
    source.x[:] = torch.nan
    with pytest.raises(Diverged, match="no gradient was finite in 21 steps"):
        tune(Blocks(), replace(QUICK, epochs=3), fabric, source=source)


def test_label_smoothing_decay_clipping_warmup_and_adamw_reach_the_training(fabric: Fabric) -> None:
    usual = tune(Blocks(), replace(QUICK, epochs=1), fabric)
    changes: list[dict[str, Any]] = [
        {"label_smoothing": 0.2},
        {"weight_decay": 0.5},
        {"weight_decay": 0.5, "optimizer": "adamw"},
        {"clip_norm": 1e-9},
        {"warmup": 0.5},
    ]
    for change in changes:
        assert moved(usual.head, tune(Blocks(), replace(QUICK, epochs=1, **change), fabric).head), change


def test_decay_is_for_matrices_alone(fabric: Fabric) -> None:
    strategy = replace(QUICK, epochs=1, batch_size=200, optimizer="adamw", lr_encoder=1e-4, weight_decay=5_000)
    encoder = Blocks()
    tuned = tune(encoder, strategy, fabric).encoder
    assert isinstance(tuned, Blocks)
    torch.testing.assert_close(tuned.stem.weight, encoder.stem.weight / 2, atol=2e-4, rtol=0)
    torch.testing.assert_close(tuned.stem.bias, encoder.stem.bias, atol=2e-4, rtol=0)


def test_bfloat16_fine_tunes_too() -> None:
    fabric = setup_fabric(device="cpu", precision="bf16-mixed")
    for strategy in (QUICK, replace(PROBE, epochs=2)):
        tuned = tune(Blocks(), strategy, fabric)
        assert tuned.head[0].weight.dtype == torch.float32
        assert accuracy(tuned, fabric) > 0.3


def test_auto_follows_the_number_of_labels() -> None:
    def names(name: str, n: int) -> list[str]:
        return [strategy.name for strategy in strategies(name, n_labelled=n)]

    assert [names("auto", n) for n in (10, 1_000, 1_001, 10_000, 10_001)] == [
        ["linear"],
        ["linear"],
        ["partial"],
        ["partial"],
        ["full"],
    ]
    assert names("all", 10) == ["linear", "partial", "full"]
    assert names("none", 10) == []
    assert names("full", 10) == ["full"]


def test_an_id_names_what_differs_from_the_usual_strategy() -> None:
    assert [strategy.protocol for strategy in STRATEGIES.values()] == list(FINE_TUNED)
    assert replace(STRATEGIES["full"], epochs=5, freeze=2).protocol == "finetune-full(freeze=2,epochs=5)/1"


def _noise(x: Tensor) -> Tensor:
    return x + 0.1 * torch.randn_like(x)


def _forbidden(x: Tensor) -> Tensor:
    raise AssertionError("a probe augments nothing")
