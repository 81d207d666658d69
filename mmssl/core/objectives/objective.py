"""What a joint-embedding method asks of its objective."""

from __future__ import annotations

from torch import Tensor, nn


class Objective(nn.Module):
    """A loss over the embeddings of several views of the same samples; subclasses define `forward`.

    Prototypes are its parameters; a queue or a centre are its buffers. `forward` changes neither: it may remember what
    it saw, and `after_step` takes that into the state, once for each step of the optimiser.
    """

    def forward(self, z: list[Tensor], t: list[Tensor]) -> Tensor:
        """A scalar in float32, the mean over this rank's samples of a loss that sees the samples of all ranks.

        Args:
            z: for each view ``(B, D)``, with a gradient; full-size views first.
            t: for each full-size view ``(B, D)``, the targets: from a teacher, or without a gradient. Empty for
                objectives that compare views directly.
        """
        raise NotImplementedError

    def after_step(self, progress: float, skipped: Tensor) -> None:
        """See `mmssl.core.types.Method.after_step`."""

    def collapse_loss(self, batch: int) -> float | None:
        """The value of the loss if all embeddings were the same; None where that is no sign of a collapse.

        Args:
            batch: samples over all ranks.
        """
        return None

    def health(self) -> dict[str, Tensor]:
        """Detached scalars of the last `forward` that tell a collapse, such as the entropy of a teacher."""
        return {}
