"""JSON of recognisers and their services, in the form of Whisper's: segments, perhaps with words.

    whisper, WhisperX, faster-whisper, OpenAI  ``segments``, perhaps ``words`` beside or inside them
    whisper.cpp                                ``transcription`` with ``offsets`` in milliseconds
    transformers, insanely-fast-whisper        ``chunks``, else ``speakers``, with ``timestamp``
    AssemblyAI                                 ``utterances`` and ``words`` in milliseconds
    Deepgram                                   ``results``: ``utterances``, else ``channels``
    Google Speech-to-Text (v1, v2)             ``results``: ``alternatives`` with ``words``
    Amazon Transcribe, Speechmatics            items with ``alternatives``, punctuation apart
    Azure (batch, fast, SDK, Video Indexer)    ``recognizedPhrases``, ``phrases``, ``NBest``, ``insights``
    Rev, Vosk, and lists of any of these       ``monologues``, ``result``

The readers make a segment when it is asked for, so that a large file isn't in memory twice. Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Entry = dict[str, Any]

_TICKS_S = 1e-7  # Azure counts in units of 100 ns
_STARTS = ("start", "start_time", "startTime", "startOffset", "start_offset", "begin", "from", "ts")
_ENDS = ("end", "end_time", "endTime", "endOffset", "end_offset", "stop", "to", "end_ts")
_TEXTS = ("text", "transcript", "punctuated_word", "word", "content", "utterance", "sentence", "value")
_SPEAKERS = ("speaker", "speaker_label", "speakerLabel", "speaker_id", "speakerId", "speakerTag", "spk")
_SCORES = ("score", "probability", "confidence", "conf", "p")
_ISO = re.compile(r"PT(?:(\d{1,6})H)?(?:(\d{1,6})M)?(?:(\d{1,9}(?:\.\d{1,9})?)S)?", re.ASCII)
_CLOCK = re.compile(r"(?:(\d{1,6}):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,9}))?", re.ASCII)
_SPEED_S = 0.067  # of a character, where an end is missing: 15 a second
_WRAPPINGS = 4  # objects around a transcript
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


def read(data: object, depth: int = 0) -> Recognised | None:
    """The transcript in a JSON value; None if it is none of the known kinds."""
    if isinstance(data, list):
        return _read_list(data, depth)
    if not isinstance(data, dict) or depth > _WRAPPINGS:
        return None
    for reader in (
        _whisper_cpp,
        _chunks,
        _deepgram,
        _google,
        _items,
        _azure,
        _indexer,
        _rev,
        _vosk,
        _segments,
    ):
        found = reader(data)
        if found is not None:
            return found
    for key in ("response", "result", "results", "output", "data"):  # wrapped, as operations and tasks are
        inner = data.get(key)
        if isinstance(inner, (dict, list)) and inner and (found := read(inner, depth + 1)):
            return found
    return None


def _read_list(data: list[Any], depth: int) -> Recognised | None:
    """A bare list: of segments, of words, or of answers of a recogniser."""
    if any(_is_timed(item) for item in data):
        if all(not isinstance(i, dict) or ("word" in i and "words" not in i) for i in data):
            return Recognised(lambda: iter([_whole(map(_word, _dicts(data)))]))
        return Recognised(lambda: _plain_segments(data))
    parts = [found for item in data if isinstance(item, dict) and (found := read(item, depth + 1))]
    if not parts:
        return None
    language = next((p.language for p in parts if p.language), None)
    in_seconds = all(p.in_seconds for p in parts)
    return Recognised(lambda: (s for p in parts for s in p.segments()), language, in_seconds)


def _segments(data: Entry) -> Recognised | None:
    """``segments``, ``utterances`` or ``words`` at the top, as most write it."""
    lists = [key for key in ("segments", "utterances", "transcript", "sentences") if _has_text(data.get(key))]
    words = next((_list(data.get(k)) for k in ("words", "word_segments") if _is_timed_list(data.get(k))), [])
    language = _string(data, "language", "language_code", "detected_language")
    if lists:
        listed = _list(data[lists[0]])
        if words and not any(isinstance(s, dict) and s.get("words") for s in listed):
            return Recognised(lambda: _with_words(listed, words), language)
        return Recognised(lambda: _plain_segments(listed), language)
    if words:
        text = _string(data, "text", "transcript") or ""
        return Recognised(lambda: iter([_whole(map(_word, _dicts(words)), text)]), language)
    return None


def _plain_segments(listed: Sequence[Any]) -> Iterator[Entry]:
    for item in listed:
        if not isinstance(item, dict):
            yield {"broken": True}
            continue
        words = item.get("words")
        yield _plain(item) | {"words": [_word(w) for w in _dicts(words)] if isinstance(words, list) else []}


def _with_words(listed: Sequence[Any], words: Sequence[Any]) -> Iterator[Entry]:
    """Segments with the words that lie in them, which OpenAI lists apart and without punctuation."""
    at = 0
    plain_words = [_word(w) for w in _dicts(words)]
    for segment in _plain_segments(listed):
        mine: list[Entry] = []
        end = segment.get("end")
        while at < len(plain_words) and end is not None:
            start, stop = plain_words[at].get("start"), plain_words[at].get("end")
            middle = (start + stop) / 2 if start is not None and stop is not None else start
            if middle is not None and middle > end:
                break
            mine.append(plain_words[at])
            at += 1
        yield segment | {"words": _punctuated(mine, segment.get("text") or "")}


def _whisper_cpp(data: Entry) -> Recognised | None:
    listed = data.get("transcription")
    if not isinstance(listed, list) or not any(isinstance(i, dict) and _pair(i, "offsets") for i in listed):
        return None
    result = data.get("result")

    def segments() -> Iterator[Entry]:
        for item in _dicts(listed):
            start, end = _pair(item, "offsets") or (None, None)
            text = _string(item, "text") or ""
            tokens = _dicts(item.get("tokens"))
            words = []
            for token in tokens:
                piece = _string(token, "text") or ""
                if not piece.startswith("[_") and (times := _pair(token, "offsets")):
                    words.append(_timed(piece, *times, 1000) | {"score": token.get("p")})
            if any("\ufffd" in w["word"] for w in words):
                words = []  # characters cut into bytes
            yield _timed(text, start, end, 1000) | {"words": words, "speaker": _speaker(item)}

    return Recognised(segments, _string(result if isinstance(result, dict) else {}, "language"), True)


def _chunks(data: Entry) -> Recognised | None:
    spoken = data.get("speakers")
    listed = (
        spoken if _has_text(spoken) and any("timestamp" in s for s in _dicts(spoken)) else data.get("chunks")
    )
    if not isinstance(listed, list) or not any("timestamp" in item for item in _dicts(listed)):
        return None
    texts = [t for t in (_string(item, "text") for item in _dicts(listed)) if t and t.strip()]
    of_words = len(texts) > 1 and listed is not spoken and all(" " not in t.strip() for t in texts)
    # Scripts without spaces have none in a sentence either.
    of_words = of_words and sum(map(len, texts)) < (12 if "".join(texts).isascii() else 5) * len(texts)
    language = _string(data, "language")
    if of_words:
        text = _string(data, "text") or ""
        return Recognised(lambda: iter([_whole(map(_word, _dicts(listed)), text)]), language)
    return Recognised(lambda: map(_plain, _dicts(listed)), language)


def _deepgram(data: Entry) -> Recognised | None:
    results = data.get("results")
    if not isinstance(results, dict) or not isinstance(results.get("channels"), list):
        return None
    channels = _dicts(results["channels"])
    utterances = _dicts(results.get("utterances"))
    several = len(channels) > 1
    language = next((told for c in channels if (told := _string(c, "detected_language", "language"))), None)

    def segments() -> Iterator[Entry]:
        for item in utterances:
            words = [_word(w) for w in _dicts(item.get("words"))]
            speaker = _speaker(item)
            channel = item.get("channel")
            if isinstance(channel, list):
                channel = channel[0] if channel else None
            if several:
                speaker = _channel(channel, speaker)
                words = [w | {"speaker": speaker} for w in words]
            yield _plain(item) | {"words": words, "speaker": speaker}
        for number, channel in enumerate([] if utterances else channels):
            for best in _dicts(channel.get("alternatives"))[:1]:
                words = [_word(w) for w in _dicts(best.get("words"))]
                words = [w | {"speaker": _channel(number, w["speaker"])} for w in words] if several else words
                yield _whole(words)

    if not any(s["words"] or s["text"] for s in segments()):
        return None
    return Recognised(segments, language, True)


def _google(data: Entry) -> Recognised | None:
    results = _dicts(data.get("results"))
    # Amazon's and Speechmatics' items have alternatives too, with a type.
    results = [r for r in results if _dicts(r.get("alternatives")) and "type" not in r]
    if not results:
        return None
    bests = [_dicts(r["alternatives"])[0] for r in results]
    language = next((t for r in results if (t := _string(r, "languageCode", "language_code"))), None)
    last = _dicts(bests[-1].get("words"))
    # With diarization, the last answer repeats all words with their speakers.
    if len(bests) > 1 and any(_speaker(w) for w in last):
        before = sum(len(_dicts(b.get("words"))) for b in bests[:-1])
        if len(last) >= before and not any(_speaker(w) for b in bests[:-1] for w in _dicts(b.get("words"))):
            return Recognised(lambda: iter([_whole(map(_word, last))]), language, True)

    def segments() -> Iterator[Entry]:
        begin = 0.0
        for result, best in zip(results, bests, strict=True):
            end = _seconds(
                result.get("resultEndTime", result.get("resultEndOffset", result.get("result_end_time")))
            )
            words = [_word(w) for w in _dicts(best.get("words"))]
            channel = result.get("channelTag")
            speaker = _channel(channel, None) if isinstance(channel, int) and channel else None
            text = _string(best, "transcript") or ""
            first = next((w["start"] for w in words if w["start"] is not None), begin)
            yield _timed(text, first, end, 1) | {"words": words, "speaker": speaker, "score": _score(best)}
            begin = end if end is not None else begin

    return Recognised(segments, language, True)


def _items(data: Entry) -> Recognised | None:
    """Amazon Transcribe and Speechmatics: words and punctuation in one list."""
    results = data.get("results")
    inside = results if isinstance(results, dict) else {}
    listed = _dicts(inside.get("items")) or _dicts(results)
    listed = [i for i in listed if "type" in i and _dicts(i.get("alternatives"))]
    if not listed:
        return None
    labels = inside.get("speaker_labels")
    turns = _dicts(labels.get("segments")) if isinstance(labels, dict) else []
    speakers = {i.get("start_time"): _speaker(i) for t in turns for i in _dicts(t.get("items"))}
    channels = inside.get("channel_labels")
    by_channel = _dicts(channels.get("channels")) if isinstance(channels, dict) else []
    metadata = data.get("metadata")
    language = _string(inside, "language_code") or _string(
        metadata.get("transcription_config", {}) if isinstance(metadata, dict) else {}, "language"
    )

    def words(items: Iterable[Entry], channel: object = None) -> list[Entry]:
        out: list[Entry] = []
        for item in items:
            best = next(iter(_dicts(item.get("alternatives"))), {})
            content = _string(best, "content") or ""
            if item.get("type") in ("punctuation",):
                if out and len(content) < 4:
                    out[-1]["word"] += content
                continue
            speaker = _speaker(item) or _speaker(best) or speakers.get(item.get("start_time"))
            speaker = _channel(channel, None) if channel is not None else speaker
            times = _seconds(item.get("start_time")), _seconds(item.get("end_time"))
            out.append(_timed(content, *times, 1) | {"speaker": speaker, "score": _score(best)})
        return out

    def segments() -> Iterator[Entry]:
        if len(by_channel) > 1:
            for channel in by_channel:
                yield _whole(words(_dicts(channel.get("items")), channel.get("channel_label")))
        else:
            yield _whole(words(listed))

    return Recognised(segments, language, True)


def _azure(data: Entry) -> Recognised | None:
    """Batch and fast transcription, and what the SDK gives in detail, one answer or a list of them."""
    phrases = _dicts(data.get("recognizedPhrases")) or _dicts(data.get("phrases"))
    if not phrases and _azure_time(data, "offset") is not None and ("NBest" in data or "DisplayText" in data):
        phrases = [data]
    phrases = [p for p in phrases if _azure_time(p, "offset") is not None]
    if not phrases:
        return None
    several = len({str(p.get("channel")) for p in phrases}) > 1
    language = next((t for p in phrases if (t := _string(p, "locale"))), None) or _string(data, "locale")

    def segments() -> Iterator[Entry]:
        for phrase in phrases:
            best = next(iter(_dicts(phrase.get("nBest") or phrase.get("NBest"))), phrase)
            text = _string(best, "display", "Display", "text", "DisplayText", "lexical", "Lexical") or ""
            listed = next((k for k in ("displayWords", "words", "Words") if _dicts(best.get(k))), "words")
            words = [
                _azure_span(w, _string(w, "displayText", "word", "Word", "text") or "")
                for w in _dicts(best.get(listed))
            ]
            speaker = _speaker(phrase)
            if several:
                speaker = _channel(phrase.get("channel"), speaker)
            segment = _azure_span(phrase, text) | {"score": best.get("confidence", best.get("Confidence"))}
            yield segment | {"speaker": speaker, "words": _punctuated(words, text)}

    return Recognised(segments, language, True)


def _azure_span(item: Entry, text: str) -> Entry:
    start, duration = _azure_time(item, "offset"), _azure_time(item, "duration")
    end = start + duration if start is not None and duration is not None else None
    return _timed(text, start, end, 1) | {"score": item.get("confidence")}


def _azure_time(item: Entry, name: str) -> float | None:
    """Seconds of an offset or a duration, whichever of its units is there."""
    for key, unit in ((f"{name}InTicks", _TICKS_S), (f"{name}Milliseconds", 1e-3), (name.title(), _TICKS_S)):
        value = _number(item.get(key))
        if value is not None:
            return value * unit
    value = item.get(name)
    return _seconds(value) if isinstance(value, str) else None


def _indexer(data: Entry) -> Recognised | None:
    """Azure's Video Indexer."""
    listed: list[Entry] = []
    for video in _dicts(data.get("videos")):
        insights = video.get("insights")
        listed += _dicts(insights.get("transcript")) if isinstance(insights, dict) else []
    if not any(_dicts(item.get("instances")) for item in listed):
        return None
    language = next((t for item in listed if (t := _string(item, "language"))), None)
    return Recognised(
        lambda: (
            _plain(item) | _plain_times(i) for item in listed for i in _dicts(item.get("instances"))[:1]
        ),
        language,
        True,
    )


