"""How long `import mmssl` takes in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

CODE = "import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"


def measure() -> list[dict[str, Any]]:
    """One row, beside `import torch`."""
    ours, torch = (min(_seconds(module) for _ in range(5)) for module in ("mmssl", "torch"))
    return [
        {
            "what": "import",
            "peer": "import torch",
            "peer_ms": 1e3 * torch,
            "mmssl_ms": 1e3 * ours,
            "ratio": torch / ours,
        }
    ]


def _seconds(module: str) -> float:
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(module=module)], check=True, capture_output=True, text=True
    )
    return float(done.stdout)
