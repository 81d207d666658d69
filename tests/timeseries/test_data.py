from __future__ import annotations

import gzip
import os
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmssl.timeseries import tables
from mmssl.timeseries.data import describe, embedding_frame, read_series
from mmssl.timeseries.series import SeriesSet

SHARED = Path(os.environ.get("MMSSL_DATA", Path(__file__).parents[3] / "shared" / "data"))
needs_data = pytest.mark.skipif(not (SHARED / "timeseries").is_dir(), reason="the real data sets are not here")


def machines(rows: int = 6) -> pd.DataFrame:
    """Two machines of unequal length, a second apart, with a gap in one channel and a label each."""
    seconds = [*range(rows), *range(rows - 2)]
    return pd.DataFrame(
        {
            "machine": ["b"] * rows + ["a"] * (rows - 2),
            "time": pd.Timestamp("2024-03-01 12:00") + pd.to_timedelta(seconds, unit="s"),
            "load": [np.nan, *np.arange(2.0 * rows - 3)],
            "heat": np.arange(2.0 * rows - 2) ** 2,
            "state": ["ok"] * rows + ["worn"] * (rows - 2),
        }
    )


def read_machines(source: Any, **options: Any) -> SeriesSet:
    return read_series(source, **{"id": "machine", "time": "time", "label": "state", **options})


def assert_same(left: SeriesSet, right: SeriesSet) -> None:
    np.testing.assert_array_equal(left.values, right.values)
    np.testing.assert_array_equal(left.offsets, right.offsets)
    assert left.ids.tolist() == right.ids.tolist()
    assert left.channels == right.channels
    assert (left.time_kind, left.step) == (right.time_kind, right.step)
    for one, other in ((left.times, right.times), (left.labels, right.labels)):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert one.tolist() == other.tolist()


def write(path: Path, text: str) -> Path:
    path.write_text(textwrap.dedent(text).lstrip())
    return path


# ------------------------------------------------------------------------------------------------ what is read


def test_a_long_table_becomes_one_series_an_entity() -> None:
    series = read_machines(machines())
    assert series.ids.tolist() == ["b", "a"]  # in order of appearance
    assert series.offsets.tolist() == [0, 6, 10]
    assert series.channels == ("load", "heat")
    assert series.values.dtype == np.float32
    np.testing.assert_array_equal(series.values[:2], np.array([[np.nan, 0], [0, 1]], np.float32))
    assert series.times is not None
    assert series.times[0] == pd.Timestamp("2024-03-01 12:00").value
    assert (series.time_kind, series.step) == ("datetime", 1.0)
    assert series.labels is not None
    assert series.labels.tolist() == ["ok", "worn"]


@pytest.mark.parametrize("name", ["m.csv", "m.tsv", "m.txt", "m.csv.gz", "m.parquet", "m.feather", "m.arrow"])
def test_every_file_format_reads_as_the_table_it_was_written_from(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "BATCH_CELLS", 12)  # several batches
    frame, path = machines(), tmp_path / name
    if name.endswith("parquet"):
        frame.to_parquet(path)
    elif name.endswith(("feather", "arrow")):
        frame.to_feather(path)
    else:
        frame.to_csv(path, index=False, sep={"m.tsv": "\t", "m.txt": ";"}.get(name, ","))
    assert_same(read_machines(path), read_machines(frame))


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(10)))
def test_rows_in_any_order_give_the_same_series(order: list[int]) -> None:
    frame, first = machines(), "b" if order[0] < 6 else "a"
    series = read_machines(frame.iloc[order])
    assert series.ids[0] == first
    assert_same(series.select(np.argsort(series.ids == "a")), read_machines(frame))


def test_rows_without_times_keep_their_order_within_an_entity() -> None:
    frame = pd.DataFrame({"id": [7, 3, 7, 3, 7], "x": [1.0, 2, 3, 4, 5]})
    series = read_series(frame, id="id")
    assert series.ids.tolist() == [7, 3]
    assert series.values[:, 0].tolist() == [1, 3, 5, 2, 4]
    assert (series.times, series.time_kind, series.step) == (None, "rows", None)


