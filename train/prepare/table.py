"""Any table of labelled utterances: text, Excel or Parquet, as `annotate run` writes or as you make it.

Columns are told apart by name (``columns.py``) or as the user says. Needed are the speaker and the label;
with recordings, which one and from when to when (or one recording an utterance); without, the text and the
dialogue. All faults of the table are told at once.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from annotator.records import SENTIMENT_COLUMNS, UsageError
from train.prepare.checks import (
    check_labels,
    check_overlaps,
    check_splits,
    check_times,
    find_recordings,
    need_columns,
    set_dialogues,
)
from train.prepare.columns import described, match_columns
from train.prepare.faults import Faults
from train.prepare.rows import Cells, Row, misfit, read_cells
from train.prepare.sheets import without_missing
from train.prepare.source import Source, in_order, read_rows
from train.prepare.splits import By, made_splits, person

log = logging.getLogger("annotator")

TEXT = (".csv", ".tsv", ".txt")  # files in which a formula's cell may begin with an apostrophe


def read(path: Path, **options: Any) -> Source:
    """Read a table. Options and errors are those of :func:`from_cells`."""
    return from_cells(read_rows(path, ()), path, **options)


def from_cells(
    cells: pl.DataFrame,
    path: Path,
    *,
    source: str = "table",
    media: Path | None = None,
    columns: Mapping[str, str] | None = None,
    labels: Sequence[str] | None = None,
    split_by: By | None = None,
    shared_speakers: bool = False,
    skip_faulty: bool = False,
    seed: int = 0,
) -> Source:
    """The utterances of a table's rows.

    Args:
        cells: the rows, every cell as text.
        path: what the table is called in messages.
        source: its kind, for the provenance.
        media: the folder of the recordings that it names.
        columns: meaning (a key of ``columns.NAMES``) -> column, where the name doesn't tell.
        labels: the emotions in order; by default those of the ``p_<label>`` columns, else all that
            occur, in alphabetical order.
        split_by: what made splits keep apart; people if they can be, by default.
        shared_speakers: the table's own splits may share speakers.
        skip_faulty: leave out rows with a fault, which ``Source.unused`` then lists.
        seed: of the splits where the table has none (8 : 1 : 1).

    Raises:
        UsageError: all that is wrong with the table; or there are too few dialogues to split.
    """
    cells, missing = without_missing(cells)
    named_columns = dict(columns or {})
    matches, wrong, dropped = match_columns(
        cells.columns, named_columns, lambda meaning, column: misfit(meaning, cells[column].to_list())
    )
    dropped += _numbered_twice(cells, matches, named_columns)
    for line in [*described(matches, named_columns, cells.columns), *dropped]:
        log.info("%s", line)
    if missing:
        log.info("%d cells say NA, NaN, null or the like: they are taken as empty", missing)
    faults = Faults(path)
    for fault in wrong:
        faults.add(fault)
    whole = media is not None and not {"start", "end"} & {
        *matches,
        *(m for m, c in named_columns.items() if c),
    }
    need_columns(matches, named_columns, media is not None, whole, faults)
    values: dict[str, Cells] = {meaning: cells[column].to_list() for meaning, column in matches.items()}
    if labels is None:
        probability_labels = [
            n[2:] for n in cells.columns if n.startswith("p_") and n not in SENTIMENT_COLUMNS.values()
        ]
        labels = probability_labels or None
    rows = read_cells(values, cells.height, labels, path.suffix.lower() in TEXT, faults)
    check_labels(rows, labels, "label" in matches, faults)
    check_times(rows, "start" in matches or "end" in matches, media is not None and not whole, faults)
    recordings = find_recordings(rows, media, whole, faults) if media is not None else None
    check_overlaps(rows, faults)
    set_dialogues(rows, whole, faults)
    if "split" in matches:
        check_splits(rows, shared_speakers, faults)
    if not skip_faulty or faults.whole:
        faults.raise_if_any(
            "Correct the table. --skip-faulty leaves out faulty rows instead and lists them; "
            "--column MEANING=NAME names a column."
        )
    kept = [row for row in rows if row.number not in faults.faulty]
    names = list(labels or sorted({row.label for row in kept if row.label is not None}))
    if len(names) < 2:
        raise UsageError(
            f"{path} has the emotion {', '.join(names) or 'of no row'} only; training needs two or more."
        )
    how = _make_splits(kept, path, seed, split_by) if "split" not in matches else None
    unused = faults.table()
    return Source(
        table=_table(kept),
        labels=tuple(names),
        provenance={
            "source": source,
            "files": [path.name],
            "seed": seed,
            "columns": matches,
            **({"splits": how} if how else {}),
            **({"left_out": unused.height} if unused.height else {}),
        },
        recordings=recordings,
        unused=unused if unused.height else None,
    )


def check_meanings(named_columns: Mapping[str, str]) -> None:
    """Raises: UsageError for a meaning that there isn't."""
    match_columns((), {meaning: "" for meaning in named_columns})


