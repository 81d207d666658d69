"""Tables of numbers, categories, dates and missing cells; `ScarfTransformer` and `VimeTransformer` for scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmssl.tabular.estimators import ScarfTransformer, VimeTransformer

__all__ = ["ScarfTransformer", "VimeTransformer"]


def __getattr__(name: str) -> Any:
    """Imports the estimators, and scikit-learn with them, when they are asked for."""
    if name in __all__:
        from mmssl.tabular import estimators

        return getattr(estimators, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
