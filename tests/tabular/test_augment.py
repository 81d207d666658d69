"""SCARF's views against what the paper asks for, counted and compared with distributions."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, ks_2samp
from torch import Tensor

from mmssl.tabular.augment import Marginals, ScarfViews, Subsets, permuted, swap_masked


def table(rows: int = 300, columns: int = 10, *, missing: float = 0.0) -> Tensor:
    """Every value once, so that a replaced cell always differs; column j holds values from 1000 j on."""
    torch.manual_seed(0)
    x = torch.stack([torch.randperm(rows) + 1000.0 * j for j in range(columns)], dim=1)
    return torch.where(torch.rand(rows, columns) < missing, torch.nan, x)


@pytest.mark.parametrize("corruption", [0.0, 0.05, 0.1, 0.29, 0.3, 0.6, 0.7, 1.0])
@pytest.mark.parametrize("columns", [1, 3, 10, 100])
def test_exactly_the_floor_of_c_times_m_columns_are_replaced_in_every_row(columns: int, corruption: float) -> None:
    x = table(columns=columns)
    clean, corrupted = ScarfViews(Marginals(x + 0.5), corruption)(x)
    changed = (corrupted != clean).sum(dim=1)
    assert set(changed.tolist()) == {int(Decimal(str(corruption)) * columns)}


@pytest.mark.parametrize("listed", [True, False])
def test_every_subset_is_drawn_equally_often(listed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not listed:
        monkeypatch.setattr("mmssl.tabular.augment.SUBSETS", 0)
    subsets = Subsets(6, 3)
    assert (subsets.table is not None) == listed
    drawn = subsets.draw(8000, torch.device("cpu"))
    assert drawn.shape == (8000, 3)
    code = (2**drawn).sum(dim=1)  # three different columns, or it is the code of no subset
    assert {int(c).bit_count() for c in code} == {3}
    counts = np.unique(code.numpy(), return_counts=True)[1]
    assert len(counts) == 20
    assert chisquare(counts).pvalue > 1e-3


def every_column(rows: int, columns: int) -> Tensor:
    """The columns of whole rows."""
    return torch.arange(columns).expand(rows, -1)


def test_a_replaced_cell_holds_a_training_value_of_its_own_column_drawn_for_itself() -> None:
    train = torch.stack([torch.randn(2000).exp(), torch.randint(1, 4, (2000,)).float()], dim=1)
    drawn = Marginals(train).sample(every_column(4000, 2))
    assert np.isin(drawn[:, 0].numpy(), train[:, 0].numpy()).all()
    assert ks_2samp(drawn[:, 0].numpy(), train[:, 0].numpy()).pvalue > 1e-3
    expected = np.bincount(train[:, 1].long(), minlength=4)[1:] * 2
    assert chisquare(np.bincount(drawn[:, 1].long(), minlength=4)[1:], expected).pvalue > 1e-3
    # no row is drawn as a whole: two columns that are the same in training are not in a draw
    twins = Marginals(train[:, :1].expand(-1, 2)).sample(every_column(4000, 2))
    assert (twins[:, 0] == twins[:, 1]).float().mean() < 0.01


def test_marginals_are_those_of_the_training_rows_not_of_the_batch() -> None:
    train, new = table(), table() + 0.5
    clean, corrupted = ScarfViews(Marginals(train), 0.6)(new)
    assert clean is new
    changed = corrupted != new
    assert set(changed.sum(dim=1).tolist()) == {6}
    assert (corrupted[changed] % 1 == 0).all()


def test_missing_cells_are_neither_replaced_nor_drawn_and_the_others_at_the_same_rate() -> None:
    train = table(500, missing=0.4)
    x = table(3000, missing=0.3)
    _, corrupted = ScarfViews(Marginals(train + 0.5), 0.6)(x)
    assert torch.equal(corrupted.isnan(), x.isnan())
    changed = (corrupted != x) & ~x.isnan()
    assert changed.sum(dim=1).max() <= 6
    assert float(changed.sum() / (~x.isnan()).sum()) == pytest.approx(0.6, abs=0.01)


def test_a_column_with_gaps_is_drawn_from_its_observed_values_alike() -> None:
    train = torch.tensor([[1.0, torch.nan], [2.0, 5.0], [3.0, torch.nan], [4.0, 6.0], [torch.nan, 7.0]])
    drawn = Marginals(train).sample(every_column(6000, 2))
    for j, values in ((0, [1, 2, 3, 4]), (1, [5, 6, 7])):
        counts = np.array([int((drawn[:, j] == v).sum()) for v in values])
        assert counts.sum() == 6000
        assert chisquare(counts).pvalue > 1e-3


def test_a_column_without_any_value_is_drawn_as_missing_and_the_others_as_ever() -> None:
    train = torch.tensor([[1.0, torch.nan, 5.0], [2.0, torch.nan, torch.nan]])
    drawn = Marginals(train).sample(every_column(200, 3))
    assert drawn[:, 1].isnan().all()
    assert [set(drawn[:, j].tolist()) for j in (0, 2)] == [{1.0, 2.0}, {5.0}]


def test_complete_training_rows_are_not_copied() -> None:
    x = table()
    assert Marginals(x).packed is x


def test_views_leave_their_input_alone_and_repeat_by_seed() -> None:
    x = table(missing=0.1)
    before = x.clone()
    views = ScarfViews(Marginals(table(missing=0.1)))
    torch.manual_seed(3)
    first = views(x)[1]
    torch.manual_seed(3)
    torch.testing.assert_close(views(x)[1], first, equal_nan=True)
    assert not torch.equal(views(x)[1].nan_to_num(), first.nan_to_num())
    torch.testing.assert_close(x, before, equal_nan=True)


def test_no_corruption_is_the_identity() -> None:
    x = table(missing=0.1)
    for view in ScarfViews(Marginals(x), 0.0)(x):
        torch.testing.assert_close(view, x, equal_nan=True)


def test_what_cannot_be_drawn_from_is_refused() -> None:
    with pytest.raises(ValueError, match=r"corruption must lie between 0 and 1, got 1\.5"):
        ScarfViews(Marginals(table()), 1.5)
    assert repr(ScarfViews(Marginals(table()))) == "ScarfViews(corruption=0.6)"


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 12), st.integers(1, 9), st.floats(0, 1), st.floats(0, 0.9), st.integers(0, 1000)
)  # fmt: skip
def test_any_table_is_corrupted_by_the_rules(
    rows: int, columns: int, corruption: float, missing: float, seed: int
) -> None:
    torch.manual_seed(seed)
    x = torch.randn(rows, columns).masked_fill(torch.rand(rows, columns) < missing, torch.nan)
    x[0] = 1.0  # a column has a value
    clean, corrupted = ScarfViews(Marginals(x), corruption)(x)
    assert torch.equal(corrupted.isnan(), clean.isnan())
    count = ((corrupted != clean) & ~clean.isnan()).sum(dim=1)
    assert (count <= corruption * columns + 1e-6).all()


def test_a_permuted_column_holds_the_same_values_in_an_order_of_its_own() -> None:
    x = table(50, 4)
    y = permuted(x)
    torch.testing.assert_close(y.sort(dim=0).values, x.sort(dim=0).values)
    order = (y - x[0] // 1000 * 1000).long()
    assert not torch.equal(order[:, 0], order[:, 1])


def test_the_observed_cells_of_a_column_with_gaps_change_places_among_themselves() -> None:
    x = table(400, 5, missing=0.6)
    x[:, 4] = torch.nan
    observed = ~x.isnan()
    y = permuted(x)
    for j in range(4):
        there = observed[:, j]
        torch.testing.assert_close(y[there, j].sort().values, x[there, j].sort().values)
        assert (y[there, j] == x[there, j]).float().mean() < 0.05
    firsts = torch.stack([permuted(x[:6, :1]) for _ in range(3000)])[:, observed[:6, 0], 0][:, 0]
    assert chisquare(firsts.unique(return_counts=True)[1]).pvalue > 1e-3  # each cell comes first equally often


def test_cells_are_swapped_with_the_given_probability_where_both_rows_have_one() -> None:
    x, other = table(2000, 10, missing=0.2), table(2000, 10, missing=0.2) + 0.5
    y = swap_masked(x, other, 0.3)
    assert torch.equal(y.isnan(), x.isnan())
    both = ~x.isnan() & ~other.isnan()
    swapped = y == other
    assert not (swapped & ~both).any()
    assert float(swapped[both].float().mean()) == pytest.approx(0.3, abs=0.02)
    per_row = swapped.sum(dim=1).float()
    assert per_row.std() > 1  # Bernoulli: the number varies from row to row
