"""The momentum teacher of a ResNet-50 against a loop over its parameters, on every device there is."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
import torchvision
from torch import nn

from mmssl.core.ema import Teacher

ROUNDS = 30
MOMENTUM = 0.99


def measure() -> list[dict[str, Any]]:
    """A row a device: medians of updates that take turns."""
    return [_on(device) for device in ("cpu", *(["cuda"] if torch.cuda.is_available() else []))]


def _on(device: str) -> dict[str, Any]:
    student = torchvision.models.resnet50().to(device)
    ours = Teacher(student, momentum=MOMENTUM, final_momentum=MOMENTUM)
    loop = Teacher(student, momentum=MOMENTUM).module
    with torch.no_grad():
        for p in student.parameters():
            p.add_(0.01 * torch.randn_like(p))
    taken = torch.tensor(False, device=device)
    times: dict[str, list[float]] = {"loop": [], "mmssl": []}
    for _ in range(ROUNDS):
        times["loop"].append(_seconds(lambda: _loop(loop, student), device))
        times["mmssl"].append(_seconds(lambda: ours.update(student, 0.5, taken), device))
    difference = max(
        float((a - b).abs().max()) for a, b in zip(ours.module.parameters(), loop.parameters(), strict=True)
    )
    peer, mine = (1e3 * statistics.median(times[name]) for name in ("loop", "mmssl"))
    return {
        "what": f"one step of a ResNet-50 teacher on {device}",
        "peer": "loop over the parameters",
        "peer_ms": peer,
        "mmssl_ms": mine,
        "ratio": peer / mine,
        "largest_difference": difference,
    }


@torch.no_grad()
def _loop(teacher: nn.Module, student: nn.Module) -> None:
    """As published training scripts have it."""
    for own, new in zip(teacher.parameters(), student.parameters(), strict=True):
        own.data.mul_(MOMENTUM).add_(new.data, alpha=1 - MOMENTUM)


def _seconds(update: Any, device: str) -> float:
    start = time.perf_counter()
    update()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
