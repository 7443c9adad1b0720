"""Who speaks, as subtitles and captions write it."""

from __future__ import annotations

import pytest

from annotator.records import Transcript, Turn, Word
from annotator.transcribe.subrip import parse_srt, parse_vtt
from annotator.utterances import build


def srt(*texts: str) -> str:
    return "\n".join(
        f"{i + 1}\n00:00:{2 * i:02},000 --> 00:00:{2 * i + 2:02},000\n{text}\n"
        for i, text in enumerate(texts)
    )


def said(transcript: Transcript) -> list[tuple[str | None, str]]:
    """Speaker and text of each piece."""
    cues: dict[int | None, list[Word]] = {}
    for word in transcript.words:
        cues.setdefault(word.cue, []).append(word)
    return [(words[0].speaker, " ".join(w.text for w in words)) for words in cues.values()]


TALK = [("Good morning everyone.", 0), ("I am worried.", 1), ("We spent too much.", 0), ("That is good.", 1)]


@pytest.mark.parametrize(
    ("form", "names"),
    [
        (">> {}: ", ("JOHN", "MARY")),
        (">>> {}: ", ("John Smith", "Mary")),
        (">>{}: ", ("JOHN", "MARY")),
        ("&gt;&gt; {}: ", ("JOHN", "MARY")),
        ("- {}: ", ("John", "Mary")),
        ("[{}] ", ("John", "Mary")),
        ("[{}]: ", ("John", "mary.k")),
        ("[{}]\n", ("John", "Mary")),
        ("({}) ", ("JOHN", "MARY")),
        ("({}): ", ("John", "Mary")),
        (">> [{}] ", ("John", "Mary")),
        ("[{}] ", ("SPEAKER_00", "SPEAKER_01")),
        ("[{}] ", ("Speaker 1", "Speaker 2")),
        ("[{}] ", ("jsmith", "maria")),
        ("[{}] ", ("Dr. Anna de Vries", "Bob")),
        ("{}: ", ("jsmith", "maria.k")),
        ("{}: ", ("john.smith", "mary_k")),
        ("{}: ", ("Anna Schmidt | ACME", "Bob | Initech GmbH")),
        ("{}: ", ("bob@example.org", "a.b+c@mail.example.com")),
        ("{}: ", ("Smith, John", "O'Brien, Mary")),
        ("{}：", ("张三", "李四")),
        ("{}:", ("Anna", "Ben")),  # without a space behind
        ("{} (on phone): ", ("ANNA", "BEN")),
        ("<v {}>", ("John", "Mary K.")),
        ("[{}:] ", ("ANNA", "BEN")),
        ("【{}】", ("Anna", "Ben")),
        ("≫ {}: ", ("ANNA", "BEN")),
        ("*{}*: ", ("Anna", "Ben")),
        ("@{}: ", ("Anna", "Ben")),
        ("{} - ", ("Anna", "Ben")),
        ("{} – ", ("ANNA", "Dr. Ben de Vries")),
        ("{} — ", ("Speaker 1", "Speaker 2")),
        (">> {} - ", ("Anna", "Ben")),
        ("{} (on phone) - ", ("Anna", "Ben")),
        ("{}> ", ("Anna", "Ben")),
        ("{}>", ("jsmith", "maria_k")),
        ("{}&gt; ", ("Anna", "Ben")),
        ("{} > ", ("Anna Smith", "Ben")),
        ("{}\n", ("Anna", "Ben")),
        ("{}\n", ("ANNA SMITH", "BEN (on phone)")),
        ("{}\n", ("SPEAKER_00", "SPEAKER_01")),
        ("{}\n- ", ("Anna", "Ben")),
        (">> {}\n", ("Anna", "Ben")),
        ("{}\n", ("张三", "李四")),
    ],
)
def test_labels_that_come_back_are_speakers(form: str, names: tuple[str, str]) -> None:
    found = parse_srt(srt(*(form.format(names[who]) + text for text, who in TALK)))
    assert said(found) == [(names[who].removesuffix(" (on phone)"), text) for text, who in TALK]


def test_two_names_in_a_cue_stand_above_what_each_says() -> None:
    texts = ["Anna\nGood morning.\nHow are you?\nBen\nFine.", "Ben\nAnd you?", "Anna\nFine.", "Good."]
    assert said(parse_srt(srt(*texts))) == [
        ("Anna", "Good morning. How are you?"),
        ("Ben", "Fine."),
        ("Ben", "And you?"),
        ("Anna", "Fine."),
        (None, "Good."),
    ]


@pytest.mark.parametrize(
    "texts",
    [
        ["I - I think so.", "I - I do not know.", "You - you do.", "You - you said so."],
        ["Hallelujah\nHallelujah", "Hallelujah\nPraise him", "Sing\nHallelujah", "Amen\nHallelujah"],
        [
            "Right\nwe go on.",
            "He came - at last.",
            "Paris - in May.",
            "x > y",
            "Rome - in June.",
            "Right\nyes.",
        ],
        ["- Mum - what is it?", "- Mum - come here.", "- Dad - look.", "- Dad - stop."],
        ["Wait\nfor me", "Then\nhe came", "So\nit was", "Home\nat last"],
    ],
)
def test_what_looks_like_a_name_but_does_not_come_back_stays_text(texts: list[str]) -> None:
    found = parse_srt(srt(*texts))
    as_written = [" ".join(text.removeprefix("- ").split()) for text in texts]
    assert said(found) == [(None, text) for text in as_written]


