"""The contrastive loss of wav2vec 2.0, 8 clips of 10 s at 16 kHz, against gathering 100 vectors for each frame."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.authors import paired
from mmssl.audio.spans import masked_count
from mmssl.audio.wav2vec2 import contrastive_loss, draw_negatives

BATCH, FRAMES, DIM, NEGATIVES, CODES, TEMPERATURE = 8, 499, 256, 100, 200, 0.1
MASKED = masked_count(FRAMES)
CHILD = """
import json, torch
from benchmarks import audio_negatives
given = audio_negatives.inputs(audio_negatives.MASKED)
audio_negatives.{loss}(*audio_negatives.inputs(4)).backward()
def mib(field):
    line = next(line for line in open("/proc/self/status") if line.startswith(field))
    return int(line.split()[1]) / 1024
open("/proc/self/clear_refs", "w").write("5")  # the peak so far is forgotten
before = mib("VmRSS")
audio_negatives.{loss}(*given).backward()
print(json.dumps(mib("VmHWM") - before))
"""


def measure() -> list[dict[str, Any]]:
    """One row: value and gradient, time and peak memory, and the same loss."""
    given = inputs(MASKED)
    best = paired({"gathered": lambda: gathered(*given).backward(), "ours": lambda: ours(*given).backward()}, repeats=5)
    theirs, mine = gathered(*given), ours(*given)
    peer_mib, mmssl_mib = _alone("gathered"), _alone("ours")
    return [
        {
            "what": f"wav2vec 2.0 loss and gradient, {BATCH} × 10 s, {MASKED} masked frames each",
            "peer": f"{NEGATIVES} gathered vectors a frame",
            "peer_ms": 1e3 * best["gathered"],
            "mmssl_ms": 1e3 * best["ours"],
            "ratio": best["gathered"] / best["ours"],
            "relative_loss_difference": float((abs(mine - theirs) / theirs).detach()),
            "peer_mib": peer_mib,
            "mmssl_mib": mmssl_mib,
            "times_less_memory": peer_mib / mmssl_mib,
        }
    ]


def inputs(masked: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Predictions, codes, their names, and the negatives of each frame."""
    torch.manual_seed(0)
    names = torch.randint(CODES, (BATCH, masked))
    predictions = torch.randn(BATCH, masked, DIM).requires_grad_()
    codes = torch.randn(CODES, DIM)[names].requires_grad_()
    return predictions, codes, names, draw_negatives(torch.ones(BATCH, masked, dtype=torch.bool), NEGATIVES)


def ours(predictions: Tensor, codes: Tensor, names: Tensor, negatives: Tensor) -> Tensor:
    return contrastive_loss(predictions, codes, names, negatives, TEMPERATURE).loss.mean()


def gathered(predictions: Tensor, codes: Tensor, names: Tensor, negatives: Tensor) -> Tensor:
    """Every frame with its own code and copies of its negatives side by side."""
    batch, masked, _ = predictions.shape
    rows = torch.arange(batch)[:, None, None]
    others = codes[rows, negatives]  # (B, M, K, D)
    targets = torch.cat([codes[:, :, None], others], dim=2)
    logits = F.cosine_similarity(predictions[:, :, None], targets, dim=-1) / TEMPERATURE  # (B, M, 1 + K)
    same = F.pad(names[rows, negatives] == names[..., None], (1, 0))
    logits = logits.masked_fill(same, -math.inf)
    return F.cross_entropy(logits.flatten(0, 1), torch.zeros(batch * masked, dtype=torch.long))


def _alone(loss: str) -> float:
    """MiB at the peak beyond the inputs, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", CHILD.format(loss=loss)], check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    for row in measure():
        print(row)
