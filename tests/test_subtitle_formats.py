"""Subtitle files as their programs write them, times as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from annotator.records import RecordingError, Transcript, Word
from annotator.transcribe import cut_at_end, read_sidecar
from annotator.transcribe.markup import parse_sami, parse_ttml
from annotator.transcribe.subrip import parse_srt, parse_subviewer
from annotator.transcribe.substation import parse_ass, parse_sub
from annotator.transcribe.subtitles import About, from_sidecars

ASS_HEAD = """[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname
Style: Default,Arial,&HNOCOLOUR

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


def said(transcript: Transcript) -> list[tuple[str | None, str, float, float]]:
    """Speaker, text, start and end of each piece."""
    cues: dict[int | None, list[Word]] = {}
    for word in transcript.words:
        cues.setdefault(word.cue, []).append(word)
    return [(w[0].speaker, " ".join(x.text for x in w), w[0].start, w[-1].end) for w in cues.values()]


# SubStation Alpha


def test_ass_gives_names_and_no_drawings_effects_comments_or_layers() -> None:
    found = parse_ass(
        ASS_HEAD
        + "Dialogue: 0,0:00:00.66,0:00:05.36,Default,John,0,0,0,,Good {\\i1}morning{\\i0}, everyone.\n"
        "Dialogue: 0,0:00:00.66,0:00:05.36,Sign,,0,0,0,,{\\an7\\p1}m 0 0 l 100 0 100 100 0 100{\\p0}\n"
        "Dialogue: 0,0:00:06.00,0:00:08.00,Sign,,0,0,0,,{\\p2}m 0 0{\\p0}Bakery{note}\n"
        "Dialogue: 0,0:00:09.00,0:00:11.00,Default,Mary  K. ,0,0,0,,I am\\Nreally\\hworried.\n"
        "Dialogue: 1,0:00:11.66,0:00:17.36,Default,,0,0,0,,{\\blur3}That is true.\n"
        "Dialogue: 0,0:00:11.66,0:00:17.36,Default,John,0,0,0,,That is true.\n"
        "Comment: 0,0:00:18.00,0:00:19.00,Default,John,0,0,0,,Not said.\n"
        "Dialogue: 0,0:00:20.00,0:00:21.00,Default,,0,0,0,fx,{\\k20}ka\n"
        "Dialogue: 0,0:00:21.00,0:00:22.00,Default,,0,0,0,Scroll up;50;200,The end\n"
    )
    assert said(found) == [
        ("John", "Good morning, everyone.", 0.66, 5.36),
        (None, "Bakery", 6.0, 8.0),
        ("Mary K.", "I am really worried.", 9.0, 11.0),
        ("John", "That is true.", 11.66, 17.36),
    ]
    assert found.flags == ()


def test_a_picture_that_moves_is_told_once() -> None:
    lines = [
        f"Dialogue: 0,0:00:01.{i:02},0:00:01.{i + 4:02},Sign,,0,0,0,,{{\\pos({i},0)}}Shop\n"
        for i in range(0, 80, 4)
    ]
    assert said(parse_ass(ASS_HEAD + "".join(lines))) == [(None, "Shop", 1.0, 1.8)]


def test_fields_of_ass_go_by_the_format_line_and_ssa_is_read() -> None:
    other = "[Events]\nFormat: Start, End, Actor, Text\nDialogue: 0:00:01.00,0:00:02.00,Ann,Hi, you\n"
    assert said(parse_ass(other)) == [("Ann", "Hi, you", 1.0, 2.0)]
    ssa = (
        "[Script Info]\nScriptType: v4.00\n[V4 Styles]\n[Events]\n"
        "Format: Marked, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
        "Dialogue: Marked=0,0:00:01.00,0:00:02.00,Default,Ann,0000,0000,0000,,Hi\n"
    )
    assert said(parse_ass(ssa)) == [("Ann", "Hi", 1.0, 2.0)]


def test_lines_of_ass_without_times_are_dropped_and_told() -> None:
    good = "Dialogue: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,Hi\n"
    found = parse_ass(ASS_HEAD + "Dialogue: 0,soon,0:00:02.00,Default,,0,0,0,,No\n" + good)
    assert [w.text for w in found.words] == ["Hi"] and found.flags == ("dropped_cues",)
    assert parse_ass(ASS_HEAD).words == ()
    with pytest.raises(RecordingError, match=r"talk\.ass .*no line is 'Dialogue"):
        parse_ass("Good morning.", "talk.ass")


# MicroDVD, MPL2, SubViewer


def test_sub_files_of_three_kinds() -> None:
    assert said(parse_sub("{1}{1}25\n{25}{75}{Y:i}Good|morning\n")) == [(None, "Good morning", 1.0, 3.0)]
    assert said(parse_sub("{25}{75}Good morning\n", frame_rate=12.5)) == [(None, "Good morning", 2.0, 6.0)]
    assert said(parse_sub("{1}{1}25\n{25}{75}Hi\n", frame_rate=12.5))[0][2] == 1.0  # the file knows best
    assert said(parse_sub("[10][30]/Good|morning\n")) == [(None, "Good morning", 1.0, 3.0)]
    subviewer = "[INFORMATION]\n[TITLE]\n[END INFORMATION]\n00:00:01.00,00:00:03.00\nGood[br]morning\n\n"
    assert said(parse_sub(subviewer)) == [(None, "Good morning", 1.0, 3.0)]
    assert said(parse_subviewer("0:00:01.000,0:00:03.000\nGood\nmorning\n")) == [
        (None, "Good morning", 1.0, 3.0)
    ]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{25}{75}Good morning", r"write it into the first line, such as \{1\}\{1\}25"),
        ("{1}{1}0\n{25}{75}Hi", "can't be made times"),
        ("no times", "no line has times"),
    ],
)
def test_what_a_sub_file_lacks_is_said(text: str, what: str) -> None:
    with pytest.raises(RecordingError, match=what):
        parse_sub(text)


