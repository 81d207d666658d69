"""A finished encoder on new tables, written and read again; and what it is held against."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier

import mmssl
from mmssl.__main__ import main as cli
from mmssl.tabular import blocks
from mmssl.tabular import embedder as embedder_module
from mmssl.tabular.controls import boosting, columns
from mmssl.tabular.data import Roles, read_table
from mmssl.tabular.embedder import TableEmbedder
from mmssl.tabular.encode import encode_rows
from mmssl.tabular.encoder import ENCODERS, MLP
from mmssl.tabular.preprocess import TablePreprocessor
from mmssl.train.export import save_embedder


def people(rows: int = 50, *, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "id": [f"p{i}" for i in range(rows)],
            "age": rng.integers(18, 90, rows).astype(float),
            "town": rng.choice(["Gent", "Lier"], rows),
            "born": pd.Timestamp("1980-01-01") + pd.to_timedelta(rng.integers(0, 9000, rows), unit="D"),
        }
    )


def embedder(name: str = "MLP") -> TableEmbedder:
    torch.manual_seed(0)
    preprocessor = TablePreprocessor().fit(read_table(people(), Roles(id="id")))
    return TableEmbedder(ENCODERS[name](preprocessor.cardinalities).eval(), preprocessor, id="id")


@pytest.mark.parametrize("name", list(ENCODERS))
def test_a_written_embedder_gives_the_same_embeddings(name: str, tmp_path: Path) -> None:
    first = embedder(name)
    save_embedder(tmp_path, first)
    again = mmssl.load(tmp_path)
    assert isinstance(again, TableEmbedder)
    assert again.preprocessor == first.preprocessor
    frame = again.embed(people(9, seed=1))
    assert frame.shape == (9, first.dim)
    assert frame.index[3] == "p3"
    np.testing.assert_array_equal(frame, first.embed(people(9, seed=1)))


@pytest.mark.parametrize("file", ["new.csv", "new.parquet"])
def test_files_are_embedded_like_the_frames_they_hold(file: str, tmp_path: Path) -> None:
    frame = people(9, seed=1)
    frame.loc[2, ["age", "town"]] = None
    frame.to_parquet(tmp_path / file) if file.endswith("parquet") else frame.to_csv(tmp_path / file, index=False)
    np.testing.assert_array_equal(embedder().embed(tmp_path / file), embedder().embed(frame))


@pytest.mark.parametrize("named", [True, False])
def test_parts_of_a_file_are_embedded_like_the_whole(
    named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = people(500, seed=1).drop(columns=[] if named else "id")
    frame.to_csv(tmp_path / "new.csv", index=False)
    whole = embedder().embed(tmp_path / "new.csv")
    assert len(list(embedder().embed_parts(tmp_path / "new.csv"))) == 1
    monkeypatch.setattr(embedder_module, "PART", 200 * embedder().dim)
    assert list(map(len, embedder().embed_parts(tmp_path / "new.csv"))) == [200, 200, 100]
    monkeypatch.setattr(embedder_module, "LARGEST", 1000)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 2000)
    parts = list(embedder().embed_parts(tmp_path / "new.csv"))
    assert len(parts) > 3
    for found in (pd.concat(parts), pd.concat(list(embedder().embed_parts(frame)))):
        assert found.index.tolist() == whole.index.tolist()
        np.testing.assert_allclose(found, whole, atol=1e-6)


def test_a_small_file_is_embedded_whatever_its_lines_are(tmp_path: Path) -> None:
    frame = people(9, seed=1)
    text = frame.replace({"town": {"Gent": "Ge\nnt"}}).to_csv(index=False) + "\n\n"
    (tmp_path / "breaks.csv").write_text(text)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/a.csv.gz").write_bytes(gzip.compress(text.encode()))
    for path in (tmp_path / "breaks.csv", tmp_path / "folder"):
        assert [len(part) for part in embedder().embed_parts(path)] == [9]
    frame[:0].to_csv(tmp_path / "none.csv", index=False)
    with pytest.raises(ValueError, match=r"none\.csv has no rows"):
        list(embedder().embed_parts(tmp_path / "none.csv"))


def test_the_command_says_which_columns_have_drifted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    save_embedder(tmp_path / "run", embedder())
    people(500, seed=1).to_csv(tmp_path / "same.csv", index=False)
    people(500, seed=1).assign(town="GENT").to_csv(tmp_path / "new.csv", index=False)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 2000)
    for largest in (embedder_module.LARGEST, 1000):
        monkeypatch.setattr(embedder_module, "LARGEST", largest)
        assert cli(["embed", str(tmp_path / "run"), str(tmp_path / "same.csv"), str(tmp_path / "z.parquet")]) == 0
        assert "drift: none of 5 columns differs from the training rows in these 500" in capsys.readouterr().out
        assert cli(["embed", str(tmp_path / "run"), str(tmp_path / "new.csv"), str(tmp_path / "z.parquet")]) == 0
        out = capsys.readouterr().out
        assert "drift: 1 of 5 columns differ" in out
        assert "town: distribution moved by 100%" in out
        assert "500 embeddings of" in out


def test_rows_without_names_are_counted_and_one_row_is_enough() -> None:
    z = embedder().embed(people(1).drop(columns="id"))
    assert z.index.tolist() == [0]
    assert np.isfinite(z.to_numpy()).all()


def test_a_column_that_is_missing_or_of_another_kind_is_named() -> None:
    with pytest.raises(ValueError, match="lacks 'age'"):
        embedder().embed(people().drop(columns="age"))
    with pytest.raises(ValueError, match="'age' holds numbers, but 'old' in row 0"):
        embedder().embed(people().assign(age="old"))
    with pytest.raises(ValueError, match="'born' holds dates, but 'never' in row 0"):
        embedder().embed(people().assign(born="never"))


def test_drift_is_at_hand_for_new_data() -> None:
    drift = {d.name: d for d in embedder().drift(people(200, seed=2).assign(town="Brugge"))}
    assert drift["town"].notable
    assert drift["town"].outside == 1
    assert not drift["age"].notable


def test_its_state_holds_no_more_than_json() -> None:
    state = json.loads(json.dumps(embedder().state(), allow_nan=False))
    assert state["encoder"]["builder"] == "MLP"
    assert state["id"] == "id"


def test_rows_are_encoded_alike_however_many_at_a_time() -> None:
    encoder = MLP((0, 3), hidden=8, depth=2)
    x = np.array([[0.5, 1], [np.nan, 0], [1.5, np.nan]] * 7, dtype=np.float32)
    whole = encode_rows(encoder.train(), x)
    assert not encoder.training
    np.testing.assert_allclose(encode_rows(encoder, x, rows=4), whole, atol=1e-6)
    assert whole.shape == (21, 8)


# ------------------------------------------------------------------------------------------------ controls


def drawn(n: int, seed: int) -> tuple[Any, Any]:
    """The class is that of a category which stands for no order, or hidden in a product."""
    rng = np.random.default_rng(seed)
    x = np.stack([rng.standard_normal(n), rng.integers(1, 9, n), rng.standard_normal(n)], axis=1).astype(np.float32)
    x[rng.random(n) < 0.1, 0] = np.nan
    return x, np.isin(x[:, 1], [2, 5, 7]).astype(int)


def test_scaled_columns_are_numbers_indicators_and_one_hot_categories() -> None:
    x = np.array([[0.5, 2], [np.nan, np.nan]], dtype=np.float32)
    np.testing.assert_array_equal(columns(x, (0, 2)), [[0.5, 0, 0, 0, 1], [0, 1, 1, 0, 0]])


def test_boosting_is_scikit_learns_with_its_categories() -> None:
    (x, y), (new, _) = drawn(300, 0), drawn(100, 1)
    got = boosting(x, y, new, (0, 8, 0))
    trees = HistGradientBoostingClassifier(categorical_features=[1], random_state=0).fit(x, y)
    np.testing.assert_array_equal(got, trees.predict_proba(new))
    assert got.shape == (100, 2)


def test_boosting_takes_embeddings_beside_the_columns() -> None:
    (x, y), (new, truth) = drawn(300, 0), drawn(100, 1)
    noise = np.random.default_rng(0).permutation(y)
    blind = boosting(x[:, ::2], noise, new[:, ::2], (0, 0)).argmax(axis=1)
    told = boosting(
        x[:, ::2], y, new[:, ::2], (0, 0), train_z=y[:, None].astype(np.float32), test_z=truth[:, None].astype("f4")
    )
    assert (told.argmax(axis=1) == truth).all()
    assert (blind == truth).mean() < 0.8


def test_boosting_predicts_numbers() -> None:
    (x, _), (new, _) = drawn(400, 0), drawn(100, 1)
    estimates = boosting(x, x[:, 2] * 3, new, (0, 8, 0), regression=True)
    assert np.corrcoef(estimates, new[:, 2])[0, 1] > 0.95


def test_columns_with_more_categories_than_trees_take_are_numbers_to_them() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 1000, (500, 1)).astype(np.float32)
    assert boosting(x, (x[:, 0] > 500).astype(int), x, (1000,)).shape == (500, 2)