def test_names_of_a_text_file_are_numbers_only_if_all_are_plain_whole_numbers(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain.csv", "unit,x,y\n1,1,0\n12,2,1\n")
    padded = write(tmp_path / "padded.csv", "unit,x,y\n007,1,0\n12,2,1\n")
    assert read_series(plain, id="unit", label="y").ids.tolist() == [1, 12]
    assert read_series(padded, id="unit", label="y").ids.tolist() == ["007", "12"]
    assert read_series(plain, id="unit", label="y").labels.tolist() == [0, 1]  # type: ignore[union-attr]


def test_an_entity_called_na_is_an_entity(tmp_path: Path) -> None:
    path = write(tmp_path / "countries.csv", "country,x\nNA,1\nBE,2\n")
    assert read_series(path, id="country").ids.tolist() == ["NA", "BE"]


def test_labels_that_change_within_an_entity_are_kept_by_row_and_empty_ones_are_unlabelled(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "x,act\n1,walk\n2,\n3,sit\n4,NaN\n")
    series = read_series(path, label="act")
    assert series.labels is not None
    assert series.labels.tolist() == ["walk", None, "sit", None]
    assert series.labels_by_row


def test_an_entity_without_a_label_is_none_and_one_labelled_in_part_is_kept_by_row() -> None:
    frame = pd.DataFrame({"id": ["a", "a", "b", "b"], "x": [1.0, 2, 3, 4], "y": [2.0, 2, np.nan, np.nan]})
    assert read_series(frame, id="id", label="y").labels.tolist() == [2, None]  # type: ignore[union-attr]
    frame.loc[0, "y"] = np.nan
    assert read_series(frame, id="id", label="y").labels.tolist() == [None, 2, None, None]  # type: ignore[union-attr]


def test_booleans_and_nullable_columns_are_channels() -> None:
    frame = pd.DataFrame(
        {"on": [True, False, True], "n": pd.array([1, None, 3], dtype="Int64"), "d": [True, None, False]}
    )
    series = read_series(frame)
    np.testing.assert_array_equal(series.values, np.array([[1, 1, 1], [0, np.nan, np.nan], [1, 3, 0]], np.float32))


def test_the_index_of_a_table_may_be_the_time_and_a_plain_row_number_is_ignored(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": [1.0, 2, 4]}, index=pd.date_range("2024", periods=3, freq="h", name="when"))
    assert read_series(frame, time="when").step == 3600
    frame.to_parquet(tmp_path / "t.parquet")
    assert read_series(tmp_path / "t.parquet", time="when").step == 3600
    pd.DataFrame({"x": [1.0, 2]}).to_csv(tmp_path / "numbered.csv")
    assert read_series(tmp_path / "numbered.csv").channels == ("x",)


def test_decimal_commas_and_missing_headers_are_recognised(tmp_path: Path) -> None:
    series = read_series(write(tmp_path / "eu.csv", "a;b\n1,5;2\n2,25;3\n"))
    assert series.values.tolist() == [[1.5, 2], [2.25, 3]]
    series = read_series(write(tmp_path / "bare.txt", "1.5 2\n2.25 3\n"))
    assert series.values.tolist() == [[1.5, 2], [2.25, 3]]
    assert series.channels == ("channel_0", "channel_1")


# ------------------------------------------------------------------------------------------------ times


@pytest.mark.parametrize(
    "texts",
    [
        ("2024-03-01 12:00:00", "2024-03-01 12:00:01.5"),
        ("2024-03-01T12:00:00Z", "2024-03-01T12:00:01.500Z"),
        ("2024-03-01 14:00:00+02:00", "2024-03-01 13:00:01.5+01:00"),
        ("01.03.2024 12:00:00.000", "01.03.2024 12:00:01.500"),
        ("03/01/2024 12:00:00.0 PM", "03/01/2024 12:00:01.5 PM"),
        ("1 Mar 2024 12:00:00.0", "1 Mar 2024 12:00:01.5"),
        ("March 1, 2024 12:00:00.0", "March 1, 2024 12:00:01.5"),
        ("2024/03/01 12:00:00.0", "2024/03/01 12:00:01.5"),
    ],
)
@pytest.mark.filterwarnings("ignore:the dates in data.time")
def test_datetimes_are_read_in_many_ways_of_writing_them(tmp_path: Path, texts: tuple[str, str]) -> None:
    path = tmp_path / "t.csv"
    pd.DataFrame({"t": texts, "x": [1, 2]}).to_csv(path, index=False)
    times = read_series(path, time="t").times
    start = pd.Timestamp("2024-03-01 12:00").value
    assert times is not None
    assert times.tolist() == [start, start + 1_500_000_000]


def test_a_date_that_only_fits_day_first_much_later_decides_for_the_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "SAMPLE_ROWS", 2)
    monkeypatch.setattr(tables, "BATCH_CELLS", 4)
    days = pd.date_range("2024-03-05", periods=20)
    path = tmp_path / "t.csv"
    pd.DataFrame({"t": days.strftime("%d/%m/%Y"), "x": range(20)}).to_csv(path, index=False)
    series = read_series(path, time="t")
    assert series.times is not None
    assert series.times.astype("datetime64[ns]").tolist() == days.as_unit("ns").to_numpy().tolist()
    assert series.step == 86400


def test_dates_that_fit_both_orders_are_read_with_a_warning(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "t,x\n03/05/2024,1\n03/06/2024,2\n")
    with pytest.warns(UserWarning, match=r"fit %m/%d/%Y and %d/%m/%Y, read as %m/%d/%Y"):
        assert read_series(path, time="t").step == 86400


def test_dates_with_dots_are_day_first_without_a_doubt(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "t,x\n03.05.2024 10:00,1\n04.05.2024 10:00,2\n")
    assert read_series(path, time="t").step == 86400


def test_numbers_stay_numbers_whatever_they_could_mean(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "t,x\n1709294400,1\n1709294401,2\n1709294402,3\n")
    series = read_series(path, time="t")
    assert series.times is not None
    assert (series.time_kind, series.step, series.times[0]) == ("number", 1.0, 1709294400.0)


def test_a_step_within_one_percent_is_regular_and_a_gap_is_not() -> None:
    frame = pd.DataFrame({"t": [0, 1.0, 2.005, 3.0], "x": [1.0, 2, 3, 4]})
    assert read_series(frame, time="t").step == pytest.approx(1.0, abs=0.01)
    frame.loc[3, "t"] = 4.0
    assert read_series(frame, time="t").step is None


# ------------------------------------------------------------------------------------------------ resampling


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), grid=st.sampled_from(["7s", "1min", "90s"]))
def test_resampling_is_what_pandas_does_for_each_entity(seed: int, grid: str) -> None:
    rng = np.random.default_rng(seed)
    n = 40
    frame = pd.DataFrame(
        {
            "id": rng.integers(0, 3, n),
            "t": pd.Timestamp("2024-03-01") + pd.to_timedelta(rng.integers(0, 600, n), unit="s"),
            "x": np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n)),
            "y": rng.normal(size=n),
        }
    )
    series = read_series(frame, id="id", time="t", resample=grid)
    assert series.step == pd.Timedelta(grid).total_seconds()
    for i, name in enumerate(series.ids):
        # origin: bins are counted from 1970, as the grid's are
        expected = frame[frame["id"] == name].set_index("t")[["x", "y"]].resample(grid, origin="epoch").mean()
        rows = slice(series.offsets[i], series.offsets[i + 1])
        np.testing.assert_allclose(series.values[rows], expected.to_numpy(), rtol=1e-5, atol=1e-6)
        assert series.times is not None
        assert series.times[rows].tolist() == expected.index.as_unit("ns").astype(np.int64).tolist()


