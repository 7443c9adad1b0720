"""A transcript in JSON, and one segment or word of it: what fields are called, how times are written."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

Entry = dict[str, Any]

_STARTS = (
    "start",
    "start_time",
    "startTime",
    "startOffset",
    "start_offset",
    "begin",
    "from",
    "ts",
    "data_start",
)
_ENDS = ("end", "end_time", "endTime", "endOffset", "end_offset", "stop", "to", "end_ts", "data_end")
TEXTS = ("text", "transcript", "punctuated_word", "word", "content", "utterance", "sentence", "value", "body")
_SPEAKERS = (
    "speaker_name",
    "speakerName",
    "speaker",
    "speaker_label",
    "speakerLabel",
    "speaker_id",
    "speakerId",
    "speakerTag",
    "spk",
)
_IDS = ("id", "speaker_id", "speakerId", "speaker", "label", "tag", "index")
_NAMES = ("name", "speaker_name", "speakerName", "display_name", "displayName", "full_name", "fullName")
_SCORES = ("score", "probability", "confidence", "conf", "p")
_ISO = re.compile(r"PT(?:(\d{1,6})H)?(?:(\d{1,6})M)?(?:(\d{1,9}(?:\.\d{1,9})?)S)?", re.ASCII)
_CLOCK = re.compile(r"(?:(\d{1,6}):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,9}))?", re.ASCII)
_SPEED_S = 0.067  # of a character, where an end is missing: 15 a second
_LOOK_AHEAD = 5  # words of the text that the list of words may lack


@dataclass(frozen=True)
class Recognised:
    """A transcript in JSON as read.

    Args:
        segments: gives them anew each time: ``start``, ``end``, ``text``, ``speaker`` and ``words``
            (``word``, ``start``, ``end``, ``speaker``, ``score``); ``whole`` where words came without them.
        language: as the file calls it.
        in_seconds: the times are seconds; else they may be milliseconds.
    """

    segments: Callable[[], Iterator[Entry]]
    language: str | None = None
    in_seconds: bool = False


def plain(item: Entry) -> Entry:
    return plain_times(item) | {
        "text": string(item, *TEXTS) or "",
        "speaker": speaker(item),
        "score": score(item),
        "words": [],
    }


def word(item: Entry) -> Entry:
    text = string(item, "punctuated_word", "word", *TEXTS) or ""
    return plain_times(item) | {"word": text, "speaker": speaker(item), "score": score(item)}


def plain_times(item: Entry) -> Entry:
    if isinstance(item.get("timestamp"), list):
        start, end = pair(item, "timestamp") or (None, None)
    else:
        start = next((seconds(item[k]) for k in _STARTS if k in item), None)
        end = next((seconds(item[k]) for k in _ENDS if k in item), None)
        if start is not None and end is None and (length := number(item.get("duration"))) is not None:
            end = start + length
        for_ms = number(item.get("start_ms")), number(item.get("end_ms"))
        if start is None and for_ms[0] is not None:
            start, end = for_ms[0] / 1000, None if for_ms[1] is None else for_ms[1] / 1000
    return {"start": start, "end": end}


def timed(text: str, start: float | None, end: float | None, units: float) -> Entry:
    """A segment or a word at times that are so many units to the second."""
    start, end = (None if t is None else t / units for t in (start, end))
    return {"text": text, "word": text, "start": start, "end": end, "speaker": None, "words": []}


def whole(words: Iterable[Entry], text: str = "") -> Entry:
    """All words of a file that knows no segments."""
    listed = list(words)
    return {"start": None, "end": None, "text": text, "words": punctuated(listed, text), "whole": True}


def punctuated(words: list[Entry], text: str) -> list[Entry]:
    """Words as the text writes them, with capitals and punctuation, where their list has none."""
    if any(re.search(r"[.,?!]$", (w["word"] or "").strip()) for w in words):
        return words
    written, at = text.split(), 0
    for word in words:
        bare = _bare(word["word"])
        for k in range(at, min(at + _LOOK_AHEAD, len(written))):
            if bare and _bare(written[k]) == bare:
                word["word"], at = written[k], k + 1
                break
    return words


def _bare(word: str) -> str:
    return "".join(filter(str.isalnum, word)).casefold()


def with_ends(entries: Iterable[Entry], last: float | None, unit: float) -> Iterator[Entry]:
    """Segments or words; an end that is missing is the next one's start, or what the text takes to say.

    Args:
        last: where the recording ends, in the file's unit of so many seconds.
    """
    before: Entry | None = None
    for entry in entries:
        if before is not None:
            yield _with_end(before, entry.get("start"), last, unit)
        before = entry
    if before is not None:
        yield _with_end(before, None, last, unit)


def _with_end(entry: Entry, following: float | None, last: float | None, unit: float) -> Entry:
    start = entry.get("start")
    if start is None or entry.get("end") is not None:
        return entry
    length = len(entry.get("text") or entry.get("word") or "")
    takes = (0.5 + _SPEED_S * length) / unit
    bounds = [start + takes, *(t for t in (following, last) if t is not None and t > start)]
    return entry | {"end": min(bounds)}


def speaker(item: Mapping[str, Any]) -> str | None:
    for key in _SPEAKERS:
        value = item.get(key)
        if isinstance(value, dict):  # an object of its own: its name, else its number
            value = next((value[k] for k in ("name", "label", "id") if value.get(k) is not None), None)
        if isinstance(value, bool) or value is None or (key == "speakerTag" and value == 0):
            continue
        if isinstance(value, int):
            return f"SPEAKER_{value:02d}" if 0 <= value < 10_000 else None
        if isinstance(value, str) and value.strip():
            return value
    return None


def names(value: object) -> dict[str, str]:
    """Names of speakers by what segments call them, in a table of ids and names; empty if it is none.

    A name that two of them have would make one of two people: those keep their ids.
    """
    if isinstance(value, dict):  # {"S1": "Anna"} or {"S1": {"name": "Anna"}}
        pairs = [(key, _named(one) if isinstance(one, dict) else one) for key, one in value.items()]
    else:
        pairs = [(next((i[k] for k in _IDS if i.get(k) is not None), None), _named(i)) for i in dicts(value)]
    strings = [(key, name) for key, name in pairs if isinstance(name, str) and name.strip()]
    times = Counter(name for _, name in strings)
    name_by_id: dict[str, str] = {}
    for key, name in strings:
        if times[name] == 1 and isinstance(key, (int, str)) and not isinstance(key, bool):
            name_by_id[str(key).strip()] = name
            if str(key).isdecimal() and (numbered := speaker({"speaker": int(key)})):
                name_by_id[numbered] = name  # a number, of which segments may make text or not
    return name_by_id


def _named(item: Entry) -> str | None:
    return string(item, *_NAMES)


def with_names(recognised: Recognised, names: Mapping[str, str]) -> Recognised:
    """The same, its speakers called by their names where those are known."""

    def named(item: Entry) -> Entry:
        identifier = item.get("speaker")
        name = names.get(identifier.strip()) if isinstance(identifier, str) else None
        return item if name is None else item | {"speaker": name}

    def segments() -> Iterator[Entry]:
        for segment in recognised.segments():
            words = segment.get("words")
            named_words = {"words": [named(w) for w in words]} if isinstance(words, list) else {}
            yield named(segment) | named_words

    return replace(recognised, segments=segments) if names else recognised


def channel(channel: object, speaker: object) -> str:
    name = str(channel) if isinstance(channel, (int, str)) and str(channel).strip() else "0"
    return f"CHANNEL_{name[:60]}" + (f"_{speaker}" if isinstance(speaker, str) else "")


def score(item: Entry) -> object:
    return next((item[key] for key in _SCORES if key in item), None)


def string(item: Mapping[str, Any], *keys: str) -> str | None:
    return next((v for k in keys if isinstance(v := item.get(k), str)), None)


def dicts(value: object) -> list[Entry]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def has_text(value: object) -> bool:
    """Whether it is a list of segments."""
    return any(string(i, *TEXTS) is not None or isinstance(i.get("words"), list) for i in dicts(value))


def is_timed(item: object) -> bool:
    if not isinstance(item, dict) or string(item, *TEXTS) is None:
        return False
    times = plain_times(item)
    return times["start"] is not None or times["end"] is not None


def is_timed_list(value: object) -> bool:
    return isinstance(value, list) and any(map(is_timed, value))


def pair(item: Entry, key: str) -> tuple[float | None, float | None] | None:
    """Start and end in a list of two or in ``from`` and ``to``; None if it has neither."""
    value = item.get(key)
    if isinstance(value, dict):
        value = [value.get("from"), value.get("to")]
    if not isinstance(value, list) or len(value) != 2:
        return None
    start, end = seconds(value[0]), seconds(value[1])
    return None if start is None and end is None else (start, end)


def seconds(value: object) -> float | None:
    """A time as services write it: a number, ``1.4s``, ``PT1.4S``, ``0:00:01.4``, seconds and nanos."""
    if isinstance(value, dict):
        whole, nanos = number(value.get("seconds", 0)), number(value.get("nanos", 0))
        return None if whole is None or nanos is None else whole + nanos * 1e-9
    if isinstance(value, str):
        value = value.strip()
        if match := _ISO.fullmatch(value):
            hours, minutes, seconds = (float(part or 0) for part in match.groups())
            return hours * 3600 + minutes * 60 + seconds
        if match := _CLOCK.fullmatch(value):
            whole_s = int(match[1] or 0) * 3600 + int(match[2]) * 60 + int(match[3])
            return whole_s + float(f"0.{match[4] or 0}")
        value = value.removesuffix("s")
    return number(value)


def number(value: object) -> float | None:
    """A finite number of a size that a time can have, else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and abs(number) < 1e15 else None
