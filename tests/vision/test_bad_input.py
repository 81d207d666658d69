"""What people bring by mistake is named, counted, and refused or left out; never silently."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import tifffile

from mmssl.train.batches import ShuffledBatches
from mmssl.vision.data import read_images
from mmssl.vision.dataset import DataConfig, ImageSource, load_data
from tests.vision.samples import encoded, picture, smooth, write, write_folder


@pytest.mark.parametrize("cache", [0.0, 1.0])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_truncated_empty_and_foreign_files_are_left_out_by_name(tmp_path: Path, kind: str, cache: float) -> None:
    end = kind.lower()
    for i in range(4):
        write(tmp_path / f"a/{i}.{end}", encoded(smooth(i, height=64, width=64), kind))
    whole = encoded(smooth(9, height=64, width=64), kind)
    write(tmp_path / f"b/cut.{end}", whole[: len(whole) // 2])
    write(tmp_path / f"b/empty.{end}", b"")
    write(tmp_path / f"b/text.{end}", b"<html>not found</html>")
    write(tmp_path / f"b/whole.{end}", whole)
    with pytest.warns(UserWarning, match=r"3 of 8 images cannot be decoded and are left out") as caught:
        images = read_images(tmp_path, max_bad=0.4, cache=cache)
    message = str(caught[0].message)
    assert all(name in message for name in (f"b/cut.{end} (", f"b/empty.{end} (0 bytes)", f"b/text.{end} ("))
    assert len(caught) == 1
    assert images.names.tolist() == [*(f"a/{i}.{end}" for i in range(4)), f"b/whole.{end}"]
    assert images.labels is not None
    assert images.labels.tolist() == ["a"] * 4 + ["b"]
    assert images.fetch(np.arange(5)).float().std(dim=(1, 2, 3)).min() > 1
    assert message in images.notes


def test_a_file_with_a_good_header_and_a_good_end_is_found_when_it_is_decoded(tmp_path: Path) -> None:
    write_folder(tmp_path, ["a.png", "b.png"])
    data = bytearray(encoded(picture(2)))
    data[60:120] = bytes(60)
    write(tmp_path / "c.png", bytes(data))
    with pytest.warns(UserWarning, match=r"1 of 3 .*c\.png"):
        images = read_images(tmp_path, max_bad=0.5)
    assert images.names.tolist() == ["a.png", "b.png"]


def test_more_damaged_images_than_allowed_are_an_error_that_lists_some(tmp_path: Path) -> None:
    write_folder(tmp_path, [f"{i}.png" for i in range(90)])
    for i in range(10):
        write(tmp_path / f"bad{i}.png", b"")
    with pytest.raises(ValueError, match=r"10 of 100 .* more than data\.max_bad=0\.01 allows: bad0\.png \(0 bytes\)"):
        read_images(tmp_path)


def test_a_folder_of_nothing_but_damaged_images_is_an_error_whatever_is_allowed(tmp_path: Path) -> None:
    write(tmp_path / "a.png", b"")
    with pytest.raises(ValueError, match=r"none of 1 images can be decoded: a\.png \(0 bytes\)"):
        read_images(tmp_path, max_bad=1)


@pytest.mark.parametrize("kind", ["tif", "npy"])
def test_arrays_of_different_channel_counts_are_refused_with_two_files(tmp_path: Path, kind: str) -> None:
    for name, channels in (("a", 5), ("b", 5), ("c", 7)):
        array = np.zeros((channels, 20, 20), np.uint8)
        if kind == "tif":
            tifffile.imwrite(tmp_path / f"{name}.tif", array, photometric="minisblack")
        else:
            np.save(tmp_path / f"{name}.npy", array)
    with pytest.raises(ValueError, match=rf"a\.{kind} has 5 channels and c\.{kind} 7"):
        read_images(tmp_path)


def test_arrays_of_different_channel_counts_are_found_wherever_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmssl.vision.load.SAMPLE", 2)
    for i in range(4):
        np.save(tmp_path / f"{i}.npy", np.zeros((3 + (i == 3), 20, 20), np.uint8))
    with pytest.raises(ValueError, match=r"0\.npy has 3 channels and 3\.npy 4"):
        read_images(tmp_path)


def test_arrays_are_not_converted_to_other_channels(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((8, 8), np.uint8))
    np.save(tmp_path / "b.npy", np.zeros((8, 8), np.uint8))
    with pytest.raises(ValueError, match=r"data\.channels=3, but a\.npy is an array of 1 channel.*leave"):
        read_images(tmp_path, channels=3)


def test_arrays_of_different_types_are_refused_with_two_files(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((8, 8), np.uint8))
    np.save(tmp_path / "b.npy", np.zeros((8, 8), np.uint16))
    with pytest.raises(ValueError, match=r"a\.npy holds uint8 and b\.npy uint16"):
        read_images(tmp_path)


def test_images_smaller_than_the_wanted_size_are_scaled_up_and_that_is_said(tmp_path: Path) -> None:
    write_folder(tmp_path, ["a.png", "b.png"], height=12, width=12)
    images = read_images(tmp_path, size=48)
    assert images.size == 48
    assert "2 images are smaller than that and are scaled up" in images.notes


def test_an_empty_folder_says_what_is_looked_for(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", b"")
    with pytest.raises(ValueError, match=r"holds no image, only 1 other files; looked for \.jpg.*\.tif"):
        read_images(tmp_path)


def test_a_path_that_is_not_there_lists_what_is(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(FileNotFoundError, match=r"data\.path=.*photo does not exist.*'photos'"):
        read_images(tmp_path / "photo")
    with pytest.raises(FileNotFoundError, match=r"does not exist: there is nothing beside it"):
        read_images(tmp_path / "no" / "where.zip")


def test_a_file_that_is_no_image_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.csv is neither a folder nor an archive"):
        read_images(write(tmp_path / "a.csv", b"1,2"))


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.xz", "a.tgz", "a.parquet", "a.npz", "a.npy"])
def test_a_damaged_container_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} cannot be read"):
        read_images(write(tmp_path / name, b"PK\x03\x04 not really" * 20))


def test_a_truncated_archive_is_named(tmp_path: Path) -> None:
    import tarfile

    root = write_folder(tmp_path / "root", ["a.png", "b.png"])
    with tarfile.open(tmp_path / "a.tar.xz", "w:xz") as archive:
        archive.add(root, "root")
    whole = (tmp_path / "a.tar.xz").read_bytes()
    with pytest.raises(ValueError, match=r"a\.tar\.xz cannot be read as an archive"):
        read_images(write(tmp_path / "a.tar.xz", whole[: len(whole) // 2]))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_not_called_a_damaged_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tarfile
    import tempfile

    root = write_folder(tmp_path / "root", ["a.png", "b.png"])
    with tarfile.open(tmp_path / "a.tar.xz", "w:xz") as archive:
        archive.add(root, "root")
    (tmp_path / "full").symlink_to("/dev/full")
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", lambda **_: (tmp_path / "full").open("wb"))
    with pytest.raises(OSError, match=r"is full.*TMPDIR"):
        read_images(tmp_path / "a.tar.xz")
    assert not (tmp_path / "full").is_symlink()  # the unfinished copy is removed


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", encoded(picture()))
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"a\.png in .*a\.zip is encrypted: unpack"):
        read_images(path)


def test_a_table_without_an_image_column_names_those_that_exist(tmp_path: Path) -> None:
    pa.parquet.write_table(pa.table({"url": ["http://a"], "width": [3]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"no column of encoded images.*it has url \(string\), width \(int64\)"):
        read_images(tmp_path / "a.parquet")


def test_a_table_with_several_columns_of_bytes_asks_which(tmp_path: Path) -> None:
    pa.parquet.write_table(pa.table({"left": [b"a"], "right": [b"b"]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"set data\.image to one of left, right"):
        read_images(tmp_path / "a.parquet")


def test_a_table_column_that_is_not_there_names_the_others(tmp_path: Path) -> None:
    pa.parquet.write_table(pa.table({"image": [encoded(picture())]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"data\.label: .*no column 'kind', only image \(binary\)"):
        read_images(tmp_path / "a.parquet", label="kind")


def test_rows_without_an_image_count_as_damaged(tmp_path: Path) -> None:
    rows = [encoded(picture(0)), None, encoded(picture(1))]
    pa.parquet.write_table(pa.table({"image": rows, "label": [0, 1, 2]}), tmp_path / "a.parquet")
    with pytest.warns(UserWarning, match=r"1 of 3 .*left out: 1 \(0 bytes\)"):
        images = read_images(tmp_path / "a.parquet", max_bad=0.5)
    assert images.names.tolist() == [0, 2]
    with pytest.raises(ValueError, match=r"1 of 3 images cannot be decoded"):
        read_images(tmp_path / "a.parquet")


def test_an_empty_table_is_refused(tmp_path: Path) -> None:
    pa.parquet.write_table(pa.table({"image": pa.array([], pa.binary())}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="has no rows"):
        read_images(tmp_path / "a.parquet")


@pytest.mark.parametrize("size", [None, 6])
def test_images_with_nan_are_left_out_by_row_or_refused(size: int | None) -> None:
    array = np.random.default_rng(0).normal(size=(20, 8, 8)).astype(np.float32)
    array[3, 0, 0], array[17, 1, :2] = np.nan, np.inf
    with pytest.warns(UserWarning, match=r"2 of 20 .*left out: 3 \(it holds 1 values.*17 \(it holds 2 values"):
        images = read_images(array, max_bad=0.1, size=size)
    assert images.names.tolist() == [i for i in range(20) if i not in (3, 17)]
    assert np.isfinite(images.fetch(np.arange(18)).numpy()).all()
    with pytest.raises(ValueError, match=r"2 of 20 images cannot be decoded.*NaN or infinite"):
        read_images(array, size=size)


def test_an_npy_file_of_one_image_with_nan_is_named(tmp_path: Path) -> None:
    for i in range(3):
        np.save(tmp_path / f"{i}.npy", np.full((8, 8), np.nan if i == 1 else i))
    with pytest.warns(UserWarning, match=r"1\.npy \(it holds 64 values that are NaN"):
        assert len(read_images(tmp_path, max_bad=0.5)) == 2


def test_arrays_of_objects_and_texts_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"a\.npy cannot be read as an array.*objects"):
        read_images(tmp_path / "a.npy")
    with pytest.raises(ValueError, match=r"<U1 of shape"):
        read_images(np.full((3, 8, 8), "x"))
    with pytest.raises(ValueError, match="no image in the array"):
        read_images(np.zeros((0, 8, 8), np.uint8))


def test_an_npz_without_images_says_what_it_holds(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", features=np.zeros((3, 5)))
    with pytest.raises(ValueError, match=r"must hold images under x.*features \(3, 5\)"):
        read_images(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", x=np.zeros((3, 8, 8), np.uint8), y=[1, 2])
    with pytest.raises(ValueError, match=r"y of .*b\.npz must hold a label for each of the 3 images, got shape \(2,\)"):
        read_images(tmp_path / "b.npz")


@pytest.mark.parametrize("option", ["id", "group", "label"])
def test_columns_of_what_has_none_are_refused(option: str) -> None:
    with pytest.raises(ValueError, match=rf"data\.{option}=x needs a table, which an array is not"):
        read_images(np.zeros((3, 8, 8), np.uint8), **{option: "x"})  # type: ignore[arg-type]


def test_grey_images_stay_grey_all_the_way(tmp_path: Path) -> None:
    write_folder(tmp_path, [f"{c}/{i}.png" for c in "ab" for i in range(5)], channels=1)
    data = load_data(DataConfig(path=str(tmp_path)))
    assert data.preprocessor.channels == 1
    assert ImageSource(data.train).fetch(np.arange(3)).shape == (3, 1, 12, 12)


def test_a_batch_larger_than_the_data_is_all_of_the_data(tmp_path: Path) -> None:
    write_folder(tmp_path, [f"{i}.png" for i in range(5)])
    source = ImageSource(load_data(DataConfig(path=str(tmp_path))).train)
    batch = next(ShuffledBatches(source, batch_size=64)())
    assert batch.shape == (5, 3, 12, 12)


def test_labels_that_are_partly_missing_train_without_and_test_with(tmp_path: Path) -> None:
    names = [f"{c}/{i}.png" for c in "ab" for i in range(10)] + [f"unlabelled/{i}.png" for i in range(10)]
    data = load_data(DataConfig(path=str(write_folder(tmp_path, names))))
    assert data.test is not None
    assert data.test.labels is not None
    assert data.train.labels is not None
    assert sorted(data.test.labels) == ["a"] * 3 + ["b"] * 3
    assert sum(label is None for label in data.train.labels) == 10
