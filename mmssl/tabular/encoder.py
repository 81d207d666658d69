"""Encoders of rows: the MLP of SCARF and VIME, a residual MLP, and the FT-Transformer, whose tokens are cells.

All take model input ``(B, M)`` float32: scaled numbers, codes of categories with 0 for UNSEEN, and NaN for MISSING.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmssl.core.transformer import Block
from mmssl.tabular.cells import CellTokens, FlatCells, Numeric


class MLP(nn.Module):
    """Linear layers with ReLU after each; SCARF's encoder has four of 256, VIME's one as wide as its input.

    Args:
        cardinalities: for each column the size of its vocabulary, 0 for a numeric one.
        hidden: width of the layers, the size of an embedding; None for that of the input.
        depth: number of layers.
        numeric: None takes cells as the papers do, one-hot; else a `CellTokens` embedding of each cell.
        cell_dim: size of that embedding.
        dropout: after each layer.
    """

    def __init__(
        self,
        cardinalities: Sequence[int],
        *,
        hidden: int | None = 256,
        depth: int = 4,
        numeric: Numeric | None = None,
        cell_dim: int = 16,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {
            "cardinalities": list(cardinalities),
            "hidden": hidden,
            "depth": depth,
            "numeric": numeric,
            "cell_dim": cell_dim,
            "dropout": dropout,
        }
        self.cells, first, width = _row_input(cardinalities, hidden, numeric, cell_dim)
        layers = [first, *(nn.Linear(width, width) for _ in range(depth - 1))]
        self.linear = nn.ModuleList(layers)
        self.dropout = nn.Dropout(dropout)
        self.dim = width

    def forward(self, x: Tensor) -> Tensor:
        h = self.cells(x).flatten(1)
        for layer in self.linear:
            h = self.dropout(layer(h).relu())
        return h

    def layers(self) -> list[list[nn.Parameter]]:
        """Parameters from input to output."""
        first, *rest = (list(layer.parameters()) for layer in self.linear)
        return [[*self.cells.parameters(), *first], *rest]


class ResNet(nn.Module):
    """Residual blocks of batch norm, linear, ReLU and linear (Gorishniy et al., NeurIPS 2021, arXiv 2106.11959).

    Args:
        cardinalities: for each column the size of its vocabulary, 0 for a numeric one.
        hidden: width between the blocks, the size of an embedding.
        depth: number of blocks.
        expansion: width inside a block over ``hidden``.
        numeric: see `MLP`.
        cell_dim: see `MLP`.
        dropout: inside a block.
    """

    def __init__(
        self,
        cardinalities: Sequence[int],
        *,
        hidden: int = 256,
        depth: int = 3,
        expansion: float = 2.0,
        numeric: Numeric | None = None,
        cell_dim: int = 16,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {
            "cardinalities": list(cardinalities),
            "hidden": hidden,
            "depth": depth,
            "expansion": expansion,
            "numeric": numeric,
            "cell_dim": cell_dim,
            "dropout": dropout,
        }
        self.cells, self.first, self.dim = _row_input(cardinalities, hidden, numeric, cell_dim)
        inner = int(expansion * hidden)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm1d(hidden), nn.Linear(hidden, inner), nn.ReLU(), nn.Dropout(dropout),
                nn.Linear(inner, hidden),
            )
            for _ in range(depth)
        )  # fmt: skip
        self.norm = nn.BatchNorm1d(hidden)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(self.cells(x).flatten(1))
        for block in self.blocks:
            h = h + block(h)
        return self.norm(h).relu()

    def layers(self) -> list[list[nn.Parameter]]:
        """Parameters from input to output."""
        groups = [list(block.parameters()) for block in self.blocks]
        groups[-1] += self.norm.parameters()
        return [[*self.cells.parameters(), *self.first.parameters()], *groups]


class FTTransformer(nn.Module):
    """A transformer over cells: a `TokenEncoder` (Gorishniy et al., NeurIPS 2021, arXiv 2106.11959).

    Differs from the paper in its blocks, which are the project's: GELU instead of ReGLU, and a first layer norm. A
    missing cell is a token that says so.

    Args:
        cardinalities: for each column the size of its vocabulary, 0 for a numeric one.
        dim: size of a token and of an embedding.
        depth: number of blocks.
        heads: of the attention.
        mlp_ratio: width of the hidden layer of a block over ``dim``.
        numeric: see `CellTokens`.
    """

    droppable = True  # a cell says itself which column it is of
    prefix_tokens = 1  # CLS

    def __init__(
        self,
        cardinalities: Sequence[int],
        *,
        dim: int = 64,
        depth: int = 3,
        heads: int = 4,
        mlp_ratio: float = 2.0,
        numeric: Numeric = "linear",
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {
            "cardinalities": list(cardinalities),
            "dim": dim,
            "depth": depth,
            "heads": heads,
            "mlp_ratio": mlp_ratio,
            "numeric": numeric,
        }
        self.dim = self.token_dim = dim
        self.target_dim = max(1, *cardinalities)
        self.cells = CellTokens(cardinalities, dim, numeric=numeric)
        self.cls = nn.Parameter(torch.empty(dim).uniform_(-(dim**-0.5), dim**-0.5))
        self.blocks = nn.ModuleList(Block(dim, heads, mlp_ratio=mlp_ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return self.encode(self.tokenize(x))[:, 0]

    def tokenize(self, x: Tensor) -> Tensor:
        return self.cells(x)

    def positions(self, x: Tensor) -> Tensor:
        return self.cells.position

    def valid(self, x: Tensor) -> None:
        return None

    def encode(self, tokens: Tensor, valid: Tensor | None = None) -> Tensor:
        return self.norm(self.encode_layers(tokens, valid)[-1])

    def encode_layers(self, tokens: Tensor, valid: Tensor | None = None) -> list[Tensor]:
        h = torch.cat([self.cls.expand(len(tokens), 1, -1), tokens], dim=1)
        if valid is not None:
            valid = nn.functional.pad(valid, (1, 0), value=True)
        out = []
        for block in self.blocks:
            h = block(h, valid)
            out.append(h)
        return out

    def targets(self, x: Tensor) -> Tensor:
        """``(B, M, target_dim)``: a number in the first place, or a category one-hot; NaN elsewhere.

        A missing cell and an unseen category are NaN throughout: they cannot be predicted.
        """
        code = torch.arange(1, self.target_dim + 1, device=x.device)
        cardinality = self.cells.cardinality[:, None]  # (M, 1)
        value = x[..., None]
        target = torch.where(cardinality > 0, (value == code).to(x.dtype), value)  # (B, M, P)
        measured = (code <= cardinality.clamp(min=1)) & ~value.isnan() & ((cardinality == 0) | (value > 0))
        return target.masked_fill(~measured, torch.nan)

    def layers(self) -> list[list[nn.Parameter]]:
        """Parameters from input to output."""
        groups = [list(block.parameters()) for block in self.blocks]
        groups[-1] += self.norm.parameters()
        return [[*self.cells.parameters(), self.cls], *groups]


ENCODERS: dict[str, type[MLP | ResNet | FTTransformer]] = {"MLP": MLP, "ResNet": ResNet, "FTTransformer": FTTransformer}


def _row_input(
    cardinalities: Sequence[int], hidden: int | None, numeric: Numeric | None, cell_dim: int
) -> tuple[FlatCells | CellTokens, nn.Linear, int]:
    """Cells as one vector, the linear layer on it, and the width of that."""
    if numeric is None:
        flat = FlatCells(cardinalities)
        width = hidden or flat.dim
        return flat, flat.linear(width), width
    tokens = CellTokens(cardinalities, cell_dim, numeric=numeric)
    width = hidden or cell_dim * len(cardinalities)
    return tokens, nn.Linear(cell_dim * len(cardinalities), width), width
