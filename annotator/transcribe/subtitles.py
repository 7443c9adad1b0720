"""Subtitles and transcripts that are already there: beside a recording, or as a stream inside it.

Formats: SubRip (``.srt``), WebVTT (``.vtt``, W3C), Whisper and WhisperX ``.json``, NIST ``.ctm``. The
parsers are pure: text in, transcript out.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from annotator import sidecars
from annotator.records import Media, RecordingError, SubtitleStream, Transcript

from .cues import Cue, words_of  # noqa: TID251 - own package
from .language import language_code  # noqa: TID251 - own package
from .recognised import has_word_times, parse_ctm, parse_json  # noqa: TID251 - own package

MAX_BYTES = 50_000_000
# In order of preference; JSON without word times comes last.
SUFFIXES = (".json", ".ctm", ".vtt", ".srt")

_TIME = r"(-?)(?:(\d{1,6}):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,3})\d{0,9})?"
_TIMING = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?:\s.*)?", re.ASCII)
_TIMING_LIKE = re.compile(r"\s*-?\d.*-->", re.ASCII)
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def parse_srt(text: str, name: str = "the subtitles") -> Transcript:
    """SubRip. Missing numbers, blank lines inside a cue, dots for commas and absent hours are understood.

    Raises: RecordingError naming the line that is neither a cue's number nor its times.
    """
    cues: list[Cue] = []
    bounds: tuple[float, float] | None = None
    body: list[str] = []
    counter: int | None = None
    for number, line in enumerate(_text_lines(text), start=1):
        times = _timing(line, number, name)
        if times is None:
            if bounds is None and line.strip() and (body or not _counter(line)):
                raise _bad(name, f"line {number} is neither a cue's number nor its times")
            body += [line] if line.strip() or bounds is not None else []
            continue
        # A number just above the times counts the cue, unless the text above it goes straight on to it.
        above = _counter(body[-1]) if body else None
        expected = ((counter or 0) + 1, len(cues) + 2)
        if above is not None and (len(body) == 1 or not body[-2].strip() or above in expected):
            counter = above
            body.pop()
        if bounds is not None:
            cues.append(_cue(bounds, body))
        bounds, body = times, []
    if bounds is not None:
        cues.append(_cue(bounds, body))
    elif body:
        raise _bad(name, "line 1 is a number that no times follow")
    words, flags = words_of(cues)
    return Transcript(words, "sidecar", None, flags)


def parse_vtt(text: str, name: str = "the subtitles") -> Transcript:
    """WebVTT. NOTE, STYLE and REGION blocks and the header's settings are passed over.

    Raises: RecordingError if line 1 is not ``WEBVTT``, or a line that should hold times doesn't.
    """
    lines = _text_lines(text)
    if not re.match(r"WEBVTT(?:[ \t]|$)", lines[0]):
        raise _bad(name, "line 1 is not 'WEBVTT'")
    cues: list[Cue] = []
    bounds: tuple[float, float] | None = None
    body: list[str] = []
    passing = True  # inside the header or a block that is no cue
    stray: int | None = None
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            if bounds is not None:
                cues.append(_cue(bounds, body))
            bounds, body, passing = None, [], False
            continue
        if bounds is None and re.match(r"(?:NOTE|STYLE|REGION)(?:[ \t]|$)", line):
            passing = True
        times = None if passing and line.startswith("NOTE") else _timing(line, number, name)
        if times is not None:
            if bounds is not None:
                cues.append(_cue(bounds, body))
            bounds, body, passing = times, [], False
        elif bounds is not None:
            body.append(line)
        elif not passing and stray is None:
            stray = number  # a cue's name as a rule
    if bounds is not None:
        cues.append(_cue(bounds, body))
    if not cues and stray is not None:
        raise _bad(name, f"line {stray} belongs to no cue, and there is none")
    words, flags = words_of(cues)
    return Transcript(words, "sidecar", None, flags)


def decode(raw: bytes, name: str = "the subtitles") -> str:
    """Text in UTF-8, UTF-16 or UTF-32 with a mark, else in Windows-1252 (Latin-1 where that has no sign).

    Raises: RecordingError if a mark promises an encoding that the file breaks.
    """
    for mark, encoding in _BOMS:
        if raw.startswith(mark):
            try:
                return raw[len(mark) :].decode(encoding)
            except UnicodeDecodeError as error:
                line = raw[: error.start].count(b"\n") + 1
                raise _bad(
                    name, f"line {line} is not {encoding.upper()}, as its first bytes promise"
                ) from None
    for encoding in ("utf-8", "cp1252"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return raw.decode("latin-1")


def read_sidecar(path: Path, recording: str | None = None) -> Transcript:
    """The transcript in a file, by its ending; the language from its name (``talk.en.srt``) if it tells none.

    Args:
        recording: the recording's name without folder and ending: what follows it in the file's name may
            be a language (``annotator/sidecars.py``), and a CTM's lines are found by it. By default
            the file's own name.

    Raises: RecordingError if it can't be read, is over 50 MB, or is not what its ending says.
    """
    transcript = _read(path, recording)[0]
    if transcript is None:
        raise _bad(path.name, "line 1 begins JSON without segments that have a text")
    return transcript


def from_sidecars(paths: Sequence[Path], recording: str, language: str | None = None) -> Transcript:
    """The best of the files beside a recording that has words, or an empty transcript.

    Order: the wanted language, before one that is not told, before others; whole subtitles before forced ones
    (which hold only the foreign lines); word times in JSON, then CTM, VTT, SRT, JSON without word times;
    those for the hard of hearing after plain ones; the default. JSON that is no transcript is passed over.
    """
    # JSON has to be read to know what it is; the rest is read in order until one has words.
    read: dict[Path, tuple[Transcript, bool]] = {}
    for path in paths:
        if path.suffix.lower() == ".json":
            transcript, word_times = _read(path, recording)
            if transcript is not None:
                read[path] = transcript, word_times

    def rank(path: Path) -> tuple[int, bool, int, bool, bool, str]:
        name = sidecars.of(path.name, recording)
        told = read[path][0].language if path in read else name.language
        form = SUFFIXES.index(path.suffix.lower())
        return (
            _distance(told, language),
            name.forced,
            len(SUFFIXES) if path in read and not read[path][1] else form,
            name.hearing_impaired,
            not name.default,
            path.name,
        )

    known = [p for p in paths if p in read or p.suffix.lower() in SUFFIXES[1:]]
    for path in sorted(known, key=rank):
        found = read[path][0] if path in read else _read(path, recording)[0]
        if found is not None and found.words:
            return replace(found, file=path.name)
    return Transcript()


def from_streams(
    media: Media, extract: Callable[[Media, SubtitleStream], str], language: str | None = None
) -> Transcript:
    """The words of the first subtitle stream inside a recording that has any, the wanted language first."""
    streams = sorted(media.subtitles, key=lambda s: (_distance(language_code(s.language), language), s.index))
    for stream in streams:
        text, name = extract(media, stream), f"subtitle stream {stream.index} of {media.path.name}"
        found = parse_vtt(text, name) if text.startswith("WEBVTT") else parse_srt(text, name)
        if found.words:
            return replace(found, source="embedded", language=language_code(stream.language))
    return Transcript()


def _read(path: Path, recording: str | None) -> tuple[Transcript | None, bool]:
    """A file's transcript (None if it is JSON of another kind) and whether it is JSON with word times."""
    suffix, name = path.suffix.lower(), path.name
    if suffix not in SUFFIXES:
        raise _bad(name, f"{suffix or 'no ending'} is none of {', '.join(SUFFIXES)}")
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        message = f"{name} can't be read ({reason}): allow it to be read, or remove it."
        raise RecordingError("transcribe", "unreadable_subtitles", message) from None
    if len(raw) > MAX_BYTES:
        raise _bad(name, f"it has more than {MAX_BYTES // 1_000_000} MB")
    text, timed = decode(raw, name), False
    found: Transcript | None
    if suffix == ".srt":
        found = parse_srt(text, name)
    elif suffix == ".vtt":
        found = parse_vtt(text, name)
    elif suffix == ".ctm":
        found = parse_ctm(text, name, recording if recording is not None else path.stem)
    else:
        found = parse_json(text, name)
        timed = found is not None and has_word_times(text)
    if found is not None and found.language is None:
        found = replace(found, language=sidecars.of(path.name, recording).language)
    return found, timed


