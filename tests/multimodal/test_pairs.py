"""Pairs as sets and batches, their views, and what needs no training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mmssl.core.methods.alignment import Pairs
from mmssl.multimodal.augment import PairView, drop_tokens
from mmssl.multimodal.controls import NearestPairs, colours, word_counts
from mmssl.multimodal.dataset import DataConfig, PairSource, load_data, read_pairs
from mmssl.multimodal.pairs import PairSet
from mmssl.text.tokenizer import END, PADDING, SPECIAL, START, Tokenizer
from mmssl.train.batches import ShuffledBatches
from mmssl.vision.images import ImageSet
from mmssl.vision.preprocess import ImagePreprocessor
from tests.multimodal.samples import COLOURS, pairs, write_table


def test_a_part_of_a_set_keeps_captions_with_their_images() -> None:
    whole = pairs(9)
    part = whole.subset(np.array([7, 2]))
    assert part.captions.tolist() == ["a blue bar", "bar number 0 in blue", "a red frame", "frame number 0 in red"]
    assert part.owners.tolist() == [0, 0, 1, 1]
    assert part.images.names.tolist() == [7, 2]
    assert part.captions[part.first].tolist() == ["a blue bar", "a red frame"]


def test_captions_that_say_the_same_have_the_same_number() -> None:
    images = ImageSet.from_array(np.zeros((3, 1, 4, 4), dtype=np.uint8))
    numbers = PairSet.of(images, [["a"], ["b", "a"], ["a"]]).texts
    assert numbers[0] == numbers[2] == numbers[3] != numbers[1]


def test_an_image_without_a_caption_is_no_pair() -> None:
    images = ImageSet.from_array(np.zeros((2, 1, 4, 4), dtype=np.uint8))
    with pytest.raises(ValueError, match="1 captions do not belong to 2 images"):
        PairSet.of(images, [["a"], []])


def test_every_caption_is_a_pair_of_its_own_with_the_numbers_of_both_sides() -> None:
    data = pairs(9)
    tokenizer = Tokenizer.train(data.captions.tolist())
    source = PairSource(data, tokenizer)
    assert len(source) == 18
    batch = source.fetch(np.array([3, 0]))
    assert torch.equal(batch.first, data.images.fetch(np.array([1, 0])))
    assert torch.equal(batch.second, tokenizer([data.captions[3], data.captions[0]]))
    assert batch.ids is not None
    assert batch.ids.tolist() == [[1, data.texts[3]], [0, data.texts[0]]]


def test_an_image_that_cannot_be_decoded_later_goes_with_its_caption(tmp_path: Path) -> None:
    table = write_table(tmp_path, 18)
    read = read_pairs(DataConfig(path=str(table), cache=0.0, max_bad=0.5))
    source = PairSource(read, Tokenizer.train(read.captions.tolist()))
    (tmp_path / "photos" / "004.png").write_bytes(b"gone bad")
    with pytest.warns(UserWarning, match=r"photos/004\.png \(row 5: "):
        batch = source.fetch(np.array([3, 4, 5]))
    good = source.fetch(np.array([3, 5]))
    assert torch.equal(batch.first, good.first[[0, 1, 1]])
    assert torch.equal(batch.second, good.second[[0, 1, 1]])


def test_other_processes_fetch_the_same_batches(tmp_path: Path) -> None:
    read = read_pairs(DataConfig(path=str(write_table(tmp_path, 12)), cache=0.0))
    source = PairSource(read, Tokenizer.train(read.captions.tolist()))
    here, elsewhere = (next(ShuffledBatches(source, batch_size=4, workers=workers)()) for workers in (0, 1))
    assert isinstance(elsewhere, Pairs)
    assert all(torch.equal(a, b) for a, b in zip(here, elsewhere, strict=True))


def test_data_without_labels_is_split_at_random_and_kept_apart(tmp_path: Path) -> None:
    data = load_data(DataConfig(path=str(write_table(tmp_path, 18)), test_fraction=0.25), seed=3)
    names = [set(part.images.names) for part in (data.train, data.test)]
    assert [len(part) for part in names] == [14, 4]
    assert not names[0] & names[1]
    assert data.split == "image/0.25"


def test_another_table_may_be_the_test_part(tmp_path: Path) -> None:
    table, other = write_table(tmp_path, 12), write_table(tmp_path / "other", 6)
    data = load_data(DataConfig(path=str(table), test_path=str(other)))
    assert (len(data.train), len(data.test), data.split) == (12, 6, "test-path")


def test_too_few_images_to_hold_one_out_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"1 images to train on and 1 to test on"):
        load_data(DataConfig(path=str(write_table(tmp_path, 2)), test_fraction=0.5))


# ----------------------------------------------------------------------------------------------------------- views


def test_dropped_tokens_become_padding_and_start_and_end_stay() -> None:
    torch.manual_seed(0)
    tokens = torch.full((500, 12), 7)
    tokens[:, 0], tokens[:, -2], tokens[:, -1] = START, END, PADDING
    before = tokens.clone()
    out = drop_tokens(tokens, 0.8)
    assert torch.equal(tokens, before)
    kept = out == tokens
    assert kept[:, [0, -2, -1]].all()
    assert set(out[~kept].tolist()) == {PADDING}
    share = (~kept[:, 1:-2]).float().mean(dim=1)
    assert share.mean() == pytest.approx(0.4, abs=0.04)  # uniform up to 0.8
    assert share.std() > 0.2  # each caption draws its own
    assert torch.equal(drop_tokens(tokens, 0.0), tokens)
    assert (tokens >= SPECIAL).any()


def test_a_view_is_standardised_and_leaves_the_batch_alone() -> None:
    images = pairs(6).images.fetch(np.arange(6))
    batch = Pairs(images, torch.full((6, 4), 9), torch.zeros(6, 2, dtype=torch.long))
    plain = PairView(16, scale=(1.0, 1.0), flip=0.0, jitter_p=0.0, grayscale=0.0, mean=[0.5] * 3, std=[0.5] * 3)
    out = plain.pairs(batch)
    assert out.first.shape == images.shape
    assert out.first.dtype == torch.float32
    assert torch.equal(batch.first, images)
    whole = replace(plain, words=0.0).pairs(batch)
    assert torch.equal(whole.second, batch.second)
    assert whole.ids is batch.ids


def test_a_share_of_words_that_leaves_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"views\.words is the largest share of tokens left out, in \[0, 1\), got 1"):
        PairView(16, words=1.0)


# -------------------------------------------------------------------------------------------------------- controls


def test_colour_histograms_are_shares_of_each_channel() -> None:
    values = np.zeros((2, 2, 4, 4), dtype=np.uint8)
    values[1, 0, :2] = 255
    images = ImageSet.from_array(values)
    found = colours(images, ImagePreprocessor().fit(images))
    assert found.shape == (2, 32)
    assert found[0, [0, 16]].tolist() == [1, 1]
    assert found[1, [0, 15, 16]].tolist() == [0.5, 0.5, 1]


def test_the_nearest_pairs_find_images_by_the_colours_of_like_captions() -> None:
    train, test = pairs(36), pairs(9)
    control = NearestPairs(train, ImagePreprocessor().fit(train.images))
    images = control.embed_images(test.images)
    texts = control.embed_text([f"in {colour}" for colour in COLOURS])
    best = (texts @ images.T).argmax(axis=1)
    captions = test.captions[test.first]
    assert [colour in captions[i] for colour, i in zip(COLOURS, best, strict=True)] == [True] * 3
    assert not control.embed_text(["unheard"]).any()


def test_tf_idf_is_fitted_on_training_captions_only() -> None:
    train, test = word_counts(pairs(9), pairs(9).subset(np.array([0])))
    assert train.shape == (9, 7)  # a, three colours, three shapes
    np.testing.assert_allclose(np.linalg.norm(test, axis=1), 1, rtol=1e-6)
