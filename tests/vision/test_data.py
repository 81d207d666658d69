from __future__ import annotations

import io
import json
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import tifffile
import torch
from torchvision.datasets import ImageFolder

from mmssl.vision.data import describe, embedding_frame, read_images
from mmssl.vision.images import ImageSet
from tests.vision.samples import encoded, picture, smooth, write, write_folder

CLASSES = ["cat/1.png", "cat/2.png", "dog/1.png", "dog/7.png"]


def values(images: ImageSet) -> torch.Tensor:
    return images.fetch(np.arange(len(images)))


def listed(column: Any) -> Any:
    return None if column is None else column.tolist()


def expected(n: int) -> torch.Tensor:
    """What `write_folder` wrote."""
    return torch.from_numpy(np.stack([picture(i).transpose(2, 0, 1) for i in range(n)]))


def pack(folder: Path, kind: str) -> Path:
    """An archive of a folder, its root included as ``./``."""
    path = folder.parent / f"packed{kind}"
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    if kind == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for i, file in enumerate(files):  # both ways to store a member
                method = zipfile.ZIP_DEFLATED if i % 2 else zipfile.ZIP_STORED
                archive.write(file, file.relative_to(folder), compress_type=method)
        return path
    modes: dict[str, Any] = {".tar": "w", ".tar.xz": "w:xz", ".tgz": "w:gz", ".tar.bz2": "w:bz2"}
    with tarfile.open(path, modes[kind]) as archive:
        for file in reversed(files):
            archive.add(file, f"./{file.relative_to(folder)}")
    return path


def write_parquet(path: Path, n: int = 5, *, nested: bool = False, **columns: Any) -> Path:
    blobs = [encoded(picture(i)) for i in range(n)]
    image = [{"bytes": blob, "path": f"{i}.png"} for i, blob in enumerate(blobs)] if nested else blobs
    path.parent.mkdir(parents=True, exist_ok=True)
    pa.parquet.write_table(pa.table({"image": image, **columns}), path, row_group_size=2)
    return path


# ------------------------------------------------------------------------------------------------ files and archives


def test_a_folder_with_classes_is_what_torchvisions_image_folder_makes_of_it(tmp_path: Path) -> None:
    root = write_folder(tmp_path, CLASSES)
    images, reference = read_images(root), ImageFolder(str(root))
    assert images.names.tolist() == CLASSES
    assert listed(images.labels) == [reference.classes[target] for _, target in reference.samples]
    for i in range(len(reference)):
        np.testing.assert_array_equal(values(images)[i].permute(1, 2, 0).numpy(), np.asarray(reference[i][0]))


@pytest.mark.parametrize("kind", [".zip", ".tar", ".tar.xz", ".tgz", ".tar.bz2"])
@pytest.mark.parametrize("cache", [0.0, 1.0])
def test_an_archive_is_the_folder_that_it_was_made_of(tmp_path: Path, kind: str, cache: float) -> None:
    root = write_folder(tmp_path / "root", CLASSES)
    write(root / "README.md", b"not an image")
    write(root / "__MACOSX/cat/._1.png", b"not an image")
    images = read_images(pack(root, kind), cache=cache)
    assert images.names.tolist() == CLASSES
    assert listed(images.labels) == ["cat", "cat", "dog", "dog"]
    assert torch.equal(values(images), expected(4))
    assert any("1 files that are no images" in note for note in images.notes)


def test_the_temporary_copy_of_an_archive_goes_with_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    path = pack(write_folder(tmp_path / "root", CLASSES), ".tgz")
    images = read_images(path, cache=0)
    few = images.subset(np.array([1]))
    del images
    assert len(os.listdir(tmp_path / "temporary")) == 1
    assert torch.equal(values(few), expected(4)[[1]])
    del few
    assert not os.listdir(tmp_path / "temporary")


def test_many_images_are_decoded_by_several_processes_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmssl.vision.load.MANY", 4)
    monkeypatch.setattr("mmssl.vision.load.PIECE", 3)
    root = write_folder(tmp_path, [f"{i:02}.png" for i in range(10)])
    before = torch.random.get_rng_state()
    assert torch.equal(values(read_images(root)), expected(10))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("odd", [{"channels": 1}, {"height": 30, "width": 18}])