def _numbered_twice(
    cells: pl.DataFrame, matches: dict[str, str], named_columns: Mapping[str, str]
) -> list[str]:
    """Drops a guessed column of utterances' numbers that come twice in a dialogue, and says so."""
    if "utterance" not in matches or "utterance" in named_columns:
        return []
    within = [matches[m] for m in ("recording", "dialogue", "utterance") if m in matches]
    filled = cells.select(within).drop_nulls(matches["utterance"])
    if not filled.is_duplicated().any():
        return []
    column = matches.pop("utterance")
    return [
        f"column {column!r} is not the utterance: numbers come twice (--column utterance={column} if it is)"
    ]


def _make_splits(rows: Sequence[Row], path: Path, seed: int, by: By | None) -> str:
    dialogues = [row.dialogue or "" for row in rows]
    people = [person(row.speaker, row.place) for row in rows]
    drawn_splits = made_splits(dialogues, people, [row.label for row in rows], seed, by)
    if drawn_splits is None:
        groups = "groups of people that never meet" if by == "speaker" else "dialogues"
        raise UsageError(
            f"{path} has {len(set(dialogues))} dialogues and no split column: too few {groups} to set some "
            "apart. Add a split column (train, validation, test), or more dialogues."
        )
    splits, apart = drawn_splits
    for row, split in zip(rows, splits, strict=True):
        row.split = split
    kept_apart = "person" if apart == "speaker" else "dialogue"
    how = f"made, 8 : 1 : 1 by utterances, no {kept_apart} in two, seed {seed}"
    if apart == "dialogue" and by is None:
        how += "; the same people are in several, so figures are of known voices"
    log.info("splits: %s", how)
    return how


def _table(rows: Sequence[Row]) -> pl.DataFrame:
    """The rows as a corpus has them: dialogues together, utterances in order."""
    numbers: dict[str, int] = {}
    for row in sorted(rows, key=lambda row: (row.start is None, row.start or 0.0, row.number)):
        dialogue = row.dialogue or ""
        place = numbers[dialogue] = numbers.get(dialogue, -1) + 1
        if row.utterance is None:
            row.utterance = place
    table = pl.DataFrame(
        {
            "split": [row.split for row in rows],
            "dialogue_id": [row.dialogue for row in rows],
            "utterance_id": [row.utterance for row in rows],
            "speaker": [row.speaker for row in rows],
            "start": pl.Series([row.start for row in rows], dtype=pl.Float64),
            "end": pl.Series([row.end for row in rows], dtype=pl.Float64),
            "text": pl.Series([row.text for row in rows], dtype=pl.String),
            "emotion": pl.Series([row.label for row in rows], dtype=pl.String),
            "sentiment": pl.Series([row.sentiment for row in rows], dtype=pl.String),
            "recording": pl.Series([row.recording for row in rows], dtype=pl.String),
            "source_row": [row.number for row in rows],
        }
    )
    return in_order(table)
