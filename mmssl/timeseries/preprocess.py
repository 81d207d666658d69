"""Standardisation of series, and the schema that new data is held against."""

from __future__ import annotations

import difflib
import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from mmssl.timeseries.grid import with_missing_rows
from mmssl.timeseries.series import SeriesSet
from mmssl.timeseries.times import usual_step

RATE_TOLERANCE = 0.05  # relative; more than a clock drifts, less than any other sampling rate


@dataclass
class Moments:
    """Count, mean and sum of squares around the mean of every channel, in float64, of values that come in pieces.

    Pieces are joined as by Chan, Golub and LeVeque (1979), so that the mean of a large offset costs no digits.
    """

    count: npt.NDArray[np.int64]
    mean: npt.NDArray[np.float64]
    square: npt.NDArray[np.float64]

    @classmethod
    def of(cls, pieces: Iterable[npt.NDArray[np.float32]]) -> Moments:
        """Of ``(rows, C)`` each, NaN for missing; one at least."""
        moments = [cls._of_one(piece) for piece in pieces]
        total = moments[0]
        for other in moments[1:]:
            total = total.joined(other)
        return total

    @classmethod
    def _of_one(cls, values: npt.NDArray[np.float32]) -> Moments:
        count = np.count_nonzero(~np.isnan(values), axis=0)
        mean = np.nansum(values, axis=0, dtype=np.float64) / np.maximum(count, 1)
        return cls(count, mean, np.nansum((values - mean) ** 2, axis=0, dtype=np.float64))

    def joined(self, other: Moments) -> Moments:
        """Of all values of both."""
        count = self.count + other.count
        share, apart = other.count / np.maximum(count, 1), other.mean - self.mean
        square = self.square + other.square + apart**2 * self.count * share
        return Moments(count, self.mean + apart * share, square)

    @property
    def std(self) -> npt.NDArray[np.float64]:
        return np.sqrt(self.square / np.maximum(self.count, 1))


