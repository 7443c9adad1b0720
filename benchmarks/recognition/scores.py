"""Word error, loops, and whether words lie where they should."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

LONGEST_ROUND = 6  # words of an n-gram that may come again and again
ROUNDS = 3  # in a row make a loop
SLACK_S = 1e-6


def normalised(text: str) -> list[str]:
    """Words in lower case, without punctuation; a hyphen parts words, an apostrophe does not."""
    letters = unicodedata.normalize("NFC", text).casefold().replace("’", "'").replace("'", "")
    return re.sub(r"[\W_]+", " ", letters).split()


@dataclass(frozen=True)
class WordErrors:
    """Counts of the cheapest way from a reference to what was recognised (Levenshtein, words as units)."""

    substituted: int
    left_out: int
    invented: int
    words: int  # of the reference

    @property
    def percent(self) -> float:
        return 100 * (self.substituted + self.left_out + self.invented) / max(1, self.words)

    def __add__(self, other: WordErrors) -> WordErrors:
        return WordErrors(
            self.substituted + other.substituted,
            self.left_out + other.left_out,
            self.invented + other.invented,
            self.words + other.words,
        )


def aligned(reference: Sequence[str], heard: Sequence[str]) -> tuple[WordErrors, list[tuple[int, int]]]:
    """Errors, and the places (in the reference, in what was heard) of the words that are right."""
    cost = np.zeros((len(reference) + 1, len(heard) + 1), np.int32)
    cost[:, 0], cost[0] = np.arange(len(reference) + 1), np.arange(len(heard) + 1)
    for i, word in enumerate(reference, 1):
        for j, other in enumerate(heard, 1):
            cost[i, j] = min(cost[i - 1, j - 1] + (word != other), cost[i - 1, j] + 1, cost[i, j - 1] + 1)
    i, j = len(reference), len(heard)
    substituted = left_out = invented = 0
    right: list[tuple[int, int]] = []
    while i or j:
        differs = bool(i and j and reference[i - 1] != heard[j - 1])
        if i and j and cost[i, j] == cost[i - 1, j - 1] + differs:
            i, j = i - 1, j - 1
            substituted += differs
            if not differs:
                right.append((i, j))
        elif i and cost[i, j] == cost[i - 1, j] + 1:
            i -= 1
            left_out += 1
        else:
            j -= 1
            invented += 1
    return WordErrors(substituted, left_out, invented, len(reference)), right[::-1]


def in_loops(words: Sequence[str]) -> int:
    """Words that lie in an n-gram (n up to 6) that comes three times or more in a row."""
    looped = np.zeros(len(words), bool)
    for n in range(1, LONGEST_ROUND + 1):
        for first in range(len(words) - ROUNDS * n + 1):
            if all(words[first + k] == words[first + k + n] for k in range((ROUNDS - 1) * n)):
                looped[first : first + ROUNDS * n] = True
    return int(looped.sum())


def words_in_time(rows: pl.DataFrame) -> list[tuple[float, str]]:
    """Start in seconds and text of all words in a table of one recording, in order of their start."""
    lists = [words for words in rows["words"] if words is not None]
    return sorted((word["start"], word["text"]) for words in lists for word in words)


def said(rows: pl.DataFrame) -> list[str]:
    """Normalised words of a table of one recording, utterance by utterance."""
    return normalised(" ".join(text for text in rows.sort("start")["text"] if text is not None))


def out_of_place(table: pl.DataFrame) -> int:
    """Words that end before they begin, lie outside of their utterance, or begin before the word before."""
    wrong = 0
    for row in table.filter(pl.col("words").is_not_null()).iter_rows(named=True):
        before = row["start"] - SLACK_S
        for word in row["words"]:
            inside = before <= word["start"] <= word["end"] <= row["end"] + SLACK_S
            wrong += not inside
            before = max(before, word["start"] - SLACK_S)
    return wrong


def disagreeing(table: pl.DataFrame) -> int:
    """Utterances whose words, joined, are not their text, or that have one without the other."""
    wrong = 0
    for text, words in table.select("text", "words").iter_rows():
        joined = None if words is None else "".join(word["text"] for word in words)
        wrong += (None if text is None else "".join(text.split())) != (
            None if joined is None else "".join(joined.split())
        )
    return wrong
