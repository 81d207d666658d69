"""The losses of image–text pretraining in tiles against the published form with all similarities in one matrix."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.authors import paired
from mmssl.core.methods.scaling import pair_bias
from mmssl.core.objectives.alignment import PairObjective
from mmssl.core.objectives.clip import CLIP
from mmssl.core.objectives.siglip import SigLIP

PAIRS, LARGE, DIM = 4_096, 16_384, 256
OBJECTIVES: dict[str, Callable[[int], PairObjective]] = {
    "CLIP": lambda n: CLIP(),
    "SigLIP": lambda n: SigLIP(bias=pair_bias(n)),
}
CHILD = """
import json, time
from benchmarks import pairs_memory as own
a, b = own.embeddings({pairs})
objective = own.OBJECTIVES["{name}"]({pairs})
own.{form}(objective, *own.embeddings(8)).backward()
def mib(field):
    line = next(line for line in open("/proc/self/status") if line.startswith(field))
    return int(line.split()[1]) / 1024
before = mib("VmRSS")
start = time.perf_counter()
own.{form}(objective, a, b).backward()
seconds = time.perf_counter() - start
print(json.dumps({{"seconds": seconds, "mib": mib("VmHWM") - before, "resident_mib": mib("VmHWM")}}))
"""


def measure() -> list[dict[str, Any]]:
    """A row for each loss: time of value and gradient where both forms fit, memory of both at a large batch."""
    rows = []
    for name, build in OBJECTIVES.items():
        objective = build(PAIRS)
        a, b = embeddings(PAIRS)
        best = paired({form.__name__: partial(step, form, objective, a, b) for form in (dense, tiled)}, repeats=5)
        theirs, ours = dense(objective, a, b), tiled(objective, a, b)
        gradients = [torch.cat(torch.autograd.grad(loss, (a, b))) for loss in (theirs, ours)]
        large = {form.__name__: alone(form.__name__, name, LARGE) for form in (dense, tiled)}
        rows.append({
            "what": f"{name} loss, value and gradient, N = {PAIRS:,}, D = {DIM}",
            "peer": "one matrix, as open_clip",
            "peer_ms": 1e3 * best["dense"],
            "mmssl_ms": 1e3 * best["tiled"],
            "ratio": best["dense"] / best["tiled"],
            "relative_loss_difference": float(((ours - theirs).abs() / theirs).detach()),
            "relative_gradient_difference": float((gradients[1] - gradients[0]).norm() / gradients[0].norm()),
            f"peer_mib_at_N_{LARGE}": large["dense"]["mib"],
            f"mmssl_mib_at_N_{LARGE}": large["tiled"]["mib"],
            f"whole_process_mib_at_N_{LARGE}": large["tiled"]["resident_mib"],
            f"peer_s_at_N_{LARGE}": large["dense"]["seconds"],
            f"mmssl_s_at_N_{LARGE}": large["tiled"]["seconds"],
        })  # fmt: skip
    return rows


def embeddings(pairs: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    a, b = (torch.randn(pairs, DIM, generator=draw).requires_grad_() for _ in range(2))
    return a, b


def step(form: Callable[..., Tensor], *inputs: Any) -> None:
    form(*inputs).backward()


def tiled(objective: PairObjective, a: Tensor, b: Tensor) -> Tensor:
    return objective(a, b)


def dense(objective: PairObjective, a: Tensor, b: Tensor) -> Tensor:
    """Normalise, multiply, and a loss over the matrix."""
    logits = objective.log_scale.exp() * F.normalize(a, dim=1) @ F.normalize(b, dim=1).T
    if isinstance(objective, SigLIP):
        sign = 2 * torch.eye(len(a)) - 1
        return -F.logsigmoid(sign * (logits + objective.bias)).sum() / len(a)
    target = torch.arange(len(a))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def alone(form: str, name: str, pairs: int) -> dict[str, float]:
    """Seconds, and MiB at the peak beyond the inputs and of all of it, in a process of its own."""
    command = [sys.executable, "-c", CHILD.format(form=form, name=name, pairs=pairs)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


if __name__ == "__main__":
    for row in measure():
        print(row)
