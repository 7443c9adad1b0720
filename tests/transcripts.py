"""Recordings without media and what holds of every transcript, for the tests of transcription."""

from __future__ import annotations

import math
from pathlib import Path

from annotator.records import Media, SubtitleStream, Transcript


def no_streams(media: Media, stream: SubtitleStream) -> bytes:
    raise AssertionError("no stream should be read")


def media(path: Path, *sidecars: Path, subtitles: tuple[SubtitleStream, ...] = ()) -> Media:
    return Media(path, 60.0, True, True, subtitles=subtitles, sidecars=sidecars)


def is_sound(transcript: Transcript) -> bool:
    """What holds of every transcript."""
    for word in transcript.words:
        assert word.text and not any(c.isspace() for c in word.text)
        assert 0 <= word.start <= word.end < math.inf
        assert word.confidence is None or 0 <= word.confidence <= 1
        assert word.speaker is None or word.speaker.strip()
        word.text.encode("utf-8")
    return [w.start for w in transcript.words] == sorted(w.start for w in transcript.words)
