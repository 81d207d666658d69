"""Tables that are larger than memory: blocks of files, the order in which they are learnt from, what is held out."""

from __future__ import annotations

import gzip
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pytest
import torch

from mmssl.tabular import blocks as blocks_module
from mmssl.tabular import dataset, tables
from mmssl.tabular.blocks import count_cells, only, open_blocks, spread, with_sample
from mmssl.tabular.data import read_table, read_tables
from mmssl.tabular.dataset import DataConfig, TableData, load_data
from mmssl.tabular.preprocess import TablePreprocessor
from mmssl.tabular.streamed import TableStream
from mmssl.tabular.tables import MISSING
from mmssl.train.batches import ShuffledBatches
from mmssl.train.pools import InPieces, pooled_order

FORMATS = ("t.csv", "t.parquet", "t.feather")


def frame(rows: int = 1000) -> pd.DataFrame:
    """Every row can be told from the others by its number."""
    rng = np.random.default_rng(0)
    number = rng.permutation(rows) / 4
    town = pd.Series(np.where(number % 2 < 1, "Gent", 'Aalst, of "Aelst"')).where(number >= 10)
    return pd.DataFrame({"number": number, "town": town, "label": np.where(number % 3 < 1.5, "no", "yes")})


def write(table: pd.DataFrame, path: Path, *, group: int = 70) -> str:
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        table.to_parquet(path, index=False, row_group_size=group)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, pa.Table.from_pandas(table).schema) as writer:
            writer.write_table(pa.Table.from_pandas(table), max_chunksize=group)
    return str(path)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks_module, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(blocks_module, "BLOCK_CELLS", 3 * 150)


def load(path: str, **changes: Any) -> TableData:
    return load_data(DataConfig(path=path, label="label", **({"in_memory": False} | changes)))


def stream_of(path: str, *, pool: int = 10**9) -> TableStream:
    preprocessor = TablePreprocessor("standard").fit(read_table(path))
    return TableStream(open_blocks(Path(path)), preprocessor, missing=MISSING, pool=pool)


def numbers(x: npt.NDArray[np.float32] | torch.Tensor, preprocessor: TablePreprocessor) -> list[float]:
    """What stood in the column that tells rows apart."""
    fitted: Any = preprocessor.fitted[0]
    return sorted(round(4 * float(v * fitted.std + fitted.mean)) / 4 for v in np.asarray(x)[:, 0])


@pytest.mark.parametrize("name", FORMATS)
def test_the_blocks_of_a_file_are_its_rows_in_order(name: str, tmp_path: Path) -> None:
    path = write(frame(), tmp_path / name)
    blocks = open_blocks(Path(path))
    assert len(blocks) > 5
    whole = read_table(path)
    joined = read_tables(blocks)
    np.testing.assert_array_equal(joined.values, whole.values)
    assert joined.categories == whole.categories
    for block in blocks[1:3]:
        assert len(read_tables([block], columns=whole.columns)) == block.rows
    assert count_cells(Path(path)) == pytest.approx(3000, rel=0.3)


def test_blank_lines_at_the_end_are_no_rows(tmp_path: Path) -> None:
    text = frame(300).to_csv(index=False)
    (tmp_path / "t.csv").write_text(text + "\n" * (1000 + -len(text) % 1000) + "\r\n")
    assert len(read_tables(open_blocks(tmp_path / "t.csv"))) == 300
    (tmp_path / "none.csv").write_text("x,y\n\n")
    with pytest.raises(ValueError, match=r"none\.csv has no rows"):
        open_blocks(tmp_path / "none.csv")


def test_a_folder_is_the_blocks_of_its_files_and_a_file_may_have_no_header(tmp_path: Path) -> None:
    table = frame()
    for i, part in enumerate((table[:300], table[300:])):
        part.to_csv(tmp_path / f"{i}.csv", index=False, header=False)
    names = ["number", "town", "label"]
    joined = read_tables(open_blocks(tmp_path, names=names))
    np.testing.assert_allclose(joined.values[:, 0], table["number"])


