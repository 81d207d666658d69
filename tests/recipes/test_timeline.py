"""The early part of time in pieces, and settings that follow from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mmssl.recipes.timeline import Early, head, settle_training, training_pieces
from mmssl.recipes.timeseries_forecast import Config
from mmssl.timeseries.preprocess import SeriesPreprocessor
from mmssl.timeseries.series import SeriesSet, as_objects


def ragged(*lengths: int) -> SeriesSet:
    rows = sum(lengths)
    return SeriesSet(
        np.arange(rows, dtype=np.float32)[:, None],
        np.cumsum([0, *lengths]),
        as_objects([f"e{i}" for i in range(len(lengths))]),
        ("x",),
    )


@pytest.mark.parametrize(
    ("lengths", "pieces"),
    [
        ((8640,), [4320, 4320]),  # ETTh1, as the authors cut it
        ((500,), [250, 250]),  # one piece would have no other to be told apart from
        ((500, 100), [500, 100]),
        ((500, 0), [250, 250]),  # an entity of one row has none in the training part
        ((1,), [1]),
        ((9001, 5999), [3001, 3001, 2999, 5999]),
    ],
)
def test_an_entity_is_cut_into_equal_pieces(lengths: tuple[int, ...], pieces: list[int]) -> None:
    windows = training_pieces(ragged(*lengths), max_length=3000)
    assert windows.lengths.tolist() == pieces
    rows = [row for i in range(len(windows)) for row in windows.fetch(np.array([i]))[0, :, 0].tolist()]
    assert rows == list(range(sum(lengths)))


def test_no_piece_holds_both_sides_of_a_break() -> None:
    windows = training_pieces(replace(ragged(500, 100), breaks=np.array([150, 520])), max_length=150)
    assert windows.starts.tolist() == [0, 150, 325, 500, 520]
    assert windows.lengths.tolist() == [150, 175, 175, 20, 80]
    assert windows.entity.tolist() == [0, 0, 0, 1, 1]


def test_the_head_of_every_entity() -> None:
    early = head(ragged(5, 3), np.array([2, 1]))
    assert early.values[:, 0].tolist() == [0, 1, 5]
    assert early.offsets.tolist() == [0, 2, 3]


def test_what_is_not_set_follows_from_the_data() -> None:
    series = ragged(600, 600)
    cfg = settle_training(Config(), Early(series, SeriesPreprocessor().fit(series), {}))
    assert (cfg.train.steps, cfg.train.seeds) == (200, 1)
    assert (cfg.method.max_length, cfg.model.missing) == (201, "drop")
    holed = SeriesSet(
        np.array([[0, np.nan], [1, 2], [3, 4]], dtype=np.float32), np.array([0, 3]), as_objects(["e"]), ("a", "b")
    )
    cfg = settle_training(Config(), Early(holed, SeriesPreprocessor().fit(holed), {}))
    assert cfg.model.missing == "indicator"
