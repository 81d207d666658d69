"""How logistic regression is fitted; its predictions are held against scikit-learn's in test_protocols.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mmssl.eval.linear import fit_logistic


def test_a_small_fit_takes_one_thread_and_leaves_the_number_as_it_was() -> None:
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_info

    def threads() -> list[int]:
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    before, within = threads(), []

    class Watched(LogisticRegression):
        def fit(self, *args: Any, **kwargs: Any) -> Any:
            within.extend(threads())
            return super().fit(*args, **kwargs)

    x, y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sklearn.linear_model.LogisticRegression", Watched)
        fit_logistic(x, y, 1.0)
    assert within
    assert set(within) == {1}
    assert threads() == before
