"""Fetch the UCR 2018 and UEA 2018 archives and unpack them as `data.root` expects them: <root>/<archive>/<set>/.

    python datasets/prepare_ucr_uea.py UCR --root data/timeseries --password <the word on the archive's page>
    python datasets/prepare_ucr_uea.py UEA --root data/timeseries

UCR comes from its own page as .tsv; its zip has a password, which https://www.cs.ucr.edu/~eamonn/time_series_data_2018/
publishes. UCR-ts and UEA come from timeseriesclassification.com as .ts, without one. A download that was cut off goes
on where it stopped; an archive appears under its name only when it is complete. Standard library only.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

TSC = "https://www.timeseriesclassification.com/aeon-toolkit/Archives"
SOURCES = {
    "UCR": "https://www.cs.ucr.edu/~eamonn/time_series_data_2018/UCRArchive_2018.zip",
    "UCR-ts": f"{TSC}/Univariate2018_ts.zip",
    "UEA": f"{TSC}/Multivariate2018_ts.zip",
}
# the publishers state no checksums; those of a copy that you trust go here, or into --sha256
SHA256: dict[str, str] = {}
CHUNK = 1 << 20


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("archive", choices=sorted(SOURCES))
    parser.add_argument("--root", type=Path, required=True, help="folder below which <archive>/ is made")
    parser.add_argument("--password", help="of the zip, if it has one")
    parser.add_argument("--sha256", help="refuse a zip that has another checksum")
    parser.add_argument("--url", help="fetch the zip from here instead, file:// included")
    parser.add_argument("--keep-zip", action="store_true", help="do not remove the zip after unpacking")
    options = parser.parse_args(arguments)
    try:
        prepare(
            options.archive,
            options.root,
            url=options.url or SOURCES[options.archive],
            password=options.password,
            sha256=options.sha256 or SHA256.get(options.archive),
            keep_zip=options.keep_zip,
        )
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def prepare(
    archive: str, root: Path, *, url: str, password: str | None, sha256: str | None, keep_zip: bool = False
) -> Path:
    """The folder ``root/archive`` with one folder per set; nothing is fetched where it exists already.

    Raises:
        OSError: the archive cannot be fetched or written.
        ValueError: another checksum than expected, a missing password, or a zip without data sets.
    """
    target = root / archive
    if target.exists():
        print(f"{target} is there already; remove it to fetch it again")
        return target
    root.mkdir(parents=True, exist_ok=True)
    file = download(url, root / f"{archive}.zip")
    found = checksum(file)
    if sha256 is None:
        print(f"sha256 {found} (not verified: none is recorded)")
    elif found != sha256.lower():
        raise ValueError(f"{file} has sha256 {found}, expected {sha256}; remove the file to fetch it again")
    sets = unpack(file, target, password=password)
    if not keep_zip:
        file.unlink()
    print(f"{sets} data sets in {target}: use them with data.name=<set> data.root={target}")
    return target


def download(url: str, file: Path) -> Path:
    """Fetch ``url`` into ``file``, by way of ``<file>.part``, which a second call continues."""
    if file.exists():
        return file
    part = file.with_name(file.name + ".part")
    begin = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={begin}-"} if begin else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            resumed = begin > 0 and response.status == 206  # else the server sends everything once more
            expected = int(response.headers.get("Content-Length") or -1)
            with part.open("ab" if resumed else "wb") as out:
                shutil.copyfileobj(response, out, CHUNK)
                size = out.tell() - (begin if resumed else 0)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the part does not match what the server has
            part.unlink()
        raise OSError(f"{url} answers {error.code} {error.reason}; start again, or give another --url") from error
    except (urllib.error.URLError, TimeoutError) as error:
        reason = getattr(error, "reason", error)
        raise OSError(f"{url} cannot be reached ({reason}); fetch it elsewhere and give --url file://…") from error
    if 0 <= expected != size:
        raise OSError(f"{url} broke off after {size:,} of {expected:,} bytes; run the same command to go on")
    part.replace(file)
    return file


def checksum(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def unpack(file: Path, target: Path, *, password: str | None) -> int:
    """Unpack the data sets of a zip into ``target``, which appears when all are there; returns how many there are.

    Folders between the top of the zip and its sets are dropped. Those among the sets stay: the UCR zip has a second
    form of its sets of unequal length in one of them.
    """
    unfinished = target.with_name(f".{target.name}.unpacking")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        with zipfile.ZipFile(file) as zipped:
            folders = _set_folders(zipped.namelist())
            if not folders:
                raise ValueError(f"{file} holds no data set (<set>/<set>_TRAIN.ts or .tsv); is it the right archive?")
            top = min(folders, key=lambda folder: len(folder.parts)).parent
            for info in zipped.infolist():
                path = PurePosixPath(info.filename)
                if path.parent in folders and not info.is_dir():
                    out = unfinished / path.relative_to(top)
                    out.parent.mkdir(parents=True, exist_ok=True)
                    with (
                        zipped.open(info, pwd=password.encode() if password else None) as packed,
                        out.open("wb") as raw,
                    ):
                        shutil.copyfileobj(packed, raw, CHUNK)
        unfinished.replace(target)
    except (zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{file} is damaged or its password is wrong ({error}); remove it to fetch it again"
        ) from error
    except RuntimeError as error:  # what zipfile raises for a password
        raise ValueError(f"{file} needs another --password ({error}); the page of the archive publishes it") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return len(folders)


def _set_folders(names: list[str]) -> set[PurePosixPath]:
    paths = [PurePosixPath(name) for name in names]
    trains = [path for path in paths if path.name in (f"{path.parent.name}_TRAIN.ts", f"{path.parent.name}_TRAIN.tsv")]
    return {path.parent for path in trains if ".." not in path.parts and not path.is_absolute()}


if __name__ == "__main__":
    sys.exit(main())
