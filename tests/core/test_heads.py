"""Projectors and predictors."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmssl.core.heads import PrototypeHead, mlp


def test_an_mlp_has_the_layers_of_the_papers() -> None:
    kinds = [type(layer).__name__ for layer in mlp([5, 7, 3])]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    kinds = [type(layer).__name__ for layer in mlp([5, 7, 7, 3], norm=False, activation=nn.GELU)]
    assert kinds == ["Linear", "GELU", "Linear", "GELU", "Linear"]
    simsiam = mlp([5, 7, 3], last_norm=True)
    assert isinstance(simsiam[-1], nn.BatchNorm1d)
    assert not simsiam[-1].affine
    biases = [layer.bias is not None for layer in mlp([5, 7, 3]) if isinstance(layer, nn.Linear)]
    assert biases == [False, True]  # batch normalisation would take the first away again


def test_an_mlp_maps_rows_to_rows() -> None:
    assert mlp([5, 7, 3])(torch.randn(4, 5)).shape == (4, 3)
    assert mlp([5, 3])(torch.randn(4, 5)).shape == (4, 3)


@pytest.mark.parametrize("widths", [[4], [], [4, 0], [-1, 4]])
def test_impossible_widths_are_refused(widths: list[int]) -> None:
    with pytest.raises(ValueError, match="widths must be"):
        mlp(widths)


def test_prototype_scores_are_cosines_whatever_the_lengths() -> None:
    torch.manual_seed(0)
    head = PrototypeHead(6, 11, hidden=8, bottleneck=5)
    x = torch.randn(4, 6)
    expected = F.cosine_similarity(head.mlp(x)[:, None], head.prototypes[None], dim=-1)
    torch.testing.assert_close(head(x), expected)
    with torch.no_grad():
        head.prototypes.mul_(10)
    torch.testing.assert_close(head(x), expected)
