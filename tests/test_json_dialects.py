# ruff: noqa: E501 - a dialect is a table, read by its lines
"""JSON of recognisers and services: each gives the same talk."""

from __future__ import annotations

import json
from typing import Any

import pytest

from annotator.records import RecordingError, Transcript
from annotator.transcribe.recognised import parse_ctm, parse_json

WORDS = [("Good", 0.6, 1.0), ("morning.", 1.0, 2.0), ("I", 3.0, 3.4), ("am", 3.4, 4.0), ("here.", 4.0, 5.0)]
SEGMENTS = [("Good morning.", 0.6, 2.0, 0), ("I am here.", 3.0, 5.0, 1)]
SPLIT = [WORDS[:2], WORDS[2:]]
TEXT = " ".join(text for text, *_ in SEGMENTS)


def ms(seconds: float) -> int:
    return round(seconds * 1000)


def azure(text: str, start: float, end: float) -> dict[str, Any]:
    ticks = {"offsetInTicks": start * 1e7, "durationInTicks": (end - start) * 1e7}
    return ticks | {
        "offset": f"PT{start}S",
        "duration": f"PT{end - start:.2f}S",
        "nBest": [{"display": text}],
    }


# Dialect: the value, and whether speakers, times of words and the language are told in it.
DIALECTS: dict[str, tuple[Any, bool, bool, bool]] = {
    "whisper": ({"segments": [{"start": s, "end": e, "text": f" {t}"} for t, s, e, _ in SEGMENTS], "language": "en"}, False, False, True),
    "whisperx": (
        {
            "segments": [
                {"start": s, "end": e, "text": t, "words": [{"word": w, "start": a, "end": b, "speaker": f"S{who}"} for w, a, b in words]}
                for (t, s, e, who), words in zip(SEGMENTS, SPLIT, strict=True)
            ]
        },
        True, True, False,
    ),
    "faster-whisper, a bare list": ([{"start": s, "end": e, "text": t} for t, s, e, _ in SEGMENTS], False, False, False),
    "a bare list of words": ([{"word": w, "start": a, "end": b} for w, a, b in WORDS], False, True, False),
    "openai, words": (
        {"language": "english", "duration": 12.0, "text": TEXT, "words": [{"word": w.strip("."), "start": a, "end": b} for w, a, b in WORDS]},
        False, True, True,
    ),
    "openai, segments and words": (
        {
            "language": "english", "text": TEXT,
            "segments": [{"id": i, "start": s, "end": e, "text": f" {t}"} for i, (t, s, e, _) in enumerate(SEGMENTS)],
            "words": [{"word": w.strip("."), "start": a, "end": b} for w, a, b in WORDS],
        },
        False, True, True,
    ),
    "podcasts": ({"version": "1.0.0", "segments": [{"speaker": f"S{who}", "startTime": s, "endTime": e, "body": t} for t, s, e, who in SEGMENTS]}, True, False, False),
    "start and duration": ([{"text": t, "start": s, "duration": e - s} for t, s, e, _ in SEGMENTS], False, False, False),
    "speakers as objects": ({"segments": [{"start": s, "end": e, "text": t, "speaker": {"id": 7, "name": f"S{who}"}} for t, s, e, who in SEGMENTS]}, True, False, False),
    "fireflies": (
        {"data": {"transcript": {"sentences": [{"speaker_id": 7, "speaker_name": f"S{who}", "text": t, "start_time": s, "end_time": e} for t, s, e, who in SEGMENTS]}}},
        True, False, False,
    ),
    "gladia": (
        {"result": {"transcription": {"languages": ["en"], "utterances": [{"text": t, "start": s, "end": e, "speaker": who, "words": []} for t, s, e, who in SEGMENTS]}}},
        True, False, True,
    ),
    "soniox, pieces of words": (
        {"tokens": [{"text": w, "start_ms": ms(a), "end_ms": ms(b)} for w, a, b in
                    [("Good", 0.6, 1.0), (" mor", 1.0, 1.5), ("ning.", 1.5, 2.0), (" I", 3.0, 3.4), (" am", 3.4, 4.0), (" here.", 4.0, 5.0)]], "text": TEXT},
        False, True, False,
    ),
    "happy scribe": (
        [{"speaker": f"S{i}", "words": [{"text": f"{w} ", "data_start": a, "data_end": b} for w, a, b in words]} for i, words in enumerate(SPLIT)],
        True, True, False,
    ),
    "pyannoteAI": (
        {"output": {"diarization": [{"speaker": "S0", "start": 0.6, "end": 5.0}],
                    "wordLevelTranscription": [{"start": a, "end": b, "text": w, "speaker": f"S{i}"} for i, words in enumerate(SPLIT) for w, a, b in words],
                    "turnLevelTranscription": [{"start": s, "end": e, "text": t, "speaker": f"S{who}"} for t, s, e, who in SEGMENTS]}},
        True, True, False,
    ),
    "nemo": ({"text": TEXT, "timestamp": {"word": [{"word": w, "start": a, "end": b} for w, a, b in WORDS], "segment": []}}, False, True, False),
    "youtube, json3": (
        {"events": [{"tStartMs": 0, "dDurationMs": 9000, "id": 1}, *({"tStartMs": ms(s), "dDurationMs": ms(e - s), "segs": [{"utf8": t}]} for t, s, e, _ in SEGMENTS)]},
        False, False, False,
    ),
    "openai, diarized": (
        {"text": TEXT, "segments": [{"type": "transcript.text.segment", "speaker": "AB"[who], "start": s, "end": e, "text": t} for t, s, e, who in SEGMENTS]},
        True, False, False,
    ),
    "whisper.cpp": (
        {
            "result": {"language": "en"},
            "transcription": [{"timestamps": {"from": "00:00:00,600", "to": "x"}, "offsets": {"from": ms(s), "to": ms(e)}, "text": f" {t}"} for t, s, e, _ in SEGMENTS],
        },
        False, False, True,
    ),
    "whisper.cpp with tokens": (
        {
            "result": {"language": "en"},
            "transcription": [
                {
                    "offsets": {"from": ms(s), "to": ms(e)}, "text": f" {t}",
                    "tokens": [{"text": "[_BEG_]", "offsets": {"from": 0, "to": 0}}]
                    + [{"text": f" {w}", "offsets": {"from": ms(a), "to": ms(b)}, "p": 0.5} for w, a, b in words],
                }
                for (t, s, e, _), words in zip(SEGMENTS, SPLIT, strict=True)
            ],
        },
        False, True, True,
    ),
    "transformers": ({"text": TEXT, "chunks": [{"timestamp": [s, e], "text": f" {t}"} for t, s, e, _ in SEGMENTS]}, False, False, False),
    "transformers, words": ({"text": TEXT, "chunks": [{"timestamp": [a, b], "text": f" {w}"} for w, a, b in WORDS]}, False, True, False),
    "insanely-fast-whisper": (
        {
            "speakers": [{"speaker": f"SPEAKER_0{who}", "timestamp": [s, e], "text": f" {t}"} for t, s, e, who in SEGMENTS],
            "chunks": [{"timestamp": [0.6, 5.0], "text": TEXT}], "text": TEXT,
        },
        True, False, False,
    ),
    "assemblyai": (
        {
            "id": "1", "language_code": "en_us", "audio_duration": 12, "text": TEXT,
            "words": [{"text": w, "start": ms(a), "end": ms(b), "confidence": 0.9, "speaker": None} for w, a, b in WORDS],
            "utterances": [
                {"speaker": "AB"[who], "text": t, "start": ms(s), "end": ms(e), "words": [{"text": w, "start": ms(a), "end": ms(b)} for w, a, b in words]}
                for (t, s, e, who), words in zip(SEGMENTS, SPLIT, strict=True)
            ],
        },
        True, True, True,
    ),
    "assemblyai, words": (
        {"id": "1", "language_code": "en", "text": TEXT, "utterances": None, "words": [{"text": w, "start": ms(a), "end": ms(b)} for w, a, b in WORDS]},
        False, True, True,
    ),
    "deepgram, utterances": (
        {"results": {"channels": [{"alternatives": [{"transcript": TEXT, "words": []}], "detected_language": "en"}],
                     "utterances": [{"start": s, "end": e, "transcript": t, "speaker": who, "channel": 0} for t, s, e, who in SEGMENTS]}},
        True, False, True,
    ),
    "deepgram, words": (
        {"results": {"channels": [{"alternatives": [{"transcript": TEXT, "words": [
            {"word": w.lower().strip("."), "punctuated_word": w, "start": a, "end": b, "speaker": int(a > 2)} for w, a, b in WORDS]}]}]}},
        True, True, False,
    ),
    "deepgram, channels": (
        {"results": {"channels": [{"alternatives": [{"words": [{"word": w, "start": a, "end": b} for w, a, b in words]}]} for words in SPLIT]}},
        True, True, False,
    ),
    "google v1": (
        {"results": [
            {"alternatives": [{"transcript": t, "words": [{"startTime": f"{a}s", "endTime": f"{b}s", "word": w} for w, a, b in words]}], "languageCode": "en-us"}
            for (t, *_), words in zip(SEGMENTS, SPLIT, strict=True)]},
        False, True, True,
    ),
    "google with speakers, all words again": (
        {"results": [
            {"alternatives": [{"transcript": TEXT, "words": [{"startTime": f"{a}s", "endTime": f"{b}s", "word": w} for w, a, b in WORDS]}]},
            {"alternatives": [{"words": [{"startTime": f"{a}s", "endTime": f"{b}s", "word": w, "speakerTag": 1 + (a > 2)} for w, a, b in WORDS]}]}]},
        True, True, False,
    ),
    "google v2 in an operation": (
        {"response": {"results": [{"alternatives": [{"transcript": t, "words": [
            {"startOffset": {"seconds": int(a), "nanos": round(a % 1 * 1e9)}, "endOffset": f"{b}s", "word": w, "speakerLabel": str(who)} for w, a, b in words]}]}
            for (t, _, _, who), words in zip(SEGMENTS, SPLIT, strict=True)]}},
        True, True, False,
    ),
    "amazon": (
        {"jobName": "j", "results": {
            "transcripts": [{"transcript": TEXT}], "language_code": "en-US",
            "speaker_labels": {"segments": [{"items": [{"start_time": str(a), "speaker_label": f"spk_{int(a > 2)}"} for _, a, _ in WORDS]}]},
            "items": [item for w, a, b in WORDS for item in [
                {"start_time": str(a), "end_time": str(b), "type": "pronunciation", "alternatives": [{"confidence": "0.9", "content": w.strip(".")}]},
                *([{"type": "punctuation", "alternatives": [{"confidence": "0.0", "content": "."}]}] if w.endswith(".") else [])]]}},
        True, True, True,
    ),
    "speechmatics": (
        {"metadata": {"transcription_config": {"language": "en"}}, "results": [
            item for w, a, b in WORDS for item in [
                {"type": "word", "start_time": a, "end_time": b, "alternatives": [{"content": w.strip("."), "confidence": 1.0, "speaker": f"S{int(a > 2)}"}]},
                *([{"type": "punctuation", "start_time": b, "end_time": b, "alternatives": [{"content": "."}]}] if w.endswith(".") else [])]]},
        True, True, True,
    ),
    "azure, batch": ({"recognizedPhrases": [azure(t, s, e) | {"speaker": who + 1, "channel": 0} for t, s, e, who in SEGMENTS]}, True, False, False),
    "azure, fast": (
        {"durationMilliseconds": 12000, "phrases": [
            {"speaker": who, "offsetMilliseconds": ms(s), "durationMilliseconds": ms(e - s), "text": t, "locale": "en-US",
             "words": [{"text": w, "offsetMilliseconds": ms(a), "durationMilliseconds": ms(b - a)} for w, a, b in words]}
            for (t, s, e, who), words in zip(SEGMENTS, SPLIT, strict=True)]},
        True, True, True,
    ),
    "azure, answers of the SDK": (
        [{"RecognitionStatus": "Success", "Offset": s * 1e7, "Duration": (e - s) * 1e7, "DisplayText": t, "NBest": [{"Confidence": 0.9, "Display": t}]} for t, s, e, _ in SEGMENTS],
        False, False, False,
    ),
    "azure, video indexer": (
        {"videos": [{"insights": {"transcript": [
            {"text": t, "speakerId": who, "language": "en-US", "instances": [{"start": f"0:00:0{s}", "end": f"0:00:0{e}"}]} for t, s, e, who in SEGMENTS]}}]},
        True, False, True,
    ),
    "rev": (
        {"monologues": [
            {"speaker": who, "elements": [e for w, a, b in words for e in [{"type": "text", "value": w.strip("."), "ts": a, "end_ts": b}, {"type": "punct", "value": "." if "." in w else " "}]]}
            for (_, _, _, who), words in zip(SEGMENTS, SPLIT, strict=True)]},
        True, True, False,
    ),
    "vosk": ([{"result": [{"conf": 1.0, "start": a, "end": b, "word": w} for w, a, b in words], "text": "x"} for words in SPLIT] + [{"text": ""}], False, True, False),
    "clocks": ({"segments": [{"start": "00:00:00.600", "end": "00:00:02,000", "text": SEGMENTS[0][0]}, {"start": "0:03", "end": "0:05", "text": SEGMENTS[1][0]}]}, False, False, False),
}  # fmt: skip


