"""Talk by espeak-ng with the exact times of its words, and how often utterances begin or end inside a word.

espeak-ng tells where each word and phoneme begins while it speaks (``espeak_EVENT`` of its speak_lib.h); it
is called through its shared library, as its program does not print them.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from annotator.levels import sound_levels
from annotator.records import RATE_HZ, Audio, Transcript, Turn, Utterance
from annotator.utterances import build

LIBRARY = "libespeak-ng.so.1"
VOICES = ("en-us", "en-gb+f2", "en-us+m3", "en-us+f4", "en-gb+m7", "en-gb-x-rp+f3")
MARGIN_S = 0.03  # espeak's own times are that exact, and half a frame of the segmentation
TALKS = 12

# Said in another order by each voice; few commas, so that there are few pauses to cut at.
SENTENCES = (
    "I was going to tell you about the house we saw on Saturday since it was larger than we had thought.",
    "My brother came along and he kept asking whether the kitchen would be big enough for all of us.",
    "You never know what they put under those floors until somebody lifts a board and has a look.",
    "It rained the whole time but nobody seemed to mind, and later we sat in the car and talked it over.",
    "The man from the agency said that three other families wanted it and that we had to decide by Monday.",
    "What would you have done in our place with two children and a dog and not much time left?",
    "They said they would call.",
    "Nobody did.",
    "So I rang them up myself and asked what was going on and they put me through to four different people.",
    "Each of them told me something else about the contract and the deposit and when we could move in.",
    "Anyway.",
    "In the end we took the small flat near the station since it is cheap and the trains are never late.",
    "Have you been to that part of town lately, it has changed a great deal since the new bridge was opened?",
    "I still think about the garden though and about the old apple tree that stood behind the shed.",
)


class _Name(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # milliseconds
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Name),
    ]


_END, _WORD, _SENTENCE, _PHONEME = 0, 1, 2, 7
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@functools.cache
def _espeak() -> tuple[ctypes.CDLL, int]:
    library = ctypes.CDLL(LIBRARY)
    rate = library.espeak_Initialize(1, 0, None, 1)  # sound to a callback, events of phonemes
    if rate <= 0:
        raise OSError("espeak-ng's data are missing")
    return library, rate


def speak(
    text: str, voice: str, words_a_minute: int
) -> tuple[NDArray[np.float32], list[tuple[float, float]]]:
    """Sound at 16 kHz, and start and end of each word in seconds."""
    from scipy.signal import resample_poly

    library, rate = _espeak()
    sound: list[NDArray[np.int16]] = []
    marks: list[tuple[float, int, bytes]] = []

    def heard(samples: object, count: int, events: object) -> int:
        if samples:
            sound.append(np.ctypeslib.as_array(samples, (count,)).copy())
        for number in range(10_000):
            event = events[number]  # type: ignore[index]
            if event.type == _END:
                break
            if event.type in (_WORD, _SENTENCE, _PHONEME):
                marks.append((event.audio_position / 1000, event.type, bytes(event.id.string)))
        return 0

    callback = _CALLBACK(heard)
    library.espeak_SetSynthCallback(callback)
    library.espeak_SetVoiceByName(voice.encode())
    library.espeak_SetParameter(1, words_a_minute, 0)
    said = text.encode()
    library.espeak_Synth(said, len(said) + 1, 0, 1, 0, 1, None, None)
    library.espeak_Synchronize()
    whole = np.concatenate(sound).astype(np.float32) / 32768
    words: list[tuple[float, float]] = []
    start: float | None = None
    for at, kind, name in [*marks, (len(whole) / rate, _SENTENCE, b"")]:
        pause = kind == _PHONEME and name.startswith(b"_")
        if start is not None and (kind in (_WORD, _SENTENCE) or pause):
            if at > start:
                words.append((start, at))
            start = None
        if kind == _WORD:
            start = at
    return resample_poly(whole, RATE_HZ, rate).astype(np.float32), words


def talk(seed: int) -> tuple[Audio, list[tuple[float, float]]]:
    """A minute or two of one voice, or of two in turns, over a soft noise; with the times of its words."""
    rng = np.random.default_rng([3, seed])
    speakers = [str(voice) for voice in rng.choice(VOICES, size=1 + seed % 2, replace=False)]
    order = [SENTENCES[k] for k in rng.permutation(len(SENTENCES))]
    parts: list[NDArray[np.float32]] = [np.zeros(RATE_HZ // 2, np.float32)]
    words: list[tuple[float, float]] = []
    at, number = 0.5, 0
    while order:
        count = len(order) if len(speakers) == 1 else int(rng.integers(1, 6))
        text, order = " ".join(order[:count]), order[count:]
        sound, spoken = speak(text, speakers[number % len(speakers)], int(rng.integers(165, 215)))
        words += [(at + start, at + end) for start, end in spoken]
        gap = np.zeros(round(float(rng.uniform(0.1, 0.6)) * RATE_HZ), np.float32)
        parts += [sound * np.float32(0.08 / np.sqrt((sound**2).mean())), gap]
        at += (len(sound) + len(gap)) / RATE_HZ
        number += 1
    whole = np.concatenate(parts)
    whole += rng.standard_normal(len(whole)).astype(np.float32) * np.float32(0.08 * 10 ** (-30 / 20))
    return Audio((whole.clip(-1, 1) * 32767).astype(np.int16)), words


def inside_words(utterances: Sequence[Utterance], words: Sequence[tuple[float, float]]) -> tuple[int, int]:
    """How many places there are where utterances meet or end, and how many of them lie inside a word."""
    edges = sorted({round(t, 3) for u in utterances for t in (u.start, u.end)})
    hit = sum(any(a + MARGIN_S < t < b - MARGIN_S for a, b in words) for t in edges)
    return hit, len(edges)


def measure_cuts(diarizer: Callable[[Audio], list[Turn]]) -> dict[str, float]:
    """Cuts inside a word where there is no transcript, over ``TALKS`` made talks."""
    hit, edges, cut = 0, 0, 0
    for seed in range(TALKS):
        audio, words = talk(seed)
        turns = diarizer(audio)
        built = build(turns, Transcript(), audio.duration_s, levels=sound_levels(audio))
        inside, here = inside_words(built, words)
        hit, edges = hit + inside, edges + here
        cut += sum(any(v.start == u.end and v.speaker == u.speaker for v in built) for u in built)
    return {"edges": edges, "inside_a_word": hit, "percent": round(100 * hit / max(edges, 1), 2), "cuts": cut}
