"""JSON of recognisers and their services, in the form of Whisper's: segments, perhaps with words.

    whisper, WhisperX, faster-whisper, OpenAI  ``segments``, perhaps ``words`` beside or inside them
    whisper.cpp                                ``transcription`` with ``offsets`` in milliseconds
    transformers, insanely-fast-whisper        ``chunks``, else ``speakers``, with ``timestamp``
    AssemblyAI                                 ``utterances`` and ``words`` in milliseconds
    Deepgram                                   ``results``: ``utterances``, else ``channels``
    Google Speech-to-Text (v1, v2)             ``results``: ``alternatives`` with ``words``
    Amazon Transcribe, Speechmatics            items with ``alternatives``, punctuation apart
    Azure (batch, fast, SDK, Video Indexer)    ``recognizedPhrases``, ``phrases``, ``NBest``, ``insights``
    YouTube (json3)                            ``events`` with ``segs``
    pyannoteAI, Soniox, NeMo                   ``turnLevelTranscription``, ``tokens``, ``timestamp``
    Rev, Vosk, and lists of any of these       ``monologues``, ``result``

The readers make a segment when it is asked for, so that a large file isn't in memory twice. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from . import entries
from .entries import Entry, Recognised, number, with_ends

__all__ = ["Recognised", "number", "read", "with_ends"]

_TICKS_S = 1e-7  # Azure counts in units of 100 ns
# What operations, tasks and services wrap a transcript in.
_WRAPPERS = ("response", "result", "results", "output", "data", "transcription", "transcript")
_SEGMENTS = ("segments", "utterances", "transcript", "sentences", "turnLevelTranscription")
_WORDS = ("words", "word_segments", "wordLevelTranscription", "word_timestamps", "tokens")
_TABLES = ("speakers", "participants", "speaker_names", "speakerNames")  # of speakers, with ids and names
_WRAPPINGS = 4  # objects around a transcript


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
        _youtube,
        _segments,
    ):
        recognised = reader(data)
        if recognised is not None:
            return _named(recognised, data)
    for key in _WRAPPERS:
        inner = data.get(key)
        if isinstance(inner, (dict, list)) and inner and (recognised := read(inner, depth + 1)):
            return _named(recognised, data)
    return None


def _named(recognised: Recognised, data: Entry) -> Recognised:
    """The same, its speakers called as a table beside it calls them."""
    tables = map(entries.names, (data.get(key) for key in _TABLES))
    return entries.with_names(recognised, next((names for names in tables if names), {}))


def _read_list(data: list[Any], depth: int) -> Recognised | None:
    """A bare list: of segments, of words, or of answers of a recogniser."""
    if any(entries.is_timed(item) for item in data):
        if all(not isinstance(i, dict) or ("word" in i and "words" not in i) for i in data):
            return Recognised(lambda: iter([entries.whole(map(entries.word, entries.dicts(data)))]))
        return Recognised(lambda: _plain_segments(data))
    parts = [answer for item in data if isinstance(item, dict) and (answer := read(item, depth + 1))]
    if not parts:
        return None
    language = next((p.language for p in parts if p.language), None)
    in_seconds = all(p.in_seconds for p in parts)
    return Recognised(lambda: (s for p in parts for s in p.segments()), language, in_seconds)


def _segments(data: Entry) -> Recognised | None:
    """``segments``, ``utterances`` or ``words`` at the top, as most write it."""
    lists = [key for key in _SEGMENTS if entries.has_text(data.get(key))]
    if isinstance(stamps := data.get("timestamp"), dict):  # NeMo's
        data = data | {"words": stamps.get("word")}
    words = next((entries.listed(data.get(k)) for k in _WORDS if entries.is_timed_list(data.get(k))), [])
    language = entries.string(data, "language", "language_code", "detected_language")
    if language is None and len(several := entries.listed(data.get("languages"))) == 1:
        language = entries.string({"language": several[0]}, "language")
    if lists:
        listed = entries.listed(data[lists[0]])
        if words and not any(isinstance(s, dict) and s.get("words") for s in listed):
            return Recognised(lambda: _with_words(listed, words), language)
        return Recognised(lambda: _plain_segments(listed), language)
    if words:
        text = entries.string(data, "text", "transcript") or ""
        speaker = {"speaker": entries.speaker(data)}
        return Recognised(
            lambda: iter([entries.whole(map(entries.word, entries.dicts(words)), text) | speaker]), language
        )
    return None


def _plain_segments(listed: Sequence[Any]) -> Iterator[Entry]:
    for item in listed:
        if not isinstance(item, dict):
            yield {"broken": True}
            continue
        words = item.get("words")
        yield entries.plain(item) | {
            "words": [entries.word(w) for w in entries.dicts(words)] if isinstance(words, list) else []
        }


def _with_words(listed: Sequence[Any], words: Sequence[Any]) -> Iterator[Entry]:
    """Segments with the words that lie in them, which OpenAI lists apart and without punctuation."""
    at = 0
    plain_words = [entries.word(w) for w in entries.dicts(words)]
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
        yield segment | {"words": entries.punctuated(mine, segment.get("text") or "")}


def _whisper_cpp(data: Entry) -> Recognised | None:
    listed = data.get("transcription")
    if not isinstance(listed, list) or not any(
        isinstance(i, dict) and entries.pair(i, "offsets") for i in listed
    ):
        return None
    result = data.get("result")

    def segments() -> Iterator[Entry]:
        for item in entries.dicts(listed):
            start, end = entries.pair(item, "offsets") or (None, None)
            text = entries.string(item, "text") or ""
            tokens = entries.dicts(item.get("tokens"))
            words = []
            for token in tokens:
                piece = entries.string(token, "text") or ""
                if not piece.startswith("[_") and (times := entries.pair(token, "offsets")):
                    words.append(entries.timed(piece, *times, 1000) | {"score": token.get("p")})
            if any("\ufffd" in w["word"] for w in words):
                words = []  # characters cut into bytes
            yield entries.timed(text, start, end, 1000) | {"words": words, "speaker": entries.speaker(item)}

    return Recognised(segments, entries.string(result if isinstance(result, dict) else {}, "language"), True)


def _chunks(data: Entry) -> Recognised | None:
    spoken = data.get("speakers")
    listed = (
        spoken
        if entries.has_text(spoken) and any("timestamp" in s for s in entries.dicts(spoken))
        else data.get("chunks")
    )
    if not isinstance(listed, list) or not any("timestamp" in item for item in entries.dicts(listed)):
        return None
    texts = [t for t in (entries.string(item, "text") for item in entries.dicts(listed)) if t and t.strip()]
    of_words = len(texts) > 1 and listed is not spoken and all(" " not in t.strip() for t in texts)
    # Scripts without spaces have none in a sentence either.
    of_words = of_words and sum(map(len, texts)) < (12 if "".join(texts).isascii() else 5) * len(texts)
    language = entries.string(data, "language")
    if of_words:
        text = entries.string(data, "text") or ""
        return Recognised(
            lambda: iter([entries.whole(map(entries.word, entries.dicts(listed)), text)]), language
        )
    return Recognised(lambda: map(entries.plain, entries.dicts(listed)), language)


def _deepgram(data: Entry) -> Recognised | None:
    results = data.get("results")
    if not isinstance(results, dict) or not isinstance(results.get("channels"), list):
        return None
    channels = entries.dicts(results["channels"])
    utterances = entries.dicts(results.get("utterances"))
    several = len(channels) > 1
    language = next(
        (name for c in channels if (name := entries.string(c, "detected_language", "language"))), None
    )

    def segments() -> Iterator[Entry]:
        for item in utterances:
            words = [entries.word(w) for w in entries.dicts(item.get("words"))]
            speaker = entries.speaker(item)
            channel = item.get("channel")
            if isinstance(channel, list):
                channel = channel[0] if channel else None
            if several:
                speaker = entries.channel(channel, speaker)
                words = [w | {"speaker": speaker} for w in words]
            yield entries.plain(item) | {"words": words, "speaker": speaker}
        for place, channel in enumerate([] if utterances else channels):
            for best in entries.dicts(channel.get("alternatives"))[:1]:
                words = [entries.word(w) for w in entries.dicts(best.get("words"))]
                words = (
                    [w | {"speaker": entries.channel(place, w["speaker"])} for w in words]
                    if several
                    else words
                )
                yield entries.whole(words)

    if not any(s["words"] or s["text"] for s in segments()):
        return None
    return Recognised(segments, language, True)


def _google(data: Entry) -> Recognised | None:
    results = entries.dicts(data.get("results"))
    # Amazon's and Speechmatics' items have alternatives too, with a type.
    results = [r for r in results if entries.dicts(r.get("alternatives")) and "type" not in r]
    if not results:
        return None
    bests = [entries.dicts(r["alternatives"])[0] for r in results]
    language = next((t for r in results if (t := entries.string(r, "languageCode", "language_code"))), None)
    last = entries.dicts(bests[-1].get("words"))
    # With diarization, the last answer repeats all words with their speakers.
    if len(bests) > 1 and any(entries.speaker(w) for w in last):
        before = sum(len(entries.dicts(b.get("words"))) for b in bests[:-1])
        if len(last) >= before and not any(
            entries.speaker(w) for b in bests[:-1] for w in entries.dicts(b.get("words"))
        ):
            return Recognised(lambda: iter([entries.whole(map(entries.word, last))]), language, True)

    def segments() -> Iterator[Entry]:
        begin = 0.0
        for result, best in zip(results, bests, strict=True):
            end = entries.seconds(
                result.get("resultEndTime", result.get("resultEndOffset", result.get("result_end_time")))
            )
            words = [entries.word(w) for w in entries.dicts(best.get("words"))]
            channel = result.get("channelTag")
            speaker = entries.channel(channel, None) if isinstance(channel, int) and channel else None
            text = entries.string(best, "transcript") or ""
            first = next((w["start"] for w in words if w["start"] is not None), begin)
            yield entries.timed(text, first, end, 1) | {
                "words": words,
                "speaker": speaker,
                "score": entries.score(best),
            }
            begin = end if end is not None else begin

    return Recognised(segments, language, True)


def _items(data: Entry) -> Recognised | None:
    """Amazon Transcribe and Speechmatics: words and punctuation in one list."""
    results = data.get("results")
    inside = results if isinstance(results, dict) else {}
    listed = entries.dicts(inside.get("items")) or entries.dicts(results)
    listed = [i for i in listed if "type" in i and entries.dicts(i.get("alternatives"))]
    if not listed:
        return None
    labels = inside.get("speaker_labels")
    turns = entries.dicts(labels.get("segments")) if isinstance(labels, dict) else []
    speakers = {i.get("start_time"): entries.speaker(i) for t in turns for i in entries.dicts(t.get("items"))}
    channels = inside.get("channel_labels")
    by_channel = entries.dicts(channels.get("channels")) if isinstance(channels, dict) else []
    metadata = data.get("metadata")
    language = entries.string(inside, "language_code") or entries.string(
        metadata.get("transcription_config", {}) if isinstance(metadata, dict) else {}, "language"
    )

    def words(items: Iterable[Entry], channel: object = None) -> list[Entry]:
        out: list[Entry] = []
        for item in items:
            best = next(iter(entries.dicts(item.get("alternatives"))), {})
            content = entries.string(best, "content") or ""
            if item.get("type") in ("punctuation",):
                if out and len(content) < 4:
                    out[-1]["word"] += content
                continue
            speaker = entries.speaker(item) or entries.speaker(best) or speakers.get(item.get("start_time"))
            speaker = entries.channel(channel, None) if channel is not None else speaker
            times = entries.seconds(item.get("start_time")), entries.seconds(item.get("end_time"))
            out.append(entries.timed(content, *times, 1) | {"speaker": speaker, "score": entries.score(best)})
        return out

    def segments() -> Iterator[Entry]:
        if len(by_channel) > 1:
            for channel in by_channel:
                yield entries.whole(words(entries.dicts(channel.get("items")), channel.get("channel_label")))
        else:
            yield entries.whole(words(listed))

    return Recognised(segments, language, True)


def _azure(data: Entry) -> Recognised | None:
    """Batch and fast transcription, and what the SDK gives in detail, one answer or a list of them."""
    phrases = entries.dicts(data.get("recognizedPhrases")) or entries.dicts(data.get("phrases"))
    if not phrases and _azure_time(data, "offset") is not None and ("NBest" in data or "DisplayText" in data):
        phrases = [data]
    phrases = [p for p in phrases if _azure_time(p, "offset") is not None]
    if not phrases:
        return None
    several = len({str(p.get("channel")) for p in phrases}) > 1
    language = next((t for p in phrases if (t := entries.string(p, "locale"))), None) or entries.string(
        data, "locale"
    )

    def segments() -> Iterator[Entry]:
        for phrase in phrases:
            best = next(iter(entries.dicts(phrase.get("nBest") or phrase.get("NBest"))), phrase)
            text = (
                entries.string(best, "display", "Display", "text", "DisplayText", "lexical", "Lexical") or ""
            )
            listed = next(
                (k for k in ("displayWords", "words", "Words") if entries.dicts(best.get(k))), "words"
            )
            words = [
                _azure_span(w, entries.string(w, "displayText", "word", "Word", "text") or "")
                for w in entries.dicts(best.get(listed))
            ]
            speaker = entries.speaker(phrase)
            if several:
                speaker = entries.channel(phrase.get("channel"), speaker)
            segment = _azure_span(phrase, text) | {"score": best.get("confidence", best.get("Confidence"))}
            yield segment | {"speaker": speaker, "words": entries.punctuated(words, text)}

    return Recognised(segments, language, True)


def _azure_span(item: Entry, text: str) -> Entry:
    start, duration = _azure_time(item, "offset"), _azure_time(item, "duration")
    end = start + duration if start is not None and duration is not None else None
    return entries.timed(text, start, end, 1) | {"score": item.get("confidence")}


def _azure_time(item: Entry, name: str) -> float | None:
    """Seconds of an offset or a duration, whichever of its units is there."""
    for key, unit in ((f"{name}InTicks", _TICKS_S), (f"{name}Milliseconds", 1e-3), (name.title(), _TICKS_S)):
        value = entries.number(item.get(key))
        if value is not None:
            return value * unit
    value = item.get(name)
    return entries.seconds(value) if isinstance(value, str) else None


def _indexer(data: Entry) -> Recognised | None:
    """Azure's Video Indexer."""
    listed: list[Entry] = []
    for video in entries.dicts(data.get("videos")):
        insights = video.get("insights")
        listed += entries.dicts(insights.get("transcript")) if isinstance(insights, dict) else []
    if not any(entries.dicts(item.get("instances")) for item in listed):
        return None
    language = next((t for item in listed if (t := entries.string(item, "language"))), None)
    return Recognised(
        lambda: (
            entries.plain(item) | entries.plain_times(i)
            for item in listed
            for i in entries.dicts(item.get("instances"))[:1]
        ),
        language,
        True,
    )


