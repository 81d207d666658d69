"""SCARF and VIME: values against formulas written out, and that they learn what they are meant to."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmssl.core.types import Method
from mmssl.tabular.augment import Marginals
from mmssl.tabular.encoder import ENCODERS, MLP, ResNet
from mmssl.tabular.scarf import scarf
from mmssl.tabular.vime import VIME, VIMESemi, corrupt

COLUMNS = (0, 3, 0, 2)


def rows(n: int = 64, *, missing: float = 0.15, seed: int = 0) -> Tensor:
    """Columns that depend on each other, with gaps."""
    g = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, n, generator=g)
    x = torch.stack([a, 1.0 + (b > 0) + (b > 1), a + 0.1 * b, 1.0 + (a > 0)], dim=1)
    return x.masked_fill(torch.rand(n, 4, generator=g) < missing, torch.nan)


def encoder() -> MLP:
    torch.manual_seed(0)
    return MLP(COLUMNS, hidden=16, depth=2)


def train(method: nn.Module, x: Tensor, steps: int) -> list[float]:
    optimizer = torch.optim.Adam(method.parameters(), lr=3e-3)
    losses = []
    for _ in range(steps):
        loss = method(x)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# ------------------------------------------------------------------------------------------------ SCARF


def test_scarf_is_nt_xent_of_a_clean_and_a_corrupted_view() -> None:
    x = rows(8)
    method = scarf(encoder(), Marginals(rows(200)), hidden=16)
    torch.manual_seed(1)
    got = method(x)["loss"].item()
    torch.manual_seed(1)
    views = method.augment(x)
    z = torch.cat([torch.nn.functional.normalize(method.student(view), dim=1) for view in views])
    sim = (z @ z.T).detach().double().numpy()  # temperature 1
    total = 0.0
    for i in range(16):
        partner = (i + 8) % 16
        total += math.log(sum(math.exp(sim[i, j]) for j in range(16) if j != i)) - sim[i, partner]
    assert got == pytest.approx(total / 16, rel=1e-5)


def test_scarf_has_the_heads_of_the_paper() -> None:
    method = scarf(MLP(COLUMNS), Marginals(rows()))
    shapes = [tuple(p.shape) for p in method.student.projector.parameters() if p.ndim == 2]
    assert shapes == [(256, 256), (256, 256)]
    hidden = [tuple(p.shape) for p in method.encoder.parameters() if p.ndim == 2]
    assert hidden == [(256, FLAT), (256, 256), (256, 256), (256, 256)]


FLAT = 2 * 2 + 4 + 3  # two numbers with their indicators, and one-hot categories with MISSING


@pytest.mark.parametrize("name", list(ENCODERS))
def test_scarf_learns_on_every_encoder(name: str) -> None:
    torch.manual_seed(0)
    method = scarf(ENCODERS[name](COLUMNS), Marginals(rows(200)), corruption=0.3, temperature=0.5)
    losses = train(method, rows(64), 40)
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.1
    assert np.isfinite(losses).all()


def test_neither_marginals_nor_rows_go_into_a_checkpoint() -> None:
    method = scarf(encoder(), Marginals(rows(200)))
    assert sum(value.numel() for value in method.state_dict().values()) < 30_000 + 16 * 256 + 256 * 256
    assert not list(method.buffers()) or all(b.numel() < 10 for b in method.buffers())


# ------------------------------------------------------------------------------------------------ VIME


def test_a_corrupted_row_takes_cells_of_its_own_column_and_keeps_its_gaps() -> None:
    x = rows(500)
    y = corrupt(x, 0.3)
    assert torch.equal(x.isnan(), y.isnan())
    for j in range(4):
        assert np.isin(y[:, j].numpy(), x[:, j].numpy()).sum() == (~x[:, j].isnan()).sum()


@pytest.mark.parametrize("missing", [0.0, 0.3, 0.8])
def test_observed_cells_are_corrupted_at_the_rate_of_vime_however_many_others_are_missing(missing: float) -> None:
    x = torch.randn(20_000, 2).masked_fill(torch.rand(20_000, 2) < missing, torch.nan)
    changed = (corrupt(x, 0.3) != x)[~x.isnan()]
    assert float(changed.float().mean()) == pytest.approx(0.3, abs=0.02)


def test_the_loss_of_vime_is_what_the_paper_says_over_the_cells_that_are_known() -> None:
    method = VIME(encoder(), COLUMNS)
    x = rows(10)
    x[0, 1] = 0.0  # an unseen category
    corrupted = corrupt(x)
    out = {name: value.item() for name, value in method((x, corrupted)).items()}
    h = method.encoder(corrupted)
    mask = torch.sigmoid(method.mask_head(h)).detach().double().numpy()
    estimate = method.feature_head(h).detach().double().numpy()  # two numbers, three logits, two logits
    bce, features = [], []
    for i in range(10):
        for j in range(4):
            value, new = float(x[i, j]), float(corrupted[i, j])
            if math.isnan(value):
                continue
            bce.append(-math.log(mask[i, j] if value != new else 1 - mask[i, j]))
            if j in (0, 2):
                features.append((estimate[i, j // 2] - value) ** 2)
            elif value > 0:
                logits = estimate[i, 2:5] if j == 1 else estimate[i, 5:7]
                features.append(math.log(np.exp(logits).sum()) - logits[int(value) - 1])
    assert out["mask_loss"] == pytest.approx(np.mean(bce), rel=1e-4)
    assert out["feature_loss"] == pytest.approx(np.mean(features), rel=1e-4)
    assert out["loss"] == pytest.approx(np.mean(bce) + 2 * np.mean(features), rel=1e-4)


def test_a_cell_replaced_by_its_own_value_counts_as_not_corrupted() -> None:
    method = VIME(encoder(), COLUMNS)
    x = torch.ones(5, 4)
    logits = torch.full((5, 4), -20.0)
    assert method.mask_loss(logits, x, corrupt(x, 0.9)).item() < 1e-6


def test_vime_learns_to_tell_corrupted_cells_and_to_restore_them() -> None:
    x = rows(512, missing=0.05)
    method = VIME(MLP(COLUMNS, hidden=64, depth=1), COLUMNS)
    first = {name: value.item() for name, value in method(x).items()}
    train(method, x, 300)
    last = {name: value.item() for name, value in method(x).items()}
    assert last["mask_loss"] < first["mask_loss"] - 0.05
    assert last["feature_loss"] < 0.7 * first["feature_loss"]


def test_every_parameter_of_vime_gets_a_gradient_and_missing_cells_none() -> None:
    method = VIME(encoder(), COLUMNS)
    method(rows())["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.parameters())
    method.zero_grad()
    x = rows(30)
    x[:, 2] = torch.nan
    method(x)["loss"].backward()
    assert not method.feature_head.weight.grad[1].any()  # type: ignore[index]
    assert not method.mask_head.weight.grad[2].any()  # type: ignore[index]


@pytest.mark.parametrize("columns", [(0, 0), (3, 2)])
def test_vime_takes_tables_of_one_kind_of_column(columns: tuple[int, ...]) -> None:
    method = VIME(MLP(columns, hidden=8, depth=1), columns)
    x = torch.randn(20, 2) if columns[0] == 0 else torch.randint(1, 3, (20, 2)).float()
    assert method(x)["loss"].isfinite()


def test_a_fixed_corruption_comes_with_the_batch() -> None:
    method = VIME(encoder(), COLUMNS)
    x = rows()
    pair = (x, corrupt(x))
    assert method(pair)["loss"].item() == method(pair)["loss"].item()
    assert method(x)["loss"].item() != method(x)["loss"].item()


# ------------------------------------------------------------------------------------------------ VIME, semi-supervised


def test_the_semi_supervised_loss_is_supervised_plus_variance_over_corruptions() -> None:
    method = VIMESemi(encoder(), 3, beta=1.5)
    x, unlabelled, y = rows(6), rows(9, seed=1), torch.tensor([0, 1, 2, 0, 1, 2])
    torch.manual_seed(2)
    out = {name: value.item() for name, value in method((x, y, unlabelled)).items()}
    torch.manual_seed(2)
    views = [corrupt(unlabelled) for _ in range(3)]
    logits = method.predict(x).detach().double().numpy()
    ce = np.mean([math.log(np.exp(row).sum()) - row[c] for row, c in zip(logits, y.tolist(), strict=True)])
    predictions = np.stack([method.predict(view).detach().double().numpy() for view in views])
    variance = predictions.var(axis=0).mean()
    assert out["supervised_loss"] == pytest.approx(ce, rel=1e-4)
    assert out["consistency_loss"] == pytest.approx(variance, rel=1e-4)
    assert out["loss"] == pytest.approx(ce + 1.5 * variance, rel=1e-4)


def test_the_encoder_of_the_semi_supervised_stage_stays_as_it_is() -> None:
    torch.manual_seed(0)
    frozen = ResNet(COLUMNS, hidden=8, depth=1)
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    method = VIMESemi(frozen, None)
    method.train()
    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=0.1)
    for _ in range(3):
        method((rows(6), torch.randn(6), rows(9)))["loss"].backward()
        optimizer.step()
    for name, value in frozen.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.grad is not None for p in method.predictor.parameters())


def test_a_regression_has_one_output_and_a_squared_error() -> None:
    method = VIMESemi(encoder(), None)
    y = torch.randn(6)
    outputs = method.predict(rows(6))
    assert outputs.shape == (6, 1)
    assert method.supervised(outputs, y).item() == pytest.approx(((outputs[:, 0] - y) ** 2).mean().item(), rel=1e-5)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"rate must lie between 0 and 1, got 1\.0"):
        VIME(encoder(), COLUMNS, rate=1.0)
    with pytest.raises(ValueError, match="at least 2 corruptions, got 1"):
        VIMESemi(encoder(), 2, corruptions=1)


def test_all_three_are_methods() -> None:
    for method in (scarf(encoder(), Marginals(rows())), VIME(encoder(), COLUMNS), VIMESemi(encoder(), 2)):
        assert isinstance(method, Method)
        method.after_step(0.5, torch.tensor(False))
        assert method.export() is method.encoder
