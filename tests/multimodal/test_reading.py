"""Tables, folders and shards; what is wrong with a row is said with its number."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmssl.multimodal.dataset import DataConfig, load_data, read_pairs
from mmssl.multimodal.emoji import captions
from tests.multimodal.samples import SHAPES, drawn, things, write_rows, write_table
from tests.vision.samples import encoded, write


def read(path: Path, **options: object) -> list[tuple[str, list[str]]]:
    """Names and captions of what is read."""
    pairs = read_pairs(DataConfig(path=str(path), **options))  # type: ignore[arg-type]
    ends = np.append(pairs.first, len(pairs.captions))
    return [(str(name), pairs.captions[ends[i] : ends[i + 1]].tolist()) for i, name in enumerate(pairs.images.names)]


# ---------------------------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_table_gives_images_with_captions_and_classes(tmp_path: Path, kind: str) -> None:
    pairs = read_pairs(DataConfig(path=str(write_table(tmp_path, 9, kind)), label="kind"))
    assert pairs.captions.tolist() == [f"a {colour} {shape}" for colour, shape, _ in things(9)]
    assert pairs.images.labels is not None
    assert pairs.images.labels.tolist() == [shape for _, shape, _ in things(9)]
    image = pairs.images.fetch(np.array([4]))[0].numpy().transpose(1, 2, 0)
    np.testing.assert_array_equal(image, drawn("green", "bar"))


def test_a_list_of_captions_in_a_cell_and_repeated_rows_are_the_same(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write(tmp_path / name, encoded(drawn("red", "bar")))
    listed, repeated = tmp_path / "listed.parquet", tmp_path / "repeated.csv"
    pd.DataFrame({"path": ["a.png", "b.png"], "texts": [["one", "two"], ["three"]]}).to_parquet(listed)
    rows = [("a.png", "one"), ("b.png", "three"), ("a.png", "two")]
    write_rows(repeated, [{"path": name, "text": text} for name, text in rows])
    assert read(listed) == read(repeated) == [("a.png", ["one", "two"]), ("b.png", ["three"])]


def test_paths_may_begin_elsewhere_than_at_the_table(tmp_path: Path) -> None:
    write(tmp_path / "photos" / "a.png", encoded(drawn("red", "bar")))
    write_rows(tmp_path / "t.tsv", [{"image": "a.png", "caption": "a bar"}])
    (tmp_path / "t.tsv").write_text("image\tcaption\na.png\ta bar\n")
    assert read(tmp_path / "t.tsv", root=str(tmp_path / "photos")) == [("a.png", ["a bar"])]
    with pytest.raises(FileNotFoundError, match=r"data\.root=.*/nowhere is no folder"):
        read(tmp_path / "t.tsv", root=str(tmp_path / "nowhere"))


def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    table = write_table(tmp_path, 3)
    with pytest.raises(ValueError, match=r"data\.caption: .* has no column 'captoin', .*did you mean 'caption'\?"):
        read(table, caption="captoin")
    write_rows(tmp_path / "odd.csv", [{"url": "a.png", "words": "a"}])
    with pytest.raises(ValueError, match=r"no column with a usual name of images, only url, words: set data\.image"):
        read(tmp_path / "odd.csv")


def test_a_missing_and_a_damaged_image_are_left_out_with_their_rows(tmp_path: Path) -> None:
    table = write_table(tmp_path, 18)
    (tmp_path / "photos" / "003.png").unlink()
    (tmp_path / "photos" / "010.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"2 of 18 images cannot be decoded, more than data\.max_bad=0\.01") as error:
        read(table)
    assert "photos/003.png (row 4: there is no such file)" in str(error.value)
    assert "photos/010.png (row 11: " in str(error.value)
    with pytest.warns(UserWarning, match=r"2 of 18 images cannot be decoded and are left out.*row 4"):
        kept = read(table, max_bad=0.2)
    assert len(kept) == 16
    assert dict(kept)["photos/004.png"] == ["a green bar"]  # captions stay with their images


def test_empty_captions_are_left_out_with_their_rows(tmp_path: Path) -> None:
    table = write_table(tmp_path, 9)
    table.write_text(table.read_text().replace("a green bar", "  "))
    with pytest.raises(ValueError, match=r"1 of 9 images have an empty caption or none, .*row 5 \(photos/004\.png\)"):
        read(table)
    with pytest.warns(UserWarning, match="row 5"):
        kept = read(table, max_bad=0.2)
    assert len(kept) == 8
    assert "photos/004.png" not in dict(kept)


def test_a_caption_that_is_a_number_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "a.png", encoded(drawn("red", "bar")))
    pd.DataFrame({"image": ["a.png"], "caption": [3]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=r"row 1: the caption 3 is a int, not text; is data\.caption the right column"):
        read(tmp_path / "t.parquet")


def test_an_image_with_two_labels_is_an_error(tmp_path: Path) -> None:
    write_rows(
        tmp_path / "t.csv",
        [{"image": "a.png", "caption": "a", "kind": "x"}, {"image": "a.png", "caption": "b", "kind": "y"}],
    )
    with pytest.raises(ValueError, match=r"a\.png has the label 'x' in row 1 and 'y' in row 2"):
        read(tmp_path / "t.csv", label="kind")


def test_a_row_without_a_path_and_a_table_without_rows_are_errors(tmp_path: Path) -> None:
    write_rows(tmp_path / "t.csv", [{"image": "", "caption": "a"}])
    with pytest.raises(ValueError, match="row 1: column 'image' holds '', not the path of an image"):
        read(tmp_path / "t.csv")
    (tmp_path / "e.csv").write_text("image,caption\n")
    with pytest.raises(ValueError, match=r"e\.csv has no rows"):
        read(tmp_path / "e.csv")
    (tmp_path / "d.parquet").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"d\.parquet cannot be read as a table"):
        read(tmp_path / "d.parquet")


# --------------------------------------------------------------------------------------------- folders and shards


def test_lines_of_a_text_file_beside_an_image_are_its_captions(tmp_path: Path) -> None:
    for shape in SHAPES:
        write(tmp_path / shape / "1.png", encoded(drawn("red", shape)))
        (tmp_path / shape / "1.txt").write_text(f"a {shape}\n\nred {shape}\n")
    assert read(tmp_path) == [(f"{shape}/1.png", [f"a {shape}", f"red {shape}"]) for shape in sorted(SHAPES)]
    labels = read_pairs(DataConfig(path=str(tmp_path))).images.labels
    assert labels is not None
    assert labels.tolist() == sorted(SHAPES)


def test_a_folder_of_images_without_captions_says_what_is_looked_for(tmp_path: Path) -> None:
    write(tmp_path / "a.png", encoded(drawn("red", "bar")))
    with pytest.raises(ValueError, match=r"1 images, but none has a caption beside it: a\.png needs a\.txt"):
        read(tmp_path)


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def write_shards(folder: Path) -> None:
    for shard in range(2):
        with tarfile.open(folder / f"shard-{shard}.tar", "w") as archive:
            for i in range(3):
                colour, shape, seed = things(6)[3 * shard + i]
                add(archive, f"{shard}{i}.png", encoded(drawn(colour, shape, seed)))
                if shard == 0:
                    add(archive, f"{shard}{i}.txt", f"a {colour} {shape}".encode())
                else:
                    add(archive, f"{shard}{i}.json", json.dumps({"caption": [f"a {colour}", shape]}).encode())


def test_shards_are_read_by_their_keys_wherever_an_example_lies(tmp_path: Path) -> None:
    write_shards(tmp_path)
    found = dict(read(tmp_path))
    assert list(found) == [f"shard-{shard}.tar/{shard}{i}.png" for shard in range(2) for i in range(3)]
    assert found["shard-0.tar/02.png"] == ["a red frame"]
    assert found["shard-1.tar/11.png"] == ["a green", "bar"]
    pairs = read_pairs(DataConfig(path=str(tmp_path), cache=0.0))  # decoded when asked for
    image = pairs.images.fetch(np.array([4]))[0].numpy().transpose(1, 2, 0)
    np.testing.assert_array_equal(image, drawn("green", "bar"))


def test_a_damaged_member_is_named_with_its_shard(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        add(archive, "0.png", encoded(drawn("red", "bar")))
        add(archive, "0.txt", b"a bar")
        add(archive, "1.jpg", b"nothing")
        add(archive, "1.txt", b"a square")
    with pytest.raises(ValueError, match=r"1 of 2 images cannot be decoded.*a\.tar/1\.jpg \(member a\.tar/1\.jpg: "):
        read(tmp_path)


@pytest.mark.parametrize(
    ("member", "content", "message"),
    [
        ("0.json", b"{", r"0\.json cannot be read as UTF-8 text or JSON"),
        ("0.cls", b"3", "1 images and no caption: an example needs a member <key>.txt"),
    ],
)
def test_a_shard_without_usable_captions_says_so(tmp_path: Path, member: str, content: bytes, message: str) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        add(archive, "0.png", encoded(drawn("red", "bar")))
        add(archive, member, content)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "a.tar")


def test_a_compressed_shard_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w:gz") as archive:
        add(archive, "0.txt", b"a")
    with pytest.raises(ValueError, match=r"cannot be read as a plain tar .*unpack a compressed one"):
        read(tmp_path / "a.tar")


# ------------------------------------------------------------------------------------------------------- by name


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"data\.path=.*/none does not exist"):
        read(tmp_path / "none")
    (tmp_path / "a.xlsx").write_bytes(b"")
    with pytest.raises(ValueError, match=r"is neither a table .* nor a folder nor a shard"):
        read(tmp_path / "a.xlsx")
    with pytest.raises(ValueError, match=r"data\.name=coco: there is glyphs and emoji"):
        load_data(DataConfig(name="coco"))
    with pytest.raises(ValueError, match=r"data\.name=emoji needs data\.root"):
        load_data(DataConfig(name="emoji"))
    with pytest.raises(FileNotFoundError, match=r"holds no emoji\.json"):
        load_data(DataConfig(name="emoji", root=str(tmp_path)))
    with pytest.raises(ValueError, match=r"give data\.name"):
        load_data(DataConfig(name="glyphs", path=str(tmp_path)))


def test_an_emoji_is_called_by_its_name_its_categories_and_its_short_names() -> None:
    entry = {
        "name": "ORANGE BOOK",
        "subcategory": "book-paper",
        "category": "Objects",
        "short_names": ["orange_book", "notebook:orange"],
    }
    assert captions(entry) == ["orange book", "orange book, book paper, objects", "notebook orange"]


def test_emoji_are_read_in_the_layout_of_their_repository(tmp_path: Path) -> None:
    entries = []
    for i, (colour, shape, seed) in enumerate(things(10)):
        write(tmp_path / "img" / "google" / "64" / f"{i}.png", encoded(drawn(colour, shape, seed)))
        entry = {"name": f"{colour} {shape}".upper(), "image": f"{i}.png", "subcategory": shape, "category": "Objects"}
        entries.append(entry | {"short_names": [f"{colour}_{shape}"]})
        entries[-1]["category"] = "A & B" if i % 2 else "Objects"
    (tmp_path / "emoji.json").write_text(json.dumps(entries))
    data = load_data(DataConfig(name="emoji", root=str(tmp_path)))
    assert (len(data.train), len(data.test)) == (8, 2)
    assert data.train.images.labels is not None
    assert set(data.train.images.labels) == {"a b", "objects"}
    assert "captions: " in data.description
