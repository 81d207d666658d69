"""MAE on the cells of a row: rebuild a row from half of its cells (He et al., CVPR 2022, arXiv 2111.06377).

Du et al. (ReMasker, ICLR 2024, arXiv 2309.13793) use it to fill gaps. Masking and decoder are those of
`mmssl.core.methods.mae`; a cell is predicted as what it is, a number by its squared error and a category by a
cross-entropy over its own vocabulary. A missing cell and an unseen category are seen as such, and never predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmssl.core.distributed import gather, world_size
from mmssl.core.methods.mae import MAE
from mmssl.core.transformer import sincos_1d
from mmssl.core.types import TokenEncoder


class CellMAE(nn.Module):
    """The method; a batch is rows ``(B, M)``.

    Args:
        encoder: what is pretrained; an `FTTransformer`, whose tokens are cells.
        cardinalities: for each column the size of its vocabulary, 0 for a numeric one.
        mask_ratio: share of the cells that is hidden; half in ReMasker.
        decoder_dim, decoder_depth, decoder_heads: of the decoder.
    """

    cardinality: Tensor

    def __init__(
        self,
        encoder: TokenEncoder,
        cardinalities: Sequence[int],
        *,
        mask_ratio: float = 0.5,
        decoder_dim: int = 32,
        decoder_depth: int = 1,
        decoder_heads: int = 4,
    ) -> None:
        super().__init__()
        self.mae = MAE(
            encoder,
            positions=sincos_1d(len(cardinalities), decoder_dim),  # they say which column it is, and mean no order
            mask_ratio=mask_ratio,
            decoder_dim=decoder_dim,
            decoder_depth=decoder_depth,
            decoder_heads=decoder_heads,
            normalise_targets=False,
        )
        self.register_buffer("cardinality", torch.tensor(list(cardinalities)), persistent=False)

    @property
    def encoder(self) -> Any:
        return self.mae.encoder

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        prediction, mask = self.mae.predict(batch)
        with torch.autocast(batch.device.type, enabled=False):
            return {"loss": self.loss(prediction.float(), batch, mask)}

    def loss(self, prediction: Tensor, x: Tensor, mask: Tensor) -> Tensor:
        """Mean over hidden cells of all ranks, of those whose value is known.

        Args:
            prediction: ``(B, M, P)``: a number in the first place, or the logits of a vocabulary in the first K.
            x: ``(B, M)``.
            mask: ``(B, M)`` bool, True for hidden cells.
        """
        categorical = self.cardinality > 0  # (M,)
        counted = mask & ~x.isnan() & (~categorical | (x > 0))
        x = torch.where(counted, x, 1.0)
        code = torch.where(categorical, x - 1, 0.0).long()
        place = torch.arange(prediction.shape[-1], device=x.device)
        logits = prediction.masked_fill(place >= self.cardinality.clamp(min=1)[:, None], -torch.inf)
        surprise = logits.logsumexp(dim=-1) - prediction.gather(-1, code[..., None])[..., 0]  # (B, M)
        error = F.mse_loss(prediction[..., 0], x, reduction="none")
        total = torch.where(counted, torch.where(categorical, surprise, error), 0.0).sum()
        return total * world_size() / gather(counted.sum()[None]).sum().clamp(min=1)

    def after_step(self, progress: float, skipped: Tensor) -> None:
        """Nothing follows the weights."""

    def export(self) -> nn.Module:
        return self.mae.export()
