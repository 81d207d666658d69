"""The protocols that hold the parts together; each is what the other side is allowed to know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, Self, runtime_checkable

from torch import Tensor, nn

Augmentation = Callable[[Any], Any]  # batched, per-sample random, on any device, never in place; strength 0 is identity


class Encoder(Protocol):
    """What is pretrained, exported and probed; an `nn.Module`."""

    dim: int

    def __call__(self, x: Tensor) -> Tensor: ...  # (B, dim)


@runtime_checkable
class TokenEncoder(Encoder, Protocol):
    """An encoder in which masking single tokens has a meaning; calling it pools what `encode` gives: ``(B, dim)``."""

    droppable: bool  # may tokens be left out altogether? False for convolutions: their neighbours would move
    prefix_tokens: int  # P tokens that `encode` puts in front, such as CLS
    token_dim: int  # D
    target_dim: int  # of a token in `targets`

    def tokenize(self, x: Any) -> Tensor: ...  # (B, N, D), positions included

    def positions(self, x: Any) -> Tensor: ...  # what `tokenize` added as positions; broadcasts to (B, N, D)

    def valid(self, x: Any) -> Tensor | None: ...  # (B, N) bool, False at padding; None where there can be none

    def encode(self, tokens: Tensor, valid: Tensor | None = None) -> Tensor: ...  # (B, N', D) -> (B, P + N', dim)

    def targets(self, x: Any) -> Tensor: ...  # (B, N, target_dim): pixels, samples, cells; NaN is not measured


@runtime_checkable
class LayeredTokenEncoder(TokenEncoder, Protocol):
    """A token encoder that shows its layers, all of the width of a token."""

    def encode_layers(self, tokens: Tensor, valid: Tensor | None = None) -> list[Tensor]: ...  # each (B, P + N', D)


@runtime_checkable
class Method(Protocol):
    """What the training loop knows of a method; an `nn.Module`.

    `forward` may draw random numbers but must not change any state apart from batch-norm statistics: an optimiser step
    can be skipped (a NaN) or made of several forwards (accumulation). What a step changes besides the gradients, such
    as a teacher, a queue or a centre, changes in `after_step`.
    """

    encoder: Any

    def forward(self, batch: Any) -> dict[str, Tensor]:
        """``"loss"`` with a gradient, and detached scalars to be logged.

        ``"collapse_loss"`` among them is the value that the loss would have if every embedding were the same.
        """

    def after_step(self, progress: float, skipped: Tensor) -> None:
        """Called once after each optimiser step.

        Args:
            progress: share of the training that is done, in (0, 1].
            skipped: 0-dim bool on the device; True where the gradients were not finite and no weight changed. It is a
                tensor so that nobody has to wait for the device: multiply by it.
        """

    def export(self) -> nn.Module:
        """The encoder that a user gets: the averaged or teacher weights where the method keeps them."""


class Preprocessor(Protocol):
    """Turns raw tables, files or arrays into model input; fitted on training data only."""

    def fit(self, raw: Any) -> Self: ...

    def __call__(self, raw: Any) -> Any: ...

    def state(self) -> dict[str, Any]: ...  # JSON: columns, units, scalers, vocabularies with MISSING and UNSEEN, rates


class Embedder(Protocol):
    """A finished encoder with its preprocessing; what `mmssl.load` returns."""

    @property
    def dim(self) -> int: ...

    def embed(self, data: Any) -> Any: ...  # a pandas DataFrame, one row of features an entity and window
