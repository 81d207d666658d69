"""A masked autoencoder over cells: its loss against one written out cell by cell, and what it may not see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mmssl.core.types import Method
from mmssl.tabular.encoder import MLP, FTTransformer
from mmssl.tabular.mae import CellMAE

COLUMNS = (0, 3, 0, 2)


def rows(n: int = 64, *, missing: float = 0.15, seed: int = 0) -> Tensor:
    """Columns that tell each other, with gaps and unseen categories."""
    g = torch.Generator().manual_seed(seed)
    a = torch.randn(n, generator=g)
    x = torch.stack([a, 1.0 + (a > -0.5) + (a > 0.5), -a, 1.0 + (a > 0)], dim=1)
    x[0, 1] = 0.0
    return x.masked_fill(torch.rand(n, 4, generator=g) < missing, torch.nan)


def method(ratio: float = 0.5) -> CellMAE:
    torch.manual_seed(0)
    encoder = FTTransformer(COLUMNS, dim=16, depth=1, heads=2)
    return CellMAE(encoder, COLUMNS, mask_ratio=ratio, decoder_dim=8, decoder_heads=2)


def test_the_loss_is_squared_error_and_cross_entropy_of_hidden_cells_with_a_value() -> None:
    x = rows(20, missing=0.3)
    prediction = torch.randn(20, 4, 3)
    mask = torch.rand(20, 4) < 0.5
    mask[0, 1] = True  # an unseen category
    terms = []
    for i in range(20):
        for j, size in enumerate(COLUMNS):
            value = float(x[i, j])
            if not mask[i, j] or np.isnan(value) or (size and value == 0):
                continue
            guess = prediction[i, j].double().numpy()
            if size:
                logits = guess[:size]
                terms.append(np.log(np.exp(logits).sum()) - logits[int(value) - 1])
            else:
                terms.append((guess[0] - value) ** 2)
    assert float(method().loss(prediction, x, mask)) == pytest.approx(np.mean(terms), rel=1e-5)


def test_a_batch_in_which_nothing_can_be_predicted_costs_nothing() -> None:
    x = torch.full((4, 4), torch.nan)
    loss = method()(x)["loss"]
    loss.backward()
    assert loss.item() == 0.0


def test_what_is_hidden_does_not_reach_the_prediction() -> None:
    model = method().eval()
    x = rows(8, missing=0.0)
    torch.manual_seed(3)
    prediction, mask = model.mae.predict(x)
    other = torch.where(mask, 1.0, x)
    torch.manual_seed(3)
    again, same = model.mae.predict(other)
    assert torch.equal(mask, same)
    assert not torch.equal(other, x)
    torch.testing.assert_close(again, prediction)


def test_it_learns_to_tell_a_cell_from_the_others() -> None:
    model, x = method(), rows(256, missing=0.05)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(150):
        loss = model(x)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])


def test_every_parameter_learns_and_it_is_a_method() -> None:
    model = method()
    assert isinstance(model, Method)
    model(rows())["loss"].backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert without == []
    assert model.export() is model.encoder
    model.after_step(1.0, torch.tensor(False))


def test_an_encoder_without_tokens_is_refused() -> None:
    with pytest.raises(TypeError, match="MLP has no tokens to mask"):
        CellMAE(MLP(COLUMNS), COLUMNS)  # type: ignore[arg-type]
