"""What HuBERT predicts: clusters of frames, found by k-means over all clips, and batches of crops with theirs.

Units are kept for whole clips under the names of these, with the place of each frame in samples. So a crop finds its
own, and frames of another rate than the encoder's do no harm: a frame has the unit that is nearest in time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor

from mmssl.audio.batches import by_length
from mmssl.audio.clips import ClipSet, ClipSource, Index, lengths
from mmssl.audio.encode import LONGEST
from mmssl.audio.preprocess import Preprocessor
from mmssl.audio.spectrum import HOP, mfcc
from mmssl.audio.wav2vec2_encoder import Wav2Vec2Encoder

FRAMES = 2_000  # a cluster that k-means sees, of clips drawn at random; all clips where there are fewer
STARTS = 100  # frames a cluster on which starts of k-means are tried; as many as clusters must differ


@dataclass(frozen=True, eq=False)
class FrameFeatures:
    """A function of waveforms, and where its frames are.

    Args:
        compute: ``(B, samples)`` to ``(B, F, D)``, both NaN after the end of a clip.
        hop: samples from one frame to the next.
        centre: sample in the middle of the first frame.
    """

    compute: Callable[[Tensor], Tensor]
    hop: float
    centre: float


def cepstra(rate: int) -> FrameFeatures:
    """Of the first iteration: 13 MFCC with two derivatives, 100 frames a second."""
    return FrameFeatures(lambda x: mfcc(x, rate), max(1, round(HOP * rate)), 0.0)


def hidden(encoder: Wav2Vec2Encoder, layer: int, preprocessor: Preprocessor) -> FrameFeatures:
    """Of later iterations: outputs of a layer, counted from 1, in evaluation mode.

    Clips of more than 30 s are encoded in pieces that overlap by what a frame sees, so that no frame is lost.

    Raises:
        ValueError: there is no such layer.
    """
    depth = encoder.arguments["depth"]
    if not 1 <= layer <= depth:
        raise ValueError(f"units come from a layer between 1 and {depth}, got {layer}")

    size = max(1, int(LONGEST * preprocessor.rate) // encoder.hop) * encoder.hop  # samples of a piece
    overlap = encoder.receptive_field - encoder.hop

    @torch.inference_mode()
    def compute(x: Tensor) -> Tensor:
        encoder.eval()
        x = preprocessor(x.to(next(encoder.parameters()).device))
        valid = encoder.valid(x)
        pieces = [x[:, start : start + size + overlap] for start in range(0, valid.shape[1] * encoder.hop, size)]
        h = torch.cat([encoder.encode_layers(encoder.tokenize(p), encoder.valid(p))[layer - 1] for p in pieces], dim=1)
        return h.masked_fill(~valid[..., None], torch.nan)

    return FrameFeatures(compute, encoder.hop, (encoder.receptive_field - 1) / 2)


@dataclass(frozen=True, eq=False)
class Units:
    """Clusters of the frames of clips.

    Args:
        codes: those of all clips, one after the other, from 0 to ``clusters`` − 1.
        sizes: ``(n,)``, frames of each clip.
        names: ``(n,)``, of the clips, as text.
        hop, centre: see `FrameFeatures`.
        clusters: K.
    """

    codes: Index
    sizes: Index
    names: npt.NDArray[np.str_]
    hop: float
    centre: float
    clusters: int

    def of(self, clips: ClipSet) -> Units:
        """The same for these clips, in their order.

        Raises:
            ValueError: a clip has none.
        """
        place = {name: i for i, name in enumerate(self.names.tolist())}
        names = clips.names.astype(str)
        if missing := [name for name in names.tolist() if name not in place]:
            raise ValueError(f"{len(missing)} of {len(clips)} clips have no units, {missing[0]} for example")
        order = np.array([place[name] for name in names.tolist()], dtype=np.int64)
        starts = np.cumsum(self.sizes) - self.sizes
        parts = [self.codes[starts[i] : starts[i] + self.sizes[i]] for i in order]
        codes = np.concatenate(parts) if parts else self.codes[:0]
        return Units(codes, self.sizes[order], names, self.hop, self.centre, self.clusters)

    @property
    def perplexity(self) -> float:
        """As many clusters, used evenly, would say as much; from 1 to K."""
        share = np.bincount(self.codes, minlength=self.clusters) / len(self.codes)
        return float(np.exp(-(share * np.log(np.maximum(share, 1e-30))).sum()))

    def save(self, file: str | PathLike[str]) -> None:
        np.savez_compressed(file, **vars(self))

    @classmethod
    def load(cls, file: str | PathLike[str]) -> Units:
        with np.load(file) as saved:
            values = dict(saved)
        numbers: dict[str, Any] = {name: values.pop(name).item() for name in ("hop", "centre", "clusters")}
        return cls(**values, **numbers)


def find_units(clips: ClipSet, features: FrameFeatures, *, clusters: int, seed: int) -> Units:
    """Mini-batch k-means over the frames of a random part of the clips, then the nearest centre of every frame.

    As in the authors' code: k-means++, the best of 20 starts, batches of 10,000 frames. They fit it on a tenth of
    LibriSpeech; here 2,000 frames a cluster are enough, so that what it sees fits into memory whatever there is.

    Args:
        clips: on whose frames to do it.
        features: of frames.
        clusters: K.
        seed: of the part and of the starts.

    Raises:
        ValueError: there are not that many different frames.
    """
    rng = np.random.default_rng(seed)
    share = min(1.0, clusters * FRAMES * features.hop / max(1, clips.sizes.sum()))
    part = rng.permutation(len(clips))[: int(np.ceil(share * len(clips)))]
    seen = np.concatenate([frames for _, frames in _frames(clips.subset(part), features)])
    some = seen[rng.permutation(len(seen))[: clusters * STARTS]]
    if (different := len(np.unique(some, axis=0))) < clusters:
        raise ValueError(
            f"{clusters:,} clusters need as many different frames, and among {len(some):,} there are {different:,}: "
            "lower the number of clusters (method.clusters), or look for silence"
        )
    kmeans = MiniBatchKMeans(
        clusters,
        init="k-means++",
        n_init=20,
        init_size=clusters * STARTS,
        batch_size=10_000,
        max_no_improvement=100,
        reassignment_ratio=0.0,
        random_state=seed,
    ).fit(seen)
    found = {i: kmeans.predict(frames) for i, frames in _frames(clips, features)}
    codes = [found[i] for i in range(len(clips))]
    sizes = np.array([len(code) for code in codes], dtype=np.int64)
    flat = np.concatenate(codes).astype(np.int64)
    return Units(flat, sizes, clips.names.astype(str), features.hop, features.centre, clusters)


def _frames(clips: ClipSet, features: FrameFeatures) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Positions of clips, and their frames ``(F, D)``."""
    for index in by_length(clips):
        h = features.compute(clips.padded(index)).float().cpu()
        for i, frames, size in zip(index.tolist(), h.numpy(), lengths(h).tolist(), strict=True):
            yield i, frames[:size]