def _distance(told: str | None, wanted: str | None) -> int:
    if wanted is None:
        return 0 if told is None else 1  # the one without a language in its name is as a rule the original
    return {wanted: 0, None: 1}.get(told, 2)


def _text_lines(text: str) -> list[str]:
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _counter(line: str) -> int | None:
    return int(line) if re.fullmatch(r"\s*\d{1,9}\s*", line, re.ASCII) else None


def _timing(line: str, number: int, name: str) -> tuple[float, float] | None:
    if "-->" not in line:
        return None
    match = _TIMING.fullmatch(line)
    if match:
        groups = match.groups()
        return _seconds(groups[:5]), _seconds(groups[5:])
    if _TIMING_LIKE.match(line):
        raise _bad(name, f"line {number} has times that are not HH:MM:SS,mmm --> HH:MM:SS,mmm")
    return None


def _seconds(parts: Sequence[str | None]) -> float:
    sign, hours, minutes, seconds, fraction = parts
    whole = int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds or 0)
    return 0.0 if sign else round(whole + float(f"0.{fraction or 0}"), 3)


def _cue(bounds: tuple[float, float], body: Sequence[str]) -> Cue:
    return Cue(*bounds, "\n".join(line for line in body if line.strip()))


def _bad(name: str, what: str) -> RecordingError:
    message = f"{name} can't be read as a transcript: {what}. Mend or remove it."
    return RecordingError("transcribe", "bad_subtitles", message)
