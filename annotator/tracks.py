"""Tracks of a recording that a user asks for: by number, language or title."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from annotator.languages import iso_639_1, named_language
from annotator.records import AudioStream, SubtitleStream

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
    found = (
        [s for s, title in titles if title == folded]
        or [s for s in streams if language is not None and iso_639_1(s.language) == language]
        or [s for s, title in titles if folded in title]
    )
    # A file that says nothing of its only stream does not speak against it.
    if not found and len(streams) == 1 and streams[0].language is None and streams[0].title is None:
        return list(streams)
    return found