def _rev(data: Entry) -> Recognised | None:
    monologues = _dicts(data.get("monologues"))
    if not any(_dicts(m.get("elements")) for m in monologues):
        return None

    def segments() -> Iterator[Entry]:
        for monologue in monologues:
            words: list[Entry] = []
            for element in _dicts(monologue.get("elements")):
                if element.get("type") == "text":
                    words.append(_word(element))
                elif words:
                    words[-1]["word"] += (_string(element, "value") or "").strip()
            yield _whole(words) | {"speaker": _speaker(monologue), "whole": False}

    return Recognised(segments, None, True)


def _vosk(data: Entry) -> Recognised | None:
    words = data.get("result")
    if not _is_timed_list(words):
        return None
    return Recognised(lambda: iter([_whole(map(_word, _dicts(words))) | {"whole": False}]), None, True)


# One entry


def _plain(item: Entry) -> Entry:
    return _plain_times(item) | {
        "text": _string(item, *_TEXTS) or "",
        "speaker": _speaker(item),
        "score": _score(item),
        "words": [],
    }


def _word(item: Entry) -> Entry:
    text = _string(item, "punctuated_word", "word", *_TEXTS) or ""
    return _plain_times(item) | {"word": text, "speaker": _speaker(item), "score": _score(item)}


