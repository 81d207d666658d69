"""mmssl: self-supervised pretraining on your own data, with an honest answer to "did it help?".

Importing the package is instant: torch and everything else heavy is imported by the part that needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from os import PathLike

    from mmssl.core.types import Embedder

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(run: str | PathLike[str], *, device: str = "cpu") -> Embedder:
    """Open the encoder of a finished run, ready to embed new data.

    Args:
        run: the run folder that a recipe printed (`runs/<recipe>/<time>`).
        device: where to compute, for example ``"cpu"`` or ``"cuda"``.

    Returns:
        An embedder; ``load(run).embed(data)`` gives one row of features an entity and window.

    Raises:
        FileNotFoundError: ``run`` holds no exported encoder.
        ValueError: the export was written by an incompatible version.
    """
    from mmssl.train.export import load_embedder

    return load_embedder(run, device=device)
