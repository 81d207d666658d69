"""What test_audio_across_ranks.py runs: `python -m tests.audio.across_ranks <folder> <rank of 2>`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mmssl.audio.hubert import HuBERT
from mmssl.audio.spans import masked_count
from mmssl.audio.wav2vec2 import Wav2Vec2
from mmssl.core.distributed import rank, world_size
from tests.audio.waveforms import noises, padded, small
from tests.ranks import group

SIZES = [3300, 2400, 1500, 2900]


def wav2vec2() -> nn.Module:
    return Wav2Vec2(small(), span=4, entries=6, code_dim=8, dim=8, negatives=9)


def hubert() -> nn.Module:
    return HuBERT(small(), 5, span=4, dim=8, seen=0.5)


METHODS: dict[str, Callable[[], nn.Module]] = {"wav2vec2": wav2vec2, "hubert": hubert}


def first_frames(frames: Tensor, width: int, *, probability: float, span: int) -> Tensor:
    """Masks that are not drawn: as many frames as usual, from the start."""
    counts = torch.tensor([masked_count(int(n), probability=probability, span=span) for n in frames])
    return torch.arange(width) < counts[:, None]


def next_frames(valid: Tensor, negatives: int) -> Tensor:
    """Negatives that are not drawn: those that come after a frame, in a circle."""
    own, step = torch.arange(valid.shape[1])[:, None], torch.arange(negatives)
    others = (valid.sum(dim=1) - 1).clamp(min=1)[:, None, None]
    return (own + 1 + step % others) % (others + 1)


def own(x: Tensor) -> Tensor:
    size = len(x) // world_size()
    return x[rank() * size : (rank() + 1) * size]


def play(name: str) -> dict[str, Tensor]:
    """Loss, logged values and gradients of this rank's clips."""
    torch.manual_seed(0)
    method = METHODS[name]().eval()
    torch.manual_seed(1)
    x = padded(noises(SIZES), max(SIZES))
    units = torch.randint(5, (len(x), small().frame_count(max(SIZES))), generator=torch.Generator().manual_seed(0))
    batch: Any = own(x) if name == "wav2vec2" else (own(x), own(units))
    module = DistributedDataParallel(method, find_unused_parameters=True) if world_size() > 1 else method
    with (
        mock.patch("mmssl.audio.masked_frames.span_masks", first_frames),
        mock.patch("mmssl.audio.wav2vec2.draw_negatives", next_frames),
    ):
        out = module(batch)
    out["loss"].backward()
    gradients = {f"gradient of {n}": p.grad for n, p in method.named_parameters() if p.grad is not None}
    logged = {key: out[key].detach() for key in out if key not in ("mask_share", "positives_among_negatives")}
    return logged | gradients


def main(folder: Path, number: int) -> None:
    with group(folder, number, count=2):
        torch.save({name: play(name) for name in METHODS}, folder / f"{number}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
