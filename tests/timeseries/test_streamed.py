"""A Parquet folder that is streamed gives the windows, statistics and batches of one that is read into memory."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from torch import Tensor, nn

from mmssl.timeseries import pieces
from mmssl.timeseries.ahead import StreamedSource
from mmssl.timeseries.dataset import DataConfig, SeriesData, labelled, load_data
from mmssl.timeseries.preprocess import Moments
from mmssl.timeseries.series import WindowSet
from mmssl.timeseries.streamed import StreamedWindows
from mmssl.train import batches
from mmssl.train.batches import ShuffledBatches
from mmssl.train.checkpoint import Checkpoints
from mmssl.train.fit import fit, setup_fabric
from mmssl.train.pools import pooled_order

ROWS, MACHINES, GROUP = 400, 6, 100  # rows of a machine, machines, rows of a row group


def recordings(**changes: Any) -> pd.DataFrame:
    """Six machines at two sites, two channels with missing values, a state that changes once in the recording."""
    rng = np.random.default_rng(0)
    machine, t = np.divmod(np.arange(ROWS * MACHINES), ROWS)
    frame = pd.DataFrame(
        {
            "machine": np.array([f"m{i}" for i in range(MACHINES)])[machine],
            "site": np.array(["north", "south", "west"])[machine % 3],
            "t": pd.Timestamp("2024-05-01") + pd.to_timedelta(t, unit="s"),
            "load": rng.standard_normal(len(t)) * 3 + 1e4,
            "heat": np.where(rng.random(len(t)) < 0.1, np.nan, machine + rng.random(len(t))),
            "state": np.where(t < ROWS // 2, "idle", "busy"),
        }
    )
    return frame.assign(**changes)


def write(folder: Path, frame: pd.DataFrame, *, files: int = 3, group: int = GROUP) -> str:
    folder.mkdir(exist_ok=True)
    for i, part in enumerate(np.array_split(np.arange(len(frame)), files)):
        table = pa.Table.from_pandas(frame.iloc[part], preserve_index=False)
        pa.parquet.write_table(table, folder / f"part-{i}.parquet", row_group_size=group)
    return str(folder)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of two row groups."""
    monkeypatch.setattr(pieces.open_pieces, "__kwdefaults__", {"size": 4 * 2 * 2 * GROUP})


def load(path: str, *, in_memory: bool = False, **settings: Any) -> SeriesData:
    options = {"id": "machine", "time": "t", "channels": ["load", "heat"], "window": 20, **settings}
    return load_data(DataConfig(path=path, in_memory=in_memory, **options))


def streamed(data: SeriesData, *, pool: int = 3) -> StreamedSource:
    assert isinstance(data.train, StreamedWindows)
    return StreamedSource(data.train, pool=pool * data.train.pieces.bytes)


def first(source: StreamedSource, n: int, *, after: int = 0, size: int = 8, **options: Any) -> list[Tensor]:
    return list(islice(ShuffledBatches(source, batch_size=size, **options)(after), n))


def as_written(windows: WindowSet, length: int) -> npt.NDArray[np.float64]:
    """The same windows ``(n, length, 2)`` from the table."""
    assert isinstance(windows, StreamedWindows)
    by_machine = {name: rows[["load", "heat"]].to_numpy() for name, rows in recordings().groupby("machine")}
    names = windows.series.ids[windows.entity]
    return np.stack([by_machine[name][row : row + length] for name, row in zip(names, windows.rows, strict=True)])


def by_name(windows: WindowSet, values: npt.NDArray[Any]) -> dict[tuple[object, object], Any]:
    """Values of the windows under their entity and start."""
    names = zip(*(column.tolist() for column in windows.names()), strict=True)
    return dict(zip(names, values.tolist(), strict=True))


def rows_of(xs: list[Tensor]) -> list[bytes]:
    return [row.numpy().tobytes() for x in xs for row in x]


# ------------------------------------------------------------------------------------------------ what is found


def test_the_windows_of_the_pieces_are_those_of_the_same_rows_in_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "a", recordings())
    data, whole = load(path, stride=20), load(path, in_memory=True, stride=20)
    assert isinstance(data.train, StreamedWindows)
    assert len(data.train.pieces) == 12
    assert len(data.train) == len(whole.train) == MACHINES * ROWS // 20  # 20 divides the pieces: nothing is cut off
    for one, other in zip(data.train.names(), whole.train.names(), strict=True):
        assert one.tolist() == other.tolist()
    every = np.arange(len(data.train))
    np.testing.assert_allclose(data.train.fetch(every), whole.train.fetch(every), atol=1e-6)
    np.testing.assert_allclose(data.preprocessor.mean, whole.preprocessor.mean, rtol=1e-12)
    np.testing.assert_allclose(data.preprocessor.std, whole.preprocessor.std, rtol=1e-9)
    assert (data.preprocessor.step, data.partly_missing) == (1.0, True)
    assert "streamed: 12 pieces of at most 200 rows" in data.description
    assert "missing: heat" in data.description


