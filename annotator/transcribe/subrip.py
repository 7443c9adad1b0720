"""Subtitles that are lines of times and text: SubRip (``.srt``), WebVTT (``.vtt``), SubViewer (``.sub``, ``.sbv``).

Pure: text in, transcript out. Times are read as people write them; frames (``00:00:01:12``) are refused, since
nothing in the file says how long one is.
"""  # noqa: E501

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from annotator.records import Transcript

from .cues import Cue, bad, words_of

# No run of spaces can be read in two ways here, and each is short: the files come from strangers.
_SP = r"[ \t\xa0]{0,3}"
_COLON = rf"{_SP}[:：]{_SP}"
_TIME = (
    rf"(-?)(?:(\d{{1,6}}){_COLON})?(\d{{1,2}}){_COLON}(\d{{1,2}})"
    rf"(?:{_SP}[.,，．]{_SP}(\d{{1,3}})\d{{0,9}}|{_SP}[:：;'’]{_SP}(\d{{3}})(?!\d))?"
)
# With dots throughout (00.00.01,600), or a space before the thousandths (00:00:01 600).
_ODD_TIME = r"(-?)(\d{1,3})(?:\.(\d{1,2})\.(\d{1,2})[.,:]|:(\d{1,2}):(\d{1,2})[ \t])(\d{1,3})"
_REST = r"(?:[.,]?[ \t\xa0]*|[^\d:.,].*)"  # where a cue stands on the screen
_ARROW = r"(?:-{1,2}[ \t]?-?[ \t]?>|[–—−]{1,2}[ \t]?>|={1,2}>|→|⟶|»)"
_STRICT = re.compile(rf"[ \t\xa0\ufeff]*{_TIME}[ \t\xa0]*-->[ \t\xa0]*{_TIME}{_REST}", re.ASCII)
_FREE = re.compile(rf"[ \t\xa0\ufeff]*{_TIME}[ \t\xa0]*{_ARROW}[ \t\xa0]*{_TIME}{_REST}", re.ASCII)
_ODD = re.compile(rf"[ \t\xa0\ufeff]*{_ODD_TIME}[ \t]*{_ARROW}[ \t]*{_ODD_TIME}{_REST}", re.ASCII)
_BARE = re.compile(
    rf"[ \t\xa0\ufeff]*{_TIME}(?:[ \t]{{0,3}}(?:[-–—]{{1,3}}|,|;)[ \t]{{0,3}}|[ \t]{{1,8}}){_TIME}[ \t]*",
    re.ASCII,
)
# Seconds alone (1.5 --> 3.25), and Whisper's lines on the screen ([00:01.500 --> 00:03.250]  text).
_SECONDS = re.compile(r"[ \t]*(\d{1,6})[.,](\d{1,9})[ \t]*-->[ \t]*(\d{1,6})[.,](\d{1,9})[ \t]*", re.ASCII)
_ON_SCREEN = re.compile(r"^\[([\d:.,]{5,15} --> [\d:.,]{5,15})\][ \t]*", re.ASCII | re.MULTILINE)
_FRAMES = re.compile(rf"[ \t]*\d{{1,3}}[:;]\d\d[:;]\d\d[:;]\d{{1,2}}[ \t]*(?:{_ARROW}|,|-|[ \t])", re.ASCII)
_LIKE = re.compile(r"\s*-?\d.*-->", re.ASCII)
_BEGIN = re.compile(r"[ \t\xa0\ufeff]*-?\d{1,6}[ \t\xa0]{0,3}[:：.]", re.ASCII)


def parse_srt(text: str, name: str = "the subtitles") -> Transcript:
    """SubRip. Missing numbers, blank lines inside a cue, odd separators and absent hours are understood.

    Raises: RecordingError naming the line that is neither a cue's number nor its times, or counts frames.
    """
    cues: list[Cue] = []
    bounds: tuple[float, float] | None = None
    body: list[str] = []
    counter: int | None = None
    if "--&gt;" in text:
        text = html.unescape(text)
    for number, line in enumerate(text_lines(_ON_SCREEN.sub("\\1\n", text)), start=1):
        times = _timing(line, number, name)
        if times is None:
            if bounds is None and line.strip() and (body or _counter(line) is None):
                raise bad(name, f"line {number} is neither a cue's number nor its times")
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
        raise bad(name, "line 1 is a number that no times follow")
    words, flags = words_of(cues, name)
    return Transcript(words, "sidecar", None, flags)


