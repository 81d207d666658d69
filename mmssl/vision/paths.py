"""What the folders of image files say: labels, groups, and a split into train and test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mmssl.vision.images import Labels, as_objects

TRAIN, TEST, VALIDATION = ("train", "training"), ("test", "testing"), ("val", "valid", "validation")
UNLABELLED = ("unlabelled", "unlabeled")
FROM_FOLDERS = ("folder", "parent", "path", "none")


@dataclass(frozen=True, eq=False)
class Columns:
    """One entry an image; None where the data does not say.

    Args:
        labels, groups: see `ImageSet`.
        parts: ``"train"``, ``"test"`` or, left out by default, ``"validation"``.
        notes: what was decided.
    """

    labels: Labels | None = None
    groups: npt.NDArray[np.object_] | None = None
    parts: npt.NDArray[np.object_] | None = None
    notes: list[str] = field(default_factory=list)


def columns_from_paths(paths: Sequence[str], *, label: str | None = None, group: str | None = None) -> Columns:
    """Labels, groups and parts.

    Folders around everything are passed over. ``train`` and ``test`` (or, without a test, ``val``) at the top are
    parts. Below them, one level of folders with at least two names is taken for the labels; images beside these folders
    and in one called ``unlabelled`` have none.

    Args:
        paths: of the images, with slashes.
        label: ``"folder"`` takes the first folder, ``"parent"`` the last, ``"path"`` all of them, ``"none"`` none; None
            decides as above.
        group: the same: images with one such name must not be parted.

    Raises:
        ValueError: ``label`` or ``group`` is something else.
    """
    for option, value in (("data.label", label), ("data.group", group)):
        if value not in (None, *FROM_FOLDERS):
            raise ValueError(
                f"{option}={value}: files have no columns; it can be folder (the first below data.path), parent (the "
                "last), path (all of them) or none"
            )
    folders = [path.split("/")[:-1] for path in paths]
    while all(folders) and len({names[0] for names in folders}) == 1:
        folders = [names[1:] for names in folders]
    parts, notes = _parts(folders)
    if parts is not None:
        folders = [[] if names[0].lower() in UNLABELLED else names[1:] for names in folders]
    labels = _labels(folders, label, notes)
    groups = None
    if group not in (None, "none"):
        groups = as_objects([_name(names, group) or path for names, path in zip(folders, paths, strict=True)])
    return Columns(labels, groups, parts, notes)


def _parts(folders: list[list[str]]) -> tuple[npt.NDArray[np.object_] | None, list[str]]:
    """An ``unlabelled`` folder beside the parts is for training."""
    tops = {names[0].lower() if names else "" for names in folders}
    if not tops & set(TRAIN) or not tops & {*TEST, *VALIDATION} or tops - {*TRAIN, *TEST, *VALIDATION, *UNLABELLED}:
        return None, []
    meaning = dict.fromkeys(TRAIN, "train") | dict.fromkeys(TEST, "test") | dict.fromkeys(UNLABELLED, "train")
    both = bool(tops & set(TEST)) and bool(tops & set(VALIDATION))
    meaning |= dict.fromkeys(VALIDATION, "validation" if both else "test")
    parts = as_objects([meaning[names[0].lower()] for names in folders])
    notes = []
    if both:
        notes.append(f"{np.count_nonzero(parts == 'validation'):,} images of the validation folder are left out")
    return parts, notes


def _labels(folders: list[list[str]], label: str | None, notes: list[str]) -> Labels | None:
    if label == "none":
        return None
    if label is None:
        names = {names[0] for names in folders if names}
        if len(names) < 2:
            return None
        if any(len(names) > 1 for names in folders):
            notes.append(
                "folders are nested, so none is taken for a label: data.label=folder takes the first one of each "
                "image, data.label=parent the last, data.label=path all of them"
            )
            return None
    found = [_name(names, label or "folder") for names in folders]
    labels = as_objects([name if name and name.lower() not in UNLABELLED else None for name in found])
    return labels if any(name is not None for name in labels) else None


def _name(folders: list[str], which: str) -> str:
    """Nothing for an image outside all folders."""
    return "/".join({"folder": folders[:1], "parent": folders[-1:], "path": folders}[which])