@pytest.mark.parametrize(
    "sound",
    [
        "[music]",
        "[Music]",
        "[MUSIC PLAYING]",
        "[laughs]",
        "(sighs)",
        "[door slams]",
        "[Applause]",
        "(LAUGHS)",
    ],
)
def test_sounds_are_no_speakers(sound: str) -> None:
    found = parse_srt(srt(*(f"{sound} {text}" for text, _ in TALK)))
    assert said(found) == [(None, text) for text, _ in TALK]
    assert said(parse_srt(srt(sound, "Hello."))) == [(None, "Hello.")]


def test_a_bracket_now_and_then_is_no_label() -> None:
    texts = ["[Paris] We are here.", "It rains.", "Where to?", "[Paris] Home.", "(and then) he left", "Done."]
    found = parse_srt(srt(*texts))
    assert {speaker for speaker, _ in said(found)} == {None}
    assert "(and then) he left" in [text for _, text in said(found)]


def test_a_saying_that_comes_back_in_few_cues_is_no_label() -> None:
    texts = [
        "my advice: wait.",
        "And then?",
        "We wait.",
        "my advice: run.",
        "Why?",
        "Who knows.",
        "So.",
        "Yes.",
    ]
    assert {speaker for speaker, _ in said(parse_srt(srt(*texts)))} == {None}


def test_a_bare_mark_begins_a_piece_and_stays_out_of_the_text() -> None:
    found = parse_srt(
        srt(">> Good morning.", ">> I am here. >> So am I.", "And we begin.", ">>> In other news.")
    )
    pieces = ["Good morning.", "I am here.", "So am I.", "And we begin.", "In other news."]
    assert said(found) == [(None, text) for text in pieces]
    assert [w.text for w in found.words if w.change] == ["Good", "I", "So", "In"]
    rows = build([Turn(0, 8, "SPEAKER_00")], found, 8.0)
    assert [u.text for u in rows] == [
        "Good morning.",
        "I am here.",
        "So am I. And we begin.",
        "In other news.",
    ]


def test_who_was_named_behind_a_mark_speaks_until_the_next() -> None:
    found = parse_srt(srt(">> JOHN: Good morning.", "It is nine.", ">> Thank you.", "Bye."))
    assert [speaker for speaker, _ in said(found)] == ["JOHN", "JOHN", None, None]


def test_signs_inside_a_sentence_change_nothing() -> None:
    found = parse_srt(srt("a >> b is a shift", "x > y"))
    assert said(found) == [(None, "a >> b is a shift"), (None, "x > y")]


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("- Good morning. - I am worried.", ["Good morning.", "I am worried."]),
        ("-Too much money. -Wonderful.", ["Too much money.", "Wonderful."]),
        ("– Kommst du? – Nein.", ["Kommst du?", "Nein."]),
        ("— ¿Vienes? — No.", ["¿Vienes?", "No."]),
        ("- Yes - No", ["Yes", "No"]),
        ("- One. - Two. - Three.", ["One.", "Two.", "Three."]),
        ("- I saw him - you know - yesterday.", ["I saw him - you know - yesterday."]),
        ("- It was well-known. -5 degrees.", ["It was well-known. -5 degrees."]),
        ("He came - I think. - No.", ["He came - I think. - No."]),
        ("- Hi.\n- Hello. - Bye.", ["Hi.", "Hello.", "Bye."]),
    ],
)
def test_two_in_a_line_are_parted(line: str, parts: list[str]) -> None:
    found = parse_srt(srt(line))
    assert [text for _, text in said(found)] == parts
    changes = sum(word.change for word in found.words)
    assert changes == (len(parts) if len(parts) > 1 else 0)


def test_each_of_a_dialogue_is_a_row_though_one_voice_is_heard() -> None:
    found = parse_srt(srt("- Good morning. - I am worried.", "-We spent it. -That is good."))
    rows = build([Turn(0, 4, "SPEAKER_00")], found, 4.0)
    assert [u.text for u in rows] == ["Good morning.", "I am worried.", "We spent it.", "That is good."]


def test_names_in_voice_tags_and_rolling_captions_of_youtube() -> None:
    text = (
        "WEBVTT\nKind: captions\nLanguage: en\n\n"
        "00:00:00.600 --> 00:00:02.990 align:start position:0%\n \ngood<00:00:01.000><c> morning</c>\n\n"
        "00:00:02.990 --> 00:00:03.000 align:start position:0%\ngood morning\n \n\n"
        "00:00:03.000 --> 00:00:05.390 align:start position:0%\ngood morning\nlet<00:00:03.500><c> us</c>\n\n"
        "00:00:05.390 --> 00:00:05.400 align:start position:0%\nlet us\n \n\n"
        "00:00:16.000 --> 00:00:18.490 align:start position:0%\nlet us\nI<00:00:16.500><c> am</c>\n\n"
        "00:00:18.490 --> 00:00:18.500 align:start position:0%\nI am\n \n"
    )
    words = parse_vtt(text).words
    assert [w.text for w in words] == "good morning let us I am".split()
    starts = {w.text: w.start for w in words}
    assert (starts["good"], starts["let"], starts["I"]) == (0.6, 3.0, 16.0)


@pytest.mark.parametrize("blank", [" ", "\t", "\xa0"])
def test_only_an_empty_line_ends_a_cue_of_webvtt(blank: str) -> None:
    text = (
        f"WEBVTT\n\n00:01.000 --> 00:02.000\n{blank}\nHello\n{blank}\nworld\n\n00:03.000 --> 00:04.000\nBye\n"
    )
    assert said(parse_vtt(text)) == [(None, "Hello world"), (None, "Bye")]


def test_numbers_above_times_stay_numbers_where_empty_lines_hold_a_space() -> None:
    text = "WEBVTT\n\n1\n00:01.000 --> 00:02.000\nHello\n \n2\n00:03.000 --> 00:04.000\nBye\n"
    assert said(parse_vtt(text)) == [(None, "Hello"), (None, "Bye")]
