"""Cues to words: what is left of markup, whose words they are, and when they are said."""

from __future__ import annotations

import pytest

from annotator import bounds
from annotator.records import RecordingError, Transcript, Word
from annotator.transcribe.cues import (
    Cue,
    bad,
    check_cues,
    check_words,
    cut_at_end,
    plain,
    spread,
    tokens,
    unescaped,
    words_of,
)


def texts(*cues: str | Cue) -> list[str]:
    """What is left of cues of two seconds each, one after the other, each as one text."""
    listed = [Cue(2.0 * i, 2.0 * i + 2, c) if isinstance(c, str) else c for i, c in enumerate(cues)]
    words, _ = words_of(listed, "talk.srt")
    numbers = dict.fromkeys(word.cue for word in words)
    return [" ".join(w.text for w in words if w.cue == number) for number in numbers]


def spans(*cues: Cue) -> list[tuple[str, float, float]]:
    return [(w.text, w.start, w.end) for w in words_of(cues, "talk.srt")[0]]


def test_plain_text_can_be_held_by_any_file() -> None:
    assert plain("so what") == "so what"
    assert plain("a\tb\nc\rd\x00e\x7ff\x85g") == "a\tb\ncdefg"
    assert plain("a\u200bb\u200e\u200f\u202a\u202e\u2066\u2069\ufeffc") == "abc"
    assert plain("a\ud800b") == "a\ufffdb" and plain("\ud83d\ude00") == "😀"
    assert plain("Zoë 漢字") == "Zoë 漢字"


def test_words_of_scripts_without_spaces_end_at_punctuation() -> None:
    assert tokens("one two, three") == ["one", "two,", "three"]
    assert tokens("你好，世界。「是。」好 é") == ["你好，", "世界。", "「是。」好", "é"]
    assert tokens("对……吗？！好") == ["对……", "吗？！", "好"]


def test_pieces_share_a_time_by_their_characters() -> None:
    assert list(spread(1.0, 2.0, ["ab", "c", "d"])) == [(1.0, 1.5), (1.5, 1.75), (1.75, 2.0)]
    assert list(spread(0.0, 1.0, ["a", "b", "c"])) == [(0.0, 0.3333), (0.3333, 0.6667), (0.6667, 1.0)]
    assert list(spread(1.23456, 2.0, ["a"])) == [(1.2346, 2.0)]


def test_entities_are_resolved_and_no_number_is_too_long() -> None:
    assert unescaped("&amp;&lt;&#65;&#x42;") == "&<AB"
    assert unescaped("&#0000065;") == "A"
    assert unescaped("&#99999999;&#" + "9" * 5000 + ";&#xFFFFFFF;&#xfffffff") == "\ufffd" * 4
    assert unescaped("&#x00041;") == "A"
    assert texts("fish &amp; chips &lt;b&gt;") == ["fish & chips <b>"]


def test_what_is_wrong_names_the_file_and_the_remedy() -> None:
    error = bad("talk.srt", "line 3 is odd")
    assert (error.stage, error.error) == ("transcribe", "bad_subtitles")
    assert str(error) == "talk.srt can't be read as a transcript: line 3 is odd. Mend or remove it."


def test_no_more_cues_and_words_than_a_recording_has(monkeypatch: pytest.MonkeyPatch) -> None:
    cue = Cue(0.0, 1.0, "a")
    check_cues([cue] * 200_000, "talk.srt")
    with pytest.raises(RecordingError, match=r"talk\.srt .*: it has more than 200,000 cues\. Mend"):
        check_cues([cue] * 200_001, "talk.srt")
    check_cues([Cue(0.0, 1.0, "a" * 100_000)], "talk.srt")
    with pytest.raises(RecordingError, match=r"talk\.srt .*: one of its cues has more than 100,000 char"):
        words_of([cue, Cue(0.0, 1.0, "a" * 100_001)], "talk.srt")
    crowd = [Word(3.0, 5.0, "a")] * 500
    check_words(crowd, "talk.srt")
    with pytest.raises(RecordingError, match=r"talk\.srt .*: more than 500 words sound at once, at 3 s\."):
        check_words([*crowd, Word(3.0, 3.0, "b")], "talk.srt")
    monkeypatch.setattr(bounds, "MOST_WORDS", 3)
    check_words([Word(float(i), i + 1.0, "a") for i in range(3)], "talk.srt")
    with pytest.raises(RecordingError, match=r"talk\.srt .*: it has more than 3 words"):
        words_of([Cue(0.0, 9.0, "a b c"), Cue(9.0, 10.0, "d")], "talk.srt")
    assert len(words_of([Cue(0.0, 9.0, "a b c")], "talk.srt")[0]) == 3


