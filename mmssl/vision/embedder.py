"""A pretrained encoder with its preprocessing: from a user's images to a table of embeddings."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from mmssl.vision.data import embedding_frame, read_images
from mmssl.vision.encode import encode_images
from mmssl.vision.images import ImageSet
from mmssl.vision.preprocess import ImagePreprocessor

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ImageEmbedder:
    """What `mmssl.load` returns for a vision run.

    Args:
        encoder: with its final weights, on the device that computes.
        arguments: that `mmssl.vision.encoder.build_encoder` built it with.
        preprocessor: fitted on the training images.
        fit, layout, id, image: how the training data was read; the default for new data. See `read_images`.
    """

    encoder: nn.Module
    arguments: dict[str, Any]
    preprocessor: ImagePreprocessor
    fit: str = "crop"
    layout: str | None = None
    id: str | None = None
    image: str | None = None

    @property
    def dim(self) -> int:
        return self.encoder.dim  # type: ignore[return-value]

    def embed(
        self,
        data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | npt.NDArray[Any] | Tensor | ImageSet,
    ) -> pd.DataFrame:
        """One row of features an image, indexed by its name: path, id or row number.

        Args:
            data: a folder, an archive, a Parquet file, NPZ, NPY or an image; a list of image files; an array or a
                tensor of images; or images that were read already.

        Raises:
            ValueError: the data has other channels or another kind of values than the training data.
        """
        images = self.read(data)
        return embedding_frame(self.features(images), images.names)

    def features(self, images: ImageSet) -> Floats:
        """``(n, dim)``."""
        return encode_images(self.encoder, images, self.preprocessor)

    def read(self, data: Any) -> ImageSet:
        """New data at the size of the training data; photographs with as many channels, too.

        Damaged images are left out with a warning that names them.
        """
        if isinstance(data, ImageSet):
            return data
        options: dict[str, Any] = {
            "size": self.preprocessor.size,
            "fit": self.fit,
            "layout": self.layout,
            "max_bad": 1.0,
        }
        if isinstance(data, np.ndarray | Tensor):
            return read_images(data, **options)
        return read_images(data, channels=self.preprocessor.channels, id=self.id, image=self.image, **options)

    def state(self) -> dict[str, Any]:
        return {
            "encoder": {"builder": "mmssl.vision.encoder.build_encoder", "arguments": self.arguments},
            "preprocessor": self.preprocessor.state(),
            "fit": self.fit,
            "layout": self.layout,
            "id": self.id,
            "image": self.image,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any], weights: dict[str, Tensor], device: str) -> ImageEmbedder:
        from mmssl.vision.encoder import build_encoder

        arguments = state["encoder"]["arguments"]
        encoder = build_encoder(**arguments)
        encoder.load_state_dict(weights)
        return cls(
            encoder=encoder.to(device).eval(),
            arguments=arguments,
            preprocessor=ImagePreprocessor.from_state(state["preprocessor"]),
            **{name: state[name] for name in ("fit", "layout", "id", "image")},
        )
