"""Subtitles for players: SubRip, and WebVTT (W3C) with speakers as voices.

A long utterance becomes several cues that can be read: two lines of 42 characters and seven seconds at most,
as broadcasters ask for, cut at words.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

LINE, LINES = 42, 2  # characters of a line, lines of a cue
LONGEST_S = 7.0


def clock(seconds: float, mark: str) -> str:
    """``HH:MM:SS,mmm`` with ``mark`` before the milliseconds."""
    whole = round(seconds * 1000)
    return f"{whole // 3_600_000:02}:{whole // 60_000 % 60:02}:{whole // 1000 % 60:02}{mark}{whole % 1000:03}"


def line(text: str | None) -> str:
    """Words on one line: an empty line would end the cue, and an arrow would begin one."""
    return " ".join((text or "").split()).replace("-->", "->")


def srt(rows: pl.DataFrame, file: str, duration_s: float | None) -> str:
    """SubRip: speaker, words and emotion of each utterance; one without words has the other two."""
    blocks = []
    for row in rows.iter_rows(named=True):
        speaker, emotion = f"{line(row['speaker'])}:", f"({line(row['emotion'])})"
        blocks += list(cues(row, speaker, emotion))
    numbered = (
        f"{i}\n{clock(start, ',')} --> {clock(end, ',')}\n{text}\n"
        for i, (start, end, text) in enumerate(blocks, 1)
    )
    return "\n".join(numbered)


def vtt(rows: pl.DataFrame, file: str, duration_s: float | None) -> str:
    """WebVTT: the speaker as the cue's voice, the emotion behind the words."""
    blocks = ["WEBVTT\n"]
    for row in rows.iter_rows(named=True):
        voice = html.escape(line(row["speaker"]), quote=False)
        for start, end, text in cues(row, "", f"({line(row['emotion'])})"):
            words = html.escape(text, quote=False)
            blocks.append(f"{clock(start, '.')} --> {clock(end, '.')}\n<v {voice}>{words}</v>\n")
    return "\n".join(blocks)


def cues(row: Mapping[str, Any], before: str, after: str) -> Iterator[tuple[float, float, str]]:
    """Start, end and text of the cues of an utterance.

    Args:
        before, after: what stands at the begin of its first and at the end of its last cue.
    """
    words = timed_words(row)
    parts: list[list[tuple[float, float, str]]] = [[]]
    for i, word in enumerate(words):
        extra = ([before] if len(parts) == 1 and before else []), ([after] if i == len(words) - 1 else [])
        texts = [*extra[0], *(text for _, _, text in parts[-1]), word[2], *extra[1]]
        is_long = bool(parts[-1]) and word[1] - parts[-1][0][0] > LONGEST_S
        if parts[-1] and (is_long or len(_lines(texts)) > LINES):
            parts.append([])
        parts[-1].append(word)
    for k, part in enumerate(parts):
        texts = [before] if k == 0 and before else []
        texts += [text for _, _, text in part]
        texts += [after] if k == len(parts) - 1 else []
        start = part[0][0] if k else row["start"]
        end = part[-1][1] if k < len(parts) - 1 else row["end"]
        yield start, max(start, end), "\n".join(_lines(texts))


def _lines(texts: list[str]) -> list[str]:
    return textwrap.wrap(" ".join(texts), LINE, break_long_words=False, break_on_hyphens=False)


def timed_words(row: Mapping[str, Any]) -> list[tuple[float, float, str]]:
    """Start, end and text of an utterance's words; where the table has no times, shared out by characters."""
    if row["words"]:
        return [(w["start"], w["end"], line(w["text"])) for w in row["words"] if line(w["text"])]
    texts = line(row["text"]).split()
    characters = sum(map(len, texts))
    at, words = row["start"], []
    for text in texts:
        end = at + (row["end"] - row["start"]) * len(text) / characters
        words.append((at, end, text))
        at = end
    return words
