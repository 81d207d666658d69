from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmssl.audio.data import read_clips
from mmssl.audio.files import Options
from mmssl.audio.tables import embedding_frame, read_table
from tests.audio.recordings import write_folder

ROWS = {"path": ["x/1.wav", "2.wav", "3.wav"], "label": ["a", None, "b"], "who": ["anna", "ben", None]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path, ROWS["path"])  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_a_table_names_files_labels_and_groups(folder: Path, suffix: str) -> None:
    table, frame = folder / f"list.{suffix}", pd.DataFrame(ROWS)
    if suffix == "parquet":
        frame.to_parquet(table)
    else:
        frame.to_csv(table, index=False, sep="\t" if suffix == "tsv" else ",")
    clips = read_clips(table, Options(), group="who")
    assert clips.names.tolist() == ROWS["path"]
    assert clips.labels is not None
    assert clips.labels.tolist() == ["a", None, "b"]
    assert clips.groups is not None
    assert clips.groups.tolist() == ["anna", "ben", "3.wav"]
    assert read_clips(table, Options(), label="none").labels is None


def test_a_column_split_parts_the_clips(folder: Path) -> None:
    pd.DataFrame(ROWS | {"split": ["train", "test", "train"]}).to_csv(folder / "list.csv", index=False)
    parts = read_clips(folder / "list.csv", Options()).parts
    assert parts is not None
    assert parts.tolist() == ["train", "test", "train"]


def test_a_split_into_other_parts_is_not_used_and_said(folder: Path) -> None:
    pd.DataFrame(ROWS | {"split": ["train", "test", "val"]}).to_csv(folder / "list.csv", index=False)
    clips = read_clips(folder / "list.csv", Options())
    assert clips.parts is None
    assert any("column split is not used" in note and "test, train, val" in note for note in clips.notes)


def test_whole_numbers_stay_such_beside_rows_without_a_label(folder: Path) -> None:
    pd.DataFrame(ROWS | {"label": [7, None, 8]}).to_csv(folder / "list.csv", index=False)
    labels = read_clips(folder / "list.csv", Options()).labels
    assert labels is not None
    assert [label if label is None else str(label) for label in labels] == ["7", None, "8"]


def test_labels_for_files_that_do_not_exist_are_refused(folder: Path) -> None:
    (folder / "2.wav").unlink()
    pd.DataFrame(ROWS).to_csv(folder / "list.csv", index=False)
    message = r"1 of 3 files that .*list.csv lists do not exist, such as 2.wav: looked for them from .* column 'path'"
    with pytest.raises(FileNotFoundError, match=message):
        read_table(folder / "list.csv")


def test_columns_that_are_missing_are_named(folder: Path) -> None:
    table = folder / "list.csv"
    pd.DataFrame({"recording": ["2.wav"]}).to_csv(table, index=False)
    with pytest.raises(ValueError, match=r"none of the columns path, file.*data.file; there are recording"):
        read_table(table)
    assert read_table(table, file="recording")[1].tolist() == ["2.wav"]
    with pytest.raises(ValueError, match=r"data.label=word: .* has no such column, only recording"):
        read_table(table, file="recording", label="word")
    with pytest.raises(ValueError, match=r"data.pattern=x is for folders"):
        read_clips(table, Options(), pattern="x")
    with pytest.raises(FileNotFoundError, match=r"nowhere.csv does not exist"):
        read_table(folder / "nowhere.csv")


def test_embeddings_are_indexed_by_the_names_of_the_clips() -> None:
    frame = embedding_frame(np.ones((2, 3), dtype=np.float32), ["a.wav", "b.wav"])
    assert list(frame.columns) == ["e000", "e001", "e002"]
    assert frame.index.name == "clip"
    assert list(frame.index) == ["a.wav", "b.wav"]
