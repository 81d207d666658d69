"""The encoder of wav2vec 2.0 and HuBERT: convolutions over samples, then a transformer (Baevski et al., 2006.11477).

Differs from the published models in one point, which they only show where clips are padded: their first norm averages
over time, padding included, so that the same clip has other features in another batch. Here that norm is masked, and
what comes after the end of a clip (NaN) never changes an output.

Modules are called as in transformers' Wav2Vec2Model, so that published weights need little renaming
(`mmssl.audio.wav2vec2_checkpoint`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmssl.audio.clips import lengths

Convs = Sequence[Sequence[int]]  # (width, kernel, stride) of each layer

BASE: Convs = ((512, 10, 5), *4 * ((512, 3, 2),), *2 * ((512, 2, 2),))  # one frame each 320 samples, which sees 400


def conv_stack(rate: int, *, frame_rate: float = 50, width: int = 512) -> list[list[int]]:
    """The paper's convolutions for any sampling rate: a stride of 5, then as many of 2 as come near ``frame_rate``.

    Args:
        rate: samples a second.
        frame_rate: frames a second; 50 in the paper, where it gives ``BASE`` at 16 kHz.
        width: of all layers.

    Raises:
        ValueError: there are not that many samples.
    """
    if rate < 10 * frame_rate:
        raise ValueError(f"{frame_rate:g} frames a second need {10 * frame_rate:g} samples a second, got {rate}")
    halvings = max(1, round(math.log2(rate / (5 * frame_rate))))
    return [[width, 10, 5], *([width, 3 if i < halvings - 2 else 2, 2] for i in range(halvings))]


class Wav2Vec2Encoder(nn.Module):
    """Waveforms ``(B, samples)``, NaN after the end of a clip, to one vector each: ``(B, dim)``.

    A `LayeredTokenEncoder` whose tokens, the frames, may not be left out: positions are a convolution over them. A clip
    that is shorter than the receptive field is one frame, with silence after its end.

    Args:
        convs: (width, kernel, stride) of each convolution; `conv_stack` for a sampling rate.
        dim: D, width of the transformer.
        depth: its layers.
        heads: of the attention.
        hidden: width of the feed-forward layers; None: 4 · dim.
        position_kernel: frames that the convolutional positions see.
        position_groups: its groups.
        dropout: of attention weights and of what is added to a layer's input.
        layerdrop: probability with which a layer is left out in training. It is worked out all the same, so that every
            process has a gradient for every parameter.
        large: the form of the large models: a layer norm after every convolution instead of a norm over time after the
            first one, and in the transformer before attention and feed-forward instead of after them.
        conv_bias: of the convolutions.
        pool: what represents a clip: the ``"mean"`` of its frames in the last layer; or ``"statistics"``, mean and
            standard deviation of the average of all layers, which makes ``dim`` twice the width. Methods of the core
            that predict tokens want the mean.
    """

    droppable = False
    prefix_tokens = 0

    def __init__(
        self,
        convs: Convs = BASE,
        *,
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        hidden: int | None = None,
        position_kernel: int = 128,
        position_groups: int = 16,
        dropout: float = 0.1,
        layerdrop: float = 0.05,
        large: bool = False,
        conv_bias: bool = False,
        pool: str = "mean",
    ) -> None:
        super().__init__()
        if pool not in ("mean", "statistics"):
            raise ValueError(f"pool must be mean or statistics, got {pool!r}")
        self.arguments: dict[str, Any] = {
            "convs": [list(conv) for conv in convs],
            "dim": dim,
            "depth": depth,
            "heads": heads,
            "hidden": hidden,
            "position_kernel": position_kernel,
            "position_groups": position_groups,
            "dropout": dropout,
            "layerdrop": layerdrop,
            "large": large,
            "conv_bias": conv_bias,
            "pool": pool,
        }
        self.token_dim = dim
        self.dim = dim if pool == "mean" else 2 * dim
        self.feature_dim = convs[-1][0]  # C
        self.strides = [(kernel, stride) for _, kernel, stride in convs]
        self.hop = self.target_dim = math.prod(stride for _, stride in self.strides)  # samples from frame to frame
        self.receptive_field = 1 + sum(
            (kernel - 1) * math.prod(stride for _, stride in self.strides[:i])
            for i, (kernel, _) in enumerate(self.strides)
        )
        self.feature_extractor = ConvStack(convs, large=large, bias=conv_bias)
        self.feature_projection = Projection(self.feature_dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.encoder = Transformer(
            dim,
            depth,
            heads,
            4 * dim if hidden is None else hidden,
            PositionalConv(dim, position_kernel, position_groups),
            dropout=dropout,
            layerdrop=layerdrop,
            norm_first=large,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Statistics over the frames of each clip, float32."""
        valid = self.valid(x)
        layers = self.encode_layers(self.tokenize(x), valid)
        if self.arguments["pool"] == "mean":
            return mean_over_frames(layers[-1], valid)
        h = torch.stack(layers).float().mean(dim=0)
        mean = mean_over_frames(h, valid)
        variance = mean_over_frames((h - mean[:, None]).square(), valid)
        return torch.cat([mean, (variance + 1e-6).sqrt()], dim=1)

    def frames(self, samples: Tensor) -> Tensor:
        """Frames of clips with so many samples, 1 at least: int64 of the same shape."""
        samples = samples.clamp(min=self.receptive_field)
        for kernel, stride in self.strides:
            samples = (samples - kernel) // stride + 1
        return samples

    def frame_count(self, samples: int) -> int:
        """`frames` of one number."""
        return int(self.frames(torch.tensor(samples)))

    def features(self, x: Tensor) -> Tensor:
        """What the convolutions make of the samples: ``(B, N, C)``; finite, but of no meaning, after the end."""
        samples = lengths(x).clamp(min=self.receptive_field)
        x = F.pad(x.nan_to_num(nan=0.0), (0, max(0, self.receptive_field - x.shape[1])))
        return self.feature_extractor(x, samples)

    def project(self, features: Tensor) -> Tensor:
        """``(B, N, C)`` to tokens ``(B, N, D)``."""
        return self.dropout(self.feature_projection(features))

    def tokenize(self, x: Tensor) -> Tensor:
        return self.project(self.features(x))

    def positions(self, x: Tensor) -> Tensor:
        """Nothing is added to tokens: the transformer starts with a convolution that tells where a frame is."""
        return x.new_zeros(1, 1, self.token_dim)

    def valid(self, x: Tensor) -> Tensor:
        """``(B, N)`` bool, False after the end of a clip. Always a tensor: nobody asks a GPU about padding."""
        frames = torch.arange(self.frame_count(x.shape[1]), device=x.device)
        return frames < self.frames(lengths(x))[:, None]

    def targets(self, x: Tensor) -> Tensor:
        """The first samples of each frame, ``(B, N, hop)``, so that each is in one; NaN after the end of a clip."""
        missing = self.frame_count(x.shape[1]) * self.hop - x.shape[1]
        return F.pad(x, (0, missing), value=math.nan).unflatten(1, (-1, self.hop))

    def encode(self, tokens: Tensor, valid: Tensor | None = None) -> Tensor:
        """The transformer: ``(B, N, D)`` to ``(B, N, D)``; nobody looks at tokens where ``valid`` is False."""
        return self.encoder(tokens, valid)[-1]

    def encode_layers(self, tokens: Tensor, valid: Tensor | None = None) -> list[Tensor]:
        """Outputs of all layers, each ``(B, N, D)``, the last one as `encode` gives it; arguments as there."""
        return self.encoder(tokens, valid)

    def layers(self) -> list[list[nn.Parameter]]:
        """For fine-tuning, from input to output: convolutions, what comes before the transformer, its layers."""
        transformer = self.encoder
        before = [self.feature_projection, transformer.pos_conv, transformer.layer_norm]
        return [
            list(self.feature_extractor.parameters()),
            [p for module in before for p in module.parameters()],
            *(list(layer.parameters()) for layer in transformer.layers),
        ]


