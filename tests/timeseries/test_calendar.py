"""Parts of the calendar against pandas, and what an encoder that knows them asks of new data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mmssl.timeseries.calendar import calendar, calendar_parts, with_calendar
from mmssl.timeseries.embedder import SeriesEmbedder
from mmssl.timeseries.encoder import DilatedConvEncoder
from mmssl.timeseries.preprocess import SeriesPreprocessor
from mmssl.timeseries.series import SeriesSet


def hourly(rows: int = 80) -> SeriesSet:
    times = pd.date_range("2024-02-27", periods=rows, freq="h").as_unit("ns").astype(np.int64).to_numpy()
    return SeriesSet(
        np.random.default_rng(0).normal(size=(rows, 1)).astype(np.float32),
        np.array([0, rows]),
        np.array(["x"], dtype=object),
        ("load",),
        times=times,
        time_kind="datetime",
        step=3600.0,
    )


def test_parts_are_those_of_pandas() -> None:
    moments = pd.DatetimeIndex(
        ["2016-07-01 13:45", "2020-12-31 23:59:59", "2021-01-01", "2021-01-04", "2024-02-29 06:00", "1969-12-29 12:00"]
    )
    parts = calendar(moments.as_unit("ns").astype(np.int64).to_numpy())
    expected = {
        "minute": moments.minute,
        "hour": moments.hour,
        "day of week": moments.dayofweek,
        "day of month": moments.day,
        "day of year": moments.dayofyear,
        "month": moments.month,
        "week": moments.isocalendar().week,
    }
    for name, values in expected.items():
        assert parts[name].tolist() == list(values), name


def test_what_never_changes_is_left_out() -> None:
    assert calendar_parts(hourly()) == ("hour", "day of week", "day of month", "day of year", "month")
    assert calendar_parts(hourly(20)) == ("hour",)


def test_rows_without_dates_have_no_calendar() -> None:
    plain = SeriesSet.from_array(np.zeros((1, 5, 1)))
    assert calendar_parts(plain) == ()
    assert with_calendar(plain, ()) is plain
    with pytest.raises(ValueError, match=r"trained with the calendar \(hour\), which needs times that are dates"):
        with_calendar(plain, ("hour",))


def test_an_embedder_adds_the_calendar_by_itself_and_survives_export() -> None:
    series = hourly()
    assert series.times is not None
    parts = calendar_parts(series)
    whole = with_calendar(series, parts)
    torch.manual_seed(0)
    arguments: dict[str, Any] = {"in_channels": 6, "dim": 8, "hidden": 6, "depth": 2}
    embedder = SeriesEmbedder(
        DilatedConvEncoder(**arguments), arguments, SeriesPreprocessor().fit(whole), window=20, time="t", calendar=parts
    )
    frame = pd.DataFrame({"t": series.times.astype("datetime64[ns]"), "load": series.values[:, 0]})
    embedded = embedder.embed(frame)
    np.testing.assert_allclose(embedded.to_numpy(), embedder.embed(whole).to_numpy(), rtol=1e-5, atol=1e-6)
    again = SeriesEmbedder.from_state(embedder.state() | {"format": 1}, embedder.encoder.state_dict(), "cpu")
    np.testing.assert_allclose(again.embed(frame).to_numpy(), embedded.to_numpy(), rtol=1e-5, atol=1e-6)
    assert embedder.causal(series, window=20).shape == (80, 8)
    with pytest.raises(ValueError, match="needs times that are dates"):
        embedder.causal(series.values, window=20)
