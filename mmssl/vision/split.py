"""Train and test parts of labelled images: stratified by label, and never through a group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmssl.vision.images import ImageSet


@dataclass(frozen=True, eq=False)
class Split:
    """Two sets of images, and a sentence that says how they were parted."""

    train: ImageSet
    test: ImageSet
    kind: str
    sentence: str


def split_images(images: ImageSet, *, test_fraction: float = 0.3, seed: int = 0) -> Split:
    """Hold out images of every class, or whole groups.

    Args:
        images: with labels; those without one are for training, unless their group is held out.
        test_fraction: share of the images of each class; approximately with groups, which go where their most frequent
            label is missing most.
        seed: of the choice.

    Raises:
        ValueError: the wanted split is impossible for these images.
    """
    if not 0 < test_fraction < 1:
        raise ValueError(f"data.test_fraction must lie between 0 and 1, got {test_fraction}")
    assert images.labels is not None
    labels = np.array(["" if label is None else repr(label) for label in images.labels])
    known = labels != ""
    if known.sum() < 2:
        raise ValueError(f"{known.sum()} labelled images cannot be split; give data.test_path, or data.label=none")
    rng = np.random.default_rng(seed)
    if images.groups is None:
        held = _by_image(labels, known, test_fraction, rng)
        kind, unit = "image", "images"
    else:
        held = _by_group(images.groups, labels, known, test_fraction, rng)
        kind, unit = "group", f"images of {len(set(images.groups[held])):,} groups"
    sentence = f"at random by {kind}: {(~held).sum():,} images train, {held.sum():,} {unit} test"
    return Split(images.subset(~held), images.subset(held), kind, sentence)


def _by_image(
    labels: npt.NDArray[np.str_], known: npt.NDArray[np.bool_], fraction: float, rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels[known]):
        members = rng.permutation(np.flatnonzero(labels == label))
        held[members[: min(round(fraction * len(members)), len(members) - 1)]] = True  # no class without training
    if not held.any():  # small classes that all round to nothing
        held[rng.choice(np.flatnonzero(known))] = True
    return held


def _by_group(
    groups: npt.NDArray[np.object_],
    labels: npt.NDArray[np.str_],
    known: npt.NDArray[np.bool_],
    fraction: float,
    rng: np.random.Generator,
) -> npt.NDArray[np.bool_]:
    """Groups in random order; one is held out if that brings the classes nearer to their shares."""
    number = {group: i for i, group in enumerate(dict.fromkeys(groups.tolist()))}
    if len(number) < 2:
        raise ValueError(f"all images are of the group {groups[0]!r}: nothing can be held out; leave data.group out")
    of = np.array([number[group] for group in groups])
    classes, codes = np.unique(labels[known], return_inverse=True)
    counts = np.zeros((len(number), len(classes)))
    np.add.at(counts, (of[known], codes), 1)  # images by group and class
    wanted, total = fraction * counts.sum(axis=0), counts.sum(axis=0)
    taken = np.zeros(len(classes))
    chosen = np.zeros(len(number), dtype=bool)
    for g in rng.permutation(len(number)):
        after = taken + counts[g]
        if (
            np.square(after - wanted).sum() < np.square(taken - wanted).sum()
            and (after[counts[g] > 0] < total[counts[g] > 0]).all()
        ):
            chosen[g], taken = True, after
    if not chosen.any():
        labelled = np.flatnonzero(counts.sum(axis=1) > 0)
        chosen[min(labelled, key=lambda g: counts[g].sum())] = True
    if not (counts[~chosen].sum()):
        raise ValueError("every labelled image is of one group: nothing can be held out; leave data.group out")
    return chosen[of]