def test_numeric_times_fall_into_the_bin_that_they_are_written_in() -> None:
    frame = pd.DataFrame({"t": [0.1, 0.2, 0.3, 0.6, 0.7], "x": [1.0, 2, 3, 6, 7]})
    series = read_series(frame, time="t", resample=0.1)
    np.testing.assert_array_equal(series.values[:, 0], np.array([1, 2, 3, np.nan, np.nan, 6, 7], np.float32))
    np.testing.assert_allclose(series.times, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", [20, 30, 250, 1000])
@pytest.mark.parametrize("start", [0.0, 1.7e9])
def test_seconds_since_1970_meet_the_grid_of_their_own_rate_row_by_row(rate: int, start: float) -> None:
    frame = pd.DataFrame({"t": start + np.arange(2000) / rate, "x": np.arange(2000.0)})
    series = read_series(frame, time="t", resample=1 / rate)
    assert series.values[:, 0].tolist() == list(range(2000))


def test_a_bin_has_its_last_label_and_an_empty_one_that_of_neighbours_who_agree() -> None:
    frame = pd.DataFrame({"t": [0, 1, 4, 8, 9], "x": [1.0, 2, 3, 4, 5], "y": ["a", "b", "b", "c", None]})
    series = read_series(frame, time="t", label="y", resample=2)
    assert series.labels is not None
    assert series.labels.tolist() == ["b", "b", "b", None, "c"]


def test_repeated_times_are_averaged_when_resampling() -> None:
    frame = pd.DataFrame({"t": [0, 0, 1], "x": [1.0, 3, 5]})
    assert read_series(frame, time="t", resample=1).values[:, 0].tolist() == [2, 5]


@pytest.mark.parametrize(
    ("frame", "resample", "problem"),
    [
        ({"t": pd.to_datetime(["2024-01-01", "2024-01-02"])}, "1s", "median distance of two rows is 24 h: set"),
        ({"t": pd.to_datetime(["2024-01-01", "2024-01-02"])}, "1ME", r"data\.resample=1ME is no fixed step"),
        ({"t": pd.to_datetime(["2024-01-01", "2024-01-02"])}, 5, "has no unit"),
        ({"t": pd.to_datetime(["2024-01-01", "2024-01-02"])}, "-1s", r"data\.resample"),
        ({"t": [1.0, 2.0]}, "1s", r"data\.time=t holds numbers"),
        ({"t": [1.0, 2.0]}, 0, "must be positive, got 0"),
    ],
)
def test_an_unusable_grid_is_refused(frame: dict[str, Any], resample: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read_series(pd.DataFrame({**frame, "x": [1.0, 2.0]}), time="t", resample=resample)


def test_resampling_needs_times() -> None:
    with pytest.raises(ValueError, match=r"data\.resample=1s needs times: set data\.time"):
        read_series(pd.DataFrame({"x": [1.0, 2.0]}), resample="1s")


# ------------------------------------------------------------------------------------------------ folders and arrays


def test_the_files_of_a_folder_are_entities_named_after_them(tmp_path: Path) -> None:
    write(tmp_path / "m2.csv", "t,x\n1,5\n2,6\n")
    pd.DataFrame({"t": [1, 2, 3], "x": [1.0, 2, 3]}).to_parquet(tmp_path / "m1.parquet")
    write(tmp_path / "notes.md", "not data")
    series = read_series(tmp_path, time="t")
    assert series.ids.tolist() == ["m1", "m2"]
    assert series.lengths.tolist() == [3, 2]


def test_an_id_column_joins_the_files_of_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "monday.csv", "unit,t,x\n1,1,5\n2,1,6\n")
    pd.DataFrame({"unit": [2, 1], "t": [2, 2], "x": [8.0, 7]}).to_parquet(tmp_path / "tuesday.parquet")
    series = read_series(tmp_path, id="unit", time="t")
    assert series.ids.tolist() == [1, 2]
    assert series.values[:, 0].tolist() == [5, 7, 6, 8]


def test_a_file_with_other_columns_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "t,x\n1,5\n")
    write(tmp_path / "b.csv", "t,y\n1,5\n")
    with pytest.raises(ValueError, match=r"b\.csv lacks \['x'\] and adds \['y'\], compared with .*a\.csv"):
        read_series(tmp_path, time="t")


