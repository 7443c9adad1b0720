"""Utterances from turns and words: what always holds, by properties, and the cases worth a name."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st

from annotator.levels import cut_times, sound_levels
from annotator.records import RATE_HZ, Audio, RecordingError, Transcript, Turn, Utterance, Word
from annotator.utterances import UtteranceSettings, build

SECONDS = st.floats(0, 200, allow_nan=False, width=32)
NAMES = st.sampled_from(["SPEAKER_00", "SPEAKER_01", "Anna", "Ben"])
TURNS = st.lists(st.builds(lambda s, d, n: Turn(s, s + d, n), SECONDS, st.floats(0, 30), NAMES), max_size=12)
WORDS = st.lists(
    st.builds(
        lambda s, d, t, n, c, q: Word(s, s + d, t, n, c, q),
        SECONDS,
        st.floats(0, 4),
        st.sampled_from(["one", "two.", "three,", "four?", "fünf", "六。"]),
        st.none() | NAMES,
        st.none() | st.floats(0, 1),
        st.none() | st.integers(0, 8),
    ),
    max_size=60,
).map(lambda words: tuple(sorted(words, key=lambda w: w.start)))


def transcript(*words: Word) -> Transcript:
    return Transcript(words, "sidecar")


def spoken(start: float, text: str, each: float = 0.4, **fields: object) -> list[Word]:
    """Words of a text, ``each`` seconds long, one straight after the other."""
    parts = text.split()
    return [
        Word(start + i * each, start + (i + 1) * each, part, **fields)  # type: ignore[arg-type]
        for i, part in enumerate(parts)
    ]


def told(utterances: list[Utterance]) -> list[tuple[str, str | None]]:
    return [(u.speaker, u.text) for u in utterances]


@runs(max_examples=150, deadline=None)
@given(TURNS, WORDS, st.sampled_from([0.0, 50.0, 500.0]), st.booleans())
def test_what_always_holds(turns: list[Turn], words: tuple[Word, ...], duration_s: float, kept: bool) -> None:
    # Numbered, so that each word can be told from every other.
    marked = tuple(
        Word(w.start, w.end, f"{i}:{w.text}", w.speaker, w.confidence, w.cue) for i, w in enumerate(words)
    )
    built = build(turns, Transcript(marked, "sidecar"), duration_s, given=kept)
    assert built == build(turns, Transcript(marked, "sidecar"), duration_s, given=kept)
    assert built == build(turns[::-1], Transcript(marked, "sidecar"), duration_s, given=kept)

    landed = [text for u in built if u.text is not None for text in u.text.split(" ")]
    assert sorted(landed) == sorted(w.text for w in marked)
    of_speaker: dict[str, list[int]] = {}
    for u in built:
        assert u.speaker
        assert 0 <= u.start < u.end
        assert u.overlap is not None and 0 <= u.overlap <= 1
        assert (u.text is None) == ("no_transcript" in u.flags)
        assert ("overlapped" in u.flags) == (u.overlap > 0.5)
        numbers = [int(t.split(":")[0]) for t in u.text.split(" ")] if u.text else []
        assert numbers == sorted(numbers)
        if duration_s and u.start < duration_s:
            assert u.end <= duration_s
        if len(numbers) != 1:
            assert u.end - u.start <= UtteranceSettings().max_length_s + 1e-6
        of_speaker.setdefault(u.speaker, []).extend(numbers)
        for i in numbers:
            assert words[i].speaker in (None, u.speaker)
            known = [words[j].confidence for j in numbers if words[j].confidence is not None]
        assert (u.asr_confidence is None) == (not numbers or not known)
    assert [u.start for u in built] == sorted(u.start for u in built)

    last, ended = (-1, 0), -math.inf
    for u in built:
        if last == (-1, 0) or u.start - ended >= UtteranceSettings().dialogue_gap_s:
            assert (u.dialogue_id, u.utterance_id) == (last[0] + 1, 0)
        else:
            assert (u.dialogue_id, u.utterance_id) == (last[0], last[1] + 1)
        last, ended = (u.dialogue_id, u.utterance_id), max(ended, u.end)


@runs(max_examples=100, deadline=None)
@given(TURNS, st.booleans())
def test_turns_alone_keep_their_speech(turns: list[Turn], kept: bool) -> None:
    built = build(turns, Transcript(), 500.0, given=kept)
    for turn in turns:
        if turn.end > turn.start:
            mine = [
                u for u in built if u.speaker == turn.speaker and u.start < turn.end and u.end > turn.start
            ]
            covered = sum(min(u.end, turn.end) - max(u.start, turn.start) for u in mine)
            assert covered >= (turn.end - turn.start) - 1e-6
    assert all(u.text is None and "no_transcript" in u.flags for u in built)


@runs(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.05, 0.9), min_size=20, max_size=120))
def test_a_monologue_is_cut_without_lonely_words(lengths: list[float]) -> None:
    at, words = 0.0, []
    for i, length in enumerate(lengths):
        words.append(Word(at, at + length, f"w{i}"))
        at += length
    built = build([], transcript(*words), at + 1)
    assert " ".join(u.text or "" for u in built) == " ".join(w.text for w in words)
    assert all(u.end - u.start <= 15.0 + 1e-6 for u in built)
    assert all(len((u.text or "").split()) > 1 for u in built)


def test_nothing_gives_nothing() -> None:
    assert build([], Transcript(), 10.0) == []
    assert build([Turn(3.0, 3.0, "A"), Turn(math.nan, 4.0, "A")], Transcript(), 10.0) == []


def test_words_go_to_the_turn_that_covers_most_of_them() -> None:
    turns = [Turn(0.0, 2.1, "SPEAKER_00"), Turn(2.1, 4.0, "SPEAKER_01")]
    words = spoken(0.0, "I am here. You are there now", each=0.5)
    assert told(build(turns, transcript(*words), 4.0)) == [
        ("SPEAKER_00", "I am here. You"),
        ("SPEAKER_01", "are there now"),
    ]


def test_where_two_speak_at_once_words_go_to_who_is_alone() -> None:
    turns = [Turn(0.0, 4.0, "SPEAKER_00"), Turn(1.0, 3.0, "SPEAKER_01")]
    alone = [Turn(0.0, 1.5, "SPEAKER_00"), Turn(1.5, 3.0, "SPEAKER_01"), Turn(3.0, 4.0, "SPEAKER_00")]
    words = transcript(*spoken(0.0, "one two three four five six seven eight", each=0.5))
    built = build(turns, words, 4.0, alone=alone)
    assert told(built) == [
        ("SPEAKER_00", "one two three"),
        ("SPEAKER_01", "four five six"),
        ("SPEAKER_00", "seven eight"),
    ]
    assert [u.overlap for u in built] == pytest.approx([1 / 3, 1.0, 0.0], abs=0.01)


def test_a_word_outside_all_turns_goes_to_a_close_one_else_to_the_last_speaker() -> None:
    turns = [Turn(0.0, 1.0, "SPEAKER_01"), Turn(5.0, 6.0, "SPEAKER_02")]
    words = [Word(0.1, 0.9, "a"), Word(4.0, 4.4, "b"), Word(5.0, 5.5, "c"), Word(20.0, 20.5, "d")]
    assert told(build(turns, transcript(*words), 30.0)) == [
        ("SPEAKER_01", "a"),
        ("SPEAKER_02", "b c"),
        ("SPEAKER_02", "d"),
    ]
    assert told(build([], transcript(Word(0, 1, "a")), 1.0)) == [("SPEAKER_00", "a")]


def test_a_cue_is_split_where_the_speaker_changes_but_not_by_a_glitch() -> None:
    words = spoken(0.0, "so we go home now no I want to stay", each=0.5, cue=0)
    change = [Turn(0.0, 2.5, "A"), Turn(2.5, 5.0, "B")]
    assert told(build(change, transcript(*words), 5.0)) == [
        ("A", "so we go home now"),
        ("B", "no I want to stay"),
    ]
    glitch = [Turn(0.0, 1.0, "A"), Turn(1.0, 1.5, "B"), Turn(1.5, 5.0, "A")]
    assert told(build(glitch, transcript(*words), 5.0)) == [("A", "so we go home now no I want to stay")]
    border = [Turn(0.0, 0.5, "B"), Turn(0.5, 5.0, "A")]
    assert told(build(border, transcript(*words), 5.0)) == [("A", "so we go home now no I want to stay")]
    answer = spoken(0.0, "What? I said so", each=0.5, cue=0)
    assert told(build([Turn(0, 0.5, "B"), Turn(0.5, 2, "A")], transcript(*answer), 2.0)) == [
        ("B", "What?"),
        ("A", "I said so"),
    ]


def test_a_change_within_a_cue_moves_to_the_end_of_a_sentence_close_by() -> None:
    turns = [Turn(0.0, 2.3, "A"), Turn(2.3, 6.0, "B")]
    words = spoken(0.0, "I told you so. No you never did that", each=0.5, cue=0)
    assert told(build(turns, transcript(*words), 6.0)) == [
        ("A", "I told you so."),
        ("B", "No you never did that"),
    ]
    far = spoken(0.0, "Yes. I told you about it all the time", each=0.5, cue=0)
    assert told(build(turns, transcript(*far), 6.0)) == [
        ("A", "Yes. I told you about"),
        ("B", "it all the time"),
    ]


def test_a_recognised_sentence_votes_for_its_speaker() -> None:
    turns = [Turn(0.0, 2.3, "A"), Turn(2.3, 6.0, "B")]
    words = spoken(0.0, "I told you so. No you never did that", each=0.5, cue=0)
    heard = [replace(word, confidence=0.9, cue=int(i > 3)) for i, word in enumerate(words)]
    sentences = [("A", "I told you so."), ("B", "No you never did that")]
    assert told(build(turns, transcript(*heard), 6.0)) == sentences
    # It breaks at a pause, and where two speak at once, but never for one word.
    one = [replace(word, cue=0) for word in heard]
    paused = [replace(w, start=w.start + 0.4 * (i > 3), end=w.end + 0.4 * (i > 3)) for i, w in enumerate(one)]
    assert told(build(turns, transcript(*paused), 6.0)) == sentences
    crossing = [Turn(0.0, 2.4, "A"), Turn(2.0, 6.0, "B")]
    assert told(build(crossing, transcript(*one), 6.0)) == [
        ("A", "I told you so."),
        ("B", "No you never did that"),
    ]
    first = [Turn(0.0, 0.5, "A"), Turn(0.5, 6.0, "B")]
    whole = ("B", "I told you so. No you never did that")
    assert told(build(first, transcript(*one), 6.0)) == [whole]


def test_diarized_labels_take_the_names_they_were_heard_under() -> None:
    turns = [
        Turn(0, 3, "SPEAKER_00"),
        Turn(3, 6, "SPEAKER_01"),
        Turn(6, 9, "SPEAKER_00"),
        Turn(20, 23, "SPEAKER_01"),
    ]
    words = [
        *spoken(0.0, "I am Anna you know", speaker="Anna", cue=0),
        *spoken(3.0, "and I am Ben", speaker="Ben", cue=1),
        *spoken(6.0, "nobody names me here", cue=2),
    ]
    built = build(turns, transcript(*words), 30.0)
    assert told(built) == [
        ("Anna", "I am Anna you know"),
        ("Ben", "and I am Ben"),
        ("Anna", "nobody names me here"),
        ("Ben", None),
    ]
    assert [u.overlap for u in built] == [0, 0, 0, 0]


def test_a_label_that_the_transcript_uses_for_someone_else_is_renamed() -> None:
    turns = [Turn(0, 3, "SPEAKER_01"), Turn(10, 13, "SPEAKER_00")]
    words = spoken(0.0, "one two three four", speaker="SPEAKER_00")
    assert [u.speaker for u in build(turns, transcript(*words), 20.0)] == ["SPEAKER_00", "SPEAKER_02"]
    same = [Turn(0, 3, "SPEAKER_01"), Turn(10, 13, "Anna")]
    words = spoken(0.0, "one two three four", speaker="Anna")
    assert [u.speaker for u in build(same, transcript(*words), 20.0)] == ["Anna", "Anna"]


def test_pauses_split_and_others_words_keep_apart() -> None:
    words = [
        *spoken(0.0, "first part", speaker="A"),
        *spoken(1.7, "second", speaker="A"),
        *spoken(2.2, "mhm", speaker="B"),
        *spoken(2.7, "third", speaker="A"),
    ]
    built = build([], transcript(*words), 10.0)
    assert told(built) == [("A", "first part"), ("A", "second"), ("B", "mhm"), ("A", "third")]


def test_two_who_speak_at_once_keep_their_sentences() -> None:
    words = spoken(0.0, "this is what I say", speaker="A", cue=0) + spoken(
        1.1, "and this I", speaker="B", cue=1
    )
    built = build([], transcript(*sorted(words, key=lambda w: w.start)), 10.0)
    assert told(built) == [("A", "this is what I say"), ("B", "and this I")]
    assert built[0].overlap == pytest.approx(0.45)
    assert built[1].overlap == pytest.approx(0.75)
    assert "overlapped" in built[1].flags


def test_long_speech_is_cut_at_ends_of_sentences() -> None:
    sentence = "we talk and talk about this. "
    built = build([], transcript(*spoken(0.0, sentence * 10)), 100.0)
    assert all((u.text or "").endswith("this.") for u in built)
    assert all(2.0 < u.end - u.start <= 15.0 for u in built)


def test_turns_without_words() -> None:
    turns = [
        Turn(0, 2, "A"),
        Turn(2.5, 4, "A"),
        Turn(10, 12, "A"),
        Turn(12.1, 12.4, "B"),
        Turn(12.5, 14, "A"),
    ]
    built = build([*turns, Turn(20, 60, "B")], Transcript(), 60.0)
    spans = [(round(u.start, 2), round(u.end, 2), u.speaker) for u in built]
    assert spans[:4] == [(0, 4, "A"), (10, 12, "A"), (12.1, 12.4, "B"), (12.5, 14, "A")]
    assert [e - s for s, e, _ in spans[4:]] == pytest.approx([40 / 3] * 3, abs=0.02)
    assert built[2].flags == ("no_transcript", "too_short")


def talk_with_pauses(length_s: float, pauses: list[tuple[float, float]], hum: float = 0.001) -> Audio:
    """A loud noise with pauses in which there is a little hum; times in seconds."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(round(length_s * RATE_HZ)) * 0.1
    for start, end in pauses:
        part = slice(round(start * RATE_HZ), round(end * RATE_HZ))
        x[part] *= hum / 0.1
    return Audio((x.clip(-1, 1) * 32767).astype(np.int16))


