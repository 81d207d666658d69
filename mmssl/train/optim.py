"""Optimisers, and which parameters get which learning rate and weight decay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

OPTIMISERS = ("adamw", "adam", "sgd", "lars", "larc")


def build_optimizer(
    name: str,
    params: Iterable[Any],
    *,
    lr: float,
    momentum: float = 0.9,
    betas: tuple[float, float] = (0.9, 0.999),
) -> torch.optim.Optimizer:
    """An optimiser that can leave a step out without waiting for the device (``found_inf``), as `fit` wants it.

    Args:
        name: ``"adamw"``, ``"adam"`` (weight decay inside the gradient), ``"sgd"``, or one of the forms of `LARS`:
            ``"lars"`` scales steps, ``"larc"`` clips them.
        params: parameters, or groups from `decay_groups`.
        lr: of all groups that bring none of their own.
        momentum: of SGD and both forms of LARS.
        betas: of Adam and AdamW.
    """
    params = list(params)
    if name == "adamw":
        return torch.optim.AdamW(params, lr=lr, betas=betas, weight_decay=0.0, fused=True)
    if name == "adam":
        return torch.optim.Adam(params, lr=lr, betas=betas, fused=True)
    if name == "sgd":
        return SGD(params, lr=lr, momentum=momentum, fused=True)
    if name == "lars":
        return LARS(params, lr=lr, momentum=momentum)
    if name == "larc":
        return LARS(params, lr=lr, momentum=momentum, variant="clip")
    raise ValueError(f"optimizer must be one of {', '.join(OPTIMISERS)}, got {name!r}")


class SGD(torch.optim.SGD):
    """Torch's, with a momentum that starts at 0.

    Torch takes the first gradient for it instead, which is the same; but if the first step is left out (``found_inf``),
    its fused form goes on with whatever lay in that memory.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for p in group["params"] if group["momentum"] else ():
                if p.grad is not None and "momentum_buffer" not in self.state[p]:
                    self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        return super().step(closure)


def decay_groups(
    module: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    decay_all: bool = False,
    layers: Sequence[Sequence[nn.Parameter]] = (),
    layer_decay: float = 1.0,
) -> list[dict[str, Any]]:
    """Parameters of ``module`` that want a gradient, as groups with their own learning rate and weight decay.

    Args:
        module: what is trained.
        lr: of what is not in ``layers``, and of the last of them.
        weight_decay: of matrices, kernels and tokens.
        decay_all: weight decay for biases and norms, too (1-d parameters), as SGD recipes have it.
        layers: an encoder's parameters from input to output, for ``layer_decay``.
        layer_decay: each of ``layers`` learns at this share of the rate of the next (BEiT, Bao et al., ICLR 2022).
    """
    depth = {id(p): len(layers) - 1 - i for i, layer in enumerate(layers) for p in layer}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for p in module.parameters():
        if p.requires_grad:
            decay = weight_decay if decay_all or p.ndim > 1 else 0.0
            groups.setdefault((lr * layer_decay ** depth.get(id(p), 0), decay), []).append(p)
    if not groups:
        raise ValueError("nothing to train: no parameter wants a gradient")
    return [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]


class LARS(torch.optim.Optimizer):
    """SGD whose step for each matrix is in proportion to the norm of that matrix (You et al., 2017, arXiv 1708.03888).

    Two forms are in use, and their learning rates have nothing to do with each other. Biases and norms (1-d parameters)
    get plain SGD in both.

    - ``"scale"`` (SimCLR, BYOL, Barlow Twins, VICReg): g' = g + wd · w, multiplied by η ‖w‖ / ‖g'‖, η = 0.001.
    - ``"clip"`` (LARC of apex, in many reproductions on CIFAR): g + wd · w, multiplied by
      min(1, η ‖w‖ / (‖g‖ + wd ‖w‖) / lr), η = 0.02; it only ever makes a step smaller.

    Like torch's fused optimisers it changes nothing where ``found_inf`` is set.

    Args:
        params: parameters or groups.
        lr: learning rate.
        momentum: of the accumulated step.
        weight_decay: wd.
        variant: see above.
        trust: η; 0.001 for ``"scale"`` and 0.02 for ``"clip"`` by default.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        variant: Literal["scale", "clip"] = "scale",
        trust: float | None = None,
    ) -> None:
        if variant not in ("scale", "clip"):
            raise ValueError(f"variant must be 'scale' or 'clip', got {variant!r}")
        if trust is None:
            trust = 0.001 if variant == "scale" else 0.02
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "variant": variant,
            "trust": trust,
            "fused": True,  # says that found_inf is looked at
        }
        super().__init__(params, defaults)
        self.found_inf: Tensor | None = None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._step(p, p.grad, group)

    def _step(self, p: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        decay, lr = group["weight_decay"], group["lr"]
        d = grad.add(p, alpha=decay) if decay else grad
        if p.ndim > 1:
            w = torch.linalg.vector_norm(p)
            if group["variant"] == "scale":
                rate = group["trust"] * w / torch.linalg.vector_norm(d)
            else:
                total = torch.linalg.vector_norm(grad) + decay * w
                rate = (group["trust"] * w / (total * lr)).clamp(max=1.0)
            d = d * torch.where(rate.isfinite() & (rate > 0), rate, 1.0)  # a matrix of zeros, or no gradient
        state = self.state[p]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(p)
        new = group["momentum"] * state["momentum_buffer"] + d
        if self.found_inf is not None:
            bad = self.found_inf.bool()
            step = torch.where(bad, 0.0, new)
            new = torch.where(bad, state["momentum_buffer"], new)
        else:
            step = new
        state["momentum_buffer"].copy_(new)
        p.add_(step, alpha=-lr)