def test_arrays_are_series_without_their_padding(tmp_path: Path) -> None:
    values = np.arange(24.0).reshape(2, 4, 3)
    values[1, 2:] = np.nan
    np.savez(tmp_path / "a.npz", X=values, y=["u", ""])
    series = read_series(tmp_path / "a.npz", channels=["p", "q", "r"])
    assert series.lengths.tolist() == [4, 2]
    assert series.channels == ("p", "q", "r")
    assert series.labels is not None
    assert series.labels.tolist() == ["u", None]
    np.save(tmp_path / "a.npy", values[..., 0])
    assert read_series(tmp_path / "a.npy").values.shape == (6, 1)
    assert read_series(values, channels=["channel_2"]).values[:, 0].tolist() == [2, 5, 8, 11, 14, 17]


def test_a_folder_of_arrays_is_one_set(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", X=np.arange(12.0).reshape(2, 3, 2), y=[1.0, 2.0])
    np.save(tmp_path / "b.npy", np.arange(8.0).reshape(1, 4, 2))
    series = read_series(tmp_path)
    assert series.ids.tolist() == ["a-0", "a-1", "b"]
    assert series.lengths.tolist() == [3, 3, 4]
    assert series.labels is not None
    assert series.labels.tolist() == [1, 2, None]


@pytest.mark.parametrize(
    ("values", "options", "problem"),
    [
        (np.zeros(5), {}, r"shape \(N, T, C\) or \(N, T\).*got float64 of shape \(5,\)"),
        (np.zeros((2, 0, 3)), {}, "without an empty axis"),
        (np.array([["a", "b"]]), {}, "must hold numbers"),
        (np.full((2, 3), np.nan), {}, "no value but NaN"),
        (np.array([[1.0, np.inf]]), {}, "channel 'channel_0' has 1 infinite value .*entity 0 at row 1"),
        (np.ones((2, 3)), {"id": "x"}, r"data\.id=x needs a table"),
        (np.ones((2, 3)), {"channels": ["a", "b"]}, "2 names for the 1 channels"),
    ],
)
def test_an_array_that_holds_no_series_is_refused(values: Any, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read_series(values, **options)


# ------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("text", "options", "problem"),
    [
        ("t,x\n2024-01-01,1\n\nsoon,2\n", {"time": "t"}, r"data\.time=t: 'soon' in line 4 of .*bad\.csv is not a date"),
        ("t,x\n1,1\nsoon,2\n2,3\n", {"time": "t"}, r"data\.time=t: 'soon' in line 3 of .* is not a finite number"),
        ("t,x\n1,1\n,2\n", {"time": "t"}, r"data\.time=t is empty in line 3"),
        ("t,x\n1,1\n2,2\n2,3\n", {"time": "t"}, r"1 row repeats .*entity 'bad' at 2; set data\.id .*data\.resample"),
        ("t,x\n1,1\n2,bad\n3,4\n", {"time": "t"}, r"channel 'x' is not numeric: 'bad' in line 3 of .*bad\.csv"),
        ("x,y\n1,\n2,\n", {}, r"channel 'y' has no value in any row.*data\.channels"),
        (
            "t,x\n1,1\n2,inf\n3,-1e60\n",
            {"time": "t"},
            r"channel 'x' has 2 infinite values .*entity 'bad' at 2; replace",
        ),
        ("u,x\na,1\n,2\n", {"id": "u"}, r"data\.id=u is empty in line 3"),
        ("tiem,x\n1,1\n", {"time": "time"}, r"data\.time: .* has no column 'time'; did you mean 'tiem'\?"),
        ("heat,x\n1,1\n", {"channels": ["heta"]}, r"data\.channels: .* no column 'heta'; did you mean 'heat'\?"),
        ("t,x\n1,1\n", {"time": "t", "channels": ["t", "x"]}, r"'t' is named both as data\.time and as data\.channels"),
        ("when,x\n2024-01-01,1\n", {}, r"column 'when' of .* holds dates: set data\.time=when"),
        ("who,x\nann,1\n", {}, r"column 'who' of .* text such as 'ann': set data\.id=who .*data\.label=who"),
        ("t,x\n1,1\n2,2,3\n", {"time": "t"}, "Expected 2 fields in line 3, saw 3"),
        ("t,x\n", {}, "has no rows"),
        ("\n\n", {}, "blank lines only"),
        ("", {}, r"bad\.csv is empty \(0 bytes\)"),
        ("t,x\n1500-01-01,1\n", {"time": "t"}, "between the years 1678 and 2262"),
        ("x,y\n1,2\n", {"channels": []}, r"data\.channels must name at least one"),
    ],
)
def test_bad_text_is_refused_with_its_place_and_a_way_out(
    tmp_path: Path, text: str, options: dict[str, Any], problem: str
) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=problem):
        read_series(path, **options)


