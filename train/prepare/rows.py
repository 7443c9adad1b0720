"""The rows of a table as they are read, cell by cell; what a cell can't mean is noted as a fault."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from annotator.labels import sentiment_of
from annotator.records import SENTIMENTS, UsageError
from annotator.spreadsheet import unescaped_text
from train.corpus import split_name
from train.prepare.columns import NAMES
from train.prepare.faults import Faults
from train.prepare.source import seconds

Cells = list[str | None]


@dataclass
class Row:
    """An utterance in the making; ``number`` is its row from 1."""

    number: int
    speaker: str
    label: str | None
    text: str | None
    sentiment: str | None
    recording: str | None = None  # as the folder names it, or without a folder as the table does
    recording_cell: str | None = None  # with the spaces around, which may be of a file's name
    dialogue: str | None = None
    utterance: int | None = None
    start: float | None = None
    end: float | None = None
    split: str | None = None

    @property
    def place(self) -> str:
        """Where times are counted: the recording, else the dialogue."""
        return self.recording or self.dialogue or ""


def read_cells(
    values: Mapping[str, Cells], height: int, labels: Sequence[str] | None, is_csv: bool, faults: Faults
) -> list[Row]:
    """The rows with what can be read of each cell; faults are noted."""
    empty: Cells = [None] * height

    def column(meaning: str) -> Cells:
        return [_plain(cell, is_csv) for cell in values.get(meaning, empty)]

    spelled = _spellings(column("label"), labels)
    sentiments = {name: name for name in SENTIMENTS}
    rows = []
    columns = {meaning: column(meaning) for meaning in NAMES}
    whole_names = values.get("recording", empty)
    for number in range(1, height + 1):
        cell = {meaning: cells[number - 1] for meaning, cells in columns.items()}
        if not any(cell.values()):
            continue  # spreadsheets part dialogues by empty rows
        speaker, label, text, sentiment = (cell[m] for m in ("speaker", "label", "text", "sentiment"))
        if speaker is None and "speaker" in values:
            faults.add("the speaker is empty", [number])
        if label is not None and label.lower() not in spelled:
            faults.add(f"the label {label!r} is none of {', '.join(labels or ())}", [number])
        if sentiment is not None and sentiment.lower() not in sentiments:
            faults.add(f"the sentiment {sentiment!r} is none of {', '.join(SENTIMENTS)}", [number])
        emotion = spelled.get(label.lower()) if label is not None else None
        row = Row(
            number=number,
            speaker=_id(speaker) or "",
            label=emotion,
            text=text,
            # By its name where there is no column for it; a column's empty cell is not known.
            sentiment=sentiments.get((sentiment or "").lower())
            if "sentiment" in values
            else sentiment_of(emotion or ""),
            recording=cell["recording"],
            recording_cell=cell["recording"] and _unescaped(whole_names[number - 1], is_csv),
            dialogue=_id(cell["dialogue"]),
            utterance=_whole_number(cell["utterance"], number, "utterance" in values, faults),
            start=_time(cell["start"], "start", number, faults),
            end=_time(cell["end"], "end", number, faults),
            split=_split(cell["split"], number, "split" in values, faults),
        )
        rows.append(row)
    return rows


def _plain(cell: str | None, is_csv: bool) -> str | None:
    """What a cell says: without spaces around, and without apostrophes before a formula; None if nothing."""
    return _unescaped((cell or "").strip(), is_csv) or None


def _unescaped(cell: str | None, is_csv: bool) -> str | None:
    return unescaped_text(cell) if cell and is_csv and "'" in cell else cell


def _spellings(cells: Cells, labels: Sequence[str] | None) -> dict[str, str]:
    """Lower-case label -> label; of several spellings the most frequent."""
    if labels is not None:
        return {label.lower(): label for label in labels}
    counts = Counter(label for label in cells if label is not None)
    spelling_by_lower: dict[str, str] = {}
    for label, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        spelling_by_lower.setdefault(label.lower(), label)
    return spelling_by_lower


def _whole_number(cell: str | None, number: int, has_column: bool, faults: Faults) -> int | None:
    if cell is None:
        if has_column:
            faults.add("the utterance's number is empty", [number])
        return None
    whole = _as_whole(cell)
    if whole is None:
        faults.add(f"the utterance's number {cell!r} is no whole number", [number])
    return whole


def _as_whole(cell: str) -> int | None:
    """A whole number, also as programs write it that know no others than ``1.0``."""
    match = re.fullmatch(r"([+-]?\d+)(?:[.,]0*)?", cell, re.ASCII)
    return int(match[1]) if match else None


def _id(cell: str | None) -> str | None:
    """A name; a number is the same as 1 and as 1.0."""
    return re.sub(r"^(\d+)\.0$", r"\1", cell) if cell is not None else None


def misfit(meaning: str, cells: Cells) -> str | None:
    """Why a column that is called like a meaning can't have it: a cell like most. None where it can."""
    filled = [cell.strip() for cell in cells if cell is not None and cell.strip()]
    if meaning in ("split", "utterance") and len(filled) < len(cells) / 2:
        return "mostly empty cells"
    odd = [cell for cell in filled if not _fits(meaning, cell)]
    return repr(odd[0]) if 2 * len(odd) > len(filled) else None


def _fits(meaning: str, cell: str) -> bool:
    if meaning == "sentiment":
        return cell.lower() in SENTIMENTS
    if meaning == "utterance":
        return _as_whole(cell) is not None
    if meaning == "split":
        return _split(cell, 0, True, Faults(Path())) is not None
    if meaning in ("start", "end"):
        return _time(cell, meaning, 0, Faults(Path())) is not None
    return True


def _time(cell: str | None, name: str, number: int, faults: Faults) -> float | None:
    if cell is None:
        return None
    time_s = seconds(cell.removeprefix("-"))
    if time_s is None:
        # What a program wrote may have an exponent.
        try:
            time_s = float(cell.replace(",", "."))
        except ValueError:
            time_s = float("nan")
        if time_s != time_s or time_s in (float("inf"), float("-inf")):
            faults.add(f"the {name} {cell!r} is no time in seconds or hh:mm:ss", [number])
            return None
        return time_s
    try:
        return float(cell)  # exactly, where it is a plain number
    except ValueError:
        return -time_s if cell.startswith("-") else time_s


def _split(cell: str | None, number: int, has_column: bool, faults: Faults) -> str | None:
    if cell is None:
        if has_column:
            faults.add("the split is empty", [number])
        return None
    try:
        return split_name(cell)
    except UsageError as error:
        faults.add(str(error).rstrip("."), [number])
        return None
