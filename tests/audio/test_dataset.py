from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmssl.audio.clips import ClipSet, as_objects
from mmssl.audio.dataset import DataConfig, load_data
from mmssl.audio.preprocess import MelPreprocessor
from mmssl.audio.speech import TEST_VOICES, TRAIN_VOICES, WORDS, spoken_words
from mmssl.audio.split import split_clips
from tests.audio.recordings import tone, write_folder

SHARED = Path(os.environ.get("MMSSL_DATA", Path(__file__).parents[3] / "shared" / "data"))
FSDD = SHARED / "audio" / "fsdd"


def clips(labels: list[str | None], groups: list[str] | None = None, parts: list[str] | None = None) -> ClipSet:
    columns = {"groups": groups, "parts": parts}
    given = {name: as_objects(values) for name, values in columns.items() if values is not None}
    return ClipSet.of([tone(0.1)] * len(labels), 8000, labels=as_objects(labels), **given)


# -------------------------------------------------------------------------------------------------------- splits


def test_speakers_are_held_out_whole() -> None:
    split = split_clips(clips(["a", "b"] * 10, groups=[f"s{i // 4}" for i in range(20)]), test_fraction=0.4)
    assert split.kind == "speaker/0.4"
    assert split.train.groups is not None
    assert split.test.groups is not None
    assert not set(split.train.groups) & set(split.test.groups)
    assert len(set(split.test.groups)) == 2


def test_a_random_split_holds_out_of_every_class_and_never_all_of_one() -> None:
    split = split_clips(clips(["a"] * 10 + ["b"] * 4 + ["c"] + [None] * 3), test_fraction=0.3)
    assert split.test.labels is not None
    assert Counter(split.test.labels) == {"a": 3, "b": 1}
    assert len(split.train) == 14


def test_a_split_that_the_data_brings_comes_first() -> None:
    data = clips(["a", "b", "a"], groups=["x", "y", "z"], parts=["train", "test", "train"])
    assert split_clips(data).kind == "given"
    assert split_clips(data, by="speaker").kind == "speaker/0.3"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "folds"}, "data.split must be one of auto, given, speaker, random, got 'folds'"),
        ({"test_fraction": 1.0}, "data.test_fraction must lie between 0 and 1, got 1.0"),
        ({"by": "given"}, "data.split=given needs folders train and test"),
        ({"by": "speaker"}, "data.split=speaker needs to know who speaks: set data.group"),
    ],
)
def test_impossible_splits_say_what_is_missing(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_clips(clips(["a", "b"] * 3), **options)


def test_one_group_cannot_be_held_out() -> None:
    with pytest.raises(ValueError, match="all clips are of the group 'x': nothing can be held out"):
        split_clips(clips(["a", "b"], groups=["x", "x"]))


# ---------------------------------------------------------------------------------------------------- one's own data


def test_a_folder_becomes_train_and_test_clips(tmp_path: Path) -> None:
    write_folder(tmp_path, [f"{c}/{i}.wav" for c in "ab" for i in range(10)])
    data = load_data(DataConfig(path=str(tmp_path)))
    assert data.test is not None
    assert (len(data.train), len(data.test), data.rate) == (14, 6, 8000)
    assert "labels: a 10, b 10" in data.description
    assert data.name == tmp_path.name


def test_without_labels_all_is_learnt_from(tmp_path: Path) -> None:
    write_folder(tmp_path, [f"{i}.wav" for i in range(4)])
    data = load_data(DataConfig(path=str(tmp_path)))
    assert data.test is None
    assert len(data.train) == 4
    assert "nothing is scored" in data.description


def test_data_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"give data.name .* or data.path .*, got neither"):
        load_data(DataConfig())
    with pytest.raises(ValueError, match=r"data.crop must be seconds, got 0"):
        load_data(DataConfig(path=str(tmp_path), crop=0))
    write_folder(tmp_path, ["a.wav"])
    with pytest.raises(ValueError, match="the training part has 1 clip"):
        load_data(DataConfig(path=str(tmp_path)))
    pattern = DataConfig(path=str(write_folder(tmp_path, [f"a{i}.wav" for i in range(6)])), pattern="(?P<label>a)")
    with pytest.raises(ValueError, match="all training clips have the label 'a': there is nothing to tell apart"):
        load_data(pattern)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"data.name=librispeech: there is spoken, fsdd, speechcommands"):
        load_data(DataConfig(name="librispeech"))
    with pytest.raises(ValueError, match=r"data.name=fsdd needs data.root"):
        load_data(DataConfig(name="fsdd"))


