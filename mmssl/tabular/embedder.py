"""A pretrained encoder with its preprocessing: from a user's table to a table of embeddings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from mmssl.tabular.blocks import open_blocks
from mmssl.tabular.data import Roles, Source, embedding_frame, read_table, read_tables
from mmssl.tabular.encode import encode_rows
from mmssl.tabular.encoder import ENCODERS
from mmssl.tabular.preprocess import Drift, TablePreprocessor
from mmssl.tabular.tables import MISSING
from mmssl.tabular.tableset import TableSet

if TYPE_CHECKING:
    import pandas as pd


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
        """What `embed` gives, a block of the file after the other: data may be larger than memory.

        Args:
            data: see `embed`. Compressed text is embedded in one part, as it cannot be read in several.
        """
        if not isinstance(data, str | os.PathLike) or Path(data).suffix.lower() == ".gz":
            yield self.embed(data)
            return
        begin = 0
        for block in open_blocks(Path(data), names=self.names, missing=self.missing):
            roles = Roles(id=self.id if self.id in block.columns else None)
            table = read_tables([block], roles, missing=self.missing, columns=self.preprocessor.columns)
            ids = np.arange(begin, begin + len(table)) if table.ids is None else table.ids
            yield embedding_frame(self.features(table), ids)
            begin += len(table)

    def features(self, table: TableSet) -> npt.NDArray[np.float32]:
        """``(n, dim)``."""
        return self.encode(self.preprocessor(table))

    def encode(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Model input ``(n, M)`` to ``(n, dim)``."""
        return encode_rows(self.encoder, x)

    def drift(self, data: Source | TableSet) -> list[Drift]:
        """How the columns of new rows differ from those of the training rows."""
        return self.preprocessor.drift(self.read(data))

    def read(self, data: Source | TableSet) -> TableSet:
        """New data as the training data was read."""
        if isinstance(data, TableSet):
            return data
        roles = Roles(id=self.id)
        columns = self.preprocessor.columns
        return read_table(data, roles, names=self.names, missing=self.missing, columns=columns)

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
