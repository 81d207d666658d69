"""Sensor data as it comes: what is repaired, what is refused, and in which words."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from torch import Tensor

from mmssl.core.types import Encoder
from mmssl.timeseries.augment import (
    ChannelDropout,
    CropResize,
    FrequencyMask,
    FrequencyMix,
    Jitter,
    MagnitudeWarp,
    Permutation,
    Rotation,
    Scaling,
    Step,
    TimeMask,
    TimeWarp,
)
from mmssl.timeseries.data import describe, read_series
from mmssl.timeseries.dataset import DataConfig, load_data, reading
from mmssl.timeseries.embedder import SeriesEmbedder
from mmssl.timeseries.encoders.build import build_encoder
from mmssl.timeseries.grid import with_missing_rows
from mmssl.timeseries.preprocess import SeriesPreprocessor
from mmssl.timeseries.series import SeriesSet, as_objects, cut_windows
from mmssl.timeseries.split import split_series


def at(*seconds: float) -> pd.DatetimeIndex:
    return pd.Timestamp("2024-03-01 12:00") + pd.to_timedelta(seconds, unit="s")


def rows(series: SeriesSet) -> list[list[float]]:
    """First channel of each stretch."""
    starts, lengths, _ = series.stretches()
    return [series.values[s : s + n, 0].tolist() for s, n in zip(starts, lengths, strict=True)]


def spans(series: SeriesSet, length: int, stride: int = 1) -> list[list[float]]:
    windows = cut_windows(series, length=length, stride=stride)
    return windows.fetch(np.arange(len(windows)))[..., 0].tolist()


# ------------------------------------------------------------------------------------------------ rates and changes


def test_channels_of_several_rates_meet_on_a_grid() -> None:
    frame = pd.DataFrame({
        "t": at(0, 1, 2, 3, 4, 5, 0.5, 3.5),
        "fast": [0.0, 1, 2, 3, 4, 5, np.nan, np.nan],
        "slow": [np.nan] * 6 + [10.0, 20],
    })  # fmt: skip
    series = read_series(frame, time="t", resample="1s")
    assert series.values[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_array_equal(series.values[:, 1], np.array([10, np.nan, np.nan, 20, np.nan, np.nan], np.float32))


def test_a_value_logged_on_change_holds_up_to_its_age_and_is_missing_after_it() -> None:
    frame = pd.DataFrame({"t": at(0, 1, 6, 7), "x": [1.0, 2, 3, np.nan], "y": [np.nan, 5, np.nan, 6]})
    series = read_series(frame, time="t", resample="1s", hold="3s")
    want = np.array([[1, np.nan], [2, 5], [2, 5], [2, 5], [2, 5], [np.nan, np.nan], [3, np.nan], [3, 6]])
    np.testing.assert_array_equal(series.values, want.astype(np.float32))


def test_values_are_not_held_from_one_entity_to_the_next() -> None:
    frame = pd.DataFrame({"id": ["a", "a", "b", "b"], "t": [0.0, 1, 0, 1], "x": [1.0, np.nan, np.nan, 2]})
    series = read_series(frame, id="id", time="t", hold=9)
    np.testing.assert_array_equal(series.values[:, 0], np.array([1, 1, np.nan, 2], np.float32))


def test_without_times_values_are_held_for_so_many_rows() -> None:
    series = read_series(pd.DataFrame({"x": [1.0, np.nan, np.nan, np.nan, 2]}), hold=2)
    np.testing.assert_array_equal(series.values[:, 0], np.array([1, 1, 1, np.nan, 2], np.float32))


@pytest.mark.parametrize(("options", "problem"), [
    ({"hold": 5, "time": "t"}, r"data\.hold=5 is no fixed step of time"),
    ({"hold": "0s", "time": "t"}, r"data\.hold must be positive"),
    ({"hold": "-1s", "time": "t"}, r"data\.hold must not be negative, got -1s"),
    ({"max_gap": -2}, r"data\.max_gap must not be negative, got -2"),
    ({"max_gap": "+5", "time": "t"}, r"data\.max_gap=\+5 is no fixed step of time \(it has no unit\)"),
    ({"max_gap": "1s"}, r"data\.max_gap=1s is no number, but there is no data\.time: give rows"),
    ({"label_policy": "first"}, r"data\.label_policy must be drop, majority or last, got 'first'"),
    ({"clock_reset": "ignore", "time": "t"}, r"data\.clock_reset must be sort, split or error, got 'ignore'"),
])  # fmt: skip
def test_settings_that_make_no_sense_are_refused(options: dict[str, Any], problem: str) -> None:
    frame = pd.DataFrame({"t": at(0, 1), "x": [1.0, 2]})
    with pytest.raises(ValueError, match=problem):
        read_series(frame, channels="x", **options)


@pytest.mark.parametrize(("text", "step"), [
    (".5s", 0.5), ("+2s", 2.0), ("0.5s", 0.5), ("s", 1.0), ("min", 60.0), ("2h30min", 9000.0),
])  # fmt: skip
def test_a_span_is_read_as_it_is_written(text: str, step: float) -> None:
    frame = pd.DataFrame({"t": at(0, 10000), "x": [1.0, 2]})
    assert read_series(frame, time="t", resample=text, max_gap="1s").step == step


def test_arrays_have_no_times_to_repair() -> None:
    with pytest.raises(ValueError, match=r"data\.hold=3 needs a table, but the array holds series"):
        read_series(np.zeros((2, 5, 1)), hold=3)


# ------------------------------------------------------------------------------------------------ gaps


def test_no_window_straddles_a_gap_that_is_too_long() -> None:
    frame = pd.DataFrame({"t": at(0, 1, 2, 10, 11, 12, 13), "x": np.arange(7.0)})
    assert [0, 1, 2, 3] in spans(read_series(frame, time="t"), 4)
    series = read_series(frame, time="t", max_gap="5s")
    assert rows(series) == [[0, 1, 2], [3, 4, 5, 6]]
    assert spans(series, 3) == [[0, 1, 2], [3, 4, 5], [4, 5, 6]]
    assert series.step == 1.0, "within the stretches the rate is regular"
    assert "breaks: 1 (gaps" in describe(series)


def test_a_long_gap_takes_no_room_on_a_grid_and_a_short_one_is_missing() -> None:
    frame = pd.DataFrame({"t": at(0, 1, 3, 10**7, 10**7 + 1), "x": np.arange(5.0)})
    with pytest.raises(ValueError, match=r"would turn 5 rows into 10,000,002"):
        read_series(frame, time="t", resample="1s")
    series = read_series(frame, time="t", resample="1s", max_gap="1h")
    np.testing.assert_equal(rows(series), [[0, 1, np.nan, 2], [3, 4]])
    assert series.times is not None
    assert series.times[-1] == at(10**7 + 1)[0].value


def test_rows_without_a_value_count_as_a_gap() -> None:
    series = read_series(pd.DataFrame({"x": [1.0, np.nan, 2, np.nan, np.nan, np.nan, 3]}), max_gap=3)
    np.testing.assert_equal(rows(series), [[1, np.nan, 2], [3]])


def test_breaks_stay_where_they_are_when_rows_are_chosen() -> None:
    frame = pd.DataFrame({"id": ["a"] * 4 + ["b"] * 4, "t": [0.0, 1, 9, 10] * 2, "x": np.arange(8.0)})
    series = read_series(frame, id="id", time="t", max_gap=5)
    assert rows(series.select(np.array([1]))) == [[4, 5], [6, 7]]
    assert rows(series.select(np.array([1, 0]))) == [[4, 5], [6, 7], [0, 1], [2, 3]]
    later = split_series(series, by="time", test_fraction=0.75).test
    assert [row for row in rows(later) if row] == [[1], [2, 3], [5], [6, 7]]


# ------------------------------------------------------------------------------------------------ clocks


def reset(rows: int = 300) -> pd.DataFrame:
    """A counter of seconds since the start of a device, which restarted."""
    half = rows // 2
    return pd.DataFrame({"t": [*np.arange(half) + 0.0, *np.arange(half) + 0.5], "x": np.arange(2.0 * half)})


def test_a_clock_that_was_reset_is_told_and_can_be_split() -> None:
    with pytest.warns(
        UserWarning, match=r"time goes back once, first in entity 0 from 149 to 0\.5, .*clock_reset=split"
    ):
        read_series(reset(), time="t")
    series = read_series(reset(), time="t", clock_reset="split")
    assert [len(stretch) for stretch in rows(series)] == [150, 150]
    assert all(max(w) - min(w) == 9 for w in spans(series, 10)), "windows of rows in the order in which they came"
    with pytest.raises(ValueError, match=r"from 149 to 0\.5; data\.clock_reset=split starts anew there"):
        read_series(reset(), time="t", clock_reset="error")


def test_a_restarted_clock_that_repeats_times_is_refused_unless_it_is_split() -> None:
    frame = reset()
    frame["t"] = np.floor(frame["t"])
    with (
        pytest.warns(UserWarning, match="time goes back"),
        pytest.raises(ValueError, match="repeat the time of another"),
    ):
        read_series(frame, time="t")
    assert len(rows(read_series(frame, time="t", clock_reset="split"))) == 2
    on_grid = read_series(frame, time="t", clock_reset="split", resample=2)
    assert [len(stretch) for stretch in rows(on_grid)] == [75, 75]


def test_files_in_another_order_and_rows_in_none_are_sorted_without_a_word() -> None:
    frame = pd.DataFrame({"t": np.arange(300.0), "x": np.arange(300.0)})
    for disordered in (pd.concat([frame[150:], frame[:150]]), frame.sample(frac=1, random_state=0)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert read_series(disordered, time="t").values[:, 0].tolist() == list(range(300))


def autumn(zone: str | None = None) -> pd.DataFrame:
    """Two sensors read every ten minutes through the night in which the clocks of Berlin go back."""
    utc = pd.date_range("2024-10-26 18:00", "2024-10-27 06:00", freq="10min", tz="UTC")
    local = utc.tz_convert("Europe/Berlin").tz_localize(None) if zone is None else utc.tz_convert(zone)
    return pd.concat(
        pd.DataFrame({"id": name, "t": local, "x": np.arange(len(utc)) + 100.0 * i, "utc": utc})
        for i, name in enumerate("ab")
    ).reset_index(drop=True)


def test_the_repeated_hour_of_local_time_is_refused_and_a_time_zone_repairs_it() -> None:
    frame = autumn()
    options: dict[str, Any] = {"id": "id", "time": "t", "channels": "x"}
    with (
        pytest.warns(UserWarning, match=r"time goes back .*data\.time_zone"),
        pytest.raises(ValueError, match="12 rows"),
    ):
        read_series(frame, **options)
    series = read_series(frame, time_zone="Europe/Berlin", **options)
    assert series.step == 600
    assert series.times is not None
    assert series.times.tolist() == frame["utc"].dt.as_unit("ns").astype("int64").tolist()


@pytest.mark.parametrize(("frame", "zone", "problem"), [
    (autumn(), "Europe/Berln", "data.time_zone=Europe/Berln is no time zone such as Europe/Berlin"),
    (autumn("Asia/Tokyo"), "Asia/Tokyo", "data.time_zone=Asia/Tokyo, but data.time=t says its zone itself"),
    (pd.DataFrame({"id": "a", "t": [1.0, 2], "x": [1.0, 2]}), "UTC", "data.time_zone=UTC needs datetimes"),
    (pd.DataFrame({"id": "a", "t": pd.date_range("2024-03-31 01:30", periods=3, freq="1h"), "x": [1.0, 2, 3]}),
     "Europe/Berlin", "2024-03-31 02:30:00 does not exist there, since clocks go forward in spring"),
])  # fmt: skip
def test_a_time_zone_that_the_clock_cannot_have_shown_is_refused(frame: pd.DataFrame, zone: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read_series(frame, id="id", time="t", channels="x", time_zone=zone)


def test_times_with_and_without_a_zone_are_not_mixed(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("t,x\n2024-01-01 00:00:00+01:00,1\n2024-01-01 00:00:01+01:00,2\n2024-01-01 00:00:02,3\n")
    with pytest.raises(
        ValueError, match=r"a time zone in line 2 of .*a\.csv, none in line 4 .*\(2024-01-01 00:00:02\)"
    ):
        read_series(path, time="t")
    for name, zone in (("a", "UTC"), ("b", None)):
        frame = pd.DataFrame({"t": pd.date_range("2024-01-01", periods=3, freq="1s", tz=zone), "x": 1.0 + np.arange(3)})
        frame.to_parquet(tmp_path / f"{name}.parquet")
    path.unlink()
    with pytest.raises(ValueError, match=r"a time zone in row 0 .*a\.parquet, none in row 0 .*b\.parquet"):
        read_series(tmp_path, time="t")


def test_times_of_several_zones_that_say_so_are_instants() -> None:
    frame = pd.DataFrame({"t": ["2024-01-01T01:00:00+01:00", "2024-01-01T00:00:01Z"], "x": [1.0, 2]})
    assert read_series(frame, time="t").step == 1


# ------------------------------------------------------------------------------------------------ units


def with_units(path: Path, **units: str) -> Path:
    frame = pd.DataFrame({"pressure": [1.0, 2, 3, 4], "heat": [5.0, 6, 8, 9]})
    table = pa.Table.from_pandas(frame, preserve_index=False)
    fields = [field.with_metadata({"unit": units[field.name]} if field.name in units else {}) for field in table.schema]
    pa.parquet.write_table(table.cast(pa.schema(fields)), path)
    return path


def test_units_come_from_the_file_the_table_or_the_user(tmp_path: Path) -> None:
    series = read_series(with_units(tmp_path / "a.parquet", pressure="bar"), units={"heat": "K"})
    assert series.units == ("bar", "K")
    frame = pd.DataFrame({"pressure": [1.0, 2]})
    frame.attrs["units"] = {"pressure": "Pa"}
    assert read_series(frame).units == ("Pa",)
    with pytest.raises(
        ValueError, match=r"'pressure' is in 'Pa' according to data\.units, and in 'bar' according to .*a\."
    ):
        read_series(tmp_path / "a.parquet", units={"pressure": "Pa"})
    with pytest.raises(ValueError, match=r"data\.units names 'presure', which is no channel; did you mean 'pressure'"):
        read_series(tmp_path / "a.parquet", units={"presure": "Pa"})
    with_units(tmp_path / "b.parquet", pressure="Pa")
    with pytest.raises(
        ValueError, match=r"'bar' according to .*a\.parquet, and in 'Pa' according to .*b\.parquet; convert"
    ):
        read_series(tmp_path)


def test_a_fitted_preprocessor_refuses_another_unit_by_name(tmp_path: Path) -> None:
    bar, pascal = (read_series(with_units(tmp_path / f"{unit}.parquet", pressure=unit)) for unit in ("bar", "Pa"))
    fitted = SeriesPreprocessor.from_state(SeriesPreprocessor().fit(bar).state())
    assert fitted.units == ("bar", None)
    with pytest.raises(
        ValueError, match="channel 'pressure' is in 'Pa', the training data had it in 'bar': convert it"
    ):
        fitted(pascal)
    fitted(read_series(with_units(tmp_path / "unknown.parquet")))  # who says nothing is believed


# ------------------------------------------------------------------------------------------------ entities and splits


def plant(**changes: Any) -> pd.DataFrame:
    """Eight machines at three sites; a state that changes at row 12 of 20."""
    machine, t = np.divmod(np.arange(160), 20)
    rng = np.random.default_rng(0)
    return pd.DataFrame({
        "machine": [f"m{i}" for i in machine],
        "site": np.array(["north", "south", "west"])[machine % 3],
        "t": t.astype(float),
        "x": rng.standard_normal(160),
        "state": np.where(t < 12, "idle", "busy"),
    }).assign(**changes)  # fmt: skip


def embedder_for(path: str, **options: Any) -> SeriesEmbedder:
    cfg = DataConfig(path=path, id="machine", time="t", channels=["x"], window=10, **options)
    data = load_data(cfg)
    arguments: dict[str, Any] = {"in_channels": 1}
    torch.manual_seed(0)
    encoder = build_encoder("tstcc", **arguments)
    return SeriesEmbedder(encoder.eval(), arguments, data.preprocessor, **reading(cfg))


def test_entities_that_appear_only_later_are_embedded_with_their_static_columns(tmp_path: Path) -> None:
    plant().to_parquet(tmp_path / "a.parquet")
    embedder = embedder_for(str(tmp_path / "a.parquet"), static=["site"])
    new = embedder.embed(plant().assign(machine="newcomer", site="east").head(20))
    assert set(new.index.get_level_values("entity")) == {"newcomer"}
    assert new["site"].tolist() == ["east"] * len(new)
    assert np.isfinite(new.drop(columns="site").to_numpy()).all()
    without = embedder.embed(plant().drop(columns="site").head(20))
    assert "site" not in without.columns


def test_an_embedder_keeps_how_data_is_read(tmp_path: Path) -> None:
    plant().to_parquet(tmp_path / "a.parquet")
    embedder = embedder_for(str(tmp_path / "a.parquet"), static=["site"], hold="3", max_gap="5", clock_reset="split")
    again = SeriesEmbedder.from_state({**embedder.state()}, embedder.encoder.state_dict(), "cpu")
    gone = plant().drop(index=range(5, 14))
    np.testing.assert_array_equal(embedder.embed(gone).iloc[:, 1:], again.embed(gone).iloc[:, 1:])
    assert (again.hold, again.max_gap, again.clock_reset, list(again.static)) == ("3", "5", "split", ["site"])


def test_a_row_that_is_lost_in_new_data_is_a_missing_one(tmp_path: Path) -> None:
    """As the same table with an empty row in its place."""
    plant().to_parquet(tmp_path / "a.parquet")
    embedder = embedder_for(str(tmp_path / "a.parquet"))
    lost, empty = plant().drop(index=[25, 26, 33, 98]), plant()
    empty.loc[[25, 26, 33, 98], "x"] = np.nan
    pd.testing.assert_frame_equal(embedder.embed(lost), embedder.embed(empty))
    pd.testing.assert_frame_equal(embedder.embed(embedder.read(lost)), embedder.embed(empty))
    fast = lost.assign(t=lost["t"] / 2)
    with pytest.raises(ValueError, match=r"one row every 0\.5, the training data had one every 1: resample"):
        embedder.embed(fast)


def test_vectors_of_single_rows_are_not_given_for_rows_that_nobody_asked_for(tmp_path: Path) -> None:
    plant().to_parquet(tmp_path / "a.parquet")
    arguments: dict[str, Any] = {"in_channels": 1, "dim": 4, "hidden": 4, "depth": 2}
    encoder = build_encoder("dilated", **arguments).eval()
    embedder = replace(embedder_for(str(tmp_path / "a.parquet")), encoder=encoder, arguments=arguments)
    lost = read_series(plant().head(20).drop(index=[7, 8]), id="machine", time="t", channels=["x"])
    with pytest.raises(ValueError, match=r"2 rows are missing between those of 'm0'.* give embedder\.read\(series\)"):
        embedder.timestamps(lost)
    assert embedder.timestamps(embedder.read(lost)).shape == (20, 4)


def test_a_test_set_may_miss_rows_and_a_whole_channel(tmp_path: Path) -> None:
    both = plant(y=np.arange(160.0))
    both.to_parquet(tmp_path / "a.parquet")
    both.assign(y=np.nan).drop(index=[5]).to_parquet(tmp_path / "b.parquet")
    cfg = DataConfig(
        path=str(tmp_path / "a.parquet"), test_path=str(tmp_path / "b.parquet"), id="machine", time="t",
        channels=["x", "y"], label="site", window=20,
    )  # fmt: skip
    with pytest.warns(UserWarning, match="channel 'y' has no value in any row: embedded as missing"):
        data = load_data(cfg)
    assert data.test is not None
    missing = np.isnan(data.test.fetch(np.array([0]))[0])
    assert missing[:, 1].all()
    assert np.flatnonzero(missing[:, 0]).tolist() == [5]


def test_new_data_of_a_dead_sensor_is_embedded_as_missing(tmp_path: Path) -> None:
    plant().to_parquet(tmp_path / "a.parquet")
    embedder = embedder_for(str(tmp_path / "a.parquet"))
    with pytest.warns(UserWarning, match="channel 'x' has no value in any row: embedded as missing"):
        assert np.isfinite(embedder.embed(plant(x=np.nan)).to_numpy()).all()
    with pytest.raises(ValueError, match="channel 'x' has 160 infinite values"):
        embedder.embed(plant(x=np.inf))


def test_new_dates_that_fit_both_orders_are_read_as_the_training_data_was(tmp_path: Path) -> None:
    """Days up to 12 would be months, with a warning, if nothing else were known."""
    steps = pd.date_range("2026-03-01", periods=160, freq="3h")
    states = np.where(np.arange(160) % 80 < 40, "idle", "busy")
    frame = plant(machine="m0", t=steps.strftime("%d/%m/%Y %H:%M"), state=states)
    early = frame.head(80)
    frame.to_csv(tmp_path / "a.csv", index=False)
    early.to_csv(tmp_path / "b.csv", index=False)
    embedder = embedder_for(str(tmp_path / "a.csv"), test_path=str(tmp_path / "b.csv"), label="state")
    again = SeriesEmbedder.from_state(embedder.state(), embedder.encoder.state_dict(), "cpu")
    for one in (embedder, again):
        assert one.read(tmp_path / "b.csv").times.tolist() == steps[:80].as_unit("ns").asi8.tolist()  # type: ignore[union-attr]
    for other in ("%Y-%m-%d %H:%M", "%d.%m.%Y %H:%M"):
        assert embedder.read(early.assign(t=steps[:80].strftime(other))).step == 3 * 3600


def test_missing_rows_are_added_within_the_stretches_of_entities_and_no_measured_time_moves() -> None:
    frame = pd.DataFrame({
        "id": ["a"] * 5 + ["b"] * 4,
        "t": at(0.1, 1, 3.9, 30, 31, 5, 6, 9, 10),
        "x": np.arange(9.0),
        "y": ["u", "u", "u", "v", "v", "u", "u", "v", "v"],
    })  # fmt: skip
    series = read_series(frame, id="id", time="t", label="y", max_gap="10s")
    full = with_missing_rows(series, 1.0)
    np.testing.assert_equal(rows(full), [[0, 1, np.nan, np.nan, 2], [3, 4], [5, 6, np.nan, np.nan, 7, 8]])
    assert (series.step, full.step) == (None, 1.0)
    assert full.labels is not None
    assert full.labels.tolist() == [*"uuuuuvvuu", None, None, *"vv"]
    assert full.times is not None
    assert full.times.tolist() == [t.value for t in at(0.1, 1, 2, 3, 3.9, 30, 31, 5, 6, 7, 8, 9, 10)]


@pytest.mark.parametrize("times", [[0.0, 1, 2, 2.3, 4], [0.0, 1, 2, 3, 1000]])
def test_rows_that_no_regular_recording_can_have_left_out_are_not_added(times: list[float]) -> None:
    series = read_series(pd.DataFrame({"t": times, "x": 1.0 * np.arange(5)}), time="t")
    assert with_missing_rows(series, 1.0) is series


def test_a_large_folder_is_embedded_piece_by_piece(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    pa.parquet.write_table(pa.Table.from_pandas(plant(), preserve_index=False), folder / "a.parquet", row_group_size=40)
    embedder = embedder_for(str(folder), static=["site"])
    whole = embedder.embed(folder)
    parts = pd.concat(list(embedder.embed_parts(folder, memory=1)))
    assert isinstance(embedder.encoder, torch.nn.Module)
    assert cast_dim(embedder) == parts.shape[1] - 1
    pd.testing.assert_frame_equal(parts, whole, atol=1e-5)
    pd.testing.assert_frame_equal(pd.concat(list(embedder.embed_parts(folder))), whole)
    lost = pa.Table.from_pandas(plant().drop(index=[25, 33, 98]), preserve_index=False)
    pa.parquet.write_table(lost, folder / "a.parquet", row_group_size=157)
    whole = embedder.embed(folder)
    assert len(whole) == len(parts)
    pd.testing.assert_frame_equal(pd.concat(list(embedder.embed_parts(folder, memory=1))), whole, atol=1e-5)


def cast_dim(embedder: SeriesEmbedder) -> int:
    encoder: Encoder = embedder.encoder  # type: ignore[assignment]
    return encoder.dim


def test_a_static_column_that_changes_is_refused() -> None:
    frame = plant()
    frame.loc[25, "site"] = "elsewhere"
    with pytest.raises(
        ValueError, match=r"static column 'site' of entity 'm1' changes from 'south' to 'elsewhere' in row 25"
    ):
        read_series(frame, id="machine", time="t", channels="x", static=["site"])


def test_whole_groups_are_held_out() -> None:
    series = read_series(plant(), id="machine", time="t", channels="x", static=["site"])
    split = split_series(series, group="site")
    train, test = set(split.train.static["site"]), set(split.test.static["site"])
    assert train | test == {"north", "south", "west"}
    assert train & test == set()
    assert split.kind == "group"
    assert "by site: 2 with" in split.sentence


@pytest.mark.parametrize(("options", "problem"), [
    ({"group": "site", "by": "time"}, "data.group=site holds out whole groups, data.split=time a part of each"),
    ({"gap": 1, "by": "entity"}, "data.split_gap lies between an earlier and a later part: it needs data.split=time"),
    ({"gap": -1}, "data.split_gap must not be negative, got -1"),
    ({"gap": 100, "by": "time"}, "data.split_gap=100 leaves no test rows of entity 'm0'"),
])  # fmt: skip
def test_splits_that_make_no_sense_are_refused(options: dict[str, Any], problem: str) -> None:
    series = read_series(plant(), id="machine", time="t", channels="x", static=["site"])
    with pytest.raises(ValueError, match=problem):
        split_series(series, **options)


def test_one_group_or_an_unknown_one_cannot_be_split() -> None:
    one = read_series(plant(site="north"), id="machine", time="t", channels="x", static=["site"])
    with pytest.raises(ValueError, match=r"data\.group=site is 'north' for every entity"):
        split_series(one, group="site")
    empty = read_series(plant(site=None), id="machine", time="t", channels="x", static=["site"])
    with pytest.raises(ValueError, match=r"data\.group=site is empty for entity 'm0'"):
        split_series(empty, group="site")


def test_a_gap_lies_between_the_earlier_and_the_later_part() -> None:
    series = read_series(plant(), id="machine", time="t", channels="x")
    split = split_series(series, gap=3)
    assert split.kind == "time"
    assert split.train.times is not None
    assert split.test.times is not None
    assert split.train.times.max() == 13
    assert split.test.times.min() == 17, "more than 3 after the last training row"
    assert "3 apart" in split.sentence


# ------------------------------------------------------------------------------------------------ labels that change


@pytest.mark.parametrize(("policy", "want"), [
    ("drop", ["a", None, None, "b"]),
    ("majority", ["a", "a", "b", "b"]),
    ("last", ["a", "b", None, "b"]),
])  # fmt: skip
def test_the_label_of_a_window_that_has_several(policy: Any, want: list[str | None]) -> None:
    labels = ["a", "a", "a", "a", "a", "b", "b", "b", None, "b", "b", "b"]
    frame = pd.DataFrame({"x": np.tile([0.0, 1.0], 6), "y": labels})
    series = read_series(frame, label="y", label_policy=policy)
    assert cut_windows(series, length=3, stride=3).labels().tolist() == want


def test_a_majority_of_unlabelled_rows_is_no_label_and_ties_go_by_name() -> None:
    series = SeriesSet(
        np.zeros((8, 1), np.float32),
        np.array([0, 8]),
        as_objects(["e"]),
        ("x",),
        labels=as_objects([None, None, "a", "b", "b", "a", "a", "b"]),
        label_policy="majority",
    )
    windows = cut_windows(series, length=4, stride=4)
    assert windows.labels().tolist() == [None, "a"]


# ------------------------------------------------------------------------------------------------ missing is never used

STEPS: list[Step] = [
    Jitter(0.5),
    Scaling(0.5),
    MagnitudeWarp(0.5),
    TimeMask(0.3),
    ChannelDropout(0.3),
    FrequencyMask(0.3),
    FrequencyMix(0.5),
    TimeWarp(0.4),
    CropResize((0.4, 0.9)),
    Permutation(6),
    Rotation(),
]
POISON = 1e9


def gappy(fill: float) -> Tensor:
    """Three-axis sensors with a hole in all of the channels of series 0, and in one of series 1."""
    x = torch.randn(6, 64, 3, generator=torch.Generator().manual_seed(0))
    x[0, 20:30] = fill
    x[1, 40:45, 1] = fill
    return x


@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
def test_what_is_missing_is_no_donor_and_stays_missing(step: Step) -> None:
    torch.manual_seed(3)
    x = gappy(float("nan"))
    out = step(x)
    whole = out[2:]
    assert whole.isfinite().all(), "a series that misses nothing gets nothing that is missing from another"
    assert whole.abs().max() < 100
    assert out[:2].isnan().any(), "a gap does not vanish"
    if not isinstance(step, TimeWarp | CropResize | Permutation):
        assert out[0, 20:30].isnan().all()
        assert out[1, 40:45, 1].isnan().all()
    assert out[:2].nan_to_num(0.0).abs().max() < 100


@pytest.mark.parametrize("name", ["tstcc", "resnet1d", "patch", "dilated"])
def test_an_encoder_does_not_see_what_stands_where_a_value_is_missing(name: str) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(name, in_channels=3).eval()
    z = encoder(gappy(float("nan")))
    assert z.isfinite().all()
    assert not torch.allclose(z[0], encoder(gappy(POISON))[0]), "the same with a number there is another series"


def test_missing_values_are_no_targets_of_masked_modelling() -> None:
    torch.manual_seed(0)
    encoder: Any = build_encoder("patch", in_channels=3)
    x = gappy(float("nan"))
    targets = encoder.targets(x)
    assert torch.equal(targets.isnan().reshape(6, -1).sum(dim=1), x.isnan().reshape(6, -1).sum(dim=1))
