"""Transcripts that lie beside a recording or inside it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st

from annotator import transcribe
from annotator.encodings import decode
from annotator.languages import iso_639_1
from annotator.records import (
    RecordingError,
    SetupError,
    SubtitleStream,
    Transcript,
    UsageError,
    Word,
)
from annotator.transcribe import TranscriberSettings, make_transcriber, read_sidecar
from annotator.transcribe.markup import parse_sami, parse_ttml
from annotator.transcribe.recognised import parse_ctm, parse_json
from annotator.transcribe.subrip import parse_srt, parse_subviewer, parse_vtt
from annotator.transcribe.substation import parse_ass, parse_sub
from annotator.transcribe.subtitles import from_sidecars
from tests.transcripts import is_sound, media, no_streams


def srt(*texts: str, each: float = 2.0) -> str:
    """SubRip of these cues, one straight after the other."""

    def clock(s: float) -> str:
        return f"{int(s // 3600):02}:{int(s // 60 % 60):02}:{int(s % 60):02},{round(s % 1 * 1000):03}"

    blocks = (f"{i + 1}\n{clock(i * each)} --> {clock((i + 1) * each)}\n{t}\n" for i, t in enumerate(texts))
    return "\n".join(blocks)


def said(transcript: Transcript) -> list[tuple[str | None, str]]:
    """Speaker and text of each cue."""
    cues: dict[int | None, list[Word]] = {}
    for word in transcript.words:
        cues.setdefault(word.cue, []).append(word)
    return [(words[0].speaker, " ".join(w.text for w in words)) for words in cues.values()]


# SubRip


def test_srt_times_are_shared_out_over_the_characters() -> None:
    found = parse_srt("1\n00:00:01,000 --> 00:00:05,000\nHi my <i>friends</i>!\n")
    assert [(w.text, w.start, w.end, w.cue) for w in found.words] == [
        ("Hi", 1.0, 1.6667, 0),
        ("my", 1.6667, 2.3333, 0),
        ("friends!", 2.3333, 5.0, 0),
    ]
    assert found.source == "sidecar"


def test_srt_as_people_write_it() -> None:
    text = "\r\n".join(
        [
            "00:00:01.5 --> 00:00:02,500  X1:10 X2:20",
            "no number",
            "2",
            "00:00:03 --> 00:00:04",
            "no milliseconds",
            "",
            "after a blank line",
            "",
            "8",
            "00:00:06,000 --> 00:00:05,000",
            "ends before it begins",
            "",
            "9",
            "123:00:00,000 --> 123:00:02,000",
            "42",
            "",
            "10",
            "01:05,000 --> 01:06,000",
            "out of order &amp; late &lt;b&gt;",
        ]
    )
    found = parse_srt(text)
    assert said(found) == [
        (None, "no number"),
        (None, "no milliseconds after a blank line"),
        (None, "out of order & late <b>"),
        (None, "42"),
    ]
    assert found.words[0].start == 1.5
    assert found.words[-1].start == 123 * 3600
    assert found.flags == ("dropped_cues",)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Dear diary,\ntoday I wrote no subtitles.", 1),
        ("1\n00:00:01,000 --> 00:00:02,000\nHi\n\n2\n00:00:0x,000 --> 00:00:04,000\nHo", 6),
        ("WEBVTT\n\n00:01.000 --> 00:02.000\nHi", 1),
        ("\x00\x01\x02\x03", 1),
        ("12\n", 1),
    ],
)
def test_what_is_no_srt_says_at_which_line(text: str, line: int) -> None:
    with pytest.raises(RecordingError, match=rf"talk\.srt .*line {line} ") as caught:
        parse_srt(text, "talk.srt")
    assert (caught.value.stage, caught.value.error) == ("transcribe", "bad_subtitles")


def test_sound_descriptions_and_markup_are_no_speech() -> None:
    found = parse_srt(
        srt(
            "[door slams]",
            "(music\nplays)",
            r"{\an8}<font color=#fff>Really?</font>",
            "♪ la la la ♪",
            "♪",
            "[sighs] I know.\n(LAUGHS)",
            "JOHN: (whispers)",
            "...",
        )
    )
    assert said(found) == [(None, "Really?"), (None, "la la la"), (None, "I know.")]


def test_speaker_names() -> None:
    found = parse_srt(
        srt(
            "ANNA: Hello.",
            "Ben Smith: Hi, Anna.",
            "Note: it is 12:30 here.",
            "I told him: go.",
            "ben smith: no, that's small",
            "Ben Smith (on phone): See https://example.org\nANNA: Sure.",
            "MAN #2: What?",
            "Remember: this",
            "[SPEAKER_01]: Labelled.",
        )
    )
    assert said(found) == [
        ("ANNA", "Hello."),
        ("Ben Smith", "Hi, Anna."),
        (None, "Note: it is 12:30 here."),
        (None, "I told him: go."),
        (None, "ben smith: no, that's small"),
        ("Ben Smith", "See https://example.org"),
        ("ANNA", "Sure."),
        ("MAN #2", "What?"),
        (None, "Remember: this"),
        ("SPEAKER_01", "Labelled."),
    ]


def test_a_name_in_title_case_has_to_come_back_or_the_file_to_be_a_script() -> None:
    once = srt("Sugar: half a pound.", "And milk.", "Then stir.", "Done.")
    assert said(parse_srt(once))[0] == (None, "Sugar: half a pound.")
    script = srt("Anna: Hello.", "Ben: Hi.", "How are you?")
    assert [name for name, _ in said(parse_srt(script))] == ["Anna", "Ben", None]
    capitals = srt("I SAID THIS: GO HOME.", "AND HE WENT.", "SO DID I.", "IT WAS LATE.")
    assert {name for name, _ in said(parse_srt(capitals))} == {None}
    chinese = srt("张三：你好，世界。", "李四：再见。")
    assert said(parse_srt(chinese)) == [("张三", "你好， 世界。"), ("李四", "再见。")]


def test_two_speakers_in_a_cue_share_its_time_by_length() -> None:
    found = parse_srt(srt("- Hi.\n- Hello there now.", "-5 degrees", "- Just\none"))
    assert said(found) == [
        (None, "Hi."),
        (None, "Hello there now."),
        (None, "-5 degrees"),
        (None, "Just one"),
    ]
    second = next(w for w in found.words if w.text == "Hello")
    assert second.start == pytest.approx(2.0 * 3 / 19, abs=1e-3)


def test_overlapping_cues_do_not_mix_their_words() -> None:
    text = (
        "1\n00:00:00,000 --> 00:00:04,000\none two three four\n\n"
        "2\n00:00:02,000 --> 00:00:05,000\nfive six seven\n\n"
        "3\n00:00:06,000 --> 00:00:08,000\nup here\n\n"
        "4\n00:00:06,000 --> 00:00:08,000\ndown there\n"
    )
    found = parse_srt(text)
    assert " ".join(w.text for w in found.words) == "one two three four five six seven up here down there"
    named = text.replace("one two", "ANNA: one two").replace("five", "BEN: five")
    apart = [(w.start, w.speaker) for w in parse_srt(named).words[:7]]
    assert [s for _, s in apart] != sorted(str(s) for _, s in apart)  # two people may speak at once


def test_captions_that_roll_up_are_told_once() -> None:
    lines = ["we begin", "with this", "and then", "that too", "so on", "to the end"]
    rolled = srt(lines[0], *(f"{a}\n{b}" for a, b in zip(lines, lines[1:], strict=False)))
    assert " ".join(w.text for w in parse_srt(rolled).words) == " ".join(lines)
    once = srt("No.", "No.", "Yes.", "Why?", "Go.", "Now.")
    assert [w.text for w in parse_srt(once).words][:2] == ["No.", "No."]


# WebVTT


def test_vtt() -> None:
    found = parse_vtt(
        "WEBVTT - title\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:900000\n\n"
        "STYLE\n::cue { color: red }\n\nREGION\nid:fred\n\nNOTE 00:00.000 --> 00:01.000\nnot this\n\n"
        "first\n00:01.000 --> 00:02.000 align:start\n<v.loud Anna Bell>Hi <00:01.500><c.x>you</c></v>\n"
        "<v Ben>Hello &amp; bye\n\n"
        "1:00:03.000 --> 1:00:04.000\nlast"
    )
    assert said(found) == [("Anna Bell", "Hi you"), ("Ben", "Hello & bye"), (None, "last")]
    assert found.words[0].start == 1.0
    assert found.words[-1].start == 3603.0


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("1\n00:00:01,000 --> 00:00:02,000\nHi", 1),
        ("WEBVTTX\n\n00:01.000 --> 00:02.000\nHi", 1),
        ("WEBVTT\n\n00:01.000 --> 00:xx.000\nHi", 3),
        ("WEBVTT\n\njust text", 3),
    ],
)
def test_what_is_no_vtt_says_at_which_line(text: str, line: int) -> None:
    with pytest.raises(RecordingError, match=f"line {line} "):
        parse_vtt(text)


# JSON


def test_whisper_json() -> None:
    words = [
        {"word": " Hello", "start": 0.0, "end": 0.5, "probability": 0.9},
        {"word": " well", "start": 0.5, "end": 0.8, "probability": 0.8},
        {"word": "-known", "start": 0.8, "end": 1.0, "probability": 0.4},
        {"word": " friend.", "start": 1.2, "end": 1.5},
    ]
    segments = [
        {"start": 0.0, "end": 1.5, "text": " Hello well-known friend.", "words": words},
        {"start": 3.0, "end": 2.0, "text": " gone"},
        {"start": 2.0, "end": 3.0, "text": " No times"},
    ]
    found, timed = parse_json(json.dumps({"text": "...", "segments": segments, "language": "en"}))
    assert timed
    assert found is not None
    assert [(w.text, w.start, w.end, w.confidence) for w in found.words[:3]] == [
        ("Hello", 0.0, 0.5, 0.9),
        ("well-known", 0.5, 1.0, 0.4),
        ("friend.", 1.2, 1.5, None),
    ]
    assert [w.text for w in found.words[3:]] == ["No", "times"]
    assert (found.language, found.flags) == ("en", ("dropped_cues",))


def test_whisperx_json() -> None:
    words = [
        {"word": "In", "start": 0.0, "end": 0.4, "score": 1.2, "speaker": "SPEAKER_01"},
        {"word": "2014"},
        {"word": "I", "start": 1.0, "end": 1.1, "score": 0.5},
    ]
    data = {
        "segments": [{"start": 0, "end": 2, "text": "In 2014 I", "speaker": "SPEAKER_00", "words": words}]
    }
    found, _ = parse_json(json.dumps(data))
    assert found is not None
    assert found.words == (
        Word(0.0, 0.4, "In", "SPEAKER_01", 1.0, 0),
        Word(0.4, 1.0, "2014", "SPEAKER_00", None, 0),
        Word(1.0, 1.1, "I", "SPEAKER_00", 0.5, 0),
    )


def test_characters_without_spaces_are_joined() -> None:
    text = "你好，世界。"
    words = [{"word": c, "start": i * 0.2, "end": i * 0.2 + 0.2} for i, c in enumerate(text)]
    found, _ = parse_json(json.dumps({"segments": [{"start": 0, "end": 2, "text": text, "words": words}]}))
    assert found is not None
    assert [w.text for w in found.words] == ["你好，", "世界。"]


@pytest.mark.parametrize(
    "text", ["{}", "[]", "3", '{"segments": 1}', '{"segments": [{"start": 1, "end": 2}]}']
)
def test_other_json_is_no_transcript(text: str, tmp_path: Path) -> None:
    assert parse_json(text) == (None, False)
    (tmp_path / "talk.json").write_text(text)
    found = from_sidecars([tmp_path / "talk.json"], "talk")
    assert found == Transcript(unused=(("talk.json", found.unused[0][1]),))
    assert "no kind of transcript that is known" in found.unused[0][1]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"segments": [\n  {"text": "a"', "line 2"),
        ('{"segments": [{"text": "a"}]}', "segment 1 has no times"),
        ('{"segments": [{"text": "a", "start": 0, "end": 1}, 5]}', "segment 2 is not an object"),
        ("[" * 100_000, "nested"),
        ("9" * 5_000, "too long"),
    ],
)
def test_broken_json_says_where(text: str, what: str) -> None:
    with pytest.raises(RecordingError, match=what):
        parse_json(text)


# CTM


def test_ctm() -> None:
    found = parse_ctm(
        ";; a comment\n"
        "talk A 1.20 0.30 there 0.9 lex Anna\n"
        "talk A 0.50 0.40 hello NA lex Anna\n"
        "talk A 2.00 0.40 [laugh] 0.9 non-lex Anna\n"
        "talk A * * <ALT_BEGIN>\ntalk A 3.0 0.2 you\n"
        "talk A * * <ALT>\ntalk A 3.0 0.2 ewe\ntalk A * * <ALT_END>\n"
    )
    assert found.words == (
        Word(0.5, 0.9, "hello", "Anna"),
        Word(1.2, 1.5, "there", "Anna", 0.9),
        Word(3.0, 3.2, "you", "Anna"),  # as the words around it
    )


def test_ctm_words_do_not_end_before_they_start() -> None:
    word = parse_ctm("talk 1 1e-320 0.00 Hi. 0.00 lex A", recording="talk").words[0]
    assert 0 <= word.start <= word.end


def test_ctm_takes_the_lines_of_its_recording_and_tells_channels_apart() -> None:
    text = "talk 1 0.0 0.5 hi\ntalk 2 0.2 0.5 ho\nother 1 0.0 0.5 no\n"
    assert [(w.text, w.speaker) for w in parse_ctm(text, recording="talk").words] == [
        ("hi", "CHANNEL_1"),
        ("ho", "CHANNEL_2"),
    ]
    with pytest.raises(RecordingError, match="2 recordings and none is called 'third'"):
        parse_ctm(text, recording="third")


@pytest.mark.parametrize(
    "line", ["talk 1 0.0 hi", "talk 1 x 0.5 hi", "talk 1 nan 0.5 hi", "just some words here now"]
)
def test_broken_ctm_says_where(line: str) -> None:
    with pytest.raises(RecordingError, match="line 2 "):
        parse_ctm(f"talk 1 0.0 0.5 hi\n{line}\n")


# Anything


@runs(max_examples=150, deadline=None)
@given(
    st.text(max_size=200)
    | st.lists(
        st.sampled_from(
            ["1", "", "00:00:01,000 --> 00:00:03,000", "00:00:02.0 --> 00:00:01.0", "- Hi.", "ANNA: (x)",
             "<v Bo>hey", "WEBVTT", "NOTE", "[", "♪ &#0; &#xD800;", "{\\an8}", "a b c d e f",
             "Ben: yes", "Ben: no"]
        ),
        max_size=25,
    ).map("\n".join)
)  # fmt: skip
def test_any_text_gives_words_or_a_reason(text: str) -> None:
    parsers: list[Callable[[str], Transcript | None]] = [
        parse_srt,
        parse_vtt,
        parse_ctm,
        parse_ass,
        parse_sub,
    ]
    parsers += [parse_ttml, parse_sami, parse_subviewer, lambda text: parse_json(text)[0]]
    for parse in parsers:
        for given_text in (text, "WEBVTT\n\n" + text):
            try:
                found = parse(given_text)
            except RecordingError as error:
                assert error.error == "bad_subtitles"
            else:
                assert found is None or is_sound(found)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["segments", "words", "word", "text", "start", "end", "speaker", "score", "language"]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=25,
)


@runs(max_examples=150, deadline=None)
@given(JSON, JSON)
def test_any_json_gives_words_or_a_reason(data: object, more: object) -> None:
    for value in (
        data,
        {"segments": data},
        {"segments": [{"start": 0, "end": 4, "text": "a b", "words": more}]},
    ):
        try:
            found, _ = parse_json(json.dumps(value))
        except RecordingError as error:
            assert error.error == "bad_subtitles"
        else:
            assert found is None or is_sound(found)


@runs(max_examples=100, deadline=None)
@given(st.binary(max_size=100))
def test_any_bytes_are_text_or_a_reason(raw: bytes) -> None:
    try:
        assert isinstance(decode(raw)[0], str)
    except UnicodeDecodeError as error:
        assert error.start < len(raw)


@runs(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 90), st.floats(0.001, 9), st.lists(st.sampled_from("abc"), min_size=1)))
)
def test_no_word_of_a_subtitle_is_lost_or_doubled(cues: list[tuple[float, float, list[str]]]) -> None:
    blocks, expected = [], []
    for i, (start, length, letters) in enumerate(cues):
        texts = [f"{letter}{i}x{k}" for k, letter in enumerate(letters)]
        blocks.append(f"00:00:{start:06.3f} --> 00:00:{start + length + 0.001:06.3f}\n{' '.join(texts)}\n")
        expected += texts
    found = parse_srt("\n".join(blocks))
    assert is_sound(found)
    assert sorted(w.text for w in found.words) == sorted(expected)
    for i in range(len(cues)):
        mine = [int(w.text.split("x")[1]) for w in found.words if w.text[1:].split("x")[0] == str(i)]
        assert mine == sorted(mine)


# Files


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1", "cp1252"])
def test_encodings(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "talk.srt"
    path.write_bytes(srt("Füße im Café").encode(encoding))
    assert [w.text for w in read_sidecar(path).words] == ["Füße", "im", "Café"]


def test_a_broken_mark_an_odd_ending_and_an_absurd_size(tmp_path: Path) -> None:
    broken, odd, large = tmp_path / "a.srt", tmp_path / "a.doc", tmp_path / "b.srt"
    broken.write_bytes(b"\xff\xfe1\x00\n\x00\x00\xd8")
    odd.write_text("x")
    with large.open("wb") as file:
        file.truncate(50_000_001)
    with pytest.raises(RecordingError, match="UTF-16"):
        read_sidecar(broken)
    with pytest.raises(RecordingError, match=r"\.doc is none of"):
        read_sidecar(odd)
    with pytest.raises(RecordingError, match="more than 50 MB"):
        read_sidecar(large)
    with pytest.raises(RecordingError, match="No such file") as caught:
        read_sidecar(tmp_path / "none.srt")
    assert caught.value.error == "unreadable_subtitles"


def test_language_from_the_name(tmp_path: Path) -> None:
    for name, recording, language in [
        ("talk.en.srt", "talk", "en"),
        ("talk.ger.sdh.srt", "talk", "de"),
        ("talk.pt-BR.srt", "talk", "pt"),
        ("talk.is.srt", "talk.is", None),
        ("talk.srt", "talk", None),
    ]:
        path = tmp_path / name
        path.write_text(srt("word"))
        assert read_sidecar(path, recording).language == language
    assert [iso_639_1(c) for c in ("FRE", "zh_Hans", "und", "english", "", None)] == ["fr", "zh"] + [None] * 4


def test_which_of_several_files_is_taken(tmp_path: Path) -> None:
    timed = [{"word": "json", "start": 0, "end": 1}]
    texts = {
        "talk.json": json.dumps({"segments": [{"start": 0, "end": 1, "text": "json", "words": timed}]}),
        "talk.ctm": "talk 1 0 1 ctm",
        "talk.vtt": "WEBVTT\n\n00:00.000 --> 00:01.000\nvtt",
        "talk.srt": srt("srt"),
        "talk.de.srt": srt("deutsch"),
        "talk.de.forced.srt": srt("nur"),
        "talk.rttm": "SPEAKER talk 1 0 1 <NA> <NA> A <NA> <NA>",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    paths = [tmp_path / name for name in texts]

    def taken(language: str | None = None) -> str:
        return from_sidecars(paths, "talk", language).words[0].text

    assert taken() == "json"
    assert taken("de") == "deutsch"
    (tmp_path / "talk.json").write_text(json.dumps({"segments": [{"start": 0, "end": 1, "text": "plain"}]}))
    assert taken() == "ctm"
    (tmp_path / "talk.ctm").write_text(";; empty")
    assert taken() == "vtt"
    assert from_sidecars([tmp_path / "talk.json"], "talk").words[0].text == "plain"


def test_sidecar_first_then_the_stream_inside(tmp_path: Path) -> None:
    recording = tmp_path / "talk.mkv"
    streams = (SubtitleStream(2, "eng"), SubtitleStream(3, "ger"), SubtitleStream(4, "fre"))
    texts = {2: "", 3: srt("Guten Tag"), 4: "WEBVTT\n\n00:01.000 --> 00:02.000\nBonjour"}
    extract = lambda media, stream: texts[stream.index].encode()  # noqa: E731
    found = make_transcriber("subtitles", TranscriberSettings(extract))(
        media(recording, subtitles=streams), None, []
    )
    assert (found.source, found.language, found.words[0].text) == ("embedded", "de", "Guten")
    french = make_transcriber("subtitles", TranscriberSettings(extract, language="fra"))
    assert french(media(recording, subtitles=streams), None, []).words[0].text == "Bonjour"
    beside = tmp_path / "talk.srt"
    beside.write_text(srt("Hello"))
    found = french(media(recording, beside, subtitles=streams), None, [])
    assert (found.source, found.language, found.words[0].text) == ("sidecar", "fr", "Hello")
    assert french(media(recording), None, []) == Transcript()


def test_ffmpegs_rendering_of_a_stream_is_understood(tmp_path: Path, ffmpeg: str) -> None:
    plain, inside, out = tmp_path / "a.srt", tmp_path / "a.mkv", tmp_path / "b.srt"
    plain.write_text(srt("ANNA: Hi <i>there</i>.", "- One.\n- Two."))
    for source, target in ((["-c:s", "ass"], inside), ([], out)):
        origin = plain if target is inside else inside
        subprocess.run([ffmpeg, "-v", "error", "-i", origin, *source, target], check=True)
    assert said(parse_srt(out.read_text())) == said(parse_srt(plain.read_text()))


# Choosing


def test_choices_and_what_they_lack(tmp_path: Path) -> None:
    settings = TranscriberSettings(no_streams)
    with pytest.raises(UsageError, match="choose from subtitles, whisper, none"):
        make_transcriber("siri", settings)
    with pytest.raises(UsageError, match="no language code"):
        make_transcriber("none", TranscriberSettings(no_streams, language="klingon"))
    assert make_transcriber("none", settings)(media(tmp_path / "x.wav"), None, []) == Transcript()
    assert transcribe.available("subtitles", settings) is None
    empty = TranscriberSettings(no_streams, whisper_folder=tmp_path)
    assert "lacks config.json" in (transcribe.available("whisper", empty) or "")
    with pytest.raises(SetupError, match=r"lacks config\.json"):
        make_transcriber("whisper", empty)