class UnitSource(ClipSource):
    """Random crops of clips with the units of the encoder's frames: ``(B, longest)`` and ``(B, N)`` int64.

    Args:
        clips, crop, batch_size: see `ClipSource`.
        units: of these clips, found by name.
        encoder: whose frames they are for.
    """

    def __init__(
        self, clips: ClipSet, units: Units, encoder: Wav2Vec2Encoder, *, crop: int | None = None, batch_size: int = 1
    ) -> None:
        super().__init__(clips, crop=crop, batch_size=batch_size)
        self.units = units.of(clips)
        self.first = np.cumsum(self.units.sizes) - self.units.sizes
        self.encoder = encoder

    def fetch(self, index: npt.NDArray[np.integer]) -> tuple[Tensor, Tensor]:
        x = super().fetch(index)
        frames = np.arange(self.encoder.frame_count(x.shape[1]))
        centre = frames * self.encoder.hop + (self.encoder.receptive_field - 1) / 2  # in samples
        middle = self.begin(index)[:, None] + centre  # (B, N)
        nearest = np.rint((middle - self.units.centre) / self.units.hop).astype(np.int64)
        nearest = np.clip(nearest, 0, self.units.sizes[index][:, None] - 1)
        return x, torch.from_numpy(self.units.codes[self.first[index][:, None] + nearest])