def test_cues_that_end_before_they_begin_are_dropped_and_told() -> None:
    good, none, back = Cue(2.0, 3.0, "b"), Cue(1.0, 1.0, "none"), Cue(5.0, 4.0, "back")
    assert words_of([good, Cue(0.0, 1.0, "a")], "t") == (
        (Word(0.0, 1.0, "a", cue=0), Word(2.0, 3.0, "b", cue=1)),
        (),
    )
    for bad_cue in (none, back):
        assert words_of([good, bad_cue], "t") == ((Word(2.0, 3.0, "b", cue=0),), ("dropped_cues",))


def test_a_speaker_behind_a_mark_goes_on_until_the_next() -> None:
    cues = [
        Cue(0.0, 2.0, ">> ANNA: Hello there."),
        Cue(2.0, 4.0, "How are you?"),
        Cue(4.0, 6.0, "&gt;&gt; Fine."),
        Cue(6.0, 8.0, "And you?"),
        Cue(8.0, 10.0, ">> ANNA: Well."),
        Cue(10.0, 12.0, "BEN: Good."),
        Cue(12.0, 14.0, "Bye."),
    ]
    words, _ = words_of(cues, "talk.vtt")
    first = [(w.speaker, w.text, w.change) for i, w in enumerate(words) if not i or words[i - 1].cue != w.cue]
    assert first == [
        ("ANNA", "Hello", True),
        ("ANNA", "How", False),
        (None, "Fine.", True),
        (None, "And", False),
        ("ANNA", "Well.", True),
        ("BEN", "Good.", False),
        (None, "Bye.", False),
    ]
    assert [w.change for w in words if w.cue == 0] == [True, False], "the mark is before the first word only"


def test_a_files_own_speaker_serves_where_the_text_names_none() -> None:
    words, _ = words_of([Cue(0.0, 2.0, "Hello.", "Zoe"), Cue(2.0, 4.0, "<v Ann>Hi.", "Zoe")], "talk.ass")
    assert [(w.speaker, w.text) for w in words] == [("Zoe", "Hello."), ("Ann", "Hi.")]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("<i>So</i> <b.loud>it</b> is<00:01.500> </>now", "So it is now"),
        ("a < b and c > d", "a < b and c > d"),
        (r"{\an8\pos(1,2)}Up {here}", "Up {here}"),
        ("♪ la la ♫", "la la"),
        ("It [door\nslams] was", "It was"),
        ("(he\nsighs) Well", "(he sighs) Well"),
        ("Oh.\n(he sighs\nloudly)\nWell", "Oh. Well"),
        ("（他\n笑）\n好", "好"),
        ("a [b] c", "a c"),
    ],
)
def test_what_is_no_speech_goes(text: str, left: str) -> None:
    assert texts(text) == [left]


def test_a_voice_tag_names_who_speaks_and_stays_a_name() -> None:
    words, _ = words_of([Cue(0.0, 4.0, "<v.a.b Ann Lee>One two<v Ben &amp; Bob>three")], "talk.vtt")
    assert [(w.speaker, w.text) for w in words] == [
        ("Ann Lee", "One"),
        ("Ann Lee", "two"),
        ("Ben & Bob", "three"),
    ]
    words, _ = words_of([Cue(0.0, 4.0, "<v A&#7;nn>fish &amp;&#7; chips")], "talk.vtt")
    assert [(w.speaker, w.text) for w in words] == [("Ann", "fish"), ("Ann", "&"), ("Ann", "chips")]


def test_a_name_in_brackets_stays_one() -> None:
    words, _ = words_of([Cue(0.0, 2.0, "[SPEAKER_01] Hello."), Cue(2.0, 4.0, "(sighs) Yes.")], "talk.srt")
    assert [(w.speaker, w.text) for w in words] == [("SPEAKER_01", "Hello."), (None, "Yes.")]


def rolling(repeats: int, other: int, gap: float = 0.0) -> list[str]:
    """Cues that show the last line again, and as many that don't."""
    cues, at = [Cue(0.0, 2.0, "r0")], 2.0
    for i in range(repeats):
        cues.append(Cue(at + gap, at + 2, f"r{i}\nr{i + 1}"))
        at += 2
    for i in range(other):
        cues.append(Cue(at, at + 2, f"o{i}"))
        at += 2
    return texts(*cues)


def test_lines_are_told_once_only_where_a_file_rolls_throughout() -> None:
    assert rolling(3, 3) == ["r0", "r1", "r2", "r3", "o0", "o1", "o2"]
    assert rolling(3, 4)[:3] == ["r0", "r0 r1", "r1 r2"], "less than half of them"
    assert rolling(2, 0) == ["r0", "r0 r1", "r1 r2"], "twice may be chance"
    assert rolling(4, 0, gap=0.09375) == ["r0", "r1", "r2", "r3", "r4"]
    assert rolling(4, 0, gap=0.125)[1] == "r0 r1", "after a pause they are said again"