def test_levels_are_of_ten_milliseconds_each() -> None:
    square = np.where(np.arange(RATE_HZ * 70) < RATE_HZ, 3277, 0).astype(np.int16)
    found = sound_levels(Audio(square))
    assert found.shape == (7000,)
    assert found[:100] == pytest.approx(np.full(100, -20.0), abs=0.01)
    assert found[100:] == pytest.approx(np.full(6900, -120.0), abs=0.01)
    assert sound_levels(Audio(square[:100])).shape == (0,)


def test_speech_without_words_is_cut_at_its_pauses() -> None:
    pauses = [(3.0, 3.3), (9.1, 9.2), (11.0, 11.3), (20.4, 20.8), (31.0, 31.1)]
    levels = sound_levels(talk_with_pauses(40.0, pauses))
    built = build([Turn(0, 40, "A")], Transcript(), 40.0, levels=levels)
    edges = [u.end for u in built[:-1]]
    assert [u.start for u in built[1:]] == edges  # nothing between them is lost
    assert edges == pytest.approx([11.15, 20.6, 31.05], abs=0.05)


def test_a_quiet_place_serves_where_there_is_no_pause() -> None:
    levels = sound_levels(talk_with_pauses(20.0, [(12.0, 12.1)], hum=0.05))
    (cut,) = cut_times(0.0, 20.0, levels, 15.0, 1.0)
    assert cut == pytest.approx(12.05, abs=0.05)


