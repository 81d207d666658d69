"""The run folder: everything that a run leaves behind, and nothing that it needs from elsewhere."""

from __future__ import annotations

import csv
import math
import os
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mmssl.train.checkpoint import Checkpoints


class Run:
    """A folder ``<root>/<recipe>/<time>`` and the names of what lies in it."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @classmethod
    def create(cls, recipe: str, *, root: str | os.PathLike[str] = "runs") -> Run:
        """A new, empty folder.

        Raises:
            OSError: the folder cannot be made or written to.
        """
        parent = Path(root) / recipe
        name = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        for i in range(1000):
            path = parent / (name if i == 0 else f"{name}_{i}")
            try:
                return cls.at(path, exist_ok=False)
            except FileExistsError:  # another run started in the same second
                continue
        raise AssertionError(f"a thousand runs named {parent / name}")

    @classmethod
    def at(cls, path: str | os.PathLike[str], *, exist_ok: bool = True) -> Run:
        """The folder ``path``, made if it is not there, and tried out.

        Raises:
            OSError: the folder cannot be made or written to.
        """
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir(exist_ok=exist_ok)
            (path / ".written").write_bytes(bytes(4096))
            (path / ".written").unlink()
        except FileExistsError:
            if path.is_dir():
                raise
            raise OSError(f"the run folder {path} is a file; give another place with root=<folder>") from None
        except OSError as error:
            raise OSError(
                f"the run folder {path} cannot be written to: {error.strerror or error}; "
                "give another place with root=<folder>"
            ) from error
        return cls(path)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Run:
        """An existing run.

        Raises:
            FileNotFoundError: it is not there, or is no run folder.
        """
        run = cls(path)
        if not run.config.exists():
            raise FileNotFoundError(f"{path} is no run folder: it has no config.yaml")
        return run

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def data(self) -> Path:
        """What tells the data from other data."""
        return self.path / "data.json"

    @property
    def results(self) -> Path:
        return self.path / "results.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def embeddings(self) -> Path:
        return self.path / "embeddings.parquet"

    def checkpoints(self, seed: int = 0) -> Checkpoints:
        return Checkpoints(self.path / "checkpoint" / f"seed-{seed}")

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.csv"

    def log(self, seed: int = 0) -> MetricsLog:
        return MetricsLog(self.path, seed=seed)


class MetricsLog:
    """Metrics by step, into ``metrics.csv`` and TensorBoard.

    Several seeds share the file, each with a log of its own, one after the other.

    Args:
        folder: of both.
        seed: stands in every row.
        tensorboard: write event files, too.
    """

    def __init__(self, folder: str | os.PathLike[str], *, seed: int = 0, tensorboard: bool = True) -> None:
        self.folder = Path(folder)
        self.file = self.folder / "metrics.csv"
        self.seed = seed
        written = read_metrics(self.file) if self.file.exists() else []
        self.rows = [row for row in written if row["seed"] == seed]
        self._others = [row for row in written if row["seed"] != seed]
        self._columns: list[str] = []  # in the file as it stands; none until this log has written it
        self._tensorboard = tensorboard
        self._writer: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """One row; rows of the same or a later step, from before an interruption, are replaced."""
        written = _cells({"seed": float(self.seed), "step": float(step), **metrics})
        row = {name: float(cell) for name, cell in written.items() if cell}  # as another process will read it
        kept = [old for old in self.rows if old["step"] < step]
        append = len(kept) == len(self.rows) and set(row) <= set(self._columns)
        self.rows = [*kept, row]
        if append:
            with self.file.open("a", newline="") as file:
                csv.DictWriter(file, self._columns, restval="").writerow(_cells(row))
        else:
            self._rewrite()
        if self._tensorboard:
            self._write_tensorboard(step, metrics)

    def _rewrite(self) -> None:
        rows = [*self._others, *self.rows]
        self._columns = list(dict.fromkeys(name for row in rows for name in row))
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.file.with_suffix(".part")
        with part.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns, restval="")
            writer.writeheader()
            writer.writerows(_cells(row) for row in rows)
        os.replace(part, self.file)

    def _write_tensorboard(self, step: int, metrics: dict[str, float]) -> None:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.folder / "tensorboard" / f"seed-{self.seed}"), purge_step=step)
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)


def read_metrics(file: Path) -> list[dict[str, float]]:
    """Rows of a ``metrics.csv``; empty cells are left out, and so is a last row that a crash cut off."""
    with file.open(newline="") as opened:
        text = opened.read()
    complete = text[: text.rfind("\n") + 1].splitlines()
    return [{name: float(cell) for name, cell in row.items() if cell} for row in csv.DictReader(complete)]


def _cells(row: dict[str, float]) -> dict[str, str]:
    whole = ("seed", "step", "skipped")
    return {
        name: "" if math.isnan(value) else str(int(value)) if name in whole else f"{value:.9g}"
        for name, value in row.items()
    }
