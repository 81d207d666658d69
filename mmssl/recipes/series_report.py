"""What every time-series recipe scores and shows: labelled windows, its controls, and a line for a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from lightning_fabric import Fabric
from torch import nn

from mmssl.recipes.results import SHOWN, Embedded
from mmssl.recipes.scores import EncoderScores, EvaluateConfig, Task
from mmssl.timeseries.controls import minirocket, raw, statistics
from mmssl.timeseries.dataset import SeriesData, labelled
from mmssl.timeseries.embedder import SeriesEmbedder
from mmssl.timeseries.encode import encode_windows
from mmssl.timeseries.pictures import sparkline
from mmssl.timeseries.series import WindowSet
from mmssl.timeseries.streamed import StreamedWindows

if TYPE_CHECKING:
    import pandas as pd

CONTROLS = {"statistics": "channel statistics", "raw": "raw windows", "minirocket": "MiniRocket"}


@dataclass
class SeriesEvaluateConfig(EvaluateConfig):
    """How features of windows are scored; only where there are labels."""

    controls: list[str] = field(default_factory=lambda: ["statistics", "minirocket"])  # or raw
    max_windows: int = 20_000  # labelled windows of each part that are scored; more are drawn from at random


class SeriesScores(EncoderScores):
    """Scores on labelled windows.

    Args:
        data: its labelled windows are scored; without a test part nothing is.
        cfg: protocols, draws and controls.
        method: subject id of the pretrained encoder.
        title: its readable name.
    """

    def __init__(self, data: SeriesData, cfg: SeriesEvaluateConfig, *, method: str, title: str) -> None:
        task = None
        if data.test is not None:
            self.train, train_y = labelled(data.train, limit=cfg.max_windows, seed=0)
            self.test, test_y = labelled(data.test, limit=cfg.max_windows, seed=0)
            if len(self.test) > 0:
                entity = self.test.entity
                groups = entity if len(np.unique(entity)) < len(entity) else None
                task = Task(data.name, data.split, train_y, test_y, groups, examples="windows", entities="entities")
        super().__init__(task, cfg, method=method, title=title, controls=CONTROLS)

    def encoder(self, encoder: nn.Module, *, subject: str, seed: int, fabric: Fabric) -> None:
        """Score an encoder."""
        if self.labelled and fabric.global_rank == 0:
            self.add(subject, seed, encode_windows(encoder, self.train), encode_windows(encoder, self.test))

    def controls(self) -> None:
        """Score what has nothing to do with the encoder."""
        if not self.labelled:
            return
        for name in self.cfg.controls:
            if name == "minirocket":
                self.add(name, 0, *minirocket(self.train, self.test))
            else:
                features = {"statistics": statistics, "raw": raw}[name]
                self.add(name, 0, features(self.train), features(self.test))


def embedded_windows(data: SeriesData, embedder: SeriesEmbedder) -> Embedded:
    """All windows, train first; of those that are streamed as many as the report shows, the rest goes to the file."""
    every = list(_parts(data))
    streamed = [windows for _, windows in every if isinstance(windows, StreamedWindows)]
    parts = [(part, _some(windows)) for part, windows in every] if streamed else every
    sizes = [len(windows) for _, windows in parts]
    owner = np.repeat(np.arange(len(parts)), sizes)
    within = np.concatenate([np.arange(size) for size in sizes])
    ids, starts = (np.concatenate(column) for column in zip(*(windows.names() for _, windows in parts), strict=True))
    whole = data.train.length == data.train.series.lengths.max()

    static = [name for name in data.train.series.static if all(name in w.series.static for _, w in parts)]

    def name(i: int) -> str:
        return str(ids[i]) if whole else f"{ids[i]} at {when(starts[i])}"

    def picture(i: int) -> str:
        return sparkline(parts[owner[i]][1].fetch(within[i : i + 1])[0])

    return Embedded(
        features=np.concatenate([embedder.features(windows) for _, windows in parts]),
        columns={
            "entity": ids,
            "window": starts,
            "split": np.concatenate([np.full(size, part) for size, (part, _) in zip(sizes, parts, strict=True)]),
            "label": np.concatenate([windows.labels() for _, windows in parts]),
            **{name: np.concatenate([w.series.static[name][w.entity] for _, w in parts]) for name in static},
        },
        name=name,
        picture=picture,
        groups=np.concatenate([windows.entity * len(parts) + i for i, (_, windows) in enumerate(parts)]),
        entities="entities",
        parts=partial(_tables, every, embedder) if streamed else None,
    )


def _some(windows: WindowSet) -> WindowSet:
    """As many as the report shows."""
    return windows.subset(np.sort(np.random.default_rng(0).permutation(len(windows))[:SHOWN]))


def _tables(parts: Sequence[tuple[str, WindowSet]], embedder: SeriesEmbedder) -> Iterator[pd.DataFrame]:
    """The embeddings of all windows, piece by piece."""
    for part, windows in parts:
        assert isinstance(windows, StreamedWindows)
        for piece in windows.by_piece():
            label = [None if name is None else str(name) for name in piece.labels()]  # of one type in all pieces
            yield embedder.frame(piece, split=part, label=label)


def _parts(data: SeriesData) -> Iterator[tuple[str, WindowSet]]:
    yield "train", data.train
    if data.test is not None:
        yield "test", data.test


def when(start: Any) -> str:
    """A time to the second, or a row number."""
    if isinstance(start, np.datetime64):
        return str(start.astype("datetime64[s]")).replace("T", " ")
    return f"{start:g}"
