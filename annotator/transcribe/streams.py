"""Which subtitle stream inside a recording is its transcript."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from annotator import tracks
from annotator.languages import iso_639_1
from annotator.records import Media, RecordingError, SubtitleStream, Transcript, Turn

from .subtitles import BROKEN, About, parsed, with_remarks

_SUFFIXES = {
    **dict.fromkeys(("subrip", "srt", "mov_text", "text"), ".srt"),
    **dict.fromkeys(("ass", "ssa"), ".ass"),
    "webvtt": ".vtt",
}
# Titles that say what nobody set the disposition for.
_FORCED = re.compile(r"forced|signs|songs|erzwungen|forcé|forzad|karaoke|foreign parts", re.IGNORECASE)
_COMMENT = re.compile(r"comment|kommentar|commento|comentari|trivia|описание", re.IGNORECASE)
_IMPAIRED = re.compile(
    r"(?<!\w)(?:sdh|cc|hi|hoh)(?!\w)|hearing|gehörlos|hörgeschädigt|sourds|sordos", re.IGNORECASE
)
_COVERED = 0.2  # of what is spoken, from which share on the lines of a forced track are a transcript


def from_streams(
    media: Media,
    extract: Callable[[Media, SubtitleStream], bytes],
    language: str | None = None,
    track: str | None = None,
    turns: Sequence[Turn] = (),
    about: About | None = None,
) -> Transcript:
    """The words of the best subtitle stream inside a recording that has any.

    Order: all lines before forced ones, no comments, the wanted language (else that of the sound), plain
    before those for the deaf, what the file shows by default. Forced lines are only taken if they tell a
    fifth of what is spoken: else they are those in another language.

    Args:
        extract: the stream's text as its codec has it: SubRip, WebVTT or SubStation Alpha.
        language: ISO 639-1, that was asked for.
        track: that was asked for: a number (among the subtitle streams, from 1), a language or a title.
        turns: what is spoken when.

    Raises: RecordingError (``no_such_track``).
    """
    about = replace(about or About(), language=language)
    wanted = language or _sound_language(media)
    streams: Sequence[SubtitleStream] = media.subtitles
    if track is not None:
        have = [described(stream) for stream in streams]
        streams = tracks.asked_or_error(streams, track, "subtitle", "transcribe", have)
    transcript = Transcript()
    problems: list[RecordingError] = []
    unused: list[tuple[str, str]] = []
    for stream in sorted(streams, key=lambda s: _rank(s, wanted)):
        name = described(stream)
        if transcript.words:
            unused.append((name, f"{transcript.origin} is taken"))
            continue
        if stream.codec not in _SUFFIXES:
            unused.append((name, f"it is no text ({stream.codec})"))
            continue
        try:
            tag = iso_639_1(stream.language)
            raw, suffix = extract(media, stream), _SUFFIXES[stream.codec]
            full_name = f"{name} of {media.path.name}"
            read_now, _ = parsed(raw, suffix, full_name, replace(about, language=tag or language), "")
        except RecordingError as error:
            problems.append(error)
            unused.append((name, BROKEN))
            continue
        if read_now is None or not read_now.words:
            unused.append((name, "it has no words"))
        elif track is None and _is_aside(stream) and not _covers(read_now, turns):
            unused.append((name, "it has only some of the lines"))
        else:
            transcript = replace(read_now, source="embedded", language=tag, origin=name)
    return with_remarks(transcript, problems, unused)


def described(stream: SubtitleStream) -> str:
    """One stream for people, such as ``subtitle track 2 (eng, subrip, "Forced", forced)``."""
    return f"subtitle track {tracks.described(stream, stream.codec)}"


def _rank(stream: SubtitleStream, wanted: str | None) -> tuple[bool, bool, int, bool, bool, bool, int]:
    return (
        _is_comment(stream),
        _is_forced(stream),
        tracks.distance(iso_639_1(stream.language), wanted),
        _is_for_the_deaf(stream),
        "dub" in stream.disposition,
        "default" not in stream.disposition,
        stream.index,
    )


def _is_aside(stream: SubtitleStream) -> bool:
    return _is_comment(stream) or _is_forced(stream)


def _is_forced(stream: SubtitleStream) -> bool:
    return "forced" in stream.disposition or bool(_FORCED.search(stream.title or ""))


def _is_comment(stream: SubtitleStream) -> bool:
    asides = {"comment", "descriptions", "visual impaired", "lyrics", "karaoke"}
    return bool(asides & set(stream.disposition)) or bool(_COMMENT.search(stream.title or ""))


def _is_for_the_deaf(stream: SubtitleStream) -> bool:
    return bool({"hearing impaired", "captions"} & set(stream.disposition)) or bool(
        _IMPAIRED.search(stream.title or "")
    )


def _covers(transcript: Transcript, turns: Sequence[Turn]) -> bool:
    """Whether the words tell a fair share of what is spoken; where nothing was heard, they do."""
    spoken = sum(t.end - t.start for t in turns)
    return sum(w.end - w.start for w in transcript.words) >= _COVERED * spoken


def _sound_language(media: Media) -> str | None:
    """The language of the sound that is heard, as the container says."""
    return iso_639_1(media.audio[0].language) if media.audio else None
