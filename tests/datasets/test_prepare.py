from __future__ import annotations

import importlib.util
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType

import pytest

from mmssl.timeseries.archive import load_archive


@pytest.fixture(scope="module")
def prepare() -> ModuleType:
    path = Path(__file__).parents[2] / "datasets" / "prepare_ucr_uea.py"
    spec = importlib.util.spec_from_file_location("prepare_ucr_uea", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def zipped(tmp_path: Path) -> Path:
    path = tmp_path / "archive.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for part in ("TRAIN", "TEST"):
            archive.writestr(f"Archive_2018/Toy/Toy_{part}.tsv", "1\t0.5\t2\n2\t3\t4\n")
            archive.writestr(f"Archive_2018/adjusted/Toy/Toy_{part}.tsv", "1\t9\t8\n")
        archive.writestr("Archive_2018/readme.txt", "hello")
        archive.writestr("../evil/evil_TRAIN.tsv", "1\t2\n")
    return path


def test_an_archive_is_unpacked_into_what_data_root_expects(prepare: ModuleType, zipped: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    assert prepare.main(["UCR", "--root", str(root), "--url", zipped.as_uri()]) == 0
    train, _ = load_archive("Toy", root=root / "UCR")
    assert train.values[:, 0].tolist() == [0.5, 2, 3, 4]
    assert sorted(path.name for path in root.iterdir()) == ["UCR"]  # neither the zip nor anything unfinished
    assert sorted(path.name for path in (root / "UCR").iterdir()) == ["Toy", "adjusted"]
    assert load_archive("Toy", root=root / "UCR" / "adjusted")[0].values[:, 0].tolist() == [9, 8]
    assert not list(tmp_path.rglob("*evil*"))
    assert prepare.main(["UCR", "--root", str(root), "--url", "file:///nowhere.zip"]) == 0  # there already


def test_a_wrong_checksum_unpacks_nothing(
    prepare: ModuleType, zipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    assert prepare.main(["UCR", "--root", str(root), "--url", zipped.as_uri(), "--sha256", "00"]) == 1
    assert f"has sha256 {prepare.checksum(zipped)}, expected 00" in capsys.readouterr().err
    assert not (root / "UCR").exists()
    right = prepare.checksum(zipped)
    assert prepare.main(["UCR", "--root", str(root), "--url", "file:///nowhere.zip", "--sha256", right]) == 0


def test_without_a_known_checksum_the_one_found_is_shown(
    prepare: ModuleType, zipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare.main(["UEA", "--root", str(tmp_path / "data"), "--url", zipped.as_uri(), "--keep-zip"])
    assert f"sha256 {prepare.checksum(zipped)} (not verified" in capsys.readouterr().out
    assert (tmp_path / "data" / "UEA.zip").exists()


def test_a_damaged_zip_leaves_no_archive_behind(
    prepare: ModuleType, zipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = bytearray(zipped.read_bytes())
    data[data.index(b"2\t3\t4")] ^= 0xFF  # a flipped byte, found by the CRC
    zipped.write_bytes(data)
    root = tmp_path / "data"
    assert prepare.main(["UCR", "--root", str(root), "--url", zipped.as_uri()]) == 1
    assert "is damaged" in capsys.readouterr().err
    assert sorted(path.name for path in root.iterdir()) == ["UCR.zip"]


def test_a_zip_without_data_sets_is_refused(
    prepare: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert prepare.main(["UCR", "--root", str(tmp_path), "--url", (tmp_path / "other.zip").as_uri()]) == 1
    assert "holds no data set" in capsys.readouterr().err


def test_an_unreachable_source_is_an_error_that_says_what_to_do(
    prepare: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare.main(["UCR", "--root", str(tmp_path), "--url", "file:///nowhere.zip"]) == 1
    assert "cannot be reached" in (message := capsys.readouterr().err)
    assert "give --url file://" in message


def test_a_download_that_broke_off_goes_on_where_it_stopped(prepare: ModuleType, tmp_path: Path) -> None:
    content, asked = bytes(range(256)) * 8, []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            begin = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            asked.append(begin)
            self.send_response(206)
            self.send_header("Content-Length", str(len(content) - begin))
            self.end_headers()
            self.wfile.write(content[begin:])

        def log_message(self, *_: object) -> None:
            pass

    (tmp_path / "UCR.zip.part").write_bytes(content[:500])
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.handle_request)
        thread.start()
        file = prepare.download(f"http://127.0.0.1:{server.server_port}/UCR.zip", tmp_path / "UCR.zip")
        thread.join()
    assert asked == [500]
    assert file.read_bytes() == content


def test_a_download_that_broke_off_starts_over_where_the_source_cannot_resume(
    prepare: ModuleType, zipped: Path, tmp_path: Path
) -> None:
    (tmp_path / "UCR.zip.part").write_bytes(b"half of something")
    file = prepare.download(zipped.as_uri(), tmp_path / "UCR.zip")
    assert file.read_bytes() == zipped.read_bytes()
    assert not (tmp_path / "UCR.zip.part").exists()
