"""Words spoken by eSpeak NG, the library that the package `espeakng-loader` ships: synthetic, made in seconds."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from itertools import product

import numpy as np
import numpy.typing as npt
import soxr

from mmssl.audio.clips import ClipSet, Floats, as_objects

WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"),
)
TRAIN_VOICES = (
    *("en-us+m1", "en-us+m3", "en-us+m5", "en-us+m7", "en-us+f1", "en-us+f3", "en-us+f5", "en-us+klatt"),
    *("en-gb-scotland+m2", "en-gb-scotland+f2", "en-gb-x-rp+m4", "en-gb-x-rp+f4", "en-029+m6", "en-029+f1"),
    *("en-gb-x-gbclan+m8", "en-gb-x-gbcwmd+f3"),
)
TEST_VOICES = (
    *("en-us+m2", "en-us+f2", "en-us+f4", "en-us+klatt3"),
    *("en-gb-scotland+m4", "en-gb-x-rp+f1", "en-029+m8", "en-gb-x-gbclan+f5"),
)
PITCHES, SPEEDS = (35, 65), (130, 200)  # of 100, where 50 is usual; words a minute
TAKES = tuple(product((*TRAIN_VOICES, *TEST_VOICES), PITCHES, SPEEDS, WORDS))
SYNCHRONOUS, CHARACTERS_UTF8 = 2, 1  # of speak_lib.h, as the numbers below
SPEED, PITCH = 1, 3
FULL_SCALE = 2.0**15


def spoken_words(rate: int) -> ClipSet:
    """20 words by 24 voices at two pitches and two speeds: 1,280 clips of 16 voices train, 640 of 8 others test.

    Args:
        rate: samples a second; the library speaks at 22,050.

    Raises:
        ModuleNotFoundError: the package `espeakng-loader` is not installed.
        RuntimeError: the library does not start, or has none of these voices.
    """
    clips, native = _spoken()
    return ClipSet.of(
        [soxr.resample(clip, native, rate) for clip in clips],
        rate,
        as_objects(
            [
                f"synthetic {word} by {voice}, pitch {pitch}, {speed} words a minute"
                for voice, pitch, speed, word in TAKES
            ]
        ),
        labels=as_objects([take[3] for take in TAKES]),
        groups=as_objects([take[0] for take in TAKES]),
        parts=as_objects(["test" if take[0] in TEST_VOICES else "train" for take in TAKES]),
        notes=("synthetic: words spoken by eSpeak NG; voices that were held out are the test part",),
    )


@lru_cache
def _spoken() -> tuple[list[Floats], int]:
    """All takes, and their rate. Once a process, as the library goes on where it was and is never the same again."""
    try:
        import espeakng_loader
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'the spoken words come with espeakng-loader, which is not installed: pip install "mmssl[audio]", or give '
            "your own recordings by data.path"
        ) from error
    library = ctypes.cdll.LoadLibrary(espeakng_loader.get_library_path())
    rate: int = library.espeak_Initialize(SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), 0)
    if rate < 1:
        raise RuntimeError(f"eSpeak NG does not start with the data in {espeakng_loader.get_data_path()}")
    heard: list[npt.NDArray[np.int16]] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def listen(samples: ctypes._Pointer[ctypes.c_short], count: int, events: int) -> int:
        if samples and count:
            heard.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    library.espeak_SetSynthCallback(listen)
    library.espeak_ng_SetRandSeed(1)  # of the noise in consonants
    clips = []
    for voice, pitch, speed, word in TAKES:
        if library.espeak_SetVoiceByName(voice.encode()):
            raise RuntimeError(f"this version of eSpeak NG has no voice {voice!r}: install a newer espeakng-loader")
        library.espeak_SetParameter(SPEED, speed, 0)
        library.espeak_SetParameter(PITCH, pitch, 0)
        heard.clear()
        library.espeak_Synth(word.encode(), len(word) + 1, 0, 1, 0, CHARACTERS_UTF8, None, None)
        clips.append(trimmed(np.concatenate(heard).astype(np.float32) / FULL_SCALE))
    return clips, rate


def trimmed(samples: Floats, *, threshold: float = 0.003) -> Floats:
    """Without what is below ``threshold`` of full scale at both ends."""
    loud = np.flatnonzero(np.abs(samples) > threshold)
    return samples[loud[0] : loud[-1] + 1] if len(loud) else samples
