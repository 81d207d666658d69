from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.signal

from mmssl.audio.clips import ClipSet, lengths
from mmssl.audio.data import describe, read_clips
from mmssl.audio.files import Options, find_audio
from tests.audio.recordings import tone, write, write_folder

LENIENT = Options(max_bad=0.6)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_every_format_is_read(tmp_path: Path, suffix: str) -> None:
    for name in "ab":
        write(tmp_path / f"{name}.{suffix}", tone(0.5))
    clips = read_clips(tmp_path, Options())
    assert clips.rate == 8000
    heard = clips.clip(0)
    np.testing.assert_allclose(np.square(heard).mean(), 0.3**2 / 2, rtol=0.2)


def test_sub_folders_are_searched_and_hidden_files_are_not(tmp_path: Path) -> None:
    write_folder(tmp_path, ["a/x.wav", "b/c/y.WAV", ".trash/z.wav", "a/._x.wav", "_background_noise_/n.wav"])
    (tmp_path / "notes.txt").write_text("nothing")
    assert find_audio(tmp_path) == ["a/x.wav", "b/c/y.WAV"]


def test_clips_are_resampled_to_the_wanted_rate(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", tone(0.5, 22_050, pitch=440), 22_050, subtype="FLOAT")
    write(tmp_path / "b.wav", tone(0.5, 8000, pitch=440), 8000, subtype="FLOAT")
    clips = read_clips(tmp_path, Options(rate=8000))
    assert clips.sizes.tolist() == [4000, 4000]
    middle = slice(500, -500)
    np.testing.assert_allclose(clips.clip(0)[middle], clips.clip(1)[middle], atol=2e-3)
    theirs = scipy.signal.resample_poly(tone(0.5, 22_050, pitch=440), 160, 441)
    np.testing.assert_allclose(clips.clip(0)[middle], theirs[middle], atol=2e-3)
    assert "1 clips resampled from 22,050 Hz" in clips.notes


def test_rates_that_differ_are_refused_by_name(tmp_path: Path) -> None:
    for name, rate in (("a", 8000), ("b", 8000), ("c", 16_000)):
        write(tmp_path / f"{name}.wav", tone(0.2, rate), rate)
    message = r"8,000 Hz \(2 clips, such as a.wav\), 16,000 Hz \(1 clips, such as c.wav\). Set data.rate=8000"
    with pytest.raises(ValueError, match=message):
        read_clips(tmp_path, Options())


def test_stereo_is_refused_until_it_is_said_what_to_do(tmp_path: Path) -> None:
    left, right = tone(0.2, pitch=400), tone(0.2, pitch=800)
    write(tmp_path / "a.wav", np.stack([left, right], axis=1), subtype="FLOAT")
    write(tmp_path / "b.wav", left, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"1 of 2 clips have up to 2 channels.*a.wav. Set data.mix=mean"):
        read_clips(tmp_path, Options())
    mean = read_clips(tmp_path, Options(mix="mean"))
    np.testing.assert_allclose(mean.clip(0), (left + right) / 2, atol=1e-6)
    assert "channels of 1 clips are averaged" in mean.notes
    np.testing.assert_allclose(read_clips(tmp_path, Options(mix="first")).clip(0), left, atol=1e-6)


def test_an_unknown_mix_is_refused() -> None:
    with pytest.raises(ValueError, match=r"data.mix must be one of mean, first, got 'left'"):
        Options(mix="left")


def with_bad_files(root: Path, n: int = 6) -> Path:
    """Sound clips, and one of each kind that is of no use."""
    write_folder(root, [f"good{i}.wav" for i in range(n)])
    (root / "damaged.wav").write_bytes(b"RIFF no audio at all")
    write(root / "silent.wav", np.zeros(4000))
    write(root / "short.wav", tone(0.02))
    return root


def test_bad_clips_are_named_counted_and_left_out(tmp_path: Path) -> None:
    message = r"3 of 9 clips cannot be used and are left out: damaged.wav \(.+\), short.wav \(0.02 s is shorter than "
    with pytest.warns(UserWarning, match=message + r"data.shortest=0.05\), silent.wav \(silent\)"):
        clips = read_clips(with_bad_files(tmp_path), LENIENT)
    assert [str(name) for name in clips.names] == [f"good{i}.wav" for i in range(6)]
    assert "left out" in describe(clips)
    np.testing.assert_allclose(clips.clip(5), tone(0.25, pitch=450), atol=2e-3)  # its own samples, not a neighbour's


def test_too_many_bad_clips_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"3 of 9 clips cannot be used, more than data.max_bad=0.12 allows: damaged"):
        read_clips(with_bad_files(tmp_path), Options(max_bad=0.12))


def test_an_empty_file_and_nan_are_of_no_use(tmp_path: Path) -> None:
    write_folder(tmp_path, ["a.wav", "b.wav"])
    write(tmp_path / "empty.wav", np.zeros(0))
    write(tmp_path / "nan.wav", np.full(4000, np.nan), subtype="FLOAT")
    with pytest.warns(UserWarning, match=r"empty.wav \(no samples\), nan.wav \(NaN or infinite samples\)"):
        assert len(read_clips(tmp_path, LENIENT)) == 2


def test_nothing_but_bad_clips_is_an_error_whatever_is_allowed(tmp_path: Path) -> None:
    write(tmp_path / "silent.wav", np.zeros(4000))
    (tmp_path / "damaged.mp3").write_bytes(bytes(2000))  # libsndfile says that it does not exist
    with pytest.raises(ValueError, match=r"none of 2 clips can be used: damaged.mp3 \(cannot be decoded\), silent.wav"):
        read_clips(tmp_path, Options(max_bad=1.0))


