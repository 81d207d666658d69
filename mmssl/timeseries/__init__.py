"""Series of sensors: readers, windows, encoders and the methods that are their own; `Ts2VecTransformer`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmssl.timeseries.estimators import Ts2VecTransformer

__all__ = ["Ts2VecTransformer"]


def __getattr__(name: str) -> Any:
    """Imports the estimator, and scikit-learn with it, when it is asked for."""
    if name in __all__:
        from mmssl.timeseries import estimators

        return getattr(estimators, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
