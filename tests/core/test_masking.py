"""Masks: exact numbers, shapes of what is hidden, and picking tokens out and putting them back."""

from __future__ import annotations

from functools import partial
from itertools import groupby

import pytest
import torch

from mmssl.core.masking import (
    Masking,
    block_mask,
    hide,
    kept_indices,
    masked_count,
    put,
    random_mask,
    span_mask,
    take,
)

KINDS: dict[str, Masking] = {
    "random": random_mask,
    "span": span_mask,
    "short spans": partial(span_mask, span=1),
    "blocks": block_mask,
    "wide blocks": partial(block_mask, grid=(4, 16), min_block=2),
}
every = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())


@every
@pytest.mark.parametrize("ratio", [0.01, 0.15, 0.4, 0.75, 0.95, 0.999])
def test_every_row_has_the_same_number_of_masked_tokens(kind: Masking, ratio: float) -> None:
    torch.manual_seed(0)
    mask = kind(50, 64, ratio)
    assert mask.shape == (50, 64)
    assert mask.dtype == torch.bool
    assert set(mask.sum(dim=1).tolist()) == {max(1, min(63, round(64 * ratio)))}


@every
def test_rows_are_drawn_apart_and_repeat_by_seed(kind: Masking) -> None:
    torch.manual_seed(0)
    mask = kind(20, 64, 0.4)
    torch.manual_seed(0)
    assert torch.equal(kind(20, 64, 0.4), mask)
    assert not torch.equal(kind(20, 64, 0.4), mask)
    assert len(mask.unique(dim=0)) > 15


@every
def test_no_token_is_left_out_for_good(kind: Masking) -> None:
    torch.manual_seed(0)
    share = kind(4000, 64, 0.4).float().mean(dim=0)
    assert share.mean() == pytest.approx(26 / 64, abs=1e-6)
    assert share.min() > 0.1  # rectangles that lie inside the grid cover its corners less often
    assert share.max() < 0.8


@pytest.mark.parametrize("kind", [random_mask, partial(span_mask, span=7)])
def test_tokens_of_a_sequence_have_equal_chances_even_at_its_ends(kind: Masking) -> None:
    torch.manual_seed(0)
    share = kind(20_000, 30, 0.5).float().mean(dim=0)
    assert (share - 0.5).abs().max() < (0.015 if kind is random_mask else 0.06)


@pytest.mark.parametrize(("tokens", "ratio", "count"), [(64, 0.75, 48), (10, 0.9, 9), (196, 0.4, 78), (2, 0.01, 1)])
def test_the_count_is_the_share_and_never_nothing_or_all(tokens: int, ratio: float, count: int) -> None:
    assert masked_count(tokens, ratio) == count


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.5, 75.0])
def test_a_ratio_that_is_no_share_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match=f"between 0 and 1, got {ratio}"):
        random_mask(2, 10, ratio)


def test_a_single_token_cannot_be_masked() -> None:
    with pytest.raises(ValueError, match="at least 2 tokens, one to see and one to predict, got 1"):
        random_mask(2, 1, 0.5)


def inner_runs(row: list[bool]) -> list[int]:
    """Lengths of masked stretches that touch neither end."""
    runs = [(value, len(list(group))) for value, group in groupby(row)]
    return [length for value, length in runs[1:-1] if value]


@pytest.mark.parametrize("span", [2, 5, 10])
def test_spans_are_whole_but_for_the_last(span: int) -> None:
    torch.manual_seed(0)
    mask = span_mask(200, 100, 0.3, span=span)
    for row in mask.tolist():
        assert sum(length < span for length in inner_runs(row)) <= 1
    assert max(max(inner_runs(row), default=0) for row in mask.tolist()) > span  # they may overlap and join


def test_a_span_as_long_as_the_masked_part_is_one_stretch() -> None:
    torch.manual_seed(0)
    rows = [row for row in span_mask(100, 40, 0.25, span=10).tolist() if not (row[0] or row[-1])]
    assert len(rows) > 30
    assert all(inner_runs(row) == [10] for row in rows)