def _rev(data: Entry) -> Recognised | None:
    monologues = entries.dicts(data.get("monologues"))
    if not any(entries.dicts(m.get("elements")) for m in monologues):
        return None

    def segments() -> Iterator[Entry]:
        for monologue in monologues:
            words: list[Entry] = []
            for element in entries.dicts(monologue.get("elements")):
                if element.get("type") == "text":
                    words.append(entries.word(element))
                elif words:
                    words[-1]["word"] += (entries.string(element, "value") or "").strip()
            yield entries.whole(words) | {"speaker": entries.speaker(monologue), "whole": False}

    return Recognised(segments, None, True)


def _vosk(data: Entry) -> Recognised | None:
    words = data.get("result")
    if not entries.is_timed_list(words):
        return None
    return Recognised(
        lambda: iter([entries.whole(map(entries.word, entries.dicts(words))) | {"whole": False}]), None, True
    )


def _youtube(data: Entry) -> Recognised | None:
    """Events in milliseconds; automatic captions have a time for each word."""
    events = [e for e in entries.dicts(data.get("events")) if entries.number(e.get("tStartMs")) is not None]
    events = [e for e in events if _said(e).strip()]
    if not events:
        return None

    def segments() -> Iterator[Entry]:
        for event in events:
            start, length = entries.number(event["tStartMs"]) or 0.0, entries.number(event.get("dDurationMs"))
            parts = [p for p in entries.dicts(event["segs"]) if (entries.string(p, "utf8") or "").strip()]
            words = []
            if any("tOffsetMs" in part for part in parts):
                for part in parts:
                    at = start + (entries.number(part.get("tOffsetMs")) or 0.0)
                    words.append(entries.timed(entries.string(part, "utf8") or "", at, None, 1000))
            text = " ".join(_said(event).split())
            yield entries.timed(text, start, None if length is None else start + length, 1000) | {
                "words": words
            }

    return Recognised(segments, None, True)


def _said(event: Entry) -> str:
    return "".join(entries.string(part, "utf8") or "" for part in entries.dicts(event.get("segs")))
