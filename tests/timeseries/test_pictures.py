"""Drawings of series hold what they should, and nothing that a name of a column could smuggle in."""

from __future__ import annotations

import math

import numpy as np

from mmssl.timeseries.pictures import sheet, sparkline


def test_a_sparkline_has_a_line_for_each_channel_with_a_gap_where_values_are_missing() -> None:
    x = np.arange(20, dtype=np.float32).reshape(10, 2)
    x[4, 1] = math.nan
    drawn = sparkline(x)
    assert drawn.count("<path") == 2
    assert drawn.count("M") == 3


def test_a_sheet_has_a_cell_for_each_series_and_escapes_its_titles() -> None:
    x = np.zeros((5, 1), dtype=np.float32)
    drawn = sheet([[x, x], [x, x]], ["window", "<script>"])
    assert drawn.count("<td>") == 4
    assert "<script>" not in drawn
