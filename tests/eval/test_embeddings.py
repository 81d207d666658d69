"""Files of embeddings: what is written is what is read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mmssl.eval.embeddings import write_embeddings, write_frame, write_parts

FEATURES = np.arange(6, dtype=np.float32).reshape(3, 2)


def test_columns_come_before_the_features_and_keep_their_types(tmp_path: Path) -> None:
    columns = {
        "path": np.array(["a.png", "b.png", "c.png"], dtype=object),
        "time": np.array(["2026-01-01", "2026-01-02", "2026-01-03"], dtype="datetime64[ns]"),
        "split": np.array(["train", "train", "test"]),
        "label": np.array([3, None, 4], dtype=object),
    }
    write_embeddings(tmp_path / "new" / "e.parquet", FEATURES, columns)
    frame = pd.read_parquet(tmp_path / "new" / "e.parquet")
    assert list(frame) == ["path", "time", "split", "label", "e000", "e001"]
    np.testing.assert_array_equal(frame[["e000", "e001"]].to_numpy(), FEATURES)
    assert frame["e000"].dtype == np.float32
    assert frame["time"].dtype == "datetime64[ns]"
    assert frame["label"].tolist()[::2] == [3, 4]
    assert pd.isna(frame["label"][1])
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["e.parquet"]


def test_names_of_several_types_become_text(tmp_path: Path) -> None:
    write_embeddings(tmp_path / "e.parquet", FEATURES, {"entity": np.array([1, "b", None], dtype=object)})
    assert pd.read_parquet(tmp_path / "e.parquet")["entity"].tolist()[:2] == ["1", "b"]


def test_a_column_of_another_length_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"column 'label' has shape \(2,\) for 3 rows"):
        write_embeddings(tmp_path / "e.parquet", FEATURES, {"label": np.zeros(2)})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["e.parquet", "e.feather", "e.csv"])
def test_a_frame_is_written_with_its_index_and_read_back(tmp_path: Path, name: str) -> None:
    index = pd.MultiIndex.from_arrays([["a", 7], pd.to_datetime(["2024-03-01", "2024-03-02"])], names=["entity", "at"])
    frame = pd.DataFrame(np.ones((2, 2), np.float32), index=index, columns=["e000", "e001"])
    path = tmp_path / "new" / name
    write_frame(frame, path)
    read: Any = {".parquet": pd.read_parquet, ".feather": pd.read_feather, ".csv": pd.read_csv}[path.suffix]
    back = read(path)
    assert list(back.columns) == ["entity", "at", "e000", "e001"]
    assert back["entity"].tolist() == ["a", "7"]
    assert back["e001"].tolist() == [1, 1]
    assert [file.name for file in path.parent.iterdir()] == [name]  # nothing unfinished is left behind


def test_a_frame_needs_a_suffix_that_is_known(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must end in \.parquet, \.feather, \.csv"):
        write_frame(pd.DataFrame({"e000": [1.0]}), tmp_path / "e.xlsx")
    assert not list(tmp_path.iterdir())


def parts() -> list[pd.DataFrame]:
    first = pd.DataFrame({"entity": ["a", "b"], "label": [None, None], "e000": [0.5, 1.5]}).set_index("entity")
    second = pd.DataFrame({"entity": ["c"], "label": ["worn"], "e000": [2.5]}).set_index("entity")
    return [first, second]


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.feather"])
def test_tables_that_come_one_by_one_are_written_one_below_the_other(tmp_path: Path, name: str) -> None:
    assert write_parts(iter(parts()), tmp_path / name) == 3
    table = getattr(pd, f"read_{name.split('.')[1]}")(tmp_path / name)
    assert table["entity"].tolist() == ["a", "b", "c"]
    assert table["e000"].tolist() == [0.5, 1.5, 2.5]
    assert table["label"].isna().tolist() == [True, True, False]


def test_nothing_is_left_of_tables_that_end_in_an_error(tmp_path: Path) -> None:
    def broken() -> Iterator[pd.DataFrame]:
        yield parts()[0]
        raise RuntimeError("the disk is gone")

    with pytest.raises(RuntimeError, match="the disk is gone"):
        write_parts(broken(), tmp_path / "a.parquet")
    assert list(tmp_path.iterdir()) == []
