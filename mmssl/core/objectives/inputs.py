"""What objectives ask of their inputs: checks of values and shapes, and the precision to compute in."""

from __future__ import annotations

import warnings

import torch.nn.functional as F
from torch import Tensor

from mmssl.core.distributed import world_size


def check_positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name} must be positive, got {value}")


def check_not_negative(name: str, value: float) -> None:
    if not value >= 0:
        raise ValueError(f"{name} must not be negative, got {value}")


def check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must lie in [0, 1], got {value}")


def check_temperature(temperature: float) -> None:
    """Of a contrastive loss: positive, and a warning where it leaves the range in which such losses learn."""
    check_positive("temperature", temperature)
    reason = ""
    if temperature < 0.05:
        reason = "below 0.05 the softmax is so sharp that single pairs decide the loss"
    elif temperature > 1:
        reason = "above 1 the softmax is so flat that similar negatives count hardly more than others"
    if reason:
        warnings.warn(f"temperature={temperature}: {reason}; 0.07 to 0.5 is usual", UserWarning, stacklevel=3)


def check_views(
    views: list[Tensor], *, name: str, least: int = 1, most: int | None = None, dim: int | None = None
) -> None:
    """There must be ``least`` to ``most`` views, all of one shape ``(B, dim)``."""
    if len(views) < least or (most is not None and len(views) > most):
        number = f"exactly {least}" if most == least else f"at least {least}"
        raise ValueError(f"{name} needs {number} view{'s' if least > 1 else ''} of each sample, got {len(views)}")
    shapes = [tuple(view.shape) for view in views]
    if len(shapes[0]) != 2 or len(set(shapes)) > 1 or shapes[0][1] != (dim or shapes[0][1]):
        wanted = f"(B, {dim or 'D'})"
        raise ValueError(f"{name} needs embeddings of one shape {wanted}, got {', '.join(map(str, shapes))}")


def check_batch(samples: int, *, name: str, why: str) -> None:
    """There must be more than one sample over all ranks; ``samples`` are those of this rank."""
    if samples * world_size() < 2:
        raise ValueError(f"{name} was given a batch of one sample, {why}: use a batch of at least 2")


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision is cast up; float64 stays."""
    return x if x.element_size() > 4 else x.float()


def unit(x: Tensor) -> Tensor:
    """Vectors of length 1, in float32 or float64."""
    return F.normalize(at_least_float32(x), dim=-1)
