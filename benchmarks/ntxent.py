"""NT-Xent in tiles against the usual implementation with all similarities in one matrix: time and memory."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.authors import paired
from mmssl.core.objectives.ntxent import nt_xent

SAMPLES, LARGE, DIM, TEMPERATURE = 4_096, 32_768, 128, 0.5
CHILD = """
import json, time, torch
from benchmarks import ntxent
z1, z2 = ntxent.views({samples})
ntxent.{loss}(*ntxent.views(8)).backward()
def mib(field):
    line = next(line for line in open("/proc/self/status") if line.startswith(field))
    return int(line.split()[1]) / 1024
before = mib("VmRSS")
start = time.perf_counter()
ntxent.{loss}(z1, z2).backward()
seconds = time.perf_counter() - start
print(json.dumps({{"seconds": seconds, "mib": mib("VmHWM") - before}}))
"""


def measure() -> list[dict[str, Any]]:
    """One row: value and gradient at a size where both fit, and ours where the matrix alone would take 16 GiB."""
    z1, z2 = views(SAMPLES)
    best = paired({"dense": lambda: dense(z1, z2).backward(), "tiled": lambda: tiled(z1, z2).backward()}, repeats=5)
    theirs, ours = dense(z1, z2), tiled(z1, z2)
    gradients = [torch.cat(torch.autograd.grad(loss, (z1, z2))) for loss in (theirs, ours)]
    large = _alone("tiled", LARGE)
    return [
        {
            "what": f"NT-Xent, value and gradient, N = {SAMPLES:,}, D = {DIM}",
            "peer": "one matrix and cross_entropy",
            "peer_ms": 1e3 * best["dense"],
            "mmssl_ms": 1e3 * best["tiled"],
            "ratio": best["dense"] / best["tiled"],
            "relative_loss_difference": float((abs(ours - theirs) / theirs).detach()),
            "relative_gradient_difference": float((gradients[1] - gradients[0]).norm() / gradients[0].norm()),
            "peer_mib": _alone("dense", SAMPLES)["mib"],
            "mmssl_mib": _alone("tiled", SAMPLES)["mib"],
            f"mmssl_mib_at_N_{LARGE}": large["mib"],
            f"mmssl_s_at_N_{LARGE}": large["seconds"],
        }
    ]


def views(samples: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    z1, z2 = (torch.randn(samples, DIM, generator=draw).requires_grad_() for _ in range(2))
    return z1, z2


def tiled(z1: Tensor, z2: Tensor) -> Tensor:
    return nt_xent(z1, z2, temperature=TEMPERATURE)


def dense(z1: Tensor, z2: Tensor) -> Tensor:
    """Normalise, multiply, leave out the diagonal, cross-entropy."""
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    sim = z @ z.T / TEMPERATURE
    sim = sim.masked_fill(torch.eye(len(z), dtype=torch.bool), float("-inf"))
    n = len(z1)
    return F.cross_entropy(sim, torch.cat([torch.arange(n, 2 * n), torch.arange(n)]))


def _alone(loss: str, samples: int) -> dict[str, float]:
    """Seconds, and MiB at the peak beyond the inputs, in a process of its own."""
    command = [sys.executable, "-c", CHILD.format(loss=loss, samples=samples)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


if __name__ == "__main__":
    for row in measure():
        print(row)
