"""Captions to tokens: byte-pair encoding (Sennrich et al., ACL 2016) of UTF-8 bytes, by the `tokenizers` library.

Every text can be written in bytes, so that there is no unknown token, whatever the script. Padding, start and end have
numbers before those of the library's vocabulary, and no text is read as one of them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import tokenizers
import torch
from tokenizers import models, normalizers, pre_tokenizers, trainers
from torch import Tensor

PADDING, START, END = 0, 1, 2
SPECIAL = 3  # of these
CONTEXT = 77  # tokens, of CLIP
VOCABULARY = (512, 32_768)  # tokens that are learnt from captions: 256 are the bytes
MET = 8  # times, that a token should be met in the captions
PIECE = 10_000  # captions that the library has at a time: it keeps a kilobyte of each

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads do not survive the fork of workers


class Tokenizer:
    """A vocabulary, and the number of tokens that a caption may have.

    Args:
        library: of the `tokenizers` package.
        context: tokens of a caption, start and end included.
    """

    def __init__(self, library: tokenizers.Tokenizer, *, context: int) -> None:
        if context < SPECIAL:
            raise ValueError(f"context must be at least {SPECIAL}: start, one token and end; got {context}")
        library.no_padding()
        library.no_truncation()
        library.encode_special_tokens = True  # a caption with the name of a special token is a text like any other
        self.library = library
        self.context = context
        self.vocabulary = SPECIAL + max(library.get_vocab().values()) + 1

    @classmethod
    def train(cls, captions: Iterable[str], *, vocabulary: int | None = None, context: int | None = None) -> Self:
        """Learn the merges from captions, upper and lower case alike.

        Args:
            captions: of the training data only.
            vocabulary: most tokens; None takes an eighth of the number of words, 512 to 32,768.
            context: tokens of a caption; None takes the longest of these captions, 77 at most.
        """
        captions = list(captions)
        _check(captions)
        if vocabulary is None:
            words = sum(len(caption.split()) for caption in captions)
            vocabulary = min(max(words // MET, VOCABULARY[0]), VOCABULARY[1])
        if vocabulary < 256 + SPECIAL:
            raise ValueError(f"vocabulary must be at least {256 + SPECIAL}, the bytes and {SPECIAL}, got {vocabulary}")
        library = tokenizers.Tokenizer(models.BPE())
        library.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary - SPECIAL,
            min_frequency=2,
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )
        library.train_from_iterator(captions, trainer)
        if context is None:
            longest = max(len(ids) for ids in _encode(library, captions))
            context = min(longest + 2, CONTEXT)
        return cls(library, context=context)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, context: int = CONTEXT) -> Self:
        """A file of the `tokenizers` library (``tokenizer.json``)."""
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"there is no tokenizer {path}: give the tokenizer.json of the tokenizers library")
        try:
            library = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises no other class
            raise ValueError(f"{path} is not a tokenizer.json of the tokenizers library: {error}") from error
        return cls(library, context=context)

    def __call__(self, captions: Sequence[str]) -> Tensor:
        """``(B, context)`` int32: start, tokens, end, padding. Longer captions are cut, see `count_cut`."""
        _check(captions)
        return torch.cat([self._rows(captions[i : i + PIECE]) for i in range(0, len(captions), PIECE)])

    def _rows(self, captions: Sequence[str]) -> Tensor:
        rows = []
        for ids in _encode(self.library, captions):
            row = [START, *(SPECIAL + number for number in ids[: self.context - 2]), END]
            rows.append(row + [PADDING] * (self.context - len(row)))
        return torch.tensor(rows, dtype=torch.int32)

    def count_cut(self, captions: Sequence[str]) -> int:
        """How many captions have more tokens than the context."""
        return sum(len(ids) > self.context - 2 for ids in _encode(self.library, captions))

    def fingerprint(self) -> str:
        """12 hexadecimal digits that differ where two tokenizers do."""
        return hashlib.sha256(json.dumps(self.state(), sort_keys=True).encode()).hexdigest()[:12]

    def state(self) -> dict[str, Any]:
        """JSON that `from_state` takes."""
        return {"context": self.context, "library": json.loads(self.library.to_str())}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        return cls(tokenizers.Tokenizer.from_str(json.dumps(state["library"])), context=state["context"])


def _encode(library: tokenizers.Tokenizer, captions: Sequence[str]) -> Iterator[list[int]]:
    """The library's numbers of each caption, as many as there are."""
    for i in range(0, len(captions), PIECE):
        for found in library.encode_batch(captions[i : i + PIECE], add_special_tokens=False):
            yield found.ids


def _check(captions: Sequence[str]) -> None:
    """Captions must be texts, with something in them."""
    if not captions:
        raise ValueError("there is no caption: at least one is needed")
    for number, caption in enumerate(captions):
        if not isinstance(caption, str):
            raise TypeError(f"caption {number} is no text but {type(caption).__name__}: {caption!r}")
    empty = [number for number, caption in enumerate(captions) if not caption.strip()]
    if empty:
        named = ", ".join(map(str, empty[:5])) + (f" and {len(empty) - 5} more" if len(empty) > 5 else "")
        raise ValueError(f"{len(empty)} of {len(captions)} captions are empty, counted from 0: {named}; leave them out")
