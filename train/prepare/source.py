"""What every source gives, and how its files are read: rows as strings, faults as sentences."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from annotator.records import Features, Media, UsageError
from train.prepare.sheets import EXCEL, read_sheet

# A Windows-1252 byte that was decoded as Latin-1 leaves a control character where a quote,
# a dash or an ellipsis was meant. The five bytes that Windows-1252 doesn't define stay.
REPAIRS = {
    byte: bytes([byte]).decode("cp1252")
    for byte in range(0x80, 0xA0)
    if byte not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)
}


@dataclass(frozen=True)
class Recordings:
    """The recordings that utterances lie in: those that the table's column ``recording`` names."""

    paths: Mapping[str, Path]  # by that name
    whole: bool  # an utterance is all of its recording; else from ``start`` to ``end``
    probed: Mapping[str, Media] = field(default_factory=dict)  # those that have been looked into


@dataclass(frozen=True)
class Source:
    """Labelled utterances of a source, with the features that it brings itself."""

    table: pl.DataFrame  # as corpus.write_corpus takes it
    labels: tuple[str, ...]
    provenance: dict[str, Any]
    speakers: tuple[str, ...] | None = None
    features: Mapping[str, Features] = field(default_factory=dict)
    encoders: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    recordings: Recordings | None = None
    unused: pl.DataFrame | None = None  # row, reason: rows that were left out


def repair(text: str) -> str:
    """Undo Windows-1252 characters that were read as Latin-1.

    >>> repair("You must\\x92ve")
    'You must’ve'
    """
    return text.translate(REPAIRS)


def read_rows(path: Path, columns: Iterable[str], language: str | None = None) -> pl.DataFrame:
    """A table in any of the forms of ``sheets.py`` with every cell as text, empty cells as null.

    Args:
        language: of its texts where it is known, ISO 639-1: it helps to guess an encoding.

    Raises:
        UsageError: the file is missing, unreadable, empty, or lacks one of ``columns``.
    """
    rows = read_sheet(path, language)
    if path.suffix.lower() not in (".parquet", *EXCEL):
        rows = rows.with_columns(
            pl.col(name).map_elements(repair, return_dtype=pl.String)
            for name, kind in rows.schema.items()
            if kind == pl.String and rows[name].str.contains("[\x80-\x9f]").any()
        )
    missing = [name for name in columns if name not in rows.columns]
    if missing:
        raise UsageError(f"{path} has no column {', '.join(missing)}; it has {', '.join(rows.columns)}.")
    if not rows.height:
        raise UsageError(f"{path} has a header and no rows: that would make an empty split.")
    return rows


def chosen(values: pl.Series, allowed: Mapping[str, str], path: Path) -> list[str | None]:
    """Map the labels of a column to ours; letter case and spaces around don't matter, empty is None.

    Raises:
        UsageError: an unknown label, with its row.
    """
    names: list[str | None] = []
    for row, value in enumerate(values, start=1):
        key = (value or "").strip().lower()
        if key and key not in allowed:
            raise UsageError(
                f"{path}, row {row} after the header: {values.name} is {value!r}; known are "
                f"{', '.join(allowed)}. Correct it, or leave it empty if it isn't known."
            )
        names.append(allowed[key] if key else None)
    return names


def filled(values: pl.Series, path: Path) -> pl.Series:
    """A column of text without spaces around.

    Raises:
        UsageError: an empty cell, with its row.
    """
    clean = values.str.strip_chars()
    empty = clean.is_null() | (clean == "")
    if empty.any():
        row = (empty.arg_max() or 0) + 1
        raise UsageError(f"{path}, row {row} after the header: {values.name} is empty. Fill it in.")
    return clean


def split_of(
    rows: pl.DataFrame,
    path: Path,
    split: str,
    names: Mapping[str, str],
    emotion: list[str | None],
    sentiment: list[str | None],
) -> pl.DataFrame:
    """The corpus rows of one split's file; ``names`` maps our columns to the file's.

    Needed are ``dialogue_id``, ``utterance_id`` (whole numbers, anew in each file), ``speaker`` and ``text``;
    ``start``, ``end``, ``season`` and ``episode`` are taken where the file has them.

    Raises:
        UsageError: a faulty cell, with its row.
    """
    numbers = whole_numbers(rows[names["dialogue_id"]], path)

    def optional(name: str) -> list[str | None]:
        column = names.get(name, "")
        return rows[column].to_list() if column in rows.columns else [None] * rows.height

    table = pl.DataFrame(
        {
            "split": [split] * rows.height,
            "dialogue_id": [f"{split}-{number}" for number in numbers],
            "utterance_id": whole_numbers(rows[names["utterance_id"]], path),
            "speaker": filled(rows[names["speaker"]], path),
            "start": pl.Series([seconds(time) for time in optional("start")], dtype=pl.Float64),
            "end": pl.Series([seconds(time) for time in optional("end")], dtype=pl.Float64),
            "text": rows[names["text"]].str.strip_chars(),
            "emotion": pl.Series(emotion, dtype=pl.String),
            "sentiment": pl.Series(sentiment, dtype=pl.String),
            "source_dialogue_id": numbers,
            "season": pl.Series(optional("season"), dtype=pl.String).cast(pl.Int32, strict=False),
            "episode": pl.Series(optional("episode"), dtype=pl.String).cast(pl.Int32, strict=False),
        }
    )
    return in_order(table)


def whole_numbers(values: pl.Series, path: Path) -> list[int]:
    """A column of whole numbers.

    Raises:
        UsageError: a cell that is none, with its row.
    """
    numbers = []
    for row, value in enumerate(values, start=1):
        try:
            numbers.append(int(value))
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"{path}, row {row} after the header: {values.name} is {value!r}; it must be a whole number."
            ) from error
    return numbers


def seconds(clock: str | None) -> float | None:
    """Seconds of ``hh:mm:ss,mmm``, ``hh:mm:ss.mmm`` or a plain number; None where it is neither.

    >>> seconds("00:16:16,059")
    976.059
    """
    if clock is None:
        return None
    parts = re.fullmatch(r"(?:(\d+):)?(?:(\d+):)?(\d+(?:[.,]\d+)?)", clock.strip())
    if parts is None:
        return None
    first, second, rest = parts.groups()
    hours, minutes = (first, second) if second is not None else (0, first or 0)
    return round(int(hours) * 3600 + int(minutes) * 60 + float(rest.replace(",", ".")), 3)


def in_order(table: pl.DataFrame) -> pl.DataFrame:
    """Rows of a dialogue together, in the order of their utterances, numbered from 0.

    Dialogues keep the order in which they first appear. The source's own number stays as
    ``source_utterance_id`` (MELD's numbers have gaps).

    Raises:
        UsageError: two utterances of a dialogue have the same number.
    """
    twice = table.select(pl.struct("dialogue_id", "utterance_id").is_duplicated()).to_series()
    if twice.any():
        row = table.row(twice.arg_max() or 0, named=True)
        raise UsageError(
            f"The dialogue {row['dialogue_id']!r} has utterance {row['utterance_id']} twice. "
            "Give each utterance of a dialogue its own number."
        )
    order = table["dialogue_id"].unique(maintain_order=True)
    place = dict(zip(order, range(len(order)), strict=True))
    return (
        table.with_columns(pl.col("dialogue_id").replace_strict(place).alias("_place"))
        .sort("_place", "utterance_id")
        .with_columns(
            pl.col("utterance_id").alias("source_utterance_id"),
            pl.int_range(pl.len()).over("_place").cast(pl.Int32).alias("utterance_id"),
        )
        .drop("_place")
    )
