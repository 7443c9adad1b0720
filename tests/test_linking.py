"""Speakers of blocks of a long recording: linked by what they say in common and by their voices."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from annotator.diarize.linking import Heard, link
from annotator.records import Turn

VOICES = {who: np.eye(8, dtype=np.float32)[i] for i, who in enumerate("ABCD")}


def noisy(who: str, seed: int) -> NDArray[np.float32]:
    return np.asarray(VOICES[who] + np.random.default_rng(seed).normal(0, 0.1, 8), np.float32)


def block(number: int, present: str, turns: list[tuple[float, float, str]]) -> Heard:
    """A block of 100 s whose last 10 are the next one's first, with names of its own."""
    start = 90.0 * number
    names = {who: f"x{(i + number) % len(present)}" for i, who in enumerate(present)}
    found = [Turn(a, b, names[who]) for a, b, who in turns if a < start + 100 and b > start and who in names]
    voices = {name: noisy(who, number * 10 + i) for i, (who, name) in enumerate(names.items())}
    return Heard(start, start + 100.0, found, found, voices)


def talk(*who: str, end: float) -> list[tuple[float, float, str]]:
    return [(4.0 * i, 4.0 * i + 3.5, who[i % len(who)]) for i in range(int(end / 4))]


def test_the_same_voices_get_the_same_names_in_all_blocks() -> None:
    said = talk("A", "B", "C", end=280)
    turns, alone = link([block(k, "ABC", said) for k in range(3)], 1, None)
    assert turns == alone
    assert len({t.speaker for t in turns}) == 3
    name = {who: {t.speaker for t in turns for a, b, w in said if w == who and a == t.start} for who in "ABC"}
    assert all(len(found) == 1 for found in name.values())
    # Nothing is said twice, nothing is lost, and turns across a border are whole.
    assert [(t.start, t.end) for t in turns] == [(a, b) for a, b, _ in said]


def test_speakers_without_a_voice_are_told_by_the_stretch_in_common() -> None:
    said = [(80.0, 95.0, "A"), (96.0, 99.0, "B"), (120.0, 130.0, "B")]
    blocks = [Heard(b.start, b.end, b.turns, b.alone, {}) for b in (block(k, "AB", said) for k in range(2))]
    turns, _ = link(blocks, 1, None)
    assert len({t.speaker for t in turns}) == 2
    by_start = {t.start: t.speaker for t in turns}
    assert by_start[96.0] == by_start[120.0] != by_start[80.0]


def test_two_of_one_block_are_never_joined_and_bounds_count_over_all() -> None:
    first = block(0, "AB", [(0.0, 10.0, "A"), (11.0, 20.0, "B")])
    later = block(2, "CD", [(200.0, 210.0, "C"), (211.0, 220.0, "D")])

    def count(least: int, most: int | None) -> int:
        return len({turn.speaker for turn in link([first, later], least, most)[0]})

    assert count(1, None) == 4
    assert count(1, 3) == 3
    assert count(1, 2) == 2
    assert count(1, 1) == 2, "two voices that one block tells apart stay two"
    same = block(2, "AB", [(200.0, 210.0, "A"), (211.0, 220.0, "B")])
    assert len({t.speaker for t in link([first, same], 1, None)[0]}) == 2
    assert len({t.speaker for t in link([first, same], 3, None)[0]}) == 3


@given(st.lists(st.tuples(st.floats(0, 270), st.floats(0.1, 20), st.sampled_from("ABCD")), max_size=40))
@settings(max_examples=60, deadline=None)
def test_no_speech_is_lost_or_doubled(spans: list[tuple[float, float, str]]) -> None:
    said = sorted((a, min(a + length, 280.0), who) for a, length, who in spans)
    turns, _ = link([block(k, "ABCD", said) for k in range(3)], 1, None)
    ends = [turn.end for turn in turns]
    assert turns == sorted(turns) and all(t.start < t.end for t in turns)
    covered = np.zeros(28_000, bool)
    for a, b, _ in said:
        covered[round(a * 100) : round(b * 100)] = True
    found = np.zeros(28_000, bool)
    for turn in turns:
        found[round(turn.start * 100) : round(turn.end * 100)] = True
    assert np.array_equal(found, covered)
    assert max(ends, default=0) <= 280.0