def test_a_flac_that_is_cut_off_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path, ["a.wav"])
    rng = np.random.default_rng(0)
    whole = write(tmp_path / "cut.flac", 0.1 * rng.standard_normal(40_000)).read_bytes()
    (tmp_path / "cut.flac").write_bytes(whole[: len(whole) // 2])
    with pytest.warns(UserWarning, match=r"1 of 2 clips cannot be used and are left out: cut.flac \(.+\)"):
        assert len(read_clips(tmp_path, LENIENT)) == 1


def test_an_mp3_that_is_cut_off_is_used_and_named(tmp_path: Path) -> None:
    write_folder(tmp_path, ["a.wav"])
    whole = write(tmp_path / "cut.mp3", tone(3)).read_bytes()
    (tmp_path / "cut.mp3").write_bytes(whole[: len(whole) // 2])
    clips = read_clips(tmp_path, Options())
    assert 0.5 * 8000 < clips.sizes[1] < 2 * 8000
    assert any("1 clips are cut off, and what is there is used: cut.mp3 (" in note for note in clips.notes)


def test_an_offset_is_subtracted_and_said(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", tone() + 0.4, subtype="FLOAT")
    write(tmp_path / "b.wav", tone(), subtype="FLOAT")
    clips = read_clips(tmp_path, Options())
    np.testing.assert_allclose(clips.clip(0), clips.clip(1), atol=1e-6)
    assert "the mean of every clip is subtracted: a.wav had an offset" in clips.notes


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(ValueError, match=r"holds no audio, only 1 other files; looked for .wav, .flac, .ogg, .mp3"):
        read_clips(tmp_path, Options())
    (tmp_path / "notes.txt").unlink()
    with pytest.raises(ValueError, match="holds no audio, it is empty"):
        read_clips(tmp_path, Options())
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        read_clips(tmp_path / "nowhere", Options())


def test_what_does_not_fit_the_cache_is_decoded_when_it_is_asked_for(tmp_path: Path) -> None:
    write_folder(tmp_path, [f"{i}.wav" for i in range(4)])
    here, there = read_clips(tmp_path, Options()), read_clips(tmp_path, Options(cache=1e-9))
    assert here.in_memory
    assert not there.in_memory
    assert "decoded whenever they are needed" in describe(there)
    for i in range(4):
        np.testing.assert_allclose(there.clip(i), here.clip(i), atol=1e-6)


def test_a_file_that_fails_later_is_silent_with_a_warning_and_too_many_are_an_error(tmp_path: Path) -> None:
    write_folder(tmp_path, [f"{i}.wav" for i in range(3)])
    clips = read_clips(tmp_path, Options(cache=1e-9, max_bad=0.4))
    for i in range(2):
        (tmp_path / f"{i}.wav").write_bytes(b"gone")
    with pytest.warns(UserWarning, match=r"0.wav cannot be used and is taken for silence: Format not recognised"):
        assert not clips.clip(0).any()
    with pytest.raises(ValueError, match=r"2 of 3 files cannot be used, more than data.max_bad=0.4 allows"):
        clips.clip(1)


def test_nan_in_a_file_that_is_not_in_memory_is_silence_with_a_warning(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", np.r_[tone(), np.nan, tone()], subtype="FLOAT")
    write(tmp_path / "b.wav", tone(), subtype="FLOAT")
    clips = read_clips(tmp_path, Options(cache=1e-9, max_bad=0.6))
    with pytest.warns(UserWarning, match=r"a.wav cannot be used and is taken for silence: NaN or infinite samples"):
        x = clips.padded([0, 1])
    assert lengths(x).tolist() == clips.sizes.tolist()  # NaN is what comes after the end, and nothing else
    assert not x[0].any()


def test_arrays_need_a_rate_and_one_channel() -> None:
    clips = read_clips([tone() + 1, tone(0.1)], Options(rate=8000))
    assert isinstance(clips, ClipSet)
    np.testing.assert_allclose(clips.clip(0), tone(), atol=1e-5)
    with pytest.raises(ValueError, match=r"no sampling rate: set data.rate"):
        read_clips([tone()], Options())
    with pytest.raises(ValueError, match=r"array 0 of the list must be floats .* got int16 of shape \(5,\)"):
        read_clips([np.zeros(5, dtype=np.int16)], Options(rate=8000))
    with pytest.raises(ValueError, match="array 1 has NaN"):
        read_clips([tone(), np.full(5, np.nan)], Options(rate=8000))


def test_a_list_must_name_files_that_are_there(tmp_path: Path) -> None:
    write_folder(tmp_path, ["a.wav"])
    with pytest.raises(ValueError, match="the list of recordings is empty"):
        read_clips([], Options())
    with pytest.raises(FileNotFoundError, match=r"1 of 2 files do not exist: nowhere.wav"):
        read_clips([str(tmp_path / "a.wav"), "nowhere.wav"], Options())


def test_lists_of_files_and_single_files_are_read(tmp_path: Path) -> None:
    write_folder(tmp_path, ["a.wav", "b.wav"])
    assert len(read_clips(tmp_path / "a.wav", Options())) == 1
    listed = read_clips([tmp_path / "b.wav", tmp_path / "a.wav"], Options())
    assert listed.names.tolist() == [str(tmp_path / "b.wav"), str(tmp_path / "a.wav")]
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match=r"notes[.]txt is neither a folder, nor a table"):
        read_clips(tmp_path / "notes.txt", Options())
