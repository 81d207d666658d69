"""A pretrained encoder with its preprocessing: from a user's recordings to a table of embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from mmssl.audio.clips import ClipSet, Floats
from mmssl.audio.data import Source, read_clips
from mmssl.audio.encode import encode_clips
from mmssl.audio.encoder import ENCODERS
from mmssl.audio.files import Options
from mmssl.audio.preprocess import PREPROCESSORS, Preprocessor
from mmssl.audio.tables import embedding_frame

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class ClipEmbedder:
    """What `mmssl.load` returns for a run on audio.

    Args:
        encoder: one of `mmssl.audio.encoder.ENCODERS`, with its final weights, on the device that computes.
        name: in `ENCODERS`.
        preprocessor: fitted on the training clips.
        mix: how several channels become one, see `DataConfig`.
        file: column of a table that holds the paths, see `DataConfig`.
    """

    encoder: nn.Module
    name: str
    preprocessor: Preprocessor
    mix: str | None = None
    file: str | None = None

    @property
    def dim(self) -> int:
        return self.encoder.dim  # type: ignore[return-value]

    def embed(self, data: Source | ClipSet) -> pd.DataFrame:
        """One row of features a clip, indexed by its name: the path, or the row number of an array.

        Files of another rate are resampled to that of the training, several channels are averaged unless the training
        took the first, and files that are damaged, silent or too short are left out with a warning.

        Args:
            data: a folder, a table of paths, an audio file, a list of files, or a list of arrays of samples at the
                rate of the training; or clips that were read already.
        """
        clips = self.read(data)
        return embedding_frame(self.features(clips), clips.names)

    def features(self, clips: ClipSet) -> Floats:
        """``(n, dim)``."""
        if clips.rate != self.preprocessor.rate:
            raise ValueError(f"clips of {clips.rate:,} Hz, trained on {self.preprocessor.rate:,} Hz: resample them")
        return encode_clips(self.encoder, clips, self.preprocessor)

    def read(self, data: Source | ClipSet) -> ClipSet:
        """New data at the rate of the training data; labels are not looked for."""
        if isinstance(data, ClipSet):
            return data
        options = Options(rate=self.preprocessor.rate, mix=self.mix or "mean", max_bad=1.0)
        return read_clips(data, options, file=self.file, label="none")

    def state(self) -> dict[str, Any]:
        kind = next(name for name, kind in PREPROCESSORS.items() if isinstance(self.preprocessor, kind))
        return {
            "encoder": {"builder": self.name, "arguments": self.encoder.arguments},
            "preprocessor": {"builder": kind, "state": self.preprocessor.state()},
            "mix": self.mix,
            "file": self.file,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any], weights: dict[str, Tensor], device: str) -> ClipEmbedder:
        name = state["encoder"]["builder"]
        encoder = ENCODERS[name](**state["encoder"]["arguments"])
        encoder.load_state_dict(weights)
        preprocessor = PREPROCESSORS[state["preprocessor"]["builder"]](**state["preprocessor"]["state"])
        return cls(encoder.to(device).eval(), name, preprocessor, state["mix"], state["file"])