def test_rows_of_entities_that_lie_between_each_other_are_sorted_piece_by_piece(tmp_path: Path) -> None:
    by_time = recordings().sort_values(["t", "machine"], kind="stable")
    data = load(write(tmp_path / "a", by_time, group=300), window=10, stride=10)
    x = data.train.fetch(np.arange(len(data.train))) * data.preprocessor.std + data.preprocessor.mean
    np.testing.assert_allclose(x, as_written(data.train, 10), rtol=1e-4, atol=1e-4)
    assert len(data.train) > 0.9 * ROWS * MACHINES / 10


def test_a_grid_gaps_and_held_values_work_within_a_piece(tmp_path: Path) -> None:
    frame = recordings()
    frame = frame[frame["t"].dt.second % 7 != 3]
    path = write(tmp_path / "a", frame)
    data = load(path, resample="1s", hold="2s", max_gap="30s")
    assert isinstance(data.train, StreamedWindows)
    assert not data.train.as_they_are.any()
    x = data.train.fetch(np.arange(len(data.train)))
    assert np.isnan(x[..., 0]).mean() < 0.01  # what was left out is held
    assert data.preprocessor.step == 1.0


def test_statistics_and_splits_know_the_training_part_only(tmp_path: Path) -> None:
    path = write(tmp_path / "a", recordings())
    for split, group in (("time", None), ("entity", None), ("auto", "site")):
        data = load(path, label="state", stride=20, label_policy="last", split=split, group=group)
        assert isinstance(data.train, StreamedWindows)
        assert isinstance(data.test, StreamedWindows)
        raw = as_written(data.train, 20).reshape(-1, 2)
        np.testing.assert_allclose(data.preprocessor.mean, np.nanmean(raw, axis=0), rtol=1e-6)
        np.testing.assert_allclose(data.preprocessor.std, np.nanstd(raw, axis=0), rtol=1e-4)
        names = [set(part.names()[0]) for part in (data.train, data.test)]
        if split != "time":
            assert names[0] & names[1] == set()
        else:
            assert data.train.rows.max() + 20 <= data.test.rows.min() == 280
        if group is not None:
            sites = [set(data.train.series.static[group][part.entity]) for part in (data.train, data.test)]
            assert sites[0] & sites[1] == set()


def test_a_gap_between_earlier_and_later_part_is_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "a", recordings())
    data = load(path, label="state", label_policy="last", split="time", split_gap="45s", stride=5)
    assert data.test is not None
    end, begin = (getattr(np, f)(part.names()[1]) for f, part in (("max", data.train), ("min", data.test)))
    assert begin - (end + np.timedelta64(19, "s")) > np.timedelta64(45, "s")
    assert "45 s apart" in data.description


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize(("settings", "problem"), [
    ({"split": "random"}, "data.split must be auto, entity or time, got 'random'"),
    ({"test_fraction": 1.5}, "data.test_fraction must lie between 0 and 1, got 1.5"),
    ({"test_fraction": 0.0}, "data.test_fraction must lie between 0 and 1, got 0.0"),
    ({"split": "entity", "split_gap": "60s"}, "data.split_gap lies between .* needs data.split=time"),
    ({"group": "site", "split_gap": "60s"}, "data.split_gap lies between .* needs data.split=time"),
    ({"group": "site", "split": "time"}, "data.group=site holds out whole groups"),
    ({"split": "time", "split_gap": "-5s"}, "data.split_gap must not be negative, got -5s"),
    ({"split": "entity", "id": None}, "data.split=entity needs at least two entities, got one"),
    ({"label": "unknown"}, "no training window has a label in unknown"),
])  # fmt: skip
def test_splits_that_make_no_sense_are_refused_streamed_as_in_memory(
    tmp_path: Path, settings: dict[str, Any], problem: str, in_memory: bool
) -> None:
    steps = pd.Timestamp("2024-05-01") + pd.to_timedelta(np.arange(ROWS * MACHINES), unit="s")
    frame = recordings(unknown=pd.Series(np.nan, index=range(ROWS * MACHINES), dtype=object), t=steps)
    path = write(tmp_path / "a", frame, files=1)
    with pytest.raises(ValueError, match=problem):
        load(path, in_memory=in_memory, **{"label": "state", **settings})