@runs(max_examples=60, deadline=None)
@given(
    st.floats(0, 100),
    st.floats(0.1, 200),
    st.integers(0, 12_000),
    st.sampled_from(["noise", "flat", "words"]),
)
def test_cuts_leave_parts_of_allowed_length(start: float, length: float, known: int, kind: str) -> None:
    levels = np.full(known, -30, np.float32)
    if kind != "flat":
        levels += np.random.default_rng(known).standard_normal(known).astype(np.float32)
    words = [(start, start + length)] if kind == "words" else []
    edges = [start, *cut_times(start, start + length, levels, 15.0, 1.0, words), start + length]
    parts = np.diff(edges)
    assert (parts <= 15 + 1e-6).all()
    assert len(parts) == 1 or (parts >= 1 - 1e-6).all()


def test_given_turns_are_utterances_as_they_are() -> None:
    turns = [
        Turn(0.0, 1.0, "A"),
        Turn(1.2, 2.0, "A"),  # the same turn: less than 0.3 s apart
        Turn(2.5, 3.0, "A"),  # another, though no one speaks between
        Turn(2.8, 5.0, "B"),
        Turn(5.1, 5.3, "A"),
        Turn(5.4, 8.0, "B"),  # A has spoken in between
    ]
    kept = build(turns, Transcript(), 10.0, given=True)
    assert [(u.start, u.end, u.speaker) for u in kept] == [
        (0.0, 2.0, "A"),
        (2.5, 3.0, "A"),
        (2.8, 5.0, "B"),
        (5.1, 5.3, "A"),
        (5.4, 8.0, "B"),
    ]
    words = transcript(*spoken(0.0, "one two three four five six seven eight. nine ten", each=0.3))
    assert [(u.start, u.end, u.text) for u in build(turns[:4], words, 10.0, given=True)] == [
        (0.0, 2.0, "one two three four five six seven eight."),
        (2.5, 3.0, "nine ten"),
        (2.8, 5.0, None),
    ]


