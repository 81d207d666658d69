"""A pretrained encoder with its preprocessing: from a user's file to a table of embeddings."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from mmssl.core.types import Encoder
from mmssl.timeseries.calendar import PREFIX, with_calendar
from mmssl.timeseries.clock import ClockReset
from mmssl.timeseries.data import columns_among, embedding_frame, read_series
from mmssl.timeseries.encode import encode_causal, encode_timestamps, encode_windows
from mmssl.timeseries.encoder import DilatedConvEncoder
from mmssl.timeseries.encoders.build import build_encoder
from mmssl.timeseries.options import READING, Reading
from mmssl.timeseries.pieces import open_pieces, values_bytes
from mmssl.timeseries.preprocess import SeriesPreprocessor
from mmssl.timeseries.series import SeriesSet, Windows, WindowSet, cut_windows
from mmssl.timeseries.survey import survey

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
        id, time, resample, time_zone, clock_reset, hold, max_gap: how the training data was read, and new data is; see
            `mmssl.timeseries.options.Reading`.
        static: columns that are joined to the embeddings, where new data has them.
        calendar: parts of the calendar that follow the user's channels, see `mmssl.timeseries.calendar`.
    """

    encoder: nn.Module
    arguments: dict[str, Any]
    preprocessor: SeriesPreprocessor
    window: int | None = None
    stride: int | None = None
    id: str | None = None
    time: str | None = None
    resample: str | float | None = None
    static: Sequence[str] = ()
    time_zone: str | None = None
    clock_reset: ClockReset = "sort"
    hold: str | float | None = None
    max_gap: str | float | None = None
    calendar: tuple[str, ...] = ()

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
        return self.frame(self.windows(data))

    def embed_parts(self, data: str | os.PathLike[str], *, memory: int = 2 << 30) -> Iterator[pd.DataFrame]:
        """The rows of `embed` in several tables, at bounded memory where a Parquet file or folder is a large one.

        Args:
            data: a file or folder.
            memory: bytes that its values may take; more is read piece by piece, see `mmssl.timeseries.pieces`.

        Raises:
            ValueError: as `embed`.
        """
        if self.window is None or self.calendar or (values_bytes(str(data), self._reading(data)) or 0) <= memory:
            yield self.embed(data)
            return
        pieces = replace(open_pieces(str(data), self._reading(data)), training=self.preprocessor)
        windows = survey(pieces, length=self.window, stride=self.stride).windows
        self.preprocessor.check(windows.series)
        for part in replace(windows, preprocessor=self.preprocessor).by_piece():
            yield self.frame(part)

    @property
    def overlap(self) -> int:
        """How many windows before one may have rows in common with it."""
        if self.window is None:
            return 0
        return math.ceil(self.window / (self.stride or max(1, self.window // 2)))

    def windows(self, data: Any) -> Windows:
        """Standardised windows of new data, cut as in training."""
        return cut_windows(self.preprocessor(self.read(data)), length=self.window, stride=self.stride)

    def frame(self, windows: WindowSet, **columns: Any) -> pd.DataFrame:
        """The table of `embed` for standardised windows, with what is known of their entities, and further columns."""
        known: dict[str, Any] = {name: of[windows.entity] for name, of in windows.series.static.items()}
        return embedding_frame(self.features(windows), *windows.names(), **{**columns, **known})

    def features(self, windows: WindowSet) -> Floats:
        """``(n, dim)`` for standardised windows."""
        return encode_windows(self.encoder, windows)

    def timestamps(self, series: Floats | SeriesSet) -> Floats:
        """A vector for every row of one raw series, with context on both sides: ``(T, C)`` to ``(T, dim)``."""
        return encode_timestamps(self._dilated, self._standardise(series))

    def causal(self, series: Floats | SeriesSet, *, window: int = 201, mask_last: bool = False) -> Floats:
        """A vector for every row of one raw series that sees the last ``window`` rows: ``(T, C)`` to ``(T, dim)``.

        With ``mask_last`` it does not see the row itself.
        """
        return encode_causal(self._dilated, self._standardise(series), window=window, mask_last=mask_last)

    def read(self, data: Any) -> SeriesSet:
        """New data, its columns held against those of the training data before any value is looked at.

        Rows that a regular recording leaves out are added as missing ones, see `SeriesPreprocessor.completed`.
        """
        parts = tuple(PREFIX + part for part in self.calendar)
        channels = tuple(name for name in self.preprocessor.channels if name not in parts)
        if isinstance(data, SeriesSet):
            series = data
        elif isinstance(data, np.ndarray):
            series = read_series(data, learn=False)
            if len(series.channels) == len(channels):  # an array has no names of its own
                series = replace(series, channels=channels)
        else:
            series = read_series(data, learn=False, **vars(self._reading(data)))
        series = self.preprocessor.completed(series)
        return series if set(parts) <= set(series.channels) else with_calendar(series, self.calendar)

    def _reading(self, data: Any) -> Reading:
        """How new data is read."""
        parts = tuple(PREFIX + part for part in self.calendar)
        return Reading(
            id=self.id,
            time=self.time,
            channels=[name for name in self.preprocessor.channels if name not in parts],
            resample=self.resample,
            static=columns_among(data, self.static) if self.static else (),
            time_zone=self.time_zone,
            clock_reset=self.clock_reset,
            hold=self.hold,
            max_gap=self.max_gap,
            time_format=self.preprocessor.time_format,
        )

    @property
    def _dilated(self) -> DilatedConvEncoder:
        """The encoder, where it has a vector for every timestamp."""
        if not isinstance(self.encoder, DilatedConvEncoder):
            raise ValueError(
                f"{type(self.encoder).__name__} has one vector for a window; vectors for single rows need the dilated "
                "convolutions of TS2Vec (model.name=dilated)"
            )
        return self.encoder

    def _standardise(self, series: Floats | SeriesSet) -> Floats:
        """Of one entity; an array has no times, which the calendar needs."""
        if not isinstance(series, SeriesSet):
            return self.preprocessor(self.read(np.asarray(series, dtype=np.float32)[None])).values
        if len(series) != 1:
            raise ValueError(f"one series at a time, got {len(series)} entities; take each by select()")
        completed = self.read(series)
        if len(completed.values) > len(series.values):
            missing = len(completed.values) - len(series.values)
            raise ValueError(
                f"{missing:,} rows are missing between those of {series.ids[0]!r}, and each would get a vector, too; "
                "if that is what you want, give embedder.read(series)"
            )
        return self.preprocessor(completed).values

    def state(self) -> dict[str, Any]:
        return {
            "encoder": {"builder": type(self.encoder).__name__, "arguments": self.arguments},
            "preprocessor": self.preprocessor.state(),
            "window": self.window,
            "stride": self.stride,
            "id": self.id,
            "time": self.time,
            "resample": self.resample,
            "static": list(self.static),
            "time_zone": self.time_zone,
            "clock_reset": self.clock_reset,
            "hold": self.hold,
            "max_gap": self.max_gap,
            "calendar": list(self.calendar),
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
            calendar=tuple(state.get("calendar", ())),
            **{name: state[name] for name in (*READING, "window", "stride") if name in state},
        )
