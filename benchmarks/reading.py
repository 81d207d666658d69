"""Ten million rows of Parquet with eight channels: seconds and resident memory, beside `pandas.read_parquet`."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS, CHANNELS, ENTITIES = 10_000_000, 8, 50
OURS = """
from mmssl.timeseries.data import read_series
from mmssl.timeseries.series import cut_windows
series = read_series({path!r}, id="machine", time="t")
windows = cut_windows(series, length=256)
array = series.values.nbytes
"""
PANDAS = """
import pandas as pd
frame = pd.read_parquet({path!r}).sort_values(["machine", "t"])
channels = [name for name in frame if name.startswith("c")]
values = frame[channels].to_numpy(dtype="float32")
array = values.nbytes
"""
CHILD = """
import json, time
start = time.perf_counter()
{code}
seconds = time.perf_counter() - start
peak = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({{"seconds": seconds, "beyond": peak - array}}))
"""


def measure() -> list[dict[str, Any]]:
    """One row for a file sorted by entity and time, one for a file in random order."""
    with tempfile.TemporaryDirectory() as folder:
        return [_one(Path(folder) / f"{order}.parquet", order) for order in ("sorted", "shuffled")]


def _one(path: Path, order: str) -> dict[str, Any]:
    _write(path, shuffled=order == "shuffled")
    ours, theirs = (_run(code.format(path=str(path))) for code in (OURS, PANDAS))
    path.unlink()
    return {
        "what": f"read {ROWS:,} rows × {CHANNELS} channels of Parquet, {order}, and cut windows",
        "peer": "pandas.read_parquet, sorted, as float32",
        "peer_ms": 1e3 * theirs["seconds"],
        "mmssl_ms": 1e3 * ours["seconds"],
        "ratio": theirs["seconds"] / ours["seconds"],
        "mmssl_mib_beyond_array": ours["beyond"] / 2**20,
        "peer_mib_beyond_array": theirs["beyond"] / 2**20,
    }


def _write(path: Path, *, shuffled: bool) -> None:
    rng = np.random.default_rng(0)
    row = rng.permutation(ROWS) if shuffled else np.arange(ROWS)
    machine, t = np.divmod(row, ROWS // ENTITIES)
    names = pa.array([f"machine-{i}" for i in range(ENTITIES)])
    columns: dict[str, Any] = {
        "machine": pa.DictionaryArray.from_arrays(pa.array(machine.astype(np.int32)), names).cast(pa.string()),
        "t": t.astype(np.int64),
    }
    columns |= {f"c{i}": rng.standard_normal(ROWS) for i in range(CHANNELS)}
    pq.write_table(pa.table(columns), path)


def _run(code: str) -> dict[str, float]:
    command = [sys.executable, "-c", CHILD.format(code=code)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result