@dataclass(frozen=True)
class SeriesPreprocessor:
    """Per-channel standardisation, fitted on the training entities; applies the same to all later data.

    Args:
        channels: names, in the order of the model's input.
        mean: of each channel over all values of the training entities.
        std: likewise; 1 for a constant channel.
        step: distance of two rows of the training data, see `SeriesSet.step`; None if irregular or unknown.
        time_kind: see `SeriesSet.time_kind`.
        units: of the channels, None where unknown; None altogether if no unit is known.
        time_format: see `SeriesSet.time_format`; a new file in which 05/03 may be both is read by it.
    """

    channels: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    step: float | None = None
    time_kind: str = "rows"
    units: tuple[str | None, ...] | None = None
    time_format: str | None = None

    def fit(self, raw: SeriesSet) -> SeriesPreprocessor:
        """Fitted on ``raw``; in float64, in chunks of rows: long recordings lose no digits and take no memory."""
        chunks = (raw.values[i : i + 2**20] for i in range(0, len(raw.values), 2**20))
        return self.fit_moments(Moments.of(chunks), raw)

    def fit_moments(self, moments: Moments, like: SeriesSet) -> SeriesPreprocessor:
        """Fitted on values of which only ``moments`` are known; what else there is to know is as in ``like``."""
        if (moments.count == 0).any():
            names = ", ".join(name for name, n in zip(like.channels, moments.count, strict=True) if n == 0)
            raise ValueError(
                f"no value of channel {names} in the training part: leave it out through data.channels, "
                "or choose another split"
            )
        std = moments.std
        std[std <= 1e-6 * np.abs(moments.mean)] = 1.0  # constant up to the rounding of float32
        std[std == 0] = 1.0
        return replace(
            self,
            channels=like.channels,
            mean=tuple(moments.mean.tolist()),
            std=tuple(std.tolist()),
            step=like.step,
            time_kind=like.time_kind,
            units=like.units,
            time_format=like.time_format,
        )

    def __call__(self, raw: SeriesSet) -> SeriesSet:
        """Standardised series.

        Raises:
            ValueError: ``raw`` has other channels or another sampling rate than the training data.
        """
        self.check(raw)
        return replace(raw, values=self.standardised(raw.values))

    def completed(self, raw: SeriesSet) -> SeriesSet:
        """New data with missing rows where it leaves some out, if the training data was regular and at its rate."""
        step = usual_step(raw)
        if self.step is None or step is None or raw.step is not None or not self._same_rate(raw, step):
            return raw
        return with_missing_rows(raw, step)

    def standardised(self, raw: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Values ``(rows, C)`` of the channels; unchecked."""
        mean, std = np.asarray(self.mean, dtype=np.float32), np.asarray(self.std, dtype=np.float32)
        values = np.empty_like(raw)
        for i in range(0, len(values), 2**20):  # bounds what the arithmetic takes beside the result
            np.divide(raw[i : i + 2**20] - mean, std, out=values[i : i + 2**20])
        return values

    def check(self, raw: SeriesSet) -> None:
        """Raise a ValueError that names what differs between ``raw`` and the training data."""
        if raw.channels != self.channels:
            raise ValueError(_channel_difference(self.channels, raw.channels))
        for name, trained, given in zip(self.channels, self.units or (), raw.units or (), strict=False):
            if None not in (trained, given) and trained != given:
                raise ValueError(
                    f"channel {name!r} is in {given!r}, the training data had it in {trained!r}: convert it, or "
                    "correct the unit (data.units, the metadata of the file) if it is wrong"
                )
        if self.step is None or raw.time_kind == "rows":
            return
        if raw.time_kind != self.time_kind:
            raise ValueError(f"times are of kind {raw.time_kind!r}, the training data had {self.time_kind!r}")
        step = raw.step if raw.step is not None else usual_step(raw)
        unit = " s" if self.time_kind == "datetime" else ""
        training = f"the training data had one every {self.step:g}{unit}"
        grid = f"{self.step:g}{unit.strip()}"
        resample = f"resample to that grid (data.resample={grid}, or embed read_series(…, resample={grid!r}))"
        if step is None:
            raise ValueError(f"the rows are at irregular times, {training}: {resample}")
        if not self._same_rate(raw, step):
            raise ValueError(f"one row every {step:g}{unit}, {training}: {resample}")
        if raw.step is None:
            warnings.warn(
                f"the rows are at irregular times, {training}: they are taken as if they were regular; or {resample}",
                UserWarning,
                stacklevel=3,
            )

    def _same_rate(self, raw: SeriesSet, step: float) -> bool:
        """Is ``step``, of ``raw``, that of the training data?"""
        assert self.step is not None
        return raw.time_kind == self.time_kind and math.isclose(step, self.step, rel_tol=RATE_TOLERANCE)

    def state(self) -> dict[str, Any]:
        return {
            "channels": list(self.channels),
            "dtype": "float32",
            "mean": list(self.mean),
            "std": list(self.std),
            "step": self.step,
            "time_kind": self.time_kind,
            "units": None if self.units is None else list(self.units),
            "time_format": self.time_format,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        return cls(
            channels=tuple(state["channels"]),
            mean=tuple(state["mean"]),
            std=tuple(state["std"]),
            step=state["step"],
            time_kind=state["time_kind"],
            units=None if state.get("units") is None else tuple(state["units"]),
            time_format=state.get("time_format"),
        )


def _channel_difference(trained: tuple[str, ...], given: tuple[str, ...]) -> str:
    missing = [name for name in trained if name not in given]
    new = [name for name in given if name not in trained]
    if not missing and not new:
        return f"channels are in another order: trained on {', '.join(trained)}; given {', '.join(given)}"
    parts = []
    for name in missing:
        close = difflib.get_close_matches(name, new, n=1, cutoff=0.5)
        parts.append(f"channel {name!r} is missing" + (f" (was it renamed to {close[0]!r}?)" if close else ""))
    if new:
        parts.append(f"the training data had no channel {', '.join(map(repr, new))}")
    return "; ".join(parts) + f". Trained on: {', '.join(trained)}"
