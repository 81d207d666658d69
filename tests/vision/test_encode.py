"""Encoding, and the pixels that an encoder has to beat."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmssl.vision.controls import pixels
from mmssl.vision.data import read_images
from mmssl.vision.encode import encode_images
from mmssl.vision.images import ImageSet
from mmssl.vision.preprocess import ImagePreprocessor
from tests.vision.samples import write, write_folder


class Projection(nn.Module):
    """A linear map behind a batch norm, which shows whether it is in evaluation mode; counts its batches."""

    def __init__(self, channels: int = 3, size: int = 12, dim: int = 5) -> None:
        super().__init__()
        self.dim = dim
        self.batches: list[int] = []
        self.norm = nn.BatchNorm2d(channels)
        self.weight = nn.Parameter(torch.randn(channels * size**2, dim))

    def forward(self, x: Tensor) -> Tensor:
        self.batches.append(len(x))
        return torch.flatten(self.norm(x), 1) @ self.weight


def noise(n: int = 10, size: int = 12, channels: int = 3) -> ImageSet:
    values = np.random.default_rng(0).integers(0, 256, (n, channels, size, size), dtype=np.uint8)
    return ImageSet.from_array(values)


@pytest.mark.parametrize("training", [True, False])
def test_features_do_not_depend_on_the_batch_and_the_mode_is_restored(training: bool) -> None:
    images = noise()
    preprocessor = ImagePreprocessor().fit(images)
    encoder = Projection().train(training)
    whole = encode_images(encoder, images, preprocessor)
    pieces = encode_images(encoder, images, preprocessor, batch_size=3)
    assert (whole.shape, whole.dtype) == ((10, 5), np.float32)
    np.testing.assert_allclose(pieces, whole, rtol=1e-5, atol=1e-5)
    assert encoder.training == training
    assert encoder.norm.num_batches_tracked == 0
    expected = torch.flatten(preprocessor(images), 1) @ encoder.weight / (1 + encoder.norm.eps) ** 0.5
    np.testing.assert_allclose(whole, expected.detach().numpy(), rtol=1e-4, atol=1e-4)


def test_large_images_go_through_in_smaller_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmssl.vision.encode.VALUES", 4 * 3 * 12 * 12)
    images, encoder = noise(), Projection()
    encode_images(encoder, images, ImagePreprocessor().fit(images))
    assert encoder.batches == [4, 4, 2]


def test_an_encoder_that_fails_is_left_in_its_mode() -> None:
    images, encoder = noise(), Projection(size=9)
    with pytest.raises(RuntimeError):
        encode_images(encoder.train(), images, ImagePreprocessor().fit(images))
    assert encoder.training


def test_images_on_the_disk_stream_through_workers_and_give_the_same(tmp_path: Path) -> None:
    root = write_folder(tmp_path, [f"{i}.png" for i in range(6)])
    now, later = read_images(root), read_images(root, cache=0)
    preprocessor, encoder = ImagePreprocessor().fit(now), Projection()
    expected = encode_images(encoder, now, preprocessor)
    np.testing.assert_allclose(encode_images(encoder, later, preprocessor, batch_size=2), expected, rtol=1e-5)
    np.testing.assert_array_equal(pixels(later, preprocessor), pixels(now, preprocessor))


def test_an_image_that_breaks_later_is_encoded_as_the_mean_and_named(tmp_path: Path) -> None:
    images = read_images(write_folder(tmp_path, [f"{i}.png" for i in range(4)]), cache=0, max_bad=0.5)
    preprocessor, encoder = ImagePreprocessor().fit(images), Projection()
    write(tmp_path / "2.png", b"")
    with pytest.warns(UserWarning, match=r"could not be decoded: 2\.png \(0 bytes\)"):
        features = encode_images(encoder, images, preprocessor)
    assert not features[2].any()
    assert features[[0, 1, 3]].any(axis=1).all()


def test_floats_of_new_data_are_scaled_as_in_training() -> None:
    values = np.random.default_rng(0).normal(size=(6, 3, 12, 12)).astype(np.float32) * 40
    train, new = ImageSet.from_array(values), ImageSet.from_array(values[:2])
    preprocessor, encoder = ImagePreprocessor().fit(train), Projection()
    np.testing.assert_allclose(
        encode_images(encoder, new, preprocessor), encode_images(encoder, train, preprocessor)[:2], rtol=1e-5
    )


def test_pixels_of_small_images_are_the_standardised_pixels() -> None:
    images = noise(size=32)
    preprocessor = ImagePreprocessor().fit(images)
    np.testing.assert_allclose(pixels(images, preprocessor), preprocessor(images).flatten(1).numpy(), rtol=1e-6)


def test_pixels_of_large_images_are_means_of_blocks() -> None:
    images = noise(n=3, size=48, channels=2)
    preprocessor = ImagePreprocessor().fit(images)
    features = pixels(images, preprocessor)
    blocks = preprocessor(images).numpy().reshape(3, 2, 16, 3, 16, 3).mean(axis=(3, 5))
    np.testing.assert_allclose(features, blocks.reshape(3, -1), rtol=1e-4, atol=1e-5)
    assert features.shape == (3, 2 * 16 * 16)