def mean_over_frames(h: Tensor, valid: Tensor) -> Tensor:
    """``(B, N, D)`` to ``(B, D)`` float32, over the frames that are ``valid``, ``(B, N)``."""
    weight = valid.float() / valid.sum(dim=1, keepdim=True)
    with torch.autocast(h.device.type, enabled=False):
        return (weight[:, None] @ h.float()).squeeze(1)


class ConvStack(nn.Module):
    """Samples ``(B, S)`` to features ``(B, N, C)``, without padding."""

    def __init__(self, convs: Convs, *, large: bool, bias: bool) -> None:
        super().__init__()
        widths = [1, *(width for width, _, _ in convs)]
        self.conv_layers = nn.ModuleList(
            ConvLayer(
                nn.Conv1d(widths[i], width, kernel, stride, bias=bias),
                ChannelNorm(width) if large else TimeNorm(width) if i == 0 else None,
            )
            for i, (width, kernel, stride) in enumerate(convs)
        )

    def forward(self, x: Tensor, samples: Tensor) -> Tensor:
        """``samples`` ``(B,)`` are those of each clip."""
        x = x[:, None]
        for layer in self.conv_layers:
            x, samples = layer(x, samples)
        return x.transpose(1, 2)


class ConvLayer(nn.Module):
    """Convolution, norm if there is one, GELU."""

    def __init__(self, conv: nn.Conv1d, norm: nn.Module | None) -> None:
        super().__init__()
        nn.init.kaiming_normal_(conv.weight)
        self.conv = conv
        self.layer_norm = norm

    def forward(self, x: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, C, T)`` of which ``steps`` ``(B,)`` are no padding, to the same of the next layer."""
        x = self.conv(x)
        steps = (steps - self.conv.kernel_size[0]) // self.conv.stride[0] + 1
        if self.layer_norm is not None:
            x = self.layer_norm(x, steps)
        return F.gelu(x), steps


class TimeNorm(nn.Module):
    """Each channel of each clip to mean 0 and variance 1 over time, in float32: group norm with a group a channel.

    Padding does not count, which makes it a *masked* group norm.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, steps: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            wide = x.float()
            inside = torch.arange(x.shape[2], device=x.device) < steps[:, None]
            weight = (inside / steps[:, None])[..., None]  # (B, T, 1)
            mean = wide @ weight  # (B, C, 1)
            centred = wide - mean
            variance = centred.square() @ weight
            scale = self.weight[:, None] * (variance + 1e-5).rsqrt()
            return torch.addcmul(self.bias[:, None], centred, scale).to(x.dtype)


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of ``(B, C, T)``."""

    def forward(self, x: Tensor, steps: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class Projection(nn.Module):
    """Layer norm and a linear layer: ``(B, N, C)`` to ``(B, N, D)``."""

    def __init__(self, features: int, dim: int) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(features)
        self.projection = init_linear(nn.Linear(features, dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.projection(self.layer_norm(x))


class Transformer(nn.Module):
    """Positions by a convolution, then layers of attention and feed-forward; see `Wav2Vec2Encoder`."""

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        hidden: int,
        positions: PositionalConv,
        *,
        dropout: float,
        layerdrop: float,
        norm_first: bool,
    ) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.layerdrop = layerdrop
        self.pos_conv = positions
        self.layer_norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            Layer(dim, heads, hidden, dropout=dropout, norm_first=norm_first) for _ in range(depth)
        )

    def forward(self, x: Tensor, valid: Tensor | None) -> list[Tensor]:
        """``(B, N, D)`` to the outputs of all layers."""
        if valid is not None:
            x = x.masked_fill(~valid[..., None], 0.0)  # as the convolution's own padding
        x = x + self.pos_conv(x)
        x = self.dropout(x if self.norm_first else self.layer_norm(x))
        out: list[Tensor] = []
        for layer in self.layers:
            y = layer(x, valid)
            if self.training and self.layerdrop:
                y = torch.where(torch.rand((), device=x.device) < self.layerdrop, x, y)
            x = y
            out.append(x)
        if self.norm_first:
            out[-1] = self.layer_norm(x)
        return out


class PositionalConv(nn.Module):
    """A grouped convolution over frames, its weights normalised at each place of the kernel, and GELU."""

    def __init__(self, dim: int, kernel: int, groups: int) -> None:
        super().__init__()
        if dim % groups:
            raise ValueError(f"dim must be a multiple of position_groups, got dim={dim} and position_groups={groups}")
        self.groups = groups
        self.weight_v = nn.Parameter(torch.randn(dim, dim // groups, kernel) * math.sqrt(4 / (kernel * dim)))
        self.weight_g = nn.Parameter(torch.linalg.vector_norm(self.weight_v.detach(), dim=(0, 1), keepdim=True))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.weight_v.shape[-1]
        weight = self.weight_v * (self.weight_g / torch.linalg.vector_norm(self.weight_v, dim=(0, 1), keepdim=True))
        x = F.pad(x.transpose(1, 2), (kernel // 2, (kernel - 1) // 2))
        return F.gelu(F.conv1d(x, weight.to(x.dtype), self.bias, groups=self.groups)).transpose(1, 2)


class Layer(nn.Module):
    """Attention and feed-forward, with a layer norm after, or before, each."""

    def __init__(self, dim: int, heads: int, hidden: int, *, dropout: float, norm_first: bool) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.attention = Attention(dim, heads, dropout=dropout)
        self.layer_norm = nn.LayerNorm(dim)
        self.intermediate_dense = init_linear(nn.Linear(dim, hidden))
        self.output_dense = init_linear(nn.Linear(hidden, dim))
        self.final_layer_norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        if self.norm_first:
            x = x + self.dropout(self.attention(self.layer_norm(x), valid))
            return x + self.feed_forward(self.final_layer_norm(x))
        x = self.layer_norm(x + self.dropout(self.attention(x, valid)))
        return self.final_layer_norm(x + self.feed_forward(x))

    def feed_forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.output_dense(F.gelu(self.intermediate_dense(x))))


class Attention(nn.Module):
    """Self-attention over frames that are no padding."""

    def __init__(self, dim: int, heads: int, *, dropout: float) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim must be a multiple of heads, got dim={dim} and heads={heads}")
        self.heads = heads
        self.dropout = dropout
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (init_linear(nn.Linear(dim, dim)) for _ in range(4))

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        q, k, v = (
            project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, N, D / heads)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        seen = None if valid is None else valid[:, None, None]
        dropout = self.dropout if self.training else 0.0
        h = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, dropout_p=dropout)
        return self.out_proj(h.transpose(1, 2).flatten(2))


def init_linear(layer: nn.Linear) -> nn.Linear:
    """Weights from N(0, .02²), no bias, as the authors have it from BERT."""
    nn.init.normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer
