"""Encoders of log-mel frames: a small convolutional network, and a transformer over patches.

Both are called with ``(B, frames, mels)``, NaN after the end of a clip, and give ``(B, dim)``; what stands after the
end never changes an output.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmssl.audio.clips import lengths
from mmssl.audio.wav2vec2_encoder import Wav2Vec2Encoder
from mmssl.core.transformer import Block, init_linear, sincos_2d


class MelConv(nn.Module):
    """A small network like that of BYOL-A (Niizumi et al., IJCNN 2021, arXiv 2103.06695).

    Convolutions with batch normalisation, an MLP on every frame of what is left, and maximum plus mean over time, as in
    BYOL-A v2 (arXiv 2204.07402). Frames after the end of a clip are zero before every convolution, which is what its
    own padding is; batch normalisation counts them in training.

    Differs from the paper in that convolutions have a stride of 2 where it has pooling after 64 channels at full size,
    which takes a tenth of the time.

    Args:
        mels: bands of the input.
        widths: channels of each convolution; each halves time and frequency.
        dim: of the output; 512 to 2,048 in the paper.
        dropout: in the MLP; .3 in the paper.
    """

    def __init__(
        self, mels: int = 64, *, widths: Sequence[int] = (16, 32, 64), dim: int = 512, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if not widths or mels < 2 ** len(widths):
            raise ValueError(f"{len(widths)} convolutions need at least {2 ** len(widths)} mels, got {mels}")
        self.arguments: dict[str, Any] = {"mels": mels, "widths": list(widths), "dim": dim, "dropout": dropout}
        self.dim = dim
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False) for a, b in pairwise([1, *widths])
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths)
        bands = -(-mels // 2 ** len(widths))
        self.mlp = nn.Sequential(
            nn.Linear(widths[-1] * bands, dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(dim, dim), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        size = lengths(x)  # (B,)
        h = x.nan_to_num(nan=0.0)[:, None]  # (B, 1, F, M)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            size = (size + 1) // 2
            h = F.relu(norm(convolution(h)))
            h = h * _inside(h, size)  # (B, C, F', M')
        h = self.mlp(h.transpose(1, 2).flatten(2))  # (B, F', dim)
        inside = _inside(h[:, None], size)[:, 0]  # (B, F', 1)
        with torch.autocast(h.device.type, enabled=False):
            h = h.float() * inside  # no value is below zero
            return h.amax(dim=1) + h.sum(dim=1) / inside.sum(dim=1).clamp(min=1)

    def layers(self) -> list[list[nn.Parameter]]:
        """Parameters from input to output."""
        blocks = zip(self.convolutions, self.norms, strict=True)
        return [[*c.parameters(), *n.parameters()] for c, n in blocks] + [list(self.mlp.parameters())]


class MelTransformer(nn.Module):
    """A vision transformer over patches of a log-mel spectrogram: a `mmssl.core.types.LayeredTokenEncoder`.

    As in "Masked Spectrogram Modeling" (Niizumi et al., 2022, arXiv 2204.12260): patches over time and frequency,
    fixed positions of a grid, a CLS token, and for a clip the mean of its patches. A clip may have any length; its last
    patches are filled up with the mean level.

    Args:
        mels: bands of the input, a multiple of the patch's.
        patch: frames and mels of a patch; 16 × 16 in the paper.
        dim: of tokens and output, a multiple of 4 and of ``heads``.
        depth: blocks.
        heads: of the attention.
    """

    droppable = True
    prefix_tokens = 1

    def __init__(
        self, mels: int = 64, *, patch: Sequence[int] = (4, 16), dim: int = 128, depth: int = 4, heads: int = 4
    ) -> None:
        super().__init__()
        if len(patch) != 2 or min(patch) < 1 or mels % patch[1]:
            raise ValueError(f"patch must be frames and a divisor of the {mels} mels, got {list(patch)}")
        self.arguments: dict[str, Any] = {
            "mels": mels,
            "patch": list(patch),
            "dim": dim,
            "depth": depth,
            "heads": heads,
        }
        self.patch = (patch[0], patch[1])
        self.bands = mels // patch[1]
        self.dim = self.token_dim = dim
        self.target_dim = patch[0] * patch[1]
        self.embed = nn.Linear(self.target_dim, dim)
        self.cls = nn.Parameter(0.02 * torch.randn(dim))
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        init_linear(self.embed)

    def forward(self, x: Tensor) -> Tensor:
        valid = self.valid(x)
        h = self.encode(self.tokenize(x), valid)[:, self.prefix_tokens :]
        inside = valid[..., None]
        return (h * inside).sum(dim=1) / inside.sum(dim=1).clamp(min=1)

    def tokenize(self, x: Tensor) -> Tensor:
        """``(B, F, M)`` to ``(B, N, D)``: all bands of the first frames, then of the next."""
        return self.embed(self.targets(x).nan_to_num(nan=0.0)) + self.positions(x)

    def positions(self, x: Tensor) -> Tensor:
        """``(N, D)``."""
        return grid_positions(-(-x.shape[1] // self.patch[0]), self.bands, self.dim, x.device)

    def valid(self, x: Tensor) -> Tensor:
        """``(B, N)``, False for patches that begin after the end of a clip. Always a tensor: nobody asks a GPU."""
        patches = -(-lengths(x) // self.patch[0])
        at = torch.arange(-(-x.shape[1] // self.patch[0]), device=x.device)
        return (at < patches[:, None]).repeat_interleave(self.bands, dim=1)

    def encode(self, tokens: Tensor, valid: Tensor | None = None) -> Tensor:
        h, valid = self._with_cls(tokens, valid)
        for block in self.blocks:
            h = block(h, valid)
        return self.norm(h)

    def encode_layers(self, tokens: Tensor, valid: Tensor | None = None) -> list[Tensor]:
        """The output of every block, without the last norm."""
        h, valid = self._with_cls(tokens, valid)
        outputs: list[Tensor] = []
        for block in self.blocks:
            h = block(h, valid)
            outputs.append(h)
        return outputs

    def targets(self, x: Tensor) -> Tensor:
        """Values of each patch, frame by frame: ``(B, F, M)`` to ``(B, N, frames · mels)``; NaN after the end."""
        frames, mels = self.patch
        x = F.pad(x, (0, 0, 0, -x.shape[1] % frames), value=math.nan)
        return x.unflatten(2, (-1, mels)).unflatten(1, (-1, frames)).transpose(2, 3).flatten(3).flatten(1, 2)

    def spectrograms(self, targets: Tensor) -> Tensor:
        """The inverse of `targets`, in whole patches: ``(B, N, frames · mels)`` to ``(B, F, M)``."""
        x = targets.unflatten(1, (-1, self.bands)).unflatten(3, self.patch)  # (B, T, bands, frames, mels)
        return x.transpose(2, 3).flatten(3).flatten(1, 2)

    def layers(self) -> list[list[nn.Parameter]]:
        """Parameters from input to output."""
        first = [*self.embed.parameters(), self.cls]
        return [first, *(list(block.parameters()) for block in self.blocks), list(self.norm.parameters())]

    def _with_cls(self, tokens: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor | None]:
        h = torch.cat([self.cls.to(tokens.dtype).expand(len(tokens), 1, -1), tokens], dim=1)
        return h, None if valid is None else F.pad(valid, (1, 0), value=True)


MEL_ENCODERS: dict[str, Callable[..., nn.Module]] = {"MelConv": MelConv, "MelTransformer": MelTransformer}
ENCODERS: dict[str, Callable[..., nn.Module]] = {**MEL_ENCODERS, "wav2vec2": Wav2Vec2Encoder}  # by name, for recipes


@lru_cache(maxsize=64)
def grid_positions(times: int, bands: int, dim: int, device: torch.device) -> Tensor:
    """``(times · bands, dim)``; kept, because a copy to a GPU waits for it."""
    return sincos_2d(times, bands, dim).to(device)


def _inside(h: Tensor, size: Tensor) -> Tensor:
    """``(B, 1, F, 1)``, 0 after the end of a clip, for ``(B, C, F, M)``."""
    at = torch.arange(h.shape[2], device=h.device)
    return (at < size[:, None]).to(h.dtype)[:, None, :, None]
