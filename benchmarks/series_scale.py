"""Pretraining on a Parquet folder that is streamed, beside the same in memory: windows a second, and resident memory.

Ten million rows of eight channels in ten files with the row groups that pyarrow writes. SimCLR with the default encoder
and views, batches of 64 windows of 256 rows that do not overlap, so that every row is read once an epoch. The pool is
small, so that two of them hold four of ten pieces and the rest has to be read while the training runs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS, CHANNELS, MACHINES, FILES = 10_000_000, 8, 50, 10
STEPS, WARM_UP, PASSES = 150, 20, 2
POOL = 64 << 20
CHILD = """
import json, time
from mmssl.core.methods.simclr import simclr
from mmssl.timeseries.ahead import StreamedSource
from mmssl.timeseries.augment import CropResize, Jitter, Pipeline, Scaling, SeriesViews, TimeMask
from mmssl.timeseries.dataset import DataConfig, load_data
from mmssl.timeseries.encoders.build import build_encoder
from mmssl.train.batches import ShuffledBatches
from mmssl.train.fit import fit, setup_fabric
import torch

start = time.perf_counter()
data = load_data(DataConfig(path={path!r}, id="machine", time="t", window=256, stride=256, in_memory={in_memory}))
loaded = time.perf_counter() - start
source = data.source() if {in_memory} else StreamedSource(data.train, pool={pool})
encoder = build_encoder("tstcc", in_channels={channels})
views = SeriesViews(Pipeline((CropResize((0.5, 1.0)), Scaling(0.2), TimeMask(0.2), Jitter(0.1))))
method = simclr(encoder, views, hidden=encoder.dim, out=128, temperature=0.2)
optimizer = torch.optim.AdamW(method.parameters(), fused=True)
batches = ShuffledBatches(source, batch_size=64)
steps = fit(method, batches, optimizer=optimizer, steps={steps}, fabric=setup_fabric(device="cpu"), log_every={steps})
for _ in range({warm_up}):
    next(steps)
start = time.perf_counter()
for _ in steps:
    pass
seconds = (time.perf_counter() - start) / ({steps} - {warm_up})
peak = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({{"loaded": loaded, "step": seconds, "peak": peak}}))
"""


def measure(rows: int = ROWS, pool: int = POOL) -> list[dict[str, Any]]:
    """One row."""
    with tempfile.TemporaryDirectory() as folder:
        for file in range(FILES):
            _write(Path(folder) / f"part-{file}.parquet", file, rows)
        runs = [[_run(folder, in_memory=memory, pool=pool) for memory in (True, False)] for _ in range(PASSES)]
    memory, streamed = (min(part, key=lambda run: run["step"]) for part in zip(*runs, strict=True))
    return [
        {
            "what": f"a training step on {rows:,} rows × {CHANNELS} channels of Parquet, streamed",
            "peer": "the same in memory",
            "peer_ms": 1e3 * memory["step"],
            "mmssl_ms": 1e3 * streamed["step"],
            "ratio": memory["step"] / streamed["step"],
            "windows_per_second": 64 / streamed["step"],
            "resident_mib": max(run["peak"] for _, run in runs) / 2**20,
            "peer_resident_mib": max(run["peak"] for run, _ in runs) / 2**20,
            "seconds_until_training": streamed["loaded"],
            "peer_seconds_until_training": memory["loaded"],
        }
    ]


def _write(path: Path, file: int, rows: int) -> None:
    """One of the files: machine after machine, a second apart."""
    rng = np.random.default_rng(file)
    row = np.arange(file * rows // FILES, (file + 1) * rows // FILES)
    machine, t = np.divmod(row, rows // MACHINES)
    names = pa.array([f"machine-{i}" for i in range(MACHINES)])
    columns: dict[str, Any] = {
        "machine": pa.DictionaryArray.from_arrays(pa.array(machine.astype(np.int32)), names).cast(pa.string()),
        "t": pa.array(t * 10**9).cast(pa.timestamp("ns")),
    }
    columns |= {f"c{i}": rng.standard_normal(len(row)) for i in range(CHANNELS)}
    pq.write_table(pa.table(columns), path)


def _run(folder: str, *, in_memory: bool, pool: int) -> dict[str, float]:
    code = CHILD.format(path=folder, in_memory=in_memory, pool=pool, channels=CHANNELS, steps=STEPS, warm_up=WARM_UP)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    chosen = parser.parse_args()
    for row in measure(chosen.rows, pool=POOL * chosen.rows // ROWS):
        print(json.dumps(row, indent=1))
