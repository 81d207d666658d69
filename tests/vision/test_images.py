from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mmssl.vision.data import read_images
from mmssl.vision.images import ImageSet
from tests.vision.samples import encoded, smooth, write, write_folder


def spoilt_later(root: Path, n: int = 6, spoilt: tuple[int, ...] = (1, 2)) -> ImageSet:
    """A set that is decoded on demand, of which some files are damaged once it has been read."""
    images = read_images(write_folder(root, [f"{i}.png" for i in range(n)]), cache=0, max_bad=0.5)
    for i in spoilt:
        write(root / f"{i}.png", b"no longer an image")
    return images


def test_a_subset_keeps_every_column_in_step() -> None:
    values = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1)
    images = ImageSet.from_array(values, names="abcde", labels=[0, 1, None, 1, 0])
    images = replace(images, groups=images.names, parts=images.names)
    few = images.subset(np.array([4, 2, 0])).subset(np.array([False, True, True]))
    assert few.names.tolist() == ["c", "a"]
    assert few.labels is not None
    assert few.labels.tolist() == [None, 0]
    assert few.groups is not None
    assert few.groups.tolist() == ["c", "a"]
    assert few.fetch(np.arange(2)).flatten().tolist() == [2, 0]


def test_a_subset_shares_its_pixels() -> None:
    values = np.zeros((4, 1, 2, 2), np.uint8)
    few = ImageSet.from_array(values).subset(np.array([3, 1]))
    values[1] = 9
    assert few.fetch(np.array([1])).unique().tolist() == [9]


def test_bytes_stay_bytes_and_anything_else_becomes_floats_between_0_and_1() -> None:
    shape = (1, 1, 2, 2)
    bytes_ = ImageSet.from_array(np.array([0, 51, 255, 1], np.uint8).reshape(shape))
    words = ImageSet.from_array(np.array([0, 13107, 65535, 1], np.uint16).reshape(shape))
    floats = ImageSet.from_array(np.array([-2, 0, 2, 1], np.float32).reshape(shape), span=(-2.0, 2.0))
    assert bytes_.fetch(np.array([0])).dtype == torch.uint8
    assert words.fetch(np.array([0])).flatten().tolist() == pytest.approx([0, 0.2, 1, 1 / 65535])
    assert floats.fetch(np.array([0])).flatten().tolist() == [0, 0.5, 1, 0.75]


def test_images_that_are_not_square_or_of_another_type_are_refused() -> None:
    with pytest.raises(ValueError, match=r"square.*got uint8 of shape \(2, 1, 3, 4\)"):
        ImageSet.from_array(np.zeros((2, 1, 3, 4), np.uint8))
    with pytest.raises(ValueError, match="float64"):
        ImageSet.from_array(np.zeros((2, 1, 3, 3)))
    with pytest.raises(ValueError, match="1 labels for 2 images"):
        ImageSet.from_array(np.zeros((2, 1, 3, 3), np.uint8), labels=[1])


def test_an_image_that_breaks_later_is_replaced_by_the_next_of_the_batch_and_named(tmp_path: Path) -> None:
    images = spoilt_later(tmp_path)
    with pytest.warns(UserWarning, match=r"could not be decoded: 1\.png .*2\.png"):
        batch = images.fetch(np.array([0, 1, 4, 2]))
    good = images.fetch(np.array([0, 4]))
    assert torch.equal(batch, good[[0, 1, 1, 0]])  # the last one has no next: the first takes its place
    images.fetch(np.array([1, 4]))  # named once


def test_reading_leaves_a_broken_image_black_and_says_which(tmp_path: Path) -> None:
    images = spoilt_later(tmp_path, spoilt=(1,))
    with pytest.warns(UserWarning, match=r"1\.png"):
        values, readable = images.read(np.array([0, 1]))
    assert readable.tolist() == [True, False]
    assert not values[1].any()
    assert values[0].any()


def test_too_many_images_that_break_later_end_the_training(tmp_path: Path) -> None:
    images = replace(spoilt_later(tmp_path), max_bad=0.2)
    with pytest.warns(UserWarning, match=r"1\.png"):
        images.fetch(np.array([0, 1]))
    with pytest.raises(ValueError, match=r"2 of 6 images could not be decoded, more than data\.max_bad=0\.2"):
        images.fetch(np.array([0, 2]))


def test_a_batch_without_any_image_that_decodes_is_an_error(tmp_path: Path) -> None:
    images = spoilt_later(tmp_path)
    with pytest.warns(UserWarning, match="decoded"), pytest.raises(ValueError, match=r"none of '1\.png', '2\.png'"):
        images.fetch(np.array([1, 2]))


@pytest.mark.parametrize("source", ["folder", "archive"])
def test_a_set_that_is_decoded_on_demand_goes_to_another_process(tmp_path: Path, source: str) -> None:
    path = write_folder(tmp_path / "folder", ["a.png", "b.png"])
    if source == "archive":
        import tarfile

        with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
            archive.add(path, "folder")
        path = tmp_path / "a.tar.gz"
    images = read_images(path, cache=0)
    expected = images.fetch(np.arange(2))
    copy = pickle.loads(pickle.dumps(images))
    assert torch.equal(copy.fetch(np.arange(2)), expected)
    assert len(pickle.dumps(images)) < 20_000


def test_in_memory_and_on_demand_give_the_same_values(tmp_path: Path) -> None:
    for i in range(3):
        write(tmp_path / f"{i}.jpg", encoded(smooth(i, height=40 + i, width=50), "JPEG"))
    now, later = read_images(tmp_path, size=8), read_images(tmp_path, size=8, cache=0)
    assert now.in_memory
    assert not later.in_memory
    assert torch.equal(now.fetch(np.arange(3)), later.fetch(np.arange(3)))
    assert any("data.cache=0" in note for note in later.notes)
