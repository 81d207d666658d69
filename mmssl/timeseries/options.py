"""How tables of sensors are read: everything that the user can say about columns, times and irregularities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmssl.timeseries.clock import ClockReset
from mmssl.timeseries.columns import Columns, span
from mmssl.timeseries.rows import Regularity
from mmssl.timeseries.series import LabelPolicy

READING = ("id", "time", "resample", "static", "time_zone", "clock_reset", "hold", "max_gap")  # of new data as well


@dataclass(frozen=True)
class Reading:
    """How tables are read. Spans of time are pandas offsets (``"15min"``) for datetimes, else numbers in their unit.

    Args:
        id: column that names the entity of a row; None for a single entity.
        time: column with datetimes (naive ones are taken as UTC) or numbers in any unit; None for rows as they come.
        channels: columns to learn from; None for every numeric or boolean column that is nothing else. For arrays,
            the names of the C channels.
        label: column with the class of a row or an entity; empty where unlabelled.
        resample: regular grid; each bin is the mean of its rows, and missing without one.
        static: columns with one value an entity, which are kept beside the embeddings and never learnt from.
        units: of channels. Units in Parquet or Arrow (metadata ``unit`` of a field) or in ``frame.attrs["units"]`` are
            known anyway, and must agree.
        time_zone: of clocks that show local time, such as ``"Europe/Berlin"``.
        clock_reset: where time goes back, ``"sort"`` the rows, ``"split"`` into two stretches, or raise an ``"error"``.
        hold: fill missing values by the last one of the channel up to this age, for sensors that are logged when they
            change.
        max_gap: no window holds rows from both sides of a longer gap.
        label_policy: of a window whose rows have several labels, see `SeriesSet`.
        time_format: that dates as text have, such as ``"%d/%m/%Y"``, where they fit others as well.
    """

    id: str | None = None
    time: str | None = None
    channels: Sequence[str] | str | None = None
    label: str | None = None
    resample: str | float | None = None
    static: Sequence[str] = ()
    units: Mapping[str, str] | None = None
    time_zone: str | None = None
    clock_reset: ClockReset = "sort"
    hold: str | float | None = None
    max_gap: str | float | None = None
    label_policy: LabelPolicy = "drop"
    time_format: str | None = None

    def __post_init__(self) -> None:
        if self.label_policy not in ("drop", "majority", "last"):
            raise ValueError(f"data.label_policy must be drop, majority or last, got {self.label_policy!r}")
        wanted = self.wanted
        if wanted is not None and (not wanted or len(set(wanted)) < len(wanted)):
            raise ValueError(f"data.channels must name at least one column, each once, got {wanted}")

    @property
    def wanted(self) -> list[str] | None:
        """The channels as a list."""
        if self.channels is None:
            return None
        return [self.channels] if isinstance(self.channels, str) else [str(name) for name in self.channels]

    def for_tables(self) -> dict[str, object]:
        """What arrays have no use for, by the name of the setting; None where the user said nothing."""
        names = ("id", "time", "label", "resample", "time_zone", "hold", "max_gap")
        given: dict[str, object] = {f"data.{name}": getattr(self, name) for name in names}
        return given | {"data.static": list(self.static) or None}


def regularity(how: Reading, columns: Columns) -> Regularity:
    """The spans as numbers."""
    kind = "rows" if columns.time is None else "datetime" if columns.datetimes else "number"
    if how.resample is not None and kind == "rows":
        raise ValueError(f"data.resample={how.resample} needs times: set data.time to the column that holds them")
    return Regularity(
        grid=span("data.resample", how.resample, kind, columns.time),
        hold=span("data.hold", how.hold, kind, columns.time),
        max_gap=span("data.max_gap", how.max_gap, kind, columns.time),
        reset=how.clock_reset,
    )
