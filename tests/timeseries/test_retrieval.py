"""Episodes like one of the user's: found where they were hidden, and moments that do not exist."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mmssl.__main__ import main as cli
from mmssl.timeseries.data import read_series
from mmssl.timeseries.embedder import SeriesEmbedder
from mmssl.timeseries.encoder import DilatedConvEncoder
from mmssl.timeseries.preprocess import SeriesPreprocessor
from mmssl.timeseries.retrieval import find_moment, gallery, similar_episodes
from mmssl.timeseries.series import SeriesSet
from mmssl.train.export import save_embedder

BURSTS = {"m/1": (100, 400), "m/2": (250,)}  # rows at which a fast oscillation of 40 rows begins


def machines() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frames = []
    for name, bursts in BURSTS.items():
        t = np.arange(600)
        value = 0.3 * rng.standard_normal(600)
        for start in bursts:
            value[start : start + 40] += 4 * np.sin(np.arange(40))
        times = pd.Timestamp("2026-01-01") + pd.to_timedelta(t, unit="min")
        frames.append(pd.DataFrame({"machine": name, "t": times, "value": value}))
    return pd.concat(frames, ignore_index=True)


def embedder(window: int | None = 40, time: str | None = "t") -> SeriesEmbedder:
    torch.manual_seed(0)
    arguments: dict[str, Any] = {"in_channels": 1, "dim": 16, "hidden": 8, "depth": 3}
    series = read_series(machines(), id="machine", time="t")
    return SeriesEmbedder(
        DilatedConvEncoder(**arguments), arguments, SeriesPreprocessor().fit(series), window, id="machine", time=time
    )


def test_the_other_bursts_are_found_and_no_window_overlaps() -> None:
    series = embedder().read(machines())
    query, found = similar_episodes(embedder(), series, at="m/1/2026-01-01T02:00", k=2)
    assert query.start == "2026-01-01T01:40"
    near = {
        (e.entity, round((pd.Timestamp(e.start) - pd.Timestamp("2026-01-01")).total_seconds() / 60, -1)) for e in found
    }
    assert {name for name, _ in near} == {"m/1", "m/2"}
    for name, start in near:
        assert min(abs(start - burst) for burst in BURSTS[name]) <= 20
    assert 1 >= found[0].similarity >= found[1].similarity
    _, many = similar_episodes(embedder(), series, at="m/1/2026-01-01T02:00", k=100)
    taken = sorted((e.entity, e.start) for e in [query, *many])
    for (a, first), (b, second) in pairwise(taken):
        assert a != b or pd.Timestamp(second) - pd.Timestamp(first) >= pd.Timedelta("40min")


def test_whole_entities_are_compared_where_the_run_had_no_windows() -> None:
    values = np.random.default_rng(0).normal(size=(6, 30, 1)).astype(np.float32)
    values[4] = values[1] + 0.01
    series = SeriesSet.from_array(values, channels=["value"], ids=list("abcdef"))
    query, found = similar_episodes(embedder(window=None), series, at="b", k=2)
    assert query.entity == "b"
    assert found[0].entity == "e"
    assert len(query.values) == 30


def test_a_moment_is_found_by_time_number_or_row() -> None:
    plain = SeriesSet.from_array(np.zeros((2, 9, 1)), ids=["a", "b/c"])
    assert find_moment(plain, "a/4") == (0, 4)
    assert find_moment(plain, "b/c/8") == (1, 17)
    numbers = SeriesSet(
        np.zeros((4, 1), np.float32), np.array([0, 4]), np.array([7], dtype=object), ("x",),
        times=np.array([0.0, 0.5, 1.0, 1.5]), time_kind="number",
    )  # fmt: skip
    assert find_moment(numbers, "0.9") == (0, 2)
    assert find_moment(numbers, "7/0.9") == (0, 2)


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ("m/3/2026-01-01", r"there is no entity 'm/3'; did you mean m/2, m/1"),
        ("2026-01-01", "there is no entity '2026-01-01'; there are m/1, m/2"),
        ("m/1", "which moment[?] Write m/1/<time>"),
        ("m/1/noon", "'noon' is not a date such as 2026-01-31T12:00"),
        ("m/1/2027-01-01", "'m/1' has rows from 2026-01-01 to 2026-01-01T09:59"),
    ],
)
def test_a_moment_that_does_not_exist_is_answered_with_what_there_is(at: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_moment(read_series(machines(), id="machine", time="t"), at)


def test_a_row_that_does_not_exist_is_answered_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"'9' is no row of 'a', which has rows 0 to 8"):
        find_moment(SeriesSet.from_array(np.zeros((1, 9, 1)), ids=["a"]), "a/9")


def test_moments_are_those_of_the_clock_that_the_data_was_read_by() -> None:
    """Clocks in Berlin went back from 3:00 to 2:00 on 25 October 2026, at 1:00 UTC."""
    utc = pd.date_range("2026-10-24 12:00", periods=300, freq="10min", tz="UTC")
    shown = utc.tz_convert("Europe/Berlin").tz_localize(None)
    frame = pd.DataFrame({"t": shown, "value": np.random.default_rng(0).normal(size=300)})
    series = read_series(frame, time="t", time_zone="Europe/Berlin")
    for row in (0, 74, 90, 299):  # summer time, summer time of the repeated hour, and winter
        assert find_moment(series, shown[row].isoformat(), time_zone="Europe/Berlin") == (0, row)
        assert find_moment(series, f"{utc[row].tz_localize(None).isoformat()}Z", time_zone="Europe/Berlin") == (0, row)
    with pytest.raises(ValueError, match="has rows from 2026-10-24T14:00 to 2026-10-26T14:50"):
        find_moment(series, "2026-10-26T15:00", time_zone="Europe/Berlin")
    fitted = SeriesPreprocessor().fit(series)
    local = replace(embedder(window=20), preprocessor=fitted, time_zone="Europe/Berlin", id=None)
    query, found = similar_episodes(local, series, at="2026-10-26T14:40", k=100)
    assert query.start == "2026-10-26T11:40"
    assert {pd.Timestamp(episode.start) for episode in found} <= set(shown)
    assert "2026-10-24T14:00" in {episode.start for episode in found}


def restarted() -> SeriesSet:
    """Rows from 100 to 139, then from 60 to 119: the clock was set back by 80."""
    times = np.concatenate([np.arange(100.0, 140), np.arange(60.0, 120)])
    frame = pd.DataFrame({"t": times, "value": np.random.default_rng(0).normal(size=100)})
    return read_series(frame, time="t", clock_reset="split")


def test_a_moment_is_found_though_the_clock_was_reset() -> None:
    assert find_moment(restarted(), "60") == (0, 40)
    assert find_moment(restarted(), "139") == (0, 39)
    with pytest.raises(ValueError, match="'0' has rows from 60 to 139"):
        find_moment(restarted(), "59")
    with pytest.warns(UserWarning, match="the clock of '0' went back and showed this time 2 times; the first is taken"):
        assert find_moment(restarted(), "110") == (0, 10)


def test_no_episode_has_rows_from_both_sides_of_a_reset() -> None:
    plain = replace(embedder(window=20), preprocessor=SeriesPreprocessor().fit(restarted()), id=None)
    for at in ("61", "139"):
        query, found = similar_episodes(plain, restarted(), at=at, k=100)
        assert {float(episode.start) for episode in [query, *found]} <= {*range(100, 121), *range(60, 101)}


def test_too_few_windows_are_refused() -> None:
    with pytest.raises(ValueError, match="too few to look for similar ones"):
        similar_episodes(embedder(), SeriesSet.from_array(np.zeros((1, 9, 1)), channels=["value"]), at="0/3")


def test_names_are_escaped_in_the_picture() -> None:
    series = SeriesSet.from_array(
        np.random.default_rng(0).normal(size=(3, 30, 1)), channels=["value"], ids=["<b>", "b", "c"]
    )
    html = gallery(*similar_episodes(embedder(window=None), series, at="<b>", k=1))
    assert "<b><b>" not in html
    assert html.count("<figure>") == 2


def test_the_command_prints_a_table_and_writes_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, data, out = tmp_path / "run", tmp_path / "machines.csv", tmp_path / "like.html"
    run.mkdir()
    save_embedder(run, embedder())
    machines().to_csv(data, index=False)
    assert cli(["neighbours", str(run), str(data), "--at", "m/1/2026-01-01T02:00", "-k", "3", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Episodes like m/1 from 2026-01-01T01:40")
    assert out.read_text().count("<figure>") == 4
    assert cli(["neighbours", str(run), str(data), "--at", "m/1/noon"]) == 1
    assert "error: --at m/1/noon" in capsys.readouterr().err