def test_pictures_of_text_are_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "talk.sub").write_bytes(b"\x00\x00\x01\xba" + bytes(100))
    with pytest.raises(RecordingError, match="VobSub"):
        read_sidecar(tmp_path / "talk.sub")


# TTML


@pytest.mark.parametrize(
    "namespace",
    ["http://www.w3.org/ns/ttml", "http://www.w3.org/2006/10/ttaf1", "http://www.w3.org/2006/04/ttaf1", ""],
)
def test_ttml(namespace: str) -> None:
    xmlns = f'xmlns="{namespace}"' if namespace else ""
    found = parse_ttml(
        f'<?xml version="1.0" encoding="UTF-16"?>\n<tt {xmlns} '
        f'xmlns:ttm="{namespace}#metadata" xml:lang="de-DE" '
        f'xmlns:ttp="{namespace}#parameter" ttp:frameRate="25" ttp:tickRate="10000000">'
        '<head><metadata><ttm:agent xml:id="a1"><ttm:name>John B.</ttm:name></ttm:agent></metadata></head>'
        '<body><div begin="1s"><p begin="00:00:00.600" end="00:00:03.000" ttm:agent="a1">'
        "Good <span>morning</span>,\n"
        " <br/>all &amp; &nbsp;one.</p></div>"
        '<div><p begin="00:00:05:05" dur="2s">Frames.</p><p begin="80000000t" end="90000000t">Ticks.</p>'
        '<p><span begin="10s" end="11s">Spans</span> <span begin="11s" end="12s">too.</span></p>'
        '<p begin="20s">No end.</p></div></body></tt>'
    )
    assert said(found) == [
        ("John B.", "Good morning, all & one.", 1.6, 4.0),
        (None, "Frames.", 5.2, 7.2),
        (None, "Ticks.", 8.0, 9.0),
        (None, "Spans", 10.0, 11.0),
        (None, "too.", 11.0, 12.0),
    ]
    assert (found.language, found.flags) == ("de", ("dropped_cues",))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("<tt><body><p begin='1s'", "line 1 is no well-formed XML"),
        ("<tt><body><p begin='00:00:01:05' end='3s'>x</p></body></tt>", "counts frames"),
        ("<tt><body><p begin='soon' end='3s'>x</p></body></tt>", "'soon' is no time"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><tt><body/></tt>', "declares entities"),
        ("<tt>" + "<div>" * 200, "nested too deeply"),
    ],
)
def test_broken_ttml_says_what_is_wrong(text: str, what: str) -> None:
    with pytest.raises(RecordingError, match=what):
        parse_ttml(text, "talk.ttml")


# SAMI

SAMI = """<SAMI><HEAD><STYLE TYPE="text/css"><!--
P {margin-left: 8pt;} .KRCC {Name:Korean; lang: ko-KR; SAMIType:CC;} .ENCC { Name:English; lang:en-US; }
--></STYLE></HEAD><BODY>
<SYNC Start=600><P Class=ENCC>Good<br>morning &amp; hi<P Class=KRCC>안녕
<SYNC Start=3000><P Class=ENCC>&nbsp;<P Class=KRCC>&nbsp;
<SYNC Start=4000><P Class=KRCC>네<SYNC Start=5000><P Class=KRCC>네
<SYNC Start=5500><P Class=KRCC>&nbsp;
<SYNC Start="6000"><P Class=ENCC ID=Source>John<P Class=ENCC>I am <i>here</i></P></SYNC></BODY></SAMI>"""


