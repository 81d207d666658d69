from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch

import mmssl
from mmssl.train.export import save_embedder
from mmssl.vision.data import read_images
from mmssl.vision.embedder import ImageEmbedder
from mmssl.vision.encoder import build_encoder
from mmssl.vision.preprocess import ImagePreprocessor
from tests.vision.samples import encoded, picture, write, write_folder

NAMES = ["a.png", "b.png", "c/d.png"]


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> ImageEmbedder:
    images = read_images(write_folder(tmp_path_factory.mktemp("train"), [f"{i}.png" for i in range(8)]), size=32)
    torch.manual_seed(0)
    encoder = build_encoder("resnet18", in_channels=3, size=32)
    return ImageEmbedder(encoder.eval(), encoder.arguments, ImagePreprocessor().fit(images))


def test_a_folder_becomes_a_table_with_a_row_an_image(embedder: ImageEmbedder, tmp_path: Path) -> None:
    frame = embedder.embed(write_folder(tmp_path, NAMES))
    assert frame.index.tolist() == NAMES
    assert frame.shape == (3, embedder.dim)
    assert np.isfinite(frame.to_numpy()).all()


def test_damaged_images_of_new_data_are_left_out_and_named(embedder: ImageEmbedder, tmp_path: Path) -> None:
    folder = write_folder(tmp_path, NAMES)
    write(tmp_path / "broken.png", b"no image")
    with pytest.warns(UserWarning, match=r"1 of 4 images cannot be decoded and are left out: broken\.png"):
        frame = embedder.embed(folder)
    assert frame.index.tolist() == NAMES


def test_the_same_images_give_the_same_features_wherever_they_come_from(
    embedder: ImageEmbedder, tmp_path: Path
) -> None:
    root = write_folder(tmp_path, NAMES, height=32, width=32)
    expected = embedder.embed(root).to_numpy()
    array = np.stack([picture(i, height=32, width=32) for i in range(3)])
    pa.parquet.write_table(pa.table({"image": [encoded(image) for image in array]}), tmp_path / "a.parquet")
    sources: list[Any] = [
        array,
        torch.from_numpy(array).permute(0, 3, 1, 2),
        torch.from_numpy(array).permute(0, 3, 1, 2) / 255,
        [root / name for name in NAMES],
        tmp_path / "a.parquet",
        read_images(root),
    ]
    for source in sources:
        np.testing.assert_allclose(embedder.embed(source).to_numpy(), expected, rtol=1e-4, atol=1e-4)


def test_a_saved_embedder_gives_the_same_table(embedder: ImageEmbedder, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "images", NAMES)
    (tmp_path / "run").mkdir()
    save_embedder(tmp_path / "run", embedder)
    loaded = mmssl.load(tmp_path / "run")
    assert isinstance(loaded, ImageEmbedder)
    assert loaded.preprocessor == embedder.preprocessor
    assert loaded.embed(root).equals(embedder.embed(root))


def test_grey_photographs_are_read_in_colour_and_other_arrays_are_refused(
    embedder: ImageEmbedder, tmp_path: Path
) -> None:
    assert len(embedder.embed(write_folder(tmp_path, NAMES, channels=1))) == 3
    with pytest.raises(ValueError, match="0 has 5 channels, the training data had 3"):
        embedder.embed(np.zeros((2, 5, 32, 32), np.uint8))
    with pytest.raises(ValueError, match="floats from 0 to 255"):
        embedder.embed(np.linspace(0, 255, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32))
