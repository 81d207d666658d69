"""What decides how good predictions are: accuracy, AUC, or R²; each as a mean over test examples.

What is a mean over examples can be compared in pairs and resampled by groups: one verdict serves all three.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mmssl.eval.features import Labels
from mmssl.eval.interval import Hits


@dataclass(frozen=True)
class Measure:
    """What decides.

    Args:
        id: as records have it.
        name: as a sentence has it.
        of: what is predicted of an example: its class, a score of the second of two classes, or a number.
        parts: (truth, predictions), both ``(m,)``, to the contribution of each example, ``(m,)``; their mean is the
            measure.
        decimals: that are shown; None shows percent.
    """

    id: str
    name: str
    of: Literal["class", "score", "number"]
    parts: Callable[[Labels, npt.NDArray[Any]], Hits]
    decimals: int | None = None

    def show(self, value: float) -> str:
        """A value, ``96.8 %`` or ``0.913``."""
        return f"{self.figure(value)} %" if self.decimals is None else self.figure(value)

    def figure(self, value: float) -> str:
        """A value without a unit."""
        # 96.75 must read the same whether it was averaged over seeds or over examples.
        return f"{round(100 * value, 6):.1f}" if self.decimals is None else f"{round(value, 9):.{self.decimals}f}"

    def change(self, value: float) -> str:
        """A difference of two values with its sign, in percentage points where values are in percent."""
        text = self.figure(value) if value < 0 else "+" + self.figure(value)
        return text[1:] if not float(text) else text.replace("-", "−")

    def size(self, value: float) -> str:
        """A difference without its sign, with its unit."""
        return self.figure(abs(value)) + (" points" if self.decimals is None else "")


def right(truth: Labels, predictions: Labels) -> Hits:
    """Is each class predicted right? The mean is the accuracy."""
    return np.asarray(predictions == truth)


def auc_parts(truth: Labels, scores: npt.NDArray[np.floating[Any]]) -> Hits:
    """What each example contributes to the area under the ROC curve, such that resampling the mean is right.

    An example's placement is the share of the other class that it stands on the right side of, ties counting half; the
    mean placement of either class is the AUC. Deviations from it are weighted by the inverse share of the example's
    class: the variance of the mean is then that of DeLong et al. (Biometrics 44, 1988).

    Raises:
        ValueError: not two classes.
    """
    from scipy.stats import rankdata

    classes, code = np.unique(truth, return_inverse=True)
    if len(classes) != 2:
        raise ValueError(f"AUC is of two classes, and the test examples have {len(classes)}: {classes[:5].tolist()}")
    n = len(truth)
    positive = code == 1
    rank = rankdata(scores)
    placement = np.empty(n)
    for mine in (positive, ~positive):
        below = (rank[mine] - rankdata(scores[mine])) / (n - mine.sum())  # share of the other class
        placement[mine] = below if mine is positive else 1 - below
    auc = placement[positive].mean()
    share = np.where(positive, positive.mean(), 1 - positive.mean())
    parts: Hits = auc + (placement - auc) / share
    return parts


def r2_parts(truth: Labels, predictions: npt.NDArray[np.floating[Any]]) -> Hits:
    """1 − squared error over the variance of the test labels, for each example; the mean is R².

    Raises:
        ValueError: all test examples have the same label.
    """
    variance = float(np.var(truth))
    if variance == 0:
        raise ValueError(f"all {len(truth)} test examples have the label {truth[0]}: R² is not defined")
    parts: Hits = 1 - np.square(truth - predictions) / variance
    return parts


ACCURACY = Measure("accuracy", "accuracy", "class", right)
AUC = Measure("auc", "AUC", "score", auc_parts, decimals=4)
R2 = Measure("r2", "R²", "number", r2_parts, decimals=3)
MEASURES = {measure.id: measure for measure in (ACCURACY, AUC, R2)}