def test_sami_has_one_language_at_a_time() -> None:
    english = parse_sami(SAMI, language="en")
    assert [s[:3] for s in said(english)] == [(None, "Good morning & hi", 0.6), ("John", "I am here", 6.0)]
    assert (said(english)[0][3], english.language) == (3.0, "en")
    korean = parse_sami(SAMI, language="fr")
    assert ([s[1] for s in said(korean)], korean.language) == (["안녕", "네", "네"], "ko")
    assert said(parse_sami("<sync start=1000>Hi<sync start=2000>")) == [(None, "Hi", 1.0, 2.0)]
    with pytest.raises(RecordingError, match="no <SYNC"):
        parse_sami("<SAMI></SAMI>")


# Times


@pytest.mark.parametrize(
    "line",
    [
        "00:00:00,600 --> 00:00:03,000",
        "00:00:00, 600 --> 00:00:03, 000",
        "00 : 00 : 00 , 600 --> 00 : 00 : 03 , 000",
        "00:00:00,600 -> 00:00:03,000",
        "00:00:00,600 – > 00:00:03,000",
        "00:00:00,600 —> 00:00:03,000",
        "00:00:00,600 - -> 00:00:03,000",
        "00:00:00,600 ---> 00:00:03,000",
        "00:00:00,600==>00:00:03,000",
        "00:00:00,600 → 00:00:03,000",
        "00:00:00,600 - 00:00:03,000",
        "00:00:00.600,00:00:03.000",
        "0:00:00.6\t0:00:03.0",
        "00:00:00 600 --> 00:00:03 000",
        "00:00:00:600 --> 00:00:03:000",
        "00:00:00;600 --> 00:00:03;000",
        "00:00:00'600 --> 00:00:03'000",
        "00.00.00,600 --> 00.00.03,000",
        "00：00：00，600 --> 00：00：03，000",
        "00:00,600 --> 00:03,000",
        "\u200e00:00:00,600 --> 00:00:03,000\u200e".removeprefix("\u200e"),
        "00:00:00,600 --> 00:00:03,000  X1:10 X2:20",
        "00:00:00,600 --> 00:00:03,000 {\\an8}",
        "00:00:00,600 --&gt; 00:00:03,000",
        "0.600 --> 3.000",
    ],
)
def test_odd_separators_of_times(line: str) -> None:
    assert said(parse_srt(f"1\n{line}\nGood morning.\n")) == [(None, "Good morning.", 0.6, 3.0)]


def test_whispers_lines_on_the_screen_and_subrip_with_the_ending_of_webvtt(tmp_path: Path) -> None:
    shown = "[00:00.600 --> 00:03.000]  Good morning.\n[00:03.000 --> 00:05.000]  Hello.\n"
    assert [text for _, text, *_ in said(parse_srt(shown))] == ["Good morning.", "Hello."]
    (tmp_path / "talk.vtt").write_text("\ufeff1\n00:00:00.600 --> 00:00:03.000\nGood morning.\n", "utf-8")
    assert said(read_sidecar(tmp_path / "talk.vtt")) == [(None, "Good morning.", 0.6, 3.0)]


@pytest.mark.parametrize("line", ["10:30 -> 11:00", "12:00:01 was late", "1.2.3 go", "5 --> 6"])
def test_what_only_looks_like_times_is_said(line: str) -> None:
    text = f"1\n00:00:01,000 --> 00:00:03,000\nWell,\n{line}\n"
    if "-->" in line:
        with pytest.raises(RecordingError, match="line 4 has times that are not"):
            parse_srt(text)
    else:
        assert line in said(parse_srt(text))[0][1]


@pytest.mark.parametrize(
    "line", ["00:00:00:15 --> 00:00:03:00", "00:00:00;15 --> 00:00:03;00", "00;00;00;15 --> 00;00;03;00"]
)
def test_frames_are_refused_with_the_remedy(line: str) -> None:
    with pytest.raises(RecordingError, match="line 2 counts frames .* save it with thousandths of seconds"):
        parse_srt(f"1\n{line}\nGood morning.\n")