def _plain_times(item: Entry) -> Entry:
    if isinstance(item.get("timestamp"), list):
        start, end = _pair(item, "timestamp") or (None, None)
    else:
        start = next((_seconds(item[k]) for k in _STARTS if k in item), None)
        end = next((_seconds(item[k]) for k in _ENDS if k in item), None)
    return {"start": start, "end": end}


def _timed(text: str, start: float | None, end: float | None, units: float) -> Entry:
    """A segment or a word at times that are so many units to the second."""
    start, end = (None if t is None else t / units for t in (start, end))
    return {"text": text, "word": text, "start": start, "end": end, "speaker": None, "words": []}


def _whole(words: Iterable[Entry], text: str = "") -> Entry:
    """All words of a file that knows no segments."""
    listed = list(words)
    return {"start": None, "end": None, "text": text, "words": _punctuated(listed, text), "whole": True}


def _punctuated(words: list[Entry], text: str) -> list[Entry]:
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


def _speaker(item: Mapping[str, Any]) -> str | None:
    for key in _SPEAKERS:
        value = item.get(key)
        if isinstance(value, bool) or value is None or (key == "speakerTag" and value == 0):
            continue
        if isinstance(value, int):
            return f"SPEAKER_{value:02d}" if 0 <= value < 10_000 else None
        if isinstance(value, str) and value.strip():
            return value
    return None