@pytest.mark.parametrize("name", FORMATS)
def test_drawn_rows_come_from_all_over_the_file_and_none_twice(name: str, tmp_path: Path) -> None:
    blocks = open_blocks(Path(write(frame(), tmp_path / name)))
    drawn = only(blocks, spread(blocks, 200, most=10**6, rng=np.random.default_rng(0)))
    assert sum(table.rows or 0 for table in drawn) == pytest.approx(200, abs=len(blocks))
    assert len(drawn) == len(blocks)
    found = read_tables(drawn).values[:, 0]
    assert len(np.unique(found)) == len(found) == sum(table.rows or 0 for table in drawn)
    np.testing.assert_array_equal(read_tables(drawn).values[:, 0], found)
    few = only(blocks, spread(blocks, 30, most=3, rng=np.random.default_rng(0)))
    assert len(few) == 3
    sampled = with_sample(few)[0].sample
    assert len(sampled) == sum(table.rows or 0 for table in few)


@pytest.mark.parametrize("name", FORMATS)
def test_an_epoch_is_every_row_once_in_another_order_each_time(name: str, tmp_path: Path) -> None:
    path = write(frame(), tmp_path / name)
    stream = stream_of(path, pool=900)
    assert isinstance(stream, InPieces)
    assert 1 < stream.pool < len(stream.blocks) / 2
    batches = ShuffledBatches(stream, batch_size=50, seed=3)()
    first = torch.cat(list(islice(batches, 20)))
    second = torch.cat(list(islice(batches, 20)))
    assert numbers(first, stream.preprocessor) == numbers(second, stream.preprocessor) == [i / 4 for i in range(1000)]
    assert not torch.equal(first, second)
    order = pooled_order(stream, np.random.default_rng(0), 0, 1)
    assert np.abs(np.diff(order)).mean() > 20  # neighbours in a file are none here


