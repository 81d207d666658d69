"""How much of the training is done, for objectives that change on the way."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Progress(nn.Module):
    """A share in [0, 1] that lives on the host, so that reading it waits for nothing, and in the checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.share = 0.0

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.share, dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        self.share = float(state)
