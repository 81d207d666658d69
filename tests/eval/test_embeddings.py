"""embeddings.parquet: what is written is what is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmssl.eval.embeddings import write_embeddings

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
