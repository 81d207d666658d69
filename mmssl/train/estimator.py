"""What the scikit-learn transformers of all modalities share: names of what comes out, and files without pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from mmssl.core.types import Embedder
from mmssl.train.export import Exportable, load_embedder, save_embedder


class PretrainedTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """A transformer whose ``fit`` pretrains an encoder.

    Attributes:
        embedder_: encoder and preprocessing.
        loss_: mean training losses, in order.
    """

    embedder_: Exportable
    loss_: list[float]

    @property
    def _n_features_out(self) -> int:
        return self.embedder_.dim

    def save(self, folder: str | Path) -> None:
        """Write weights as safetensors and all else as JSON; `mmssl.load` opens the folder, too."""
        check_is_fitted(self)
        description = {"estimator": type(self).__name__, "settings": self._settings(), **self._fitted()}
        text = json.dumps(description, indent=1, allow_nan=False) + "\n"
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_embedder(folder, self.embedder_)
        (folder / "estimator.json").write_text(text)

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "cpu") -> Self:
        """What `save` wrote.

        Raises:
            FileNotFoundError: there is nothing.
            ValueError: another estimator was saved there.
        """
        file = Path(folder) / "estimator.json"
        if not file.exists():
            raise FileNotFoundError(f"{folder} holds no saved estimator: it has no estimator.json")
        saved = json.loads(file.read_text())
        if saved["estimator"] != cls.__name__:
            raise ValueError(
                f"{folder} holds a {saved['estimator']}, not a {cls.__name__}: use {saved['estimator']}.load"
            )
        estimator = cls(**saved["settings"])
        estimator._restore(load_embedder(folder, device=device), saved)
        return estimator

    def _settings(self) -> dict[str, Any]:
        """The parameters as JSON takes them; a generator of random numbers is not among these."""
        given = self.get_params(deep=False)  # a search gives values of NumPy
        settings = {name: value.item() if isinstance(value, np.generic) else value for name, value in given.items()}
        if not isinstance(settings["random_state"], int | None):
            settings["random_state"] = None
        return settings

    def _fitted(self) -> dict[str, Any]:
        """What ``fit`` left besides the embedder, as JSON."""
        return {"n_features_in": self.n_features_in_, "loss": self.loss_}

    def _restore(self, embedder: Embedder, saved: dict[str, Any]) -> None:
        """The inverse of `_fitted`."""
        self.embedder_ = embedder  # type: ignore[assignment]
        self.n_features_in_ = saved["n_features_in"]
        self.loss_ = saved["loss"]