def parsed(value: Any, duration_s: float | None = 12.0) -> Transcript:
    found, _ = parse_json(json.dumps(value), "talk.json", duration_s)
    assert found is not None
    return found


@pytest.mark.parametrize("name", DIALECTS)
def test_each_dialect_gives_its_words_times_and_speakers(name: str) -> None:
    value, speakers, timed, language = DIALECTS[name]
    found, has_word_times = parse_json(json.dumps(value), "talk.json", 12.0)
    assert found is not None
    assert [w.text for w in found.words] == [w for w, *_ in WORDS]
    assert has_word_times == timed
    starts = {w.text: w.start for w in found.words}
    assert (starts["Good"], starts["I"]) == pytest.approx((0.6, 3.0), abs=1e-3)
    assert max(w.end for w in found.words) == pytest.approx(5.0, abs=1e-3)
    if timed:
        assert [(w.start, w.end) for w in found.words] == [pytest.approx(w[1:], abs=1e-3) for w in WORDS]
    named = [w.speaker for w in found.words]
    assert named == [named[0]] * 2 + [named[2]] * 3
    assert (named[0] != named[2]) == speakers and (None not in named) == speakers
    assert (found.language == "en") == language
    assert found.flags == ()


def test_a_segment_a_line_and_the_word_times_of_youtube() -> None:
    lines = "".join(json.dumps({"start": s, "end": e, "text": t}) + "\n" for t, s, e, _ in SEGMENTS)
    found, _ = parse_json(lines, "talk.json", 12.0)
    assert found is not None and " ".join(w.text for w in found.words) == TEXT
    with pytest.raises(RecordingError, match="line 2 is no valid JSON"):
        parse_json('{"start": 1}\nno JSON', "talk.json")
    pieces = [{"utf8": "Good", "tOffsetMs": 0}, {"utf8": " morning.", "tOffsetMs": 400}]
    shown = parsed(
        {
            "events": [
                {"tStartMs": 600, "dDurationMs": 5000, "segs": pieces},
                {"tStartMs": 650, "segs": [{"utf8": "\n"}]},
            ]
        }
    )
    assert [(w.text, w.start) for w in shown.words] == [("Good", 0.6), ("morning.", 1.0)]