def test_another_folder_than_that_of_the_known_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"data.root=.*nowhere does not exist"):
        load_data(DataConfig(name="fsdd", root=str(tmp_path / "nowhere")))
    write_folder(tmp_path, ["7_anna_3.wav", "hello.wav"])
    with pytest.raises(ValueError, match=r"1 of 2 files below .* are not named as those of fsdd: hello.wav"):
        load_data(DataConfig(name="fsdd", root=str(tmp_path)))


def test_settings_that_the_data_has_no_use_for_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data.label=none, data.group=who says nothing about data.name=fsdd"):
        load_data(DataConfig(name="fsdd", root=str(tmp_path), label="none", group="who"))
    with pytest.raises(ValueError, match=r"data.root=x says nothing about data.path=.*, your own data: leave it out"):
        load_data(DataConfig(path=str(tmp_path), root="x"))


# ------------------------------------------------------------------------------------------------------- known sets


@pytest.mark.slow
def test_spoken_words_are_all_there_and_say_that_they_are_synthetic() -> None:
    words = spoken_words(8000)
    assert words.labels is not None
    assert words.parts is not None
    assert words.groups is not None
    assert Counter(words.labels) == dict.fromkeys(WORDS, 96)
    assert set(words.groups[words.parts == "test"]) == set(TEST_VOICES)
    assert set(words.groups[words.parts == "train"]) == set(TRAIN_VOICES)
    assert "synthetic" in words.notes[0]
    assert all(name.startswith("synthetic ") for name in words.names)
    assert load_data(DataConfig(name="spoken", rate=8000)).name == "spoken (synthetic)"
    assert all(np.abs(words.clip(i)).max() > 0.05 for i in range(len(words)))
    assert words.sizes.min() > 0.1 * 8000
    np.testing.assert_array_equal(spoken_words(8000).wave[:10_000], words.wave[:10_000])


def test_speech_commands_take_words_speakers_and_the_published_test_list(tmp_path: Path) -> None:
    paths = [f"{word}/{who}_nohash_0.wav" for word in ("yes", "no") for who in ("a1", "b2")]
    write_folder(tmp_path, [*paths, "_background_noise_/running_tap.wav"])
    (tmp_path / "testing_list.txt").write_text("yes/b2_nohash_0.wav\nno/b2_nohash_0.wav\n")
    data = load_data(DataConfig(name="speechcommands", root=str(tmp_path)))
    assert data.test is not None
    assert data.test.groups is not None
    assert set(data.test.groups) == {"b2"}
    assert sorted(data.test.labels) == ["no", "yes"]  # type: ignore[arg-type]
    (tmp_path / "testing_list.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"testing_list.txt does not exist: data.root must be the folder"):
        load_data(DataConfig(name="speechcommands", root=str(tmp_path)))


@pytest.mark.data
@pytest.mark.skipif(not FSDD.is_dir(), reason="the real data sets are not here")
def test_the_digits_of_fsdd_have_their_official_split() -> None:
    data = load_data(DataConfig(name="fsdd", root=str(FSDD)))
    assert data.test is not None
    assert (len(data.train), len(data.test), data.rate, data.split) == (2700, 300, 8000, "given")
    assert Counter(data.test.labels) == {str(digit): 30 for digit in range(10)}
    other = load_data(DataConfig(name="fsdd", root=str(FSDD), split="speaker"))
    assert other.test is not None
    assert not set(other.train.groups) & set(other.test.groups)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------- preprocessing


def test_mel_frames_of_the_training_clips_have_mean_0_and_deviation_1() -> None:
    rng = np.random.default_rng(0)
    data = ClipSet.of([rng.standard_normal(n) * 0.1 for n in (3000, 500, 4000)], 8000)
    preprocessor = MelPreprocessor(8000).fit(data)
    x = preprocessor(data.padded([0, 1, 2]))
    seen = x[~x.isnan()]
    assert abs(float(seen.mean())) < 1e-3
    assert abs(float(seen.std()) - 1) < 1e-3
    assert MelPreprocessor(**preprocessor.state()) == preprocessor


def test_clips_without_any_sound_teach_nothing() -> None:
    with pytest.raises(ValueError, match="same spectrum everywhere, like silence"):
        MelPreprocessor(8000).fit(ClipSet.of([np.zeros(800)] * 2, 8000))
