"""Two trained towers with their preprocessing: from a user's images and texts to one space."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from mmssl.core.methods.alignment import Towers
from mmssl.multimodal.encode import IMAGE, TEXT, embed_images, embed_text
from mmssl.text.encoder import TextTransformer
from mmssl.text.tokenizer import Tokenizer
from mmssl.vision.data import embedding_frame, read_images
from mmssl.vision.images import ImageSet
from mmssl.vision.preprocess import ImagePreprocessor

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PairEmbedder:
    """What `mmssl.load` returns for an image–text run.

    Args:
        encoder: both towers with their final weights, on the device that computes.
        preprocessor: of the images, fitted on the training images.
        tokenizer: of the captions.
        fit: how images are brought to size, as in training.
    """

    encoder: Towers
    preprocessor: ImagePreprocessor
    tokenizer: Tokenizer
    fit: str = "crop"

    def __post_init__(self) -> None:
        text = self.encoder.encoders[TEXT]
        assert isinstance(text, TextTransformer)
        if (text.vocabulary, text.context) != (self.tokenizer.vocabulary, self.tokenizer.context):
            raise ValueError(
                f"the tokenizer has {self.tokenizer.vocabulary} tokens and a context of {self.tokenizer.context}, the "
                f"text tower {text.vocabulary} and {text.context}: it is the tokenizer of another run; take the one in "
                "encoder.json of the run that trained the tower"
            )

    @property
    def dim(self) -> int:
        return self.encoder.dim

    def embed(
        self, data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | npt.NDArray[Any] | Tensor | ImageSet
    ) -> pd.DataFrame:
        """One row of the shared space an image, of length 1, indexed by its name.

        Args:
            data: see `mmssl.vision.embedder.ImageEmbedder.embed`.

        Raises:
            ValueError: the data has other channels or another kind of values than the training data.
        """
        images = self.read(data)
        return embedding_frame(self.features(images), images.names)

    def features(self, images: ImageSet) -> Floats:
        """``(n, dim)``."""
        return embed_images(self.encoder, images, self.preprocessor)

    def embed_text(self, texts: Sequence[str]) -> pd.DataFrame:
        """One row of the shared space a text, of length 1, indexed by the text; long ones are cut at the context."""
        if isinstance(texts, str):
            raise ValueError(f"embed_text takes a list of texts, got one: embed_text([{texts!r}])")
        embeddings = embed_text(self.encoder, texts, self.tokenizer)
        frame = embedding_frame(embeddings, np.asarray(texts, dtype=object))
        return frame.rename_axis("text")

    def read(self, data: Any) -> ImageSet:
        """New images at the size of the training data; photographs with as many channels, too.

        Damaged ones are left out with a warning that names them.
        """
        if isinstance(data, ImageSet):
            return data
        options: dict[str, Any] = {"size": self.preprocessor.size, "fit": self.fit, "max_bad": 1.0}
        if isinstance(data, np.ndarray | Tensor):
            return read_images(data, **options)
        return read_images(data, channels=self.preprocessor.channels, label="none", **options)

    def state(self) -> dict[str, Any]:
        image, text = (self.encoder.encoders[name] for name in (IMAGE, TEXT))
        return {
            "towers": {"image": image.arguments, "text": text.arguments, "dim": self.dim},
            "preprocessor": self.preprocessor.state(),
            "tokenizer": self.tokenizer.state() | {"fingerprint": self.tokenizer.fingerprint()},
            "fit": self.fit,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any], weights: dict[str, Tensor], device: str) -> PairEmbedder:
        from mmssl.vision.encoder import build_encoder

        tokenizer = Tokenizer.from_state(state["tokenizer"])
        if tokenizer.fingerprint() != state["tokenizer"]["fingerprint"]:
            raise ValueError(
                f"the tokenizer in encoder.json is {tokenizer.fingerprint()}, the text tower was trained with "
                f"{state['tokenizer']['fingerprint']}: it is the tokenizer of another run; take encoder.json and "
                "encoder.safetensors from one run"
            )
        arguments = state["towers"]
        towers = Towers(
            {IMAGE: build_encoder(**arguments["image"]), TEXT: TextTransformer(**arguments["text"])},
            dim=arguments["dim"],
        )
        towers.load_state_dict(weights)
        return cls(
            towers.to(device).eval(),
            ImagePreprocessor.from_state(state["preprocessor"]),
            tokenizer,
            state["fit"],
        )
