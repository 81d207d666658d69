"""Which layers of an encoder know what is asked for: a weighted mean of all of them (SUPERB, arXiv 2105.01051)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mmssl.audio.batches import by_length
from mmssl.audio.clips import ClipSet
from mmssl.audio.preprocess import Preprocessor
from mmssl.audio.wav2vec2_encoder import Wav2Vec2Encoder, mean_over_frames


class LayerWeights(nn.Module):
    """Mean of layers with weights that are learnt, each layer standardised first: ``(B, L, D)`` to ``(B, D)``.

    Args:
        layers: L.
        dim: D.
    """

    def __init__(self, layers: int, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.weights = nn.Parameter(torch.zeros(layers))

    def forward(self, x: Tensor) -> Tensor:
        return self.shares @ nn.functional.layer_norm(x, x.shape[-1:])

    @property
    def shares(self) -> Tensor:
        """``(L,)``, which sum to 1."""
        return self.weights.softmax(dim=0)


class LayerSource:
    """Means over time of the outputs of all layers, the tokens first, as examples ``(L, D)``.

    Args:
        encoder: is in evaluation mode afterwards.
        clips: are encoded now.
        preprocessor: of the encoder.
    """

    @torch.inference_mode()
    def __init__(self, encoder: Wav2Vec2Encoder, clips: ClipSet, preprocessor: Preprocessor) -> None:
        encoder.eval()
        device = next(encoder.parameters()).device
        parts, order = [], []
        for index in by_length(clips):
            x = preprocessor(clips.padded(index).to(device))
            tokens, valid = encoder.tokenize(x), encoder.valid(x)
            layers = [tokens, *encoder.encode_layers(tokens, valid)]
            order.append(index)
            parts.append(torch.stack([mean_over_frames(h, valid) for h in layers], dim=1).cpu())
        self.features = torch.cat(parts)[torch.from_numpy(np.argsort(np.concatenate(order)))].clone()

    def __len__(self) -> int:
        return len(self.features)

    def fetch(self, index: npt.NDArray[np.integer]) -> Tensor:
        return self.features[torch.from_numpy(index)]
