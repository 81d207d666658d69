"""All speed and memory comparisons: `python -m benchmarks.run [--authors <checkout of zhihanyue/ts2vec>]`.

Writes benchmarks/results.json and benchmarks/README.md. Every figure is a ratio of two things measured in the same run;
without a checkout of the authors' code the comparisons with it are left out, and said to be.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

import torch

from benchmarks import (
    audio_masks,
    audio_negatives,
    audio_views,
    ema,
    graph_spectral,
    graph_views,
    importing,
    loop,
    ntxent,
    pairs_memory,
    reading,
    ridge_forecast,
    series_scale,
    series_views,
    tabular_epoch,
    tabular_stream,
    tabular_views,
    tnc,
    ts2vec_causal,
    ts2vec_step,
    vision_views,
)
from benchmarks.authors import REPOSITORY, Authors

FOLDER = Path(__file__).parent


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--authors", type=Path, help=f"checkout of {REPOSITORY}")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="measure these again, keep the rest of the last run")
    chosen = parser.parse_args()
    authors = None if chosen.authors is None else Authors(chosen.authors)
    rows: list[dict[str, Any]] = []
    benchmarks = (
        ("step", lambda: ts2vec_step.measure(authors) if authors else []),
        ("causal", lambda: ts2vec_causal.measure(authors)),
        ("loop", loop.measure),
        ("import", importing.measure),
        ("reading", reading.measure),
        ("ema", ema.measure),
        ("ntxent", ntxent.measure),
        ("pairs", pairs_memory.measure),
        ("views", vision_views.measure),
        ("series-views", series_views.measure),
        ("tnc", tnc.measure),
        ("series-scale", series_scale.measure),
        ("ridge-forecast", ridge_forecast.measure),
        ("table-views", tabular_views.measure),
        ("table-epoch", tabular_epoch.measure),
        ("table-stream", tabular_stream.measure),
        ("graph-views", graph_views.measure),
        ("graph-spectral", graph_spectral.measure),
        ("audio-masks", audio_masks.measure),
        ("audio-negatives", audio_negatives.measure),
        ("audio-views", audio_views.measure),
    )
    names = [name for name, _ in benchmarks]
    if unknown := [name for name in chosen.only or () if name not in names]:
        parser.error(f"unknown benchmarks {unknown}; there are {names}")
    for name, measured in benchmarks:
        if chosen.only and name not in chosen.only:
            continue
        for row in measured():
            print(f"{name}: {_line(row)}", flush=True)
            rows.append({"benchmark": name, **row})
    if chosen.only:
        kept = json.loads((FOLDER / "results.json").read_text())["rows"]
        rows += [row for row in kept if row["benchmark"] not in chosen.only]
        rows.sort(key=lambda row: names.index(row["benchmark"]))
    machine = f"{os.cpu_count()} cores ({platform.machine()}), no GPU" if not torch.cuda.is_available() else _gpu()
    result = {"machine": machine, "torch": torch.__version__, "threads": torch.get_num_threads(), "rows": rows}
    (FOLDER / "results.json").write_text(json.dumps(result, indent=1) + "\n")
    (FOLDER / "README.md").write_text(_page(result, with_authors=any(row["benchmark"] == "step" for row in rows)))


def _gpu() -> str:
    return f"{torch.cuda.get_device_name()}, {os.cpu_count()} cores"


def _line(row: dict[str, Any]) -> str:
    extra = ", ".join(f"{key.replace('_', ' ')} {value:.3g}" for key, value in row.items() if key not in KNOWN)
    return f"{row['what']}: {row['ratio']:.2f}× {row['peer']}" + (f" ({extra})" if extra else "")


KNOWN = ("benchmark", "what", "peer", "peer_ms", "mmssl_ms", "ratio")


def _page(result: dict[str, Any], *, with_authors: bool) -> str:
    lines = [
        "# Speed and memory",
        "",
        "Written by `python -m benchmarks.run --authors <checkout>`; the numbers are also in `results.json`. The",
        f"checkout is of {REPOSITORY}, which is not part of this project. Ratios are of two things timed in the same",
        "run, taking turns; above 1 means that mmssl is faster. With `--only` the other rows are of an earlier run.",
        "",
        f"Machine: {result['machine']}, torch {result['torch']}, {result['threads']} threads.",
        "",
    ]
    if not with_authors:
        lines += ["No checkout was given: the comparisons with the authors' implementation are missing.", ""]
    lines += ["| what | against | peer, ms | mmssl, ms | ratio | more |", "|---|---|---|---|---|---|"]
    for row in result["rows"]:
        extra = ", ".join(f"{key.replace('_', ' ')} {value:.3g}" for key, value in row.items() if key not in KNOWN)
        cells = [
            row["what"],
            row["peer"],
            f"{row['peer_ms']:.3g}",
            f"{row['mmssl_ms']:.3g}",
            f"{row['ratio']:.2f}",
            extra,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
