"""The preview command, and a run on data that is streamed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mmssl
from mmssl.__main__ import main as mmssl_main
from mmssl.recipes import timeseries_simclr
from mmssl.recipes.series_preview import Config, main, shown
from mmssl.recipes.timeseries import AUGMENTATIONS, ViewsConfig, train_config
from mmssl.timeseries.dataset import DataConfig


def plant(path: Path) -> str:
    """Four machines in four files, a row a second, with a site and a hole in one channel."""
    path.mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        frame = pd.DataFrame(
            {"machine": f"m{i}", "site": "ab"[i % 2], "t": np.arange(300), "x": rng.standard_normal(300), "y": 1.0 * i}
        )
        frame.loc[40:50, "x"] = np.nan
        frame.assign(y=frame["y"] + rng.standard_normal(300)).to_parquet(path / f"{i}.parquet", row_group_size=100)
    return str(path)


def settings(path: str, **further: Any) -> DataConfig:
    return DataConfig(path=path, id="machine", time="t", window=20, **further)


def test_every_setting_of_the_views_has_its_augmentation() -> None:
    assert ["pair", *AUGMENTATIONS] == list(vars(ViewsConfig()))
    steps = dict(zip(AUGMENTATIONS, shown(ViewsConfig(time_warp=0.4), channels=3), strict=True))
    assert steps["time_warp"][0] == "views.time_warp=0.4"
    assert steps["magnitude_warp"][0].startswith("views.magnitude_warp is off; drawn as MagnitudeWarp(")
    assert len(shown(ViewsConfig(), channels=4)) == len(AUGMENTATIONS) - 1, "four channels are no triples of axes"


@pytest.mark.parametrize("name", ["a.html", "a.png"])
def test_a_preview_is_written_for_data_of_ones_own(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = settings(plant(tmp_path / "plant"), channels=["x", "y"])
    out = main(Config(data=data, out=str(tmp_path / "pictures" / name)))
    assert out.stat().st_size > 10_000
    assert "TimeWarp        Destroys periodicity" in capsys.readouterr().out


@pytest.mark.parametrize(("change", "problem"), [
    ({"out": "a.pdf"}, r"out=a\.pdf must end in \.html or \.png"),
    ({"windows": 0}, "windows must be at least 1, got 0"),
])  # fmt: skip
def test_what_cannot_be_drawn_is_refused(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        main(replace(Config(), **change))


def test_a_run_on_a_streamed_folder_ends_with_embeddings_and_embeds_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = plant(tmp_path / "plant")
    cfg = timeseries_simclr.Config(
        data=settings(path, channels=["x", "y"], in_memory=False, static=["site"]),
        train=train_config(steps=2, seeds=1, batch_size=8),
        root=str(tmp_path / "runs"),
    )
    run = timeseries_simclr.main(cfg)
    assert "streamed: one piece of at most 1,200 rows" in capsys.readouterr().out
    table = pd.read_parquet(run / "embeddings.parquet")
    assert table["entity"].value_counts().to_dict() == {f"m{i}": 29 for i in range(4)}
    assert dict(zip(table["entity"], table["site"], strict=True)) == {"m0": "a", "m1": "b", "m2": "a", "m3": "b"}
    for name in ("all.parquet", "all.csv", "all.feather"):
        assert mmssl_main(["embed", str(run), path, str(tmp_path / name)]) == 0
    written = pd.read_parquet(tmp_path / "all.parquet")
    features = [name for name in map(str, table) if name.startswith("e0")]
    np.testing.assert_allclose(written[features], table[features], atol=1e-5)
    np.testing.assert_allclose(pd.read_csv(tmp_path / "all.csv")[features], written[features], atol=1e-6)
    pd.testing.assert_frame_equal(pd.read_feather(tmp_path / "all.feather"), written)
    embedder: Any = mmssl.load(run)
    parts = pd.concat(list(embedder.embed_parts(path, memory=1))).reset_index()
    np.testing.assert_allclose(parts[features], written[features], atol=1e-5)