def test_a_run_that_goes_on_gets_the_batches_it_would_have_got(tmp_path: Path) -> None:
    stream = stream_of(write(frame(), tmp_path / "t.parquet"), pool=900)
    whole = list(islice(ShuffledBatches(stream, batch_size=64, seed=1)(), 40))
    for first in (1, 14, 16):
        rest = list(islice(ShuffledBatches(stream, batch_size=64, seed=1)(first), 40 - first))
        for ours, theirs in zip(rest, whole[first:], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


def test_held_out_blocks_are_never_learnt_from(tmp_path: Path) -> None:
    data = load(write(frame(3000), tmp_path / "t.parquet"), scaling="standard")
    assert data.stream is not None
    assert data.test is not None
    assert data.validation is not None
    seen = torch.cat(list(islice(ShuffledBatches(data.stream, batch_size=1)(), len(data.stream))))
    learnt = set(numbers(seen, data.preprocessor))
    beside = set(numbers(data.validation, data.preprocessor)) | set(numbers(data.test.x, data.preprocessor))
    assert len(learnt) == len(data.stream)
    assert not learnt & beside
    assert len(learnt | beside) == 3000
    assert learnt >= set(numbers(data.train.x, data.preprocessor))
    assert "streamed: 3,000 rows in 22 blocks, 1 of them held out" in data.description
    assert "scales, vocabularies and marginals are of 2,860 rows" in data.description


def labelled(part: Any) -> list[float]:
    return sorted(part.x[part.labelled, 0].tolist())


def few_labels(table: pd.DataFrame, rows: npt.NDArray[np.int64]) -> pd.DataFrame:
    return table.assign(label=table["label"].where(np.isin(np.arange(len(table)), rows)))


@pytest.fixture
def small_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 3,000 rows in 22 blocks, 300 of 16 blocks are drawn."""
    for name, value in (("SAMPLED", 300), ("LABELLED", 90), ("HELD_ROWS", 60), ("SAMPLED_BLOCKS", 16)):
        monkeypatch.setattr(dataset, name, value)


@pytest.mark.usefixtures("small_samples")
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("where", ["all over", "at the end"])
def test_the_few_labels_of_a_streamed_table_are_searched_for(name: str, where: str, tmp_path: Path) -> None:
    rows = np.arange(1, 3000, 50) if where == "all over" else np.arange(2700, 3000, 5)
    table = few_labels(frame(3000), rows)
    data = load(write(table, tmp_path / name), scaling="standard")
    assert data.stream is not None
    assert data.validation is not None
    assert data.test is not None
    ours, theirs = len(data.train.labelled), len(data.test.labelled)
    assert ours > 10
    assert ours + theirs == 60
    assert theirs >= 18  # three tenths, as of a table in memory
    assert not labels_of(data.validation, table, data)
    learnt = {float(x) for block in range(len(data.stream.blocks)) for x in data.stream.load(block)[:, 0]}
    assert not learnt & set(labelled(data.test))
    assert learnt >= set(labelled(data.train))
    assert "few rows have a label, so the files were searched for more than these: " in data.description
    # scales are of the random rows alone
    assert data.sample is not None
    assert data.train.x[: data.sample, 0].mean() == pytest.approx(0, abs=1e-4)
    assert data.sample < len(data.train)


def labels_of(x: npt.NDArray[np.float32], table: pd.DataFrame, data: TableData) -> set[float]:
    """What rows with a label are among these."""
    return set(numbers(x, data.preprocessor)) & set(table["number"][table["label"].notna()])


@pytest.mark.usefixtures("small_samples")
@pytest.mark.parametrize("seed", range(4))
def test_labels_in_two_blocks_are_on_both_sides(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "HELD_OUT", 0.9)  # both are drawn to be held out, mostly
    path = write(few_labels(frame(3000), np.array([*range(0, 100, 9), *range(2900, 3000, 9)])), tmp_path / "t.parquet")
    data = load_data(DataConfig(path=path, label="label", in_memory=False), seed=seed)
    assert data.test is not None
    assert len(data.train.labelled) >= 5
    assert len(data.test.labelled) >= 5


@pytest.mark.usefixtures("small_samples")
def test_more_labels_than_are_wanted_are_drawn_from(tmp_path: Path) -> None:
    data = load(write(few_labels(frame(3000), np.arange(0, 3000, 4)), tmp_path / "t.parquet"))
    assert len(data.train.labelled) == 90
    assert len(data.train) < 400


@pytest.mark.usefixtures("small_samples")
def test_labels_that_are_enough_are_not_searched_for(tmp_path: Path) -> None:
    path = write(few_labels(frame(3000), np.arange(1000, 3000)), tmp_path / "t.parquet")
    data = load(path)
    assert "searched" not in data.description
    assert data.sample == len(data.train)


@pytest.mark.usefixtures("small_samples")
def test_a_test_file_with_few_labels_is_searched_as_well(tmp_path: Path) -> None:
    path = write(frame(3000), tmp_path / "t.parquet")
    other = write(few_labels(frame(3000), np.arange(1, 3000, 60)), tmp_path / "o.csv")
    data = load(path, test_path=other)
    assert data.test is not None
    assert len(data.test.labelled) == 50
    assert data.split == "test-path"


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("name", FORMATS)
def test_numbers_to_predict_may_be_rare(
    name: str, in_memory: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "SAMPLE_ROWS", 50)  # the first rows, and none of them has a label
    table = frame(3000)
    numbers = pd.Series(np.random.default_rng(1).normal(size=3000))
    table["label"] = numbers.where(np.arange(3000) % 50 == 49).where(np.arange(3000) > 100)
    data = load(write(table, tmp_path / name), in_memory=in_memory)
    assert data.classes is None
    assert len(data.train.labelled) > 20


def test_a_table_is_streamed_when_its_cells_exceed_the_memory(tmp_path: Path) -> None:
    path = write(frame(), tmp_path / "t.csv")
    assert load(path, in_memory=None, memory="20KB").stream is None
    assert load(path, in_memory=None, memory="8 KiB").stream is not None
    assert load(path, in_memory=True, memory="1KB").stream is None
    with pytest.raises(ValueError, match=r"data\.memory must be a size such as 1GiB or 500MB, got 'much'"):
        load(path, in_memory=None, memory="much")


def test_compressed_text_is_read_as_a_whole_unless_streaming_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(frame().to_csv(index=False).encode()))
    assert load(str(path), in_memory=None, memory="1KB").stream is None


def test_test_rows_of_their_own_and_no_labels_work_too(tmp_path: Path) -> None:
    path, other = write(frame(), tmp_path / "t.csv"), write(frame(200), tmp_path / "o.parquet")
    data = load(path, test_path=other)
    assert data.test is not None
    assert (len(data.test), data.split) == (200, "test-path")
    unlabelled = load_data(DataConfig(path=path, in_memory=False))
    assert unlabelled.test is None
    assert unlabelled.validation is not None
    assert len(unlabelled.validation)


def test_columns_are_judged_by_rows_from_all_over_the_file(tmp_path: Path) -> None:
    table = frame(20_000).assign(late=np.array([None] * 15_000 + ["x", "y"] * 2_500, dtype=object))
    with pytest.raises(ValueError, match="'late' holds numbers, but 'x' in row 15000"):
        read_table(table)  # by its first rows
    data = load(write(table, tmp_path / "t.parquet"))
    assert data.preprocessor.cardinalities[-1] == 2


def read_all(data: TableData) -> None:
    assert data.stream is not None
    for block in range(len(data.stream.blocks)):
        data.stream.load(block)


@pytest.mark.parametrize(
    ("prepare", "changes", "problem"),
    [
        ("line break", {}, r"cells with line breaks, after byte 0: 44 lines hold 43 rows.* Parquet"),
        ("quotation mark", {}, r"has a cell with a line break .* convert it to Parquet"),
        ("blank line", {}, "has blank lines, or .* after byte 0: .* Remove them"),
        ("gz", {}, "is compressed as a whole, .* unpack it"),
        ("one group", {}, r"is a single block of rows, .* smaller row groups"),
        ("", {"group": "town"}, r"not by data\.group or data\.time: give the test rows as data\.test_path"),
        ("late text", {}, r"'number' holds numbers, but '12;5' in line \d+ after byte [\d,]+ of"),
    ],
)
def test_what_cannot_be_streamed_is_refused_with_a_way_out(
    prepare: str, changes: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    table = frame()
    path = tmp_path / "t.csv"
    if prepare == "line break":
        table.loc[3, "town"] = "Ge\nnt"
    if prepare == "quotation mark":
        table["town"] = "Gent"
        table.loc[3, "label"] = "n" + 2000 * "o" + "\n"
    if prepare == "late text":
        table["number"] = table["number"].astype(object)
        table.loc[990, "number"] = "12;5"
    text = table.to_csv(index=False)
    if prepare == "blank line":
        text = text.replace("\n", "\n\n", 2)
    path.write_text(text)
    if prepare == "gz":
        path = tmp_path / "t.csv.gz"
        path.write_bytes(gzip.compress(text.encode()))
    if prepare == "one group":
        path = Path(write(table, tmp_path / "t.parquet", group=10**6))
    with pytest.raises(ValueError, match=problem):
        read_all(load(str(path), **changes))


def test_a_block_of_lines_that_are_longer_than_the_first_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "SAMPLE_ROWS", 20)
    text = frame().to_csv(index=False)
    second = text.index("\n", 1000) + 1
    (tmp_path / "t.csv").write_text(text[:second] + text[second:].replace("\n", ",more\n"))
    with pytest.raises(ValueError, match=r"the line '.*,more' of .* has more cells than the 3 of the first line"):
        read_tables(open_blocks(tmp_path / "t.csv"))


def test_a_row_group_that_does_not_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks_module, "LARGEST", 100)
    path = write(frame(), tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=r"70 rows of 3 columns in one row group, too many .* row_group_size"):
        open_blocks(Path(path))


def test_blocks_say_where_a_row_is(tmp_path: Path) -> None:
    for name, where in (("t.csv", "line 6 after byte 0 of"), ("t.parquet", "row 4 .counted from 0. of")):
        block = open_blocks(Path(write(frame(), tmp_path / name)))[0]
        assert where.replace(".", "") in block.place(4).replace("(", "").replace(")", "")
    second = open_blocks(tmp_path / "t.parquet")[1]
    assert second.place(0).startswith("row 140 ")
    assert replace(second, rows=0).rows == 0


@pytest.mark.parametrize("name", FORMATS)
def test_what_counts_the_rows_is_left_out_of_a_streamed_table_as_well(name: str, tmp_path: Path) -> None:
    counted = frame(3000).assign(row=np.arange(3000) + 17)
    path = write(counted, tmp_path / name)
    for in_memory in (False, True):
        data = load(path, in_memory=in_memory)
        assert [c.name for c in data.preprocessor.columns] == ["number", "town"]
        assert "left out: row (counts the rows)" in data.description
    forced = load(path, numeric=["row"])
    assert [c.name for c in forced.preprocessor.columns] == ["number", "town", "row"]
    assert "row" in [c.name for c in load(write(counted.sample(frac=1.0), tmp_path / name)).preprocessor.columns]
