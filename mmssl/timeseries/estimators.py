"""TS2Vec as a scikit-learn transformer: `fit` on unlabelled series, `transform` to an embedding of each.

    from mmssl.timeseries import Ts2VecTransformer

    model = make_pipeline(Ts2VecTransformer(), SVC())
    model.fit(series, labels)  # (N, T, C), or a list of N arrays (T, C) of any lengths

This is a facade: it joins the modality with the training loop, as a recipe does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from mmssl.timeseries.batches import SeriesSource
from mmssl.timeseries.embedder import SeriesEmbedder
from mmssl.timeseries.encoder import DilatedConvEncoder
from mmssl.timeseries.preprocess import SeriesPreprocessor
from mmssl.timeseries.rows import check_channels
from mmssl.timeseries.series import SeriesSet, as_objects, cut_windows
from mmssl.timeseries.ts2vec import TS2Vec
from mmssl.train.batches import ShuffledBatches
from mmssl.train.estimator import PretrainedTransformer
from mmssl.train.fit import fit, setup_fabric
from mmssl.train.optim import build_optimizer, decay_groups

Floats = npt.NDArray[np.float32]
Series = npt.NDArray[np.floating[Any]] | Sequence[npt.NDArray[np.floating[Any]]]
SMALL = 100_000  # values; the authors train so little data for 200 steps, and more for 600


class Ts2VecTransformer(PretrainedTransformer):
    """TS2Vec (Yue et al., AAAI 2022): one embedding a series, whatever its length; NaN is missing.

    Args:
        dim: size of an embedding; 320 in the paper.
        hidden: width of the encoder's layers; 64 in the paper.
        depth: number of its blocks; 10 in the paper.
        steps: of the optimiser; None takes the authors', 200 for small data and 600 for other.
        batch_size: series of a batch.
        lr: learning rate of AdamW.
        temporal_unit: finest level of the contrast, 2^temporal_unit steps; larger saves time on very long series.
        mask_rate: probability that a timestamp is hidden.
        max_length: longest stretch of a series that a step sees; None for all of it.
        random_state: seed of weights, batches, crops and masks.
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``, for the training.

    Attributes:
        embedder_: the `SeriesEmbedder`, which also has vectors for single timestamps.
        loss_: mean training loss of each tenth of the training.
        n_features_in_: channels of the series.
    """

    embedder_: SeriesEmbedder

    def __init__(
        self,
        *,
        dim: int = 320,
        hidden: int = 64,
        depth: int = 10,
        steps: int | None = None,
        batch_size: int = 8,
        lr: float = 1e-3,
        temporal_unit: int = 0,
        mask_rate: float = 0.5,
        max_length: int | None = 3000,
        random_state: int | np.random.RandomState | None = None,
        device: str = "cpu",
    ) -> None:
        self.dim = dim
        self.hidden = hidden
        self.depth = depth
        self.steps = steps
        self.batch_size = batch_size
        self.lr = lr
        self.temporal_unit = temporal_unit
        self.mask_rate = mask_rate
        self.max_length = max_length
        self.random_state = random_state
        self.device = device

    def fit(self, X: Series, y: object = None) -> Self:
        """Pretrain on the series ``X``; ``y`` is ignored.

        Args:
            X: ``(N, T, C)``, ``(N, T)`` for one channel, or N arrays ``(T, C)`` or ``(T,)`` of any lengths.

        Raises:
            ValueError: the series cannot be learnt from; the message says why and what to do.
        """
        for name in ("steps", "batch_size"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        series = read(X)
        check_channels(series)
        shortest = 2 ** (self.temporal_unit + 1)
        if (series.lengths < shortest).any():
            i = int(series.lengths.argmin())
            raise ValueError(
                f"series {i} has {series.lengths[i]} timestamp(s), and {shortest} are needed"
                + (f" for temporal_unit={self.temporal_unit}" if self.temporal_unit else "")
                + ": leave it out"
            )
        preprocessor = SeriesPreprocessor().fit(series)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        lost = np.isnan(series.values)
        arguments: dict[str, Any] = {
            "in_channels": len(series.channels),
            "dim": self.dim,
            "hidden": self.hidden,
            "depth": self.depth,
            "missing": "indicator" if (lost.any(axis=1) & ~lost.all(axis=1)).any() else "drop",
        }
        source = SeriesSource(cut_windows(preprocessor(series)))
        fabric = setup_fabric(device=self.device)
        with torch.random.fork_rng(devices=[fabric.device] if fabric.device.type == "cuda" else []):
            torch.manual_seed(seed)
            method = TS2Vec(
                DilatedConvEncoder(**arguments),
                temporal_unit=self.temporal_unit,
                mask_rate=self.mask_rate,
                max_length=self.max_length,
                seed=seed,
            )
            self.loss_ = self._train(method, source, series.values.size, fabric, seed)
        self.embedder_ = SeriesEmbedder(method.export().cpu().eval(), arguments, preprocessor)
        self.n_features_in_ = len(series.channels)
        return self

    def transform(self, X: Series) -> Floats:
        """Embeddings ``(N, dim)``; a DataFrame after ``set_output(transform="pandas")``."""
        check_is_fitted(self)
        series = read(X)
        if len(series.channels) != self.n_features_in_:
            raise ValueError(
                f"the series have {len(series.channels)} channels, and {type(self).__name__} was fitted on "
                f"{self.n_features_in_}"
            )
        for i, (start, stop) in enumerate(pairwise(series.offsets.tolist())):
            values = series.values[start:stop]
            if np.isnan(values).all() or np.isinf(values).any():
                problem = "no value at all" if np.isnan(values).all() else "infinite values"
                raise ValueError(f"series {i} has {problem}: leave it out, or write NaN for what is missing")
        return self.embedder_.features(self.embedder_.windows(series))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = True
        return tags

    def _train(self, method: TS2Vec, source: SeriesSource, values: int, fabric: Any, seed: int) -> list[float]:
        steps = self.steps or (200 if values <= SMALL else 600)
        batches = ShuffledBatches(source, batch_size=self.batch_size, seed=seed)
        groups = decay_groups(method, lr=self.lr, weight_decay=0.01, decay_all=True)  # of everything, as the authors'
        optimizer = build_optimizer("adamw", groups, lr=self.lr)
        often = max(1, steps // 10)
        losses = []
        for state in fit(method, batches, optimizer=optimizer, steps=steps, fabric=fabric, log_every=often):
            if state.metrics:
                losses.append(state.metrics["loss"])
                if not math.isfinite(losses[-1]):
                    raise ValueError(f"the loss is {losses[-1]} in step {state.step}: lower lr={self.lr}")
        return losses


def read(X: Series) -> SeriesSet:
    """Series of one length in an array, or of any lengths in a list; a DataFrame has a series in each row.

    Raises:
        ValueError: they are no series, or have different channels.
    """
    if hasattr(X, "to_numpy"):
        X = X.to_numpy()
    if isinstance(X, np.ndarray) and X.dtype != object:
        if X.ndim not in (2, 3) or X.dtype.kind not in "fiub":
            raise ValueError(f"series must be numbers of shape (N, T, C) or (N, T), got {X.dtype} of shape {X.shape}")
        return SeriesSet.from_array(X.astype(np.float32))
    parts = [np.asarray(part) for part in X]
    if not parts:
        raise ValueError("there is no series in an empty list")
    for i, part in enumerate(parts):
        if part.ndim not in (1, 2) or part.dtype.kind not in "fiub" or not part.size:
            raise ValueError(f"series {i} must be numbers of shape (T, C) or (T,), got {part.dtype} of {part.shape}")
    columns = [part.reshape(len(part), -1).astype(np.float32) for part in parts]
    for i, part in enumerate(columns):
        if part.shape[1] != columns[0].shape[1]:
            raise ValueError(f"series {i} has {part.shape[1]} channels, and series 0 has {columns[0].shape[1]}")
    return SeriesSet(
        values=np.concatenate(columns),
        offsets=np.cumsum([0, *map(len, columns)]).astype(np.int64),
        ids=as_objects(range(len(columns))),
        channels=tuple(f"channel_{i}" for i in range(columns[0].shape[1])),
    )