def parse_vtt(text: str, name: str = "the subtitles") -> Transcript:
    """WebVTT. NOTE, STYLE and REGION blocks and the header's settings are passed over.

    A cue ends at an empty line and at the next one's times; a line of spaces is a line of its text.

    Raises: RecordingError if line 1 is not ``WEBVTT``, or a line that should hold times doesn't.
    """
    lines = text_lines(text)
    if not re.match(r"WEBVTT(?:[ \t]|$)", lines[0]):
        raise bad(name, "line 1 is not 'WEBVTT'")
    cues: list[Cue] = []
    bounds: tuple[float, float] | None = None
    body: list[str] = []
    passing = True  # inside the header or a block that is no cue
    stray: int | None = None
    for number, line in enumerate(lines[1:], start=2):
        if not line or (bounds is None and not line.strip()):
            if bounds is not None:
                cues.append(_cue(bounds, body))
            bounds, body, passing = None, [], False
            continue
        if bounds is None and re.match(r"(?:NOTE|STYLE|REGION)(?:[ \t]|$)", line):
            passing = True
        times = None if passing and line.startswith("NOTE") else _timing(line, number, name)
        if times is not None:
            if bounds is not None:
                # Some write a space into the empty line: then the next cue's number comes before its times.
                if len(body) > 1 and _counter(body[-1]) is not None and not body[-2].strip():
                    body.pop()
                cues.append(_cue(bounds, body))
            bounds, body, passing = times, [], False
        elif bounds is not None:
            body.append(line)
        elif not passing and stray is None:
            stray = number  # a cue's name as a rule
    if bounds is not None:
        cues.append(_cue(bounds, body))
    if not cues and stray is not None:
        raise bad(name, f"line {stray} belongs to no cue, and there is none")
    words, flags = words_of(cues, name)
    return Transcript(words, "sidecar", None, flags)


def parse_subviewer(text: str, name: str = "the subtitles") -> Transcript:
    """SubViewer and YouTube's ``.sbv``: ``0:00:01.00,0:00:03.00``, the text below, ``[br]`` for a line's end.

    Raises: RecordingError if no line has times.
    """
    cues: list[Cue] = []
    bounds: tuple[float, float] | None = None
    body: list[str] = []
    for number, line in enumerate(text_lines(text), start=1):
        times = _timing(line, number, name)
        if times is None and (bounds is None or line.strip()):
            body += [] if bounds is None else [re.sub(r"\[br\]", "\n", line, flags=re.IGNORECASE)]
            continue
        if bounds is not None:
            cues.append(_cue(bounds, body))
        bounds, body = times, []
    if bounds is not None:
        cues.append(_cue(bounds, body))
    if not cues:
        raise bad(name, "no line has times, such as 0:00:01.00,0:00:03.00")
    words, flags = words_of(cues, name)
    return Transcript(words, "sidecar", None, flags)


def text_lines(text: str) -> list[str]:
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _counter(line: str) -> int | None:
    return int(line) if re.fullmatch(r"\s*\d{1,9}\s*", line, re.ASCII) else None


def _timing(line: str, number: int, name: str) -> tuple[float, float] | None:
    """The times in a line of times; None for any other.

    Only ``-->`` stands between times without hours: ``10:30 -> 11:00`` may be what somebody says.
    """
    if "-->" in line:
        if match := _STRICT.fullmatch(line):
            groups = match.groups()
            return _seconds(groups[:6]), _seconds(groups[6:])
    elif not _BEGIN.match(line):
        return None
    if _FRAMES.match(line):
        raise bad(
            name,
            f"line {number} counts frames (HH:MM:SS:FF), whose length it doesn't tell; "
            "save it with thousandths of seconds, as HH:MM:SS,mmm --> HH:MM:SS,mmm",
        )
    if match := _FREE.fullmatch(line):
        groups = match.groups()
        if groups[1] is not None and groups[7] is not None:
            return _seconds(groups[:6]), _seconds(groups[6:])
    if match := _ODD.fullmatch(line):
        first, second = match.groups()[:7], match.groups()[7:]
        return _seconds(_in_order(first)), _seconds(_in_order(second))
    if match := _BARE.fullmatch(line):
        groups = match.groups()
        if all(
            g is not None for g in (groups[1], groups[4] or groups[5], groups[7], groups[10] or groups[11])
        ):
            return _seconds(groups[:6]), _seconds(groups[6:])
    if match := _SECONDS.fullmatch(line):
        whole, part, other_whole, other_part = match.groups()
        return float(f"{whole}.{part}"), float(f"{other_whole}.{other_part}")
    if _LIKE.match(line):
        raise bad(name, f"line {number} has times that are not HH:MM:SS,mmm --> HH:MM:SS,mmm")
    return None


def _in_order(odd: Sequence[str | None]) -> list[str | None]:
    """Groups of ``_ODD_TIME`` as those of ``_TIME``."""
    sign, hours, m1, s1, m2, s2, fraction = odd
    return [sign, hours, m1 or m2, s1 or s2, fraction, None]


def _seconds(parts: Sequence[str | None]) -> float:
    sign, hours, minutes, seconds, fraction, thousandths = parts
    whole = int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds or 0)
    return 0.0 if sign else round(whole + float(f"0.{fraction or thousandths or 0}"), 3)


def _cue(bounds: tuple[float, float], body: Sequence[str]) -> Cue:
    return Cue(*bounds, "\n".join(line for line in body if line.strip()))
