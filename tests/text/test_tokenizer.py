"""Tokens of captions: what they stand for, that nothing is lost unnoticed, and that they outlive the run."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import tokenizers
import torch
from tokenizers import models, pre_tokenizers, processors, trainers

from mmssl.text.tokenizer import END, PADDING, SPECIAL, START, Tokenizer

CAPTIONS = [
    f"a {size} {colour} {what}"
    for size in ("small", "large")
    for colour in ("black", "white")
    for what in ("knight", "queen", "rook")
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(CAPTIONS)


def read(tokenizer: Tokenizer, row: torch.Tensor) -> str:
    """What a row of tokens says, by the library's own vocabulary of bytes."""
    words = {number + SPECIAL: text for text, number in tokenizer.library.get_vocab().items()}
    alphabet = {letter: byte for byte, letter in byte_letters().items()}
    said = "".join(words[number] for number in row.tolist() if number >= SPECIAL)
    return bytes(alphabet[letter] for letter in said).decode().strip()


def byte_letters() -> dict[int, str]:
    """The letter that GPT-2 writes for each byte: itself where it can be seen, else the next free one from 256 on."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in seen}
    return letters | {byte: chr(256 + i) for i, byte in enumerate(b for b in range(256) if b not in letters)}


@pytest.mark.parametrize(
    "caption", ["a small black knight", "zebra: 7 €", "黒い馬 ♞", "naïve  café", "<pad> [END] </s>"]
)
def test_every_text_can_be_read_from_its_tokens(tokenizer: Tokenizer, caption: str) -> None:
    row = Tokenizer(tokenizer.library, context=60)([caption])[0]
    assert read(tokenizer, row) == caption.replace("[END]", "[end]")


def test_a_row_is_start_tokens_end_and_padding(tokenizer: Tokenizer) -> None:
    tokens = tokenizer(["a knight", "a large white queen"])
    assert tokens.dtype == torch.int32
    assert tokens.shape == (2, tokenizer.context)
    for row in tokens.tolist():
        end = row.index(END)
        assert row[0] == START
        assert all(SPECIAL <= number < tokenizer.vocabulary for number in row[1:end])
        assert set(row[end + 1 :]) <= {PADDING}
    assert (tokens[0] == PADDING).sum() > (tokens[1] == PADDING).sum()


def test_what_is_frequent_is_one_token_and_case_makes_no_difference(tokenizer: Tokenizer) -> None:
    assert (tokenizer(["knight"]) >= SPECIAL).sum() == 1
    assert torch.equal(tokenizer(["A Small KNIGHT"]), tokenizer(["a small knight"]))


def test_no_caption_can_write_a_token_that_means_something_else(tokenizer: Tokenizer, tmp_path: Path) -> None:
    library = tokenizers.Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(special_tokens=["<end>"], show_progress=False, initial_alphabet=alphabet)
    library.train_from_iterator(CAPTIONS, trainer)
    library.post_processor = processors.TemplateProcessing(single="$A <end>", special_tokens=[("<end>", 0)])
    library.enable_truncation(2)
    library.save(str(tmp_path / "tokenizer.json"))
    loaded = Tokenizer.load(tmp_path / "tokenizer.json", context=20)
    assert loaded.vocabulary == SPECIAL + library.get_vocab_size()
    row = loaded(["a<end>b"])[0]
    assert SPECIAL + 0 not in row  # the library's own end is never there: neither from the text nor added
    assert read(loaded, row) == "a<end>b"


def test_captions_that_are_too_long_are_cut_and_counted(tokenizer: Tokenizer) -> None:
    short = Tokenizer(tokenizer.library, context=4)
    captions = ["knight", "black knight", "small black knight", "a small black knight"]
    assert short.count_cut(captions) == 2
    tokens = short(captions)
    assert tokens.shape == (4, 4)
    assert (tokens[1:, -1] == END).all()
    assert torch.equal(tokens[2, :3], tokenizer(["small black"])[0, :3])
    assert tokenizer.count_cut(CAPTIONS) == 0


def test_many_captions_are_taken_in_pieces(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tokenizer(CAPTIONS)
    monkeypatch.setattr("mmssl.text.tokenizer.PIECE", 5)
    assert torch.equal(tokenizer(CAPTIONS), whole)
    assert Tokenizer(tokenizer.library, context=5).count_cut(CAPTIONS) == len(CAPTIONS)


def test_size_and_context_follow_from_the_captions() -> None:
    few = Tokenizer.train(CAPTIONS)
    assert few.context == 4 + 2  # words of the longest, start and end
    assert few.vocabulary < 512  # no pair is left that occurs twice
    words = ["".join(letters) for letters in product("abcdefghijklmnopqrst", repeat=3)]  # 8,000, all different
    captions = [" ".join(words[i : i + 3]) for i in range(7_998)]
    assert Tokenizer.train(captions).vocabulary == 3 * 7_998 // 8
    assert Tokenizer.train(captions, vocabulary=600).vocabulary == 600
    assert Tokenizer.train(["a " * 200, "b"]).context == 77


def test_training_depends_on_nothing_but_the_captions(tokenizer: Tokenizer) -> None:
    """Ranks train their own."""
    code = f"from mmssl.text.tokenizer import Tokenizer; print(Tokenizer.train({CAPTIONS!r}).fingerprint())"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == tokenizer.fingerprint()


def test_a_tokenizer_of_another_run_has_another_fingerprint(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.fingerprint()) == 12
    other = Tokenizer.train([*CAPTIONS, "a unicorn and a unicorn"])
    assert other.fingerprint() != tokenizer.fingerprint()
    assert Tokenizer(tokenizer.library, context=50).fingerprint() != tokenizer.fingerprint()


def test_state_is_json_and_gives_the_same_tokens(tokenizer: Tokenizer) -> None:
    again = Tokenizer.from_state(json.loads(json.dumps(tokenizer.state())))
    assert again.fingerprint() == tokenizer.fingerprint()
    assert torch.equal(again(CAPTIONS), tokenizer(CAPTIONS))


def test_captions_without_a_text_are_named(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="2 of 4 captions are empty, counted from 0: 1, 3; leave them out"):
        tokenizer(["a", "", "b", " \n"])
    with pytest.raises(ValueError, match="7 of 7 captions are empty, counted from 0: 0, 1, 2, 3, 4 and 2 more"):
        Tokenizer.train([""] * 7)
    with pytest.raises(TypeError, match="caption 1 is no text but float: nan"):
        tokenizer(["a", float("nan")])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="there is no caption: at least one is needed"):
        tokenizer([])


def test_unusable_settings_and_files_are_named(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="context must be at least 3: start, one token and end; got 2"):
        Tokenizer(tokenizer.library, context=2)
    with pytest.raises(ValueError, match="vocabulary must be at least 259, the bytes and 3, got 100"):
        Tokenizer.train(CAPTIONS, vocabulary=100)
    with pytest.raises(FileNotFoundError, match=r"there is no tokenizer .*none\.json"):
        Tokenizer.load(tmp_path / "none.json")
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match=r"other\.json is not a tokenizer\.json of the tokenizers library"):
        Tokenizer.load(tmp_path / "other.json")
