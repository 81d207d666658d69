"""A pretrained encoder with its preprocessing: from a user's file to a table of embeddings."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from mmssl.core.types import Encoder
from mmssl.timeseries.data import embedding_frame, read_series
from mmssl.timeseries.encode import encode_causal, encode_timestamps, encode_windows
from mmssl.timeseries.encoder import DilatedConvEncoder
from mmssl.timeseries.encoders.build import build_encoder
from mmssl.timeseries.preprocess import SeriesPreprocessor
from mmssl.timeseries.series import SeriesSet, Windows, cut_windows

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SeriesEmbedder:
    """What `mmssl.load` returns for a time-series run.

    Args:
        encoder: with its final weights, on the device that computes.
        arguments: that the encoder was built with, for the export.
        preprocessor: fitted on the training entities.
        window: rows of a window; None embeds every entity whole.
        stride: rows from one window to the next.
        id, time, resample: how the training data was read; the default for new data.
    """

    encoder: nn.Module
    arguments: dict[str, Any]
    preprocessor: SeriesPreprocessor
    window: int | None = None
    stride: int | None = None
    id: str | None = None
    time: str | None = None
    resample: str | float | None = None

    @property
    def dim(self) -> int:
        return cast(Encoder, self.encoder).dim

    def embed(self, data: str | os.PathLike[str] | pd.DataFrame | npt.NDArray[np.floating] | SeriesSet) -> pd.DataFrame:
        """One row of features a window, indexed by entity and start of the window.

        Args:
            data: a file or folder, a DataFrame, an array ``(N, T, C)``, or series that were read already.

        Raises:
            ValueError: the data has other channels or another rate than the training data; the message says which.
        """
        windows = self.windows(data)
        return embedding_frame(self.features(windows), *windows.names())

    def windows(self, data: Any) -> Windows:
        """Standardised windows of new data, cut as in training."""
        return cut_windows(self.preprocessor(self.read(data)), length=self.window, stride=self.stride)

    def features(self, windows: Windows) -> Floats:
        """``(n, dim)`` for standardised windows."""
        return encode_windows(self.encoder, windows)

    def timestamps(self, series: Floats) -> Floats:
        """A vector for every row of one raw series, with context on both sides: ``(T, C)`` to ``(T, dim)``."""
        return encode_timestamps(self._dilated, self._standardise(series))

    def causal(self, series: Floats, *, window: int = 201) -> Floats:
        """A vector for every row of one raw series that sees the last ``window`` rows: ``(T, C)`` to ``(T, dim)``."""
        return encode_causal(self._dilated, self._standardise(series), window=window)

    def read(self, data: Any) -> SeriesSet:
        """New data, its columns held against those of the training data before any value is looked at."""
        channels = self.preprocessor.channels
        if isinstance(data, SeriesSet):
            return data
        with warnings.catch_warnings():  # what never changes teaches nothing, but it can be embedded
            warnings.filterwarnings("ignore", message=".*never changed")
            if not isinstance(data, np.ndarray):
                return read_series(data, id=self.id, time=self.time, channels=list(channels), resample=self.resample)
            series = read_series(data)
        if len(series.channels) == len(channels):  # an array has no names of its own
            series = replace(series, channels=channels)
        return series

    @property
    def _dilated(self) -> DilatedConvEncoder:
        """The encoder, where it has a vector for every timestamp."""
        if not isinstance(self.encoder, DilatedConvEncoder):
            raise ValueError(
                f"{type(self.encoder).__name__} has one vector for a window; vectors for single rows need the dilated "
                "convolutions of TS2Vec (model.name=dilated)"
            )
        return self.encoder

    def _standardise(self, series: Floats) -> Floats:
        return self.preprocessor(self.read(np.asarray(series, dtype=np.float32)[None])).values

    def state(self) -> dict[str, Any]:
        return {
            "encoder": {"builder": type(self.encoder).__name__, "arguments": self.arguments},
            "preprocessor": self.preprocessor.state(),
            "window": self.window,
            "stride": self.stride,
            "id": self.id,
            "time": self.time,
            "resample": self.resample,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any], weights: dict[str, Tensor], device: str) -> SeriesEmbedder:
        arguments = state["encoder"]["arguments"]
        encoder = build_encoder(state["encoder"]["builder"], **arguments)
        encoder.load_state_dict(weights)
        return cls(
            encoder=encoder.to(device).eval(),
            arguments=arguments,
            preprocessor=SeriesPreprocessor.from_state(state["preprocessor"]),
            **{name: state[name] for name in ("window", "stride", "id", "time", "resample")},
        )
