"""Readers of what a recogniser wrote: JSON of many kinds, NIST CTM."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from annotator import bounds
from annotator.languages import named_language
from annotator.records import RecordingError, Transcript, Word

from . import dialects
from .cues import CHARACTER_S, check_words, plain, spread, tokens

# NIST's null word, and marks of silence that some recognisers write as words.
_NO_WORDS = frozenset({"@", "<eps>", "<sil>", "sil", "<s>", "</s>"})
_NOT_SPEECH = frozenset({"non-lex", "misc", "noscore"})
FASTEST, _SLOWEST = 1 / CHARACTER_S, 0.05  # characters a second that somebody may say
_NEIGHBOUR_S = 2.0  # a word without a speaker goes with one no further away
_LONGEST_WORD = 40  # characters; longer ones are cut, so that a script without spaces has words at all
_MISSING = frozenset({"", "-", "NA", "na", "null", "unknown", "<NA>"})


def parse_json(
    text: str, name: str = "the JSON file", duration_s: float | None = None
) -> tuple[Transcript | None, bool]:
    """A recogniser's JSON, of any kind that ``dialects`` knows, and whether it times single words.

    A missing end is the next start; times far behind the recording's end are milliseconds if that fits.

    Args:
        duration_s: of the recording, where it is known.

    Returns None if the JSON is something else.
    Raises: RecordingError if it is no JSON, or a segment has no times.
    """
    try:
        data = _loaded(text)
    except json.JSONDecodeError as error:
        raise _bad(name, f"line {error.lineno} is no valid JSON ({error.msg})") from None
    except (RecursionError, ValueError):
        raise _bad(
            name, "line 1 begins JSON that is nested too deeply or has numbers too long to read"
        ) from None
    recognised = dialects.read(data)
    if recognised is None:
        return None, False
    unit = 1.0 if recognised.in_seconds else _unit(recognised, duration_s)
    last = duration_s / unit if duration_s else None
    words: list[Word] = []
    dropped = timed = False
    for number, segment in enumerate(dialects.with_ends(recognised.segments(), last, unit)):
        if segment.get("broken"):
            raise _bad(name, f"segment {number + 1} is not an object")
        raw = list(dialects.with_ends(segment.get("words") or [], last, unit))
        timed = timed or any(_times(w) for w in raw)
        cue = None if segment.get("whole") else number
        segment_words = _segment_words(segment | {"words": raw}, cue, unit)
        if segment_words is None:
            raise _bad(name, f"segment {number + 1} has no times")
        dropped = dropped or (not segment_words and bool(_text(segment).strip()))
        words += segment_words
        if len(words) > bounds.MOST_WORDS:
            break
    words.sort(key=lambda w: w.start)
    check_words(words, name)
    language = named_language(recognised.language or "")
    flags = ("dropped_cues",) if dropped else ()
    return Transcript(tuple(with_neighbours(words)), "sidecar", language, flags), timed


def _loaded(text: str) -> object:
    """The value of JSON, or a list of those of JSON Lines.

    Raises: JSONDecodeError, RecursionError or ValueError.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg != "Extra data":
            raise
        try:
            return [json.loads(line) for line in text.split("\n") if line.strip()]
        except json.JSONDecodeError:
            raise error from None


def _unit(recognised: dialects.Recognised, duration_s: float | None) -> float:
    """What a file's times are in, as seconds: 0.001 if only milliseconds fit the recording and the text."""
    last, characters = 0.0, 0
    for segment in recognised.segments():
        words = segment.get("words") or []
        entries = [segment, *words]
        last = max(
            [last, *(t for e in entries for t in (_number(e.get("start")), _number(e.get("end"))) if t)]
        )
        characters += len(_text(segment)) or sum(len(_text(w)) for w in words)
    in_ms = last / 1000
    if not in_ms or characters / in_ms > FASTEST:
        return 1.0
    if duration_s is None:
        return 0.001 if characters / last < _SLOWEST and last > 1000 else 1.0
    fits_s, fits_ms = last <= 1.5 * duration_s + 5, in_ms <= 1.05 * duration_s + 5
    return 0.001 if fits_ms and not fits_s else 1.0