def test_a_place_is_right_in_later_batches_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "BATCH_CELLS", 4)
    for name in ("a", "b"):
        lines = [f"{i},{'bad' if (name, i) == ('b', 7) else i}" for i in range(10)]
        write(tmp_path / f"{name}.csv", "t,x\n" + "\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=r"'bad' in line 9 of .*b\.csv"):
        read_series(tmp_path, time="t")


def test_a_constant_channel_is_only_a_warning() -> None:
    with pytest.warns(UserWarning, match="channel 'x' never changed"):
        read_series(pd.DataFrame({"x": [1.0, 1.0], "y": [1.0, 2.0]}))


def test_text_beside_an_id_is_left_out_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="not numeric, so not learnt from: state"):
        series = read_machines(machines(), label=None)
    assert series.channels == ("load", "heat")
    assert read_machines(machines(), label=None, channels=["heat"]).channels == ("heat",)


def test_a_clock_that_would_be_learnt_from_is_pointed_out() -> None:
    ticks = [*range(1_700_000_000, 1_700_000_020), *range(1_600_000_000, 1_600_000_020)]
    table = pd.DataFrame({"m": ["a"] * 20 + ["b"] * 20, "ticks": ticks, "x": np.tile([1.0, 3.0, 2.0, 4.0], 10)})
    with pytest.warns(UserWarning, match="column 'ticks' rises from row to row, .* set data.time=ticks"):
        assert read_series(table, id="m").channels == ("ticks", "x")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_series(table, id="m", time="ticks").channels == ("x",)
        assert read_series(table, id="m", channels=["ticks", "x"]).channels == ("ticks", "x")


