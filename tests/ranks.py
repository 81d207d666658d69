"""What the tests of several ranks start: a module on gloo processes, `python -m <module> <folder> <rank>`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch.distributed as dist

from mmssl.core.distributed import before_group, close_group

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


@contextmanager
def group(folder: Path, number: int, *, count: int) -> Iterator[None]:
    """What such a module does as rank ``number``; its objects that hold the group must be gone at the end."""
    before_group()
    store = f"file://{folder / f'store-{count}'}"
    dist.init_process_group("gloo", init_method=store, rank=number, world_size=count)
    yield
    close_group()
    threads = [comm.read_text().strip() for comm in Path("/proc/self/task").glob("*/comm")]
    assert not [name for name in threads if "gloo" in name], threads