def test_a_test_set_may_miss_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "a", recordings())
    new = write(tmp_path / "b", recordings().drop(index=[2044, 2045, 2222]), files=1)
    parts = [
        load(path, in_memory=memory, test_path=new, label="state", stride=20, label_policy="last").test
        for memory in (False, True)
    ]
    lost = []
    for part in parts:
        assert part is not None
        lost.append(by_name(part, np.isnan(part.fetch(np.arange(len(part)))).all(axis=2).sum(axis=1)))
    assert sum(lost[1].values()) == 3
    shared = lost[0].keys() & lost[1].keys()
    assert len(shared) > 100
    assert all(lost[0][key] == lost[1][key] for key in shared)
    assert sum(lost[0].values()) == 3


def test_labels_of_windows_are_those_in_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "a", recordings())
    for policy in ("drop", "majority", "last"):
        parts = [
            load(path, in_memory=memory, label="state", label_policy=policy, split="entity", stride=10).train
            for memory in (False, True)
        ]
        found = [by_name(part, part.labels()) for part in parts]
        shared = found[0].keys() & found[1].keys()
        assert len(shared) > 100
        assert all(found[0][key] == found[1][key] for key in shared)
    windows, y = labelled(parts[0], limit=30, seed=0)
    assert len(windows) == len(y) == 30


# ------------------------------------------------------------------------------------------------ the batches


