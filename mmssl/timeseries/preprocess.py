"""Standardisation of series, and the schema that new data is held against."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from mmssl.timeseries.series import SeriesSet

RATE_TOLERANCE = 0.05  # relative; more than a clock drifts, less than any other sampling rate


@dataclass(frozen=True)
class SeriesPreprocessor:
    """Per-channel standardisation, fitted on the training entities; applies the same to all later data.

    Args:
        channels: names, in the order of the model's input.
        mean: of each channel over all values of the training entities.
        std: likewise; 1 for a constant channel.
        step: distance of two rows of the training data, see `SeriesSet.step`; None if irregular or unknown.
        time_kind: see `SeriesSet.time_kind`.
    """

    channels: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    step: float | None = None
    time_kind: str = "rows"

    def fit(self, raw: SeriesSet) -> SeriesPreprocessor:
        """Fitted on ``raw``; in float64, in chunks of rows: long recordings lose no digits and take no memory."""
        rows = range(0, len(raw.values), 2**20)
        chunks = [raw.values[i : i + 2**20] for i in rows]
        count = np.sum([np.count_nonzero(~np.isnan(chunk), axis=0) for chunk in chunks], axis=0)
        if (count == 0).any():
            names = ", ".join(name for name, n in zip(raw.channels, count, strict=True) if n == 0)
            raise ValueError(
                f"no value of channel {names} in the training part: leave it out through data.channels, "
                "or choose another split"
            )
        mean = np.sum([np.nansum(chunk, axis=0, dtype=np.float64) for chunk in chunks], axis=0) / count
        square = np.sum([np.nansum((chunk - mean) ** 2, axis=0, dtype=np.float64) for chunk in chunks], axis=0)
        std = np.sqrt(square / count)
        std[std <= 1e-6 * np.abs(mean)] = 1.0  # constant up to the rounding of float32
        std[std == 0] = 1.0
        return replace(
            self,
            channels=raw.channels,
            mean=tuple(mean.tolist()),
            std=tuple(std.tolist()),
            step=raw.step,
            time_kind=raw.time_kind,
        )

    def __call__(self, raw: SeriesSet) -> SeriesSet:
        """Standardised series.

        Raises:
            ValueError: ``raw`` has other channels or another sampling rate than the training data.
        """
        self.check(raw)
        mean, std = np.asarray(self.mean, dtype=np.float32), np.asarray(self.std, dtype=np.float32)
        values = np.empty_like(raw.values)
        for i in range(0, len(values), 2**20):  # bounds what the arithmetic takes beside the result
            np.divide(raw.values[i : i + 2**20] - mean, std, out=values[i : i + 2**20])
        return replace(raw, values=values)

    def check(self, raw: SeriesSet) -> None:
        """Raise a ValueError that names what differs between ``raw`` and the training data."""
        if raw.channels != self.channels:
            raise ValueError(_channel_difference(self.channels, raw.channels))
        if self.step is not None and raw.time_kind != "rows":
            unit = " s" if self.time_kind == "datetime" else ""
            if raw.time_kind != self.time_kind:
                raise ValueError(f"times are of kind {raw.time_kind!r}, the training data had {self.time_kind!r}")
            if raw.step is None:
                raise ValueError(
                    f"the rows are at irregular times, the training data had one every {self.step:g}{unit}: "
                    f"resample to that grid"
                )
            if not math.isclose(raw.step, self.step, rel_tol=RATE_TOLERANCE):
                raise ValueError(
                    f"one row every {raw.step:g}{unit}, the training data had one every {self.step:g}{unit}: "
                    f"resample to that grid"
                )

    def state(self) -> dict[str, Any]:
        return {
            "channels": list(self.channels),
            "dtype": "float32",
            "mean": list(self.mean),
            "std": list(self.std),
            "step": self.step,
            "time_kind": self.time_kind,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        return cls(
            channels=tuple(state["channels"]),
            mean=tuple(state["mean"]),
            std=tuple(state["std"]),
            step=state["step"],
            time_kind=state["time_kind"],
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
