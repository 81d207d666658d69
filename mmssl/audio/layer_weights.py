"""Which layers of an encoder know what is asked for: a weighted mean of all of them (SUPERB, arXiv 2105.01051)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mmssl.audio.clips import ClipSet
from mmssl.audio.encode import encode_clips
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


class LayerMeans(nn.Module):
    """Means over time of the outputs of all layers, the tokens first: waveforms to ``(B, L · D)``."""

    def __init__(self, encoder: Wav2Vec2Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.dim = (len(encoder.encoder.layers) + 1) * encoder.token_dim
        self.train(encoder.training)  # in which mode `encode_clips` leaves it

    def forward(self, x: Tensor) -> Tensor:
        tokens, valid = self.encoder.tokenize(x), self.encoder.valid(x)
        layers = [tokens, *self.encoder.encode_layers(tokens, valid)]
        return torch.cat([mean_over_frames(h, valid) for h in layers], dim=1)


class LayerSource:
    """What `LayerMeans` makes of clips, as examples ``(L, D)``; long ones are cut as by `encode_clips`.

    Args:
        encoder: whose layers they are.
        clips: are encoded now.
        preprocessor: of the encoder.
    """

    def __init__(self, encoder: Wav2Vec2Encoder, clips: ClipSet, preprocessor: Preprocessor) -> None:
        means = encode_clips(LayerMeans(encoder), clips, preprocessor)
        self.features = torch.from_numpy(means).unflatten(1, (-1, encoder.token_dim))

    def __len__(self) -> int:
        return len(self.features)

    def fetch(self, index: npt.NDArray[np.integer]) -> Tensor:
        return self.features[torch.from_numpy(index)]