def test_words_after_the_end_are_dropped_and_told() -> None:
    words = [
        Word(1.0, 2.0, "one", cue=0),
        Word(11.0, 12.5, "two", cue=1),
        Word(12.5, 14.0, "three", cue=1),
        Word(360_003.0, 360_004.0, "four", cue=2),
        Word(13.0, 14.0, "five", confidence=0.9),
    ]
    found = cut_at_end(Transcript(tuple(sorted(words, key=lambda w: w.start)), "sidecar"), 12.0)
    assert [(w.text, w.start) for w in found.words] == [("one", 1.0), ("two", 11.0), ("three", 12.0)]
    assert found.flags == ("dropped_cues",)
    for duration_s in (0.0, 400_000.0):
        whole = Transcript(tuple(words[:2]))
        assert cut_at_end(whole, duration_s) is whole


# Files


def test_a_file_that_cannot_be_read_costs_itself_alone(tmp_path: Path) -> None:
    bad, good, other = tmp_path / "talk.vtt", tmp_path / "talk.srt", tmp_path / "talk.json"
    bad.write_text("no subtitles")
    good.write_text("1\n00:00:01,000 --> 00:00:02,000\nHi\n")
    other.write_text('{"title": "a film"}')
    found = from_sidecars([bad, good, other], "talk")
    assert ([w.text for w in found.words], found.origin) == (["Hi"], "talk.srt")
    assert [p.error for p in found.problems] == ["bad_subtitles"] and "talk.vtt" in found.problems[0].message
    assert found.flags == ("unreadable_transcript",)
    assert [name for name, _ in found.unused] == ["talk.json", "talk.vtt"]
    alone = from_sidecars([bad], "talk")
    assert (alone.words, alone.source, alone.flags) == ((), None, ("unreadable_transcript",))


def test_the_content_goes_before_the_ending(tmp_path: Path) -> None:
    vtt, ass = tmp_path / "a.srt", tmp_path / "b.srt"
    vtt.write_text("\n\nWEBVTT\n\n00:01.000 --> 00:02.000\n<v Ann>Hi\n")
    ass.write_text(ASS_HEAD + "Dialogue: 0,0:00:01.00,0:00:02.00,Default,Ann,0,0,0,,Hi\n")
    for path in (vtt, ass):
        assert said(read_sidecar(path)) == [("Ann", "Hi", 1.0, 2.0)]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-8-sig"])
def test_unicode_of_any_width_is_no_guess(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "talk.srt"
    path.write_bytes("1\r\n00:00:01,000 --> 00:00:02,000\r\nПривет 你好\r\n".encode(encoding))
    found = read_sidecar(path)
    assert ([w.text for w in found.words], found.flags) == (["Привет", "你好"], ())


@pytest.mark.parametrize(
    ("name", "encoding", "text"),
    [
        ("talk.ru.srt", "cp1251", "Доброе утро всем"),
        ("talk.ru.srt", "koi8_r", "Доброе утро всем"),
        ("talk.zh.srt", "gbk", "大家早上好"),
        ("talk.zh-TW.srt", "big5", "大家早安"),
        ("talk.ja.srt", "cp932", "おはようございます"),
        ("talk.ja.srt", "euc_jp", "おはようございます"),
        ("talk.ko.srt", "cp949", "안녕하세요"),
        ("talk.el.srt", "cp1253", "Καλημέρα σε όλους"),
        ("talk.tr.srt", "cp1254", "Günaydın, şimdi değil"),
        ("talk.cs.srt", "cp852", "Příliš žluťoučký kůň"),
        ("talk.de.srt", "cp1252", "Schöne Grüße"),
        ("talk.de.srt", "mac_roman", "Schöne Grüße"),
    ],
)
def test_the_language_in_the_name_tells_the_encoding(
    name: str, encoding: str, text: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(f"1\n00:00:01,000 --> 00:00:02,000\n{text}\n".encode(encoding))
    found = read_sidecar(path, "talk")
    assert (" ".join(w.text for w in found.words), found.flags) == (text, ("guessed_encoding",))


def test_milliseconds_and_frames_go_by_the_recording(tmp_path: Path) -> None:
    (tmp_path / "talk.json").write_text(
        '{"segments": [{"start": 600, "end": 5400, "text": "Good morning."}]}'
    )
    found = from_sidecars([tmp_path / "talk.json"], "talk", about=About(duration_s=12.0))
    assert found.words[-1].end == 5.4
    (tmp_path / "talk.sub").write_text("{25}{75}Good morning.")
    found = from_sidecars([tmp_path / "talk.sub"], "talk", about=About(frame_rate=25.0))
    assert found.words[-1].end == 3.0
