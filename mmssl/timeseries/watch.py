"""Shoulder exercises seen by a smartwatch, which seglearn carries (Burns et al., Physiological Measurement 2018).

Ten people did seven exercises with either arm, twenty times each, at 50 Hz (arXiv 1802.01489). The package has each set
of twenty on its own. Here the seven sets of a person's arm follow each other in one recording, in the package's order
and without the rest between them, so that its labels change along it. What is held out is whole people. The package
reads its file itself, by unpickling it.
"""

from __future__ import annotations

import numpy as np

from mmssl.timeseries.series import SeriesSet, as_objects

HELD_OUT = (7, 8, 9, 10)  # people of the test part: eight recordings, of which six could decide


def load_watch() -> tuple[SeriesSet, SeriesSet]:
    """The recordings of people 1 to 6 and of 7 to 10, two each; every row is labelled with its exercise.

    Raises:
        ModuleNotFoundError: seglearn is not installed.
    """
    try:
        from seglearn.datasets import load_watch as load
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'data.name=watch comes with seglearn ({error}): pip install "mmssl[timeseries]"'
        ) from error
    data = load()
    person, side = np.asarray(data["subject"]), np.asarray(data["side"])
    held_out = np.isin(person, HELD_OUT)

    def part(chosen: np.ndarray) -> SeriesSet:
        values, labels, lengths, ids = [], [], [], []
        for who, arm in sorted(set(zip(person[chosen].tolist(), side[chosen].tolist(), strict=True))):
            sets = np.flatnonzero((person == who) & (side == arm))
            values += [np.asarray(data["X"][i], dtype=np.float32) for i in sets]
            labels += [name for i in sets for name in [data["y_labels"][data["y"][i]]] * len(data["X"][i])]
            lengths.append(sum(len(data["X"][i]) for i in sets))
            ids.append(f"person-{who}-{'right' if arm == 1 else 'left'}")
        return SeriesSet(
            values=np.concatenate(values),
            offsets=np.cumsum([0, *lengths]).astype(np.int64),
            ids=as_objects(ids),
            channels=tuple(data["X_labels"]),
            labels=as_objects(labels),
        )

    return part(~held_out), part(held_out)
