"""Data sets by name: those of the archive, and long recordings whose labels change along them."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from mmssl.timeseries.archive import load_archive
from mmssl.timeseries.series import SeriesSet
from mmssl.timeseries.simulated import simulate
from mmssl.timeseries.watch import load_watch


class Named(NamedTuple):
    """A data set with its own test part, and a sentence that says how they were parted."""

    train: SeriesSet
    test: SeriesSet
    sentence: str


RECORDINGS: dict[str, tuple[Callable[[], tuple[SeriesSet, SeriesSet]], str]] = {
    "watch": (load_watch, "by person: six train, four others test"),
    "tnc-simulated": (simulate, "four fifths of the recordings train, the others test"),
    "tnc-simulated-repeated": (
        partial(simulate, repeat_inputs=True),
        "four fifths of the recordings train, the others test",
    ),
}


def load_named(name: str, *, root: str | os.PathLike[str] | None = None) -> Named:
    """The train and the test part of a data set.

    Args:
        name: one of `RECORDINGS`, or a set of the archive, see `load_archive`.
        root: folder of the archive; None for what comes with a package.

    Raises:
        FileNotFoundError: there is no such set; the message lists what is.
        ModuleNotFoundError: the package that carries it is not installed.
    """
    if root is None and name in RECORDINGS:
        load, sentence = RECORDINGS[name]
        return Named(*load(), sentence)
    try:
        return Named(*load_archive(name, root=root), "as published")
    except FileNotFoundError as error:
        if root is not None:
            raise
        raise FileNotFoundError(f"{error}. Long recordings by name: {', '.join(RECORDINGS)}") from None
