"""CHAT transcripts for CLAN (MacWhinney, The CHILDES Project: CHAT manual)."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

import polars as pl

from annotator.export.tiers import speakers

# Signs that mean something to CLAN: they would change what is said.
_SIGNS = re.compile(r"[\x00-\x1f\x7f\[\]<>&+^@*%#\"“”„‡↑↓()]|(?<!\S)0")
_PICTURES = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".mpg", ".mpeg", ".m4v", ".wmv", ".flv", ".mxf", ".ts")


def chat(rows: pl.DataFrame, file: str, duration_s: float | None) -> str:
    """A main line with times for each utterance, below it its emotion (``%xemo``) and sentiment (``%xsent``).

    What is not transcribed is ``xxx``. Speakers get codes, and their names stand in the head; the language is
    not known here (``und``).
    """
    codes = {name: f"S{number:02d}" for number, name in enumerate(speakers(rows), 1)}
    people = ", ".join(f"{code} {_name(name)} Participant" for name, code in codes.items())
    ending = PurePosixPath(file).suffix.lower()
    # CLAN parts what follows the name at a comma.
    media = re.sub(
        r'[,"\x00-\x1f]', "_", PurePosixPath(file).name if "." not in file else PurePosixPath(file).stem
    )
    lines = ["@UTF8", "@Begin", "@Languages:\tund", f"@Participants:\t{people}"]
    lines += [f"@ID:\tund|annotated|{code}|||||Participant|||" for code in codes.values()]
    lines += [f"@Media:\t{media}, {'video' if ending in _PICTURES else 'audio'}"]
    for row in rows.iter_rows(named=True):
        first, last = (round(row[end] * 1000) for end in ("start", "end"))
        lines.append(f"*{codes[row['speaker']]}:\t{_spoken(row['text'])} \x15{first}_{last}\x15")
        lines += [f"%xemo:\t{_plain(row['emotion'])}", f"%xsent:\t{_plain(row['sentiment'])}"]
    return "\n".join([*lines, "@End"]) + "\n"


def _name(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_") or "Unknown"


def _plain(label: str) -> str:
    return " ".join(_SIGNS.sub(" ", label).split())


def _spoken(text: str | None) -> str:
    """Words as CHAT has them: one line that ends with a mark of its own, set off by a space."""
    plain = " ".join(_SIGNS.sub(" ", text or "").split())
    if not re.search(r"\w", plain):
        return "xxx ."
    match = re.fullmatch(r"(.*?)\s*([.?!])[.?!…]*", plain)
    words, mark = (match[1], match[2]) if match else (plain, ".")
    # Within a line these would end it.
    return f"{re.sub(r'[.?!]+(?= |$)', ' ,', words).strip(' ,')} {mark}"
