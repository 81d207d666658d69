"""What test_objectives_across_ranks.py runs: `python -m tests.core.across_ranks <folder> <rank of 4>`."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mmssl.core.distributed import rank, world_size
from mmssl.core.methods.alignment import Alignment, Towers
from mmssl.core.objectives import alignment, ntxent
from mmssl.core.objectives.alignment import PairObjective
from mmssl.core.objectives.clip import CLIP
from mmssl.core.objectives.clustering import SwAV, sinkhorn
from mmssl.core.objectives.distillation import DINO, CosineRegression
from mmssl.core.objectives.masked import masked_cross_entropy, masked_mse, masked_smooth_l1
from mmssl.core.objectives.ntxent import InfoNCE, NTXent
from mmssl.core.objectives.objective import Objective
from mmssl.core.objectives.redundancy import BarlowTwins, VICReg
from mmssl.core.objectives.siglip import SigLIP
from tests.ranks import group

SAMPLES, DIM = 8, 6
Loss = Callable[[list[Tensor], list[Tensor]], Tensor]


class Tiled(NTXent):
    """Tiles of three rows, which do not end where the anchors of a rank do."""

    def forward(self, z: list[Tensor], t: list[Tensor]) -> Tensor:
        with mock.patch.object(ntxent, "SIDE", 3):
            return super().forward(z, t)


class Paired(Objective):
    """A loss over pairs, in tiles of three; the targets tell which of them occur twice, if any do."""

    def __init__(self, loss: PairObjective, *, copies: bool = False) -> None:
        super().__init__()
        self.loss = loss
        self.copies = copies

    def forward(self, z: list[Tensor], t: list[Tensor]) -> Tensor:
        ids = (2 * t[0][:, :2]).long() if self.copies else None
        with mock.patch.object(alignment, "SIDE", 3):
            return self.loss(z[0], z[1], ids)

    def after_step(self, progress: float, skipped: Tensor) -> None:
        self.loss.after_step(progress, skipped)


OBJECTIVES: dict[str, Callable[[], Objective]] = {
    "NT-Xent": lambda: NTXent(0.2),
    "NT-Xent in tiles": lambda: Tiled(0.2),
    "InfoNCE with a queue": lambda: InfoNCE(0.2, queue_size=20, dim=DIM),
    "InfoNCE with a small queue": lambda: InfoNCE(0.2, queue_size=5, dim=DIM),
    "InfoNCE without a queue": lambda: InfoNCE(0.2, queue_size=0, dim=DIM),
    "Barlow Twins": lambda: BarlowTwins(0.1),
    "VICReg": VICReg,
    "SwAV": lambda: SwAV(DIM, 5),
    "SwAV with a queue": lambda: SwAV(DIM, 5, queue_size=21),
    "SwAV with a queue from half-way on": lambda: SwAV(DIM, 5, queue_size=7, queue_from=0.5, freeze=0.4),
    "cosine regression": CosineRegression,
    "CLIP": lambda: Paired(CLIP()),
    "CLIP with copies": lambda: Paired(CLIP(), copies=True),
    "SigLIP": lambda: Paired(SigLIP(bias=-2.0)),
    "SigLIP with copies": lambda: Paired(SigLIP(bias=-2.0), copies=True),
    "DINO": lambda: DINO(DIM),
    "DINO with Sinkhorn": lambda: DINO(DIM, centring="sinkhorn"),
}
LOSSES: dict[str, Loss] = {
    "masked mse": lambda z, t: masked_mse(z[0], t[0], t[1], normalise=True),
    "masked smooth l1": lambda z, t: masked_smooth_l1(z[0], t[0], t[1]),
    "masked cross-entropy": lambda z, t: masked_cross_entropy(z[0], t[0][..., 0].nan_to_num(-1).floor().long(), t[1]),
}
TWO_VIEWS = {"Barlow Twins", "VICReg", "CLIP", "CLIP with copies", "SigLIP", "SigLIP with copies"}


def embeddings(name: str, step: int) -> tuple[list[Tensor], list[Tensor]]:
    """Views and targets of the whole batch."""
    draw = torch.Generator().manual_seed(step)
    count = 2 if name in TWO_VIEWS else 3
    views = [torch.randn(SAMPLES, DIM, generator=draw) for _ in range(count + 2)]
    return views[:count], views[count:]


def tokens(step: int) -> tuple[list[Tensor], list[Tensor]]:
    """Prediction, then target and mask; nothing is masked in the first two samples, and little was measured after."""
    draw = torch.Generator().manual_seed(step)
    prediction, target = (torch.randn(SAMPLES, 5, DIM, generator=draw) for _ in range(2))
    mask = torch.rand(SAMPLES, 5, generator=draw) < 0.6
    mask[:2] = False
    target[2:4][torch.rand(2, 5, DIM, generator=draw) < 0.7] = math.nan
    return [prediction], [target, mask]


def own(whole: list[Tensor]) -> list[Tensor]:
    return [x.chunk(world_size())[rank()].clone() for x in whole]


def one_pass(loss: Loss, z: list[Tensor], t: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Loss, and its gradient with respect to this rank's part of the batch ``(views, B, …)``."""
    z = [x.requires_grad_() for x in own(z)]
    value = loss(z, own(t))
    value.backward()
    return value.detach(), torch.stack([x.grad for x in z if x.grad is not None])


