"""The second half of every time-series recipe: score the features beside the controls, and write it all down."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mmssl.core.health import Diagnosis
from mmssl.eval.evaluate import Evaluation, evaluate_features
from mmssl.eval.records import Record, Subjects, to_json
from mmssl.eval.report import Embedding, Report, write_report
from mmssl.eval.table import as_text, tables
from mmssl.eval.verdict import Verdict, verdict, without_labels
from mmssl.recipes import session
from mmssl.timeseries.controls import minirocket, statistics
from mmssl.timeseries.data import embedding_frame, write_frame
from mmssl.timeseries.dataset import SeriesData, labelled
from mmssl.timeseries.embedder import SeriesEmbedder
from mmssl.timeseries.encode import encode_windows
from mmssl.timeseries.encoder import DilatedConvEncoder
from mmssl.timeseries.pictures import sparkline
from mmssl.timeseries.series import Windows
from mmssl.train.export import versions
from mmssl.train.run import Run, read_metrics

Floats = npt.NDArray[np.float32]
CONTROLS = {"statistics": "channel statistics", "minirocket": "MiniRocket"}
SHOWN = 5_000  # windows that the report's map and neighbours look at


@dataclass
class EvaluateConfig:
    """How features are scored; only where there are labels."""

    protocols: list[str] = field(default_factory=lambda: ["svm", "knn", "linear"])
    draws: int = 5  # of labelled examples, for each point of the label-budget curve; 0 leaves it out
    controls: list[str] = field(default_factory=lambda: list(CONTROLS))
    max_windows: int = 20_000  # labelled windows of each part that are scored; more are drawn from at random


class Scores:
    """Evaluations of one run as they come in, all on the same labelled windows.

    Args:
        data: its labelled windows are scored; without a test part nothing is.
        cfg: protocols, draws and controls.
        method: subject id of the pretrained encoder.
        title: its readable name.
    """

    def __init__(self, data: SeriesData, cfg: EvaluateConfig, *, method: str, title: str) -> None:
        unknown = [name for name in cfg.controls if name not in CONTROLS]
        if unknown:
            raise ValueError(f"unknown evaluate.controls {unknown}; there are {list(CONTROLS)}")
        self.data = data
        self.cfg = cfg
        self.evaluations: list[Evaluation] = []
        names = CONTROLS | {method: title, "random-encoder": "same encoder, untrained"}
        self.subjects = Subjects(method, "random-encoder", tuple(cfg.controls), names)
        self.labelled = False
        if data.test is not None:
            self.train, self.train_y = labelled(data.train, limit=cfg.max_windows, seed=0)
            self.test, self.test_y = labelled(data.test, limit=cfg.max_windows, seed=0)
            self.labelled = len(self.test) > 0

    def encoder(self, encoder: DilatedConvEncoder, *, subject: str, seed: int) -> None:
        """Score an encoder."""
        if self.labelled:
            self._score(subject, seed, encode_windows(encoder, self.train), encode_windows(encoder, self.test))

    def controls(self) -> None:
        """Score what has nothing to do with the encoder."""
        if not self.labelled:
            return
        for name in self.cfg.controls:
            if name == "statistics":
                self._score(name, 0, statistics(self.train), statistics(self.test))
            else:
                self._score(name, 0, *minirocket(self.train, self.test))

    def records(self) -> list[Record]:
        return [record for evaluation in self.evaluations for record in evaluation.records]

    def _score(self, subject: str, seed: int, train_x: Floats, test_x: Floats) -> None:
        entity = self.test.entity
        self.evaluations.append(
            evaluate_features(
                train_x,
                self.train_y,
                test_x,
                self.test_y,
                dataset=self.data.name,
                subject=subject,
                seed=seed,
                split=self.data.split,
                groups=entity if len(np.unique(entity)) < len(entity) else None,
                protocols=self.cfg.protocols,
                draws=self.cfg.draws,
            )
        )


def write_results(
    run: Run, cfg: Any, scores: Scores, embedder: SeriesEmbedder, diagnoses: Sequence[Diagnosis], *, recipe: str
) -> Verdict:
    """results.json, embeddings.parquet and report.html; prints the same table and verdict that the report shows."""
    data = scores.data
    health = list(dict.fromkeys(finding for diagnosis in diagnoses for finding in diagnosis.findings))
    if scores.labelled:
        answer = verdict(scores.evaluations, scores.subjects, primary=_primary(scores))
    else:
        answer = without_labels(health)
    records = scores.records()
    run.results.write_text(to_json(records))
    features = _write_embeddings(run, data, embedder)
    for table in tables(records, scores.subjects):
        print("\n" + as_text(table))
    print("\n" + "\n".join([answer.headline, *answer.details]))
    if scores.labelled:
        print("\n".join(health))
    report = Report(
        title=f"{scores.subjects.name(scores.subjects.pretrained)} on {data.name}",
        dataset=data.description,
        verdict=answer,
        subjects=scores.subjects,
        records=records,
        curves=read_metrics(run.metrics),
        health=health,
        embedding=_embedding(data, features),
        config_yaml=session.config_yaml(cfg),
        command=session.command(cfg, recipe),
        versions=versions(),
    )
    write_report(run.report, report)
    session.print_paths(run)
    return answer


def _primary(scores: Scores) -> str:
    """The first protocol decides."""
    return next(iter(scores.evaluations[0].hits))


def _parts(data: SeriesData) -> Iterator[tuple[str, Windows]]:
    yield "train", data.train
    if data.test is not None:
        yield "test", data.test


def _write_embeddings(run: Run, data: SeriesData, embedder: SeriesEmbedder) -> Floats:
    """All windows, train first."""
    values = [embedder.features(windows) for _, windows in _parts(data)]
    frames = [
        embedding_frame(z, *windows.names(), split=part, label=windows.labels())
        for z, (part, windows) in zip(values, _parts(data), strict=True)
    ]
    write_frame(frames, run.embeddings)
    return np.concatenate(values)


def _embedding(data: SeriesData, features: Floats) -> Embedding:
    parts = list(_parts(data))
    n = len(features)
    chosen = np.arange(n)
    if n > SHOWN:
        chosen = np.sort(np.random.default_rng(0).choice(n, SHOWN, replace=False))
    owner = np.concatenate([np.full(len(windows), i) for i, (_, windows) in enumerate(parts)])
    within = np.concatenate([np.arange(len(windows)) for _, windows in parts])
    ids, starts = (np.concatenate(column) for column in zip(*(windows.names() for _, windows in parts), strict=True))
    labels = np.concatenate([windows.labels() for _, windows in parts])
    whole = data.train.length == data.train.series.lengths.max()

    def picture(i: int) -> str:
        windows = parts[owner[chosen[i]]][1]
        return sparkline(windows.fetch(within[chosen[i : i + 1]])[0])

    return Embedding(
        values=features[chosen],
        names=[str(ids[i]) if whole else f"{ids[i]} at {_when(starts[i])}" for i in chosen],
        labels=labels[chosen] if any(label is not None for label in labels) else None,
        groups=np.asarray([f"{owner[i]}/{ids[i]}" for i in chosen]),
        picture=picture,
    )


def _when(start: Any) -> str:
    """A time to the second, or a row number."""
    if isinstance(start, np.datetime64):
        return str(start.astype("datetime64[s]")).replace("T", " ")
    return f"{start:g}"
