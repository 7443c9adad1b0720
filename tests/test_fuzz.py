"""Anything as a transcript or speaker file is read or refused with a sentence, and utterances hold together.

`make fuzz` looks for ten minutes (FUZZ_SECONDS) and elsewhere each time; the ordinary run looks for a second
or two each, always in the same places, so that what it finds is the fault of what was changed.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from annotator.diarize import read_rttm
from annotator.records import RecordingError, Transcript, Turn
from annotator.transcribe import read_sidecar
from annotator.utterances import build

FUZZ_SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))  # in all; 0: the short run
READERS = 18  # of this file and test_fuzz_tables.py

# What such files are made of, and what their writers and attackers get wrong.
NUMBERS = [*"0 1 -1 00 1.5 1e308 1e-320 nan -inf infinity 0x1f 1_000 12:30 0,5 ٣".split(), "9" * 400, ""]
TEXTS = [
    *"Hi.|ANNA: Hello!|- Yes?|(laughs)|[Ben]: no|<i>so</i>|<v Ann Lee>well|♪ la ♪".split("|"),
    *"你好。再见|é|🙂|…|:|-|&lt;b&gt;|&#0;&#x110000;&#xD800;|{\\an8}|<script>alert(1)</script>".split("|"),
    *(
        "  ",
        "\t",
        "\x00",
        "\x1b[31m",
        "\u202eevil",
        "\ufeff",
        "\u2028",
        "a" * 300,
        "<" * 60,
        "[" * 60,
        "(" * 40,
    ),
]
CLOCKS = "00:00:01,000|00:00:02.5|0:01|99:99:99,999|-00:00:01,000|999999:00:00,000|00:00|1:2:3".split("|")
MARKS = [
    *"--> WEBVTT NOTE STYLE SPEAKER talk <NA> <ALT_BEGIN> <ALT> <ALT_END> ;; # align:start".split(),
    " --> ",
]
BREAKS = ["\n", "\r\n", "\r", "\n\n", " ", "\t", "\x0b", "\x85"]
PIECES = st.sampled_from([*NUMBERS, *TEXTS, *CLOCKS, *MARKS, *BREAKS])
JUMBLE = st.lists(PIECES, max_size=60).map(lambda parts: "".join(parts).encode("utf-8", "replace"))
RAW = st.binary(max_size=300) | JUMBLE


def lines(*columns: st.SearchStrategy[str]) -> st.SearchStrategy[bytes]:
    """Mostly well-formed lines of these columns, some of them broken."""
    line = st.tuples(*columns).map(" ".join) | st.lists(PIECES, max_size=6).map("".join)
    text = st.tuples(st.lists(line, max_size=30), st.sampled_from(BREAKS[:4])).map(lambda t: t[1].join(t[0]))
    encodings = st.sampled_from(["utf-8", "utf-16", "utf-8-sig", "utf-32", "latin-1"])
    return st.tuples(text, encodings).map(lambda t: t[0].encode(t[1], "replace"))


SECONDS = st.floats(0, 1e5).map(lambda s: f"{s:.2f}") | st.sampled_from(NUMBERS)
WORDS, NAMES = st.sampled_from(TEXTS), st.sampled_from(["A", "SPEAKER_00", "Anna", "<NA>", "é", "x" * 200])
RTTM_HEAD = (st.sampled_from(["SPEAKER", "SPKR-INFO", "#"]), WORDS, st.just("1"), SECONDS, SECONDS)
RTTM = lines(*RTTM_HEAD, st.just("<NA> <NA>"), NAMES, st.just("<NA> <NA>"))
CTM_HEAD = (st.sampled_from(["talk", "other"]), st.sampled_from("12"), SECONDS, SECONDS)
CTM = lines(*CTM_HEAD, WORDS, SECONDS, st.just("lex"), NAMES)


@st.composite
def cues(draw: st.DrawFn, head: str) -> bytes:
    """SubRip or WebVTT with plausible and impossible times, in any order."""
    clocks = st.integers(0, 9_000_000).map(
        lambda ms: f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02},{ms % 1000:03}"
    ) | st.sampled_from(CLOCKS)
    blocks = [head] if head else []
    for i in range(draw(st.integers(0, 25))):
        body = draw(st.lists(st.sampled_from(TEXTS), max_size=4))
        blocks.append(f"{i + 1}\n{draw(clocks)} --> {draw(clocks)}\n" + "\n".join(body) + "\n")
    text = "\n".join(blocks)
    if draw(st.booleans()):  # cut or stretched somewhere
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(PIECES) + text[at + draw(st.integers(0, 20)) :]
    return text.encode("utf-8", "replace")


@st.composite
def markup(draw: st.DrawFn, head: str, tags: list[str], foot: str) -> bytes:
    """TTML or SAMI with elements in any order, some of them open."""
    parts = draw(st.lists(st.sampled_from(tags) | st.sampled_from(TEXTS) | SECONDS, max_size=30))
    return (head + "".join(parts) + foot).encode(
        draw(st.sampled_from(["utf-8", "utf-16", "cp1251"])), "replace"
    )


TTML_TAGS = [
    '<p begin="1s" end="2s">', '<p begin="00:00:01.5" dur="3s" ttm:agent="a">', '<p begin="5t" end="9f">',
    "<p>", "</p>", '<span begin="1s" end="x">', "<span>", "</span>", "<br/>", '<div begin="9h">', "</div>",
    "&nbsp;", "&#0;", "<x:y/>",
]  # fmt: skip
TTML_HEAD = '<tt xmlns="http://www.w3.org/ns/ttml" xmlns:ttm="m" xmlns:x="x"><body>'
TTML = markup(TTML_HEAD, TTML_TAGS, "</body></tt>") | markup(
    "", [*TTML_TAGS, "<tt>", "</tt>", "<!ENTITY"], ""
)
SAMI_TAGS = [
    *("<SYNC Start=1000>", '<sync start="-5">', "<SYNC Start=999999999999>", "<P Class=ENCC>", "<SYNC"),
    *("<P Class=KRCC ID=Source>", "<P>", "</P>", "<br>", "&nbsp;", "<!--", "-->", "<i>"),
    ".ENCC {lang: en-US}",
]  # fmt: skip
SAMI = markup("<SAMI>", SAMI_TAGS, "")
CLOCK = st.sampled_from([*CLOCKS, "0:00:01.00", "0:00:03.50", "9:59:59.99"])
ASS_FIELDS = (st.just("Dialogue: 0"), CLOCK, CLOCK, NAMES, NAMES, st.just("0,0,0"), WORDS)
ASS_TEXTS = st.sampled_from(
    [*TEXTS, r"{\p1}m 0 0 l 1 1{\p0}", r"a\Nb\hc", "{", "}", r"{\p99999999999}x", "{a}{b"]
)
ASS = st.lists(
    st.tuples(st.tuples(*ASS_FIELDS).map(",".join), ASS_TEXTS).map(",".join)
    | st.sampled_from(
        ["Format: Start, End, Text", "[Events]", "[Script Info]", "Style: a,&Hxx", "Comment: 0"]
    )
    | PIECES,
    max_size=30,
).map(lambda lines: "\n".join(["[Script Info]", *lines]).encode("utf-8", "replace"))
FRAMES = st.lists(
    st.tuples(
        st.sampled_from(["{1}{1}25", "{25}{75}", "{1}{1}nan", "[10][20]", "{9}{0}", "{" + "9" * 30 + "}{1}"]),
        WORDS,
    ).map("".join)
    | st.tuples(CLOCK, CLOCK).map(",".join)
    | PIECES,
    max_size=30,
).map(lambda lines: "\n".join(lines).encode("utf-8", "replace"))


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from([*TEXTS, *NUMBERS])
JSON_KEYS = st.sampled_from(
    [
        *"start end text word words speaker score probability segments language chunks".split(),
        *"timestamp transcription offsets from to tokens results channels alternatives channel".split(),
        *"utterances transcript items type content start_time end_time startTime phrases".split(),
        *"recognizedPhrases nBest NBest offset duration offsetInTicks Offset Duration videos".split(),
        *"insights instances monologues elements ts result response".split(),
    ]
)
ANY_JSON = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(JSON_KEYS, inner, max_size=5),
    max_leaves=25,
)
TIMES = st.floats(0, 4000) | VALUES
WORD_KEYS = {"word": WORDS, "start": TIMES, "end": TIMES, "speaker": VALUES, "score": VALUES}
WORD_KEYS = {"word": WORDS, "start": TIMES, "end": TIMES, "speaker": VALUES, "score": VALUES}
WORD = st.fixed_dictionaries({}, optional=WORD_KEYS)
SEGMENT_KEYS = {"start": TIMES, "end": TIMES, "words": st.lists(WORD | VALUES, max_size=6), "speaker": VALUES}
SEGMENT = st.fixed_dictionaries({"text": WORDS}, optional=SEGMENT_KEYS)
SEGMENTS = st.lists(SEGMENT | VALUES, max_size=8)
WHISPER = st.fixed_dictionaries({"segments": SEGMENTS}, optional={"language": VALUES})
JSON = ANY_JSON.map(json.dumps).map(str.encode) | WHISPER.map(json.dumps).map(str.encode)


def sought(test: Callable[..., None], *strategies: st.SearchStrategy[object]) -> None:
    """Run a property test: a short while, or its share of FUZZ_SECONDS, with new examples in every round."""
    until = time.monotonic() + FUZZ_SECONDS / READERS
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large]
    rounds = 2000 if FUZZ_SECONDS else 120
    search = settings(
        max_examples=rounds,
        deadline=None,
        suppress_health_check=quiet,
        derandomize=not FUZZ_SECONDS,
        database=None,
    )(given(*strategies)(test))
    search()
    while time.monotonic() < until:
        search()


def holds_together(transcript: Transcript, turns: list[Turn]) -> None:
    """What a run relies on: finite times, words once, every utterance with a speaker and start < end."""
    for word in transcript.words:
        assert math.isfinite(word.start) and math.isfinite(word.end) and 0 <= word.start <= word.end
        assert word.text and not any(map(str.isspace, word.text))
        assert word.text.isprintable() or all(ord(c) >= 32 for c in word.text), word.text
        word.text.encode("utf-8")
        assert word.confidence is None or 0 <= word.confidence <= 1
    for duration_s in (0.0, 10.0):
        try:
            built = build(turns, transcript, duration_s)
        except RecordingError as error:  # a turn of a thousand years, in a recording of unknown length
            assert error.error == "too_many" and not duration_s
            continue
        told = [text for u in built if u.text is not None for text in u.text.split(" ")]
        assert sorted(told) == sorted(w.text for w in transcript.words)
        for u in built:
            assert u.speaker and math.isfinite(u.start) and math.isfinite(u.end) and 0 <= u.start < u.end
            assert u.overlap is not None and 0 <= u.overlap <= 1


def read(path: Path, content: bytes) -> Transcript | None:
    path.write_bytes(content)
    try:
        return read_sidecar(path)
    except RecordingError as error:
        assert error.message and error.message.isprintable(), error.message
        return None


@pytest.mark.parametrize(
    ("ending", "content"),
    [
        (".srt", RAW | cues("")),
        (".vtt", cues("WEBVTT") | RAW.map(lambda raw: b"WEBVTT\n\n" + raw)),
        (".json", JSON | RAW),
        (".ctm", CTM | RAW),
        (".ass", ASS | RAW),
        (".sub", FRAMES | RAW),
        (".sbv", cues("") | FRAMES),
        (".ttml", TTML | RAW),
        (".smi", SAMI | RAW),
    ],
)
def test_any_transcript_is_read_or_refused(
    ending: str, content: st.SearchStrategy[bytes], tmp_path: Path
) -> None:
    path = tmp_path / f"talk{ending}"

    def property_holds(raw: bytes) -> None:
        transcript = read(path, raw)
        if transcript is not None:
            holds_together(transcript, [Turn(0.0, 5.0, "SPEAKER_00"), Turn(4.0, 9.0, "SPEAKER_01")])

    sought(property_holds, content)


def test_any_speaker_file_is_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "talk.rttm"

    def property_holds(raw: bytes) -> None:
        path.write_bytes(raw)
        try:
            turns = read_rttm(path)
        except RecordingError as error:
            assert error.message.isprintable(), error.message
            return
        assert turns == sorted(turns)
        for turn in turns:
            assert math.isfinite(turn.start) and 0 <= turn.start < turn.end and turn.speaker
        holds_together(Transcript(), turns)

    sought(property_holds, RTTM | RAW)


def test_any_turns_and_words_make_utterances() -> None:
    """Both read from files at once, as in a run: they need not fit each other at all."""
    names = st.sampled_from(["SPEAKER_00", "SPEAKER_07", "Anna", " ", "é"])
    turn = st.builds(lambda s, d, n: Turn(s, s + d, n), st.floats(-10, 1e6), st.floats(-1, 1e4), names)

    def property_holds(turns: list[Turn], segments: object) -> None:
        from annotator.transcribe.recognised import parse_json

        try:
            transcript, _ = parse_json(json.dumps(segments))
        except RecordingError:
            return
        if transcript is not None:
            holds_together(transcript, turns)

    sought(property_holds, st.lists(turn, max_size=15), WHISPER)
