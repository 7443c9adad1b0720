"""Speech of which the time of each word is known: voices of espeak-ng, with its own word events.

Through its library (``speak_lib.h`` of espeak-ng 1.5x), because the program does not give the events.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np

from annotator.records import RATE_HZ

from .references import Recording, joined
from .scores import normalised

MISSING = "libespeak-ng is not installed: apt-get install espeak-ng (Debian, Ubuntu)"
SYNCHRONOUS, CHARACTERS, UTF8 = 2, 1, 1  # AUDIO_OUTPUT_SYNCHRONOUS, POS_CHARACTER, espeakCHARS_UTF8
END_OF_EVENTS, WORD = 0, 1
DBFS = -24.0
VOICES = {"en": ("en-us", "en+f3"), "de": ("de", "de+f2")}
SENTENCES = {
    "en": (
        "Good morning, did you sleep well last night?",
        "Not really, the neighbours had a party until three.",
        "I thought they had moved away in the spring.",
        "So did I, but their car is still standing in front of the house.",
        "We should talk to them before the weekend.",
        "My sister called yesterday and asked about the garden.",
        "She wants to plant apple trees behind the old wall.",
        "That sounds lovely, but who is going to water them?",
        "The train to the city leaves every twenty minutes.",
        "Please bring the blue folder with you when you come.",
        "Yesterday it rained so hard that the street was under water.",
        "Nobody told me that the meeting was on Thursday.",
        "If we start now, we can finish the report before lunch.",
        "The doctor said that everything will be fine again.",
        "I have never seen such a beautiful sunset before.",
        "Can you open the window, it is very warm in here.",
        "They have found the letter under the kitchen table.",
        "Our teacher used to say that patience is half of the work.",
        "The old bridge will be closed until the end of summer.",
        "Thank you for the wonderful evening, we will come again.",
    ),
    "de": (
        "Guten Morgen, hast du heute Nacht gut geschlafen?",
        "Nein, die Nachbarn haben bis drei Uhr gefeiert.",
        "Ich dachte, sie wären im Frühling weggezogen.",
        "Das dachte ich auch, aber ihr Auto steht noch vor dem Haus.",
        "Wir sollten vor dem Wochenende mit ihnen reden.",
        "Meine Schwester hat gestern wegen des Gartens angerufen.",
        "Sie möchte hinter der alten Mauer Apfelbäume pflanzen.",
        "Das klingt schön, aber wer soll sie gießen?",
        "Der Zug in die Stadt fährt alle zwanzig Minuten.",
        "Bitte bring die blaue Mappe mit, wenn du kommst.",
        "Gestern hat es so stark geregnet, dass die Straße unter Wasser stand.",
        "Niemand hat mir gesagt, dass wir uns am Donnerstag treffen.",
        "Wenn wir jetzt anfangen, sind wir vor dem Mittagessen fertig.",
        "Die Ärztin hat gesagt, dass alles wieder gut wird.",
        "Ich habe noch nie einen so schönen Abend gesehen.",
        "Kannst du das Fenster öffnen, hier ist es sehr warm.",
        "Sie haben den Brief unter dem Küchentisch gefunden.",
        "Unser Lehrer sagte immer, Geduld ist die halbe Arbeit.",
        "Die alte Brücke bleibt bis zum Ende des Sommers geschlossen.",
        "Vielen Dank für den schönen Abend, wir kommen wieder.",
    ),
}


class _Id(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),  # in characters, from 1
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # milliseconds
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    ]


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@dataclass(frozen=True)
class TimedSpeech:
    """A recording and the start of each of its normalised words, in seconds."""

    recording: Recording
    words: tuple[tuple[float, str], ...]


@cache
def library() -> tuple[Any, int] | None:
    """The library, ready to speak, and its samples a second; None where it is not installed."""
    name = ctypes.util.find_library("espeak-ng")
    if name is None:
        return None
    espeak = ctypes.CDLL(name)
    rate = espeak.espeak_Initialize(SYNCHRONOUS, 0, None, 0)
    if rate <= 0:
        raise SystemExit("espeak-ng does not start: are its voices installed (espeak-ng-data)?")
    return espeak, rate


def version() -> str | None:
    if (found := library()) is None:
        return None
    found[0].espeak_Info.restype = ctypes.c_char_p
    return str(found[0].espeak_Info(None).decode())


def spoken(voice: str, text: str) -> TimedSpeech:
    """A sentence at 16 kHz. Raises: SystemExit where espeak-ng or the voice is missing."""
    if (found := library()) is None:
        raise SystemExit(MISSING)
    espeak, rate = found
    chunks: list[bytes] = []
    places: list[tuple[float, str]] = []

    def receive(samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            chunks.append(ctypes.string_at(samples, 2 * count))
        i = 0
        while events[i].type != END_OF_EVENTS:
            if events[i].type == WORD:
                first = events[i].text_position - 1
                word = text[first : first + events[i].length]
                places.append((events[i].audio_position / 1000, word))
            i += 1
        return 0

    callback = _Callback(receive)
    espeak.espeak_SetSynthCallback(callback)
    if espeak.espeak_SetVoiceByName(voice.encode()):
        raise SystemExit(f"espeak-ng has no voice {voice}")
    content = text.encode()
    if espeak.espeak_Synth(content, len(content) + 1, 0, CHARACTERS, 0, UTF8, None, None):
        raise SystemExit(f"espeak-ng can't say {text!r}")
    from scipy.signal import resample_poly

    ratio = Fraction(RATE_HZ, rate)
    sound = resample_poly(
        np.frombuffer(b"".join(chunks), np.int16) / 32768, ratio.numerator, ratio.denominator
    )
    sound *= 10 ** (DBFS / 20) / np.sqrt(np.mean(sound**2))
    samples = np.clip(np.round(sound * 32768), -32768, 32767).astype(np.int16)
    words = tuple((start, part) for start, word in places for part in normalised(word))
    loud = np.flatnonzero(np.abs(sound) > 0.01 * np.abs(sound).max()) / RATE_HZ
    return TimedSpeech(Recording(text, samples, text, ((float(loud[0]), float(loud[-1])),)), words)


def dialogue(language: str, number: int, sentences: int, seed: int = 17) -> TimedSpeech:
    """Two voices that take turns: sentences ``number * sentences`` and on, with pauses of 0.4 to 1.2 s."""
    rng = np.random.default_rng([seed, number])
    chosen = SENTENCES[language][number * sentences : (number + 1) * sentences]
    parts: list[Recording] = []
    words: list[tuple[float, str]] = []
    length = 0.0
    for i, sentence in enumerate(chosen):
        one = spoken(VOICES[language][i % 2], sentence)
        words += [(length + start, word) for start, word in one.words]
        pause = np.zeros(round(rng.uniform(0.4, 1.2) * RATE_HZ), np.int16)
        samples = np.concatenate([one.recording.samples, pause])
        parts.append(Recording(sentence, samples, sentence, one.recording.speech))
        length += len(samples) / RATE_HZ
    name = f"espeak_{language}_{number}"
    return TimedSpeech(joined(name, parts, pause_s=0.0), tuple(words))
