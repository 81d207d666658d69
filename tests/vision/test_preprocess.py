from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as F

from mmssl.vision.data import read_images
from mmssl.vision.images import ImageSet
from mmssl.vision.preprocess import ImagePreprocessor
from tests.vision.samples import write_folder


def colours(n: int = 7, size: int = 4) -> ImageSet:
    return ImageSet.from_array(np.random.default_rng(0).integers(0, 256, (n, 3, size, size), dtype=np.uint8))


def test_standardised_training_images_have_mean_0_and_deviation_1_in_every_channel() -> None:
    images = colours()
    x = ImagePreprocessor().fit(images)(images)
    assert x.dtype == torch.float32
    assert x.mean(dim=(0, 2, 3)).tolist() == pytest.approx([0] * 3, abs=1e-5)
    assert x.std(dim=(0, 2, 3), correction=0).tolist() == pytest.approx([1] * 3, rel=1e-5)


def test_it_is_torchvisions_normalize_of_bytes_and_of_floats() -> None:
    images = colours()
    preprocessor = ImagePreprocessor().fit(images)
    raw = images.fetch(np.arange(3))
    reference = F.normalize(raw.float() / 255, list(preprocessor.mean), list(preprocessor.std))
    torch.testing.assert_close(preprocessor(raw), reference, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(preprocessor(raw.float() / 255), reference, rtol=1e-5, atol=1e-5)


def test_the_batch_is_not_changed_and_crops_of_other_sizes_are_taken() -> None:
    preprocessor = ImagePreprocessor().fit(colours())
    raw = torch.rand(2, 3, 9, 5)
    before = raw.clone()
    assert preprocessor(raw).shape == raw.shape
    assert torch.equal(raw, before)


def test_the_fit_in_pieces_is_the_fit_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ImagePreprocessor().fit(colours())
    monkeypatch.setattr("mmssl.vision.preprocess.CHUNK", 100)
    pieces = ImagePreprocessor().fit(colours())
    np.testing.assert_allclose(pieces.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(pieces.std, whole.std, rtol=1e-12)


def test_what_is_decoded_on_demand_is_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmssl.vision.preprocess.SAMPLE", 30)
    root = write_folder(tmp_path, [f"{i:02}.png" for i in range(40)])
    sample, every = (ImagePreprocessor().fit(read_images(root, cache=cache)) for cache in (0, 1))
    assert sample != every
    np.testing.assert_allclose(sample.mean, every.mean, atol=0.02)


def test_a_constant_channel_is_not_blown_up() -> None:
    values = np.zeros((3, 2, 2, 2), np.uint8)
    values[:, 0] = 200
    values[1, 1] = 100
    preprocessor = ImagePreprocessor().fit(ImageSet.from_array(values))
    assert preprocessor.std[0] == 1
    assert preprocessor(ImageSet.from_array(values))[:, 0].abs().max() < 1e-5


def test_floats_are_scaled_by_the_extremes_of_the_training_images() -> None:
    train = ImageSet.from_array(np.linspace(-3, 5, 8, dtype=np.float32).reshape(2, 1, 2, 2))
    preprocessor = ImagePreprocessor().fit(train)
    assert preprocessor.span == (-3, 5)
    assert preprocessor.prepare(train).fetch(np.arange(2)).flatten()[[0, -1]].tolist() == [0, 1]
    other = ImageSet.from_array(np.full((1, 1, 2, 2), 9, np.float32))
    assert preprocessor.prepare(other).fetch(np.arange(1)).unique().tolist() == [1.5]


def test_bytes_and_words_are_on_one_scale() -> None:
    bytes_ = colours()
    words = ImageSet.from_array(bytes_.pixels.read(np.arange(7))[0].astype(np.uint16) * np.uint16(257))
    preprocessor = ImagePreprocessor().fit(bytes_)
    torch.testing.assert_close(preprocessor(words), preprocessor(bytes_), rtol=1e-5, atol=1e-5)
    assert ImagePreprocessor().fit(words).span == (0, 65535)


def test_the_state_goes_through_json() -> None:
    preprocessor = ImagePreprocessor().fit(colours())
    assert ImagePreprocessor.from_state(json.loads(json.dumps(preprocessor.state()))) == preprocessor


def test_other_channels_are_refused_with_the_name_of_an_image() -> None:
    preprocessor = ImagePreprocessor().fit(colours())
    grey = ImageSet.from_array(np.zeros((1, 1, 4, 4), np.uint8), names=["a/grey.png"])
    with pytest.raises(ValueError, match=r"'a/grey\.png' has 1 channel, the training data had 3: .*data\.channels=3"):
        preprocessor.prepare(grey)
    with pytest.raises(ValueError, match=r"a batch of shape \(1, 1, 4, 4\), trained on 3 channels"):
        preprocessor(torch.zeros(1, 1, 4, 4))


def test_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"has 5 x 5 pixels, the training data 4 x 4: read it with data\.size=4"):
        ImagePreprocessor().fit(colours()).prepare(colours(size=5))


def test_another_kind_of_values_is_refused_unless_it_is_on_the_scale_0_to_1() -> None:
    bytes_ = ImagePreprocessor().fit(colours())
    unit = ImageSet.from_array(np.random.default_rng(0).random((2, 3, 4, 4), dtype=np.float32))
    assert bytes_.prepare(unit).span == (0, 1)
    wide = ImageSet.from_array(np.full((1, 3, 4, 4), 200, np.float32))
    with pytest.raises(ValueError, match="floats from 200 to 200, the training data were uint8"):
        bytes_.prepare(wide)
    with pytest.raises(ValueError, match="0 holds uint8, the training data were floats from"):
        ImagePreprocessor().fit(unit).prepare(colours())


def test_nothing_to_fit_on_is_an_error() -> None:
    with pytest.raises(ValueError, match="no training image"):
        ImagePreprocessor().fit(colours().subset(np.zeros(0, np.int64)))
    with pytest.raises(ValueError, match="every value of every training image is 2"):
        ImagePreprocessor().fit(ImageSet.from_array(np.full((2, 1, 2, 2), 2, np.float32)))
