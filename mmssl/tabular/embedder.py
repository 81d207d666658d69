"""A pretrained encoder with its preprocessing: from a user's table to a table of embeddings."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from mmssl.tabular.blocks import LARGEST, count_cells, only, open_blocks, spread
from mmssl.tabular.data import Roles, Source, embedding_frame, read_table, read_tables
from mmssl.tabular.encode import encode_rows
from mmssl.tabular.encoder import ENCODERS
from mmssl.tabular.preprocess import Drift, TablePreprocessor, describe_drift
from mmssl.tabular.tables import MISSING, Table
from mmssl.tabular.tableset import TableSet

if TYPE_CHECKING:
    import pandas as pd

PART = 1 << 24  # numbers of embeddings that are in memory at a time
DRIFT_ROWS, DRIFT_BLOCKS = 60_000, 32  # of files that are read block by block


@dataclass(frozen=True, eq=False)
class TableEmbedder:
    """What `mmssl.load` returns for a tabular run.

    Args:
        encoder: one of `mmssl.tabular.encoder`, with its final weights, on the device that computes.
        preprocessor: fitted on the training rows.
        id: column that names a row; None, or a table without it, counts them.
        names, missing: how the training data was read; see `mmssl.tabular.data.read_table`.
    """

    encoder: nn.Module
    preprocessor: TablePreprocessor
    id: str | None = None
    names: tuple[str, ...] | None = None
    missing: tuple[str, ...] = MISSING

    @property
    def dim(self) -> int:
        return self.encoder.dim  # type: ignore[return-value]

    def embed(self, data: Source | TableSet) -> pd.DataFrame:
        """One row of features a row of the table.

        Unseen categories and missing cells are fine; other columns than those of the training data are ignored.

        Args:
            data: a file, a folder, a DataFrame, an array with the columns of the training data, or a table that was
                read already.

        Raises:
            ValueError: a column of the training data is missing, or a cell is of another kind; the message says which.
        """
        table = self.read(data)
        return embedding_frame(self.features(table), table.ids)

    def embed_parts(self, data: Source) -> Iterator[pd.DataFrame]:
        """What `embed` gives, some rows after the others: embeddings, and files, may be larger than memory.

        Args:
            data: see `embed`. Files of more than 1 GiB of cells (four bytes each) are read block by block.
        """
        begin, step = 0, max(1, PART // self.dim)
        for table in self._read_parts(data):
            for first in range(0, len(table), step):
                part = table.select(slice(first, first + step))
                ids = np.arange(begin, begin + len(part)) if part.ids is None else part.ids
                yield embedding_frame(self.features(part), ids)
                begin += len(part)

    def features(self, table: TableSet) -> npt.NDArray[np.float32]:
        """``(n, dim)``."""
        return self.encode(self.preprocessor(table))

    def encode(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Model input ``(n, M)`` to ``(n, dim)``."""
        return encode_rows(self.encoder, x)

    def drift(self, data: Source | TableSet) -> list[Drift]:
        """How the columns of new rows differ from those of the training rows."""
        return self.preprocessor.drift(self.read(data))

    def describe_drift(self, data: Source) -> str:
        """The same in words; of files that are read block by block, it is that of random rows."""
        blocks = self._blocks(data)
        if blocks:
            drawn = spread(blocks, DRIFT_ROWS, most=DRIFT_BLOCKS, rng=np.random.default_rng(0))
            table = self._read(only(blocks, drawn))
        else:
            table = self.read(data)
        return describe_drift(self.preprocessor.drift(table), len(table))

    def read(self, data: Source | TableSet) -> TableSet:
        """New data as the training data was read."""
        if isinstance(data, TableSet):
            return data
        roles = Roles(id=self.id)
        columns = self.preprocessor.columns
        return read_table(data, roles, names=self.names, missing=self.missing, columns=columns)

    def _read_parts(self, data: Source) -> Iterator[TableSet]:
        blocks = self._blocks(data)
        if not blocks:
            yield self.read(data)
        for block in blocks:
            yield self._read([block])

    def _blocks(self, data: Source) -> list[Table]:
        """Of files that may not fit into memory; none of other data."""
        if not isinstance(data, str | os.PathLike) or count_cells(Path(data), names=self.names) <= LARGEST:
            return []
        return open_blocks(Path(data), names=self.names, missing=self.missing)

    def _read(self, blocks: Sequence[Table]) -> TableSet:
        return read_tables(blocks, Roles(id=self.id), missing=self.missing, columns=self.preprocessor.columns)

    def state(self) -> dict[str, Any]:
        return {
            "encoder": {"builder": type(self.encoder).__name__, "arguments": self.encoder.arguments},
            "preprocessor": self.preprocessor.state(),
            "id": self.id,
            "names": self.names,
            "missing": self.missing,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any], weights: dict[str, Tensor], device: str) -> TableEmbedder:
        encoder = ENCODERS[state["encoder"]["builder"]](**state["encoder"]["arguments"])
        encoder.load_state_dict(weights)
        return cls(
            encoder=encoder.to(device).eval(),
            preprocessor=TablePreprocessor.from_state(state["preprocessor"]),
            id=state["id"],
            names=None if state["names"] is None else tuple(state["names"]),
            missing=tuple(state["missing"]),
        )
