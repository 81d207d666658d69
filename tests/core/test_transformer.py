"""Blocks against torch's own transformer layer, and positions against the formula."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from mmssl.core.transformer import Block, sincos_1d, sincos_2d


def torchs_own(block: Block, dim: int, heads: int) -> nn.TransformerEncoderLayer:
    """The same weights in `nn.TransformerEncoderLayer`."""
    layer = nn.TransformerEncoderLayer(
        dim, heads, 4 * dim, dropout=0.0, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    )
    names = {
        "self_attn.in_proj_": "qkv.",
        "self_attn.out_proj.": "proj.",
        "linear1.": "fc1.",
        "linear2.": "fc2.",
        "norm1.": "norm1.",
        "norm2.": "norm2.",
    }
    own = block.state_dict()
    layer.load_state_dict({
        theirs + kind: own[ours + kind] for theirs, ours in names.items() for kind in ("weight", "bias")
    })  # fmt: skip
    return layer


def shaken(block: Block) -> Block:
    """Norms and biases away from one and zero, which would hide mistakes."""
    with torch.no_grad():
        for p in block.parameters():
            if p.ndim == 1:
                p.add_(0.3 * torch.randn_like(p))
    return block


@pytest.mark.parametrize("heads", [1, 3])
def test_a_block_is_torchs_pre_norm_layer(heads: int) -> None:
    torch.manual_seed(0)
    block = shaken(Block(12, heads))
    x = torch.randn(2, 7, 12)
    torch.testing.assert_close(block(x), torchs_own(block, 12, heads)(x), rtol=1e-5, atol=1e-6)


def test_padding_changes_nothing() -> None:
    torch.manual_seed(0)
    block = shaken(Block(12, 3))
    x = torch.randn(2, 9, 12)
    valid = torch.ones(2, 9, dtype=torch.bool)
    valid[0, 6:] = False
    out = block(x, valid)
    torch.testing.assert_close(out[:1, :6], block(x[:1, :6]))
    torch.testing.assert_close(out[1:], block(x[1:]))


def test_dropout_takes_what_attention_and_mlp_add_in_training_alone() -> None:
    torch.manual_seed(0)
    block, x = shaken(Block(8, 2, dropout=1.0)), torch.randn(2, 5, 8)
    assert torch.equal(block(x), x)
    block.eval()
    same = Block(8, 2)
    same.load_state_dict(block.state_dict())
    assert torch.equal(block(x), same(x))


def test_a_row_of_padding_alone_is_finite() -> None:
    torch.manual_seed(0)
    block = Block(8, 2)
    x = torch.randn(2, 5, 8, requires_grad=True)
    valid = torch.tensor([[True] * 5, [False] * 5])
    out = block(x, valid)
    out.sum().backward()
    assert out.isfinite().all()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_linear_layers_start_as_in_mae() -> None:
    block = Block(64, 4)
    bound = math.sqrt(6 / (64 + 3 * 64))  # Xavier uniform of qkv as the one matrix it is
    assert block.qkv.weight.abs().max() <= bound
    assert float(block.qkv.weight.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.05)
    assert all((p == 0).all() for name, p in block.named_parameters() if name.endswith("bias"))


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="dim must be a multiple of heads, got dim=10 and heads=3"):
        Block(10, 3)


def by_hand(position: int, dim: int) -> list[float]:
    """One coordinate: sines, then cosines, of the position over wavelengths / 2π from 1 to 10,000."""
    angles = [position / 10_000 ** (2 * i / dim) for i in range(dim // 2)]
    return [math.sin(a) for a in angles] + [math.cos(a) for a in angles]


@pytest.mark.parametrize(("n", "dim"), [(1, 2), (9, 8), (500, 64)])
def test_positions_of_a_sequence_are_sines_and_cosines(n: int, dim: int) -> None:
    expected = torch.tensor([by_hand(t, dim) for t in range(n)], dtype=torch.float64)
    own = sincos_1d(n, dim)
    assert own.dtype == torch.float32
    torch.testing.assert_close(own.double(), expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize(("h", "w", "dim"), [(8, 8, 96), (3, 5, 8), (1, 4, 4)])
def test_positions_of_a_grid_tell_the_column_first_as_in_mae(h: int, w: int, dim: int) -> None:
    rows: list[list[float]] = [by_hand(x, dim // 2) + by_hand(y, dim // 2) for y in range(h) for x in range(w)]
    own: Tensor = sincos_2d(h, w, dim)
    torch.testing.assert_close(own.double(), torch.tensor(rows, dtype=torch.float64), rtol=0, atol=1e-7)


def test_widths_that_cannot_be_split_are_refused() -> None:
    with pytest.raises(ValueError, match="even dim, got 7"):
        sincos_1d(3, 7)
    with pytest.raises(ValueError, match="multiple of 4, got 6"):
        sincos_2d(3, 3, 6)
