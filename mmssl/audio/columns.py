"""What the paths of audio files say: labels, groups, and a split into train and test."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from mmssl.audio.clips import Objects, as_objects

PARTS = {"train": "train", "training": "train", "test": "test", "testing": "test"}  # folders
FROM_FOLDERS = ("folder", "parent", "none")


@dataclass(frozen=True, eq=False)
class Columns:
    """One entry a clip; None where the data does not say.

    Args:
        labels, groups, parts: see `ClipSet`.
        notes: what was decided.
    """

    labels: Objects | None = None
    groups: Objects | None = None
    parts: Objects | None = None
    notes: list[str] = field(default_factory=list)


def columns_from_paths(
    paths: Sequence[str], *, label: str | None = None, group: str | None = None, pattern: str | None = None
) -> Columns:
    """Labels, groups and parts.

    Folders around everything are passed over, and ``train`` and ``test`` at the top are parts. Below them, one level of
    folders with at least two names is taken for the labels.

    Args:
        paths: of the clips below a root, with slashes.
        label: ``"folder"`` takes the first folder, ``"parent"`` the last, ``"none"`` none; None decides as above. With
            a pattern, one of its groups; None takes the one called ``label``.
        group: likewise; None takes no folder, or the pattern's group called ``group``.
        pattern: a regular expression with named groups, searched for in the path without its suffix, such as
            ``(?P<label>\\d)_(?P<speaker>[a-z]+)_``.

    Raises:
        ValueError: an option does not fit these paths.
    """
    if pattern is not None:
        return _from_pattern(paths, pattern, label=label, group=group)
    for option, value in (("data.label", label), ("data.group", group)):
        if value not in (None, *FROM_FOLDERS):
            raise ValueError(
                f"{option}={value}: files have no columns; it can be folder (the first below data.path), parent (the "
                "last) or none, or a named group of data.pattern"
            )
    folders = [path.split("/")[:-1] for path in paths]
    while all(folders) and len({names[0] for names in folders}) == 1:
        folders = [names[1:] for names in folders]
    parts = None
    tops = {names[0].lower() if names else "" for names in folders}
    if {PARTS.get(top) for top in tops} == {"train", "test"}:
        parts = as_objects([PARTS[names[0].lower()] for names in folders])
        folders = [names[1:] for names in folders]
    notes: list[str] = []
    groups = None
    if group not in (None, "none"):
        groups = as_objects([_folder(names, group) or path for names, path in zip(folders, paths, strict=True)])
    return Columns(_labels(folders, label, notes), groups, parts, notes)


def _labels(folders: list[list[str]], label: str | None, notes: list[str]) -> Objects | None:
    if label == "none":
        return None
    if label is None:
        if len({names[0] for names in folders if names}) < 2:
            return None
        if any(len(names) > 1 for names in folders):
            notes.append(
                "folders are nested, so none is taken for a label: data.label=folder takes the first one of each clip, "
                "data.label=parent the last"
            )
            return None
    return as_objects([_folder(names, label or "folder") or None for names in folders])


def _folder(folders: list[str], which: str | None) -> str:
    """Nothing for a clip outside all folders."""
    return "/".join(folders[:1] if which == "folder" else folders[-1:])


def _from_pattern(paths: Sequence[str], pattern: str, *, label: str | None, group: str | None) -> Columns:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"data.pattern={pattern} is no regular expression: {error}") from error
    named = list(expression.groupindex)
    label = label or ("label" if "label" in named else None)
    group = group or ("group" if "group" in named else None)
    for option, value in (("data.label", label), ("data.group", group)):
        if value not in (None, "none", *named):
            raise ValueError(f"{option}={value} is no named group of data.pattern={pattern}; it has {named or 'none'}")
    matches = [expression.search(str(PurePosixPath(path).with_suffix(""))) for path in paths]
    missed = [path for path, match in zip(paths, matches, strict=True) if match is None]
    if len(missed) == len(paths):
        raise ValueError(f"data.pattern={pattern} is found in none of {len(paths):,} paths, such as {paths[0]}")
    notes = []
    if missed:
        notes.append(
            f"data.pattern is not found in {len(missed):,} of {len(paths):,} paths ({', '.join(missed[:3])}): these "
            "clips have no label, and each is a group of its own"
        )

    def column(name: str) -> list[str | None]:
        return [None if match is None else match[name] for match in matches]

    labels = None if label in (None, "none") else as_objects(column(str(label)))
    groups = None
    if group not in (None, "none"):
        groups = as_objects([name or path for name, path in zip(column(str(group)), paths, strict=True)])
    return Columns(labels, groups, notes=notes)
