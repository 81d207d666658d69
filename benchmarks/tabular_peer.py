"""SCARF as ts3l 0.70 has it, the package that most people would take; nothing of it is copied here.

Its data set corrupts the row that it is asked for, its loss makes all N² · D products at once, and Lightning's Trainer
feeds the one to the other. The network is given, so that both sides train the same.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pandas as pd
from torch import Tensor, nn
from torch.utils.data import Dataset

CORRUPTION, TEMPERATURE, LEARNING_RATE = 0.6, 1.0, 1e-3
WARM = 2  # steps before the time is taken: workers start, and memory is allocated


def installed() -> bool:
    return importlib.util.find_spec("ts3l") is not None and importlib.util.find_spec("pytorch_lightning") is not None


def row_by_row(x: Tensor) -> Dataset[tuple[Tensor, Tensor]]:
    """Its data set on rows ``(N, M)``, whose columns all count as numbers and stay in their order."""
    with _quiet():
        from ts3l.utils.scarf_utils import SCARFDataset

        columns = list(range(x.shape[1]))
        return SCARFDataset(
            pd.DataFrame(x.numpy()), config=_config(x.shape[1]), continuous_cols=columns, category_cols=[]
        )


def seconds_a_step(
    x: Tensor, encoder: nn.Module, projector: nn.Module, *, batch_size: int, steps: int, workers: int
) -> float:
    """Mean of ``steps`` steps of its training, loading included.

    Args:
        x: ``(N, M)`` rows.
        encoder: ``(B, M)`` to ``(B, D)``; takes the place of its embedding and backbone.
        projector: takes the place of its head.
        batch_size: of its loader.
        steps: that are timed.
        workers: processes of its loader.
    """
    with _quiet():
        import pytorch_lightning as pl
        from ts3l.pl_modules import SCARFLightning
        from ts3l.utils import TS3LDataModule

        class Clock(pl.Callback):
            """When steps ended."""

            def __init__(self) -> None:
                self.ends: list[float] = []

            def on_train_batch_end(self, *_: Any) -> None:
                self.ends.append(time.perf_counter())

        module = SCARFLightning(_config(x.shape[1]))
        module.model.embedding_module = nn.Identity()
        module.model.backbone_module = encoder
        module.model.pretraining_head = projector
        rows = row_by_row(x)
        data = TS3LDataModule(rows, rows, batch_size, train_sampler="random", n_jobs=workers, drop_last=True)
        clock = Clock()
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=1,
            limit_train_batches=WARM + steps,
            limit_val_batches=0,
            callbacks=[clock],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, data)
    return (clock.ends[-1] - clock.ends[WARM - 1]) / steps


def _config(columns: int) -> Any:
    from ts3l.utils.backbone_utils import MLPBackboneConfig
    from ts3l.utils.embedding_utils import IdentityEmbeddingConfig
    from ts3l.utils.scarf_utils import SCARFConfig

    return SCARFConfig(
        task="classification",
        loss_fn="CrossEntropyLoss",
        embedding_config=IdentityEmbeddingConfig(input_dim=columns),
        backbone_config=MLPBackboneConfig(input_dim=columns, hidden_dims=256),
        output_dim=2,
        optim="Adam",
        optim_hparams={"lr": LEARNING_RATE},
        corruption_rate=CORRUPTION,
        tau=TEMPERATURE,
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Its warnings and Lightning's remarks on the machine are nobody's business here."""
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
