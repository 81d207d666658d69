"""One recipe over a list of data sets, one after the other: resumable, one table out."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

from mmssl.eval.records import Record, read_results, to_json
from mmssl.eval.table import intervals


def sweep(folder: Path, names: Sequence[str], run_one: Callable[[str, Path], None], *, protocol: str) -> list[Record]:
    """Run what has no results yet, and write ``results.json`` and ``table.csv`` after each.

    Args:
        folder: of the sweep; data set ``name`` gets ``folder / name``.
        names: of the data sets.
        run_one: runs a data set in a folder, or goes on with what is there.
        protocol: id of the protocol that the table shows.
    """
    records: list[Record] = []
    for i, name in enumerate(names):
        results = folder / name / "results.json"
        print(f"\n=== {name} ({i + 1} of {len(names)})" + (", already done" if results.exists() else ""), flush=True)
        if not results.exists():
            run_one(name, folder / name)
        records += read_results(results)
        (folder / "results.json").write_text(to_json(records))
        _write_table(folder / "table.csv", records, protocol)
    print("\n" + (folder / "table.csv").read_text())
    return records


def _write_table(path: Path, records: Sequence[Record], protocol: str) -> None:
    """Accuracy in percent: a row a data set, and their mean."""
    names = list(dict.fromkeys(record.dataset for record in records))
    rows, columns = [], list(dict.fromkeys(record.subject for record in records if record.protocol == protocol))
    sums = dict.fromkeys(columns, 0.0)
    for name in names:
        scores = intervals([r for r in records if r.dataset == name])
        cells = {"dataset": name}
        for subject in columns:
            score = scores[subject, protocol, "accuracy", "all"]
            sums[subject] += score.mean
            cells[subject] = f"{100 * score.mean:.1f}"
            if score.half_width == score.half_width:
                cells[subject] += f" ± {100 * score.half_width:.1f}"
        rows.append(cells)
    rows.append({"dataset": "mean", **{s: f"{100 * sums[s] / len(names):.2f}" for s in columns}})
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["dataset", *columns])
        writer.writeheader()
        writer.writerows(rows)