@pytest.mark.parametrize(
    "value",
    [
        {"title": "A film", "formats": [{"url": "x"}], "chapters": [{"start_time": 0, "end_time": 9, "title": "x"}]},
        {"segments": []}, {"results": {}}, {"chunks": [1]}, {"words": [{"word": "x"}]}, [], [1, 2], 3, "x", None,
        {"result": {"result": {"result": {"result": {"result": {"result": {"segments": []}}}}}}},
    ],
)  # fmt: skip
def test_other_json_is_none(value: Any) -> None:
    assert parse_json(json.dumps(value)) == (None, False)


def test_a_missing_end_is_the_next_start_or_what_the_text_takes() -> None:
    segments = [
        {"start": 0.6, "end": None, "text": "Good morning."},
        {"start": 1.0, "end": None, "text": "I am."},
    ]
    found = parsed({"segments": segments})
    assert [w.end for w in found.words if w.text in ("morning.", "am.")] == pytest.approx(
        [1.0, 1.835], abs=0.01
    )
    found = parsed({"chunks": [{"timestamp": [11.5, None], "text": "To the very end of it."}]})
    assert max(w.end for w in found.words) == 12.0  # the recording's


@pytest.mark.parametrize(
    ("last", "duration_s", "unit"),
    [
        (11_000, 12.0, 0.001),
        (11_000, None, 0.001),
        (11.0, 12.0, 1.0),
        (30.0, 12.0, 1.0),  # a transcript of something longer, in seconds
        (3_600_000, 3600.0, 0.001),
        (3_600.0, 3600.0, 1.0),
        (11_000, 11_000.0, 1.0),
    ],
)
def test_milliseconds_are_told_by_the_length(last: float, duration_s: float | None, unit: float) -> None:
    text = "word " * 10
    found = parsed({"segments": [{"start": last / 2, "end": last, "text": text}]}, duration_s)
    assert found.words[-1].end == pytest.approx(last * unit)


