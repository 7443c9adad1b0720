"""Which of a recording's sound streams is heard: what ffmpeg says of each, and the order to try them in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from annotator import tracks
from annotator.records import AudioStream
from annotator.terminal import escaped

# As ffmpeg prints them behind a stream (libavformat, dump.c).
DISPOSITIONS = (
    *("default", "dub", "original", "comment", "lyrics", "karaoke", "forced", "hearing impaired"),
    *("visual impaired", "clean effects", "captions", "descriptions", "dependent", "non-diegetic"),
)
_DISPOSITION = re.compile(rf"\(({'|'.join(DISPOSITIONS)})\)")
# Not what is spoken in the scene, or not all of it.
_ASIDE = frozenset(
    {"comment", "visual impaired", "descriptions", "lyrics", "karaoke", "clean effects", "non-diegetic"}
)
# Titles that say the same where nobody set the disposition, in the languages of most films.
_ASIDE_TITLE = re.compile(
    r"comment(?!s?\s*free)|kommentar|commento|comentari|комментар|コメンタリ|评论|"
    r"audio\s*-?descri|audiodes[ck]|descri(?:ptive|bed|ption)|hörfassung|sehbehindert|"
    r"(?<!\w)(?:ad|dvs)(?!\w)|music\s*(?:and|&)\s*effects|(?<!\w)m&e(?!\w)|isolated\s+score|karaoke",
    re.IGNORECASE,
)
_WITHOUT = re.compile(r"(?<!\w)(?:no|non|without|ohne|sans|sin|senza)(?!\w)", re.IGNORECASE)
_GENERIC_TITLE = re.compile(r"handler|iso media|core media|mainconcept|gpac|apple", re.IGNORECASE)


def dispositions(line: str) -> tuple[str, ...]:
    """What a stream is for, from the rest of its line in ffmpeg's description."""
    return tuple(_DISPOSITION.findall(line))


def title(metadata: dict[str, str]) -> str | None:
    """A stream's title: MP4 has none but in the name of its handler, if that is no program's."""
    tag = metadata.get("title", "").strip()
    handler = metadata.get("handler_name", "").strip()
    return tag or (handler if handler and not _GENERIC_TITLE.search(handler) else None)


def described(stream: AudioStream) -> str:
    """One stream for people, such as ``2 (de, ac3, 5.1, "Deutsch", default)``."""
    return escaped(tracks.described(stream, stream.codec or "unknown codec", stream.layout))


def in_order(
    streams: Sequence[AudioStream], language: str | None = None, track: str | None = None
) -> list[AudioStream]:
    """Those that can be decoded, the one to hear first.

    Before others goes what is spoken in the scene (no comment, no description for the blind, no music
    alone), then the asked language, then no dub, then what the file plays by default, then the original.

    Args:
        language: spoken, ISO 639-1; None if it was not said.
        track: what the user asks for: a number (among the sound streams, from 1), a language or a title.

    Raises:
        RecordingError: ``no_such_track``.
    """
    usable = list(streams)
    if track is not None:
        usable = tracks.asked_or_error(streams, track, "audio", "probe", list(map(described, streams)))

    def rank(stream: AudioStream) -> tuple[bool, int, bool, bool, bool, bool, int]:
        aside = bool(_ASIDE & set(stream.disposition)) or _is_aside(stream.title)
        return (
            aside,
            tracks.distance(stream.language, language),
            "dub" in stream.disposition,
            "hearing impaired" in stream.disposition,
            "default" not in stream.disposition,
            "original" not in stream.disposition,
            stream.index,
        )

    return sorted((s for s in usable if s.codec is not None), key=rank)


def preferred(
    streams: Sequence[AudioStream], language: str | None = None, track: str | None = None
) -> AudioStream | None:
    """The stream that would be heard if each could be decoded."""
    alike = [stream if stream.codec is not None else _as_if_known(stream) for stream in streams]
    order = in_order(alike, language, track)
    return next((s for s in streams if order and s.index == order[0].index), None)


def _as_if_known(stream: AudioStream) -> AudioStream:
    return replace(stream, codec="unknown")


def _is_aside(name: str | None) -> bool:
    return name is not None and bool(_ASIDE_TITLE.search(name)) and not _WITHOUT.search(name)
