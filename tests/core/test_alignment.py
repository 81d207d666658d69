"""Two towers: gradients in chunks, frozen towers, what a step changes, and resuming."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmssl.core.methods.alignment import Alignment, Pairs, Towers
from mmssl.core.objectives.alignment import PairObjective
from mmssl.core.objectives.clip import CLIP
from mmssl.core.objectives.siglip import SigLIP
from mmssl.core.transformer import Block
from mmssl.core.types import Method
from mmssl.train.checkpoint import Checkpoints
from mmssl.train.fit import fit, setup_fabric
from mmssl.train.optim import build_optimizer, decay_groups
from tests.core.methods import Dense
from tests.train.small import everything, same

BATCH = 12
OBJECTIVES: dict[str, Callable[[], PairObjective]] = {"CLIP": CLIP, "SigLIP": lambda: SigLIP(bias=-2.0)}
both = pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)


class Sequence(nn.Module):
    """``(B, N, 8)`` to ``(B, 8)``: a transformer block with dropout, and the mean."""

    dim = 8

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.block = Block(8, 2, dropout=dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x).mean(dim=1)


class Plain(nn.Sequential):
    """``(B, 6)`` to ``(B, 5)`` without batch normalisation."""

    dim = 5

    def __init__(self) -> None:
        super().__init__(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 5))


def pairs(seed: int = 0) -> Pairs:
    draw = torch.Generator().manual_seed(seed)
    first, second = torch.randn(BATCH, 6, generator=draw), torch.randn(BATCH, 4, 8, generator=draw)
    return Pairs(first, second, torch.randint(0, 9, (BATCH, 2), generator=draw))


def method(
    objective: Callable[[], PairObjective] = CLIP,
    *,
    first: Callable[[], nn.Module] = Plain,
    dropout: float = 0.0,
    **options: Any,
) -> Alignment:
    torch.manual_seed(0)
    return Alignment(Towers({"a": first(), "b": Sequence(dropout)}, dim=7), objective(), **options)


def gradients(built: Alignment, batch: Pairs) -> dict[str, Tensor]:
    """Of all parameters, and the loss; dropout draws from a seed of its own."""
    torch.manual_seed(5)
    loss = built(batch)["loss"]
    loss.backward()
    found = {name: p.grad for name, p in built.named_parameters() if p.grad is not None}
    return found | {"loss": loss.detach()}


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name] - value).norm() <= 1e-5 * value.norm() + 1e-7, name


@both
@pytest.mark.parametrize("chunks", [2, 4, 5, 100])
def test_gradients_in_chunks_are_those_of_the_whole_batch(objective: Callable[[], PairObjective], chunks: int) -> None:
    assert_close(gradients(method(objective, chunks=chunks), pairs()), gradients(method(objective), pairs()))


class Kept(Alignment):
    """In chunks whose activations are all kept: what chunks must not differ from."""

    def _embed(self, name: str, x: Any) -> Tensor:
        return torch.cat([self.towers.embed(name, part) for part in x.chunk(self.chunks)])


def in_chunks(kind: type[Alignment], first: Callable[[], nn.Module]) -> Alignment:
    torch.manual_seed(0)
    return kind(Towers({"a": first(), "b": Sequence(0.4)}, dim=7), CLIP(), chunks=4)


@pytest.mark.parametrize("first", [Plain, Dense], ids=["plain", "batch-norm"])
def test_the_second_pass_drops_out_the_same_and_normalises_by_the_same_chunk(first: Callable[[], nn.Module]) -> None:
    ours, kept = in_chunks(Alignment, first), in_chunks(Kept, first)
    assert_close(gradients(ours, pairs()), gradients(kept, pairs()))
    assert same(dict(ours.state_dict()), dict(kept.state_dict())) == []  # running statistics moved once a chunk


def test_a_second_pass_draws_nothing_that_the_next_step_would_get() -> None:
    after = []
    for kind in (Alignment, Kept):
        gradients(in_chunks(kind, Plain), pairs())
        after.append(torch.rand(3))
    assert torch.equal(*after)


def test_chunks_keep_no_activations_and_come_back_one_after_the_other() -> None:
    kept, again = {}, {}
    for chunks in (1, 4):
        built = method(chunks=chunks)
        sizes: list[int] = []

        def pack(x: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(x.numel())
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            loss = built(pairs())["loss"]
        parts: list[int] = []
        built.towers.encoders["b"].register_forward_hook(
            lambda _, inputs, __, parts=parts: parts.append(len(inputs[0]))
        )
        loss.backward()
        kept[chunks], again[chunks] = sum(sizes), parts
    assert kept[4] < kept[1] / 4
    assert again == {1: [], 4: [3, 3, 3, 3]}


def test_chunks_work_under_autocast() -> None:
    results = []
    for chunks in (1, 4):
        built = method(chunks=chunks)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = built(pairs())["loss"]
        loss.backward()  # outside, as the loop does
        results.append(torch.cat([p.grad.flatten() for p in built.parameters() if p.grad is not None]))
    assert (results[1] - results[0]).norm() <= 0.02 * results[0].norm()  # sums of bfloat16 in another order


@both
@pytest.mark.parametrize("chunks", [1, 3])
def test_a_frozen_tower_stays_as_it_is_and_costs_the_optimiser_nothing(
    objective: Callable[[], PairObjective], chunks: int
) -> None:
    built = method(objective, first=Dense, frozen=["a"], chunks=chunks)
    before = copy.deepcopy(built.towers.encoders["a"].state_dict())
    optimizer = build_optimizer("adamw", decay_groups(built, lr=0.1, weight_decay=0.1), lr=0.1)
    trained(built, optimizer, steps=2)
    assert same(dict(built.towers.encoders["a"].state_dict()), dict(before)) == []
    assert not built.towers.encoders["a"].training
    assert built.towers.encoders["b"].training
    of_optimizer = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert not of_optimizer & {id(p) for p in built.towers.encoders["a"].parameters()}
    assert {id(p) for p in built.towers.projections.parameters()} <= of_optimizer


def trained(
    built: Alignment, optimizer: torch.optim.Optimizer, *, steps: int, checkpoints: Checkpoints | None = None, **kw: Any
) -> None:
    def batches(first: int) -> Iterator[Pairs]:
        while True:
            yield pairs(first)
            first += 1

    for _ in fit(
        built,
        batches,
        optimizer=optimizer,
        steps=steps,
        fabric=setup_fabric(device="cpu"),
        checkpoints=checkpoints,
        checkpoint_every=1,
        **kw,
    ):
        pass


def test_accumulated_batches_add_up_their_gradients() -> None:
    whole = method(chunks=2)
    for seed in (0, 1):
        (whole(pairs(seed))["loss"] / 2).backward()
    expected = {name: p.detach() - 0.1 * p.grad for name, p in whole.named_parameters() if p.grad is not None}
    built = method(chunks=2)
    trained(built, torch.optim.SGD(built.parameters(), lr=0.1), steps=1, accumulate=2)
    assert_close({name: p.detach() for name, p in built.named_parameters()}, expected)


@both
@pytest.mark.parametrize("options", [{}, {"chunks": 3, "frozen": ["a"]}], ids=["plain", "chunks and a frozen tower"])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(
    objective: Callable[[], PairObjective], options: dict[str, Any], tmp_path: Path
) -> None:
    def build() -> tuple[Alignment, torch.optim.Optimizer]:
        built = method(objective, first=Dense, dropout=0.3, **options)
        return built, build_optimizer("adamw", decay_groups(built, lr=0.01, weight_decay=0.1), lr=0.01)

    whole = build()
    trained(*whole, steps=4)
    parts = build()
    trained(*parts, steps=2, checkpoints=Checkpoints(tmp_path))
    resumed = build()
    torch.manual_seed(99)
    trained(*resumed, steps=4, checkpoints=Checkpoints(tmp_path))
    assert same(everything(*whole), everything(*resumed)) == []


@both
def test_every_trainable_parameter_gets_a_gradient_and_forward_changes_no_state(
    objective: Callable[[], PairObjective],
) -> None:
    built = method(objective)
    assert isinstance(built, Method)
    before = copy.deepcopy(built.state_dict())
    out = built(pairs())
    out["loss"].backward()
    assert same(dict(built.state_dict()), dict(before)) == []
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in built.parameters())
    assert all(value.isfinite() and (name == "loss") == value.requires_grad for name, value in out.items())
    assert {"loss", "collapse_loss", "scale"} <= out.keys()


@both
def test_a_step_that_was_skipped_changes_nothing(objective: Callable[[], PairObjective]) -> None:
    built = method(objective)
    before = copy.deepcopy(built.state_dict())
    broken = pairs()
    broken.first[0, 0] = float("nan")
    optimizer = build_optimizer("adamw", decay_groups(built, lr=0.1, weight_decay=0.1), lr=0.1)
    for _ in fit(
        built, lambda _: iter([broken]), optimizer=optimizer, steps=1, fabric=setup_fabric(device="cpu"), patience=9
    ):
        pass
    assert same(dict(built.state_dict()), dict(before)) == []


def test_it_learns_which_belong_together() -> None:
    """Pairs whose two sides are functions of the same four numbers."""
    torch.manual_seed(1)
    hidden = torch.randn(32, 4)
    first = hidden @ torch.randn(4, 6)
    second = (hidden @ torch.randn(4, 32)).view(32, 4, 8)
    for objective in (CLIP(), SigLIP(bias=-4.0)):
        torch.manual_seed(0)
        built = Alignment(Towers({"a": Plain(), "b": Sequence(0.0)}, dim=7), objective)
        optimizer = torch.optim.Adam(built.parameters(), lr=0.03)
        for _ in range(40):
            optimizer.zero_grad()
            built((first, second))["loss"].backward()
            optimizer.step()
        towers = built.export()
        assert isinstance(towers, Towers)
        a, b = towers.embed("a", first), towers.embed("b", second)
        found = (a @ b.T).argmax(dim=1) == torch.arange(32)
        assert found.float().mean() > 0.4  # 1/32 by chance


def test_towers_embed_on_the_unit_sphere_in_float32() -> None:
    towers = method().towers
    with torch.autocast("cpu", dtype=torch.bfloat16):
        a, b = towers.embed("a", pairs().first), towers.embed("b", pairs().second)
    for z in (a, b):
        assert z.shape == (BATCH, 7)
        assert z.dtype == torch.float32
        torch.testing.assert_close(z.norm(dim=1), torch.ones(BATCH))
    assert torch.equal(towers(pairs().first), towers.embed("a", pairs().first))


def test_views_are_made_of_the_batch_without_a_gradient() -> None:
    seen = []

    def views(batch: Pairs) -> Pairs:
        seen.append(torch.is_grad_enabled())
        return batch._replace(first=batch.first + 1)

    built = method(augment=views)
    shifted = pairs()._replace(first=pairs().first + 1)
    torch.testing.assert_close(built(pairs())["loss"], method()(shifted)["loss"])
    assert seen == [False]


def test_what_cannot_work_is_named() -> None:
    with pytest.raises(ValueError, match="chunks must be at least 1, got 0"):
        method(chunks=0)
    with pytest.raises(ValueError, match="frozen names towers: a, b, got image"):
        method(frozen=["image"])
    with pytest.raises(ValueError, match="a pair has two towers, got 1: a"):
        Towers({"a": Plain()}, dim=4)
    with pytest.raises(ValueError, match="dim must be at least 1, got 0"):
        Towers({"a": Plain(), "b": Plain()}, dim=0)
    with pytest.raises(ValueError, match="batch of one sample"):
        method()((pairs().first[:1], pairs().second[:1]))