def test_a_path_that_leads_nowhere_names_what_is_beside_it(tmp_path: Path) -> None:
    write(tmp_path / "machines.csv", "x\n1\n")
    with pytest.raises(FileNotFoundError, match=r"machine\.csv does not exist: did you mean 'machines\.csv'\?"):
        read_series(tmp_path / "machine.csv")
    with pytest.raises(ValueError, match=r"\.xlsx has a suffix that cannot be read; supported are \.csv"):
        read_series(write(tmp_path / "a.xlsx", "x"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no file that can be read"):
        read_series(tmp_path / "empty")


@pytest.mark.parametrize("name", ["m.parquet", "m.feather", "m.npz", "m.npy", "m.csv.gz"])
def test_a_file_that_was_cut_off_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("parquet"):
        machines().to_parquet(path)
    elif name.endswith("feather"):
        machines().to_feather(path)
    elif name.endswith("npz"):
        np.savez(path, X=np.ones((3, 4, 2)))
    elif name.endswith("npy"):
        np.save(path, np.ones((3, 4, 2)))
    else:
        path.write_bytes(gzip.compress(b"x,y\n" + b"1,2\n" * 1000))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(ValueError, match=rf"{name} cannot be read"):
        read_series(path)


def test_python_objects_are_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="Python objects"):
        read_series(tmp_path / "o.npy")


# ------------------------------------------------------------------------------------------------ out again


def test_a_description_shows_at_once_what_was_read() -> None:
    frame = machines()
    frame["time"] = frame["time"].where(frame.index < 9, frame["time"] + pd.Timedelta("1min"))
    assert describe(read_machines(frame)).splitlines() == [
        "entities: 2 with 10 rows (4 to 6 each, median 5)",
        "channels: 2 (load, heat)",
        "time: 2024-03-01T12:00 to 2024-03-01T12:01:03, irregular: 1 s to 61 s between rows, median 1 s "
        "(data.resample puts them on a grid)",
        "missing: load 10.0%",
        "labels of entities: ok 1, worn 1",
    ]
    assert "one row every 1 s" in describe(read_machines(machines()))


def test_embeddings_are_indexed_by_entity_and_window() -> None:
    windows = np.array(["2024-03-01", "2024-03-02"], dtype="datetime64[ns]")
    frame = embedding_frame(np.ones((2, 3), np.float32), np.array(["a", 7], dtype=object), windows)
    assert frame.index.names == ["entity", "window"]
    assert list(frame.columns) == ["e000", "e001", "e002"]


@pytest.mark.data
@needs_data
def test_a_public_csv_is_read_as_published() -> None:
    series = read_series(SHARED / "timeseries" / "ETT" / "ETTh1.csv", time="date")
    assert series.values.shape == (17420, 7)
    assert series.step == 3600


# ------------------------------------------------------------------------------------------------ memory

MEASURE = """
import re, sys
from mmssl.timeseries.data import read_series
def peak():  # not getrusage, whose maximum a child process inherits
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024
before = peak()
series = read_series(sys.argv[1], id="id", time="t")
print(peak() - before - series.values.nbytes, len(series.values))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("shuffled", [False, True])
def test_reading_parquet_needs_little_more_than_its_values(tmp_path: Path, shuffled: bool) -> None:
    rows, rng = 1_000_000, np.random.default_rng(0)
    order = rng.permutation(rows) if shuffled else np.arange(rows)
    names = np.array([f"machine-{i}" for i in range(50)])
    columns: dict[str, Any] = {
        "id": names[order // (rows // 50)],
        "t": pa.array(order * 10**9, pa.timestamp("ns")),
        **{f"c{c}": rng.standard_normal(rows) for c in range(8)},
    }
    pa.parquet.write_table(pa.table(columns), tmp_path / "m.parquet")
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path / "m.parquet")], capture_output=True, text=True, check=True
    )
    beyond, read = map(int, done.stdout.split())
    assert read == rows
    # the libraries and their batches, then times, codes and what sorting needs: 0.75 GiB for 10 million rows
    assert beyond < 140 * 2**20 + rows * 64, f"{beyond / 2**20:.0f} MiB beyond the array"
