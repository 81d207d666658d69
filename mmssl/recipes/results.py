"""The end of every recipe: results.json, embeddings.parquet and report.html, and the same in the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mmssl.core.health import Diagnosis
from mmssl.eval.embeddings import write_embeddings, write_parts
from mmssl.eval.features import Features
from mmssl.eval.records import to_json
from mmssl.eval.report import Embedding, Report, Section, write_report
from mmssl.eval.table import as_text, tables
from mmssl.eval.verdict import Verdict, verdict, without_labels
from mmssl.recipes import session
from mmssl.recipes.scores import Scores
from mmssl.train.export import versions
from mmssl.train.run import Run, read_metrics

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 5_000  # samples that the report's map and neighbours look at


@dataclass(frozen=True, eq=False)
class Embedded:
    """All samples of a run as its encoder sees them.

    Args:
        features: ``(n, D)``.
        columns: name to ``(n,)``: what stands before the features in embeddings.parquet, such as the path or the
            entity, the ``split`` and the ``label`` (an object array, None where there is none).
        name: what sample ``i`` is, for the report.
        picture: draws sample ``i`` as inline SVG or an ``<img>`` with the image inside.
        groups: ``(n,)``; neighbours are looked for in other groups. None where samples are independent.
        entities: what a group is, in the plural.
        parts: where ``features`` are of a part of the samples only: makes the tables for embeddings.parquet, piece by
            piece.
    """

    features: Features
    columns: Mapping[str, npt.NDArray[Any]]
    name: Callable[[int], str]
    picture: Callable[[int], str] | None = None
    groups: npt.NDArray[Any] | None = None
    entities: str = "groups"
    parts: Callable[[], Iterator[pd.DataFrame]] | None = None


def write_results(
    run: Run,
    cfg: Any,
    scores: Scores,
    diagnoses: Sequence[Diagnosis],
    embedded: Embedded,
    *,
    recipe: str,
    dataset: str,
    description: str,
    sections: Sequence[Section] = (),
    notes: Sequence[str] = (),
) -> Verdict:
    """Write the results, print the same table and verdict that the report shows.

    Args:
        run: where to.
        cfg: the recipe's configuration, all values worked out.
        scores: complete.
        diagnoses: one a seed.
        embedded: by the first seed.
        recipe: its name.
        dataset: name of the data.
        description: of the data, some lines.
        sections: further parts of the report, such as pictures of the augmentations.
        notes: further sentences, such as files that were left out.
    """
    health = list(dict.fromkeys(finding for diagnosis in diagnoses for finding in diagnosis.findings))
    if scores.task is not None:
        answer = verdict(
            scores.evaluations,
            scores.subjects,
            primary=scores.primary,
            examples=scores.task.examples,
            entities=scores.task.entities,
        )
    else:
        answer = without_labels(health)
    records = scores.records()
    if embedded.parts is None:
        write_embeddings(run.embeddings, embedded.features, embedded.columns)
    else:
        write_parts(embedded.parts(), run.embeddings)
    for table in tables(records, scores.subjects):
        print("\n" + as_text(table))
    print("\n" + "\n".join([answer.headline, *answer.details]))
    if scores.labelled:
        print("\n".join(health))
    report = Report(
        title=f"{scores.title} on {dataset}",
        dataset=description,
        verdict=answer,
        subjects=scores.subjects,
        records=records,
        curves=read_metrics(run.metrics),
        health=health,
        embedding=_shown(embedded),
        sections=sections,
        config_yaml=session.config_yaml(cfg),
        command=session.command(cfg, recipe),
        versions=versions(),
        notes=notes,
    )
    write_report(run.report, report)
    run.results.write_text(to_json(records))  # last: a run with results is done
    session.print_paths(run)
    return answer


def _shown(embedded: Embedded) -> Embedding:
    """A random part of the samples, if there are many."""
    n = len(embedded.features)
    chosen = np.arange(n)
    if n > SHOWN:
        chosen = np.sort(np.random.default_rng(0).choice(n, SHOWN, replace=False))
    labels = embedded.columns.get("label")
    draw = embedded.picture
    return Embedding(
        values=embedded.features[chosen],
        names=[embedded.name(i) for i in chosen.tolist()],
        labels=labels[chosen] if labels is not None and any(label is not None for label in labels) else None,
        groups=None if embedded.groups is None else embedded.groups[chosen],
        entities=embedded.entities,
        picture=None if draw is None else lambda i: draw(int(chosen[i])),
    )