def test_more_text_than_milliseconds_can_hold_is_in_seconds() -> None:
    segments = [
        {"start": s, "end": s + 3, "text": "Nine words that somebody said within three whole seconds."}
        for s in range(0, 3000, 3)
    ]
    assert (
        parsed({"segments": segments}, 12.0).words[-1].end == 3000.0
    )  # of another recording, told elsewhere


def test_a_word_without_a_speaker_goes_with_its_segment_then_its_neighbours() -> None:
    def word(text: str, start: float, speaker: str | None) -> dict[str, Any]:
        return {"word": text, "start": start, "end": start + 0.3} | ({"speaker": speaker} if speaker else {})

    first = [word("a", 0.0, "A"), word("b", 0.5, None), {"word": "c"}, word("d", 1.2, "A")]
    second = [word("e", 1.5, None), word("f", 1.9, "B")]
    third, fourth = [word("g", 2.4, None)], [word("h", 60.0, None)]
    data = {
        "segments": [
            {"start": w[0]["start"], "end": 99.0, "text": "", "words": w}
            for w in (first, second, third, fourth)
        ]
    }
    found = parsed(data, 100.0)
    speakers = {w.text: w.speaker for w in found.words}
    assert speakers == {"a": "A", "b": "A", "c": "A", "d": "A", "e": "B", "f": "B", "g": "B", "h": None}
    ctm = "t 1 0 .3 x 1 lex A\nt 1 .4 .3 y\nt 1 .8 .3 z 1 lex A\nt 1 9 .3 far\n"
    assert [w.speaker for w in parse_ctm(ctm).words] == ["A", "A", "A", None]


