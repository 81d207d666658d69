from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmssl.vision.images import ImageSet
from mmssl.vision.split import split_images


def images(labels: list, groups: list | None = None) -> ImageSet:
    values = np.zeros((len(labels), 1, 1, 1), np.uint8)
    columns = {} if groups is None else {"groups": np.array(groups, dtype=object)}
    return ImageSet.from_array(values, labels=labels, **columns)


def test_every_class_gives_its_share() -> None:
    split = split_images(images(["a"] * 100 + ["b"] * 10), test_fraction=0.3)
    assert split.test.labels is not None
    assert Counter(split.test.labels) == {"a": 30, "b": 3}
    assert split.sentence == "at random by image: 77 images train, 33 images test"
    assert not set(split.train.names) & set(split.test.names)
    assert len(split.train) + len(split.test) == 110


def test_the_seed_chooses() -> None:
    data = images(["a", "b"] * 50)
    one, again, other = (split_images(data, seed=seed).test.names.tolist() for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_unlabelled_images_train() -> None:
    split = split_images(images(["a", None, "b", None] * 10))
    assert split.test.labels is not None
    assert None not in split.test.labels
    assert sum(label is None for label in split.train.labels) == 20  # type: ignore[union-attr]


def test_classes_of_one_stay_in_the_training_and_something_is_always_held_out() -> None:
    split = split_images(images(["a", "b", "c"]))
    assert (len(split.train), len(split.test)) == (2, 1)


def test_the_labels_1_and_one_in_words_are_two_classes() -> None:
    split = split_images(images([1] * 10 + ["1"] * 10))
    assert Counter(map(repr, split.test.labels)) == {"1": 3, "'1'": 3}  # type: ignore[arg-type]


@settings(max_examples=50, deadline=None)
@given(
    members=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), min_size=12, max_size=80),
    seed=st.integers(0, 5),
)
def test_no_group_is_on_both_sides(members: list[tuple[str, int]], seed: int) -> None:
    labels, groups = map(list, zip(*[*members, ("a", 10), ("b", 11)], strict=True))
    split = split_images(images(labels, groups), seed=seed)
    assert split.train.groups is not None
    assert split.test.groups is not None
    assert len(split.train)
    assert len(split.test)
    assert not set(split.train.groups) & set(split.test.groups)


def test_groups_are_held_out_in_about_the_shares_of_the_classes() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 60, 600)
    labels = [("a", "b")[g % 2] for g in groups]
    split = split_images(images(labels, groups.tolist()), test_fraction=0.3)
    shares = [Counter(split.test.labels)[c] / Counter(labels)[c] for c in "ab"]
    assert shares == pytest.approx([0.3, 0.3], abs=0.05)


@pytest.mark.parametrize(
    ("labels", "groups", "fraction", "message"),
    [
        (["a", "b"], None, 1.5, "data.test_fraction must lie between 0 and 1, got 1.5"),
        (["a", None], None, 0.3, "1 labelled images cannot be split"),
        (["a", "b"], ["x", "x"], 0.3, "all images are of the group 'x'"),
        (["a", "b", None], ["x", "x", "y"], 0.3, "every labelled image is of one group"),
    ],
)
def test_an_impossible_split_is_refused(labels: list, groups: list | None, fraction: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_images(images(labels, groups), test_fraction=fraction)
