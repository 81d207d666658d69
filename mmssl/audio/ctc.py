"""From frames to text: connectionist temporal classification on characters (Graves et al., ICML 2006).

A linear layer on top of the encoder gives each frame a character or nothing (the blank). In training every way to
spell the transcript counts. Greedy decoding takes the likeliest character of each frame and drops repetitions, then
blanks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmssl.audio.batches import by_length
from mmssl.audio.clips import ClipSet, ClipSource
from mmssl.audio.preprocess import Preprocessor
from mmssl.audio.wav2vec2_encoder import Wav2Vec2Encoder

BLANK = 0
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def spelled(label: str) -> str:
    """What is said in a clip of that label: the label itself, in small letters, and a digit's name."""
    return DIGITS[int(label)] if label in list("0123456789") else label.lower()


@dataclass(frozen=True)
class Alphabet:
    """Characters with the codes 1, 2, …; 0 is the blank."""

    characters: str

    @classmethod
    def of(cls, texts: Sequence[str]) -> Self:
        """All that occur."""
        return cls("".join(sorted(set("".join(texts)))))

    def encode(self, text: str) -> list[int]:
        """Raises: ValueError: a character that is not known."""
        if unknown := [c for c in text if c not in self.characters]:
            raise ValueError(f"{text!r} has {unknown[0]!r}, which is not one of the characters {self.characters!r}")
        return [self.characters.index(c) + 1 for c in text]

    def decode(self, codes: Sequence[int]) -> str:
        """Greedy: codes of frames to text."""
        changes = [code for i, code in enumerate(codes) if i == 0 or code != codes[i - 1]]
        return "".join(self.characters[code - 1] for code in changes if code != BLANK)


class TranscriptSource(ClipSource):
    """Whole clips with the codes of their transcripts: ``(B, longest)``, and ``(B, L)`` int64, blanks after the end.

    Args:
        clips: what is heard.
        transcripts: codes of what is said, of each clip.
        batch_size: see `ClipSource`.
    """

    def __init__(self, clips: ClipSet, transcripts: Sequence[Sequence[int]], *, batch_size: int = 1) -> None:
        super().__init__(clips, batch_size=batch_size)
        self.codes = np.full((len(clips), max(len(codes) for codes in transcripts)), BLANK, dtype=np.int64)
        for row, codes in zip(self.codes, transcripts, strict=True):
            row[: len(codes)] = codes

    def fetch(self, index: npt.NDArray[np.integer]) -> tuple[Tensor, Tensor]:
        return super().fetch(index), torch.from_numpy(self.codes[index])


class CTC(nn.Module):
    """The method; batches are those of a `TranscriptSource`.

    The convolutions keep their weights, as in the paper's fine-tuning.

    Args:
        encoder: with frames.
        alphabet: of the transcripts.
        preprocessor: of waveforms.
    """

    def __init__(self, encoder: Wav2Vec2Encoder, alphabet: Alphabet, preprocessor: Preprocessor) -> None:
        super().__init__()
        self.encoder = encoder
        self.alphabet = alphabet
        self.preprocessor = preprocessor
        encoder.feature_extractor.requires_grad_(False)
        self.head = nn.Linear(encoder.token_dim, len(alphabet.characters) + 1)

    def forward(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        x, codes = batch
        logits, frames = self.logits(x)
        with torch.autocast(x.device.type, enabled=False):
            chances = logits.float().log_softmax(dim=-1).transpose(0, 1)  # (N, B, V)
            said = (codes != BLANK).sum(dim=1)
            return {"loss": F.ctc_loss(chances, codes, frames, said, blank=BLANK, zero_infinity=True)}

    def logits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, samples)`` to ``(B, N, V)``, and the frames of each clip ``(B,)``."""
        x = self.preprocessor(x)
        valid = self.encoder.valid(x)
        return self.head(self.encoder.encode(self.encoder.tokenize(x), valid)), valid.sum(dim=1)

    def after_step(self, progress: float, skipped: Tensor) -> None:
        """Nothing follows the weights."""

    def export(self) -> nn.Module:
        return self.encoder

    @torch.inference_mode()
    def transcribe(self, clips: ClipSet) -> list[str]:
        """What is said in each clip, decoded greedily."""
        training = self.training
        self.eval()
        found = {}
        for index in by_length(clips):
            logits, frames = self.logits(clips.padded(index).to(self.head.weight.device))
            codes = logits.argmax(dim=-1).tolist()
            for i, row, size in zip(index.tolist(), codes, frames.tolist(), strict=True):
                found[i] = self.alphabet.decode(row[:size])
        self.train(training)
        return [found[i] for i in range(len(clips))]


def error_rate(found: Sequence[str], said: Sequence[str]) -> float:
    """Characters to insert, delete or replace, over the characters that were said.

    Raises:
        ValueError: another number of texts, or nothing was said.
    """
    if len(found) != len(said) or not any(said):
        raise ValueError(f"an error rate needs texts for all of {len(said)} transcripts with text, got {len(found)}")
    return sum(edits(a, b) for a, b in zip(found, said, strict=True)) / sum(len(text) for text in said)


def edits(a: str, b: str) -> int:
    """Insertions, deletions and replacements from one text to the other (Levenshtein, 1966)."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a):
        corner, row[0] = row[0], i + 1
        for j, y in enumerate(b):
            corner, row[j + 1] = row[j + 1], min(row[j] + 1, row[j + 1] + 1, corner + (x != y))
    return row[-1]