@pytest.mark.parametrize(("grid", "tokens"), [((8, 8), 64), ((4, 16), 64), ((5, 7), 35)])
def test_one_square_block_is_a_square(grid: tuple[int, int], tokens: int) -> None:
    torch.manual_seed(0)
    for mask in block_mask(50, tokens, 16 / tokens, grid=grid, min_block=16, min_aspect=1.0).view(-1, *grid):
        rows, columns = mask.any(dim=1).nonzero().flatten(), mask.any(dim=0).nonzero().flatten()
        assert len(rows) == len(columns) == 4
        assert rows.tolist() == list(range(int(rows[0]), int(rows[0]) + 4))
        assert columns.tolist() == list(range(int(columns[0]), int(columns[0]) + 4))


def edges(mask: torch.Tensor) -> float:
    """Mean number of neighbours in `(B, h, w)` of which one is masked and the other is not."""
    across = (mask[:, 1:] != mask[:, :-1]).sum() + (mask[:, :, 1:] != mask[:, :, :-1]).sum()
    return float(across) / len(mask)


def test_blocks_hang_together() -> None:
    torch.manual_seed(0)
    blocks = block_mask(300, 196, 0.4).view(-1, 14, 14)
    scattered = random_mask(300, 196, 0.4).view(-1, 14, 14)
    assert edges(blocks) < 0.26 * edges(scattered)  # .31 if the last block were cut anywhere but at its edge


def test_no_side_of_the_grid_is_preferred() -> None:
    torch.manual_seed(0)
    share = block_mask(5000, 64, 0.4).float().mean(dim=0).view(8, 8)
    for other in (share.flip(0), share.flip(1), share.t()):
        assert (share - other).abs().max() < 0.05


def test_blocks_come_in_many_shapes() -> None:
    torch.manual_seed(0)
    masks = block_mask(300, 196, 30 / 196, min_block=30).view(-1, 14, 14)  # one block, at most cut
    height, width = masks.any(dim=2).sum(dim=1), masks.any(dim=1).sum(dim=1)
    aspect = height / width
    assert aspect.min() < 0.5
    assert aspect.max() > 2


def test_a_grid_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a grid of 3 × 3 does not have 10 tokens: pass grid=\(height, width\)"):
        block_mask(2, 10, 0.4)
    with pytest.raises(ValueError, match="min_aspect must lie in"):
        block_mask(2, 9, 0.4, min_aspect=3.0)
    with pytest.raises(ValueError, match="span must be at least one token, got 0"):
        span_mask(2, 9, 0.4, span=0)


def test_taken_tokens_are_the_visible_ones_in_order() -> None:
    torch.manual_seed(0)
    mask = random_mask(5, 12, 0.6)
    x = torch.randn(5, 12, 3)
    kept = take(x, kept_indices(mask, 5))
    assert torch.equal(kept, torch.stack([row[~m] for row, m in zip(x, mask, strict=True)]))
    flags = take(~mask, kept_indices(mask, 5))  # without a last axis, too
    assert flags.shape == (5, 5)
    assert flags.all()


def test_putting_back_fills_the_rest_and_passes_gradients_to_both() -> None:
    torch.manual_seed(0)
    mask = random_mask(4, 10, 0.7)
    kept = kept_indices(mask, 3)
    x = torch.randn(4, 10, 3, requires_grad=True)
    fill = torch.randn(3, requires_grad=True)
    whole = put(take(x, kept), kept, fill, 10)
    assert torch.equal(whole, torch.where(mask[..., None], fill, x))
    pull = torch.randn(4, 10, 3)
    (whole * pull).sum().backward()
    assert x.grad is not None
    assert fill.grad is not None
    torch.testing.assert_close(x.grad, pull * ~mask[..., None])
    torch.testing.assert_close(fill.grad, pull[mask].sum(dim=0))


def test_hidden_tokens_keep_their_positions_and_nothing_else() -> None:
    tokens, positions, learnt = torch.randn(2, 4, 3), torch.randn(4, 3), torch.randn(3)
    mask = torch.tensor([[True, False, False, True], [False, True, True, False]])
    hidden = hide(tokens, mask, learnt, positions)
    assert torch.equal(hidden[~mask], tokens[~mask])
    assert torch.equal(hidden[0, 3], learnt + positions[3])
    assert torch.equal(hidden[1, 1], learnt + positions[1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@every
def test_nothing_waits_for_the_gpu(kind: Masking) -> None:
    x, fill = torch.randn(8, 64, 3, device="cuda"), torch.zeros(3, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        mask = kind(8, 64, 0.75, x.device)
        kept = kept_indices(mask, 16)
        whole = put(take(x, kept), kept, fill, 64)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(whole, torch.where(mask[..., None], 0.0, x))
