from __future__ import annotations

import pytest

from mmssl.vision.paths import columns_from_paths


def listed(values: object) -> object:
    return None if values is None else values.tolist()  # type: ignore[attr-defined]


def test_one_level_of_folders_is_the_label_and_folders_around_everything_do_not_count() -> None:
    columns = columns_from_paths(["set/images/cat/1.png", "set/images/cat/2.png", "set/images/dog/1.png"])
    assert listed(columns.labels) == ["cat", "cat", "dog"]
    assert columns.parts is None


def test_a_single_folder_and_no_folder_are_no_labels() -> None:
    assert columns_from_paths(["cat/1.png", "cat/2.png"]).labels is None
    assert columns_from_paths(["1.png", "2.png"]).labels is None


def test_images_beside_the_folders_and_in_one_called_unlabelled_have_no_label() -> None:
    columns = columns_from_paths(["a/1.png", "b/1.png", "1.png", "unlabelled/1.png"])
    assert listed(columns.labels) == ["a", "b", None, None]


def test_nested_folders_are_labels_only_if_asked_for() -> None:
    paths = ["a/x/1.png", "a/y/1.png", "b/x/1.png"]
    undecided = columns_from_paths(paths)
    assert undecided.labels is None
    assert "data.label=folder" in undecided.notes[0]
    assert listed(columns_from_paths(paths, label="folder").labels) == ["a", "a", "b"]
    assert listed(columns_from_paths(paths, label="parent").labels) == ["x", "y", "x"]
    assert listed(columns_from_paths(paths, label="path").labels) == ["a/x", "a/y", "b/x"]
    assert columns_from_paths(["a/1.png", "b/1.png"], label="none").labels is None


@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("Training", "Testing"), ("train", "val")])
def test_train_and_test_folders_are_parts(train: str, test: str) -> None:
    columns = columns_from_paths([f"{train}/a/1.png", f"{train}/b/1.png", f"{test}/a/1.png", f"{test}/b/1.png"])
    assert listed(columns.parts) == ["train", "train", "test", "test"]
    assert listed(columns.labels) == ["a", "b", "a", "b"]


def test_a_validation_folder_beside_a_test_folder_is_left_out_and_that_is_said() -> None:
    columns = columns_from_paths(["train/a/1.png", "val/a/1.png", "test/b/1.png"])
    assert listed(columns.parts) == ["train", "validation", "test"]
    assert columns.notes == ["1 images of the validation folder are left out"]


def test_an_unlabelled_folder_beside_the_parts_is_for_training() -> None:
    columns = columns_from_paths(["train/a/1.png", "test/b/1.png", "unlabeled/1.png", "unlabeled/7/2.png"])
    assert listed(columns.parts) == ["train", "test", "train", "train"]
    assert listed(columns.labels) == ["a", "b", None, None]


def test_classes_that_happen_to_be_called_test_are_no_parts() -> None:
    columns = columns_from_paths(["test/1.png", "exam/1.png"])
    assert columns.parts is None
    assert listed(columns.labels) == ["test", "exam"]


def test_folders_can_be_groups() -> None:
    paths = ["a/p1/1.png", "a/p1/2.png", "b/p2/1.png", "b/3.png", "4.png"]
    assert listed(columns_from_paths(paths, group="parent").groups) == ["p1", "p1", "p2", "b", "4.png"]
    assert listed(columns_from_paths(paths, group="path").groups) == ["a/p1", "a/p1", "b/p2", "b", "4.png"]
    assert listed(columns_from_paths(paths, group="folder").groups) == ["a", "a", "b", "b", "4.png"]


@pytest.mark.parametrize("option", ["label", "group"])
def test_a_column_of_files_is_refused(option: str) -> None:
    with pytest.raises(ValueError, match=rf"data\.{option}=species: files have no columns.*folder.*parent"):
        columns_from_paths(["a/1.png"], **{option: "species"})