def play(name: str) -> dict[str, Tensor]:
    """Three steps, of which the second is skipped and the third has two forward passes."""
    torch.manual_seed(0)
    objective = OBJECTIVES[name]()
    out = {}
    for step, passes in enumerate(([0], [1], [2, 3])):
        for i in passes:
            out[f"loss {i}"], out[f"gradient {i}"] = one_pass(objective, *embeddings(name, i))
        objective.after_step((step + 1) / 3, torch.tensor(step == 1))
        out |= {f"{key} after step {step}": value.clone() for key, value in objective.state_dict().items()}
    return out | {f"gradient of {key}": p.grad for key, p in objective.named_parameters() if p.grad is not None}


def aligned(name: str) -> dict[str, Tensor]:
    """Loss and gradients of two towers, as a run on several processes gets them; the ranks of ``chunks`` cache."""
    torch.manual_seed(0)
    loss = CLIP() if name == "CLIP" else SigLIP(bias=-2.0)
    towers = Towers({"a": tower(DIM), "b": tower(DIM + 1)}, dim=5)
    method: nn.Module = Alignment(towers, loss, chunks=4 if world_size() > 1 else 1)
    model = DistributedDataParallel(method) if world_size() > 1 else method
    draw = torch.Generator().manual_seed(7)
    a, b = torch.randn(4 * SAMPLES, DIM, generator=draw), torch.randn(4 * SAMPLES, DIM + 1, generator=draw)
    ids = torch.randint(0, 30, (4 * SAMPLES, 2), generator=draw)
    out = model(tuple(own([a, b, ids])))
    out["loss"].backward()
    gradients = {f"gradient of {key}": p.grad for key, p in method.named_parameters() if p.grad is not None}
    return {"loss": out["loss"].detach(), "loss of a collapse": out["collapse_loss"], **gradients}


def tower(width: int) -> nn.Module:
    encoder = nn.Sequential(nn.Linear(width, 9), nn.Tanh(), nn.Linear(9, 6))
    encoder.dim = 6  # type: ignore[assignment]
    return encoder


def everything() -> dict[str, dict[str, Tensor]]:
    out = {name: play(name) for name in OBJECTIVES}
    for name, loss in LOSSES.items():
        value, gradient = one_pass(loss, *tokens(0))
        out[name] = {"loss": value, "gradient": gradient}
    out |= {f"towers with {name}": aligned(name) for name in ("CLIP", "SigLIP")}
    draw = torch.Generator().manual_seed(9)
    out["sinkhorn"] = {"rows": sinkhorn(own([torch.randn(SAMPLES, 5, generator=draw)])[0])}
    return out


def main(folder: Path, number: int) -> None:
    for world in (2, 4):
        if number >= world:
            continue
        with group(folder, number, count=world):
            torch.save(everything(), folder / f"{number}-of-{world}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