def with_neighbours(words: Sequence[Word]) -> list[Word]:
    """Words in time order; one without a speaker gets that of its segment, else of a neighbour close by."""
    out = list(words)
    if all(w.speaker is None for w in words) or all(w.speaker is not None for w in words):
        return out
    for within_segment in (True, False):
        before: int | None = None
        waiting: list[int] = []
        for i, word in enumerate([*out, None]):
            if word is not None and word.speaker is None:
                waiting.append(i)
                continue
            for k in waiting:
                near = [n for n in (before, i) if n is not None and n < len(out)]
                near = [n for n in near if _goes_with(out[k], out[n], within_segment)]
                if near:
                    nearest = min(near, key=partial(_gap, out, k))
                    out[k] = replace(out[k], speaker=out[nearest].speaker)
            before, waiting = i, []
    return out


def _goes_with(word: Word, other: Word, within_segment: bool) -> bool:
    if within_segment:
        return word.cue is not None and word.cue == other.cue
    return _gap((word, other), 0, 1) <= _NEIGHBOUR_S


def _gap(words: Sequence[Word], one: int, other: int) -> float:
    return max(words[one].start - words[other].end, words[other].start - words[one].end)


def parse_ctm(text: str, name: str = "the CTM file", recording: str | None = None) -> Transcript:
    """NIST CTM: ``file channel start duration word [confidence] [type] [speaker]`` a line.

    Of several files in it, the lines of ``recording`` (a name without folder and ending) are taken. Of
    alternatives, the first. Where no speakers are named but several channels are, each channel is one.

    Raises: RecordingError naming the line that is none, or if none of its files is the recording.
    """
    rows: list[tuple[str, str, Word]] = []
    alternative = 0  # 0 outside, 1 in the first, 2 in a later one
    for number, line in enumerate(text.split("\n"), start=1):
        fields = plain(line).split()
        if not fields or fields[0].startswith((";;", "#")):
            continue
        if len(fields) > 4 and fields[4].upper() in ("<ALT_BEGIN>", "<ALT>", "<ALT_END>"):
            alternative = {"<ALT_BEGIN>": 1, "<ALT>": 2, "<ALT_END>": 0}[fields[4].upper()]
            continue
        start, duration = (_number(f) for f in fields[2:4]) if 5 <= len(fields) <= 8 else (None, None)
        if start is None or duration is None or start < 0:
            raise _bad(name, f"line {number} is not 'file channel start duration word'")
        kind = fields[6].lower() if len(fields) > 6 else "lex"
        if alternative == 2 or kind in _NOT_SPEECH or fields[4].lower() in _NO_WORDS or duration < 0:
            continue
        confidence = _share(fields[5]) if len(fields) > 5 else None
        speaker = fields[7] if len(fields) > 7 and fields[7] not in _MISSING else None
        word = Word(round(start, 4), round(start + duration, 4), fields[4], speaker, confidence)
        rows.append((fields[0], fields[1], word))
        if len(rows) > bounds.MOST_WORDS:
            break
    files = {file for file, _, _ in rows}
    if len(files) > 1:
        if recording not in files:
            raise _bad(name, f"it has {len(files)} recordings and none is called {recording!r}")
        rows = [row for row in rows if row[0] == recording]
    channels = {channel for _, channel, _ in rows}
    words = [word for _, _, word in rows]
    if len(channels) > 1 and all(word.speaker is None for word in words):
        words = [Word(w.start, w.end, w.text, f"CHANNEL_{channel}", w.confidence) for _, channel, w in rows]
    words.sort(key=lambda w: w.start)
    check_words(words, name)
    return Transcript(tuple(with_neighbours(words)), "sidecar")


