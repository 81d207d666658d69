"""Windows over pieces of a Parquet folder: each is known in memory, its rows are read when they are needed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from mmssl.timeseries.pieces import Pieces
from mmssl.timeseries.preprocess import SeriesPreprocessor
from mmssl.timeseries.series import Labels, SeriesSet, as_objects, as_times, cut_out

Index = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
REMEMBERED = 2  # pieces that stay in memory for windows that are fetched in order


@dataclass(frozen=True, eq=False)
class StreamedWindows:
    """Windows of which only the places are in memory; the same face as `Windows`.

    Args:
        pieces: where the rows are.
        as_they_are: ``(pieces,)``, the rows of a piece are wanted in the order of the files.
        series: entities, channels and the like; no rows.
        piece: ``(n,)`` int32, in ascending order.
        starts: ``(n,)`` first row, counted within the piece.
        lengths: ``(n,)`` rows.
        entity: ``(n,)`` position in ``series.ids``.
        rows: ``(n,)`` first row, counted within the entity.
        places: ``(n,)`` where it starts, see `Windows.places`.
        codes: ``(n,)`` position of its label in ``label_names``, -1 for none.
        label_names: what the codes stand for.
        preprocessor: standardises; None gives raw values.
    """

    pieces: Pieces
    as_they_are: npt.NDArray[np.bool_]
    series: SeriesSet
    piece: npt.NDArray[np.int32]
    starts: Index
    lengths: Index
    entity: Index
    rows: Index
    places: npt.NDArray[np.int64] | npt.NDArray[np.float64]
    codes: npt.NDArray[np.int32]
    label_names: Sequence[object] = ()
    preprocessor: SeriesPreprocessor | None = None
    _recent: OrderedDict[int, Floats] = field(default_factory=OrderedDict, init=False)

    def __len__(self) -> int:
        return len(self.piece)

    @property
    def length(self) -> int:
        """Rows of the longest window."""
        return int(self.lengths.max())

    def load(self, piece: int) -> Floats:
        """The rows of a piece ``(rows, C)``, read from the files."""
        values = self.pieces.numbers(piece) if self.as_they_are[piece] else self.pieces.read(piece)[0].values
        return values if self.preprocessor is None else self.preprocessor.standardised(values)

    def fetch(self, index: npt.NDArray[np.integer], length: int | None = None) -> Floats:
        """See `Windows.fetch`. Quick for windows in order; else a piece is read for each change of the piece."""
        return self.gather(index, self._remembered, length)

    def gather(
        self, index: npt.NDArray[np.integer], rows_of: Callable[[int], Floats], length: int | None = None
    ) -> Floats:
        """``(n, T, C)`` from pieces whose rows ``rows_of`` has."""
        length = int(self.lengths[index].max()) if length is None else length
        out = np.empty((len(index), length, len(self.series.channels)), dtype=np.float32)
        owner = self.piece[index]
        for piece in np.unique(owner):
            mine = np.flatnonzero(owner == piece)
            windows = index[mine]
            out[mine] = cut_out(rows_of(int(piece)), self.starts[windows], self.lengths[windows], length)
        return out

    def subset(self, index: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> StreamedWindows:
        """The chosen windows, in the order of the files."""
        chosen = np.flatnonzero(index) if index.dtype == bool else np.sort(index)
        names = ("piece", "starts", "lengths", "entity", "rows", "places", "codes")
        return replace(self, **{name: getattr(self, name)[chosen] for name in names})

    def by_piece(self) -> Iterator[StreamedWindows]:
        """The windows of each piece."""
        for piece in np.unique(self.piece):
            yield self.subset(self.piece == piece)

    def labels(self) -> Labels:
        """See `Windows.labels`."""
        return as_objects([*self.label_names, None])[self.codes]

    def names(self) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.generic]]:
        """See `Windows.names`."""
        return self.series.ids[self.entity], as_times(self.places, self.series.time_kind)

    def _remembered(self, piece: int) -> Floats:
        if piece not in self._recent:
            while len(self._recent) >= REMEMBERED:
                self._recent.popitem(last=False)
            self._recent[piece] = self.load(piece)
        return self._recent[piece]
