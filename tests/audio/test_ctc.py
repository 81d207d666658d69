"""Spelling: greedy decoding and error rates worked out by hand, and a model that learns two words."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmssl.audio.batches import by_length
from mmssl.audio.ctc import CTC, Alphabet, TranscriptSource, edits, error_rate, spelled
from mmssl.audio.layer_weights import LayerSource, LayerWeights
from mmssl.audio.preprocess import WavePreprocessor
from tests.audio.waveforms import RATE, chords, small


def test_repetitions_and_then_blanks_are_dropped() -> None:
    alphabet = Alphabet.of(["ball", "lab"])
    assert alphabet.characters == "abl"
    assert alphabet.encode("ball") == [2, 1, 3, 3]
    assert alphabet.decode([0, 2, 2, 0, 1, 1, 3, 0, 3, 3, 0]) == "ball"
    assert alphabet.decode([2, 1, 3, 3]) == "bal"
    assert alphabet.decode([0, 0]) == ""


def test_a_character_that_was_never_said_is_named() -> None:
    with pytest.raises(ValueError, match="'bell' has 'e', which is not one of the characters 'abl'"):
        Alphabet("abl").encode("bell")


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [("", "", 0), ("kitten", "sitting", 3), ("abc", "", 3), ("", "ab", 2), ("flaw", "lawn", 2), ("ab", "ba", 2)],
)
def test_edits_are_counted_as_by_levenshtein(a: str, b: str, distance: int) -> None:
    assert edits(a, b) == edits(b, a) == distance


def test_the_error_rate_is_edits_over_what_was_said() -> None:
    assert error_rate(["cat", "do"], ["cat", "dog"]) == pytest.approx(1 / 6)
    with pytest.raises(ValueError, match="for all of 2 transcripts with text, got 1"):
        error_rate(["cat"], ["cat", "dog"])


def test_digits_are_spelled_by_their_names() -> None:
    assert [spelled(label) for label in ("7", "Yes", "10")] == ["seven", "yes", "10"]


def test_a_model_learns_to_spell_two_sounds() -> None:
    torch.manual_seed(0)
    clips = chords()
    assert clips.labels is not None
    texts = [str(label) for label in clips.labels]
    alphabet = Alphabet.of(texts)
    model = CTC(small(dropout=0.0, layerdrop=0.0), alphabet, WavePreprocessor(RATE))
    source = TranscriptSource(clips, [alphabet.encode(text) for text in texts])
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    for _ in range(120):
        loss = model(source.fetch(np.arange(len(clips))))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert error_rate(model.transcribe(clips), texts) < 0.1
    order = np.array([3, 0, 2])
    assert model.transcribe(clips.subset(order)) == [model.transcribe(clips)[i] for i in order]


def test_the_convolutions_keep_their_weights() -> None:
    model = CTC(small(), Alphabet("a"), WavePreprocessor(RATE))
    assert not any(p.requires_grad for p in model.encoder.feature_extractor.parameters())
    assert model.head.weight.requires_grad


def test_layers_are_averaged_with_weights_that_sum_to_one() -> None:
    weights = LayerWeights(3, 4)
    with torch.no_grad():
        weights.weights.copy_(torch.tensor([0.0, 1.0, 2.0]))
    x = torch.randn(5, 3, 4)
    normed = torch.stack([torch.nn.functional.layer_norm(x[:, i], (4,)) for i in range(3)])
    share = np.exp([0, 1, 2]) / np.exp([0, 1, 2]).sum()
    expected = sum(normed[i] * share[i] for i in range(3))
    torch.testing.assert_close(weights(x), expected.float())


def test_batches_hold_all_clips_and_no_more_than_fits() -> None:
    clips = chords(50)
    batches = list(by_length(clips, seconds=2.0))
    assert sorted(np.concatenate(batches).tolist()) == list(range(50))
    assert max(len(index) * clips.sizes[index].max() for index in batches) <= 2.0 * RATE
    assert [len(index) for index in by_length(clips, seconds=0.01)] == [1] * 50


def test_all_layers_of_a_clip_are_those_of_the_encoder_in_the_order_of_the_clips() -> None:
    encoder, clips = small().eval(), chords(70)
    source = LayerSource(encoder, clips, WavePreprocessor(RATE))
    assert not encoder.training
    assert source.features.shape == (70, 3, 24)
    x = WavePreprocessor(RATE)(clips.padded([66]))
    torch.testing.assert_close(source.fetch(np.array([66]))[0, -1], encoder(x)[0], atol=1e-5, rtol=0)
