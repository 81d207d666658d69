"""Smooth random curves: cubic splines through equally spaced knots, as one matrix."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


def smooth_curves(shape: tuple[int, ...], steps: int, knots: int, device: torch.device) -> Tensor:
    """Cubic splines through standard normal values: ``(*shape, steps)`` float32.

    Args:
        shape: how many curves.
        steps: points of a curve.
        knots: between both ends, which are knots as well.
        device: where they are drawn.
    """
    return torch.randn(*shape, knots + 2, device=device) @ spline_basis(steps, knots + 2, device).T


@lru_cache(maxsize=64)
def spline_basis(steps: int, knots: int, device: torch.device) -> Tensor:
    """The matrix ``(steps, knots)`` float32 from values at equally spaced knots to the cubic spline through them.

    The spline is the "not-a-knot" one, whose third derivative is continuous at the first and last inner knot. The first
    and the last step are knots.
    """
    second = torch.eye(knots, dtype=torch.float64) * 4  # of the second derivatives M: M[i-1] + 4 M[i] + M[i+1] = …
    second += torch.diag(torch.ones(knots - 1, dtype=torch.float64), 1)
    second += torch.diag(torch.ones(knots - 1, dtype=torch.float64), -1)
    values = 6 * (second - 6 * torch.eye(knots, dtype=torch.float64))  # … 6 (y[i-1] - 2 y[i] + y[i+1])
    for end, sign in ((0, 1), (knots - 1, -1)):
        second[end] = values[end] = 0.0
        second[end, end], second[end, end + sign], second[end, end + 2 * sign] = 1.0, -2.0, 1.0
    curvature = torch.linalg.solve(second, values)  # (knots, knots): M from y

    place = torch.linspace(0, knots - 1, steps, dtype=torch.float64)
    left = place.floor().clamp(max=knots - 2).long()
    b = (place - left)[:, None]
    a = 1 - b
    unit = torch.eye(knots, dtype=torch.float64)
    bent = (a**3 - a) / 6 * curvature[left] + (b**3 - b) / 6 * curvature[left + 1]
    return (a * unit[left] + b * unit[left + 1] + bent).float().to(device)
