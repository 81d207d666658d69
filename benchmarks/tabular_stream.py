"""Pretraining on a table that is larger than memory is meant for: how soon it starts, and how much memory it takes.

    python -m benchmarks.tabular_stream [--gigabytes 5] [--folder <with as much room>]

Writes a Parquet and a CSV file of 20 columns (16 numbers, 4 categories) and a label, and starts SCARF on each in a
process of its own. It tells when its first step was done, counted from its start, and its largest resident size until
the 400th step. Beside it, how long pandas takes to read the file at all, and what memory that needs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

GROUP = 100_000  # rows that are written at a time
STEPS = 400  # of the pretraining, up to which the largest size is taken

CHILD = """
import json, resource, sys, time
begin = time.perf_counter()
from mmssl.recipes.tabular_scarf import RECIPE, Config
from mmssl.recipes.tabular import DataConfig, prepare
from mmssl.train.batches import ShuffledBatches
from mmssl.train.fit import fit, setup_fabric
from mmssl.train.optim import build_optimizer
path, steps = sys.argv[1], int(sys.argv[2])
fabric = setup_fabric(device="cpu")
cfg = Config(data=DataConfig(path=path, label="label", in_memory=False))
experiment = prepare(cfg, RECIPE, fabric)
encoder = experiment.new_encoder(0)
training = experiment.training(encoder, 0)
batches = ShuffledBatches(training.source, batch_size=128)
optimizer = build_optimizer("adam", training.method.parameters(), lr=1e-3)
for state in fit(training.method, batches, optimizer=optimizer, steps=steps, fabric=fabric, log_every=steps):
    if state.step == 1:
        first = time.perf_counter()
done = time.perf_counter()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"seconds": first - begin, "steps_per_second": (steps - 1) / (done - first), "mib": peak / 1024}))
"""
PANDAS = """
import json, resource, sys, time
begin = time.perf_counter()
import pandas as pd
path = sys.argv[1]
frame = pd.read_csv(path) if path.endswith(".csv") else pd.read_parquet(path)
seconds, peak = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"seconds": seconds, "mib": peak / 1024}))
"""


def measure(gigabytes: float = 5.0, folder: Path | None = None) -> list[dict[str, Any]]:
    """One row a format."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        rows = []
        for name in ("table.parquet", "table.csv"):
            path = Path(place) / name
            write(path, int(gigabytes * 1e9))
            rows.append(_one(path))
            path.unlink()
        return rows


def write(path: Path, size: int) -> None:
    """A table of about ``size`` bytes."""
    tables = (pa.Table.from_pandas(frame, preserve_index=False) for frame in _frames())
    first = next(tables)
    with path.open("wb") as file:
        if path.suffix == ".csv":
            writer = pa.csv.CSVWriter(file, first.schema)
            write_rows = writer.write
        else:
            writer = pa.parquet.ParquetWriter(file, first.schema)
            write_rows = writer.write_table
        with writer:
            for table in tables:
                write_rows(table)
                if file.tell() >= size:
                    return


def _frames() -> Iterator[pd.DataFrame]:
    rng = np.random.default_rng(0)
    towns = np.array([f"town {i}" for i in range(50)])
    while True:
        kind = rng.integers(0, 2, GROUP)
        frame = pd.DataFrame({f"n{i:02d}": kind * i / 16 + rng.standard_normal(GROUP) for i in range(16)})
        for i in range(4):
            frame[f"c{i}"] = towns[rng.integers(0, 50, GROUP)]
        frame["label"] = np.where(rng.random(GROUP) < 0.1, 1 - kind, kind)
        yield frame


def _one(path: Path) -> dict[str, Any]:
    ours, pandas = _run(CHILD, path), _run(PANDAS, path)
    return {
        "what": f"first step of SCARF on {path.stat().st_size / 1e9:.2g} GB of {path.suffix[1:]}, from the start",
        "peer": "pandas reads the file",
        "peer_ms": 1e3 * pandas["seconds"],
        "mmssl_ms": 1e3 * ours["seconds"],
        "ratio": pandas["seconds"] / ours["seconds"],
        "mmssl_mib": ours["mib"],
        "peer_mib": pandas["mib"],
        "steps_per_second": ours["steps_per_second"],
    }


def _run(code: str, path: Path) -> dict[str, float]:
    command = [sys.executable, "-c", code, str(path), str(STEPS)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=5.0, help="size of each file")
    parser.add_argument("--folder", type=Path, help="where they are written; the system's folder for such things")
    chosen = parser.parse_args()
    for row in measure(chosen.gigabytes, chosen.folder):
        print(row, flush=True)
