"""One recipe over a list of data sets, one after the other: resumable, one table out."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

from mmssl.eval.records import Record, read_results, to_json
from mmssl.eval.table import intervals


def sweep(folder: Path, names: Sequence[str], run_one: Callable[[str, Path], None]) -> list[Record]:
    """Run what has no results yet, and write ``results.json`` and ``table.csv`` after each.

    Args:
        folder: of the sweep; data set ``name`` gets ``folder / name``.
        names: of the data sets.
        run_one: runs a data set in a folder, or goes on with what is there.
    """
    records: list[Record] = []
    for i, name in enumerate(names):
        results = folder / name / "results.json"
        print(f"\n=== {name} ({i + 1} of {len(names)})" + (", already done" if results.exists() else ""), flush=True)
        if not results.exists():
            run_one(name, folder / name)
        records += read_results(results)
        (folder / "results.json").write_text(to_json(records))
        _write_table(folder / "table.csv", records)
    print("\n" + (folder / "table.csv").read_text())
    return records


def _write_table(path: Path, records: Sequence[Record]) -> None:
    """What decides, in percent: a row a data set, and their mean.

    That is what the first record of a data set is: the first protocol, and the measure that goes with the labels.
    """
    names = list(dict.fromkeys(record.dataset for record in records))
    first = {name: next(record for record in records if record.dataset == name) for name in names}
    decides = [r for r in records if (r.protocol, r.metric) == (first[r.dataset].protocol, first[r.dataset].metric)]
    columns = list(dict.fromkeys(record.subject for record in decides))
    values: dict[str, list[float]] = {subject: [] for subject in columns}
    rows = []
    for name in names:
        scores = intervals([r for r in decides if r.dataset == name])
        cells = {"dataset": name, "measure": first[name].metric}
        for subject in columns:
            score = scores[subject, first[name].protocol, first[name].metric, "all"]
            values[subject].append(score.mean)
            cells[subject] = f"{100 * score.mean:.1f}"
            if score.half_width == score.half_width:
                cells[subject] += f" ± {100 * score.half_width:.1f}"
        rows.append(cells)
    means = {subject: f"{100 * sum(v) / len(v):.2f}" for subject, v in values.items()}
    rows.append({"dataset": "mean", "measure": "", **means})
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["dataset", "measure", *columns])
        writer.writeheader()
        writer.writerows(rows)