def _channel(channel: object, speaker: object) -> str:
    name = str(channel) if isinstance(channel, (int, str)) and str(channel).strip() else "0"
    return f"CHANNEL_{name[:60]}" + (f"_{speaker}" if isinstance(speaker, str) else "")


def _score(item: Entry) -> object:
    return next((item[key] for key in _SCORES if key in item), None)


def _string(item: Mapping[str, Any], *keys: str) -> str | None:
    return next((v for k in keys if isinstance(v := item.get(k), str)), None)


def _dicts(value: object) -> list[Entry]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _has_text(value: object) -> bool:
    """Whether it is a list of segments."""
    return any(_string(i, *_TEXTS) is not None or isinstance(i.get("words"), list) for i in _dicts(value))


def _is_timed(item: object) -> bool:
    if not isinstance(item, dict) or _string(item, *_TEXTS) is None:
        return False
    times = _plain_times(item)
    return times["start"] is not None or times["end"] is not None


def _is_timed_list(value: object) -> bool:
    return isinstance(value, list) and any(map(_is_timed, value))


def _pair(item: Entry, key: str) -> tuple[float | None, float | None] | None:
    """Start and end in a list of two or in ``from`` and ``to``; None if it has neither."""
    value = item.get(key)
    if isinstance(value, dict):
        value = [value.get("from"), value.get("to")]
    if not isinstance(value, list) or len(value) != 2:
        return None
    start, end = _seconds(value[0]), _seconds(value[1])
    return None if start is None and end is None else (start, end)


def _seconds(value: object) -> float | None:
    """A time as services write it: a number, ``1.4s``, ``PT1.4S``, ``0:00:01.4``, seconds and nanos."""
    if isinstance(value, dict):
        whole, nanos = _number(value.get("seconds", 0)), _number(value.get("nanos", 0))
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
    return _number(value)


def _number(value: object) -> float | None:
    """A finite number of a size that a time can have, else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and abs(number) < 1e15 else None
