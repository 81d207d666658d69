"""SCARF and VIME as scikit-learn transformers: `fit` on unlabelled rows, `transform` to embeddings.

    from mmssl.tabular import ScarfTransformer

    model = make_pipeline(ScarfTransformer(), LogisticRegression())
    embeddings = ScarfTransformer().set_output(transform="pandas").fit_transform(frame)

They take DataFrames and arrays with numbers, categories, dates, and missing cells everywhere; see `read_table`. This is
a facade: it joins the modality with the training loop, as a recipe does.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from numbers import Integral
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from mmssl.core.types import Embedder
from mmssl.tabular.augment import Marginals, corrupted_columns
from mmssl.tabular.data import Roles, read_table
from mmssl.tabular.dataset import TableSource
from mmssl.tabular.embedder import TableEmbedder
from mmssl.tabular.encoder import ENCODERS, MLP
from mmssl.tabular.preprocess import Drift, TablePreprocessor
from mmssl.tabular.scarf import scarf
from mmssl.tabular.stopping import Patience, fixed_loss
from mmssl.tabular.tableset import TableSet
from mmssl.tabular.vime import VIME, default_width
from mmssl.train.batches import ShuffledBatches
from mmssl.train.estimator import PretrainedTransformer
from mmssl.train.fit import fit, setup_fabric
from mmssl.train.optim import build_optimizer

if TYPE_CHECKING:
    import pandas as pd

Table: TypeAlias = "pd.DataFrame | npt.NDArray[Any] | Sequence[Sequence[Any]]"


class _TableTransformer(PretrainedTransformer):
    """What both transformers share: everything but the method.

    Attributes:
        embedder_: the `TableEmbedder`, whose ``drift`` compares new rows with the training rows.
        n_epochs_: epochs that were trained.
        loss_: mean training loss of each epoch.
        validation_loss_: of each epoch, empty without validation rows.
        n_features_in_, feature_names_in_: as everywhere in scikit-learn.
    """

    embedder_: TableEmbedder
    validation_loss_: list[float]
    _columns: list[str]  # of the table that was fitted
    encoder: Callable[[Sequence[int]], nn.Module] | None
    hidden: int | None
    depth: int
    epochs: int
    batch_size: int
    lr: float
    validation_fraction: float
    patience: int | None
    scaling: str
    max_categories: int
    categorical: Sequence[str | int] | None
    random_state: int | np.random.RandomState | None
    device: str

    @abstractmethod
    def _method(self, encoder: nn.Module, train: Tensor, cardinalities: Sequence[int]) -> nn.Module: ...

    def fit(self, X: Table, y: object = None) -> Self:
        """Pretrain on the rows of ``X``; ``y`` is ignored.

        Args:
            X: a DataFrame, or an array ``(n, M)``, whose cells may be missing.

        Raises:
            ValueError: the rows cannot be learnt from; the message says why and what to do.
        """
        self._check()
        table = self._read(X, first=True)
        preprocessor = TablePreprocessor(self.scaling, self.max_categories)  # type: ignore[arg-type]
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        held = np.random.default_rng(seed).permutation(len(table))
        count = int(self.validation_fraction * len(table))
        count = count if count >= 2 and len(table) - count >= 2 else 0
        train = table.select(np.sort(held[count:]))
        preprocessor = preprocessor.fit(train)
        fabric = setup_fabric(device=self.device)
        x = torch.from_numpy(preprocessor(train)).to(fabric.device)
        validation = torch.from_numpy(preprocessor(table.select(held[:count]))).to(fabric.device)
        with torch.random.fork_rng(devices=[fabric.device] if fabric.device.type == "cuda" else []):
            torch.manual_seed(seed)
            hidden = int(self.hidden or default_width(preprocessor.cardinalities))
            build = self.encoder or partial(MLP, hidden=hidden, depth=int(self.depth))
            method = self._method(build(preprocessor.cardinalities), x, preprocessor.cardinalities)
            self._train(method, x, validation, fabric, seed)
        self.embedder_ = TableEmbedder(method.export().cpu().eval(), preprocessor)  # type: ignore[operator]
        return self

    def transform(self, X: Table) -> npt.NDArray[np.float32]:
        """Embeddings ``(n, dim)``; a DataFrame after ``set_output(transform="pandas")``."""
        check_is_fitted(self)
        return self.embedder_.features(self._read(X, first=False))

    def drift(self, X: Table) -> list[Drift]:
        """How the columns of new rows differ from those of the training rows."""
        check_is_fitted(self)
        return self.embedder_.preprocessor.drift(self._read(X, first=False))

    def _settings(self) -> dict[str, Any]:
        settings = super()._settings()
        settings["encoder"] = None  # the embedder has it
        if settings["categorical"] is not None:
            settings["categorical"] = [
                int(name) if isinstance(name, Integral) else str(name) for name in settings["categorical"]
            ]
        return settings

    def _fitted(self) -> dict[str, Any]:
        names = getattr(self, "feature_names_in_", None)
        return super()._fitted() | {
            "custom_encoder": self.encoder is not None,
            "feature_names_in": None if names is None else list(names),
            "columns": self._columns,
            "validation_loss": self.validation_loss_,
        }

    def _restore(self, embedder: Embedder, saved: dict[str, Any]) -> None:
        super()._restore(embedder, saved)
        assert isinstance(embedder, TableEmbedder)
        if saved["custom_encoder"]:
            arguments: dict[str, Any] = dict(embedder.encoder.arguments)  # type: ignore[arg-type]
            del arguments["cardinalities"]
            self.encoder = partial(ENCODERS[type(embedder.encoder).__name__], **arguments)
        if saved["feature_names_in"] is not None:
            self.feature_names_in_ = np.array(saved["feature_names_in"], dtype=object)
        self._columns = saved["columns"]
        self.validation_loss_ = saved["validation_loss"]
        self.n_epochs_ = len(self.loss_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def _check(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.batch_size < 2:
            raise ValueError("batch_size must be at least 2: a row is told from the others of its batch, got 1")
        if not 0 <= self.validation_fraction < 1:
            raise ValueError(f"validation_fraction must lie in [0, 1), got {self.validation_fraction}")

    def _read(self, X: Table, *, first: bool) -> TableSet:
        """The columns as scikit-learn checks them, then as this project reads them; by position if one has no names."""
        framed = hasattr(X, "iloc")  # a DataFrame keeps the types of its columns
        rows: Any = X
        if framed:
            validate_data(self, X, reset=first, skip_check_array=True)
        else:
            rows = validate_data(
                self, X, reset=first, dtype=None, ensure_all_finite="allow-nan", ensure_min_samples=2 if first else 1
            )
        if first:
            self._columns = [str(name) for name in rows.columns] if framed else [f"x{i}" for i in range(rows.shape[1])]
            return read_table(rows, Roles(categorical=self._categorical(positions=not framed)))
        if framed and not (hasattr(self, "feature_names_in_") and all(isinstance(name, str) for name in rows.columns)):
            rows = rows.set_axis(self._columns, axis=1)
        return read_table(rows, names=self._columns, columns=self.embedder_.preprocessor.columns)

    def _categorical(self, *, positions: bool) -> list[str]:
        names = [] if self.categorical is None else list(self.categorical)
        return [f"x{name}" if positions and isinstance(name, Integral) else str(name) for name in names]

    def _train(self, method: nn.Module, x: Tensor, validation: Tensor, fabric: Any, seed: int) -> None:
        batches = ShuffledBatches(TableSource(x), batch_size=self.batch_size, seed=seed)
        an_epoch = max(1, len(x) // batches.batch_size)
        patience = Patience(self.patience)
        self.loss_ = []
        self.validation_loss_ = []
        optimizer = build_optimizer("adam", method.parameters(), lr=self.lr)
        steps = self.epochs * an_epoch
        for state in fit(method, batches, optimizer=optimizer, steps=steps, fabric=fabric, log_every=an_epoch):
            if state.step % an_epoch:
                continue
            self.loss_.append(state.metrics["loss"])
            if not math.isfinite(self.loss_[-1]):
                raise ValueError(f"the loss is {self.loss_[-1]} in epoch {len(self.loss_)}: lower lr={self.lr}")
            if len(validation):
                self.validation_loss_.append(fixed_loss(method, validation, batch_size=self.batch_size))
                if patience.exhausted(self.validation_loss_[-1]):
                    break
        self.n_epochs_ = len(self.loss_)


class ScarfTransformer(_TableTransformer):
    """SCARF (Bahri et al., ICLR 2022): rows as embeddings that tell a row from others although most cells changed.

    Args:
        corruption: share of the cells of a row that are drawn anew; 0.6 in the paper.
        temperature: of the softmax over cosine similarities; 1 in the paper, 0.05 was better on most tables measured.
        hidden: width of the encoder's layers, the size of an embedding; 256 in the paper.
        depth: number of layers; 4 in the paper.
        encoder: makes another encoder of the columns' cardinalities, such as ``partial(FTTransformer, dim=64)``;
            ``hidden`` and ``depth`` are ignored then.
        epochs: at most.
        batch_size: rows of a batch.
        lr: learning rate of Adam.
        validation_fraction: share of the rows whose loss ends the training early; too few of them, and it does not.
        patience: epochs without a better validation loss before the training ends; None trains all epochs.
        scaling: of numbers: ``"quantile"`` or ``"standard"``.
        max_categories: of a column; rarer ones count as unseen.
        categorical: names (or positions in an array) of columns that are categories although they look like numbers.
        random_state: seed of weights, batches and corruptions.
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``, for the training.
    """

    def __init__(
        self,
        *,
        corruption: float = 0.6,
        temperature: float = 1.0,
        hidden: int = 256,
        depth: int = 4,
        encoder: Callable[[Sequence[int]], nn.Module] | None = None,
        epochs: int = 100,
        batch_size: int = 128,
        lr: float = 1e-3,
        validation_fraction: float = 0.1,
        patience: int | None = 3,
        scaling: str = "quantile",
        max_categories: int = 1000,
        categorical: Sequence[str | int] | None = None,
        random_state: int | np.random.RandomState | None = None,
        device: str = "cpu",
    ) -> None:
        self.corruption = corruption
        self.temperature = temperature
        self.hidden = hidden
        self.depth = depth
        self.encoder = encoder
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.scaling = scaling
        self.max_categories = max_categories
        self.categorical = categorical
        self.random_state = random_state
        self.device = device

    def _method(self, encoder: nn.Module, train: Tensor, cardinalities: Sequence[int]) -> nn.Module:
        if corrupted_columns(self.corruption, len(cardinalities)) == 0:
            raise ValueError(
                f"corruption={self.corruption} of {len(cardinalities)} feature(s) changes no cell, and both views of a "
                "row would be the same: SCARF needs more columns, or a larger corruption"
            )
        return scarf(
            encoder,  # type: ignore[arg-type]
            Marginals(train),
            corruption=self.corruption,
            temperature=self.temperature,
            hidden=encoder.dim,  # type: ignore[arg-type]
        )


class VimeTransformer(_TableTransformer):
    """VIME's self-supervised stage (Yoon et al., NeurIPS 2020): an encoder that finds and restores replaced cells.

    Args:
        rate: probability with which a cell is replaced; 0.3 in the paper.
        alpha: weight of restoring the row beside finding the cells; 2 in the paper.
        hidden: width of the encoder's layers, the size of an embedding; None takes that of the input, as the paper,
            1,024 at most.
        depth: number of layers; 1 in the paper.
        encoder, epochs, batch_size, lr, validation_fraction, patience, scaling, max_categories, categorical,
            random_state, device: see `ScarfTransformer`.
    """

    def __init__(
        self,
        *,
        rate: float = 0.3,
        alpha: float = 2.0,
        hidden: int | None = None,
        depth: int = 1,
        encoder: Callable[[Sequence[int]], nn.Module] | None = None,
        epochs: int = 100,
        batch_size: int = 128,
        lr: float = 1e-3,
        validation_fraction: float = 0.1,
        patience: int | None = 3,
        scaling: str = "quantile",
        max_categories: int = 1000,
        categorical: Sequence[str | int] | None = None,
        random_state: int | np.random.RandomState | None = None,
        device: str = "cpu",
    ) -> None:
        self.rate = rate
        self.alpha = alpha
        self.hidden = hidden
        self.depth = depth
        self.encoder = encoder
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.scaling = scaling
        self.max_categories = max_categories
        self.categorical = categorical
        self.random_state = random_state
        self.device = device

    def _method(self, encoder: nn.Module, train: Tensor, cardinalities: Sequence[int]) -> nn.Module:
        return VIME(encoder, cardinalities, rate=self.rate, alpha=self.alpha)  # type: ignore[arg-type]