def test_an_image_unlike_those_that_were_looked_at_first_changes_the_plan_for_all(
    tmp_path: Path, odd: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmssl.vision.load.SAMPLE", 2)
    root = write_folder(tmp_path, ["0.png", "2.png", "3.png"])
    write(root / "1.png", encoded(picture(9, **odd)))
    images = read_images(root, cache=1)
    assert (len(images), images.channels, images.size) == (4, 3, 12)
    assert any("1 grey and 3 colour" in note or "sizes were 12 x 12 to 18 x 30" in note for note in images.notes)
    later = read_images(root, cache=0)
    assert torch.equal(values(later), values(images))
    assert later.notes[:-1] == images.notes


def test_a_nested_folder_without_classes_and_a_list_of_files_are_read(tmp_path: Path) -> None:
    root = write_folder(tmp_path, ["2024/05/a.png", "2024/06/b.png", "2025/c.png"])
    images = read_images(root)
    assert images.names.tolist() == ["2024/05/a.png", "2024/06/b.png", "2025/c.png"]
    assert images.labels is None
    some = read_images([root / "2025/c.png", str(root / "2024/05/a.png")])
    assert torch.equal(values(some), values(images)[[2, 0]])
    assert some.names.tolist()[1] == (root / "2024/05/a.png").as_posix()
    assert torch.equal(values(read_images(root / "2025/c.png")), values(images)[[2]])


def test_linked_folders_are_followed_and_hidden_ones_are_not(tmp_path: Path) -> None:
    write_folder(tmp_path / "elsewhere", ["1.png"])
    root = write_folder(tmp_path / "root", ["a/1.png", ".trash/1.png", "a/.1.png"])
    (root / "b").symlink_to(tmp_path / "elsewhere")
    images = read_images(root)
    assert images.names.tolist() == ["a/1.png", "b/1.png"]
    assert listed(images.labels) == ["a", "b"]


# ------------------------------------------------------------------------------------------- TIFF and NPY in folders


@pytest.mark.parametrize("axes", ["CYX", "YXS"])
def test_tiffs_of_many_channels_and_16_bits_are_read(tmp_path: Path, axes: str) -> None:
    stack = np.random.default_rng(0).integers(0, 65536, (2, 5, 8, 8), dtype=np.uint16)
    for i, image in enumerate(stack):
        file = tmp_path / f"{i}.tif"
        if axes == "CYX":
            tifffile.imwrite(file, image, photometric="minisblack", compression="deflate")
        else:
            tifffile.imwrite(file, image.transpose(1, 2, 0), photometric="minisblack", planarconfig="contig")
    images = read_images(tmp_path)
    assert (images.channels, images.dtype) == (5, "uint16")
    np.testing.assert_allclose(values(images).numpy(), stack / 65535, rtol=1e-6)


@pytest.mark.parametrize("shape", [(7, 9, 9), (9, 9, 3), (9, 9)])
def test_npy_files_of_one_image_each_are_read(tmp_path: Path, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape) for _ in range(3)]
    for i, array in enumerate(arrays):
        np.save(tmp_path / f"{i}.npy", array)
    images = read_images(tmp_path)
    assert images.dtype == "float32"
    first = np.moveaxis(arrays[0], -1, 0) if shape == (9, 9, 3) else arrays[0].reshape(-1, 9, 9)
    np.testing.assert_allclose(values(images)[0], first.astype(np.float32))


