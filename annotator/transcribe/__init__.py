"""What is said: words with times, and the speakers that a transcript names.

A transcriber takes a recording, its sound and its speaker turns, and gives a ``Transcript``. Those that are
known stand in ``TRANSCRIBERS``:

    subtitles   files beside the recording, else the subtitle streams inside it
    whisper     recognition by Whisper, in CTranslate2
    none        no transcript
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from annotator import whisper_files
from annotator.languages import iso_639_1, language_of
from annotator.records import Audio, Media, SetupError, SubtitleStream, Transcript, Turn, UsageError

from .cues import cut_at_end
from .streams import from_streams
from .subtitles import SUFFIXES, About, after, from_sidecars, read_sidecar

__all__ = [
    "SUFFIXES",
    "TRANSCRIBERS",
    "Transcriber",
    "TranscriberSettings",
    "after",
    "available",
    "cut_at_end",
    "make_transcriber",
    "read_sidecar",
]


class Transcriber(Protocol):
    """Gives what is said in a recording; without words where nothing tells it."""

    def __call__(self, media: Media, audio: Audio | None, turns: Sequence[Turn]) -> Transcript: ...


@dataclass(frozen=True)
class TranscriberSettings:
    """What a transcriber may need.

    Args:
        extract_subtitles: the text of a subtitle stream, as its codec has it or as SubRip.
        subtitle_track: which stream inside a recording is its transcript, before files beside it: its number
            among them from 1, language or title; None: chosen.
        language: of the recordings, ISO 639 (``en``, ``eng``); None: as told or heard.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``, for recognition.
        whisper_folder: Whisper's weights and tokenizer; None: the best that is on this machine.
        threads: for recognition on a CPU; 0 for as many as there are cores.
        batch_size: stretches of 30 s that are recognised together.
    """

    extract_subtitles: Callable[[Media, SubtitleStream], bytes]
    language: str | None = None
    device: str = "auto"
    whisper_folder: Path | None = None
    threads: int = 0
    batch_size: int = 8
    subtitle_track: str | None = None


def _make_subtitles(settings: TranscriberSettings) -> Transcriber:
    def transcribe(media: Media, audio: Audio | None, turns: Sequence[Turn]) -> Transcript:
        wanted, track = iso_639_1(settings.language), settings.subtitle_track
        heard_s = audio.duration_s if audio is not None else 0.0
        about = About(duration_s=max(heard_s, media.duration_s or 0.0) or None, frame_rate=media.frame_rate)
        transcript = Transcript()
        if track is None:
            transcript = from_sidecars(media.sidecars, media.path.stem, wanted, about)
        if not transcript.words:
            inside = from_streams(media, settings.extract_subtitles, wanted, track, turns, about)
            transcript = after(inside, transcript)
        if not transcript.words:
            return transcript
        language = transcript.language or wanted or language_of(w.text for w in transcript.words)
        return replace(transcript, language=language)

    return transcribe


def _make_whisper(settings: TranscriberSettings) -> Transcriber:
    # Importing the engine takes seconds: what is sure to fail does so before.
    if problem := available("whisper", settings):
        raise SetupError(problem)
    from .whisper import load

    return load(
        settings.whisper_folder,
        device=settings.device,
        language=iso_639_1(settings.language),
        batch_size=settings.batch_size,
        threads=settings.threads,
    )


def _make_none(settings: TranscriberSettings) -> Transcriber:
    return lambda media, audio, turns: Transcript()


TRANSCRIBERS: dict[str, Callable[[TranscriberSettings], Transcriber]] = {
    "subtitles": _make_subtitles,
    "whisper": _make_whisper,
    "none": _make_none,
}


def make_transcriber(name: str, settings: TranscriberSettings) -> Transcriber:
    """The transcriber of that name, ready to run.

    Raises: UsageError for an unknown name or language; SetupError if its weights are not to be had.
    """
    _check(name)
    if settings.language is not None and iso_639_1(settings.language) is None:
        raise UsageError(f"{settings.language!r} is no language code: give ISO 639, such as en, de or zh.")
    return TRANSCRIBERS[name](settings)


def available(name: str, settings: TranscriberSettings) -> str | None:
    """None if the transcriber can run now, without the network; else a sentence that says what it lacks."""
    _check(name)
    if name != "whisper":
        return None
    return whisper_files.missing(settings.whisper_folder)


def _check(name: str) -> None:
    if name not in TRANSCRIBERS:
        raise UsageError(f"There is no transcriber {name!r}: choose from {', '.join(TRANSCRIBERS)}.")
