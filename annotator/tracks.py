"""Tracks of a recording, sound or subtitles: which a user asks for, and how they are told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from annotator.languages import iso_639_1, named_language
from annotator.records import AudioStream, RecordingError, SubtitleStream

Stream = TypeVar("Stream", AudioStream, SubtitleStream)


def asked_for(streams: Sequence[Stream], track: str) -> list[Stream]:
    """Those of the streams of one kind that are meant; none where nothing fits.

    Args:
        track: a number among them, from 1, a language (code, tag or name) or a title, whole or in part.
    """
    wanted = track.strip()
    if wanted.isdecimal():
        return [s for s in streams if s.number == int(wanted[:9])]
    language, folded = named_language(wanted), wanted.casefold()
    titles = [(s, (s.title or "").casefold()) for s in streams]
    matching = (
        [s for s, title in titles if title == folded]
        or [s for s in streams if language is not None and iso_639_1(s.language) == language]
        or [s for s, title in titles if folded in title]
    )
    # A file that says nothing of its only stream does not speak against it.
    if not matching and len(streams) == 1 and streams[0].language is None and streams[0].title is None:
        return list(streams)
    return matching


def asked_or_error(
    streams: Sequence[Stream], track: str, kind: str, stage: str, have: Sequence[str]
) -> list[Stream]:
    """Those that ``asked_for`` finds.

    Args:
        kind: ``audio`` or ``subtitle``, as the option is called.
        stage: that asks.
        have: the streams for people.

    Raises: RecordingError (``no_such_track``) where none fits.
    """
    if named := asked_for(streams, track):
        return named
    raise RecordingError(
        stage,
        "no_such_track",
        f"There is no {'sound' if kind == 'audio' else kind} track {track!r}: it has "
        f"{'; '.join(have) or 'none'}. Change or leave out --{kind}-track.",
    )


def described(stream: AudioStream | SubtitleStream, *facts: str | None) -> str:
    """One stream for people: number, language, facts, title and disposition, as far as they are known.

    Such as ``2 (de, ac3, 5.1, "Deutsch", default)``.
    """
    title = f'"{stream.title}"' if stream.title else None
    told = (stream.language, *facts, title, *stream.disposition)
    return f"{stream.number} ({', '.join(fact for fact in told if fact)})"


def distance(language: str | None, wanted: str | None) -> int:
    """How well a stream's language fits: 0 if it is the wanted one, or none is; 1 if it is not told; 2."""
    return 0 if wanted is None or language == wanted else 1 if language is None else 2