def test_many_short_given_turns_stay_apart() -> None:
    turns = [Turn(k * 3.5, k * 3.5 + 3.1, "AB"[k // 4 % 2]) for k in range(240)]
    kept = build(turns, Transcript(), 900.0, given=True, levels=np.zeros(90_000, np.float32))
    assert [(u.start, u.end, u.speaker) for u in kept] == [(t.start, t.end, t.speaker) for t in turns]


def test_a_given_turn_is_cut_only_where_it_is_too_long_and_not_inside_a_word() -> None:
    levels = sound_levels(talk_with_pauses(30.0, [(9.0, 9.1), (12.0, 12.6)]))
    turn = [Turn(0.0, 20.0, "A")]
    assert [u.end for u in build(turn, Transcript(), 30.0, given=True, levels=levels)] == [
        pytest.approx(12.3, abs=0.05),
        20.0,
    ]
    words = transcript(Word(11.9, 12.7, "pause", "A"), Word(1.0, 2.0, "first", "A"))
    built = build(turn, words, 30.0, given=True, levels=levels)
    assert [(u.text, u.end) for u in built] == [("first", pytest.approx(9.05, abs=0.05)), ("pause", 20.0)]


def test_words_outside_given_turns_have_utterances_of_their_own() -> None:
    words = transcript(*spoken(0.0, "in the turn"), *spoken(20.0, "far from it"))
    built = build([Turn(0.0, 2.0, "A")], words, 30.0, given=True)
    assert [(u.start, u.end, u.text, u.speaker) for u in built] == [
        (0.0, 2.0, "in the turn", "A"),
        (20.0, pytest.approx(21.2), "far from it", "A"),
    ]
    named = transcript(*spoken(0.5, "quite another", speaker="Ben"))
    built = build([Turn(0.0, 2.0, "Ann")], named, 30.0, given=True)
    assert {(u.speaker, u.text) for u in built} == {("Ann", None), ("Ben", "quite another")}


def test_a_given_turn_of_a_voice_that_the_transcript_has_names_for_is_no_third_speaker() -> None:
    words = transcript(
        *spoken(0.5, "good morning all of you", speaker="Ann"), *spoken(4, "and to you too", speaker="Ben")
    )
    built = build([Turn(0.2, 12.0, "SPEAKER_00")], words, 12.0, given=True)
    assert [(u.speaker, u.text is None) for u in built] == [
        ("Ann", False),
        ("Ben", False),
        ("SPEAKER_00", True),
    ]
    assert built[-1].start > built[1].end, "only what no word tells of is left of it"


def test_speech_that_the_transcript_leaves_out_is_an_utterance_without_text() -> None:
    turns = [Turn(0, 8, "A"), Turn(9, 10.5, "B")]
    built = build(turns, transcript(*spoken(0.0, "hello there", speaker="A")), 12.0)
    assert [(u.text, round(u.start, 2), round(u.end, 2)) for u in built] == [
        ("hello there", 0, 0.8),
        (None, 1.3, 8),
    ]


def test_overlap_is_the_share_in_which_others_speak() -> None:
    turns = [Turn(0, 4, "A"), Turn(3, 5, "B"), Turn(3.5, 4.5, "C")]
    built = {u.speaker: u for u in build(turns, Transcript(), 10.0)}
    assert {s: u.overlap for s, u in built.items()} == {"A": 0.25, "B": 0.75, "C": 1.0}
    # A name that no label goes with still has a voice of its own.
    words = spoken(0.0, "yes no", speaker="Anna")
    assert build([Turn(0, 3, "SPEAKER_00")], transcript(*words), 3.0)[0].overlap == 0


def test_overlap_is_null_where_no_one_listened() -> None:
    words = spoken(0.0, "this is what I say", speaker="A") + spoken(1.1, "and this", speaker="B")
    said = transcript(*sorted(words, key=lambda w: w.start))
    assert said.names_speakers and not transcript(*spoken(0.0, "who says this")).names_speakers
    assert not transcript().names_speakers
    built = build(None, said, 10.0)
    assert [(u.speaker, u.overlap, u.flags) for u in built] == [("A", None, ()), ("B", None, ())]


def test_an_utterance_has_the_confidence_of_its_speakers_turns() -> None:
    turns = [Turn(0, 2, "A", 0.9), Turn(2.2, 3.2, "A", 0.6), Turn(3, 4, "B", 0.55), Turn(5, 6, "C")]
    built = {u.speaker: u for u in build(turns, Transcript(), 10.0)}
    assert built["A"].speaker_confidence == pytest.approx(0.8)
    assert built["B"].speaker_confidence == pytest.approx(0.55)
    assert built["C"].speaker_confidence is None
    assert [s for s, u in built.items() if "speaker_uncertain" in u.flags] == ["B"]
    words = [*spoken(0.0, "one two", speaker="Ann"), *spoken(3.3, "three")]
    told = build(turns, transcript(*words), 10.0)
    # Named by the transcript; by the turn; and the speech that has no words.
    assert [u.speaker_confidence for u in told] == [None, pytest.approx(0.55)]


def test_a_new_dialogue_after_the_gap() -> None:
    turns = [Turn(0, 2, "A"), Turn(30, 31, "B"), Turn(91, 92, "A"), Turn(93, 94, "B")]
    built = build(turns, Transcript(), 100.0)
    assert [(u.dialogue_id, u.utterance_id) for u in built] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    longer = build(turns, Transcript(), 100.0, UtteranceSettings(dialogue_gap_s=61.0))
    assert {u.dialogue_id for u in longer} == {0}


def test_confidence_is_the_mean_of_what_is_known() -> None:
    words = [Word(0, 1, "a", confidence=0.5), Word(1, 2, "b"), Word(2, 3, "c", confidence=1.0)]
    assert build([], transcript(*words), 3.0)[0].asr_confidence == 0.75


def test_two_hours_without_a_pause_or_a_full_stop() -> None:
    words = tuple(Word(i * 0.4, i * 0.4 + 0.4, "word") for i in range(18_000))
    turns = [Turn(i * 4.0, i * 4.0 + 4.2, f"SPEAKER_0{i % 3}") for i in range(1_800)]
    built = build(turns, Transcript(words, "whisper"), 7_200.0)
    assert sum(len((u.text or "").split()) for u in built) == 18_000
    alone = build([], Transcript(words, "whisper"), 7_200.0)
    assert max(u.end - u.start for u in alone) <= 15.0 + 1e-6
    assert min(u.end - u.start for u in alone) > 5.0


def test_turns_end_with_the_recording() -> None:
    built = build([Turn(5, 1e300, "A"), Turn(20, 30, "B")], transcript(), 12.0)
    assert [(u.start, u.end, u.speaker) for u in built] == [(5, 12, "A")]


@pytest.mark.parametrize("turns", [[Turn(0, 1e15, "A")], [Turn(0, 1e5, str(i)) for i in range(20)]])
def test_a_speaker_file_cannot_ask_for_endless_utterances(turns: list[Turn]) -> None:
    """Found by fuzzing: such a file took all memory."""
    with pytest.raises(RecordingError, match="more than 100,000 utterances") as caught:
        build(turns, transcript(), 0.0)
    assert caught.value.error == "too_many"


def test_a_marked_change_of_speaker_cuts_a_given_turn() -> None:
    words = tuple(
        Word(start, start + 1.0, text, change=change)
        for start, text, change in [(0.6, "Hello.", True), (2.0, "Well.", False), (3.5, "Hello!", True)]
    )
    found = build([Turn(0.5, 6.0, "Anna")], Transcript(words, "sidecar"), 8.0, given=True)
    assert [(u.start, u.end, u.speaker, u.text) for u in found] == [
        (0.5, 3.5, "Anna", "Hello. Well."),
        (3.5, 6.0, "Anna", "Hello!"),
    ]


# ---- thresholds, each at the last value on either side; eighths of a second are exact


def one_after_other(*lengths: float, of: dict[int, str] | None = None, cues: int | None = None) -> list[Word]:
    """Words without a pause, called by their number or as ``of`` has it; a new cue before word ``cues``."""
    edges = np.cumsum([0.0, *lengths])
    return [
        Word(float(a), float(b), (of or {}).get(i, f"w{i}"), cue=None if cues is None else int(i >= cues))
        for i, (a, b) in enumerate(zip(edges, edges[1:], strict=False))
    ]


def starts(utterances: list[Utterance]) -> list[float]:
    return [u.start for u in utterances]


@pytest.mark.parametrize(("gap", "utterances"), [(0.5, 1), (0.625, 2)])
def test_a_pause_longer_than_pause_s_ends_an_utterance(gap: float, utterances: int) -> None:
    settings = UtteranceSettings(pause_s=0.5)
    words = transcript(Word(0.0, 1.0, "a"), Word(1.0 + gap, 3.0, "b"))
    assert len(build([], words, 9.0, settings)) == utterances
    turns = [Turn(0.0, 1.0, "A"), Turn(1.0 + gap, 3.0, "A")]
    assert len(build(turns, Transcript(), 9.0, settings)) == utterances
    kept = build(turns, Transcript(), 9.0, UtteranceSettings(same_turn_s=0.5), given=True)
    assert len(kept) == utterances


@pytest.mark.parametrize(
    ("other", "utterances"),
    [((1.0, 1.5), 2), ((0.5, 1.5), 2), ((1.25, 1.75), 2), ((0.25, 1.5), 1), ((1.25, 2.0), 1)],
)
def test_only_what_falls_between_two_words_or_turns_keeps_them_apart(
    other: tuple[float, float], utterances: int
) -> None:
    """By its middle, from the end of the first to the start of the second."""
    words = [Word(0.0, 1.0, "a", "A"), Word(*other, "mhm", "B"), Word(1.5, 2.5, "b", "A")]
    built = build([], transcript(*words), 9.0)
    assert sum(u.speaker == "A" for u in built) == utterances
    turns = sorted(Turn(w.start, w.end, w.speaker or "") for w in words)
    assert sum(u.speaker == "A" for u in build(turns, Transcript(), 9.0)) == utterances


def test_a_word_inside_a_longer_one_does_not_end_it() -> None:
    words = [Word(0.0, 5.0, "looong"), Word(1.0, 2.0, "in"), Word(5.5, 6.0, "after")]
    assert [(u.start, u.end, u.text) for u in build([], transcript(*words), 9.0)] == [
        (0.0, 6.0, "looong in after")
    ]
    apart = [*words[:2], Word(9.0, 9.5, "late"), Word(10.0, 10.5, "later")]
    assert [(u.start, u.end) for u in build([], transcript(*apart), 20.0)] == [(0.0, 5.0), (9.0, 10.5)]


def test_a_marked_change_of_speaker_starts_an_utterance_of_the_same_voice() -> None:
    words = [Word(0.0, 1.0, "Yes?"), Word(1.0, 2.0, "No", change=True), Word(2.0, 3.0, "never.")]
    assert [u.text for u in build([], transcript(*words), 9.0)] == ["Yes?", "No never."]


@pytest.mark.parametrize(
    ("lengths", "end", "cut"),
    [
        ((1.0, 1.0, 1.0, 1.0, 0.5, 0.5), 3, True),
        ((1.0, 1.0, 1.0, 0.875, 0.5, 0.5), 3, False),  # not long yet
        ((1.0, 1.0, 1.0, 1.0, 0.5, 0.375), 3, False),  # what is left would be too short
        ((1.0, 1.0, 1.0, 1.0, 2.0), 3, False),  # and would be a single word
    ],
)
def test_a_long_utterance_ends_with_its_sentence(lengths: tuple[float, ...], end: int, cut: bool) -> None:
    for text in ("so.", "so!", 'so?"', "so。」"):
        built = build([], transcript(*one_after_other(*lengths, of={end: text})), 20.0)
        assert starts(built) == ([0.0, 4.0] if cut else [0.0])


def test_length_counts_from_the_last_cut() -> None:
    words = one_after_other(*[1.0] * 12, of={3: "four.", 5: "six.", 8: "nine."})
    assert starts(build([], transcript(*words), 20.0)) == [0.0, 4.0, 9.0]


@pytest.mark.parametrize(
    ("word", "at", "cut"),
    [
        ("plain", 9, 6.0),
        ("stop.", 7, 4.0),
        ("stop.", 6, 6.0),
        ("stop.", 15, 8.0),
        ("comma,", 9, 5.0),
        ("comma,", 8, 6.0),
        ("comma，", 13, 7.0),
    ],
)
def test_too_long_speech_is_cut_near_an_even_share_rather_at_a_stop_or_comma(
    word: str, at: int, cut: float
) -> None:
    """Twelve seconds where ten are allowed. A stop may be 2.4 s off the middle, a comma 1.2 s."""
    settings = UtteranceSettings(max_length_s=10.0, long_s=100.0)
    words = one_after_other(*[0.5] * 24, of={at: word})
    assert starts(build([], transcript(*words), 20.0, settings)) == [0.0, cut]


@pytest.mark.parametrize(("cue", "cut"), [(11, 5.5), (13, 6.5), (10, 6.0), (14, 6.0)])
def test_too_long_speech_is_rather_cut_where_a_cue_ends(cue: int, cut: float) -> None:
    settings = UtteranceSettings(max_length_s=10.0, long_s=100.0)
    words = one_after_other(*[0.5] * 24, cues=cue)
    assert starts(build([], transcript(*words), 20.0, settings)) == [0.0, cut]


@pytest.mark.parametrize(("gap", "cut"), [(0.25, 5.25), (0.0625, 6.0)])
def test_too_long_speech_is_rather_cut_at_a_gap(gap: float, cut: float) -> None:
    settings = UtteranceSettings(max_length_s=10.0, long_s=100.0)
    words = [Word(i * 0.5, i * 0.5 + 0.5, "w") for i in range(24)]
    words = [*words[:10], *(replace(w, start=w.start + gap, end=w.end + gap) for w in words[10:])]
    built = build([], transcript(*words), 20.0, settings)
    expected = cut if gap == 0.25 else 6.0 + gap
    assert starts(built) == [0.0, expected]


def test_speech_just_as_long_as_allowed_is_not_cut() -> None:
    settings = UtteranceSettings(max_length_s=10.0, long_s=100.0)
    assert starts(build([], transcript(*one_after_other(*[0.5] * 20)), 20.0, settings)) == [0.0]
    assert starts(build([], transcript(*one_after_other(12.0)), 20.0, settings)) == [0.0], "a single word"
    # No part is shorter than a second where that can be, though a sentence ends there.
    words = one_after_other(0.25, 0.25, *[0.5] * 22, of={1: "yes."})
    assert min(u.end - u.start for u in build([], transcript(*words), 20.0, settings)) > 1.0


@pytest.mark.parametrize(
    ("word", "span"),
    [
        ((4.0, 4.0), (4.0, 4.01)),  # nothing lasts no time
        ((-2.0, 1.0), (0.0, 1.0)),
        ((9.0, 12.0), (9.0, 10.0)),
        ((9.999, 12.0), (9.99, 10.0)),
        ((12.0, 13.0), (12.0, 13.0)),  # behind the end: the length is wrong, not the word
    ],
)
def test_times_lie_within_the_recording(word: tuple[float, float], span: tuple[float, float]) -> None:
    (built,) = build([], transcript(Word(*word, "a")), 10.0)
    assert (built.start, built.end) == pytest.approx(span, abs=1e-9)
    assert "too_short" in built.flags or built.end - built.start >= 0.4


def test_flags_hold_below_or_above_their_thresholds_not_at_them() -> None:
    settings = UtteranceSettings(too_short_s=0.5, uncertain=0.75, overlapped=0.5)
    turns = [
        Turn(0.0, 0.5, "A", 0.75),
        Turn(5.0, 5.375, "B", 0.625),
        Turn(10.0, 12.0, "C"),
        Turn(11.0, 15.0, "D"),
    ]
    built = {u.speaker: u.flags for u in build(turns, Transcript(), 20.0, settings)}
    assert built == {
        "A": ("no_transcript",),
        "B": ("no_transcript", "too_short", "speaker_uncertain"),
        "C": ("no_transcript",),
        "D": ("no_transcript",),
    }
    nearer = [*turns[:3], Turn(10.875, 15.0, "D")]
    assert "overlapped" in {u.speaker: u.flags for u in build(nearer, Transcript(), 20.0, settings)}["C"]


@pytest.mark.parametrize(
    ("word", "speaker"),
    [
        ((3.5, 4.5), "SPEAKER_01"),  # as far from both: the one before
        ((3.625, 4.625), "SPEAKER_02"),
        ((3.375, 4.375), "SPEAKER_01"),
    ],
)
def test_a_word_between_two_turns_goes_to_the_nearer(word: tuple[float, float], speaker: str) -> None:
    turns = [Turn(0.0, 3.0, "SPEAKER_01"), Turn(5.0, 6.0, "SPEAKER_02")]
    built = build(turns, transcript(Word(*word, "a")), 9.0)
    assert [u.speaker for u in built if u.text] == [speaker]


@pytest.mark.parametrize(("end", "speaker"), [(8.0, "SPEAKER_02"), (7.875, "SPEAKER_01")])
def test_a_turn_further_than_reach_s_has_no_part_in_a_word(end: float, speaker: str) -> None:
    turns = [Turn(0.0, 1.0, "SPEAKER_01"), Turn(10.0, 11.0, "SPEAKER_02")]
    words = [Word(0.0, 1.0, "first"), Word(end - 1, end, "second")]
    built = build(turns, transcript(*words), 20.0, UtteranceSettings(untold_s=100.0))
    assert [u.speaker for u in built] == ["SPEAKER_01", speaker]


def test_where_two_sound_alike_the_speaker_before_goes_on() -> None:
    turns = [Turn(0.0, 6.0, "SPEAKER_01"), Turn(2.0, 4.0, "SPEAKER_00"), Turn(4.0, 8.0, "SPEAKER_00")]
    words = one_after_other(*[1.0] * 8)
    assert told(build(turns, transcript(*words), 9.0)) == [
        ("SPEAKER_01", "w0 w1 w2 w3 w4 w5"),
        ("SPEAKER_00", "w6 w7"),
    ]


@pytest.mark.parametrize(
    ("named", "name"),
    [
        ([("Anna", 1.0)], "Anna"),
        ([("Anna", 0.875)], "SPEAKER_00"),
        ([("Anna", 0.25)] * 3, "Anna"),
        ([("Anna", 0.25)] * 2, "SPEAKER_00"),
        ([("Anna", 3.0), ("Ben", 2.0)], "Anna"),
        ([("Anna", 2.875), ("Ben", 2.125)], "SPEAKER_00"),
        ([("Ben", 0.5), ("Anna", 4.0), ("Ben", 0.5)], "Anna"),
    ],
)
def test_a_voice_takes_the_name_it_is_mostly_heard_under(named: list[tuple[str, float]], name: str) -> None:
    """Three words or a second at least, and three fifths of its named time."""
    words = one_after_other(*(length for _, length in named))
    words = [replace(word, speaker=who) for word, (who, _) in zip(words, named, strict=True)]
    built = build([Turn(0.0, 8.0, "SPEAKER_00"), Turn(20.0, 24.0, "SPEAKER_00")], transcript(*words), 30.0)
    assert built[-1].speaker == name and built[-1].start == 20.0


def test_two_labels_may_be_one_person_and_numbers_that_are_taken_stay_so() -> None:
    turns = [Turn(0.0, 2.0, "SPEAKER_00"), Turn(3.0, 5.0, "SPEAKER_01"), Turn(10.0, 12.0, "SPEAKER_01")]
    words = [Word(0.0, 2.0, "a", "Anna"), Word(3.0, 5.0, "b", "Anna")]
    assert {u.speaker for u in build(turns, transcript(*words), 20.0)} == {"Anna"}
    turns = [Turn(0.0, 2.0, "SPEAKER_02"), Turn(10.0, 12.0, "SPEAKER_00"), Turn(14.0, 16.0, "SPEAKER_01")]
    words = [Word(0.0, 2.0, "a", "SPEAKER_00")]
    built = build(turns, transcript(*words), 20.0)
    assert [u.speaker for u in built] == ["SPEAKER_00", "SPEAKER_03", "SPEAKER_01"]


@pytest.mark.parametrize(("length", "speakers"), [(1.0, {"A"}), (1.125, {"A", "B"})])
def test_a_change_of_speaker_for_one_short_word_of_a_cue_is_a_glitch(
    length: float, speakers: set[str]
) -> None:
    words = one_after_other(1.0, 1.0, length, 1.0, 1.0, cues=99)
    turns = [Turn(0.0, 2.0, "A"), Turn(2.0, 2.0 + length, "B"), Turn(2.0 + length, 9.0, "A")]
    found = build(turns, transcript(*words), 9.0, UtteranceSettings(untold_s=99.0))
    assert {u.speaker for u in found} == speakers


def test_the_last_word_of_a_cue_belongs_to_it_unless_a_sentence_ended_before() -> None:
    turns = [Turn(0.0, 3.0, "A"), Turn(3.0, 4.0, "B")]
    words = one_after_other(1.0, 1.0, 1.0, 1.0, cues=99)
    assert told(build(turns, transcript(*words), 4.0)) == [("A", "w0 w1 w2 w3")]
    ended = one_after_other(1.0, 1.0, 1.0, 1.0, of={2: "so?"}, cues=99)
    assert told(build(turns, transcript(*ended), 4.0)) == [("A", "w0 w1 so?"), ("B", "w3")]
    # Two cues of one word each are no cue of two.
    two = [replace(w, cue=i) for i, w in enumerate(one_after_other(1.0, 1.0))]
    assert told(build([Turn(0.0, 1.0, "A"), Turn(1.0, 2.0, "B")], transcript(*two), 2.0)) == [
        ("A", "w0"),
        ("B", "w1"),
    ]


@pytest.mark.parametrize(
    ("stops", "first"),
    [((3,), 4), ((6,), 7), ((2,), 3), ((1,), 5), ((7,), 5), ((3, 5), 4), ((2, 4), 5), ((3, 6), 4)],
)
def test_a_change_moves_to_the_nearest_end_of_a_sentence(stops: tuple[int, ...], first: int) -> None:
    """The voices change before the sixth word; a second to either side is within reach, the earlier first."""
    words = one_after_other(*[0.5] * 10, of={i: f"w{i}." for i in stops}, cues=99)
    turns = [Turn(0.0, 2.5, "A"), Turn(2.5, 5.0, "B")]
    settings = UtteranceSettings(snap_s=1.0, long_s=99.0)
    built = build(turns, transcript(*words), 5.0, settings)
    assert [(u.speaker, len(u.words)) for u in built] == [("A", first), ("B", 10 - first)]


def test_each_change_within_a_cue_moves_between_the_two_beside_it() -> None:
    """A, B and A again; the only end of a sentence lies before the second change, and B keeps two words."""
    words = one_after_other(*[0.5] * 10, of={3: "w3.", 6: "w6."}, cues=99)
    turns = [Turn(0.0, 2.5, "A"), Turn(2.5, 4.0, "B"), Turn(4.0, 5.0, "A")]
    built = build(turns, transcript(*words), 5.0, UtteranceSettings(snap_s=2.0, long_s=99.0))
    assert [(u.speaker, len(u.words)) for u in built] == [("A", 4), ("B", 3), ("A", 3)]
    late = one_after_other(*[0.5] * 10, of={8: "w8."}, cues=99)
    built = build(turns, transcript(*late), 5.0, UtteranceSettings(snap_s=2.0, long_s=99.0))
    assert [(u.speaker, len(u.words)) for u in built] == [("A", 5), ("B", 4), ("A", 1)]


def test_a_word_that_lasts_no_time_has_the_speaker_who_speaks_then() -> None:
    turns = [Turn(0.0, 2.0, "SPEAKER_00"), Turn(2.0, 4.0, "SPEAKER_01")]
    built = build(turns, transcript(Word(0.0, 1.0, "a"), Word(2.0, 2.0, "b")), 4.0)
    assert told(built)[:2] == [("SPEAKER_00", "a"), ("SPEAKER_01", "b")]


def test_a_given_turn_after_one_whose_words_are_other_peoples_is_kept() -> None:
    words = transcript(*spoken(0.5, "good morning", speaker="Ann"), *spoken(4.0, "and to you", speaker="Ben"))
    turns = [Turn(0.2, 6.0, "SPEAKER_00"), Turn(8.0, 9.0, "SPEAKER_01")]
    built = build(turns, words, 12.0, given=True)
    assert (built[-1].start, built[-1].end, built[-1].speaker) == (8.0, 9.0, "SPEAKER_01")


@pytest.mark.parametrize(("gap", "speakers"), [(0.375, ["A", "B"]), (0.25, ["B"])])
def test_a_recognised_sentence_breaks_at_a_pause_of_break_s(gap: float, speakers: list[str]) -> None:
    words = one_after_other(1.0, 1.0, 1.0, 1.0, 1.0, cues=99)
    words = [replace(w, confidence=0.5) for w in words]
    words = [*words[:2], *(replace(w, start=w.start + gap, end=w.end + gap) for w in words[2:])]
    turns = [Turn(0.0, 2.0, "A"), Turn(2.0, 9.0, "B")]
    settings = UtteranceSettings(break_s=0.375, untold_s=99.0)
    assert [u.speaker for u in build(turns, transcript(*words), 9.0, settings)] == speakers


@pytest.mark.parametrize(("left", "right", "with_first"), [(0.5, 0.5, True), (0.5, 0.375, False)])
def test_a_lonely_word_of_a_recognised_sentence_goes_with_the_nearer_part(
    left: float, right: float, with_first: bool
) -> None:
    at = 2.0 + left
    words = [Word(0, 1, "a"), Word(1, 2, "b"), Word(at, at + 1, "c")]
    words += [Word(at + 1 + right, at + 2 + right, "d"), Word(at + 2 + right, at + 3 + right, "e")]
    heard = transcript(*(replace(w, confidence=0.5, cue=0) for w in words))
    turns = [Turn(0.0, 2.25, "A"), Turn(2.25, at + 1.125, "C"), Turn(at + 1.125, 9.0, "B")]
    built = build(turns, heard, 9.0, UtteranceSettings(untold_s=99.0))
    assert told(built) == ([("A", "a b c"), ("B", "d e")] if with_first else [("A", "a b"), ("B", "c d e")])


def test_names_and_times_of_turns_are_mended() -> None:
    turns = [Turn(-3.0, 1.0, " A "), Turn(2.0, math.inf, "B"), Turn(4.0, 4.0, "C"), Turn(5.0, 99.0, " ")]
    built = build(turns, Transcript(), 10.0)
    assert [(u.start, u.end, u.speaker) for u in built] == [(0.0, 1.0, "A"), (5.0, 10.0, "SPEAKER_00")]
    unknown = build([Turn(5.0, 12.0, "A")], Transcript(), 0.0)
    assert [(u.start, u.end) for u in unknown] == [(5.0, 12.0)], "the length of the recording is not known"


def test_more_than_two_hundred_turns_at_once_are_refused() -> None:
    crowd = [Turn(0.0, 1.0, f"S{i}") for i in range(201)]
    assert len(build(crowd[:200], Transcript(), 1.0)) == 200
    with pytest.raises(RecordingError, match="More than 200 turns are at the same moment") as caught:
        build(crowd, Transcript(), 1.0)
    assert (caught.value.stage, caught.value.error) == ("utterances", "too_many")


@pytest.mark.parametrize(("start", "inside"), [(1.25, True), (1.375, False), (3.375, False), (3.5, True)])
def test_a_word_close_to_a_given_turn_is_in_it(start: float, inside: bool) -> None:
    """By its middle, half a second to either side."""
    turns = [Turn(0.0, 1.0, "A"), Turn(4.25, 6.0, "A")]
    built = build(turns, transcript(Word(start, start + 0.5, "a", "A")), 9.0, given=True)
    assert len(built) == (2 if inside else 3)
    if inside:
        assert [u.text for u in built] == (["a", None] if start < 3 else [None, "a"])


@pytest.mark.parametrize(("end", "utterances"), [(3.5, 2), (3.375, 1)])
def test_speech_that_no_word_tells_of_has_to_last(end: float, utterances: int) -> None:
    """Two seconds, from half a second behind the last word on."""
    built = build([Turn(0.0, end, "A")], transcript(Word(0.0, 1.0, "a", "A")), 9.0)
    assert len(built) == utterances
    if utterances == 2:
        assert (built[1].start, built[1].end, built[1].text) == (1.5, 3.5, None)


def test_speech_between_words_is_what_lies_half_a_second_from_each() -> None:
    words = [Word(2.5, 3.0, "a", "A"), Word(3.5, 4.0, "b", "A"), Word(8.0, 9.0, "c", "A")]
    built = build([Turn(0.0, 12.0, "A")], transcript(*words), 20.0)
    assert [(u.start, u.end, u.text) for u in built] == [
        (0.0, 2.0, None),
        (2.5, 4.0, "a b"),
        (4.5, 7.5, None),
        (8.0, 9.0, "c"),
        (9.5, 12.0, None),
    ]


def test_turns_are_not_joined_beyond_the_longest_utterance() -> None:
    turns = [Turn(0.0, 8.0, "A"), Turn(8.5, 15.0, "A")]
    assert starts(build(turns, Transcript(), 20.0)) == [0.0]
    assert starts(build([turns[0], Turn(8.5, 15.125, "A")], Transcript(), 20.0)) == [0.0, 8.5]
    within = [Turn(0.0, 8.0, "A"), Turn(2.0, 4.0, "A"), Turn(8.5, 9.0, "A")]
    assert [(u.start, u.end) for u in build(within, Transcript(), 20.0)] == [(0.0, 9.0)]


def test_words_of_a_given_turn_that_is_cut_go_to_the_part_that_holds_their_middle() -> None:
    words = one_after_other(*[1.0] * 20)
    built = build([Turn(0.0, 20.0, "A")], transcript(*words), 20.0, given=True)
    assert [len(u.words) for u in built] == [10, 10] and starts(built) == [0.0, 10.0]


def test_a_given_turn_is_cut_at_every_change_that_its_words_mark() -> None:
    words = [Word(0.5, 1.0, "a"), Word(2.0, 2.5, "b", change=True), Word(2.5, 3.0, "c")]
    words += [Word(4.0, 4.5, "d", change=True), Word(5.0, 5.5, "e")]
    built = build([Turn(0.0, 6.0, "A")], transcript(*words), 9.0, given=True)
    assert [(u.start, u.end, u.text) for u in built] == [
        (0.0, 2.0, "a"),
        (2.0, 4.0, "b c"),
        (4.0, 6.0, "d e"),
    ]


@pytest.mark.parametrize(("start", "parts"), [(0.01, 2), (0.005, 1), (0.99, 2), (0.995, 1)])
def test_what_is_cut_off_a_given_turn_has_the_least_length(start: float, parts: int) -> None:
    words = [Word(0.0, 0.005, "a"), Word(start, start + 0.005, "b", change=True)]
    assert len(build([Turn(0.0, 1.0, "A")], transcript(*words), 9.0, given=True)) == parts


def test_a_given_turn_that_lasts_no_time_is_no_utterance() -> None:
    turns = [Turn(1.0, 1.0, "B"), Turn(2.0, 3.0, "A")]
    assert [u.speaker for u in build(turns, Transcript(), 9.0, given=True)] == ["A"]


@pytest.mark.parametrize(("end", "count"), [(11.0, 2), (10.75, 1)])
def test_speech_of_untold_s_without_words_is_an_utterance(end: float, count: int) -> None:
    turns = [Turn(0.0, 1.0, "A"), Turn(10.0, end, "A")]
    settings = UtteranceSettings(untold_s=1.0)
    assert len(build(turns, transcript(Word(0.0, 1.0, "a")), 20.0, settings)) == count


@pytest.mark.parametrize(("third", "speakers"), [(3.0, ["A", "C"]), (5.0, ["A"])])
def test_a_sentence_breaks_at_the_end_of_an_overlap_that_went_on(third: float, speakers: list[str]) -> None:
    """B speaks over A from 2 to 4 s; where C begins before that has ended, all three overlap up to 5 s."""
    turns = [Turn(0.0, 5.0, "A"), Turn(2.0, 4.0, "B"), Turn(third, 8.0, "C")]
    words = [replace(w, confidence=0.5) for w in one_after_other(*[1.0] * 8, cues=99)]
    built = build(turns, transcript(*words), 9.0, UtteranceSettings(untold_s=99.0, long_s=99.0))
    assert [u.speaker for u in built] == speakers


def test_a_long_stretch_is_cut_into_even_parts_wherever_it_lies() -> None:
    words = spoken(100.0, " ".join(f"w{i}" for i in range(32)), each=0.5)
    built = build([Turn(100.0, 116.0, "A")], transcript(*words), 200.0)
    assert [(u.start, u.end) for u in built] == [(100.0, 108.0), (108.0, 116.0)]
