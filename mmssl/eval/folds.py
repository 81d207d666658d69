"""Support vector machine in ten folds: how unsupervised methods are scored on the graphs of TUDataset.

The protocol of InfoGraph (Sun et al., ICLR 2020) and GraphCL (You et al., NeurIPS 2020): an encoder that has seen all
graphs without their labels, ten stratified folds, an RBF machine whose C is chosen in an inner cross-validation of the
other nine. Features are not standardised.

Differs from GraphCL's code, which looks at the accuracy after every tenth epoch: here, the last epoch counts.
"""

from __future__ import annotations

import numpy as np

from mmssl.eval import svm
from mmssl.eval.features import Features, Labels, check_features, check_labels, few_examples

FOLDS = 10
PENALTIES = tuple(10.0**e for e in range(-3, 4))
PROTOCOL = "svm-10fold/1"


def svm_in_folds(x: Features, y: Labels, *, seed: int = 0) -> Labels:
    """Predict every example by a machine that was fitted to the other nine tenths.

    Args:
        x: ``(n, D)``.
        y: ``(n,)`` codes or names.
        seed: of the folds.

    Returns:
        ``(n,)`` predicted classes.

    Raises:
        ValueError: a value that is not finite, one class only, or a class with fewer examples than there are folds.
    """
    from sklearn.model_selection import StratifiedKFold

    check_features(x)
    check_labels(y, len(x), "labels")
    classes, counts = np.unique(y, return_counts=True)
    if counts.min() < FOLDS:
        raise ValueError(
            f"class {classes[counts.argmin()]} has {counts.min()} examples, fewer than {FOLDS} folds: hold a "
            "part out at random instead (data.split=random)"
        )
    predicted = np.empty_like(y)
    distances = svm.squared_distances(x, x)
    with few_examples():
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(x, y)
        for train, test in folds:
            known = distances[np.ix_(train, train)]
            penalty = svm.choose_penalty(x[train], y[train], known, PENALTIES)
            gamma = svm.gamma_of(x[train])
            machine = svm.fit(svm.kernel_of(known, gamma), y[train], penalty)
            assert machine is not None  # a finite C always has a solution
            predicted[test] = machine.predict(svm.kernel_of(distances[np.ix_(test, train)], gamma))
    return predicted
