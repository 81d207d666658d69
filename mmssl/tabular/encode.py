"""Embeddings of many rows, a bounded number at a time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

ROWS = 8192  # that are encoded at a time


@torch.inference_mode()
def encode_rows(encoder: nn.Module, x: npt.NDArray[np.float32], *, rows: int = ROWS) -> npt.NDArray[np.float32]:
    """``(n, M)`` model input to ``(n, dim)``.

    Args:
        encoder: set to evaluation mode by this.
        x: from a `TablePreprocessor`.
        rows: encoded at a time.
    """
    encoder.eval()
    device = next(encoder.parameters()).device
    out = np.empty((len(x), int(encoder.dim)), dtype=np.float32)  # type: ignore[arg-type]
    for i in range(0, len(x), rows):
        batch = torch.from_numpy(np.ascontiguousarray(x[i : i + rows])).to(device)
        out[i : i + rows] = encoder(batch).float().cpu().numpy()
    return out
