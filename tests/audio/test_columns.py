from __future__ import annotations

import pytest

from mmssl.audio.columns import columns_from_paths


def plain(column: object) -> list[object] | None:
    return None if column is None else list(column)  # type: ignore[call-overload]


def test_one_level_of_folders_is_the_label() -> None:
    columns = columns_from_paths(["cat/1.wav", "dog/1.wav", "3.wav"])
    assert plain(columns.labels) == ["cat", "dog", None]


def test_nested_folders_are_no_label_until_one_is_named() -> None:
    paths = ["cat/anna/1.wav", "dog/ben/1.wav"]
    columns = columns_from_paths(paths)
    assert columns.labels is None
    assert "data.label=folder" in columns.notes[0]
    chosen = columns_from_paths(paths, label="folder", group="parent")
    assert plain(chosen.labels) == ["cat", "dog"]
    assert plain(chosen.groups) == ["anna", "ben"]


def test_train_and_test_folders_are_parts_below_folders_around_everything() -> None:
    columns = columns_from_paths(["set/train/a/1.wav", "set/test/b/1.wav"])
    assert plain(columns.parts) == ["train", "test"]
    assert plain(columns.labels) == ["a", "b"]


def test_a_pattern_names_label_and_group() -> None:
    paths = ["0_anna_1.wav", "x/7_ben_2.wav", "readme.wav"]
    columns = columns_from_paths(paths, pattern=r"(?P<label>\d)_(?P<speaker>[a-z]+)_", group="speaker")
    assert plain(columns.labels) == ["0", "7", None]
    assert plain(columns.groups) == ["anna", "ben", "readme.wav"]
    assert "not found in 1 of 3 paths (readme.wav)" in columns.notes[0]


def test_labels_can_be_left_alone() -> None:
    assert columns_from_paths(["a/1.wav", "b/1.wav"], label="none").labels is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "word"}, r"data.label=word: files have no columns; it can be folder"),
        ({"pattern": "("}, r"data.pattern=\( is no regular expression"),
        ({"pattern": r"(?P<label>\d{9})"}, r"is found in none of 2 paths, such as a/1.wav"),
        ({"pattern": r"(?P<take>\d)", "label": "word"}, r"data.label=word is no named group .* it has \['take'\]"),
    ],
)
def test_what_does_not_fit_the_paths_is_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        columns_from_paths(["a/1.wav", "b/1.wav"], **options)
