"""timm's vision transformer with its tokens in reach (Dosovitskiy et al., ICLR 2021, arXiv 2010.11929)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from timm.layers import Attention, PatchEmbed, resample_abs_pos_embed
from timm.models import VisionTransformer as Timm
from torch import Tensor, nn

from mmssl.core.transformer import init_linear, sincos_2d
from mmssl.vision.layers import layers

Pool = Literal["auto", "cls", "mean"]


class VisionTransformer(nn.Module):
    """A `mmssl.core.types.LayeredTokenEncoder` over images ``(B, C, H, W)``, whose weights keep timm's names.

    Images may have another size than the model was built for, such as the small crops of DINO: the learnt positions are
    interpolated then.

    Args:
        model: of timm, without a classifier (``num_classes=0``).
        pool: what an image is represented by: its ``"cls"`` token or the ``"mean"`` of its patch tokens, after the last
            norm; ``"auto"`` is ``"cls"`` if the model has one.
        fixed_positions: leave the positions of ``model`` as they are; they are a buffer then.
    """

    droppable = True
    arguments: dict[str, Any]  # of `build_encoder`

    def __init__(self, model: Any, *, pool: Pool = "auto", fixed_positions: bool = False) -> None:
        super().__init__()
        if pool not in ("auto", "cls", "mean"):
            raise ValueError(f"pool must be 'auto', 'cls' or 'mean', got {pool!r}")
        if pool == "cls" and model.cls_token is None:
            raise ValueError("pool='cls' needs a CLS token, and this model has none: take pool='mean'")
        if not has_tokens(model):
            raise ValueError(
                "the tokens of this vision transformer cannot be reached: it has a head, a stem that is no plain "
                "projection of patches, no positions that are added, attention pooling, a norm after pooling or patch "
                "dropout. Use it as an `ImageEncoder`, for methods that mask nothing"
            )
        self.model: Any = model  # timm's annotations say too little
        self.dim: int = model.embed_dim
        self.token_dim = self.dim
        self.prefix_tokens: int = model.num_prefix_tokens
        self.patch: tuple[int, int] = model.patch_embed.patch_size
        self.grid: tuple[int, int] = model.patch_embed.grid_size  # (h, w), of images of the model's own size
        self.in_channels: int = model.in_chans
        self.target_dim = self.patch[0] * self.patch[1] * self.in_channels
        self.pool = pool if pool != "auto" else "mean" if model.cls_token is None else "cls"
        if fixed_positions:
            fixed = model.pos_embed.detach().clone()
            del model.pos_embed
            model.register_buffer("pos_embed", fixed)

    def forward(self, x: Tensor) -> Tensor:
        h = self.encode(self.tokenize(x))  # (B, P + N, D)
        return h[:, 0] if self.pool == "cls" else h[:, self.prefix_tokens :].mean(dim=1)

    def tokenize(self, x: Tensor) -> Tensor:
        """Patches, projected, plus their positions: ``(B, C, H, W)`` to ``(B, N, D)``, row by row."""
        positions = self.positions(x)
        patches = self.model.patch_embed.proj(x).flatten(2).transpose(1, 2)
        return self.model.patch_embed.norm(patches) + positions

    def positions(self, x: Tensor) -> Tensor:
        """Of the patches of images like ``x``: ``(1, N, D)``."""
        first = self._embedded_prefix()
        grid = self.grid_of(x)
        resampled = resample_abs_pos_embed(self.model.pos_embed, list(grid), list(self.grid), num_prefix_tokens=first)
        return resampled[:, first:]

    def valid(self, x: Tensor) -> None:
        """Images have no padding."""

    def encode(self, tokens: Tensor, valid: Tensor | None = None) -> Tensor:
        """All blocks and the last norm: ``(B, N', D)`` to ``(B, P + N', D)``, CLS and registers in front."""
        return self.model.norm(self.model.blocks(self._with_prefix(tokens, valid)))

    def encode_layers(self, tokens: Tensor, valid: Tensor | None = None) -> list[Tensor]:
        """The output of every block, each ``(B, P + N', D)``, without the last norm."""
        h = self._with_prefix(tokens, valid)
        outputs: list[Tensor] = []
        for block in self.model.blocks:
            h = block(h)
            outputs.append(h)
        return outputs

    def targets(self, x: Tensor) -> Tensor:
        """Pixels of each patch: ``(B, C, h·p, w·q)`` to ``(B, h·w, p·q·C)``, in MAE's order (p, q, c)."""
        p, q = self.patch
        h, w = self.grid_of(x)
        return x.reshape(len(x), -1, h, p, w, q).permute(0, 2, 4, 3, 5, 1).reshape(len(x), h * w, self.target_dim)

    def images(self, targets: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """The inverse of `targets`: ``(B, h·w, p·q·C)`` to ``(B, C, h·p, w·q)``; the model's own grid if None."""
        h, w = self.grid if grid is None else grid
        x = targets.reshape(len(targets), h, w, *self.patch, self.in_channels).permute(0, 5, 1, 3, 2, 4)
        return x.reshape(len(targets), self.in_channels, h * self.patch[0], w * self.patch[1])

    @torch.no_grad()
    def attention(self, x: Tensor) -> Tensor:
        """What CLS attends to in the last block, as in the pictures of DINO: ``(B, C, H, W)`` to ``(B, heads, h, w)``.

        Shares of the whole attention, float32; what goes to CLS and registers themselves is left out.
        """
        if self.model.cls_token is None:
            raise ValueError("this vision transformer has no CLS token whose attention could be shown")
        last = self.model.blocks[-1]
        attention = last.attn
        if type(attention) is not Attention:
            raise ValueError(
                f"only the attention of timm's plain Attention can be shown, got {type(attention).__name__}"
            )
        h = last.norm1(self.model.blocks[:-1](self._with_prefix(self.tokenize(x))))
        q, k, _ = attention.qkv(h).unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = attention.q_norm(q[:, :, :1]), attention.k_norm(k)  # (B, heads, 1, d), (B, heads, P + N, d)
        with torch.autocast(x.device.type, enabled=False):
            share = (attention.scale * q.float() @ k.float().transpose(-2, -1)).softmax(dim=-1)
        return share[:, :, 0, self.prefix_tokens :].unflatten(-1, self.grid_of(x))

    def grid_of(self, x: Tensor) -> tuple[int, int]:
        """Rows and columns of patches in images ``x``."""
        if x.ndim != 4 or x.shape[1] != self.in_channels or x.shape[2] % self.patch[0] or x.shape[3] % self.patch[1]:
            raise ValueError(
                f"expected images (B, {self.in_channels}, H, W) with H and W multiples of the patch "
                f"{self.patch[0]} × {self.patch[1]}, got {tuple(x.shape)}"
            )
        return x.shape[2] // self.patch[0], x.shape[3] // self.patch[1]

    def library_state_dict(self) -> dict[str, Tensor]:
        """Weights that load with ``strict=True`` into the plain model of timm, built with ``num_classes=0``."""
        return self.model.state_dict()

    def layers(self) -> list[list[nn.Parameter]]:
        """Parameters from input to output, see `mmssl.vision.layers`."""
        return layers(self.model)

    def _embedded_prefix(self) -> int:
        """How many rows of the position embedding belong to CLS and registers."""
        return 0 if self.model.no_embed_class else self.prefix_tokens

    def _with_prefix(self, tokens: Tensor, valid: Tensor | None = None) -> Tensor:
        if valid is not None:
            raise ValueError("images have no padding: pass valid=None")
        model = self.model
        front = [token for token in (model.cls_token, model.reg_token) if token is not None]
        if front:
            prefix = torch.cat(front, dim=1)
            if self._embedded_prefix():
                prefix = prefix + model.pos_embed[:, : self.prefix_tokens]
            tokens = torch.cat([prefix.expand(len(tokens), -1, -1), tokens], dim=1)
        return model.norm_pre(model.pos_drop(tokens))


def has_tokens(model: Any) -> bool:
    """Is it a vision transformer of timm whose output tokens are those of its patches, one for one?"""
    return (
        type(model) is Timm
        and type(model.patch_embed) is PatchEmbed
        and model.pos_embed is not None
        and model.attn_pool is None
        and all(isinstance(part, nn.Identity) for part in (model.patch_drop, model.fc_norm, model.head))
    )


def init_from_scratch(model: Any, *, sincos: bool = False) -> None:
    """Initialise a model of timm as the authors of MAE do: Xavier everywhere, patches as the linear layer they are.

    Args:
        model: changed in place.
        sincos: write the fixed positions of MAE, zero for CLS, over the random ones.
    """
    model.apply(init_linear)
    nn.init.xavier_uniform_(model.patch_embed.proj.weight.flatten(1))
    if model.cls_token is not None:
        nn.init.normal_(model.cls_token, std=0.02)
    if sincos:
        height, width = model.patch_embed.grid_size
        with torch.no_grad():
            model.pos_embed.zero_()
            model.pos_embed[0, -height * width :] = sincos_2d(height, width, model.embed_dim)