def test_an_epoch_shows_every_window_once_as_it_is(tmp_path: Path) -> None:
    data = load(write(tmp_path / "a", recordings()))
    source = streamed(data)
    want = data.train.fetch(np.arange(len(data.train)))
    got = rows_of(first(source, len(source) // 8))
    assert len(set(got)) == len(got) == len(source) // 8 * 8
    assert set(got) <= {row.tobytes() for row in want}


def test_batches_mix_several_pieces_and_epochs_differ(tmp_path: Path) -> None:
    data = load(write(tmp_path / "a", recordings()))
    source = streamed(data, pool=4)
    assert isinstance(data.train, StreamedWindows)
    order = pooled_order(source, np.random.default_rng(0), 0, 1)
    mixed = [len(np.unique(data.train.piece[order[i : i + 16]])) for i in range(0, 100, 16)]
    assert min(mixed) >= 3
    assert order.tolist() != pooled_order(source, np.random.default_rng(1), 0, 1).tolist()


@pytest.mark.parametrize("after", [1, 7, 40, 53, 121])
def test_it_goes_on_inside_an_epoch_with_the_same_batches_bit_for_bit(tmp_path: Path, after: int) -> None:
    path = write(tmp_path / "a", recordings())
    whole = first(streamed(load(path)), after + 12)
    resumed = first(streamed(load(path)), 12, after=after)
    assert rows_of(resumed) == rows_of(whole[after:])


class Mean(nn.Module):
    """Learns one number for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(2, 2)

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        return {"loss": (self.encoder(batch.nan_to_num()) - 1).square().mean()}

    def after_step(self, progress: float, skipped: Tensor) -> None:
        pass


def test_a_training_that_is_interrupted_inside_an_epoch_ends_with_the_same_weights(tmp_path: Path) -> None:
    path = write(tmp_path / "a", recordings())

    def trained(folder: Path, stop: int) -> Tensor:
        torch.manual_seed(0)
        method = Mean()
        loop = fit(
            method,
            ShuffledBatches(streamed(load(path)), batch_size=8, seed=1),
            optimizer=torch.optim.AdamW(method.parameters(), lr=0.1),
            steps=40,
            fabric=setup_fabric(device="cpu"),
            checkpoints=Checkpoints(folder),
            checkpoint_every=4,
        )
        for state in loop:
            if state.step == stop:
                break
        return method.encoder.weight.detach().clone()

    whole = trained(tmp_path / "whole", 40)
    assert not torch.equal(trained(tmp_path / "cut", 18), whole)
    assert Checkpoints(tmp_path / "cut").step() == 16
    assert torch.equal(trained(tmp_path / "cut", 40), whole)


def test_readers_change_nothing(tmp_path: Path) -> None:
    data = load(write(tmp_path / "a", recordings()))
    assert rows_of(first(streamed(data), 60, workers=3)) == rows_of(first(streamed(data), 60))


def test_ranks_read_different_windows_and_together_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load(write(tmp_path / "a", recordings()))
    assert isinstance(data.train, StreamedWindows)
    seen: list[list[bytes]] = []
    for rank in range(3):
        monkeypatch.setattr(batches, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(batches, "world_size", lambda: 3)
        xs = first(streamed(data), len(data.train) // 9, size=9)
        assert all(len(x) == 3 for x in xs)
        seen.append(rows_of(xs))
    assert len({row for rows in seen for row in rows}) == len(data.train) // 9 * 9


def test_entities_shorter_than_a_window_are_padded_on_both_sides(tmp_path: Path) -> None:
    frame = recordings()
    short = pd.concat([frame.iloc[: 2 * ROWS], frame[frame["machine"] == "m3"].head(8)])
    data = load(write(tmp_path / "a", short))
    x = streamed(data).fetch(np.arange(len(data.train)))
    padded = x[np.flatnonzero(data.train.lengths == 8)[0]]
    assert padded.isnan().all(dim=1).tolist() == [True] * 6 + [False] * 8 + [True] * 6


# ------------------------------------------------------------------------------------------------ which way


def test_a_folder_is_streamed_if_its_values_exceed_the_memory_that_it_may_take(tmp_path: Path) -> None:
    path = write(tmp_path / "a", recordings())
    size = 4 * 2 * ROWS * MACHINES
    options: dict[str, Any] = {"path": path, "id": "machine", "time": "t", "channels": ["load", "heat"], "window": 20}
    assert isinstance(load_data(DataConfig(memory=f"{size - 1}B", **options)).train, StreamedWindows)
    assert not isinstance(load_data(DataConfig(memory=f"{size}B", **options)).train, StreamedWindows)
    with pytest.raises(ValueError, match=r"data\.memory must be a size such as 2GiB or 500MB, got 'lots'"):
        load_data(DataConfig(memory="lots", **options))


@pytest.mark.parametrize(("settings", "problem"), [
    ({"window": None}, "data.window is not set, but data that is streamed is learnt from in windows"),
    ({"time_zone": "Europe/Berlin"}, "data.time_zone=Europe/Berlin tells the repeated hour by the rows around it"),
    ({"window": 3000}, "3000 rows .* Sort the files by entity|too few: choose a smaller data.window"),
])  # fmt: skip
def test_what_needs_all_rows_at_once_is_refused(tmp_path: Path, settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        load(write(tmp_path / "a", recordings()), **settings)


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("window", [0, 1])
def test_a_window_that_is_too_short_is_named(tmp_path: Path, window: int, in_memory: bool) -> None:
    with pytest.raises(ValueError, match=f"data.window={window} is too short: .* windows of at least 2 rows"):
        load(write(tmp_path / "a", recordings()), window=window, in_memory=in_memory)


def test_text_files_cannot_be_streamed(tmp_path: Path) -> None:
    recordings().to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(ValueError, match=r"cannot be streamed: data\.in_memory=false needs Parquet"):
        load(str(tmp_path / "a.csv"))


def test_rows_out_of_order_between_pieces_are_refused_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "a", recordings().sample(frac=1, random_state=0))
    with pytest.raises(ValueError, match=r"entity 'm\d' has rows in one piece .* must be in order of time"):
        load(path)


def test_entities_scattered_over_all_pieces_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a", recordings().sort_values(["t", "machine"], kind="stable"))
    with pytest.raises(ValueError, match=r"less than data.window=100 rows in a piece .* Sort the files by entity"):
        load(path, window=100)


def test_unusable_values_are_found_in_the_survey(tmp_path: Path) -> None:
    bad = recordings()
    bad.loc[1234, "load"] = np.inf
    with pytest.raises(ValueError, match=r"channel 'load' has 1 infinite value .* entity 'm3' at 2024-05-01T00:00:34"):
        load(write(tmp_path / "a", bad))
    with pytest.raises(ValueError, match="no value in any row of heat"):
        load(write(tmp_path / "b", recordings(heat=np.nan)))
    with pytest.warns(UserWarning, match="heat never changed"):
        load(write(tmp_path / "c", recordings(heat=1.0)))
    with pytest.raises(ValueError, match="static column 'state' of entity 'm0'"):
        load(write(tmp_path / "d", recordings()), static=["state"])


def test_files_in_different_units_are_refused_before_they_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a", recordings())
    for i, unit in enumerate(("kW", "W")):
        table = pa.parquet.read_table(tmp_path / "a" / f"part-{i}.parquet")
        fields = [f.with_metadata({"unit": unit} if f.name == "load" else {}) for f in table.schema]
        pa.parquet.write_table(
            table.cast(pa.schema(fields)), tmp_path / "a" / f"part-{i}.parquet", row_group_size=GROUP
        )
    with pytest.raises(
        ValueError, match=r"'load' is in 'kW' according to .*part-0.*, and in 'W' according to .*part-1"
    ):
        load(path)
    (tmp_path / "a" / "part-1.parquet").unlink()
    assert load(path).preprocessor.units == ("kW", None)


def test_moments_of_pieces_are_those_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal([0, 1e6], 1, (500, 2)).astype(np.float32)
    values[rng.random(values.shape) < 0.2] = np.nan
    joined = Moments.of([values[:7], values[7:8], values[8:300], values[300:]])
    np.testing.assert_array_equal(joined.count, (~np.isnan(values)).sum(axis=0))
    np.testing.assert_allclose(joined.mean, np.nanmean(values.astype(np.float64), axis=0), rtol=1e-13)
    np.testing.assert_allclose(joined.std, np.nanstd(values.astype(np.float64), axis=0), rtol=1e-10)