def _segment_words(segment: Mapping[str, Any], cue: int | None, unit: float) -> list[Word] | None:
    """Words of a segment, whose times are in units of so many seconds.

    None if nothing in it has times, empty if it ends before it begins.
    """
    speaker = _speaker(segment)
    timed = [w for w in _raw_words(segment) if isinstance(w, dict) and _text(w).strip()]
    raw = _joined(timed, _text(segment))
    spans = [t for t in map(_times, raw) if t]
    bounds = _times(segment)
    if bounds is None:
        if not spans:
            return None if _text(segment).strip() or raw else []
        bounds = spans[0][0], max(end for _, end in spans)
    if bounds[1] < bounds[0]:
        return []
    if not raw:
        parts = tokens(plain(_text(segment)))
        times = spread(bounds[0] * unit, bounds[1] * unit, parts)
        score = _share(segment.get("score"))
        return [Word(s, e, p, speaker, score, cue) for (s, e), p in zip(times, parts, strict=True)]
    words = []
    for entry, (start, end) in zip(raw, _filled([_times(w) for w in raw], raw, bounds), strict=True):
        parts = tokens(plain(_text(entry)))
        score = _share(entry.get("score"))
        word_speaker = _speaker(entry) or speaker
        for (s, e), part in zip(spread(start * unit, end * unit, parts), parts, strict=True):
            words.append(Word(s, e, part, word_speaker, score, cue))
    return words


def _joined(raw: Sequence[Mapping[str, Any]], text: str) -> list[Mapping[str, Any]]:
    """Entries that the segment's text writes without a space between them become one word.

    Whisper times Chinese or Japanese by the character, and a hyphenated word in its parts.
    """
    out: list[dict[str, Any]] = []
    text, at = " ".join(text.split()), 0
    for entry in raw:
        piece = _text(entry).strip()
        spaces = int(text[at : at + 1] == " ")
        follows = text.startswith(piece, at + spaces)
        glued = bool(out) and follows and not spaces and len(_text(out[-1])) < _LONGEST_WORD
        glued = glued and len(tokens(_text(out[-1]) + piece)) == 1
        if follows:
            at += spaces + len(piece)
        times, before = _times(entry), _times(out[-1]) if glued else None
        if glued and times and before and _speaker(entry) == _speaker(out[-1]):
            scores = [_share(w.get("score")) for w in (out[-1], entry)]
            numbers = [s for s in scores if s is not None]
            out[-1] |= {"word": _text(out[-1]) + piece, "end": max(before[1], times[1])}
            out[-1] |= {"score": min(numbers)} if numbers else {}
        else:
            out.append({**entry, "word": piece})
    return list(out)


def _filled(
    times: Sequence[tuple[float, float] | None], raw: Sequence[Mapping[str, Any]], bounds: tuple[float, float]
) -> list[tuple[float, float]]:
    """Words that alignment left without times share the time between their neighbours."""
    out: list[tuple[float, float]] = []
    i = 0
    while i < len(times):
        span = times[i]
        if span:
            out.append((span[0], max(span)))
            i += 1
            continue
        stop = next((j for j in range(i, len(times)) if times[j]), len(times))
        start = out[-1][1] if out else bounds[0]
        after = times[stop] if stop < len(times) else None
        end = max(start, after[0] if after else bounds[1])
        out += spread(start, end, [_text(w).strip() for w in raw[i:stop]])
        i = stop
    return out


def _raw_words(segment: Mapping[str, Any]) -> list[Any]:
    words = segment.get("words")
    return words if isinstance(words, list) else []


def _text(entry: Mapping[str, Any]) -> str:
    text = entry.get("word", entry.get("text"))
    return text if isinstance(text, str) else ""


def _speaker(entry: Mapping[str, Any]) -> str | None:
    speaker = entry.get("speaker")
    return " ".join(plain(speaker).split()) or None if isinstance(speaker, str) else None


def _times(entry: object) -> tuple[float, float] | None:
    if not isinstance(entry, dict):
        return None
    start, end = _number(entry.get("start")), _number(entry.get("end"))
    return (max(0.0, start), max(0.0, end)) if start is not None and end is not None else None


def _number(value: object) -> float | None:
    """A finite number of a size that a time in seconds or milliseconds can have, else None."""
    read = dialects.number(value)
    return read if read is not None and abs(read) < 1e9 else None


def _share(value: object) -> float | None:
    number = _number(value)
    return None if number is None else min(1.0, max(0.0, number))


def _bad(name: str, what: str) -> RecordingError:
    return RecordingError(
        "transcribe",
        "bad_subtitles",
        f"{name} is not the transcript that its ending says: {what}. Mend or remove it.",
    )
