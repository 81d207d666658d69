"""Data sets by name: words spoken by a synthesiser, and public recordings in a folder."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from mmssl.audio.clips import ClipSet, as_objects
from mmssl.audio.columns import columns_from_paths
from mmssl.audio.files import Options, find_audio, read_files, some
from mmssl.audio.speech import spoken_words

SPOKEN = "spoken"
NAMES = (SPOKEN, "fsdd", "speechcommands")
SPOKEN_RATE = 16_000
FSDD = r"(?P<label>\d)_(?P<group>[^/_]+)_(?P<take>\d+)$"
FSDD_TEST = range(5)  # takes
SPEECH_COMMANDS = r"(?P<label>[^/]+)/(?P<group>[^/]+)_nohash_\d+$"


def load_named(name: str, options: Options, *, root: str | None = None) -> ClipSet:
    """A data set with its own split in ``parts``.

    Args:
        name: ``"spoken"``: synthetic words. Below ``root``: ``"fsdd"``, the Free Spoken Digit Dataset, takes 0 to 4 of
            every speaker and digit are the test part; ``"speechcommands"``, Speech Commands, the published list is.
        options: as for files.
        root: folder of the recordings.

    Raises:
        FileNotFoundError: it is not at ``root``.
        ValueError: there is no such data set, or something else is at ``root``.
    """
    if name not in NAMES:
        raise ValueError(
            f"data.name={name}: there is {', '.join(NAMES)}; your own recordings come by data.path, a folder or a table"
        )
    if name == SPOKEN:
        return spoken_words(options.rate or SPOKEN_RATE)
    if root is None:
        raise ValueError(f"data.name={name} needs data.root, the folder where it lies")
    folder = Path(root)
    if name == "fsdd" and (folder / "recordings").is_dir():
        folder /= "recordings"
    paths = find_audio(folder, option="data.root")
    pattern = FSDD if name == "fsdd" else SPEECH_COMMANDS
    if strangers := [path for path in paths if not re.search(pattern, path.rpartition(".")[0])]:
        raise ValueError(
            f"{len(strangers):,} of {len(paths):,} files below {folder} are not named as those of {name}: "
            f"{some(strangers)}; data.root must be its folder, and your own recordings come by data.path"
        )
    columns = columns_from_paths(paths, pattern=pattern)
    test = _fsdd_test(paths) if name == "fsdd" else _listed(folder / "testing_list.txt")
    parts = as_objects(["test" if path in test else "train" for path in paths])
    files = [str(folder / path) for path in paths]
    return read_files(files, as_objects(paths), replace(columns, parts=parts), options)


def _fsdd_test(paths: list[str]) -> set[str]:
    return {path for path in paths if int(Path(path).stem.rpartition("_")[2]) in FSDD_TEST}


def _listed(file: Path) -> set[str]:
    if not file.exists():
        raise FileNotFoundError(f"{file} does not exist: data.root must be the folder of Speech Commands that holds it")
    return set(file.read_text().split())
