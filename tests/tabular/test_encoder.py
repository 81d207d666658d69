"""Encoders against formulas written out, and what missing and unseen cells do to them."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmssl.core.methods.mae import MAE
from mmssl.core.transformer import sincos_1d
from mmssl.core.types import LayeredTokenEncoder
from mmssl.tabular.cells import CellTokens, FlatCells
from mmssl.tabular.encoder import ENCODERS, MLP, FTTransformer, ResNet

COLUMNS = (0, 3, 0, 2)  # two numeric columns, three categories, two categories


def rows(n: int = 6, *, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    x = torch.stack(
        [
            torch.randn(n, generator=g),
            torch.randint(0, 4, (n,), generator=g).float(),
            torch.randn(n, generator=g),
            torch.randint(0, 3, (n,), generator=g).float(),
        ],
        dim=1,
    )
    x[1, 0] = x[2, 1] = x[3] = torch.nan
    return x


def build(name: str, columns: tuple[int, ...] = COLUMNS, **arguments: Any) -> Any:
    torch.manual_seed(0)
    small: dict[str, Any] = {
        "MLP": {"hidden": 12, "depth": 3},
        "ResNet": {"hidden": 12, "depth": 2},
        "FTTransformer": {"dim": 12, "depth": 2, "heads": 3},
    }[name]
    return ENCODERS[name](columns, **(small | arguments))


VARIANTS = [
    (name, numeric)
    for name in ENCODERS
    for numeric in (["linear", "periodic", "piecewise"] if name == "FTTransformer" else [None, "linear", "periodic"])
]
every = pytest.mark.parametrize(("name", "numeric"), VARIANTS)


def test_flat_cells_are_numbers_indicators_and_one_hot_categories() -> None:
    cells = FlatCells(COLUMNS)
    nan = torch.nan
    x = torch.tensor([[1.5, 2.0, -1.0, 1.0], [nan, nan, 3.0, 0.0], [0.5, 3.0, nan, 2.0]])
    want = torch.tensor(
        [
            [1.5, -1.0, 0, 0, 0, 0, 1, 0, 0, 1, 0],
            [0.0, 3.0, 1, 0, 1, 0, 0, 0, 0, 0, 0],
            [0.5, 0.0, 0, 1, 0, 0, 0, 1, 0, 0, 1],
        ]
    )
    torch.testing.assert_close(cells(x), want)
    assert cells.dim == 11


def test_a_linear_layer_on_flat_cells_ignores_missing_cells_at_first() -> None:
    cells = FlatCells(COLUMNS)
    layer = cells.linear(5)
    full, nothing = rows()[:1], torch.full((1, 4), torch.nan)
    torch.testing.assert_close(layer(cells(nothing))[0], layer.bias)
    assert not torch.equal(layer(cells(full))[0], layer.bias)


@pytest.mark.parametrize("numeric", ["linear", "periodic", "piecewise"])
def test_cell_tokens_are_what_the_papers_say(numeric: Any) -> None:
    torch.manual_seed(0)
    tokens = CellTokens(COLUMNS, 5, numeric=numeric, frequencies=3, bins=4)
    with torch.no_grad():
        tokens.missing.normal_()
    x = rows()
    got = tokens(x).detach().numpy()
    w = {name: p.detach().numpy().astype(np.float64) for name, p in tokens.named_parameters()}
    starts = {1: 0, 3: 5}  # of the table: MISSING, UNSEEN, three categories; MISSING, UNSEEN, two
    edges = [NormalDist().inv_cdf(min(max(t / 4, 0.001), 0.999)) for t in range(5)]
    for i, row in enumerate(x.numpy().astype(np.float64)):
        for j, value in enumerate(row):
            if j in starts:
                content = w["categories"][starts[j] + (0 if math.isnan(value) else int(value) + 1)]
            elif math.isnan(value):
                content = w["missing"][j // 2]
            elif numeric == "linear":
                content = value * w["weight"][j // 2, 0]
            elif numeric == "periodic":
                angle = 2 * np.pi * w["frequency"][j // 2] * value
                features = np.concatenate([np.cos(angle), np.sin(angle)])
                content = np.maximum(features @ w["weight"][j // 2] + w["bias"][j // 2], 0)
            else:
                share = [(value - edges[t]) / (edges[t + 1] - edges[t]) for t in range(4)]
                inner = [min(share[0], 1), *(min(max(s, 0), 1) for s in share[1:3]), max(share[3], 0)]
                content = np.array(inner) @ w["weight"][j // 2]
            np.testing.assert_allclose(got[i, j], content + w["position"][j], atol=1e-5)


def test_what_training_cannot_teach_adds_nothing_at_first() -> None:
    tokens = CellTokens(COLUMNS, 5)
    torch.testing.assert_close(tokens(torch.full((1, 4), torch.nan))[0], tokens.position)
    unseen = tokens(torch.zeros(1, 4))[0, [1, 3]]
    torch.testing.assert_close(unseen, tokens.position[[1, 3]])


def test_the_mlp_is_linear_layers_with_relu_after_each() -> None:
    encoder = build("MLP")
    x = rows()
    h = encoder.cells(x)
    for layer in encoder.linear:
        h = torch.relu(h @ layer.weight.T + layer.bias)
    torch.testing.assert_close(encoder(x), h)
    assert encoder.dim == 12
    assert MLP(COLUMNS, hidden=None, depth=1).dim == 11  # VIME's: as wide as its input


@every
def test_every_encoder_gives_finite_vectors_and_a_gradient_to_every_parameter(name: str, numeric: Any) -> None:
    encoder = build(name, numeric=numeric)
    x = rows(40)
    x[:, 0] = torch.where(torch.rand(40) < 0.2, torch.nan, x[:, 0])
    x[5, 2] = x[6, 3] = torch.nan
    z = encoder(x)
    assert z.shape == (40, encoder.dim)
    assert z.isfinite().all()
    (z * torch.randn_like(z)).sum().backward()
    without = [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


@every
def test_layers_hold_every_parameter_once_from_input_to_output(name: str, numeric: Any) -> None:
    encoder = build(name, numeric=numeric)
    grouped = [p for group in encoder.layers() for p in group]
    assert {id(p) for p in grouped} == {id(p) for p in encoder.parameters()}
    assert len(grouped) == len(list(encoder.parameters()))
    first, last = encoder.layers()[0], encoder.layers()[-1]
    assert any(p is q for p in first for q in encoder.parameters())
    x = rows(8)
    for p in first:  # what comes later does not change what the first group computes
        p.requires_grad_(False)
    encoder(x).sum().backward()
    assert all(p.grad is not None for p in last)


@every
def test_an_encoder_is_rebuilt_from_its_arguments(name: str, numeric: Any) -> None:
    encoder = build(name, numeric=numeric).eval()
    again = ENCODERS[name](**encoder.arguments).eval()
    again.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(again(rows()), encoder(rows()))


@every
def test_rows_do_not_see_each_other_in_evaluation(name: str, numeric: Any) -> None:
    encoder = build(name, numeric=numeric).eval()
    x = rows(6)
    torch.testing.assert_close(encoder(x)[2:3], encoder(x[2:3]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("columns", [(0, 0, 0), (4, 2), (0,), (3,)])
@pytest.mark.parametrize("name", list(ENCODERS))
def test_tables_of_one_kind_of_column_work(name: str, columns: tuple[int, ...]) -> None:
    x = torch.ones(4, len(columns))
    x[0, 0] = torch.nan
    for numeric in ["linear", "piecewise"] if name == "FTTransformer" else [None, "periodic"]:
        assert build(name, columns, numeric=numeric).eval()(x).isfinite().all()


def test_the_ft_transformer_is_a_token_encoder_with_layers() -> None:
    encoder = build("FTTransformer").eval()
    final = encoder.norm
    assert isinstance(encoder, LayeredTokenEncoder)
    x = rows()
    tokens = encoder.tokenize(x)
    assert tokens.shape == (6, 4, 12)
    h = encoder.encode(tokens)
    assert h.shape == (6, encoder.prefix_tokens + 4, 12)
    torch.testing.assert_close(h[:, 0], encoder(x))
    layers = encoder.encode_layers(tokens)
    assert len(layers) == 2
    torch.testing.assert_close(final(layers[-1]), h)
    assert encoder.positions(x).shape == (4, 12)


def test_hidden_tokens_change_nothing_for_the_others() -> None:
    encoder = build("FTTransformer").eval()
    tokens = encoder.tokenize(rows())
    valid = torch.tensor([True, True, False, True]).expand(6, 4)
    kept = encoder.encode(tokens[:, [0, 1, 3]])
    torch.testing.assert_close(encoder.encode(tokens, valid)[:, [0, 1, 2, 4]], kept, atol=1e-5, rtol=1e-5)


def test_targets_are_numbers_or_one_hot_categories_and_nothing_for_what_is_not_known() -> None:
    nan = torch.nan
    targets = build("FTTransformer").targets(torch.tensor([[1.5, 2.0, nan, 0.0], [0.0, nan, 2.5, 1.0]]))
    want = torch.tensor(
        [
            [[1.5, nan, nan], [0, 1, 0], [nan, nan, nan], [nan, nan, nan]],
            [[0.0, nan, nan], [nan, nan, nan], [2.5, nan, nan], [1, 0, nan]],
        ]
    )
    torch.testing.assert_close(targets, want, equal_nan=True)


def test_mae_rebuilds_cells_from_cells() -> None:
    torch.manual_seed(0)
    encoder = FTTransformer(COLUMNS, dim=16, depth=1, heads=2)
    method = MAE(
        encoder,
        positions=sincos_1d(4, 8),
        mask_ratio=0.5,
        decoder_dim=8,
        decoder_depth=1,
        decoder_heads=2,
        normalise_targets=False,
    )
    x = torch.stack([a := torch.randn(256), (a > 0) + 1.0, -a, (a < 0) + 1.0], dim=1)  # one cell tells all others
    optimizer = torch.optim.Adam(method.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss = method(x)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.5 * losses[0]


def test_columns_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="one number of categories a column"):
        FlatCells([])
    with pytest.raises(ValueError, match="numeric must be 'linear', 'periodic' or 'piecewise', got 'log'"):
        CellTokens(COLUMNS, 4, numeric="log")  # type: ignore[arg-type]


def test_batch_norm_of_the_residual_mlp_uses_running_statistics_in_evaluation() -> None:
    encoder: nn.Module = ResNet(COLUMNS, hidden=8, depth=1)
    x = rows(20)
    encoder(x)
    encoder.eval()
    torch.testing.assert_close(encoder(x)[:1], encoder(x[:1]))
