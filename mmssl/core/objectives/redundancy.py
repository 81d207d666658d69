"""Redundancy reduction: Barlow Twins and VICReg, without negatives, over the batch of all ranks."""

from __future__ import annotations

import torch
from torch import Tensor

from mmssl.core.distributed import gather
from mmssl.core.objectives.inputs import at_least_float32, check_batch, check_not_negative, check_views
from mmssl.core.objectives.objective import Objective


class BarlowTwins(Objective):
    """Cross-correlation of two views towards the identity (Zbontar et al., ICML 2021, arXiv 2103.03230, equation 1).

    Σ_i (1 − C_ii)² + λ Σ_{i≠j} C_ij², with C over the samples of all ranks. As in the authors' code, columns are
    standardised by their biased variance plus 1e-5, and C is the mean over samples.

    Args:
        lambd: weight λ of the redundancy term.
    """

    def __init__(self, lambd: float = 0.0051) -> None:
        super().__init__()
        check_not_negative("lambd", lambd)
        self.lambd = lambd

    def forward(self, z: list[Tensor], t: list[Tensor]) -> Tensor:
        x, y = _two_views(z, "Barlow Twins")
        with torch.autocast(x.device.type, enabled=False):
            x, y = (_standardised(gather(at_least_float32(view))) for view in (x, y))  # (N, D)
            invariance = (1 - (x * y).mean(dim=0)).square().sum()
            return invariance + self.lambd * _off_diagonal(x / len(x), y)


class VICReg(Objective):
    """Invariance, variance and covariance (Bardes et al., ICLR 2022, arXiv 2105.04906, equation 6).

    invariance · mean (x − y)² + variance · mean over views and dimensions of max(0, 1 − √(Var + 1e-4)) +
    covariance · Σ over views of Σ_{i≠j} Cov_ij² / D. As in the authors' code, Var and Cov divide by N − 1, N being
    the samples of all ranks, and the variance term is a mean over the two views where the covariance term is a sum.

    Args:
        invariance: weight of the mean squared distance of the views.
        variance: weight of the hinge on the standard deviations.
        covariance: weight of the off-diagonal covariances.
    """

    def __init__(self, *, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0) -> None:
        super().__init__()
        weights = {"invariance": invariance, "variance": variance, "covariance": covariance}
        for name, value in weights.items():
            check_not_negative(name, value)
        self.invariance, self.variance, self.covariance = invariance, variance, covariance

    def forward(self, z: list[Tensor], t: list[Tensor]) -> Tensor:
        x, y = _two_views(z, "VICReg")
        with torch.autocast(x.device.type, enabled=False):
            x, y = at_least_float32(x), at_least_float32(y)
            distance = (x - y).square().mean()
            hinge, spill = x.new_zeros(()), x.new_zeros(())
            for view in (gather(x), gather(y)):
                hinge = hinge + (1 - (view.var(dim=0) + 1e-4).sqrt()).relu().mean() / 2
                centred = view - view.mean(dim=0)
                spill = spill + _off_diagonal(centred / (len(view) - 1), centred) / view.shape[1]
            return self.invariance * distance + self.variance * hinge + self.covariance * spill


def _two_views(z: list[Tensor], name: str) -> tuple[Tensor, Tensor]:
    check_views(z, name=name, least=2, most=2)
    check_batch(len(z[0]), name=name, why="which has no variance")
    return z[0], z[1]


def _standardised(x: Tensor) -> Tensor:
    """Columns of ``(N, D)`` to mean 0 and variance 1, both over N."""
    variance, mean = torch.var_mean(x, dim=0, correction=0)
    return (x - mean) * (variance + 1e-5).rsqrt()


def _off_diagonal(x: Tensor, y: Tensor) -> Tensor:
    """Σ_{i≠j} (xᵀy)_ij² for two ``(N, D)``.

    Σ_ij (xᵀy)_ij² is Σ_nm (x xᵀ)_nm (y yᵀ)_nm: where there are few samples for the dimensions, that is less work.
    """
    if 2 * len(x) < x.shape[1]:  # two N × N products for one D × D
        whole = ((x @ x.T) * (y @ y.T)).sum()
        return whole - (x * y).sum(dim=0).square().sum()
    return (x.T @ y).fill_diagonal_(0.0).square().sum()