def test_several_lines_may_roll_and_the_longest_repetition_counts() -> None:
    cues = ["a\nb", "a\nb\nc", "b\nc\nd", "c\nd\ne", "d\ne\nf"]
    assert texts(*cues) == ["a b", "c", "d", "e", "f"]


def test_a_caption_that_is_held_for_a_moment_is_told_once() -> None:
    """As YouTube writes them: a hundredth of a second between two lines shows the first again."""
    held = [Cue(0.0, 2.0, "one"), Cue(2.0, 2.01, "one"), Cue(2.01, 4.0, "one\ntwo")]
    assert texts(*held) == ["one", "two"]
    longer = [Cue(0.0, 2.0, "one"), Cue(2.0, 2.5, "one"), Cue(2.5, 4.0, "two")]
    assert texts(*longer) == ["one", "one", "two"]
    again = [*held, Cue(9.0, 10.0, "two")]
    assert texts(*again) == ["one", "two", "two"], "said again, after a pause"


def test_cues_that_overlap_are_laid_one_after_the_other() -> None:
    """The first is cut short where its text can be said so fast, a character in 0.02 s ..."""
    cues = [Cue(0.0, 4.0, "aaaaa"), Cue(0.125, 5.0, "bb")]
    assert spans(*cues) == [("aaaaa", 0.0, 0.125), ("bb", 0.125, 5.0)]
    # ... else both share their time.
    cues = [Cue(0.0, 4.0, "a" * 15), Cue(0.25, 3.0, "b" * 5)]
    assert spans(*cues) == [("a" * 15, 0.0, 3.0), ("b" * 5, 3.0, 4.0)]
    assert spans(Cue(0.0, 1.0, "a"), Cue(1.0, 2.0, "b")) == [("a", 0.0, 1.0), ("b", 1.0, 2.0)]


def test_two_named_people_may_speak_at_once_and_one_may_not() -> None:
    ann, ben = Cue(0.0, 4.0, "aa", "Ann"), Cue(1.0, 3.0, "bb", "Ben")
    assert spans(ann, ben) == [("aa", 0.0, 4.0), ("bb", 1.0, 3.0)]
    more = Cue(2.0, 5.0, "cc", "Ann")
    assert spans(ann, ben, more) == [("aa", 0.0, 2.0), ("bb", 1.0, 3.0), ("cc", 2.0, 5.0)]
    someone = Cue(2.0, 5.0, "cc")  # may be either of them
    assert spans(ann, ben, someone) == [("aa", 0.0, 2.0), ("bb", 1.0, 2.0), ("cc", 2.0, 5.0)]
    after = Cue(3.0, 6.0, "dd", "Ben")
    assert spans(ann, someone, after) == [("aa", 0.0, 2.0), ("cc", 2.0, 3.0), ("dd", 3.0, 6.0)]


def test_words_behind_the_end_of_the_recording() -> None:
    words = (Word(1.0, 2.0, "a", cue=0), Word(4.0, 5.0, "b", cue=0), Word(6.0, 7.0, "c", cue=1))
    said = Transcript(words, "sidecar", flags=("guessed_encoding",))
    assert cut_at_end(said, 6.5) is said and cut_at_end(said, 0.0) is said and cut_at_end(said, -1.0) is said
    cut = cut_at_end(said, 6.0)
    assert cut.words == words[:2] and cut.flags == ("guessed_encoding", "dropped_cues")
    assert cut_at_end(cut, 9.0).flags == cut.flags
    # A cue that has begun keeps its words; the last of them is at the end.
    kept = cut_at_end(Transcript(words[:2], "sidecar"), 4.0)
    assert kept.words == (words[0], Word(4.0, 4.0, "b", cue=0)) and kept.flags == ()
    again = cut_at_end(Transcript(words, "sidecar", flags=("dropped_cues",)), 5.0)
    assert again.flags == ("dropped_cues",)
    short = Transcript((Word(0.25, 0.5, "a"), Word(0.75, 0.9, "b")), "sidecar")
    assert [w.text for w in cut_at_end(short, 0.5).words] == ["a"], "of half a second"
    loose = Transcript((Word(1.0, 2.0, "a"), Word(4.0, 5.0, "b")), "sidecar")
    assert [w.text for w in cut_at_end(loose, 3.0).words] == ["a"], "of no cue"
    assert cut_at_end(Transcript(), 3.0) == Transcript()
