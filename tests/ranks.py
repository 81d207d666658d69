"""What the tests of several ranks start: a module on gloo processes, `python -m <module> <folder> <rank>`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SECONDS = 120  # after which a rank waits for another in vain


def run_ranks(module: str, folder: Path, *, count: int) -> None:
    """Returns when all ranks have ended well; what they leave in ``folder`` is for the test."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-m", module, folder, str(number)],
            cwd=Path(__file__).parents[1],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        )
        for number in range(count)
    ]
    try:
        errors = [process.communicate(timeout=SECONDS)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * count, "\n".join(errors)
