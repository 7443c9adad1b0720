"""The measures of benchmarks/recognition on cases that can be counted by hand."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from annotator.read import WORDS
from annotator.records import RATE_HZ
from benchmarks.recognition import references, scores
from benchmarks.recognition.sounds import SECONDS, SOUNDS, sounds


def test_word_error_counts_what_is_wrong_left_out_and_invented() -> None:
    reference = scores.normalised("Kids are talking by the door. Don’t go!")
    heard = scores.normalised("kids are talking behind door, don't you go")
    errors, right = scores.aligned(reference, heard)
    assert (errors.substituted, errors.left_out, errors.invented, errors.words) == (1, 1, 1, 8)
    assert errors.percent == pytest.approx(37.5)
    assert [reference[i] for i, _ in right] == ["kids", "are", "talking", "door", "dont", "go"]
    assert all(reference[i] == heard[j] for i, j in right)


def test_nothing_recognised_is_all_left_out_and_no_reference_all_invented() -> None:
    assert scores.aligned(["a", "b"], [])[0].percent == 100
    assert scores.aligned([], ["a"])[0].invented == 1


def test_words_count_as_looped_only_where_the_same_comes_three_times_in_a_row() -> None:
    assert scores.in_loops("we go we go we go home".split()) == 6
    assert scores.in_loops("no no no".split()) == 3
    assert scores.in_loops("we go we go home we go".split()) == 0
    assert scores.in_loops("one two three four five six seven".split() * 3) == 0  # longer than is looked for


def table(*words: tuple[float, float, str], text: str, end: float = 2.0) -> pl.DataFrame:
    rows = [{"start": a, "end": b, "text": word, "confidence": 0.5} for a, b, word in words]
    return pl.DataFrame(
        {"start": [1.0], "end": [end], "text": [text], "words": [rows]}, schema_overrides={"words": WORDS}
    )


def test_words_outside_or_out_of_order_are_counted() -> None:
    assert scores.out_of_place(table((1.0, 1.5, "so"), (1.5, 2.0, "it"), text="so it")) == 0
    assert scores.out_of_place(table((0.9, 1.5, "so"), (1.5, 2.1, "it"), text="so it")) == 2
    assert scores.out_of_place(table((1.5, 1.8, "so"), (1.2, 1.4, "it"), text="so it")) == 1


def test_a_text_that_is_not_its_words_is_counted() -> None:
    assert scores.disagreeing(table((1.0, 1.5, "so"), (1.5, 2.0, "it"), text="so it")) == 0
    assert scores.disagreeing(table((1.0, 1.5, "so"), text="so it")) == 1


def test_joined_recordings_know_where_speech_is() -> None:
    second = np.ones(RATE_HZ, np.int16)
    part = references.Recording("a", second, "one two", ((0.25, 0.75),))
    both = references.joined("both", [part, part], pause_s=0.5)
    assert both.text == "one two one two" and len(both.samples) == 3 * RATE_HZ
    assert both.speech == ((0.25, 0.75), (1.75, 2.25))
    assert references.share_of_speech(0.5, 1.0, both.speech) == pytest.approx(0.5)


def test_the_sounds_are_the_same_each_time_and_no_two_alike() -> None:
    made = sounds()
    assert len(made) == len(SOUNDS) == 30
    assert all(len(one.samples) == SECONDS * RATE_HZ for one in made)
    assert len({one.samples.tobytes() for one in made}) == 30
    assert [one.samples.tobytes() for one in sounds()] == [one.samples.tobytes() for one in made]