def test_two_speakers_of_one_channel_stay_two() -> None:
    utterances = [
        {"start": float(i), "end": i + 1.0, "transcript": "x", "speaker": i % 2, "channel": i // 2}
        for i in range(4)
    ]
    value = {"results": {"channels": [{"alternatives": []}, {"alternatives": []}], "utterances": utterances}}
    assert len({w.speaker for w in parsed(value).words}) == 4


@pytest.mark.parametrize(
    ("table", "ids"),
    [
        ([{"id": 0, "name": "Anna"}, {"id": 1, "name": "Ben"}], (0, 1)),
        ([{"id": "0", "name": "Anna"}, {"id": "1", "name": "Ben"}], (0, 1)),
        ([{"id": 0, "name": "Anna"}, {"id": 1, "name": "Ben"}], ("0", "1")),
        ([{"id": "S1", "name": "Anna"}, {"id": "S2", "name": "Ben"}], ("S1", "S2")),
        ([{"speaker": "a", "displayName": "Anna"}, {"speaker": "b", "displayName": "Ben"}], ("a", "b")),
        ({"A": "Anna", "B": "Ben"}, ("A", "B")),
        ({"A": {"name": "Anna"}, "B": {"name": "Ben"}}, ("A", "B")),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("key", ["speaker", "speaker_id"])
def test_a_table_gives_speakers_their_names(
    table: object, ids: tuple[object, object], wrapped: bool, key: str
) -> None:
    segments = [
        {"start": 0.0, "end": 1.0, key: ids[0], "text": "Good morning."},
        {"start": 1.0, "end": 2.0, key: ids[1], "words": [{"word": "Hi.", "start": 1.0, "end": 1.4}]},
        {"start": 2.0, "end": 3.0, "words": [{"word": "Bye.", "start": 2, "end": 2.4, key: ids[0]}]},
    ]
    data = {"speakers": table, **({"result": {"segments": segments}} if wrapped else {"segments": segments})}
    assert [w.speaker for w in parsed(data).words] == ["Anna", "Anna", "Ben", "Anna"]


def test_a_table_of_speakers_without_use_changes_nothing() -> None:
    segments = [{"start": float(i), "end": i + 1.0, "speaker": i, "text": "Hm."} for i in range(3)]
    tables: list[object] = [
        [{"id": 0, "name": "Guest"}, {"id": 1, "name": "Guest"}],  # would make one of two
        [{"id": 7, "name": "Zoe"}, {"id": 1, "name": " "}, {"id": None, "name": "x"}, {"name": "y"}, 3],
        ["Anna", "Ben"],
        "Anna",
        {"0": 5},
    ]
    for table in tables:
        found = parsed({"speakers": table, "segments": segments})
        assert [w.speaker for w in found.words] == ["SPEAKER_00", "SPEAKER_01", "SPEAKER_02"]
