"""Train and test parts of labelled clips: as given, by speaker, or at random."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmssl.audio.clips import ClipSet, Objects

SPLITS = ("auto", "given", "speaker", "random")


@dataclass(frozen=True, eq=False)
class Split:
    """Two sets of clips, and a sentence that says how they were parted."""

    train: ClipSet
    test: ClipSet
    kind: str
    sentence: str


def split_clips(clips: ClipSet, *, by: str = "auto", test_fraction: float = 0.3, seed: int = 0) -> Split:
    """Hold out clips.

    Args:
        clips: with labels.
        by: ``"given"`` takes the parts that the data has; ``"speaker"`` holds out whole groups, be they speakers,
            machines or recordings; ``"random"`` holds out clips of every class; ``"auto"`` takes the first of these
            that the data allows.
        test_fraction: share of the groups, or of the clips of each class.
        seed: of the choice.

    Raises:
        ValueError: the wanted split is impossible for these clips.
    """
    if by not in SPLITS:
        raise ValueError(f"data.split must be one of {', '.join(SPLITS)}, got {by!r}")
    if not 0 < test_fraction < 1:
        raise ValueError(f"data.test_fraction must lie between 0 and 1, got {test_fraction}")
    if by == "given" and clips.parts is None:
        raise ValueError("data.split=given needs folders train and test, or a column split with these words")
    if by == "speaker" and clips.groups is None:
        raise ValueError("data.split=speaker needs to know who speaks: set data.group")
    if by == "auto":
        by = "given" if clips.parts is not None else "speaker" if clips.groups is not None else "random"
    rng = np.random.default_rng(seed)
    if by == "given":
        assert clips.parts is not None
        held = clips.parts == "test"
        sentence = "as the data comes"
    elif by == "speaker":
        assert clips.groups is not None
        held, names = _groups(clips.groups, test_fraction, rng)
        sentence = f"by speaker or other group: {', '.join(names[:8])}{' and more' if len(names) > 8 else ''} held out"
    else:
        held = _stratified(clips.labels, test_fraction, rng)
        sentence = f"at random, {test_fraction:.0%} of every class held out"
    if held.all() or not held.any():
        raise ValueError(f"the {'training' if held.all() else 'test'} part is empty: choose another data.split")
    return Split(clips.subset(~held), clips.subset(held), by if by == "given" else f"{by}/{test_fraction:g}", sentence)


def _groups(groups: Objects, fraction: float, rng: np.random.Generator) -> tuple[npt.NDArray[np.bool_], list[str]]:
    names = sorted({str(group) for group in groups})
    if len(names) < 2:
        raise ValueError(f"all clips are of the group {names[0]!r}: nothing can be held out; set data.split=random")
    count = min(max(1, round(fraction * len(names))), len(names) - 1)
    held = sorted(names[i] for i in rng.permutation(len(names))[:count])
    return np.array([str(group) in held for group in groups]), held


def _stratified(labels: Objects | None, fraction: float, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """No class without training; clips without a label train."""
    assert labels is not None
    held = np.zeros(len(labels), dtype=bool)
    for label in {label: None for label in labels if label is not None}:
        members = rng.permutation(np.flatnonzero(labels == label))
        held[members[: min(max(1, round(fraction * len(members))), len(members) - 1)]] = True
    return held
