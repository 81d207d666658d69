"""Pairs of a view's output and the target of another view of the same samples."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def targets_of_others(outputs: int, targets: int) -> list[list[int]]:
    """For each output, the targets that come from another view.

    Output i and target i are of the same view. One output and one target alone are taken for those of two views, as
    in the asymmetric MoCo.

    Raises:
        ValueError: there is no pair.
    """
    if outputs == targets == 1:
        return [[0]]
    if outputs < 1 or targets < 1:
        raise ValueError(f"each output needs the target of another view, got {outputs} outputs and {targets} targets")
    return [[j for j in range(targets) if j != i] for i in range(outputs)]


def cross_view_entropy(logits: list[Tensor], targets: list[Tensor]) -> Tensor:
    """Mean, over all pairs and samples, of the cross-entropy of a view's softmax with the target of another view.

    Args:
        logits: ``(B, K)`` for each view.
        targets: probabilities ``(B, K)`` for each of the first views, without a gradient.
    """
    terms, pairs = [], 0
    for x, others in zip(logits, targets_of_others(len(logits), len(targets)), strict=True):
        if others:  # cross-entropy is linear in the target: one product for all of them
            terms.append(F.cross_entropy(x, torch.stack([targets[j] for j in others]).sum(dim=0)))
            pairs += len(others)
    return torch.stack(terms).sum() / pairs
