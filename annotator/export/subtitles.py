"""Subtitles for players: SubRip, and WebVTT (W3C) with speakers as voices."""

from __future__ import annotations

import html

import polars as pl


def clock(seconds: float, mark: str) -> str:
    """``HH:MM:SS,mmm`` with ``mark`` before the milliseconds."""
    whole = round(seconds * 1000)
    return f"{whole // 3_600_000:02}:{whole // 60_000 % 60:02}:{whole // 1000 % 60:02}{mark}{whole % 1000:03}"


def line(text: str | None) -> str:
    """Words on one line: an empty line would end the cue, and an arrow would begin one."""
    return " ".join((text or "").split()).replace("-->", "->")


def srt(rows: pl.DataFrame, file: str, duration_s: float | None) -> str:
    """SubRip: speaker, words and emotion of each utterance; one without words has the other two."""
    cues = []
    for number, row in enumerate(rows.iter_rows(named=True), 1):
        parts = (f"{line(row['speaker'])}:", line(row["text"]), f"({line(row['emotion'])})")
        said = " ".join(part for part in parts if part)
        cues.append(f"{number}\n{clock(row['start'], ',')} --> {clock(row['end'], ',')}\n{said}\n")
    return "\n".join(cues)


def vtt(rows: pl.DataFrame, file: str, duration_s: float | None) -> str:
    """WebVTT: the speaker as the cue's voice, the emotion behind the words."""
    cues = ["WEBVTT\n"]
    for row in rows.iter_rows(named=True):
        said = " ".join(part for part in (line(row["text"]), f"({line(row['emotion'])})") if part)
        voice, shown = (html.escape(part, quote=False) for part in (line(row["speaker"]), said))
        cues.append(f"{clock(row['start'], '.')} --> {clock(row['end'], '.')}\n<v {voice}>{shown}</v>\n")
    return "\n".join(cues)