def test_photographs_beside_arrays_take_their_channels(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", picture(1, channels=1))
    write(tmp_path / "b.png", encoded(smooth()))
    images = read_images(tmp_path)
    assert images.channels == 1


# -------------------------------------------------------------------------------------------------------- Parquet


def test_a_table_of_bytes_gives_labels_ids_and_groups_by_column(tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path / "a.parquet", kind=["x", None, "", "y", "x"], key=[7, 8, 9, 10, 11], site=["p", "p", "q", "q", "r"]
    )
    images = read_images(path, label="kind", id="key", group="site")
    assert torch.equal(values(images), expected(5))
    assert listed(images.labels) == ["x", None, None, "y", "x"]
    assert images.names.tolist() == [7, 8, 9, 10, 11]
    assert listed(images.groups) == ["p", "p", "q", "q", "r"]


def test_a_column_called_label_is_taken_unless_none_is_wanted(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", label=[0, 1, None, 1, 0])
    images = read_images(path)
    assert images.names.tolist() == [0, 1, 2, 3, 4]
    assert listed(images.labels) == [0, 1, None, 1, 0]
    assert read_images(path, label="none").labels is None


def test_hugging_faces_layout_is_read_with_class_names_and_shards_as_parts(tmp_path: Path) -> None:
    about = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    for name, n in (("train-00000-of-00002", 2), ("train-00001-of-00002", 3), ("test-00000-of-00001", 1)):
        path = write_parquet(tmp_path / "data" / f"{name}.parquet", n, nested=True, label=([0, 1, -1])[:n])
        table = pa.parquet.read_table(path).replace_schema_metadata({"huggingface": json.dumps(about)})
        pa.parquet.write_table(table, path)
    images = read_images(tmp_path)
    assert listed(images.parts) == ["test", "train", "train", "train", "train", "train"]
    assert listed(images.labels) == ["cat", "cat", "dog", "cat", "dog", None]
    assert torch.equal(values(images)[3:], expected(3))


def test_the_image_column_can_be_named_where_there_are_several(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", 2, mask=[encoded(picture(9))] * 2)
    assert torch.equal(values(read_images(path)), expected(2))  # `image` is the usual name
    assert torch.equal(values(read_images(path, image="mask"))[1], torch.from_numpy(picture(9).transpose(2, 0, 1)))


# --------------------------------------------------------------------------------------------------------- arrays


def test_arrays_of_every_layout_are_the_same_images() -> None:
    first = np.random.default_rng(0).integers(0, 256, (6, 3, 9, 9), dtype=np.uint8)
    for array in (first, np.moveaxis(first, 1, -1), torch.from_numpy(first)):
        np.testing.assert_array_equal(values(read_images(array)), first)
    np.testing.assert_array_equal(values(read_images(first[:, 0])), first[:, :1])


@pytest.mark.parametrize(
    ("shape", "channels"),
    [
        ((5, 8, 8), 1),  # no channels
        ((2, 8, 8, 1), 1),  # one end is short enough to be channels
        ((2, 2, 8, 8), 2),
        ((3, 40, 40, 12), 12),  # one end is the shortest
        ((3, 12, 40, 40), 12),
    ],
)
def test_the_axis_of_the_channels_is_told_by_its_length(shape: tuple[int, ...], channels: int) -> None:
    assert read_images(np.zeros(shape, np.uint8)).channels == channels


@pytest.mark.parametrize("shape", [(2, 3, 9, 3), (2, 32, 32, 32), (2, 20, 64, 64), (4, 9, 3)])
def test_an_array_that_could_be_read_in_two_ways_asks_for_the_layout(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"data\.layout=N"):
        read_images(np.zeros(shape, np.uint8))
    layout = "NHW" if len(shape) == 3 else "NCHW"
    assert read_images(np.zeros(shape, np.uint8), layout=layout, size=8).channels == (
        shape[1] if len(shape) == 4 else 1
    )


def test_a_layout_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"data\.layout must be NHW, NHWC, NCHW, got 'HCW'"):
        read_images(np.zeros((2, 9, 9, 3), np.uint8), layout="HCW")
    with pytest.raises(ValueError, match=r"got shape \(2, 9\)"):
        read_images(np.zeros((2, 9), np.uint8))


def test_an_npz_file_holds_images_labels_and_parts(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    train, test = (rng.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8) for n in (4, 2))
    np.savez(tmp_path / "plain.npz", X=train, y=np.array(["a", "", "b", "a"]))
    plain = read_images(tmp_path / "plain.npz")
    assert listed(plain.labels) == ["a", None, "b", "a"]
    assert plain.parts is None
    np.savez(tmp_path / "keras.npz", x_train=train, y_train=[0.0, 1, np.nan, 1], x_test=test, y_test=[0, 1])
    keras = read_images(tmp_path / "keras.npz")
    assert listed(keras.labels) == [0, 1, None, 1, 0, 1]
    assert listed(keras.parts) == ["train"] * 4 + ["test"] * 2
    np.savez(tmp_path / "med.npz", train_images=train, train_labels=[[0], [1], [1], [0]], test_images=test)
    medical = read_images(tmp_path / "med.npz")
    assert listed(medical.labels) == [0, 1, 1, 0, None, None]
    np.testing.assert_array_equal(values(medical), np.concatenate([train, test]).transpose(0, 3, 1, 2))


def test_an_npy_file_larger_than_the_cache_stays_on_the_disk(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, (6, 9, 9, 3), dtype=np.uint8)
    np.save(tmp_path / "a.npy", array)
    images = read_images(tmp_path / "a.npy", cache=1e-7)
    assert not images.in_memory
    np.testing.assert_array_equal(values(images), array.transpose(0, 3, 1, 2))
    assert read_images(tmp_path / "a.npy").in_memory


def test_arrays_are_resized_and_booleans_are_black_and_white() -> None:
    array = np.zeros((2, 12, 20), bool)
    array[:, :, 10:] = True
    images = read_images(array, size=6)
    assert images.dtype == "uint8"
    row = values(images)[0, 0, 0].tolist()
    assert row[:2] + row[4:] == [0, 0, 255, 255]
    assert row == sorted(row)


# ------------------------------------------------------------------------------------------------------ descriptions


def test_the_description_shows_what_was_read(tmp_path: Path) -> None:
    root = write_folder(tmp_path, ["a/1.png", "b/1.png", "b/2.png", "3.png"])
    write(root / "notes.txt", b"none")
    assert describe(read_images(root)).splitlines() == [
        "images: 4 of 12 x 12, 3 channels, 8 bits, in memory",
        "labels: a 1, b 2; 1 unlabelled",
        "1 files that are no images by their suffix were passed over",
    ]


def test_embeddings_become_a_table_indexed_by_image() -> None:
    names = np.array(["x.png", "y.png"], dtype=object)
    frame = embedding_frame(np.eye(2, 3, dtype=np.float32), names, label=["a", None])
    assert frame.columns.tolist() == ["label", "e000", "e001", "e002"]
    assert frame.loc["y.png", "e001"] == 1
    assert frame.index.name == "image"


def test_io_is_only_through_the_bytes_of_an_image(tmp_path: Path) -> None:
    """The suffix chooses the files, their first bytes the decoder: a wrong suffix does no harm."""
    write(tmp_path / "really.jpg", encoded(picture(0)))
    file = io.BytesIO()
    tifffile.imwrite(file, picture(1), photometric="rgb")
    write(tmp_path / "tiff.png", file.getvalue())
    assert torch.equal(values(read_images(tmp_path)), expected(2))
